#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# clean.sh: removes build/, unless edits would be lost with it.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/tree-lib.sh"

for t in linux qemu; do
	use_tree "$t"
	[ ! -e "$mem/source" ] || refuse_edits
done
rm -rf "$build"
