#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# refresh.sh linux|qemu: folds edits of upstream's files, made in the laid-out
# tree, into the last patch that touches the file. PATCH=NNNN-what.patch names
# the patch for files that no patch touches yet; it may be a new one.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/tree-lib.sh"

# patch_of FILE: the last applied patch that touches FILE.
patch_of()
{
	local p

	while read -r p; do
		if [ -e "$tree/.pc/$p/$1" ]; then
			say "$p"
			return
		fi
	done < <(tac "$tree/.pc/applied-patches" 2>/dev/null)
}

# add_to_patch FILE: makes $PATCH, new or not, touch FILE.
add_to_patch()
{
	local file=$1 edited=$mem/edited
	local author

	author="$(git -C "$top" config user.name) <$(git -C "$top" config user.email)>"
	if ! series | grep -qxF "$PATCH"; then
		mkdir -p "$patches"
		q new "$PATCH" >/dev/null
		printf 'Subject: [PATCH] %s: say what\n\nSay why.\n\nSigned-off-by: %s\n---\n' \
			"${file%%/*}" "$author" | q header -r "$PATCH" >/dev/null
		say "$PATCH is new: write its subject and the reason into it"
	fi
	rm -f "$edited"
	[ ! -e "$tree/$file" ] || mv "$tree/$file" "$edited"
	g show "HEAD:$file" >"$tree/$file" 2>/dev/null || rm "$tree/$file"
	q add -P "$PATCH" "$file" >/dev/null
	rm -f "$tree/$file"
	[ ! -e "$edited" ] || mv "$edited" "$tree/$file"
}

use_tree "${1:?linux or qemu}"
[ -e "$mem/source" ] || exit 0
lock "$name"
if ! patches_as_applied && ! series_gives_tree; then
	[ -n "$(edited_files)" ] || die "a patch of ${patches#"$top"/} changed and no file did: run make tree"
	die "${tree#"$top"/} has edits, and ${patches#"$top"/} changed since it was applied; keep the edits with" \
		"git --git-dir=${git_dir#"$top"/} diff >edits.diff, then rm -r ${tree#"$top"/} and ${mem#"$top"/}"
fi

declare -A touched=()
homeless=()
while read -r file; do
	p=$(patch_of "$file")
	if [ -z "$p" ] && [ -n "${PATCH:-}" ]; then
		add_to_patch "$file"
		p=$PATCH
	fi
	if [ -n "$p" ]; then
		touched[$p]=1
	else
		homeless+=("$file")
	fi
done < <(edited_files)

for p in "${!touched[@]}"; do
	q refresh -f -p ab --no-timestamps --no-index "$p" >/dev/null ||
		die "quilt could not refresh $p"
	say "${patches#"$top"/}/$p: refreshed"
done
if [ ${#touched[@]} -gt 0 ]; then
	commit_patches
	remember_patches
fi

for file in "${homeless[@]}"; do
	if g cat-file -e "upstream:$file" 2>/dev/null; then
		say "${tree#"$top"/}/$file: no patch touches it; add it to one, old or new: make refresh PATCH=NNNN-what.patch" >&2
	else
		say "${tree#"$top"/}/$file: a new file; move it to $(src_of "$file")" >&2
	fi
done
[ ${#homeless[@]} -eq 0 ]
