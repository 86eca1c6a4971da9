// SPDX-License-Identifier: GPL-2.0
/*
 * HPlacement: memory control groups that are left alone
 *
 * Each group of cgroup v2 but the root has a file memory.hplacement, 1 by default.
 * 0 has the processes of this group and of all groups below it left alone, as if
 * each of them had opted out by prctl(). That is asked for whenever their memory is
 * about to be looked at or moved, so nobody has to tell when a process changes
 * groups.
 *
 * Documentation/admin-guide/cgroup-v2.rst describes the file.
 */
#include <linux/cgroup.h>
#include <linux/init.h>
#include <linux/memcontrol.h>
#include <linux/rcupdate.h>

#include "tiering_range_internal.h"
#include "tiering_range.h"

/**
 * hpl_memcg_managed - whether groups permit that memory is moved
 * @mm: whose; its owner's group counts, wherever its pages are charged
 *
 * Context: any.
 *
 * Return: false if that group or one above it is to be left alone, or if there is
 * no owner any more.
 */
bool hpl_memcg_managed(const struct mm_struct *mm)
{
	struct mem_cgroup *memcg;
	bool managed;

	if (mem_cgroup_disabled())
		return true;
	rcu_read_lock();
	memcg = mem_cgroup_from_task(rcu_dereference(mm->owner));
	managed = memcg;
	for (; memcg; memcg = parent_mem_cgroup(memcg))
		managed &= !READ_ONCE(memcg->hpl_leave);
	rcu_read_unlock();
	return managed;
}

static u64 hplacement_read(struct cgroup_subsys_state *css, struct cftype *cft)
{
	return !READ_ONCE(mem_cgroup_from_css(css)->hpl_leave);
}

static int hplacement_write(struct cgroup_subsys_state *css, struct cftype *cft,
			    u64 value)
{
	if (value > 1)
		return -EINVAL;
	WRITE_ONCE(mem_cgroup_from_css(css)->hpl_leave, !value);
	return 0;
}

static struct cftype hpl_memcg_files[] = {
	{
		.name = "hplacement",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_u64 = hplacement_read,
		.write_u64 = hplacement_write,
	},
	{}
};

static int __init hpl_memcg_init(void)
{
	return cgroup_add_dfl_cftypes(&memory_cgrp_subsys, hpl_memcg_files);
}
late_initcall(hpl_memcg_init);
