# SPDX-License-Identifier: GPL-2.0
"""The memory timing model: what it charges, counts, reports and refuses."""
import collections
import csv
import itertools
import re
import subprocess

import pytest
import tiervm
from conftest import guest_program
from qemu.machine import QEMUMachine
from qemu.qmp import ExecuteError

FAST_NS, SLOW_NS = (latency for latency, _ in tiervm.PROFILES["pmem"])
BARE = ("-nodefaults", "-display", "none", "-L", "/usr/share/seabios", "-L",
        "/usr/share/qemu")
FREE = "walk-ns=0,exception-ns=0,interrupt-ns=0"
# The buffer's share of the cache's 1 MiB: so many accesses hit all the same.
MIB = 32
HIT_SHARE = 1 / MIB


@pytest.fixture(scope="session")
def latency():
    """The latency program, as files= for a guest."""
    return {"/bin/latency": guest_program("latency")}


@pytest.fixture
def measure(guest, latency, tmp_path):
    """Run latency in a guest: (ns per access, the last row of the table)."""
    numbers = itertools.count()

    def run(kind, node, count, **machine):
        table = tmp_path / f"{next(numbers)}.csv"
        text = guest(f"latency {kind} {node} {MIB} {count}", files=latency,
                     csv=str(table), **machine).text
        return float(re.search(r"per=([\d.]+)", text)[1]), rows(table)[-1]
    return run


def rows(table):
    """The rows of a table of counters, as dictionaries."""
    with open(table, encoding="ascii", newline="") as file:
        return [{key: int(value) for key, value in row.items()}
                for row in csv.DictReader(file)]


def refused(*args, accel="tcg", icount="shift=0"):
    """What QEMU says to a memory-timing object it does not take."""
    clock = ["-icount", icount] if icount else []
    done = subprocess.run(
        [tiervm.Machine().qemu_path(), *BARE, "-S", "-monitor", "stdio",
         "-accel", accel, *clock, *args],
        input="quit\n", capture_output=True, text=True, timeout=60,
        check=False)
    assert done.returncode == 1, (args, done.stdout, done.stderr)
    return done.stderr


def model(props):
    """Arguments for a machine with one node and a model with `props`."""
    return ["-object", f"memory-timing,id=mt0,latency-ns=69{props}"]


@pytest.mark.parametrize("node, latency_ns", [(0, FAST_NS), (1, SLOW_NS)])
def test_chase_sees_the_latency(measure, node, latency_ns):
    """A dependent access costs its latency, less the share of hits."""
    per, _ = measure("chase", node, 1000000, timing_props=FREE)
    loop = 4                          # instructions of the loop, 1 ns each
    assert per == pytest.approx(latency_ns * (1 - HIT_SHARE) + loop, rel=0.05)


def test_walks_cost_extra(measure):
    """Nested paging makes a walk dearer, by as much as is declared."""
    native, table = measure("chase", 0, 1000000)
    nested, _ = measure("chase", 0, 1000000, timing_props="paging=nested")
    assert table["walk_ns"] == 30 * table["walks"]
    # 8192 pages do not fit the TLB's 2048 entries.
    assert nested - native == pytest.approx(0.75 * (88 - 30), rel=0.1)


@pytest.mark.parametrize("props", [FREE, ""], ids=["misses", "all-costs"])
def test_throughput_follows_from_the_counts(measure, props):
    """All-fast to all-slow throughput is (I + m*slow)/(I + m*fast).

    I instructions, m misses and walks of an update are the difference between
    two runs that differ in their number of updates.
    """
    count = 500000
    per, cost = {}, {}
    for node, latency_ns in ((0, FAST_NS), (1, SLOW_NS)):
        per[node], small = measure("update", node, count, timing_props=props)
        again, large = measure("update", node, 2 * count, timing_props=props)
        assert again == pytest.approx(per[node], rel=0.01)
        of = {key: (large[key] - small[key]) / count for key in large}
        misses = of[f"node{node}_misses"]
        assert misses == pytest.approx(1 - HIT_SHARE, rel=0.02)
        cost[node] = of["instructions"] + misses * latency_ns + of["walk_ns"]
    assert per[1] / per[0] == pytest.approx(cost[1] / cost[0], rel=0.05)
    assert per[0] == pytest.approx(cost[0], rel=0.05)


@pytest.mark.parametrize("smp", [1, 2])
def test_runs_are_identical(guest, latency, tmp_path, smp):
    """Two runs give the same console, counters and misses, byte for byte."""
    seen = []
    for run in "ab":
        files = [tmp_path / f"{run}.{kind}" for kind in ("csv", "truth")]
        result = guest("latency update 0 16 200000 &"
                       "latency update 1 16 200000; wait", files=latency,
                       smp=smp, csv=str(files[0]), csv_interval_ms=10,
                       truth=str(files[1]))
        seen.append((result.text, result.log_text,
                     *(file.read_bytes() for file in files)))
    assert "update ns=" in seen[0][0]
    assert all(len(part) > 100 for part in seen[0][1:])
    assert seen[0] == seen[1]


def test_table_adds_up(guest, latency, tmp_path):
    """Rows only grow, lie on the interval, and costs make up the time."""
    table, truth = tmp_path / "csv", tmp_path / "truth"
    guest("latency update 1 16 300000", files=latency, csv=str(table),
          csv_interval_ms=20, truth=str(truth))
    data = rows(table)
    assert len(data) > 10
    assert all(row["time_ns"] % 20000000 == 0 for row in data)
    for before, after in zip(data, data[1:]):
        assert all(after[key] >= before[key] for key in before)
    last = data[-1]
    assert last["node1_stall_ns"] == SLOW_NS * last["node1_misses"]
    assert last["node0_stall_ns"] == FAST_NS * last["node0_misses"]
    assert last["samples"] == last["sample_ns"] == 0
    paid = last["instructions"] + sum(
        last[key] for key in last if key.endswith("_ns") and key != "time_ns")
    # The rest is time in which the guest was idle.
    assert 0.5 * last["time_ns"] < paid <= last["time_ns"]

    with open(truth, encoding="ascii", newline="") as file:
        misses = list(csv.DictReader(file))
    assert sum(int(row["misses"]) for row in misses
               if row["node"] == "1") > 0.9 * 300000
    key = [(int(row["address_space"], 16), int(row["virtual_page"], 16),
            int(row["node"])) for row in misses]
    assert key == sorted(set(key))


def test_intervals_add_up(guest, latency, tmp_path):
    """Misses of each page by interval are those that the table has then."""
    table, truth = tmp_path / "csv", tmp_path / "truth"
    guest("latency update 1 16 300000", files=latency, csv=str(table),
          csv_interval_ms=20, truth=str(truth), truth_interval_ms=20)
    paged = collections.Counter()
    with open(truth, encoding="ascii", newline="") as file:
        for row in csv.DictReader(file):
            if row["node"] == "1":
                paged[int(row["time_ns"])] += int(row["misses"])
    last, busy = 0, 0
    for row in rows(table):
        counted, last = row["node1_misses"] - last, row["node1_misses"]
        assert paged[row["time_ns"]] <= counted
        # The rest are the kernel's, which clears pages, and before that boots.
        if paged[row["time_ns"]] > 50000:
            busy += 1
            assert paged[row["time_ns"]] > 0.65 * counted
    assert busy >= 2
    assert sum(paged.values()) > 0.9 * 300000


def test_monitor_reads_and_refuses():
    """QMP reads the counters of a machine and cannot change its model."""
    args = [*BARE, "-accel", "tcg", "-icount", "shift=0,sleep=off",
            "-boot", "reboot-timeout=1", *model("")]
    with QEMUMachine(tiervm.Machine().qemu_path(), args) as vm:
        vm.launch()
        assert vm.event_wait("RESET", timeout=60)
        get = {"path": "/objects/mt0", "property": "stats"}
        vm.cmd("stop")
        stats = vm.cmd("qom-get", get)
        assert stats == vm.cmd("qom-get", get)
        node, = stats["nodes"]
        assert node["latency-ns"] == 69
        assert node["stall-ns"] == 69 * node["misses"]
        assert 0 < stats["instructions"] <= stats["time-ns"]
        with pytest.raises(ExecuteError, match="'cache-ways' cannot change"):
            vm.cmd("qom-set", path="/objects/mt0", property="cache-ways",
                   value=4)
        with pytest.raises(ExecuteError, match="can not be deleted"):
            vm.cmd("object-del", id="mt0")


@pytest.mark.parametrize("props, message", [
    (",cache-ways=0", "'cache-ways' is 0"),
    (",cache-ways=65", "'cache-ways' is 65"),
    (",cache-size=0", "'cache-size' is 0"),
    (",cache-size=3M", "'cache-size' is 3145728"),
    (",cache-size=1000000", "'cache-size' is 1000000"),
    (",csv-interval-ms=0", "'csv-interval-ms' is 0"),
    (",csv=/nonexistent/a", "csv=/nonexistent/a: No such file"),
    (",truth=/nonexistent/b", "truth=/nonexistent/b: No such file"),
    (",latency-ns=177", "latency-ns has 2 value(s), but the machine has 1 "),
    (",paging=huge", "'huge'"),
    (",walk-ns=-1", "walk-ns"),
    (",sise=1M", "'sise'"),
])
def test_wrong_value_is_refused(props, message):
    """The error names the property and its value."""
    assert message in refused(*model(props))


def test_wrong_machine_is_refused():
    """The error says what the model needs."""
    assert "not '-icount off'" in refused(*model(""), icount=None)
    assert "not '-icount shift=auto'" in refused(*model(""), icount="auto")
    assert "TCG accelerator" in refused(*model(""), accel="qtest", icount=None)
    assert "node 0 has no latency" in refused("-object",
                                              "memory-timing,id=mt0")
    assert "only one memory-timing" in refused(
        *model(""), "-object", "memory-timing,id=mt1")


@pytest.mark.parametrize("size", ["100", "32", str(1 << 30), "-1"])
def test_wrong_tlb_size_is_refused(size):
    """Only powers of two within the supported range, or 0, are taken."""
    error = refused(accel=f"tcg,tlb-size={size}")
    assert "tlb-size" in error
    assert size in error or size == "-1"


def test_without_the_object_no_code_is_added(tmp_path):
    """Translated code calls the model only where there is one."""
    calls = {}
    for name, args in (("off", []), ("on", model(""))):
        ops = tmp_path / name
        # The firmware finds nothing to boot and resets: QEMU ends by itself.
        subprocess.run(
            [tiervm.Machine().qemu_path(), *BARE, "-no-reboot", "-boot",
             "reboot-timeout=1", "-accel", "tcg", "-icount",
             "shift=0,sleep=off", *args, "-d", "op", "-D", str(ops)],
            timeout=60, check=True)
        text = ops.read_text()
        assert text.count("qemu_ld") > 1000
        calls[name] = text.count("mem_access")
    assert calls["off"] == 0
    assert calls["on"] > 1000
