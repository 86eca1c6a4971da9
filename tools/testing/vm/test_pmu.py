# SPDX-License-Identifier: GPL-2.0
"""The emulated performance counters and PEBS, against known accesses."""
import fcntl
import json
import os
import re
import resource
import subprocess

import pytest
import tiervm
from conftest import GO_ON, guest_program, move_away

FAST_NS, SLOW_NS = (latency for latency, _ in tiervm.PROFILES["pmem"])
# Linux lowers the rate of samples when emulated interrupts take long.
NO_LIMIT = "echo 0 > /proc/sys/kernel/perf_cpu_time_max_percent\n"
CONFIG = ("0x20d1", "0x1d3", "0x2d3", "0x80d1", "0x1cd", "0x412e")
PATTERNS = ("uniform", "hot-eighth", "sequential", "slope", "phases")


@pytest.fixture(scope="session")
def program():
    """The host's path of the program pmu."""
    return guest_program("pmu")


@pytest.fixture
def pmu(guest, program):
    """Run commands in a guest with a PMU: its Result."""
    def run(*commands, **machine):
        return guest(NO_LIMIT + "set -e\n" + "\n".join(commands),
                     files={"/bin/pmu": program}, pmu=True, **machine)
    return run


def record(metric, workload, value, unit):
    """Put a measured figure into build/results/pebs.json, where others stay.

    Tests run side by side: each takes the file for itself.
    """
    path = tiervm.BUILD / "results" / "pebs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        old = json.loads(file.read() or "{}").get("rows", [])
        rows = [row for row in old
                if (row["metric"], row["workload"]) != (metric, workload)]
        rows.append({"metric": metric, "device": "pmu", "workload": workload,
                     "value": value, "unit": unit})
        version = subprocess.run(
            [tiervm.Machine().qemu_path(), "--version"], check=True,
            capture_output=True, text=True).stdout.splitlines()[0]
        file.truncate(0)
        json.dump({"experiment": "pebs", "versions": {"qemu": version},
                   "command": "pytest tools/testing/vm/test_pmu.py",
                   "rows": rows}, file, indent=1)


def numbers(line):
    """The key=value pairs of a line."""
    return {key: int(value, 16 if key == "digest" else 10)
            for key, value in re.findall(r"(\w+)=([0-9a-f]+)", line)}


def tvd(accesses, sampled):
    """Total variation distance of two histograms, lines of pmu sample."""
    bins = [[int(word) for word in line.split()[1:]]
            for line in (accesses, sampled)]
    return sum(abs(a / sum(bins[0]) - s / sum(bins[1]))
               for a, s in zip(*bins)) / 2


@pytest.mark.parametrize("timing", ["model", "off"])
def test_linux_drives_it(pmu, timing):
    """Linux finds Ice Lake's PMU; registers are as the manual has them."""
    result = pmu("pmu msr", timing=timing)
    # In the order of the version.
    for word in ("PEBS fmt4+-baseline, ", "Icelake events, ",
                 "AnyThread deprecated, ",
                 "full-width counters, Intel PMU driver"):
        assert word in result.log_text
    assert numbers(result.out[-1])["bad"] == 0
    assert numbers(result.out[-1])["registers"] > 30


def test_registers_without_linux(tmp_path):
    """A firmware's reads and writes: values, faults, and what a reset leaves."""
    # qtest wants a name that ends with the architecture.
    wrapper = tmp_path / "qemu-system-x86_64"
    wrapper.symlink_to(tiervm.Machine().qemu_path())
    done = subprocess.run([tiervm.BUILD / "qemu/tests/qtest/tcg-pmu-test"],
                          env={**os.environ, "QTEST_QEMU_BINARY": str(wrapper)},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert len(re.findall("^ok .*/tcg-pmu/", done.stdout, re.M)) == 3


@pytest.mark.parametrize("timing", ["model", "icount", "off"])
def test_records_are_as_the_manual_has_them(pmu, timing):
    """Each group of a record, word by word; a full buffer takes no more."""
    # The buffer is a program's: the CPU writes to it with the kernel's rights.
    out = pmu("pmu records", timing=timing, append="clearcpuid=smap").out
    assert numbers(out[-1]) == {"records": 6, "bad": 0}


def test_absent_by_default(guest):
    """Without pmu=on there is none."""
    assert "no PMU driver" in guest("true", timing="off").log_text


KINDS = ("load", "store", "atomic-load", "atomic-store", "exchange-load",
         "exchange-store", "string-load", "string-store")


@pytest.mark.parametrize("timing, smp", [("model", 1), ("off", 2)])
def test_accesses_are_counted_exactly(pmu, timing, smp):
    """One per access, one each for an atomic's two, a string's by the line."""
    small, large = 1000, 9000
    out = pmu(*(f"pmu count {kind} {n}" for kind in KINDS
                for n in (small, large)), timing=timing, smp=smp).out
    counts = [numbers(line)["count"] for line in out]
    assert len(counts) == 2 * len(KINDS)
    record("count_error", f"accesses {timing}",
           sum(abs(many - few - (large - small))
               for few, many in zip(counts[::2], counts[1::2])), "accesses")
    for kind, few, many in zip(KINDS, counts[::2], counts[1::2]):
        assert many - few == large - small, kind
        assert few - small < 20, kind   # what enabling and disabling takes


def test_time_is_counted_exactly(pmu):
    """An instruction is a cycle, and a miss costs its latency in cycles."""
    n = 100000
    out = pmu(*(f"pmu count {kind} {times * n}" for times in (1, 3)
                for kind in ("instruction", "cycle"))).out
    instructions, cycles, more, more_cycles = (
        numbers(line)["count"] for line in out)
    assert more - instructions == 2 * 3 * n     # 3 instructions a turn
    assert more_cycles - cycles == 2 * 3 * n


def test_user_and_kernel_add_up(pmu):
    """Counters of user, of kernel and of both, which count at once."""
    events = ("0x81d0", "0x82d0", "0x20d1", "0x412e", "0xc0", "0x3c")
    out = pmu(*(f"pmu sum {event}" for event in events)).out
    assert len(out) == len(events)
    for line in out:
        count = numbers(line)
        assert count["user"] + count["kernel"] == count["both"], line
        assert count["kernel"] > 1000, line


def test_misses_are_counted_exactly(pmu):
    """Passes over four times the cache miss with each line of each pass."""
    out = pmu(*(f"pmu miss {event} {node} {passes}" for event in CONFIG
                for node in (0, 1) for passes in (1, 3))).out
    count = [numbers(line) for line in out]
    lines = 2 * count[0]["lines"]
    seen = [many["count"] - few["count"]
            for few, many in zip(count[::2], count[1::2])]
    both, fast, slow = [lines, lines], [lines, 0], [0, lines]
    want = both + fast + slow + slow + both + both
    record("count_error", "misses",
           sum(abs(a - b) for a, b in zip(seen, want)), "misses")
    assert seen == want


def test_sampled_addresses_are_those_accessed(pmu):
    """Histograms of samples and of all accesses differ by chance alone."""
    period, samples = 101, 20000
    runs = [f"load {pattern}" for pattern in PATTERNS] + ["store uniform",
                                                          "store slope"]
    out = pmu(*(f"pmu sample {run} {period} {samples}" for run in runs)).out
    assert len(out) == 4 * len(runs)
    for run, accesses, sampled, tally, more in zip(
            runs, out[::4], out[1::4], out[2::4], out[3::4]):
        record("tvd_max", run, tvd(accesses, sampled), "share")
        assert tvd(accesses, sampled) <= 0.02, run
        tally, more = numbers(tally), numbers(more)
        assert tally["samples"] == tally["expected"] == samples, run
        assert tally["lost"] == tally["throttled"] == 0, run
        assert more["wrong_pid"] == more["backwards"] == 0, run
        assert more["elsewhere"] < 10, run


def test_latency_and_source(pmu):
    """A sample says what its load cost and where it went."""
    out = pmu("pmu latency 0 3 50000", "pmu latency 1 3 50000",
              f"pmu latency 1 {SLOW_NS - 1} 50000",
              f"pmu latency 1 {SLOW_NS} 50000").out
    fast, slow, just, over = (numbers(line) for line in out)
    load, ram, pmem = 2, 13, 14         # of perf_event.h
    assert fast["samples"] == slow["samples"] == just["samples"] == 495
    assert fast["others"] == slow["others"] == 0
    assert (fast["op"], fast["level"], fast["weight"]) == (load, ram, FAST_NS)
    assert (slow["op"], slow["level"], slow["weight"]) == (load, pmem, SLOW_NS)
    assert over["samples"] == 0


def test_time_is_sampled(pmu):
    """Each overflow of a counter of time interrupts."""
    out = pmu("pmu clock cycle 100003 50",
              "pmu clock instruction 100003 50").out
    for line in out:
        tally = numbers(line)
        assert tally["samples"] == tally["expected"] >= 50
        assert tally["lost"] == 0


def test_host_time_is_sampled(pmu):
    """Without icount a counter of time interrupts, if not to the instant."""
    tally = numbers(pmu("pmu clock cycle 1000003 100", timing="off").out[0])
    assert 10 <= tally["samples"] <= tally["expected"]
    assert tally["lost"] == 0


def attributed(workload, out, samples):
    """Check what pmu pair printed: nothing lost, nothing in a wrong place."""
    tallies = [numbers(line) for line in out[:2]]
    record("records_lost", workload, sum(
        max(0, tally["expected"] - tally["samples"]) for tally in tallies),
        "records")
    record("records_misattributed", workload, numbers(out[2])["wrong"],
           "records")
    for tally in tallies:
        assert abs(tally["samples"] - tally["expected"]) <= 1
        assert tally["lost"] == tally["throttled"] == 0
    owners = numbers(out[2])
    assert owners["wrong"] == 0
    assert owners["right"] >= 0.99 * samples


@pytest.mark.parametrize("append", ["", "pti=on"], ids=["plain", "pti"])
@pytest.mark.parametrize("timing, smp", [("model", 1), ("off", 2)])
def test_samples_belong_to_their_process(pmu, timing, smp, append):
    """Two busy processes on a CPU: no record is lost or given to the other."""
    attributed(f"20000 {timing} {append}".strip(),
               pmu("pmu pair 101 20000", timing=timing, smp=smp,
                   append=append).out, 20000)


def test_a_million_samples_belong_to_their_process(pmu):
    """The same, for long."""
    attributed("1000000 icount",
               pmu("pmu pair 53 1000000", timing="icount", fast=768,
                   timeout=900).out, 1000000)


def test_storm(pmu, request, debug):
    """All CPUs sampled densely while processes come and go: no complaint."""
    seconds = 10
    if debug:
        seconds = 1800 if request.config.getoption("--long") else 180
    out = pmu(f"pmu storm 199 {seconds}", debug=debug, timing="off", smp=4,
              timeout=seconds + 300).out
    assert len(out) == 4
    for line in out:
        tally = numbers(line)
        assert tally["count"] > 1000000, line
        assert tally["samples"] > 1000, line


def test_runs_are_identical(pmu):
    """Two runs agree in each address, instruction and time of each sample."""
    commands = ("pmu sample load hot-eighth 199 5000", "pmu pair 53 20000",
                "pmu clock instruction 50021 20")
    first, second = pmu(*commands, smp=2), pmu(*commands, smp=2)
    assert "digest=" in first.text
    assert first.text == second.text
    assert first.log_text == second.log_text


def test_samples_cost_what_the_model_says(pmu, tmp_path):
    """sample-ns is charged for each record."""
    table = tmp_path / "csv"
    pmu("pmu sample load sequential 101 3000", csv=str(table))
    header, *rows = table.read_text(encoding="ascii").splitlines()
    last = dict(zip(header.split(","), map(int, rows[-1].split(","))))
    assert 3000 <= last["samples"] < 3010
    assert last["sample_ns"] == 250 * last["samples"]


@pytest.fixture
def updates_per_second(guest, program):
    """Measure random updates per second of QEMU's host CPU time."""
    def cpu_seconds(count, sampling, machine):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        guest(NO_LIMIT + f"pmu update {count} {sampling}",
              files={"/bin/pmu": program}, timeout=600, **machine)
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    def measure(sampling="", count=60000000, **machine):
        few, many = (cpu_seconds(n, sampling, machine)
                     for n in (count // 10, count))
        return (count - count // 10) / (many - few)
    return measure


def test_sampling_is_quick(updates_per_second):
    """An idle PMU costs nothing, sampling little, also with the model."""
    off = updates_per_second(timing="icount")
    idle = updates_per_second(timing="icount", pmu=True)
    loads = updates_per_second("0x81d0 4093", timing="icount", pmu=True)
    record("idle_rel", "random updates", idle / off, "ratio")
    record("sampling_rel", "random updates", loads / off, "ratio")
    # The aims are 0.97 and 0.85; other work on the host disturbs.
    assert idle / off > 0.9
    assert loads / off > 0.75


@pytest.mark.parametrize("entries, least", [(2048, 2e6), (16384, 5e6)])
def test_model_is_quick(updates_per_second, entries, least):
    """Misses sampled, with a TLB that misses most pages and with one that holds
    all: of the former most is the walk of page tables, model or not. The aim is
    10 M/s with the latter.
    """
    model = updates_per_second("0x20d1 4093", timing="model", pmu=True,
                               tlb_size=entries)
    record("model_mups", f"random updates, TLB of {entries}", model / 1e6,
           "M/s")
    assert model > least


def test_bad_debug_store_disables_sampling(pmu, tmp_path):
    """Records that have no place to go end PEBS, and are told of once."""
    log = tmp_path / "qemu.log"
    result = pmu("pmu unmapped", "pmu unmapped", "echo alive",
                 extra=["-d", "guest_errors", "-D", str(log)])
    assert result.out == ["pebs_enable=0", "pebs_enable=0", "alive"]
    assert log.read_text().count("PEBS disabled") == 1


@pytest.mark.parametrize("timing", ["model", "icount", "off"])
def test_migration_keeps_it(pmu, tmp_path, timing):
    """Registers and what is being counted come along."""
    state, control = tmp_path / "state", tmp_path / "qmp"

    def watch(line):
        if line == "ready":
            move_away(control, state, stop=True)
    pmu("pmu hold 3", timing=timing, realtime=True, check=False, on_line=watch,
        extra=[*GO_ON, "-qmp", f"unix:{control},server=on,wait=off"])
    out = pmu("", timing=timing, realtime=True,
              extra=[*GO_ON, "-incoming", f"file:{state}"]).out
    after = numbers(out[-1])
    assert after["kept"] > 10 and after["bad"] == 0
    assert 2000 <= after["count"] < 4000    # and loads of other user code


def test_reset_clears_it(program):
    """A reboot finds registers as the first boot did."""
    machine = tiervm.Machine(pmu=True, timing="off",
                             extra=["-action", "reboot=reset"])
    with tiervm.session("pmu-reset", machine,
                        files={"/bin/pmu": program}) as vm:
        assert vm.sh("pmu dirty; pmu dirty").splitlines() == ["old=0", "old=1"]
        vm.start("reboot -f")
        vm.wait()
        assert vm.sh("pmu dirty").splitlines() == ["old=0"]


@pytest.mark.parametrize("timing", ["model", "off"])
def test_cpu_goes_and_comes(pmu, timing):
    """A CPU that was off counts and samples as before."""
    switch = "> /sys/devices/system/cpu/cpu1/online"
    both = ("taskset -c 1 pmu count load 1000", "taskset -c 1 pmu count load "
            "9000", "taskset -c 1 pmu sample load uniform 101 1000 | tail -n 2")
    out = pmu(*both, f"echo 0 {switch}", f"echo 1 {switch}", *both,
              timing=timing, smp=2).out
    assert len(out) == 8
    for few, many, tally, more in (map(numbers, out[:4]),
                                   map(numbers, out[4:])):
        assert many["count"] - few["count"] == 8000
        assert tally["samples"] == tally["expected"] == 1000
        assert more["wrong_pid"] == more["elsewhere"] == 0


def test_cpu_is_plugged(program):
    """QEMU gives a CPU that is added a unit of its own.

    Linux takes TCG for bare metal, where no CPU is added: it does not use it.
    """
    machine = tiervm.Machine(pmu=True, timing="off", smp=2,
                             extra=["-smp", "1,maxcpus=2,sockets=2"])
    with tiervm.session("plugged-cpu", machine,
                        files={"/bin/pmu": program}) as vm:
        place = next(cpu for cpu in vm.qmp("query-hotpluggable-cpus")
                     if "qom-path" not in cpu)
        vm.qmp("device_add", driver=place["type"], id="plugged",
               **place["props"])
        assert len(vm.qmp("query-cpus-fast")) == 2
        few, many = (numbers(line)["count"] for line in vm.sh(
            "pmu count load 1000; pmu count load 9000").splitlines())
        assert many - few == 8000


def test_perf_of_debian(guest, program):
    """perf stat, perf record -d and perf mem record, as a user has them."""
    script = NO_LIMIT + """set -e
cd /tmp
perf stat -x, -o stat -e cycles:u,instructions:u pmu count load 1000000
cat stat
perf record -q -d -c 1009 -e cpu/event=0xd0,umask=0x81/upp \
    -o data pmu count load 1009000
perf script -i data -F comm,addr | sort | uniq -c | sort -n | tail -n 1
perf mem record -o mem pmu miss 0x20d1 1 1 > /dev/null 2>&1
perf mem report -i mem --stdio --sort mem 2> /dev/null | grep -i pmem
"""
    out = guest(script, files={"/usr/bin/pmu": program}, root="host",
                pmu=True, timeout=600).out
    stat = {line.split(",")[2]: int(line.split(",")[0])
            for line in out if re.match(r"\d+,", line)}
    assert stat["instructions:u"] > 3000000
    assert stat["cycles:u"] >= stat["instructions:u"]
    assert any(re.match(r"\s*(999|1000)\s+pmu", line) for line in out), out
    assert "pmem" in out[-1].lower()
