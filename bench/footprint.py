# SPDX-License-Identifier: GPL-2.0
"""How much of a host's memory does a job hold that needs it now and then?

A guest compiles C twice, with a pause after each time, and the host's memory
behind each of its nodes is looked at at each tick of its clock. What the guest
has freed comes back by free page reporting, or it does not. bench/README.md says
what the metrics mean.
"""
import bisect
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence

from jobs import Experiment, Found, Job, Outcome, Row, failed
from policies import tiervm

MIB = 1 << 20
FAST_MIB, SLOW_MIB = 128, 512
NODES = ("fast", "slow", "both")
TICK_S = 0.25                         # of guest time, between two looks
TIMEOUT_S = 600                       # of host time, of one guest
VMS = 3

# Declarations make a compiler hold much memory for few instructions, as headers
# of real programs do.
DECLARATIONS = 8000
FUNCTIONS = 60                        # of a file
UNITS, FAST_UNITS = 3, 1              # files, compiled side by side
PERIOD_S, FAST_PERIOD_S = 20, 8      # of guest time, from job to job
BOOT_S = 15.0                         # of host time
UNIT_S = 10.0                         # to compile a file, of host time

# An idle guest's clock goes with the host's here, or the time would have gone by
# before the host has done what was asked of it; a busy one's by instructions.
MACHINE = {"fast": FAST_MIB, "slow": SLOW_MIB, "timing": "icount",
           "realtime": True, "memfd": True}
DEVICES: Dict[str, Dict[str, object]] = {
    "none": {},
    "hballoon": {"hballoon": "reporting=on"},
    "virtio_balloon": {"extra": [
        "-device", "virtio-balloon-pci,free-page-reporting=on"]},
}

# A job's files are in memory and go with it, clean page cache goes too: what is
# held then is held for nothing.
SCRIPT = """
set -e
now()
{
    read -r up rest < /proc/uptime
    echo "${up%.*}${up#*.}"
}
until_s() { while [ "$(now)" -lt $(($1 * 100)) ]; do sleep TICK; done; }
job()
{
    echo "begin $(cat /proc/uptime)"
    cp -r SOURCES /tmp/job
    make -s -C /tmp/job -j UNITS
    rm -r /tmp/job
    sync
    echo 3 > /proc/sys/vm/drop_caches
    echo "end $(cat /proc/uptime)"
}
echo "versions linux=$(uname -r)"
while true; do
    echo "tick $(cat /proc/uptime)"
    sleep TICK
done &
read -r up rest < /proc/uptime
start=$((${up%.*} + 1))
until_s $start
job
until_s $((start + PERIOD))
job
until_s $((start + 2 * PERIOD))
"""

MAKEFILE = """\
objects := $(patsubst %.c,%.o,$(wildcard *.c))
program: $(objects)
\tgcc -o $@ $^
%.o: %.c api.h
\tgcc -O1 -c -o $@ $<
"""


def declarations(count: int) -> str:
    """A header of so many types and functions."""
    return "".join(
        f"struct item{n} {{ int key{n}; long value{n}; "
        f"struct item{n} *next{n}; }};\n"
        f"enum state{n} {{ NEW{n}, USED{n}, GONE{n} }};\n"
        f"extern int item{n}_get(const struct item{n} *from, int key);\n"
        f"extern void item{n}_put(struct item{n} *to, enum state{n} state);\n"
        for n in range(count))


def functions(unit: int, count: int) -> str:
    """A file of so many functions; the first one has main()."""
    text = ['#include "api.h"\n']
    for n in range(count):
        item = f"item{(unit * count + n) % DECLARATIONS}"
        number = item[4:]
        text.append(
            f"long sum{unit}_{n}(const struct {item} *list)\n{{\n"
            "\tlong sum = 0;\n\n"
            f"\tfor (; list; list = list->next{number})\n"
            f"\t\tif (list->key{number} % {n + 2} != {n % 5})\n"
            f"\t\t\tsum += list->value{number} * {n + 1};\n"
            "\treturn sum;\n}\n")
    if not unit:
        text.append("int main(void)\n{\n\treturn sum0_0(0);\n}\n")
    return "\n".join(text)


def write_sources(folder: Path, units: int) -> None:
    """What the guest compiles."""
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "api.h").write_text(declarations(DECLARATIONS))
    for unit in range(units):
        (folder / f"unit{unit}.c").write_text(functions(unit, FUNCTIONS))


def memory_of(pid: int) -> List[Path]:
    """The files that are the memory of a guest's nodes."""
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        # Others come and go, such as those of 9p.
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(path).startswith("/memfd:"):
                found[path.stat().st_size] = path
    return [found[size * MIB] for size in (FAST_MIB, SLOW_MIB)]


def held_mib(memory: Sequence[Path]) -> List[float]:
    """What the host has of each node."""
    return [path.stat().st_blocks * 512 / MIB for path in memory]


class Sample(NamedTuple):
    """What the host had at a moment."""
    time_s: float                     # of the guest
    fast: float                       # MiB
    slow: float

    def of(self, node: str) -> float:
        """MiB of a node, or of both."""
        return self.fast + self.slow if node == "both" else getattr(self, node)


def measure(device: str, units: int, period_s: int, name: str,
            progress: Callable[[str], None]) -> Outcome:
    """A guest's samples, and when its jobs began and ended."""
    memory: List[Path] = []
    samples: List[Sample] = []
    found: Dict[str, object] = {"begin": [], "end": [], "linux": ""}

    def on_start(guest: tiervm.Session) -> None:
        memory.extend(memory_of(guest.pid))

    def on_line(line: str) -> None:
        kind, _, rest = line.partition(" ")
        if kind == "versions":
            found["linux"] = rest.partition("=")[2]
        elif kind in ("tick", "begin", "end"):
            time_s = float(rest.split()[0])
            samples.append(Sample(time_s, *held_mib(memory)))
            if kind != "tick":
                found[kind].append(time_s)
            progress(f"{time_s:.0f} of {2 * period_s} s")

    # Not in /tmp: the guest has its own there.
    folder = Path(tempfile.mkdtemp(prefix="footprint-", dir="/var/tmp"))
    try:
        write_sources(folder, units)
        script = SCRIPT
        for word, value in (("SOURCES", folder), ("UNITS", units),
                            ("PERIOD", period_s), ("TICK", TICK_S)):
            script = script.replace(word, str(value))
        result = tiervm.run(name, script,
                            tiervm.Machine(**MACHINE, **DEVICES[device]),
                            root="host", timeout=TIMEOUT_S, on_line=on_line,
                            on_start=on_start)
    finally:
        shutil.rmtree(folder)
    if result.error:
        return {"error": f"{result.error}; last said: "
                         f"{' / '.join(result.out[-3:])}"}
    if found["begin"][1] - found["begin"][0] > period_s + 1:
        return {"error": f"a job takes longer than {period_s} s"}
    first = found["begin"][0]
    samples = [s._replace(time_s=s.time_s - first) for s in samples]
    return {**found, "samples": sorted(samples)}


def shifted(samples: Sequence[Sample], by_s: float,
            times: Sequence[float]) -> List[Sample]:
    """What the same guest, begun later, would have held at some times.

    Before its first sample it holds what it held then, after the last one, too.
    """
    own = [s.time_s + by_s for s in samples]
    return [samples[max(0, bisect.bisect_right(own, time_s) - 1)]
            ._replace(time_s=time_s) for time_s in times]


def together(samples: Sequence[Sample], vms: int,
             period_s: float) -> List[Sample]:
    """The sum of so many guests whose jobs are as far apart as may be."""
    step_s = period_s / vms
    times = sorted({s.time_s + n * step_s for n in range(vms)
                    for s in samples})
    parts = [shifted(samples, n * step_s, times) for n in range(vms)]
    return [Sample(same[0].time_s, sum(s.fast for s in same),
                   sum(s.slow for s in same)) for same in zip(*parts)]


def gib_min(samples: Sequence[Sample], node: str) -> float:
    """Of a node, the area below the curve."""
    return sum((b.time_s - a.time_s) * a.of(node)
               for a, b in zip(samples, samples[1:])) / 1024 / 60


def rows_of(device: str, outcome: Outcome, period_s: float) -> List[Row]:
    """One guest's rows, and those of several like it."""
    one = [Sample(*s) for s in outcome["samples"]]
    rows = []
    for vms in (1, VMS):
        samples = one if vms == 1 else together(one, vms, period_s)
        for node in NODES:
            tags = {"device": device,
                    "workload": f"{vms} VM{'s' * (vms > 1)}, {node}"}
            figures = (("held_gib_min", gib_min(samples, node), "GiB min"),
                       ("peak_mib", max(s.of(node) for s in samples), "MiB"),
                       ("end_mib", samples[-1].of(node), "MiB"))
            rows += [{"metric": metric, **tags, "value": value, "unit": unit}
                     for metric, value, unit in figures]
            rows += [{"metric": "held_mib", **tags, "value": s.of(node),
                      "unit": "MiB", "time_s": s.time_s} for s in samples]
    seconds = [end - begin for begin, end in zip(outcome["begin"],
                                                 outcome["end"])]
    return rows + [{"metric": "job_s", "device": device, "value": value,
                    "workload": f"job {n}", "unit": "s"}
                   for n, value in enumerate(seconds, 1)]


def footprint_jobs(fast: bool) -> List[Job]:
    """A guest for each device."""
    units, period_s = ((FAST_UNITS, FAST_PERIOD_S) if fast
                       else (UNITS, PERIOD_S))

    def job(device: str) -> Job:
        def run(progress: Callable[[str], None]) -> Outcome:
            return measure(device, units, period_s,
                           f"bench-footprint-{device}", progress)

        return Job(f"footprint {device}",
                   {"footprint": device, "units": units, "period_s": period_s},
                   BOOT_S + 2 * (units * UNIT_S + period_s), run,
                   {"device": device, "workload": "", "period_s": period_s})

    return [job(device) for device in DEVICES]


def footprint_rows(found: Found, _fast: bool) -> List[Row]:
    """Figures of each device."""
    rows = []
    for job, outcome in found:
        if outcome.get("error"):
            rows.append(failed(job, outcome["error"]))
        else:
            rows += rows_of(job.tags["device"], outcome, job.tags["period_s"])
    return rows


EXPERIMENT = Experiment(
    "footprint", "what does a fluctuating job hold of the host's memory",
    footprint_jobs, footprint_rows, modelled=True)
