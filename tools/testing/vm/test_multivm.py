# SPDX-License-Identifier: GPL-2.0
"""VMs that share a host, and what a fluctuating job holds: the arithmetic of the
figures, and a guest each."""
import os
import subprocess

import footprint
import multivm
import placement
import pytest
import report
from footprint import Sample
from multivm import BALLOONS, FAST_MIB, POLICIES, SLOW_MIB


@pytest.mark.parametrize("fast, slow, on_slow, on_fast", [
    (512, 1536, 0, 0),                # just what there is
    (200, 1000, 0, 0),                # less of both
    (1024, 1024, 512 / 1024, 0),      # as much too much as is left of the other
    (256, 1792, 0, 256 / 1792),
    (1024, 1536, 0, 0),               # more than the host has: nowhere to go
])
def test_excess_lies_on_the_other_tier(fast, slow, on_slow, on_fast):
    """What VMs keep beyond a tier is on the other, as far as that has room."""
    assert multivm.elsewhere(fast, slow) == (on_slow, on_fast)


def outcome(vms, fast_mib, seconds=0.1, misses=(1000000, 500000), rounds=8):
    """A VM that has kept so much of its fast node, and its part of the whole."""
    slow_mib = (FAST_MIB + SLOW_MIB) / vms - fast_mib
    was = [500 * 1024, 1500 * 1024]   # less than the nodes: the kernel's own
    return {"rounds": [{"n": n, "seconds": 9.0 if n <= rounds * 3 // 4 else
                        seconds} for n in range(1, rounds + 1)],
            "misses": list(misses), "linux": "6.12-made-up",
            "memory": {"boot": was,
                       "set": [was[0] - (FAST_MIB - fast_mib) * 1024,
                               was[1] - (SLOW_MIB - slow_mib) * 1024]}}


def test_rate_is_of_the_plateau_and_reckons_with_the_host():
    """108 ns more for a miss on fast memory that is none, less the other way."""
    vm = outcome(2, 256)
    assert multivm.kept_mib(vm) == (256, 768)
    assert multivm.rate(vm, (0, 0)) == pytest.approx(2 / 0.2)
    assert multivm.rate(vm, (0.5, 0)) == pytest.approx(2 / (0.2 + 0.054))
    assert multivm.rate(vm, (0, 0.5)) == pytest.approx(2 / (0.2 - 0.027))


def test_misses_are_counted_between_rounds(tmp_path):
    """Of the table's cumulative counters, those at the last row before each."""
    table = tmp_path / "csv"
    table.write_text("time_ns,node0_misses,node1_misses\n10,5,1\n20,7,2\n"
                     "30,20,4\n40,50,8\n")
    assert multivm.count_misses(table, 20, 35) == [13, 2]
    assert multivm.count_misses(table, 5, 45) == [50, 8]


def test_hosts_of_vms():
    """A total of all VMs, also of mixed ones; a failure in its place."""
    found = []
    for job in multivm.multivm_jobs(False):
        tags = job.tags
        kept = (FAST_MIB / tags["vms"] if tags["device"] == "hballoon" else 40)
        slow = tags["workload"] == "uniform"
        found.append((job, outcome(tags["vms"], kept, 0.4 if slow else 0.1)))
    broken = next(n for n, (job, _) in enumerate(found) if job.label ==
                  "1 of 8 hballoon hplacement mix")
    found[broken] = (found[broken][0], {"error": "made up"})
    rows = multivm.multivm_rows(found, False)
    own = {(r["metric"], r["device"], r["policy"], r["workload"]): r["value"]
           for r in rows}
    key = ("hballoon", "hplacement", "hotset 8 VMs")
    assert own[("mups_vm", *key)] == pytest.approx(10)
    assert own[("mups_total", *key)] == pytest.approx(80)
    assert own[("fast_idle_mib", *key)] == 0
    key = ("hballoon", "unmanaged", "mixed 8 VMs")
    assert own[("mups_total", *key)] == pytest.approx(6 * 10 + 2 * 2.5)
    assert own["mups_vm", "hballoon", "unmanaged",
               "mixed 8 VMs, uniform"] == pytest.approx(2.5)
    key = ("virtio_balloon", "unmanaged", "hotset 4 VMs")
    assert own[("fast_idle_mib", *key)] == FAST_MIB - 160
    assert own[("mups_vm", *key)] > own[("mups_vm_declared", *key)]
    assert own["failed", "hballoon", "hplacement", "mixed 8 VMs"] == "made up"
    assert own["mups_total", "hballoon", "hplacement", "hotset 8 VMs"]
    page = "".join(report.PLOTS["multivm"](rows))
    assert page.count("<svg") == 6
    table = report.matrix(rows, "mups_total")
    assert "virtio_balloon numa_balancing" in table.heads


def test_vm_gets_its_part(gups):
    """By HBalloon of each node; GUPS runs in what is left."""
    assert gups
    workload = {w.name: w for w in placement.WORKLOADS}[multivm.SAME]
    vm = multivm.measure(BALLOONS[0], POLICIES["unmanaged"], workload, 4, 4,
                         "test-multivm", lambda vm: None)
    assert not vm.error
    fast, slow = multivm.kept_mib(multivm.dataclasses.asdict(vm))
    assert (fast, slow) == (FAST_MIB / 4, SLOW_MIB / 4)
    # The kernel has the rest of 128 MiB, and of the buffer its head lies there.
    assert 0.4 < vm.fast["before"] < 0.8 and vm.hot["before"] == 0
    # The hot set is slow: most misses are.
    assert vm.misses[1] > vm.misses[0] > 0


ONE = [Sample(0, 100, 10), Sample(60, 200, 10), Sample(120, 100, 70),
       Sample(180, 100, 10)]


def test_area_is_gib_by_minutes():
    """A sample counts until the next one."""
    assert footprint.gib_min(ONE, "fast") == pytest.approx(400 / 1024)
    assert footprint.gib_min(ONE, "slow") == pytest.approx(90 / 1024)
    assert footprint.gib_min(ONE, "both") == pytest.approx(490 / 1024)


def test_guests_begin_one_after_the_other():
    """Their peaks do not coincide; each goes on as it began and ended."""
    three = footprint.together(ONE, 3, 180)
    assert [s.time_s for s in three] == [0, 60, 120, 180, 240, 300]
    assert [s.fast for s in three] == [300, 400, 400, 400, 300, 300]
    assert [s.slow for s in three] == [30, 30, 90, 90, 90, 30]
    assert footprint.together(ONE, 1, 180) == ONE


def test_footprint_of_each_device():
    """Curves, areas, peaks, and what failed."""
    jobs = footprint.footprint_jobs(False)
    made = {"samples": [list(s) for s in ONE], "begin": [0, 90],
            "end": [30, 121], "linux": "made up"}
    found = [(job, made) for job in jobs[:-1]] + [(jobs[-1],
                                                   {"error": "made up"})]
    rows = footprint.footprint_rows(found, False)
    own = {(r["metric"], r["device"], r["workload"]): r["value"] for r in rows
           if "time_s" not in r}
    assert own["peak_mib", "hballoon", "1 VM, both"] == 210
    assert own["end_mib", "none", "1 VM, fast"] == 100
    assert own["peak_mib", "none", "3 VMs, slow"] <= 3 * 70
    assert own["job_s", "none", "job 2"] == 31
    assert own["failed", "virtio_balloon", ""] == "made up"
    assert len(report.PLOTS["footprint"](rows)) == 6


def test_sources_compile(tmp_path):
    """Into a program that runs."""
    footprint.write_sources(tmp_path, 2)
    subprocess.run(["make", "-s", "-C", str(tmp_path)], check=True)
    subprocess.run([str(tmp_path / "program")], check=True)


def test_held_memory_is_what_the_host_has():
    """Of memfds as large as the nodes: blocks, not size."""
    fds = []
    try:
        for size_mib, written in ((footprint.FAST_MIB, 8),
                                  (footprint.SLOW_MIB, 24)):
            fds.append(os.memfd_create("node"))
            os.ftruncate(fds[-1], size_mib << 20)
            os.pwrite(fds[-1], bytes(written << 20), 1 << 20)
        memory = footprint.memory_of(os.getpid())
        assert footprint.held_mib(memory) == [8, 24]
    finally:
        for fd in fds:
            os.close(fd)


def test_reporting_gives_memory_back():
    """After a job the host has less than at its peak, and the job is repeated."""
    found = footprint.measure("hballoon", 1, 6, "test-footprint",
                              lambda text: None)
    assert not found.get("error")
    assert len(found["begin"]) == len(found["end"]) == 2
    both = [s.of("both") for s in found["samples"]]
    assert both[-1] < max(both) - 20
