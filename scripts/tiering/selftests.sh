#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# selftests.sh: builds our kselftests, by the kernel's own rules, for the guest:
# static programs in build/selftests/tiering_range.

. "$(dirname "$0")/lib.sh"

out=$build/selftests
target=tools/testing/selftests/tiering_range

if [ ! -d "$top/$target" ]; then
	say "$target does not exist: no selftests to build"
	exit
fi
"$top/scripts/tiering/setup.sh" linux kernel test
"$top/scripts/tiering/tree.sh" linux
lock selftests
mkdir -p "$out/headers" "$out/tiering_range"

headers() { nice -n 5 make -C "$build/linux" O="$out/headers" -j "$jobs" headers; }

programs()
{
	local f

	# Whoever runs them runs all that there are: no old ones, then.
	for f in "$out/tiering_range"/*; do
		[ -e "$top/$target/${f##*/}.c" ] || rm -f "$f"
	done
	nice -n 5 make -C "$build/linux/$target" OUTPUT="$out/tiering_range" LDFLAGS=-static \
		KHDR_INCLUDES="-isystem $out/headers/usr/include" all
}

[ -e "$out/headers/usr/include/linux/types.h" ] || run "Exporting the kernel's headers" selftests-headers.log headers
run "Building the selftests" selftests.log programs
