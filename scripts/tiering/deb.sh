#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# deb.sh: the kernel as Debian packages in build/deb. CONFIG=FILE takes a
# distribution's configuration instead of the small guest's.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/tree-lib.sh"

config=${CONFIG:-$build/kernel/.config}
if [ -n "${CONFIG:-}" ]; then
	[ -r "$config" ] || die "CONFIG=$config: no such file, or not readable"
	config=$(realpath "$config")
fi
"$top/scripts/tiering/setup.sh" linux kernel deb
if [ -z "${CONFIG:-}" ]; then
	"$top/scripts/tiering/kernel.sh"
fi
"$top/scripts/tiering/tree.sh" linux
need_disk
use_tree linux
lock build-deb
out=$build/deb/out
src=$build/deb/src
mkdir -p "$out" "$src"
toolchain

# The headers package copies files out of the source: they must be real ones.
copy_source()
{
	rsync -a --delete --exclude=/.pc --exclude=/patches --exclude-from="$git_dir/info/exclude" "$tree/" "$src/" &&
		rsync -aL --files-from="$mem/overlay" "$tree/" "$src/"
}

kmake() { nice -n 5 make -C "$src" O="$out" LOCALVERSION= "${tools[@]}" "$@"; }

packages()
{
	cp "$config" "$out/.config" || return
	if [ -n "${CONFIG:-}" ]; then
		# A distribution's signing keys are not ours to use.
		"$src/scripts/config" --file "$out/.config" --enable HPLACEMENT \
			--set-str SYSTEM_TRUSTED_KEYS "" --set-str SYSTEM_REVOCATION_KEYS "" || return
	fi
	kmake olddefconfig || return
	grep -qx CONFIG_HPLACEMENT=y "$out/.config" ||
		{ say "error: $config lacks what CONFIG_HPLACEMENT depends on"; return 1; }
	rm -f "$build"/deb/*.{deb,buildinfo,changes}
	kmake -j "$jobs" bindeb-pkg
}

run "Copying the source" deb-source.log copy_source
run "Building the packages" deb.log packages
ls -s -h "$build"/deb/*.deb
