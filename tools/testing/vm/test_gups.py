# SPDX-License-Identifier: GPL-2.0
"""The workload: its options, its own check, and its memory under migration."""
import collections
import csv
import re
import subprocess

import pytest

# Overwrites one word of its parent's largest mapping.
CORRUPT = """
import os
maps = open(f"/proc/{os.getppid()}/maps").read().splitlines()
spans = [[int(x, 16) for x in m.split()[0].split("-")] for m in maps]
start, end = max(spans, key=lambda s: s[1] - s[0])
with open(f"/proc/{os.getppid()}/mem", "r+b", buffering=0) as mem:
    mem.seek((start + end) // 2)
    mem.write(b"corrupt!")
"""


def run(gups, *args):
    """Run gups on the host."""
    return subprocess.run([gups["/bin/gups"], *args], capture_output=True,
                          text=True, check=False)


@pytest.mark.parametrize("args, message", [
    (["--size", "0"], "--size 0: give a number from 1 to 32768"),
    (["--size", "12x"], "--size 12x: give a number"),
    (["--hot-share", "1.5"], "--hot-share 1.5: give a number between 0 and 1"),
    (["--hot-prob", "nan"], "--hot-prob nan: give"),
    (["--pattern", "foo"], "--pattern foo: choose random, hotset"),
    (["--rounds", "5", "--move-at", "6"], "--move-at 6: there are only 5"),
    (["--move-every", "2", "--move-by", "0.95"], "--move-by 0.95: a hot set"),
    (["--move-at", "2", "--move-by", "0.05"], "--move-by 0.05: a hot set"),
    (["--after-fill", "exit 3", "--size", "1"], "--after-fill 'exit 3' failed"),
    (["--after-rounds", "exit 3", "--size", "1", "--rounds", "1"],
     "--after-rounds 'exit 3' failed"),
    (["extra"], "extra: no such argument"),
])
def test_wrong_option_is_refused(gups, args, message):
    """The error names the option and its value."""
    done = run(gups, *args)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize("pattern", ["random", "hotset", "zipf", "mix",
                                     "scattered", "zipf-scattered"])
def test_verify_accepts_correct_memory(gups, pattern):
    """Redone, the updates cancel out, also when the hot set has moved."""
    done = run(gups, "--pattern", pattern, "--size", "16", "--rounds", "4",
               "--updates", "100000", "--move-at", "3", "--move-every", "1",
               "--move-by", "0.3", "--reverse", "--verify")
    assert done.returncode == 0, done.stderr
    assert f"verify errors=0 words={16 << 17}" in done.stdout


def test_verify_finds_one_wrong_word(gups, tmp_path):
    """A single overwritten word is found and fails the run."""
    script = tmp_path / "corrupt.py"
    script.write_text(CORRUPT)
    done = run(gups, "--size", "16", "--rounds", "1", "--verify",
               "--after-fill", f"exec /usr/bin/python3 {script}")
    assert "verify errors=1 " in done.stdout
    assert done.returncode == 1


def test_reverse_starts_slow(guest, gups):
    """The hot set begins on the slow tier with --reverse, else on the fast."""
    args = "gups --rounds 1 --updates 1000"
    out = guest(f"{args}; {args} --reverse", files=gups, timing="off").text
    hot = re.findall(r"when=before hot=([\d.]+)", out)
    assert [float(share) for share in hot] == [1, 0]


@pytest.mark.parametrize("pattern", ["scattered", "zipf-scattered"])
def test_heat_is_strewn(guest, gups, tmp_path, pattern):
    """Every tenth page is hot; or the hottest pages lie anywhere."""
    truth = tmp_path / "truth"
    text = guest(f"gups --pattern {pattern} --size 64 --rounds 1 "
                 "--updates 1000000", files=gups, truth=str(truth)).text
    address, pages = re.search(r"buffer address=(\w+) pages=(\d+)",
                               text).groups()
    misses = collections.Counter()
    with open(truth, encoding="ascii", newline="") as file:
        for row in csv.DictReader(file):
            page = int(row["virtual_page"], 16) - (int(address, 16) >> 12)
            if 0 <= page < int(pages):
                misses[page] += int(row["misses"])
    hottest = sorted(page for page, _ in misses.most_common(int(pages) // 10))
    if pattern == "scattered":
        assert hottest == list(range(0, int(pages) // 10 * 10, 10))
        return
    # A tenth of all pages by chance: a tenth of them have a hot neighbour.
    near = sum(b - a == 1 for a, b in zip(hottest, hottest[1:]))
    assert 0.05 < near / len(hottest) < 0.15
    thirds = collections.Counter(3 * page // int(pages) for page in hottest)
    assert min(thirds.values()) > 0.25 * len(hottest)


def test_preferred_node(guest, gups):
    """--preferred puts the buffer on a node of choice."""
    out = guest("gups --size 64 --rounds 1 --updates 1000 --preferred 1",
                files=gups, timing="off").text
    assert "when=before hot=0.0000 all=0.0000" in out


def test_interleave(guest, gups):
    """--interleave spreads the buffer over both nodes, page by page."""
    out = guest("gups --size 64 --rounds 1 --updates 1000 --interleave",
                files=gups, timing="off").text
    assert re.search(r"when=before hot=0.5\d* all=0.5000", out)


@pytest.mark.parametrize("pattern", ["hotset", "scattered"])
def test_best_placement(guest, gups, pattern):
    """--place-best: the hot set is fast, no more is than before; data stay."""
    args = (f"gups --pattern {pattern} --reverse --size 320 --rounds 1 "
            "--updates 1000 --verify")
    out = guest(f"{args} --place-best; {args}", files=gups, timing="off").text
    (hot, best), (_, other) = re.findall(
        r"when=before hot=([\d.]+) all=([\d.]+)", out)
    assert float(hot) > 0.99
    assert float(best) == pytest.approx(float(other), abs=0.01)
    assert 0.3 < float(best) < 0.9
    assert out.count("verify errors=0") == 2


def test_numa_migration_keeps_the_data(guest, gups, debug):
    """Stock promotion and demotion move pages and lose no update."""
    result = guest("""
        tune=/sys/kernel/debug/sched/numa_balancing
        echo 100 > $tune/scan_delay_ms
        echo 100 > $tune/scan_period_min_ms
        echo 0 > /proc/sys/vm/watermark_boost_factor
        echo 2 > /proc/sys/kernel/numa_balancing
        echo 1 > /sys/kernel/mm/numa/demotion_enabled
        gups --reverse --size 320 --rounds 10 --updates 3000000 --verify
        grep -E 'pgpromote_success|pgdemote_kswapd' /proc/vmstat
        """, files=gups, debug=debug, timing="off" if debug else "icount")
    assert "verify errors=0" in result.text
    moved = dict(re.findall(r"(\w+) (\d+)$", result.text, re.M))
    assert int(moved["pgpromote_success"]) > 0
    assert int(moved["pgdemote_kswapd"]) > 0
