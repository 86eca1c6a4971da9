#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# setup.sh [WHAT]...: installs the Debian packages that WHAT (default: all)
# needs and that are missing. Says nothing when none is.

. "$(dirname "$0")/lib.sh"

# redis-tools has the server's file as well; redis-server would start one here.
declare -A packages=(
	[linux]="$LINUX_PACKAGE xz-utils git patch quilt"
	[qemu-src]="dpkg-dev debian-archive-keyring ca-certificates xz-utils git patch quilt"
	[kernel]="gcc make bc bison flex libelf-dev libssl-dev cpio kmod rsync python3"
	[llvm]="clang lld llvm"
	[qemu]="gcc make ninja-build pkgconf libglib2.0-dev libpixman-1-dev libslirp-dev libfdt-dev
		libattr1-dev libcap-ng-dev python3 python3-venv seabios qemu-system-data"
	[test]="busybox-static cpio numactl libnuma-dev python3-pytest python3-pytest-xdist python3-matplotlib libc6-dev linux-perf
		sqlite3 liblinear-tools redis-tools"
	[check]="perl sparse shellcheck flake8"
	[deb]="debhelper dpkg-dev fakeroot"
)

# QEMU's build wants a meson that Debian 12 has in its backports only.
meson_for_qemu()
{
	local version

	version=$(dpkg-query -W -f '${Version}' meson 2>/dev/null || true)
	if [ -n "$version" ] && dpkg --compare-versions "$version" ge 1.5 &&
			[ -z "$(missing_packages meson python3-pycotap)" ]; then
		return
	fi
	version=$(apt-cache policy meson | sed -n 's/^  Candidate: //p')
	if dpkg --compare-versions "${version:-0}" ge 1.5; then
		need_packages meson python3-pycotap
		return
	fi
	need_root meson python3-pycotap
	private_apt
	run "Installing meson and python3-pycotap from backports" apt-meson.log \
		as_root "${apt_private[@]}" install --no-install-recommends -t bookworm-backports meson python3-pycotap ||
		die "meson >= 1.5 and python3-pycotap could not be installed"
}

[ $# -gt 0 ] || set -- linux qemu-src kernel qemu test check deb
[ -z "${LLVM:-}" ] || set -- "$@" llvm
wanted=
for what; do
	wanted+=" ${packages[$what]:?no such part}"
done
# shellcheck disable=SC2086 # the lists are meant to be split
need_packages $wanted
case " $* " in
*" qemu "*) meson_for_qemu ;;
esac
