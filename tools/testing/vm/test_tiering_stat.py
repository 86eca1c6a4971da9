# SPDX-License-Identifier: GPL-2.0
"""What stock Linux's tiering costs, as counted with CONFIG_TIERING_STAT."""
import re

import demo
import pytest
import tiervm
from test_in_kernel import check, parse_ktap

STAGES = {
    "sampling": ("hint_scan_ns", "hint_fault_ns", "accessed_scan_ns",
                 "rmap_walk_ns"),
    "classification": ("lru_scan_ns",),
    "migration": ("migrate_ns",),
}
FIGURES = """
figures() { grep -E '^(tier_|numa_|pgscan_|pgrefill|pgdemote|hpl_.*_ns)' \
    /proc/vmstat; awk '$1 == "cpu" { print "system_ticks", $4 }' /proc/stat; }
"""
USER_HZ = 100
SETUP = {policy.name: policy.setup for policy in demo.POLICIES}
FAIL = 'fail() { echo "failed reason=$1"; exit 1; }; set -e'


def measure(guest, gups, setup, generations="n", rounds=16):
    """How much the counters grow under a placement of gups's memory."""
    result = guest(f"""
        cat > /policy << 'END'
{FAIL}
{setup}
END
        {FIGURES}
        echo 0 > /proc/sys/kernel/numa_balancing
        echo {generations} > /sys/kernel/mm/lru_gen/enabled
        figures
        gups --size 384 --reverse --rounds {rounds} --updates 500000 \
            --after-fill 'sh /policy'
        echo after
        figures""", files=gups)
    first, last = (
        {name: int(value) for name, value in
         re.findall(r"^([a-z_]+) (\d+)$", text, re.M)}
        for text in result.text.split("\nafter\n"))
    growth = {name: last[name] - first[name] for name in last}
    print(growth)
    assert min(growth.values()) >= 0
    return growth


def stages(growth):
    """Seconds of CPU time by stage."""
    return {stage: sum(growth[f"tier_{name}"] for name in names) / 1e9
            for stage, names in STAGES.items()}


def check_sum(growth):
    """The stages are within the time that the kernel took altogether."""
    system_s = growth["system_ticks"] / USER_HZ
    spent = stages(growth)
    print(f"{spent} of {system_s} s")
    assert 0 < sum(spent.values()) <= system_s


@pytest.mark.parametrize("generations", ["n", "y"], ids=["lists", "generations"])
def test_numa_balancing_with_demotion(guest, gups, generations):
    """It samples by faults, classifies by LRU lists, and migrates."""
    growth = measure(guest, gups, SETUP["numa_balancing"], generations)
    assert growth["tier_hint_scan_pages"] >= growth["numa_pte_updates"] > 0
    assert growth["tier_hint_fault_nr"] >= growth["numa_hint_faults"] > 0
    assert growth["pgdemote_kswapd"] + growth["pgdemote_direct"] > 0
    assert growth["tier_rmap_walk_nr"] > 0
    assert growth["tier_accessed_bits_scanned"] > 0
    for name in ("hint_scan_ns", "hint_fault_ns", "rmap_walk_ns",
                 "lru_scan_ns", "migrate_ns"):
        assert growth[f"tier_{name}"] > 0, name
    assert (growth["tier_accessed_scan_ns"] > 0) == (generations == "y")
    scanned = (growth["pgscan_kswapd"] + growth["pgscan_direct"] +
               growth["pgscan_khugepaged"] + growth["pgrefill"])
    if generations == "y":
        assert growth["tier_lru_scan_pages"] >= scanned > 0
    else:
        assert growth["tier_lru_scan_pages"] == scanned > 0
    assert growth["tier_demote_filtered_warm"] <= growth["tier_lru_scan_pages"]
    check_sum(growth)


def test_damon(guest, gups):
    """It samples by walks of reverse maps, and migrates."""
    growth = measure(guest, gups, SETUP["damon"])
    for name in ("rmap_walk_nr", "rmap_walk_ns", "accessed_bits_scanned",
                 "migrate_ns"):
        assert growth[f"tier_{name}"] > 0, name
    # No fault is DAMON's. Filling the fast node wakes up reclaim, though.
    for name in ("hint_scan_ns", "hint_fault_nr", "hint_fault_ns"):
        assert growth[f"tier_{name}"] == 0, name
    check_sum(growth)


def test_idle_costs_nothing(guest, gups):
    """With no method at work nothing is counted."""
    growth = measure(guest, gups, "true", rounds=4)
    assert {name for name, value in growth.items()
            if name.startswith("tier_") and value} == set()
    assert "tier_migrate_ns" in growth


def test_names_are_those_of_the_header(guest):
    """/proc/vmstat has each counter of the list once, and no other."""
    header = (tiervm.BUILD.parent / "include/linux/tiering_stat_item.h"
              ).read_text()
    names = re.findall(r"X\([A-Z_]+, (\w+)\)", header)
    result = guest("grep -o ^tier_[a-z_]* /proc/vmstat", timing="off")
    assert len(names) == 12
    assert result.out == [f"tier_{name}" for name in names]


def test_kunit(guest, debug):
    """Time is counted once, and only while the CPU is at work."""
    result = guest("true", debug=debug, timing="off",
                   append="kunit.enable=1 kunit.filter_glob=tier_*")
    check(parse_ktap(result.log_text.splitlines()))
