#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# builds.sh: both kernels and QEMU, side by side: what runs on one processor in
# the one, as the link of a kernel does, leaves the other to the other.

. "$(dirname "$0")/lib.sh"

"$top/scripts/tiering/setup.sh" linux qemu-src kernel qemu
"$top/scripts/tiering/tree.sh" linux
"$top/scripts/tiering/tree.sh" qemu

kernels() { "$top/scripts/tiering/kernel.sh" && "$top/scripts/tiering/kernel.sh" debug; }

# Through cat: two clocks would not share a terminal's line.
kernels 2>&1 | cat &
kernels_pid=$!
rc=0
"$top/scripts/tiering/qemu.sh" 2>&1 | cat || rc=1
wait $kernels_pid || rc=1
exit $rc
