#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# series.sh linux|qemu: everything of ours as a git format-patch series against
# upstream, in build/series/linux or build/series/qemu.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/tree-lib.sh"

# areas: the new files, in the order of the series, as lines of a subject and
# patterns. A file goes to the first line that matches.
areas()
{
	case $name in
	linux)
		cat <<-END
			mm: tiering by ranges|mm/tiering* mm/Kconfig* include/linux/*tiering* include/trace/*tiering*
			mm: KUnit tests of tiering by ranges|mm/tests/*
			virtio: drivers for tiered memory|drivers/* include/uapi/* include/linux/* include/trace/*
			x86: support for tiered memory|arch/*
			kernel/configs: guests with tiered memory|kernel/*
			selftests: tiering by ranges|tools/testing/selftests/*
			tools/testing: host tests of tiering by ranges|tools/*
			Documentation: tiered memory|Documentation/*
		END
		;;
	qemu)
		cat <<-END
			tests: tiered memory|tests/*
			docs: tiered memory|docs/*
			models and devices for tiered memory|*
		END
		;;
	esac
}

# commit SUBJECT_AND_BODY: the index as a commit on top of $head.
commit()
{
	head=$(printf '%s\n' "$1" | g commit-tree "$(g write-tree)" -p "$head")
}

# new_files: the files of ours, each area as a commit.
new_files()
{
	local subject patterns file pattern left

	mapfile -t left < <(overlay_files)
	while IFS='|' read -r subject patterns; do
		local later=()
		for file in "${left[@]}"; do
			for pattern in $patterns; do
				# shellcheck disable=SC2053 # a pattern is meant
				[[ $file == $pattern ]] || continue
				g update-index --add --cacheinfo \
					"$(mode "$(src_of "$file")"),$(g hash-object -w "$(src_of "$file")"),$file"
				continue 2
			done
			later+=("$file")
		done
		left=("${later[@]}")
		g diff-index --cached --quiet "$head" ||
			commit "$subject"$'\n\nNew files; the patches that follow build and call them.\n\n'"$signed"
	done < <(areas)
	[ ${#left[@]} -eq 0 ] || die "in no area (see $0): ${left[*]}"
}

mode() { if [ -x "$1" ]; then say 100755; else say 100644; fi; }

hooks()
{
	local p

	while read -r p; do
		g apply --cached "$patches/$p" || die "$p does not apply"
		commit "$(sed -n '/^---/q; s/^Subject: \(\[PATCH\] \)\{0,1\}//; p' "$patches/$p")"
	done < <(series)
}

use_tree "${1:?linux or qemu}"
set -f	# patterns are for new_files alone
"$top/scripts/tiering/setup.sh" linux
"$top/scripts/tiering/tree.sh" "$name"
lock "$name"
mkdir -p "$build/series"
out=$build/series/$name
# shellcheck disable=SC2031 # this script's own
export GIT_INDEX_FILE=$mem/index.series
GIT_AUTHOR_NAME=$(git -C "$top" log -1 --format=%an) GIT_AUTHOR_EMAIL=$(git -C "$top" log -1 --format=%ae)
export GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
signed="Signed-off-by: $GIT_AUTHOR_NAME <$GIT_AUTHOR_EMAIL>"

head=$(g rev-parse upstream)
g read-tree upstream
new_files
hooks
rm -rf "$out.new"
g format-patch -q -o "$out.new" "upstream..$head"

# The proof: the mails, one by one, on upstream's text give the tree as laid.
g read-tree upstream
set +f
for mail in "$out.new"/*.patch; do
	g apply --cached "$mail" || die "$mail does not apply to upstream"
done
[ "$(g write-tree)" = "$(g rev-parse "$head^{tree}")" ] || die "the series does not give our tree"
while read -r file; do
	[ "$(g rev-parse "$head:$file")" = "$(g hash-object "$tree/$file")" ] ||
		die "the series gives another $file than ${tree#"$top"/} has"
done < <(g diff --no-renames --name-only upstream "$head")
rm -rf "$out" "$GIT_INDEX_FILE"
mv "$out.new" "$out"
mails=("$out"/*.patch)
say "${#mails[@]} patches against $title $(version_of "$tree") in ${out#"$top"/}; they apply to it and give ${tree#"$top"/}"
