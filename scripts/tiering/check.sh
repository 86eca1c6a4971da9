#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check.sh: what a reviewer's machine would say about our files. Fails on any
# finding.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/tree-lib.sh"

"$top/scripts/tiering/setup.sh" linux kernel check
"$top/scripts/tiering/tree.sh" linux
[ ! -d "$build/qemu-src" ] || "$top/scripts/tiering/tree.sh" qemu
mkdir -p "$build/logs"
failed=0

# verdict LABEL LOG COMMAND...: shows what COMMAND has to say if it fails.
verdict()
{
	local label=$1 log=$build/logs/$2

	shift 2
	if "$@" >"$log" 2>&1; then
		say "ok      $label"
	else
		say "FAILED  $label"
		sed 's/^/    /' "$log"
		failed=1
	fi
}

# kernel_files PATTERN: the overlay's files that match it.
kernel_files() { overlay_files | grep -E "$1" || true; }

# mail PATCH: as git would send it; checkpatch compares the author.
mail() { sed -n 's/^Signed-off-by:/From:/p' "$patches/$1" | tail -n 1; cat "$patches/$1"; }

# The host tests run the code in userspace, where kernel style is no measure.
checkpatch_linux()
{
	local p file rc=0 checkpatch=(perl scripts/checkpatch.pl --strict --quiet --no-summary)

	cd "$tree" || return
	while read -r file; do
		case $file in
		tools/testing/tiering_range/*) ;;
		include/linux/tiering_range.h | include/linux/tiering_stat*.h | mm/tiering_range_sysfs.c)	# tables made by macros, which are pasted on purpose
			"${checkpatch[@]}" --showfile --ignore COMPLEX_MACRO,MACRO_ARG_REUSE,MACRO_ARG_UNUSED --file "$file" || rc=1 ;;
		drivers/virtio/virtio_hballoon_pages.c)	# __SetPageOffline() is the kernel's name
			"${checkpatch[@]}" --showfile --ignore CAMELCASE --file "$file" || rc=1 ;;
		include/trace/events/*)	# TRACE_EVENT() has a form of its own
			"${checkpatch[@]}" --showfile --ignore OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT --file "$file" || rc=1 ;;
		tools/testing/selftests/*)	# programs: BIT() and READ_ONCE() are not theirs
			perl scripts/checkpatch.pl --quiet --no-summary --showfile \
				--ignore VOLATILE,EMBEDDED_FUNCTION_NAME --file "$file" || rc=1 ;;
		*)
			"${checkpatch[@]}" --showfile --file "$file" || rc=1 ;;
		esac
	done < <(kernel_files '(\.[chS]|Kconfig[^/]*|\.rst|Makefile)$')
	while read -r p; do
		# `source "mm/Kconfig.x"` in mm/Kconfig has the name of its file in it.
		mail "$p" | "${checkpatch[@]}" --ignore EMBEDDED_FILENAME - || { say "    in $p"; rc=1; }
	done < <(series)
	return $rc
}

# Objects of our own, in a directory of their own: W=1 is not for the guest's.
compile_linux()
{
	local out=$build/check objects config=$top/kernel/configs/tiered_guest.config

	# These tests are in a directory without a Makefile, where make builds nothing.
	mapfile -t objects < <(kernel_files '^(arch|drivers|kernel|mm)/.*\.c$' | grep -v ^drivers/virtio/tests/ | sed 's/c$/o/')
	[ ${#objects[@]} -gt 0 ] || return 0
	mkdir -p "$out"
	(cd "$out" && rm -f "${objects[@]}")
	nice make -s -C "$build/linux" O="$out" LOCALVERSION= KCONFIG_ALLCONFIG="$config" allnoconfig || return
	nice make -s -C "$build/linux" O="$out" LOCALVERSION= -j "$jobs" prepare >/dev/null || return
	# Contexts aside: sparse cannot follow locks that are taken on one branch, as
	# pte_offset_map_lock() and find_lock_task_mm() do. Lockdep does it at run time.
	nice make -s -C "$build/linux" O="$out" LOCALVERSION= W=1 C=2 CHECK="sparse -Wno-context" "${objects[@]}" >"$out/log" 2>&1 ||
		{ cat "$out/log"; return 1; }
	(cd "$out" && ls "${objects[@]}" >/dev/null) || return
	! grep -E -A4 '(warning|error):' "$out/log"
}

kernel_doc()
{
	local files

	mapfile -t files < <(kernel_files '^(arch|drivers|include|kernel|mm)/.*\.[ch]$')
	[ ${#files[@]} -eq 0 ] || (cd "$tree" && perl scripts/kernel-doc -none -Werror -Wall "${files[@]}")
}

checkpatch_qemu()
{
	local files p rc=0

	mapfile -t files < <(kernel_files '\.(c|h|inc)$')
	cd "$tree" || return
	[ ${#files[@]} -eq 0 ] || perl scripts/checkpatch.pl --quiet --no-summary --file "${files[@]}" || rc=1
	while read -r p; do
		perl scripts/checkpatch.pl --quiet --no-summary --patch "$patches/$p" || { say "    in $p"; rc=1; }
	done < <(series)
	return $rc
}

# Shell and Python, wherever they lie in the repository.
scripts_of()
{
	find . \( -path ./build -o -path ./.git \) -prune -o -type f -exec awk -v "of=^#!.*[/ ]($1)( |\$)" \
		'$0 ~ of { print FILENAME } { nextfile }' {} + | sort
}

shell_scripts() { cd "$top" && scripts_of 'sh|bash' | xargs -r shellcheck -x -P SCRIPTDIR; }

python_programs()
{
	cd "$top" || return
	find bench scripts tools qemu -name '*.py' -print0 | xargs -0 -r /usr/bin/python3 -m flake8 --max-line-length 120
}

use_tree linux
verdict "checkpatch --strict" check-checkpatch.log checkpatch_linux
verdict "sparse and W=1" check-compile.log compile_linux
verdict "kernel-doc" check-kernel-doc.log kernel_doc
if [ -d "$build/qemu-src" ]; then
	use_tree qemu
	verdict "QEMU's checkpatch" check-qemu.log checkpatch_qemu
fi
verdict "shellcheck" check-shell.log shell_scripts
verdict "flake8" check-python.log python_programs
[ $failed -eq 0 ]
