/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * HPlacement: what a process may say of its memory, by prctl(2)
 */
#ifndef _UAPI_LINUX_TIERING_RANGE_H
#define _UAPI_LINUX_TIERING_RANGE_H

/*
 * prctl(PR_SET_HPLACEMENT, how, 0, 0, 0): with PR_HPLACEMENT_LEAVE, HPlacement
 * neither looks at nor moves memory of the calling process, all of its threads
 * and whoever else shares its address space. What it has moved stays where it is.
 * With PR_HPLACEMENT_MANAGE, which is the default, it does. Needs no privilege.
 *
 * fork(2) and execve(2) keep the choice: so a launcher can make it for a program
 * that knows nothing of it.
 *
 * Returns 0, or -1 with errno EINVAL if @how is neither, a further argument is not
 * 0, or the kernel was built without HPlacement.
 */
#define PR_SET_HPLACEMENT	0x48504c00

/* prctl(PR_GET_HPLACEMENT, 0, 0, 0, 0): returns what was set. */
#define PR_GET_HPLACEMENT	0x48504c01

#define PR_HPLACEMENT_MANAGE	0
#define PR_HPLACEMENT_LEAVE	1

#endif /* _UAPI_LINUX_TIERING_RANGE_H */
