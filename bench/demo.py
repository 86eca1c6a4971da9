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
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

import plot
import policies
from policies import (HPLACEMENT, SIZE_MIB, UPDATES, Outcome, Policy, Progress,
                      tiervm)

WORKLOAD = f"gups hotset reverse {SIZE_MIB} MiB"
ROUNDS = 100

POLICIES = [*policies.POLICIES,
            Policy("hplacement_halved", HPLACEMENT, halve=True)]


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
        if policy.halve and line.startswith("round n="):
            _halve(policy, guests[0], outcome, rounds)
        if progress:
            progress(outcome)

    policies.run(outcome, dataclasses.replace(policy, source=source),
                 "--reverse", rounds, f"{name}-{policy.name}", on_line,
                 guests.append, profile=profile,
                 hballoon="" if policy.halve else None)
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
        moved = (o.counters.get("pgmigrate_success", 0)
                 + 2 * o.counters.get("hpl_exchanged", 0)) / 256
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


def write_results(path: Path, outcomes: Sequence[Outcome],
                  command: str) -> None:
    """Write the results file, in the order of the policies."""
    policies.write_results(path, "demo", command, outcomes, [
        row for outcome in outcomes for row in rows(outcome)])


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
        policies.build()
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
