# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # shared with lib.sh and those who source this
#
# The laid-out trees, for the scripts that make or read them. After lib.sh.

# use_tree linux|qemu: from here on, the functions below speak of that tree.
use_tree()
{
	name=$1
	case $name in
	linux)
		title=Linux tree=$build/linux patches=$top/patches/linux
		pinned=$LINUX_VERSION overlay_root=$top
		overlay_dirs=(arch drivers include kernel mm Documentation tools/testing/tiering_range
			tools/testing/selftests/tiering_range) ;;
	qemu)
		title=QEMU tree=$build/qemu-src patches=$top/qemu/patches
		pinned=$QEMU_VERSION overlay_root=$top/qemu overlay_dirs=(.) ;;
	*)
		die "$name: neither linux nor qemu" ;;
	esac
	mem=$state/$name		# what we know of the tree
	git_dir=$state/$name.git	# upstream's text; HEAD: with the patches
}

# g: git, on the tree. q: quilt, on the tree.
g() { git -c core.quotePath=false --git-dir="$git_dir" --work-tree="$tree" "$@"; }
q() { (cd "$tree" && QUILT_PATCHES=$(realpath --relative-to=. "$patches") quilt --quiltrc - "$@"); }

version_of()
{
	case $name in
	linux)
		sed -n 's/^VERSION = //p; s/^PATCHLEVEL = //p; s/^SUBLEVEL = //p' "$1/Makefile" 2>/dev/null |
			paste -sd . ;;
	qemu)
		cat "$1/VERSION" 2>/dev/null || true ;;
	esac
}

# The overlay's files, relative to the tree; where one of them really is.
overlay_files()
{
	(
		cd "$overlay_root" || exit
		for d in "${overlay_dirs[@]}"; do
			[ ! -d "$d" ] || find "$d" \( -path ./patches -o -name __pycache__ \) -prune -o \
				-type f ! -name '.*' ! -name '*~' ! -name '*.o' ! -name '*.orig' ! -name '*.rej' -print
		done | sed 's,^\./,,' | sort
	)
}

src_of() { say "$overlay_root/$1"; }

# The patches of the series, in order.
series() { sed 's/[ \t]*\(#.*\)\{0,1\}$//; /^$/d' "$patches/series" 2>/dev/null || true; }

# The patches as they were when they were applied, to notice a change.
remember_patches()
{
	local p

	rm -rf "$mem/applied"
	mkdir -p "$mem/applied"
	series >"$mem/applied/series"
	while read -r p; do
		cp "$patches/$p" "$mem/applied/$p"
	done < <(series)
}

patches_as_applied()
{
	local p

	[ -e "$mem/applied/series" ] && cmp -s "$mem/applied/series" <(series) || return 1
	while read -r p; do
		cmp -s "$patches/$p" "$mem/applied/$p" || return 1
	done < <(series)
}

# edited_files: what somebody changed, removed or added in the tree itself.
edited_files()
{
	g status --porcelain --no-renames --untracked-files=no | cut -c 4-
	new_in_tree
}

# new_in_tree: neither upstream's nor laid. Debian's .gitignore names
# everything, so it is of no use here.
new_in_tree()
{
	g ls-files --others --exclude-from="$git_dir/info/exclude" \
		--exclude='*.o' --exclude='.*' --exclude='*.pyc' --exclude='*~' --exclude='*.orig'
}

# commit_patches: what the patches, as applied, make of upstream.
commit_patches()
{
	local patched

	mapfile -t patched < <(find "$tree/.pc" -mindepth 2 -type f ! -name .timestamp -printf '%P\n' |
		sed 's,^[^/]*/,,' | sort -u)
	# Without a path, git would add all there is.
	[ ${#patched[@]} -eq 0 ] || g add -A -f -- "${patched[@]}"
	g commit -q --allow-empty -m "patches"
}

refuse_edits()
{
	local edits

	edits=$(edited_files)
	[ -z "$edits" ] && return
	if ! patches_as_applied && series_gives_tree; then
		commit_patches
		remember_patches
		return
	fi
	say "Edited in ${tree#"$top"/}, but not in this repository:" >&2
	printf '    %s\n' "$edits" >&2
	die "nothing was changed; make refresh folds the edits into their patches"
}

# series_gives_tree: is the tree what the series makes of upstream? So it is
# when somebody ran quilt in the tree by hand.
series_gives_tree()
{
	local p

	(
		export GIT_INDEX_FILE=$mem/index.tmp
		cp "$git_dir/index" "$GIT_INDEX_FILE"
		g read-tree upstream
		while read -r p; do
			g apply --cached "$patches/$p" || exit 1
		done < <(series)
		g update-index -q --refresh || true
		[ -z "$(g diff-files --name-only)" ] && [ -z "$(new_in_tree)" ]
	) >/dev/null 2>&1
}
