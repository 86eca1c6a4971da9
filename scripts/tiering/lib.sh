# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # used by those who source this
#
# What the scripts of this directory share. Source it first.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$top/build
state=$build/state		# what the scripts remember between runs
jobs=${JOBS:-$(nproc)}
# shellcheck source=upstream.mk
. "$top/upstream.mk"

export LC_ALL=C
# The outer make's flags and job server are not for the builds below.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

say() { printf '%s\n' "$*"; }

die()
{
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# lock NAME: until this process ends, no other one works on NAME. Once or more.
declare -A locked
lock()
{
	[ -z "${locked[$1]:-}" ] || return 0
	locked[$1]=1
	mkdir -p "$state"
	exec {lock_fd}>"$state/$1.lock"
	flock -n "$lock_fd" && return
	say "waiting: another make works on $1"
	flock "$lock_fd"
}

# need_disk: before anything large is written.
need_disk()
{
	local free

	mkdir -p "$build"
	free=$(df --output=avail -BG "$build" | tail -n 1 | tr -dc 0-9)
	[ "$free" -ge 10 ] ||
		die "only $free GiB free in $build; 10 GiB are needed"
}

stop_ticker()
{
	[ -n "${ticker:-}" ] || return 0
	kill "$ticker" 2>/dev/null || true
	wait "$ticker" 2>/dev/null || true
	ticker=
}
trap stop_ticker EXIT

# run LABEL LOG COMMAND...: runs COMMAND with its output in build/logs/LOG and
# shows one line with the time that has passed. Fails as COMMAND does, after
# the end of the log. Within COMMAND, if it is a function, set -e has no effect.
run()
{
	local label=$1 log=$build/logs/$2 start=$SECONDS rc=0

	shift 2
	mkdir -p "$build/logs"
	if [ -t 1 ]; then
		while printf '\r%s %d:%02d' "$label" $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)); do
			sleep 1
		done &
		ticker=$!
	else
		say "$label (log: ${log#"$top"/})"
	fi
	"$@" >"$log" 2>&1 </dev/null || rc=$?
	stop_ticker
	[ -t 1 ] && printf '\r'
	if [ $rc -ne 0 ]; then
		printf '%s: failed after %d s\n' "$label" $((SECONDS - start)) >&2
		{ grep -E '(error|Error|E|fatal): |\*\*\*|undefined reference' "$log" || tail -n 15 "$log"; } | head -n 30 >&2
		printf 'The whole log: %s\n' "$log" >&2
		return $rc
	fi
	printf '%s: done in %d s\n' "$label" $((SECONDS - start))
}

# toolchain: sets cc, and tools: what to tell the kernel's make. LLVM=1 is clang.
toolchain()
{
	cc=gcc tools=()
	if [ -n "${LLVM:-}" ]; then
		cc=clang
		tools+=("LLVM=$LLVM")
	fi
	if command -v ccache >/dev/null; then
		tools+=("CC=ccache $cc")
	fi
}

# missing_packages NAME...: prints those that are not installed, each once.
missing_packages()
{
	local p
	local -A seen

	for p; do
		[ -z "${seen[$p]:-}" ] || continue
		seen[$p]=1
		case $(dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null) in
		ii*) ;;
		*) say "$p" ;;
		esac
	done
}

# need_root NAME...: dies unless packages can be installed; said before run(),
# which keeps what a command says in its log.
need_root()
{
	[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
		die "these packages are missing, and only root may install them (make setup, or sudo): $*"
}

as_root()
{
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo -- "$@"
	fi
}

apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o APT::Update::Error-Mode=any
	-o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o DPkg::Lock::Timeout=300)

# need_packages NAME...: installs those that are missing, and only those.
need_packages()
{
	local missing

	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null ||
		die "this is not a Debian system; install the equivalents of: ${missing[*]}"
	need_root "${missing[@]}"
	lock apt
	run "Updating the package lists" apt-update.log as_root "${apt[@]}" update ||
		die "no package lists (is the network there?), and these packages are missing: ${missing[*]}"
	run "Installing ${missing[*]}" apt-install.log as_root "${apt[@]}" install --no-install-recommends "${missing[@]}" ||
		die "these packages could not be installed: ${missing[*]}"
}

# private_apt: makes apt_private, an apt-get that knows Debian's source package
# of QEMU and, on Debian 12, its backports, and leaves the system's lists alone.
# The mirror is the one that the system uses.
private_apt()
{
	local dir=$build/apt codename mirror
	local key=/usr/share/keyrings/debian-archive-keyring.gpg

	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && say "${VERSION_CODENAME:-}")
	# shellcheck disable=SC2016 # for apt to expand
	mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
		sed -n "s/^$codename //p" | head -n 1)
	[ -n "$mirror" ] || die "the system's package lists name no mirror of Debian; run apt-get update as root"

	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	{
		say "deb-src [signed-by=$key] $mirror $QEMU_SUITE main"
		[ "$codename" != bookworm ] || say "deb [signed-by=$key] $mirror bookworm-backports main"
	} >"$dir/sources.list"
	apt_private=("${apt[@]}" -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=-
		-o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache")
	run "Reading the lists of Debian $QEMU_SUITE" apt-private.log "${apt_private[@]}" update ||
		die "no lists of Debian $QEMU_SUITE: is the network there?"
}
