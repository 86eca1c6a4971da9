# SPDX-License-Identifier: GPL-2.0
"""HPlacement at work in a guest: what it moves, what it leaves, what it costs."""
import re

import pytest
from test_in_kernel import SELFTESTS, check, parse_ktap

ON = "echo 1 > /sys/kernel/mm/hplacement/enabled"
OFF = "echo 0 > /sys/kernel/mm/hplacement/enabled"
COUNTERS = "grep ^hpl_ /proc/vmstat"
THREADS = "cat /proc/[0-9]*/comm | grep ^khpl || true"
# Pages of the gups buffer that most tests use: 320 MiB, which do not fit the
# fast node of 256 MiB.
SIZE_MIB = 320
PAGES = SIZE_MIB * 256
# Switched on once the buffer is filled, so that all starts where first touch
# has put it.
GUPS = f"gups --size {SIZE_MIB} --hot-share 0.05 --after-fill '{ON}'"
# Where nothing is to be decided, the timing model only costs host time.
QUICK = "icount"


def counters(text):
    """The hpl_ counters printed last, without their prefix."""
    return {name: int(value) for name, value in
            re.findall(r"^hpl_(\w+) (\d+)$", text, re.M)}


def hot_after(text):
    """Share of the hot set that ended on the fast tier."""
    return float(re.search(r"when=after hot=([\d.]+)", text)[1])


def moved(text):
    """Pages moved, either way."""
    c = counters(text)
    return done(c, "promote") + done(c, "demote")


def done(c, which):
    """Pages promoted or demoted."""
    return c[f"{which}_done_anon"] + c[f"{which}_done_file"]


def test_finds_the_hot_set_and_keeps_the_data(guest, gups, debug):
    """Hot pages come to the fast tier, cold ones make room, no word changes."""
    # The debug kernel's checks make an epoch ten times as dear, which would
    # have it rest for seconds.
    permille = 500 if debug else 10
    result = guest(f"""
        echo {permille} > /sys/kernel/mm/hplacement/overhead_permille
        {GUPS} --reverse --rounds 60 --updates 500000 --verify
        {COUNTERS}""", files=gups, debug=debug)
    assert "verify errors=0 " in result.text
    assert hot_after(result.text) >= 0.9
    assert counters(result.text)["demote_done_anon"] > 0


def test_follows_a_hot_set_that_moves(guest, gups):
    """Heat elsewhere is found, too, though the old place was hot for long."""
    result = guest(f"{GUPS} --rounds 60 --updates 500000 --move-at 12",
                   files=gups)
    assert hot_after(result.text) >= 0.9


def test_hot_set_already_fast_is_left(guest, gups):
    """Where there is nothing to gain, hardly anything is moved."""
    result = guest(f"{GUPS} --rounds 40 --updates 500000; {COUNTERS}",
                   files=gups)
    assert hot_after(result.text) >= 0.99
    assert counters(result.text)["epochs"] > 10
    assert moved(result.text) < 0.03 * PAGES


def test_uniform_access_is_left(guest, gups):
    """No part is hotter than another: hardly anything is moved."""
    result = guest(f"{GUPS} --pattern random --rounds 40 --updates 500000;"
                   f"{COUNTERS}", files=gups)
    assert counters(result.text)["epochs"] > 10
    assert moved(result.text) < 0.03 * PAGES


def test_off_does_nothing(guest, gups):
    """Never switched on: no thread, and each counter stays 0."""
    result = guest(f"gups --size {SIZE_MIB} --reverse --rounds 4;"
                   f"{COUNTERS}; {THREADS}", files=gups, timing=QUICK)
    assert len(counters(result.text)) > 20
    assert set(counters(result.text).values()) == {0}
    assert "khpl" not in result.text


def test_switched_off_again(guest, gups):
    """Its threads end and the counters stand still."""
    result = guest(f"{GUPS} --reverse --rounds 8; {THREADS}; {OFF};"
                   f"echo was on; {COUNTERS};"
                   f"gups --size 64 --rounds 4 > /dev/null;"
                   f"echo was off; {COUNTERS}; {THREADS}", files=gups,
                   timing=QUICK)
    at_work, stopped = result.text.split("was on")
    before, after = stopped.split("was off")
    assert "khplaced" in at_work
    assert counters(before)["epochs"] > 0
    assert counters(before) == counters(after)
    assert "khpl" not in stopped


def test_one_tier_does_nothing(guest, gups):
    """With one tier it can be switched on, and has nothing to do."""
    result = guest("gups --size 64 --rounds 4 --after-fill "
                   f"'{ON}'; {COUNTERS}; {THREADS}; {OFF}", slow=0, fast=384,
                   files=gups, timing=QUICK)
    assert "khplaced" in result.text
    assert set(counters(result.text).values()) == {0}


@pytest.mark.parametrize("permille", [10, 3])
def test_overhead_is_within_its_budget(guest, gups, permille):
    """Sampling and classifying take the CPU time that was set, not more."""
    mark = f"cat /proc/uptime; {COUNTERS}; echo ---"
    result = guest(f"""
        echo {permille} > /sys/kernel/mm/hplacement/overhead_permille
        {GUPS} --reverse --rounds 8
        {mark}
        gups --size {SIZE_MIB} --rounds 24 --updates 500000
        {mark}""", files=gups)
    first, last = result.text.split("---")[:2]
    spent = sum(counters(last)[c] - counters(first)[c]
                for c in ("sample_ns", "classify_ns"))
    begin, end = (float(re.search(r"^([\d.]+) [\d.]+$", text, re.M)[1])
                  for text in (first, last))
    share = spent / 1e9 / (end - begin)
    print(f"overhead {share * 1000:.2f} permille of {permille}")
    assert 0.3 * permille < share * 1000 < 1.2 * permille


def test_headroom_stays_free(guest, gups):
    """The coldest pages make way for a tenth of the fast node."""
    free = "awk '/MemFree/ { print $4 }' /sys/devices/system/node/node0/meminfo"
    result = guest(f"""
        echo 100 > /sys/kernel/mm/hplacement/headroom_permille
        {GUPS} --rounds 100000 > /dev/null &
        until [ "$(cat /sys/kernel/mm/hplacement/enabled)" = 1 ]; do
            sleep 0.1
        done
        echo before $({free})
        n=0
        until [ $({free}) -gt 25000 ]; do
            n=$((n + 1))
            [ $n -lt 300 ] || {{ echo "free: $({free})"; exit 1; }}
            sleep 0.1
        done
        echo after $({free})
        kill $!
        {COUNTERS}""", files=gups, timing=QUICK)
    assert int(re.search(r"^before (\d+)", result.text, re.M)[1]) < 22000
    assert counters(result.text)["demote_done_anon"] > 1000


def test_tracepoints_tell_what_the_counters_count(guest, gups):
    """Each epoch and each batch of moves is traced."""
    result = guest(f"""
        cd /sys/kernel/tracing
        echo 8192 > buffer_size_kb
        echo 1 > events/tiering_range/enable
        {GUPS} --reverse --rounds 30 --updates 500000
        {OFF}
        {COUNTERS}
        cat trace""", files=gups)
    epochs = re.findall(r"hpl_epoch: .* promoted=(\d+) demoted=(\d+) ",
                        result.text)
    moves = re.findall(r"hpl_move: pid=\d+ range=\[[0-9a-f]+,[0-9a-f]+\) "
                       r"nid=(\d) target=(\d) tried=(\d+) done=(\d+)",
                       result.text)
    c = counters(result.text)
    assert len(epochs) == c["epochs"] > 10
    promoted = sum(int(pages) for nid, _, _, pages in moves if nid == "1")
    demoted = sum(int(pages) for nid, _, _, pages in moves if nid == "0")
    assert promoted == done(c, "promote") > 1000
    assert demoted == done(c, "demote") > 0
    assert sum(int(p) for p, _ in epochs) == promoted
    assert sum(int(d) for _, d in epochs) == demoted
    assert all(nid != target for nid, target, _, _ in moves)


def test_no_leaks(guest, gups):
    """Processes and ranges come and go, and kmemleak finds nothing."""
    guest(f"""
        for i in 1 2 3; do
            {GUPS} --reverse --rounds 4 --updates 200000 &
            gups --size 64 --rounds 4 --updates 200000
            kill -9 $!
            {OFF}
        done""", files=gups, debug=True, leaks=True)


@pytest.mark.parametrize("name", [
    "processes_come_and_go", "process_dies_while_it_is_moved",
    "switched_on_and_off_at_random", "processors_come_and_go",
])
def test_unrest_on_two_processors(guest, debug, name):
    """The selftests that seek races, with two CPUs that really run at once."""
    program = SELFTESTS / "tiering_range_unrest"
    result = guest(f"/bin/tiering_range_unrest -t {name}",
                   files={"/bin/tiering_range_unrest": str(program)},
                   debug=debug, smp=2, timing="off", timeout=240)
    results = parse_ktap(result.out)
    check(results)
    assert results.counts.skipped == 0


def test_selftest_without_tiers_is_skipped(guest):
    """On a machine with one tier the tests of placement do not pretend."""
    for name in ("files", "moves"):
        path = f"/bin/tiering_range_{name}"
        result = guest(f"{path} || [ $? -eq 4 ]",     # KSFT_SKIP
                       files={path: str(SELFTESTS / f"tiering_range_{name}")},
                       slow=0, fast=384, timing="off")
        counts = parse_ktap(result.out).counts
        assert counts.failed + counts.crashed + counts.errors == 0, str(counts)
        assert (counts.passed if name == "files" else counts.skipped) >= 6
        assert name == "files" or counts.passed == 0
