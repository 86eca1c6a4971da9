# SPDX-License-Identifier: GPL-2.0
"""Ways to place memory, and GUPS run in a guest under one of them.

What demo.py and placement.py share. bench/README.md tells of the policies.
"""
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tools" / "tiering"))
import tiervm  # noqa: E402

SIZE_MIB = 384
UPDATES = 1000000                     # a round
TIMEOUT = 900                         # host seconds of one guest, if it hangs

# Watermark boosting keeps kswapd from demoting: boosted, it may not touch
# anonymous memory, gives up after 16 vain attempts, and from then on nothing
# is promoted either. A hot page is touched every few milliseconds, but its
# hint fault waits for those of the pages unmapped with it: hence few at a time.
NUMA_BALANCING = """
echo 0 > /proc/sys/vm/watermark_boost_factor
echo 100 > /proc/sys/vm/watermark_scale_factor
tune=/sys/kernel/debug/sched/numa_balancing
[ -d $tune ] || fail "this kernel has no $tune: it needs CONFIG_SCHED_DEBUG"
echo 15 > $tune/hot_threshold_ms
echo 16 > $tune/scan_size_mb
echo 400 > $tune/scan_period_min_ms
echo 1000 > $tune/scan_period_max_ms
echo 2 > /proc/sys/kernel/numa_balancing
echo 1 > /sys/kernel/mm/numa/demotion_enabled
"""

# One kdamond a node: the slow one's promotes what is hot, the fast one's makes
# room by demoting what is cold. Ten samples 20 ms apart tell pages touched
# every few milliseconds from those touched every few hundred; with 5 ms and up to
# 1000 regions DAMON took most of the CPU and moved pages to and fro.
DAMON = """
admin=/sys/kernel/mm/damon/admin/kdamonds
[ -d $admin ] || fail "this kernel has no DAMON: $admin is missing"

# The physical memory of a node as "start end" in bytes.
node_memory()
{
    awk -v want="$1" '
        /^Node/ { node = $2 + 0 }
        /spanned/ { pages = $2 }
        /start_pfn:/ && node == want && pages > 0 {
            if (!found || $2 < low) low = $2
            if ($2 + pages > high) high = $2 + pages
            found = 1
        }
        END { printf "%.0f %.0f\\n", low * 4096, high * 4096 }' /proc/zoneinfo
}

# number node action target min_accesses max_accesses min_age max_age; ages in
# aggregation intervals, accesses in samples of one interval
kdamond()
{
    cd $admin/$1/contexts
    echo 1 > nr_contexts
    cd 0
    echo paddr > operations
    echo 20000 > monitoring_attrs/intervals/sample_us
    echo 200000 > monitoring_attrs/intervals/aggr_us
    echo 1000000 > monitoring_attrs/intervals/update_us
    echo 50 > monitoring_attrs/nr_regions/min
    echo 300 > monitoring_attrs/nr_regions/max
    echo 1 > targets/nr_targets
    echo 1 > targets/0/regions/nr_regions
    range=$(node_memory "$2")
    echo "${range% *}" > targets/0/regions/0/start
    echo "${range#* }" > targets/0/regions/0/end
    echo 1 > schemes/nr_schemes
    cd schemes/0
    echo "$3" > action
    echo "$4" > target_nid
    echo 4096 > access_pattern/sz/min
    echo 1099511627776 > access_pattern/sz/max
    echo "$5" > access_pattern/nr_accesses/min
    echo "$6" > access_pattern/nr_accesses/max
    echo "$7" > access_pattern/age/min
    echo "$8" > access_pattern/age/max
    echo $((32 << 20)) > quotas/bytes
    echo 1000 > quotas/reset_interval_ms
}

echo 2 > $admin/nr_kdamonds
kdamond 0 0 migrate_cold 1 0 1 2 1000000
kdamond 1 1 migrate_hot 0 5 1000 0 1000000
echo on > $admin/0/state
echo on > $admin/1/state
"""

HPLACEMENT = """
switch=/sys/kernel/mm/hplacement/enabled
[ -e $switch ] || fail "this kernel has no HPLACEMENT: $switch is missing"
[ -z "SOURCE" ] || echo "SOURCE" > ${switch%/*}/sample_source
echo 1 > $switch
"""


@dataclasses.dataclass
class Policy:
    """One way to place memory."""
    name: str
    setup: str = ""                   # shell, run once the buffer is filled
    fast: int = 256                   # MiB
    slow: int = 768
    source: str = ""                  # of HPlacement's samples; "": auto
    gups: str = ""                    # more arguments of the program
    # The fast tier, after two thirds of fewer rounds: the hot set is fast long
    # before, and the demo is not to last longer for it.
    halve: bool = False

    def rounds(self, rounds: int) -> int:
        """How many there are where others have so many."""
        return max(rounds * 3 // 5, 12) if self.halve else rounds


POLICIES = [
    # The bound: the same memory, all of it on the fast tier.
    Policy("all_fast", fast=1024, slow=64),
    Policy("unmanaged"),
    Policy("numa_balancing", NUMA_BALANCING),
    Policy("damon", DAMON),
    Policy("hplacement", HPLACEMENT),
]
PEERS = ("unmanaged", "numa_balancing", "damon")

PRELUDE = """
fail() { echo "failed reason=$1"; exit 1; }
set -e
sh /tiervm/figures start
echo "fast_free pages=$(awk '$1 == "nr_free_pages" { print $2 }' \\
    /sys/devices/system/node/node0/vmstat)"
"""

# Says what has been counted; $1: when.
FIGURES = """
{
    grep -E '^(numa_|pgpromote|pgdemote|pgmigrate|hpl_|tier_)' /proc/vmstat
    awk '$1 == "cpu" { print "system_ticks", $4 + $7 + $8 }' /proc/stat
    awk '$2 ~ /^.kdamond/ { ticks += $14 + $15 }
         END { print "kdamond_ticks", ticks + 0 }' /proc/[0-9]*/stat
} | sed "s/^/vmstat $1 /"
"""

SCRIPT = """
echo "versions linux=$(uname -r)"
echo 0 > /proc/sys/kernel/numa_balancing
sh /tiervm/figures before
status=0
PROGRAM --after-fill 'sh /tiervm/policy' \\
    --after-rounds 'sh /tiervm/figures end' || status=$?
sh /tiervm/figures after
used=/sys/kernel/mm/hplacement/sample_source_in_use
[ ! -e $used ] || echo "source $(cat $used)"
exit $status
"""


@dataclasses.dataclass
class Outcome:
    """What one policy did; the figures are empty if it failed."""
    policy: str
    workload: str = ""                # of several; "": there is one only
    error: Optional[str] = None
    linux: str = ""
    source: str = "none"              # of HPlacement's samples
    rounds: List[Dict[str, float]] = dataclasses.field(default_factory=list)
    looks: List[Dict[str, float]] = dataclasses.field(default_factory=list)
    slices: Dict[str, List[float]] = dataclasses.field(default_factory=dict)
    hot: Dict[str, float] = dataclasses.field(default_factory=dict)
    fast: Dict[str, float] = dataclasses.field(default_factory=dict)
    counters: Dict[str, int] = dataclasses.field(default_factory=dict)
    # Of /proc/vmstat and the like, by when: before the program, at the start
    # and the end of its rounds, after it.
    counted: Dict[str, Dict[str, int]] = dataclasses.field(default_factory=dict)
    facts: Dict[str, Dict[str, str]] = dataclasses.field(default_factory=dict)
    host_seconds: float = 0.0

    @classmethod
    def kept(cls, found: Dict[str, object]):
        """Made from its asdict(), whatever else was noted there meanwhile."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in found.items() if k in names})

    @property
    def label(self) -> str:
        """What a person knows this run by."""
        return f"{self.workload} {self.policy}".strip()

    def quarter(self, last: bool) -> float:
        """Mean GUPS of the first or the last quarter of the rounds."""
        count = max(1, len(self.rounds) // 4)
        chosen = self.rounds[-count:] if last else self.rounds[:count]
        return sum(r["gups"] for r in chosen) / count

    def converged(self) -> Optional[float]:
        """Seconds until 90% of the hot set were fast; None: never."""
        ends = {r["n"]: r["elapsed_s"] for r in self.rounds}
        return next((ends[look["n"]] for look in self.looks
                     if look["hot"] >= 0.9), None)

    def cpu_percent(self, *names: str) -> float:
        """Share of the rounds' time that some counters of HPlacement took."""
        spent = sum(self.counters.get(f"hpl_{name}_ns", 0) for name in names)
        return spent / 1e7 / self.rounds[-1]["elapsed_s"]

    def grown(self, *names: str) -> int:
        """By how much counters have, together, in the rounds.

        One that the kernel does not have is 0.
        """
        start, end = (self.counted[when] for when in ("start", "end"))
        return sum(end.get(name, 0) - start.get(name, 0) for name in names)

    def take(self, line: str) -> None:
        """Read one line of the guest's output."""
        kind, _, rest = line.partition(" ")
        if kind == "vmstat":
            when, name, value = rest.split()
            self.counted.setdefault(when, {})[name] = int(value)
            if when == "after":
                self.counters[name] = int(value) - self.counted["before"][name]
        elif kind == "failed":
            self.error = rest.partition("=")[2]
        elif kind == "versions":
            self.linux = rest.partition("=")[2]
        elif kind == "source":
            self.source = rest
        elif kind == "round":
            self.rounds.append({k: float(v) for k, v in _pairs(rest)})
        elif kind == "placement":
            self._placement(dict(_pairs(rest)))
        elif kind in ("config", "buffer", "start", "fast_free", "latency"):
            self.facts[kind] = dict(_pairs(rest))

    def _placement(self, fields: Dict[str, str]) -> None:
        when = fields["when"]
        if "slice" in fields:
            self.slices.setdefault(when, []).append(float(fields["fast"]))
        elif when in ("before", "after"):
            self.hot[when] = float(fields["hot"])
            self.fast[when] = float(fields["all"])
        else:
            self.looks.append({"n": float(when)} | {
                k: float(v) for k, v in fields.items() if k != "when"})


def _pairs(text: str) -> List[List[str]]:
    return [word.split("=", 1) for word in text.split()]


def run(outcome: Outcome, policy: Policy, arguments: str, rounds: int, name: str,
        on_line: Callable[[str], None],
        on_start: Optional[Callable[[tiervm.Session], None]] = None,
        size_mib: int = SIZE_MIB, program: str = "gups", before: str = "",
        root: str = "busybox", **machine) -> None:
    """Run GUPS in a guest under a policy and fill in its outcome.

    arguments: of gups but for the rounds, how many updates they have, and the
    buffer's size. name: of the console log. on_line: called with each line, once
    outcome has it. program: another of bench/workloads. before: shell that is run
    before it. root: of tiervm.run(). machine: fields of tiervm.Machine. Never
    raises GuestError.
    """
    def take(line: str) -> None:
        outcome.take(line)
        on_line(line)

    if program == "gups":
        arguments += (f" {policy.gups} --size {size_mib} --updates {UPDATES} "
                      "--look-every 1")
    setup = policy.setup.replace("SOURCE", policy.source)
    script = "".join(f"cat > /tiervm/{file} << 'END'\n{text}END\n"
                     for file, text in (("policy", PRELUDE + setup),
                                        ("figures", FIGURES)))
    try:
        result = tiervm.run(
            name, script + before + SCRIPT.replace(
                "PROGRAM", f"{program} {arguments} --rounds {rounds}"),
            # The same machine for each policy; only HPlacement makes use of
            # the PMU.
            tiervm.Machine(fast=policy.fast, slow=policy.slow, pmu=True,
                           **machine),
            # On the host's root, /bin is a link.
            files={f"/usr/bin/{program}":
                   str(tiervm.BUILD / "bench" / program)},
            root=root, timeout=TIMEOUT, on_line=take, on_start=on_start)
        outcome.host_seconds = result.host_seconds
        if result.error:
            outcome.error = (outcome.error or
                             f"{result.error}; last said: "
                             f"{' / '.join(result.out[-2:])}")
        elif len(outcome.rounds) != rounds:
            outcome.error = f"only {len(outcome.rounds)} of {rounds} rounds"
    except tiervm.GuestError as exc:
        outcome.error = str(exc)


def build() -> None:
    """Build the guest programs, see that all else is there.

    Raises GuestError or CalledProcessError.
    """
    tiervm.Machine().qemu_path()
    tiervm.Machine().kernel_path()
    subprocess.run(["make", "-s", "-C", str(TOP / "bench"),
                    f"OUT={tiervm.BUILD / 'bench'}"], check=True)


class Progress:
    """Shows how far each guest is: one line that moves, or one per event."""

    def __init__(self, rounds: Dict[str, int]):
        self.rounds = rounds
        self.lock = threading.Lock()
        self.running: Dict[str, str] = {}
        self.reported: Dict[str, int] = {}
        self.moving = sys.stdout.isatty()
        self.start = time.monotonic()

    def _say(self, text: str) -> None:
        clear = "\r\033[K" if self.moving else ""
        print(f"{clear}[{time.monotonic() - self.start:4.0f} s] {text}",
              flush=True)

    def update(self, outcome: Outcome) -> None:
        """A guest printed something."""
        done = len(outcome.rounds)
        speed = outcome.rounds[-1]["mups"] if done else 0
        hot = outcome.looks[-1]["hot"] if outcome.looks else 0
        rounds = self.rounds[outcome.label]
        state = (f"{outcome.label}: round {done}/{rounds}, "
                 f"{speed:.1f} M/s, hot in fast {hot:.0%}"
                 if done else f"{outcome.label}: starting")
        with self.lock:
            self.running[outcome.label] = state
            if self.moving:
                line = " | ".join(self.running.values())
                width = os.get_terminal_size(sys.stdout.fileno()).columns
                print(f"\r\033[K{line[:width - 1]}", end="", flush=True)
            elif done * 4 // rounds > self.reported.get(outcome.label, 0):
                self.reported[outcome.label] = done * 4 // rounds
                self._say(state)

    def finish(self, outcome: Outcome) -> None:
        """A guest has ended."""
        with self.lock:
            self.running.pop(outcome.label, None)
            self._say(f"{outcome.label}: FAILED: {outcome.error}"
                      if outcome.error else f"{outcome.label}: done after "
                      f"{outcome.host_seconds:.0f} s")


def _output_of(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          cwd=TOP)
    return done.stdout.splitlines()[0] if done.stdout else "unknown"


def versions(linux: str) -> Dict[str, str]:
    """Of a results file."""
    machine = tiervm.Machine()
    found = {"project": _output_of("git", "describe", "--always", "--dirty"),
             "linux": linux or "unknown",
             "qemu": _output_of(machine.qemu_path(), "--version")}
    if tiervm.on_kvm():
        found["kvm"] = (f"host {os.uname().release}, its nodes "
                        f"{machine.host_nodes or 'not chosen'}")
    return found


def write_whole(path: Path, text: str) -> None:
    """Write a file: a reader, or a power cut, sees the old one or all of this."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def write_results(path: Path, experiment: str, command: str,
                  outcomes: Sequence[Outcome], rows: List[Dict[str, object]],
                  **more: object) -> None:
    """Write a results file; more: of its fields."""
    linux = next((o.linux for o in outcomes if o.linux), "")
    results = {"experiment": experiment, "command": command,
               "versions": versions(linux), **more, "rows": rows}
    write_whole(path, json.dumps(results, indent=1) + "\n")
