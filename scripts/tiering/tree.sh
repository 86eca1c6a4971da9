#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# tree.sh linux|qemu: lays this repository over upstream's source, in
# build/linux or build/qemu-src. New files are symbolic links, hooks in
# upstream's files are patches. Quick when there is little to do.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/tree-lib.sh"

# extract_linux DIR, extract_qemu DIR: upstream's pristine source into DIR.
extract_linux()
{
	local from=$1 to=$2

	if [ -d "$from" ]; then
		run "Copying Linux from $from" tree-linux.log copy_tree "$from" "$to"
	else
		run "Extracting $from" tree-linux.log tar -x --touch --strip-components=1 -f "$from" -C "$to"
	fi
}

copy_tree() { tar -C "$1" -c --exclude=./.git --exclude=./.pc . | tar -C "$2" -x --touch; }

extract_qemu()
{
	local from=$1 to=$2

	if [ "$from" = debian ]; then
		private_apt
		(cd "$(dirname "$to")" && run "Fetching QEMU's source" tree-qemu.log \
			"${apt_private[@]}" source "$QEMU_PACKAGE/$QEMU_SUITE") ||
			die "no source package $QEMU_PACKAGE of Debian $QEMU_SUITE: is the network there?"
		rmdir "$to"
		mv "$(dirname "$to")/$QEMU_PACKAGE"-*/ "$to" || die "the source package has no directory $QEMU_PACKAGE-*"
		rm -rf "$to/.pc"
		find "$to" -exec touch -h {} +	# newer than what was built from another one
	elif [ -d "$from" ]; then
		run "Copying QEMU from $from" tree-qemu.log copy_tree "$from" "$to"
	else
		run "Extracting $from" tree-qemu.log tar -x --touch --strip-components=1 -f "$from" -C "$to"
	fi
}

# identity PATH: PATH and what changes when its content does.
identity() { say "$1 $(find "$1" -type f -printf '%P %s %T@\n' | sort | cksum)"; }

# source_of_linux, source_of_qemu: what to lay the repository over, as one line.
source_of_linux()
{
	local from=${LINUX_SRC:-/usr/src/$LINUX_PACKAGE.tar.xz}

	[ -e "$from" ] || die "LINUX_SRC=$from: no such file or directory"
	identity "$(realpath "$from")"
}

source_of_qemu()
{
	local from=${QEMU_SRC:-}

	if [ -z "$from" ]; then
		say "debian $QEMU_VERSION $QEMU_SUITE"
		return
	fi
	[ -e "$from" ] || die "QEMU_SRC=$from: no such file or directory"
	identity "$(realpath "$from")"
}

# new_tree FROM: upstream's source from FROM, and its record in git, so that
# an edit is told from upstream's text. Appears whole or not at all.
new_tree()
{
	local tmp=$build/tmp.$name version

	need_disk
	rm -rf "$tmp"
	# shellcheck disable=SC2064 # the directory of now
	trap "stop_ticker; rm -rf '$tmp'" EXIT
	mkdir -p "$tmp/src"
	"extract_$name" "$1" "$tmp/src" || die "no source of $name"
	version=$(version_of "$tmp/src")
	[[ $version == "$pinned".* || $version == "$pinned" ]] ||
		die "$1 has $title ${version:-of no known version}, but this repository is laid over $pinned"
	run "Recording what is upstream's" "record-$name.log" record "$tmp"
	rm -rf "$tree" "$git_dir" "$mem"
	mkdir -p "$mem"
	mv "$tmp/git" "$git_dir"
	mv "$tmp/src" "$tree"
	rm -rf "$tmp"
}

record()
{
	local g=(git --git-dir="$1/git" --work-tree="$1/src")

	git init -q --bare "$1/git" && cat >>"$1/git/config" <<-END && "${g[@]}" add -A -f &&
		[core]
			bare = false
			worktree = $(realpath -m --relative-to="$git_dir" "$tree")
			compression = 1
			fsync = none
			autocrlf = false
			# Hard links to the files are made elsewhere.
			trustctime = false
		[gc]
			auto = 0
		[user]
			name = make tree
			email = none
	END
		"${g[@]}" commit -q -m upstream && "${g[@]}" tag upstream
}

# lay_links: every file of the overlay as a link, and no link to what is gone.
lay_links()
{
	local f link

	overlay_files >"$mem/overlay.new"
	while read -r f; do
		if [ -e "$tree/$f" ] && [ ! -L "$tree/$f" ] || g cat-file -e "upstream:$f" 2>/dev/null; then
			die "$(src_of "$f") collides with upstream's own $f; rename it, or make it a patch in ${patches#"$top"/}"
		fi
	done < <(comm -13 "$mem/overlay" "$mem/overlay.new")
	while read -r f; do
		rm -f "$tree/$f"
		rmdir -p --ignore-fail-on-non-empty "$(dirname "$tree/$f")" 2>/dev/null || true
	done < <(comm -23 "$mem/overlay" "$mem/overlay.new")
	while read -r f; do
		link=$(realpath -m -s --relative-to="$(dirname "$tree/$f")" "$(src_of "$f")")
		[ "$(readlink "$tree/$f")" = "$link" ] && continue
		mkdir -p "$(dirname "$tree/$f")"
		ln -sfn "$link" "$tree/$f"
	done <"$mem/overlay.new"
	{ say /.pc/; say /patches; sed 's,^,/,' "$mem/overlay.new"; } >"$git_dir/info/exclude"
	mv "$mem/overlay.new" "$mem/overlay"
}

# push_patches: upstream's files as they were, then the patches of the series
# as they are now. A file that comes out as before keeps its time.
push_patches()
{
	local f saved=$mem/saved

	rm -rf "$saved" "$tree/.pc" "$mem/applied"
	mkdir -p "$saved"
	while read -r f; do
		if [ -e "$tree/$f" ]; then
			mkdir -p "$saved/$(dirname "$f")"
			cp -p "$tree/$f" "$saved/$f"
			rm "$tree/$f"
		fi
		g checkout -q upstream -- "$f" 2>/dev/null || g rm -q --cached -- "$f"
	done < <(g diff --no-renames --name-only upstream)
	g commit -q --allow-empty -m "upstream, no patches"

	if [ -n "$(series)" ]; then
		if ! q push -a --fuzz=0 >"$build/logs/patches-$name.log" 2>&1; then
			cat "$build/logs/patches-$name.log" >&2
			commit_patches
			while read -r f; do
				g checkout -q upstream -- "$f" 2>/dev/null || { rm -f "${tree:?}/$f"; g rm -q --cached -- "$f"; }
			done < <(g diff --no-renames --name-only upstream)
			g commit -q --allow-empty -m "upstream, no patches"
			rm -rf "$tree/.pc"
			find "$tree" -name '*.rej' -newer "$saved" -delete
			die "a patch of ${patches#"$top"/} does not apply to $name $(version_of "$tree") without fuzz (above); no patch is applied now"
		fi
		commit_patches
	fi
	while read -r f; do
		[ -e "$saved/$f" ] && cmp -s "$saved/$f" "$tree/$f" && touch -r "$saved/$f" "$tree/$f"
	done < <(g diff --no-renames --name-only upstream HEAD)
	g update-index -q --refresh || true
	remember_patches
	rm -rf "$saved"
}

main()
{
	local from

	use_tree "$1"
	if [ "$name" = linux ]; then
		if [ -z "${LINUX_SRC:-}" ] && [ ! -e "$mem/source" ]; then
			"$top/scripts/tiering/setup.sh" linux
		fi
	elif [ ! -e "$mem/source" ]; then
		"$top/scripts/tiering/setup.sh" qemu-src
	fi
	lock "$name"
	mkdir -p "$build/logs"

	# A tree once laid stays over its source until another one is named.
	local explicit=${LINUX_SRC:-}
	[ "$name" = linux ] || explicit=${QEMU_SRC:-}
	if [ ! -e "$mem/source" ] || [ -n "$explicit" ]; then
		from=$("source_of_$name")
	else
		from=$(cat "$mem/source")
	fi
	if [ -e "$mem/source" ]; then
		refuse_edits
	fi
	if [ "$from" != "$(cat "$mem/source" 2>/dev/null)" ]; then
		new_tree "${from%% *}"
		: >"$mem/overlay"
		say "$from" >"$mem/source"
	fi

	lay_links
	patches_as_applied || push_patches
	say "$title $(version_of "$tree") in ${tree#"$top"/}: $(wc -l <"$mem/overlay") files and $(series | wc -l) patches of ours"
}

main "${1:?linux or qemu}"
