#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel.sh [debug]: builds the guest kernel in build/kernel, or the one that
# finds bugs in build/kernel-debug.

. "$(dirname "$0")/lib.sh"

flavour=kernel
fragments=(tiered_guest)
if [ "${1:-}" = debug ]; then
	flavour=kernel-debug
	fragments+=(tiered_debug)
fi
out=$build/$flavour
toolchain

"$top/scripts/tiering/setup.sh" linux kernel
"$top/scripts/tiering/tree.sh" linux
lock "build-$flavour"
mkdir -p "$out"

kmake() { nice -n 5 make -C "$build/linux" O="$out" LOCALVERSION= "${tools[@]}" "$@"; }

# The wanted options, in one file.
wanted()
{
	local f

	for f in "${fragments[@]}"; do
		cat "$top/kernel/configs/$f.config"
	done
	# Type information doubles the time to build: not twice.
	if [ "$flavour" = kernel ] && command -v pahole >/dev/null; then
		say CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y
		say CONFIG_DEBUG_INFO_BTF=y
	fi
}

# Changes when a new configuration is due.
inputs()
{
	say "${tools[*]}"
	"$cc" --version | head -n 1
	wanted
	find "$top"/{arch,drivers,include,kernel,mm,patches/linux} \( -name 'Kconfig*' -o -path '*/patches/linux/*' \) \
		-type f -exec cat {} + 2>/dev/null || true
}

configure()
{
	local lost=()

	# A new file and a comparison: an equal .config must not look new.
	kmake -s KCONFIG_CONFIG=.config.new KCONFIG_ALLCONFIG="$out/wanted.config" allnoconfig || return
	while read -r line; do
		grep -qxF "$line" "$out/.config.new" || lost+=("$line")
	done < <(grep -E '^(CONFIG_|# CONFIG_.* is not set)' "$out/wanted.config")
	if [ ${#lost[@]} -gt 0 ]; then
		say "error: these lines of ${fragments[*]} had no effect (no such option, or its dependencies are not met):"
		printf 'error:     %s\n' "${lost[@]}"
		return 1
	fi
	cmp -s "$out/.config.new" "$out/.config" || cp "$out/.config.new" "$out/.config"
}

if [ "$(inputs)" != "$(cat "$out/inputs" 2>/dev/null)" ] || [ ! -e "$out/.config" ]; then
	need_disk
	# Objects of two compilers are not mixed.
	if [ -e "$out/inputs" ] && [ "$(inputs | sed -n 2p)" != "$(sed -n 2p "$out/inputs")" ]; then
		run "Another compiler: removing $flavour's objects" "$flavour-clean.log" kmake clean
	fi
	wanted >"$out/wanted.config"
	run "Configuring $flavour" "$flavour-config.log" configure
	inputs >"$out/inputs"
fi
run "Building $flavour" "$flavour-build.log" kmake -j "$jobs" bzImage vmlinux
say "$(cat "$out/include/config/kernel.release") in ${out#"$top"/}/arch/x86/boot/bzImage"
