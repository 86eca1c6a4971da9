#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Run GUPS on the two-tier machine under five placement policies.

The fifth, HPlacement, runs twice: the second time the host halves the fast tier
under it.

The hot tenth of the buffer starts on the slow tier, in the same place under
each policy, as a policy is switched on only when the buffer is filled. Writes
RESULTS/demo.json, from which plot.py draws demo/report.html. bench/README.md
says what each figure means.
"""
import argparse
import concurrent.futures
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tools" / "tiering"))
import plot  # noqa: E402
import tiervm  # noqa: E402

WORKLOAD = "gups hotset reverse 384 MiB"
SIZE_MIB = 384
UPDATES = 1000000                     # a round
ROUNDS = 100
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
        END { printf "%d %d\\n", low * 4096, high * 4096 }' /proc/zoneinfo
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
    Policy("hplacement_halved", HPLACEMENT, halve=True),
]

PRELUDE = """
fail() { echo "failed reason=$1"; exit 1; }
set -e
"""

SCRIPT = """
echo "versions linux=$(uname -r)"
echo 0 > /proc/sys/kernel/numa_balancing
figures() { grep -E '^(numa_|pgpromote|pgdemote|pgmigrate|hpl_)' /proc/vmstat;
    awk '$1 == "cpu" { print "system_ticks", $4 + $7 + $8 }' /proc/stat; }
figures | sed 's/^/vmstat before /'
status=0
gups --size SIZE --reverse --rounds ROUNDS --updates UPDATES --look-every 1 \
    --after-fill 'sh /tiervm/policy' || status=$?
figures | sed 's/^/vmstat after /'
used=/sys/kernel/mm/hplacement/sample_source_in_use
[ ! -e $used ] || echo "source $(cat $used)"
exit $status
"""


@dataclasses.dataclass
class Outcome:
    """What one policy did; the figures are empty if it failed."""
    policy: str
    error: Optional[str] = None
    linux: str = ""
    source: str = "none"              # of HPlacement's samples
    rounds: List[Dict[str, float]] = dataclasses.field(default_factory=list)
    looks: List[Dict[str, float]] = dataclasses.field(default_factory=list)
    slices: Dict[str, List[float]] = dataclasses.field(default_factory=dict)
    hot: Dict[str, float] = dataclasses.field(default_factory=dict)
    counters: Dict[str, int] = dataclasses.field(default_factory=dict)
    host_seconds: float = 0.0

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

    def take(self, line: str) -> None:
        """Read one line of the guest's output."""
        kind, _, rest = line.partition(" ")
        if kind == "vmstat":
            when, name, value = rest.split()
            sign = 1 if when == "after" else -1
            self.counters[name] = self.counters.get(name, 0) + sign * int(value)
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

    def _placement(self, fields: Dict[str, str]) -> None:
        when = fields["when"]
        if "slice" in fields:
            self.slices.setdefault(when, []).append(float(fields["fast"]))
        elif when in ("before", "after"):
            self.hot[when] = float(fields["hot"])
        else:
            self.looks.append({"n": float(when), "hot": float(fields["hot"])})


def _pairs(text: str) -> List[List[str]]:
    return [word.split("=", 1) for word in text.split()]


def _halve(policy: Policy, guest: tiervm.Session, outcome: Outcome,
           rounds: int) -> None:
    """After a round: have the fast tier halved, or see that it has been."""
    half = policy.fast << 19
    if len(outcome.rounds) == rounds * 2 // 3:
        guest.qmp("hballoon-set", id="hb0", node=0, size=half)
    elif len(outcome.rounds) == rounds:
        actual = guest.qmp("query-hballoon")[0]["nodes"][0]["actual"]
        if actual != half:
            outcome.error = (f"the fast tier has {actual} bytes, not half of "
                             f"{policy.fast} MiB")


def measure(policy: Policy, profile: str = "pmem", rounds: int = ROUNDS,
            name: str = "demo", progress: Optional[Callable[[Outcome], None]]
            = None, source: str = "") -> Outcome:
    """Run the workload in a guest under one policy; never raises GuestError.

    rounds: of UPDATES updates. name: prefix of the console log's name.
    progress: called after each line of output. source: of HPlacement's samples.
    """
    outcome = Outcome(policy.name)
    guests: List[tiervm.Session] = []

    def on_line(line: str) -> None:
        outcome.take(line)
        if policy.halve and line.startswith("round n="):
            _halve(policy, guests[0], outcome, rounds)
        if progress:
            progress(outcome)

    values = {"SIZE": SIZE_MIB, "ROUNDS": rounds, "UPDATES": UPDATES}
    script = re.sub("|".join(values), lambda m: str(values[m[0]]), SCRIPT)
    setup = policy.setup.replace("SOURCE", source)
    script = (f"cat > /tiervm/policy << 'END'\n{PRELUDE}{setup}END\n"
              + script)
    # The same machine for each policy; only HPlacement makes use of the PMU.
    machine = tiervm.Machine(fast=policy.fast, slow=policy.slow,
                             profile=profile, pmu=True,
                             hballoon="" if policy.halve else None)
    try:
        result = tiervm.run(
            f"{name}-{policy.name}", script, machine,
            files={"/bin/gups": str(tiervm.BUILD / "bench" / "gups")},
            timeout=TIMEOUT, on_line=on_line, on_start=guests.append)
        outcome.host_seconds = result.host_seconds
        if result.error:
            outcome.error = (outcome.error or
                             f"{result.error}; last said: "
                             f"{' / '.join(result.out[-2:])}")
        elif len(outcome.rounds) != rounds:
            outcome.error = f"only {len(outcome.rounds)} of {rounds} rounds"
    except tiervm.GuestError as exc:
        outcome.error = str(exc)
    return outcome


def _row(outcome: Outcome, metric: str, value: object, unit: str,
         **more: float) -> Dict[str, object]:
    return {"metric": metric, "policy": outcome.policy, "workload": WORKLOAD,
            "value": value, "unit": unit, **more}


def rows(outcome: Outcome) -> List[Dict[str, object]]:
    """An outcome as rows of a results file."""
    if outcome.error:
        return [{"metric": "failed", "policy": outcome.policy,
                 "workload": WORKLOAD, "value": outcome.error, "unit": ""}]
    out = [_row(outcome, "gups_first", outcome.quarter(False), "1e9/s"),
           _row(outcome, "gups_final", outcome.quarter(True), "1e9/s"),
           _row(outcome, "hot_in_fast", outcome.hot["after"], "1"),
           _row(outcome, "hot_in_fast_before", outcome.hot["before"], "1")]
    ends = {r["n"]: r["elapsed_s"] for r in outcome.rounds}
    out += [_row(outcome, "gups_round", r["gups"], "1e9/s",
                 time_s=r["elapsed_s"]) for r in outcome.rounds]
    out += [_row(outcome, "hot_in_fast_round", look["hot"], "1",
                 time_s=ends[look["n"]]) for look in outcome.looks]
    out += [_row(outcome, f"slice_in_fast_{when}", share, "1", slice=number)
            for when, shares in outcome.slices.items()
            for number, share in enumerate(shares)]
    if outcome.converged() is not None:
        out.append(_row(outcome, "converge_s", outcome.converged(), "s"))
    if outcome.source != "none":
        out += [_row(outcome, "sample_source", outcome.source, ""),
                _row(outcome, "sampling_cpu_pct",
                     outcome.cpu_percent("sample"), "%"),
                _row(outcome, "tracking_cpu_pct",
                     outcome.cpu_percent("sample", "classify"), "%")]
    out += [_row(outcome, f"vmstat_{name}", value, "count")
            for name, value in sorted(outcome.counters.items())]
    return out


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
        rounds = self.rounds[outcome.policy]
        state = (f"{outcome.policy}: round {done}/{rounds}, "
                 f"{speed:.1f} M/s, hot in fast {hot:.0%}"
                 if done else f"{outcome.policy}: starting")
        with self.lock:
            self.running[outcome.policy] = state
            if self.moving:
                line = " | ".join(self.running.values())
                width = os.get_terminal_size(sys.stdout.fileno()).columns
                print(f"\r\033[K{line[:width - 1]}", end="", flush=True)
            elif done * 4 // rounds > self.reported.get(outcome.policy, 0):
                self.reported[outcome.policy] = done * 4 // rounds
                self._say(state)

    def finish(self, outcome: Outcome) -> None:
        """A guest has ended."""
        with self.lock:
            self.running.pop(outcome.policy, None)
            self._say(f"{outcome.policy}: FAILED: {outcome.error}"
                      if outcome.error else f"{outcome.policy}: done after "
                      f"{outcome.host_seconds:.0f} s")


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes for a person to read."""
    best = next((o.quarter(True) for o in outcomes
                 if o.policy == "all_fast" and not o.error), None)
    lines = [f"{'policy':18}{'GUPS first':>12}{'GUPS final':>12}"
             f"{'of all_fast':>12}{'hot in fast':>12}{'moved MiB':>11}"
             f"{'kernel s':>10}"]
    for o in outcomes:
        if o.error:
            lines.append(f"{o.policy:18}FAILED: {o.error.splitlines()[0]}")
            continue
        share = f"{o.quarter(True) / best:.2f}" if best else "-"
        moved = o.counters.get("pgmigrate_success", 0) / 256
        system = o.counters["system_ticks"] / 100
        lines.append(f"{o.policy:18}{o.quarter(False):12.5f}"
                     f"{o.quarter(True):12.5f}{share:>12}"
                     f"{o.hot['after']:12.1%}{moved:11.0f}{system:10.1f}")
    for o in outcomes:
        if o.source != "none" and not o.error:
            when = o.converged()
            lines.append(f"\n{o.policy}: samples by {o.source}, 90% of the hot "
                         "set fast "
                         + (f"after {when:.2f} s, " if when else "never, ")
                         + f"tracking {o.cpu_percent('sample', 'classify'):.2f}"
                         "% of the CPU")
    return "\n".join(lines)


def _output_of(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          cwd=TOP)
    return done.stdout.splitlines()[0] if done.stdout else "unknown"


def write_results(path: Path, outcomes: Sequence[Outcome],
                  command: str) -> None:
    """Write the results file, in the order of the policies."""
    linux = next((o.linux for o in outcomes if o.linux), "unknown")
    results = {
        "experiment": "demo", "command": command,
        "versions": {
            "project": _output_of("git", "describe", "--always", "--dirty"),
            "linux": linux,
            "qemu": _output_of(tiervm.Machine().qemu_path(), "--version"),
        },
        "rows": [row for outcome in outcomes for row in rows(outcome)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    names = [p.name for p in POLICIES]
    parser = argparse.ArgumentParser(prog="demo.py", description=__doc__,
                                     formatter_class=argparse
                                     .RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=names,
                        metavar="POLICY", help="of " + ", ".join(names)
                        + "; may be repeated (default all)")
    parser.add_argument("--profile", default="pmem",
                        choices=sorted(tiervm.PROFILES),
                        help="latencies of the tiers (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N",
                        help=f"of {UPDATES} updates (default %(default)s)")
    parser.add_argument("--source", default="", choices=("auto", "pebs", "abit"),
                        help="of HPlacement's samples (default auto)")
    parser.add_argument("--output", type=Path, default=tiervm.BUILD,
                        metavar="DIR", help="where results/ and demo/ go "
                        "(default %(default)s)")
    options = parser.parse_args(argv)
    if options.rounds < 4:
        parser.error(f"--rounds {options.rounds}: give 4 or more, "
                     "for there to be quarters")
    return options


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the demo; 0 if each policy ran to its end."""
    options = parse(argv)
    chosen = [p for p in POLICIES if not options.only or p.name in options.only]
    try:
        tiervm.Machine().qemu_path()
        tiervm.Machine().kernel_path()
        subprocess.run(["make", "-s", "-C", str(TOP / "bench"),
                        f"OUT={tiervm.BUILD / 'bench'}"], check=True)
    except (tiervm.GuestError, subprocess.CalledProcessError) as exc:
        print(f"demo: {exc}", file=sys.stderr)
        return 1
    progress = Progress({p.name: p.rounds(options.rounds) for p in chosen})

    def one(policy: Policy) -> Outcome:
        outcome = measure(policy, options.profile,
                          policy.rounds(options.rounds),
                          progress=progress.update, source=options.source)
        progress.finish(outcome)
        return outcome

    # A guest under -icount runs on one host CPU.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        outcomes = list(pool.map(one, chosen))
    results = options.output / "results" / "demo.json"
    report = options.output / "demo" / "report.html"
    write_results(results, outcomes,
                  f"bench/demo.py --profile {options.profile} "
                  f"--rounds {options.rounds}"
                  + (f" --source {options.source}" if options.source else ""))
    plot.draw(results, report)
    print(f"\n{WORKLOAD}, {options.profile} profile, 256 MiB fast + 768 MiB "
          f"slow\n\n{table(outcomes)}\n\n{results}\n{report}")
    return 1 if any(o.error for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
