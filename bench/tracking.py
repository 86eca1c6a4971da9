# SPDX-License-Identifier: GPL-2.0
"""What does it cost to learn of an access, and how much is learnt by it?

GUPS has a hot page here and there, and runs once for each method, and once
without: what it takes longer is what the method's samples cost. Nothing is
moved meanwhile. What a method has seen of each page is held against the timing
model's exact misses. bench/README.md says what each figure means.
"""
import base64
import dataclasses
import gzip
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import cost
import numpy
import placement
from policies import Outcome, tiervm

Figure = Tuple[str, float, str]       # metric, value, unit

WORKLOAD = "zipf_scattered"
SIZE_MIB = 128
ROUNDS = 16
HOTTEST = 0.1                         # of the pages
TRACKER = tiervm.BUILD / "bench" / "tracker"

# All of the buffer fast, with some slow memory so that HPlacement is at work;
# or all of it slow, as NUMA balancing leaves the fast node's pages alone.
FAST = {"fast": 512, "slow": 64}
SLOW = {"fast": 128, "slow": 512}
TWO_CPUS = {**FAST, "smp": 2}
FILL_FAST = """
free=$(awk '$1 == "nr_free_pages" { print $2 }' \\
    /sys/devices/system/node/node0/vmstat)
dd if=/dev/zero of=/tmp/filler bs=1M count=$((free / 256 + 8)) 2> /dev/null
"""

# As policies.py has it, but a page is never hot enough to be promoted, and the
# pace is one of about a percent of the CPU.
HINT_FAULTS = """
tune=/sys/kernel/debug/sched/numa_balancing
echo 0 > $tune/hot_threshold_ms
echo 4 > $tune/scan_size_mb
echo 6000 > $tune/scan_period_min_ms
echo 6000 > $tune/scan_period_max_ms
echo 2 > /proc/sys/kernel/numa_balancing
"""
TRACE_FAULTS = """
cd /sys/kernel/tracing
echo 32768 > buffer_size_kb
echo 'p:scan change_prot_numa start=%si end=%dx' > kprobe_events
echo 1 > events/kprobes/scan/enable
echo 1 > events/exceptions/page_fault_user/enable
"""
TRACED_FAULTS = """
cd /sys/kernel/tracing
echo 0 > tracing_on
grep -q "entries-in-buffer/entries-written: \\([0-9]*\\)/\\1 " trace
cp trace /tmp/trace
tracker faults $(pidof gups) /tmp/trace
"""

# Bound to CPU 0, and left alone.
ALONE = "tracker none $(pidof gups) > /dev/null\n"


def tracker(words: str) -> str:
    """A script that starts it, and returns when it is at work."""
    return f"""
tracker {words.replace("PID", "$(pidof gups)")} > /tmp/found 2>&1 &
echo $! > /tmp/tracker
until grep -q ready /tmp/found; do
    kill -0 $(cat /tmp/tracker)
    sleep 0.01
done
"""


# It ends with this line.
TRACKED = """
kill -TERM $(cat /tmp/tracker)
until grep -q ^end /tmp/found; do
    kill -0 $(cat /tmp/tracker) || break
    sleep 0.01
done
cat /tmp/found
"""


class Method(NamedTuple):
    """A way to learn of accesses."""
    name: str
    start: str = ""                   # shell, once the buffer is filled
    end: str = ""                     # and after the rounds
    machine: Dict[str, int] = FAST
    samples: Tuple[str, ...] = ()     # counters of /proc/vmstat; else printed
    counted_ns: Tuple[str, ...] = ()  # the kernel's own account of CPU time
    base: str = "none"                # held against this one
    sees: bool = False                # is asked what it has seen
    timed: bool = True                # all that is lost is for samples


def hplacement(source: str) -> str:
    """A script that switches HPlacement on."""
    return (ALONE + f"echo {source} > {cost.KNOBS}/sample_source\n{cost.ON}\n")


# Looks at page tables are no samples, but count in hpl_sample_ns.
TRACE_PEBS = """
cd /sys/kernel/tracing
echo 4096 > buffer_size_kb
echo 1 > events/tiering_range/hpl_sample_pebs/enable
"""
TRACED_PEBS = f"""
{cost.OFF}
cd /sys/kernel/tracing
grep -q "entries-in-buffer/entries-written: \\([0-9]*\\)/\\1 " trace
sed -n 's/.* hpl_sample_pebs: .*samples=\\([0-9]*\\) .*ns=/\\1 /p' trace |
    awk '{{ samples += $1; ns += $2 }}
         END {{ print "samples", samples + 0; print "counted", ns + 0 }}'
"""

METHODS = [
    Method("none", ALONE),
    Method("none_slow", ALONE, machine=SLOW),
    Method("none_two_cpus", ALONE, machine=TWO_CPUS),
    Method("pebs", tracker("pebs PID"), TRACKED, sees=True),
    Method("pebs_hplacement", TRACE_PEBS + hplacement("pebs"), TRACED_PEBS,
           timed=False),
    Method("abit", tracker("abit PID 1"), TRACKED, machine=TWO_CPUS,
           base="none_two_cpus", sees=True),
    Method("abit_flush", tracker("abit PID 0"), TRACKED, sees=True),
    Method("abit_flush_hplacement", hplacement("abit"), cost.OFF,
           samples=("hpl_sample_abit",), counted_ns=("hpl_sample_ns",)),
    Method("hint_fault", ALONE + HINT_FAULTS, machine=SLOW, base="none_slow",
           samples=("tier_hint_fault_nr",),
           counted_ns=("tier_hint_scan_ns", "tier_hint_fault_ns")),
    # Tracing costs: what is seen in this guest is not what samples cost.
    Method("hint_fault_traced", ALONE + TRACE_FAULTS + HINT_FAULTS,
           TRACED_FAULTS, machine=SLOW, base="none_slow", sees=True,
           timed=False),
]
FAST_METHODS = ("none", "none_slow", "pebs", "abit_flush", "hint_fault")


@dataclasses.dataclass
class Seen(Outcome):
    """What a method has found; what there is to know if it failed."""
    samples: int = 0
    counted_ns: int = 0
    recall: Optional[float] = None
    correlation: Optional[float] = None
    mapping: int = 0                  # address of the first of `pages`
    pages: str = ""                   # base64, as tracker prints them

    def take(self, line: str) -> None:
        """Read one line of the guest's output."""
        kind, _, rest = line.partition(" ")
        if kind == "samples":
            self.samples = int(rest)
        elif kind == "counted":
            self.counted_ns = int(rest)
        elif kind == "mapping":
            self.mapping = int(rest, 16)
        elif kind == "pages":
            self.pages += rest
        else:
            super().take(line)

    def seconds(self) -> float:
        """Guest time of the rounds."""
        return sum(r["seconds"] for r in self.rounds)


def heat(pages: bytes) -> numpy.ndarray:
    """Of each page: how often it was seen, of the looks or the time it had.

    What has not been looked at is taken for a page like any other.
    """
    hits, exposed = numpy.frombuffer(pages, "<u4").reshape(-1, 2).T
    known = exposed > 0
    rate = numpy.zeros(len(hits))
    rate[known] = hits[known] / exposed[known]
    rate[~known] = rate[known].mean() if known.any() else 0
    return rate


def ranks(values: Sequence[float]) -> numpy.ndarray:
    """The rank of each value; of equal ones the mean of theirs."""
    _, where, counts = numpy.unique(values, return_inverse=True,
                                    return_counts=True)
    ends = numpy.cumsum(counts)
    return (ends - (counts - 1) / 2)[where]


def correlation(seen: Sequence[float], exact: Sequence[float]) -> float:
    """Spearman's, of ranks; 0 if all were seen alike."""
    own = ranks(seen)
    if own.min() == own.max():
        return 0.0
    return float(numpy.corrcoef(own, ranks(exact))[0, 1])


def recall(seen: Sequence[float], exact: Sequence[int], share: float) -> float:
    """Of the hottest pages, those that would be taken for it.

    Among pages that were seen alike, chance would choose: so many of the
    hottest as there are on average.
    """
    seen, exact = numpy.asarray(seen), numpy.asarray(exact)
    count = max(1, round(len(exact) * share))
    hot = numpy.zeros(len(exact), bool)
    hot[placement.best_pages(exact, count)] = True
    edge = numpy.sort(seen)[-count]
    above, level = seen > edge, seen == edge
    room = count - above.sum()
    found = hot[above].sum() + hot[level].sum() * room / level.sum()
    return float(found / count)


def judge(seen: Seen, truth: Path) -> None:
    """Hold what was seen of each page against its misses in that time."""
    stamps = placement.stamps_of(seen)
    first = int(seen.facts["buffer"]["address"], 16) >> 12
    pages = int(seen.facts["buffer"]["pages"])
    with open(truth, "rb") as table:
        intervals, spaces = placement.read_misses(table, first, pages,
                                                  stamps[0], stamps[-1])
    if spaces != 1:
        raise tiervm.GuestError(f"the buffer is in {spaces} address spaces")
    rate = heat(gzip.decompress(base64.b64decode(seen.pages)))
    # The buffer may be a part of a mapping.
    skip = first - (seen.mapping >> 12)
    rate = rate[skip:skip + pages]
    exact = sum(i.all for i in intervals)
    seen.recall = recall(rate, exact, HOTTEST)
    seen.correlation = correlation(rate, exact)
    seen.pages = ""


def measure(method: Method, rounds: int = ROUNDS) -> Seen:
    """Run a method in a guest of its own; raises GuestError."""
    seen = Seen(method.name, WORKLOAD)
    script = cost.counted(f"--pattern zipf-scattered --size {SIZE_MIB} "
                          f"--rounds {rounds}", method.start, method.end)
    if method.machine is SLOW:
        script = FILL_FAST + script
    with tempfile.TemporaryDirectory(prefix="tracking-") as scratch:
        truth = Path(scratch) / "truth"
        machine = dict(method.machine)
        if method.sees:
            machine.update(truth=str(truth),
                           truth_interval_ms=placement.TRUTH_MS)
        for line in cost.guest(f"tracking-{method.name}", script, seen,
                               files=[TRACKER], pmu=True, **machine):
            seen.take(line)
        if len(seen.rounds) != rounds:
            raise tiervm.GuestError(f"only {len(seen.rounds)} of {rounds} "
                                    "rounds")
        if method.sees:
            judge(seen, truth)
    if method.samples:
        seen.samples = seen.grown(*method.samples)
        seen.counted_ns = seen.grown(*method.counted_ns)
        if not seen.samples:
            raise tiervm.GuestError(f"{' + '.join(method.samples)} of "
                                    "/proc/vmstat did not grow")
    return seen


def figures(method: Method, seen: Seen, base: Optional[Seen]) -> List[Figure]:
    """What a method's samples cost, and what they tell."""
    out: List[Figure] = []
    if method.timed and base and seen.samples:
        lost = seen.seconds() - base.seconds()
        out += [("sample_ns", lost * 1e9 / seen.samples, "ns"),
                ("samples_per_s", seen.samples / seen.seconds(), "1/s"),
                ("slowdown_pct", 100 * lost / base.seconds(), "%")]
    elif seen.counted_ns:
        out.append(("samples_per_s", seen.samples / seen.seconds(), "1/s"))
    if seen.counted_ns and seen.samples:
        out.append(("counted_ns", seen.counted_ns / seen.samples, "ns"))
    if seen.recall is not None:
        out += [("recall_hottest", seen.recall, "1"),
                ("rank_correlation", seen.correlation, "1")]
    return out
