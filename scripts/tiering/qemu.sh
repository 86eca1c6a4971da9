#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# qemu.sh: builds QEMU in build/qemu from build/qemu-src.

. "$(dirname "$0")/lib.sh"

out=$build/qemu
# Full system emulation of x86-64 and no more. Firmware comes from Debian's
# seabios and qemu-system-data: -L /usr/share/seabios -L /usr/share/qemu.
options=(
	--python=/usr/bin/python3 --target-list=x86_64-softmmu --without-default-features
	--enable-tcg --enable-kvm --enable-plugins --enable-slirp --enable-fdt=system
	--enable-virtfs --enable-attr --enable-cap-ng
	--disable-werror --disable-docs --disable-tools --disable-guest-agent
	--disable-install-blobs --disable-download
)
compiler=${LLVM:+clang}
# meson would find ccache by itself, but QEMU's configure names a compiler.
options+=("--cc=$(command -v ccache >/dev/null && echo "ccache ")${compiler:-cc}")

"$top/scripts/tiering/setup.sh" qemu
"$top/scripts/tiering/tree.sh" qemu
lock build-qemu
mkdir -p "$out"

configure()
{
	cd "$out" && nice -n 5 "$build/qemu-src/configure" "${options[@]}"
}

if [ "${options[*]}" != "$(cat "$out/options" 2>/dev/null)" ] || [ ! -e "$out/build.ninja" ]; then
	need_disk
	rm -rf "$out"
	mkdir -p "$out"
	run "Configuring QEMU" qemu-configure.log configure
	say "${options[*]}" >"$out/options"
fi
# Not the tests of all else.
run "Building QEMU" qemu-build.log nice -n 5 ninja -C "$out" -j "$jobs" \
	qemu-system-x86_64 tests/qtest/virtio-hballoon-test tests/qtest/tcg-pmu-test \
	tests/unit/test-hballoon-pages
"$out/qemu-system-x86_64" --version | head -n 1
