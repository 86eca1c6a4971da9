# SPDX-License-Identifier: GPL-2.0
"""What the evaluation asks, the guests that answer, and rows made of it.

run.py runs the jobs; each experiment makes rows of a results file of what its
jobs have found. bench/README.md says what each metric means.
"""
import dataclasses
import hashlib
import math
import re
import subprocess
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cost
import exchange
import footprint
import multivm
import placement
import policies
import resize
import tracking
from jobs import Experiment, Found, Job, Outcome, Row, failed, listed_rows
from placement import OURS, WORKLOADS, Cell, Workload
from policies import HPLACEMENT, PEERS, SIZE_MIB, TOP, Policy, tiervm

# Of host time, on one core: a guest's boot and the filling of its buffer, and
# a round with and without counting misses page by page.
BOOT_S = 10.0
GIB_S = 24.0                          # more than SIZE_MIB
ROUND_S = 0.5
ROUND_UNCOUNTED_S = 0.35

POLICIES = {p.name: p for p in placement.POLICIES}
BY_NAME = {w.name: w for w in WORKLOADS}
FAST_POLICIES = ("all_fast", *PEERS, OURS)
FAST_ROUNDS = {"hotset": 28, "zipf_scattered": 28, "moving": 60}
# Where nothing moves, all rounds are alike.
STATIC = (*placement.STATIC, "unmanaged")
STATIC_ROUNDS = 24
PEER_ROUNDS = 100
SEEDS = (1, 2, 3, 4, 5)               # of random numbers; gups has 1
SEEDED = ("hotset", "zipf_scattered")


def published(metric: str, who: str, workload: str, value: float,
              unit: str) -> Row:
    """A figure of a system that cannot run here."""
    return {"metric": metric, "policy": who, "workload": workload,
            "value": value, "unit": unit, "published": "other hardware"}


def gups_job(workload: Workload, policy: Policy, rounds: int,
             profile: str = "pmem", misses: bool = True,
             size_mib: int = SIZE_MIB, **tags: object) -> Job:
    """A workload under a policy, in a guest of its own.

    misses: count them, page by page. tags: what else tells this job from others.
    """
    label = " ".join([workload.name, policy.name, *(
        [] if profile == "pmem" else [profile]), *(
        f"{name}={value}" for name, value in tags.items())])

    def run(progress: Callable[[str], None]) -> Outcome:
        def show(cell: Cell) -> None:
            progress(f"round {len(cell.rounds)}/{rounds}")

        slug = re.sub(r"\W+", "-", label)
        return dataclasses.asdict(placement.measure(
            workload, policy, profile, rounds, f"bench-{slug}", show, misses,
            size_mib))

    return Job(label, {"gups": workload.arguments(), "workload": workload.name,
                       "rounds": rounds, "policy": dataclasses.asdict(policy),
                       "profile": profile, "misses": misses,
                       "size_mib": size_mib},
               BOOT_S + GIB_S * (size_mib - SIZE_MIB) / 1024
               + rounds * (ROUND_S if misses else ROUND_UNCOUNTED_S), run,
               {"workload": workload.name, "policy": policy.name, **tags})


def cell_of(job: Job, outcome: Outcome) -> Cell:
    """What a guest has found."""
    if outcome.get("error"):
        return Cell(job.tags["policy"], job.tags["workload"],
                    error=outcome["error"])
    return Cell.kept(outcome)


# placement, time, hits and breakdown: the same guests

def base_jobs(fast: bool) -> List[Job]:
    """All workloads under all policies."""
    if fast:
        return [gups_job(BY_NAME[name], POLICIES[policy], rounds)
                for name, rounds in FAST_ROUNDS.items()
                for policy in FAST_POLICIES]

    # No static placement is the best one of a hot set that moves; interleaved, it
    # is the same wherever it is. With accessed bits, what moves takes longer.
    return [gups_job(workload, policy, rounds_of(workload, policy))
            for workload in WORKLOADS for policy in placement.POLICIES
            if not (policy.name in ("oracle", "interleave", placement.ABIT)
                    and workload.name in ("moving", "mix"))
            or (policy.name, workload.name) == ("oracle", "mix")]


def rounds_of(workload: Workload, policy: Policy) -> int:
    """As few as show what there is."""
    if workload.move_every or workload.name == "mix":
        return workload.rounds
    if policy.name in STATIC or (policy.name == placement.ABIT
                                 and workload.name == "scattered"):
        return min(workload.rounds, STATIC_ROUNDS)
    # Peers are where they will be long before single pages are judged.
    return (min(workload.rounds, PEER_ROUNDS) if policy.name in PEERS
            else workload.rounds)


def seeded(workload: Workload, seed: int) -> Workload:
    """A workload with random numbers of its own."""
    return workload._replace(gups=f"{workload.gups} --seed {seed}")


def placement_jobs(fast: bool) -> List[Job]:
    """The same, and HPlacement with more seeds on some of them."""
    return base_jobs(fast) + [
        gups_job(seeded(workload, seed), POLICIES[OURS], workload.rounds,
                 misses=False, seed=seed)
        for workload in WORKLOADS for seed in SEEDS[1:]
        if not fast and workload.name in SEEDED]


def cxl_jobs(_fast: bool) -> List[Job]:
    """The hot set, on a slow tier less slow."""
    return [gups_job(BY_NAME["hotset"], POLICIES[policy], FAST_ROUNDS["hotset"],
                     "cxl") for policy in FAST_POLICIES]


def goal_rows(rows: List[Row], of_costs: bool = False) -> List[Row]:
    """The goals of HPlacement, and whether they are reached."""
    results = placement.Results(rows)
    out = []
    for goal in placement.GOALS:
        if (goal.workload == cost.WORKLOAD) != of_costs:
            continue
        value, verdict = goal.verdict(results)
        out.append({"metric": "goal", "policy": goal.policies[0],
                    "workload": goal.workload, "value": value, "unit": "",
                    "goal": f"{goal.what} {'>=' if goal.at_least else '<='} "
                            f"{goal.bound:g}", "verdict": verdict})
    return out


SPREAD = ("mups", "mups_mean", "throughput_rel", "throughput_mean_rel",
          "converge_s", "reconverge_s", "tracking_cpu_pct")


def placement_rows(found: Found, fast: bool) -> List[Row]:
    """Figures of each cell; goals, of a full run with the first seed."""
    first = [cell_of(*pair) for pair in found if "seed" not in pair[0].tags]
    bounds = {c.workload: c for c in first if c.policy == "all_fast"}
    rows = placement.rows(first, "pmem")
    # They are of this machine, whose time is the model's.
    goals = [] if fast or tiervm.on_kvm() else goal_rows(rows)
    for job, outcome in found:
        if "seed" not in job.tags:
            continue
        if outcome.get("error"):
            rows.append(failed(job, outcome["error"]))
            continue
        rows += [{**row, **job.tags} for row in chosen_figures(
            cell_of(job, outcome), bounds.get(job.tags["workload"]), SPREAD)]
    return rows + goals


def cxl_rows(found: Found, _fast: bool) -> List[Row]:
    """Figures of each cell; the goals are of the pmem profile."""
    return placement.rows([cell_of(*pair) for pair in found], "cxl")


def over_time(found: Found,
              points: Callable[[Cell], List[Row]]) -> List[Row]:
    """Rows of each cell, or why there are none."""
    rows = []
    for job, outcome in found:
        cell = cell_of(job, outcome)
        if cell.error:
            rows.append(failed(job, cell.error))
            continue
        rows += [{**row, "policy": cell.policy, "workload": cell.workload}
                 for row in points(cell)]
    return rows


def time_rows(found: Found, _fast: bool) -> List[Row]:
    """Throughput of each round."""
    return over_time(found, lambda cell: [
        {"metric": "mups_round", "value": r["mups"], "unit": "1e6/s",
         "time_s": r["elapsed_s"]} for r in cell.rounds]) + [
        published("converge_s", "ranges by PEBS", "hotset", 80, "s")]


def hits_rows(found: Found, _fast: bool) -> List[Row]:
    """Where misses of each interval went, and would have gone at best."""
    return over_time(found, lambda cell: [
        {"metric": metric, "value": hit[field], "unit": "1",
         "time_s": hit["time_s"]} for hit in cell.hits
        for metric, field in (("hit_ratio_interval", "hit_ratio"),
                              ("hit_ratio_interval_oracle", "oracle"))])


# Documentation/admin-guide/mm/tiering_range.rst, "What stock Linux's tiering
# costs"
STAGES = {
    "sampling": ("tier_hint_scan_ns", "tier_hint_fault_ns",
                 "tier_accessed_scan_ns", "tier_rmap_walk_ns", "hpl_sample_ns"),
    "classification": ("tier_lru_scan_ns", "hpl_classify_ns"),
    "migration": ("tier_migrate_ns", "hpl_migrate_ns"),
}


def stage_ns(cell: Cell) -> Dict[str, int]:
    """CPU time of each stage during the rounds.

    DAMON's bookkeeping is what its threads take beside walks and migrations.
    """
    spent = {stage: cell.grown(*names) for stage, names in STAGES.items()}
    threads = cell.grown("kdamond_ticks") * 10000000
    spent["classification"] += max(0, threads - cell.grown(
        "tier_rmap_walk_ns", "tier_accessed_scan_ns", "tier_migrate_ns"))
    return spent


def breakdown_points(cell: Cell) -> List[Row]:
    """CPU time by stage, in percent of the rounds."""
    return [{"metric": f"{stage}_cpu_pct", "value": ns / 1e7 / cell.elapsed(),
             "unit": "%"} for stage, ns in stage_ns(cell).items()] + [
        {"metric": "fast_free_mib", "unit": "MiB",
         "value": int(cell.facts["fast_free"]["pages"]) / 256}]


def breakdown_rows(found: Found, _fast: bool) -> List[Row]:
    """CPU time by policy and stage."""
    managed = [pair for pair in found if pair[0].tags["policy"] != "all_fast"]
    rows = over_time(managed, breakdown_points)
    for who, value in (("ranges by PEBS", 0.64), ("accessed-bit scan", 3.08),
                       ("PML", 14.6)):
        rows.append(published("sampling_cpu_pct", who, "", value, "%"))
    for who, figures in (("ranges by PEBS, a VM's run", (3, 12, 27)),
                         ("TPP, a VM's run", (60, 40, 98))):
        rows += [published(f"{stage}_cpu_pct", who, "", value, "s")
                 for stage, value in zip(STAGES, figures)]
    return rows


# costs: cost.py's guests

# Of host time, with a CPU to itself.
COST_S = {"sample": 60, "metadata": 120, "budget": 60, "classify": 60}


FAST_COSTS = ("budget", "classify")


def costs_jobs(fast: bool) -> List[Job]:
    """What HPlacement costs, beside CPU time."""
    def job(experiment: cost.Experiment) -> Job:
        def run(_progress: Callable[[str], None]) -> Outcome:
            found = cost.measure(experiment, "pmem")
            return {"error": found.error, "linux": found.linux,
                    "rows": found.rows()}

        return Job(f"costs {experiment.name}", {"cost": experiment.name},
                   COST_S[experiment.name], run,
                   {"policy": OURS, "workload": cost.WORKLOAD})

    return [job(experiment) for experiment in cost.EXPERIMENTS
            if not fast or experiment.name in FAST_COSTS]


def costs_rows(found: Found, fast: bool) -> List[Row]:
    """Figures and goals."""
    rows = listed_rows(found, fast)
    return rows + goal_rows(rows, of_costs=True)


# tracking: methods to learn of accesses, in a guest each

TRACKING_S = 22


def tracking_jobs(fast: bool) -> List[Job]:
    """GUPS under each method, and without."""
    rounds = tracking.ROUNDS // 2 if fast else tracking.ROUNDS

    def job(method: tracking.Method) -> Job:
        def run(_progress: Callable[[str], None]) -> Outcome:
            return dataclasses.asdict(tracking.measure(method, rounds))

        return Job(f"tracking {method.name}",
                   {"tracking": method.name, "rounds": rounds}, TRACKING_S,
                   run, {"policy": method.name, "workload": tracking.WORKLOAD})

    return [job(method) for method in tracking.METHODS
            if not fast or method.name in tracking.FAST_METHODS]


def tracking_rows(found: Found, _fast: bool) -> List[Row]:
    """Of each method; without one, there are no samples."""
    seen = {job.tags["policy"]: tracking.Seen(**{
        k: v for k, v in outcome.items() if k != "project"})
        for job, outcome in found if not outcome.get("error")}
    methods = {method.name: method for method in tracking.METHODS}
    rows = []
    for job, outcome in found:
        method = methods[job.tags["policy"]]
        if outcome.get("error"):
            rows.append(failed(job, outcome["error"]))
            continue
        rows += [{"metric": metric, **job.tags, "value": value, "unit": unit}
                 for metric, value, unit in tracking.figures(
                     method, seen[method.name], seen.get(method.base))]
    return rows + [published("sample_ns", "ranges by PEBS", "", 1270, "ns")]


# exchange: batches of several sizes, by each method

EXCHANGE_S = 18


def exchange_jobs(fast: bool) -> List[Job]:
    """Each method with each rate, hence each size of batch."""
    def job(method: str, rate_mbps: int) -> Job:
        def run(_progress: Callable[[str], None]) -> Outcome:
            outcome, figures = exchange.measure(method, rate_mbps)
            return {"linux": outcome.linux, "figures": figures}

        return Job(f"exchange {method} {rate_mbps}",
                   {"exchange": method, "mbps": rate_mbps}, EXCHANGE_S, run,
                   {"policy": method, "workload": f"{rate_mbps} MiB/s"})

    return [job(method, rate) for method in exchange.METHODS for rate in
            (exchange.FAST_RATES_MBPS if fast else exchange.RATES_MBPS)]


def exchange_rows(found: Found, _fast: bool) -> List[Row]:
    """Each figure, with the size of the batches that it is of."""
    rows = []
    for job, outcome in found:
        if outcome.get("error"):
            rows.append(failed(job, outcome["error"]))
            continue
        batch, *figures = outcome["figures"]
        rows += [{"metric": metric, **job.tags, "value": value, "unit": unit,
                  "batch_pages": batch[1]}
                 for metric, value, unit in (batch, *figures)]
    return rows


# ratio: a buffer so large that a sixteenth of it is more than a guest boots with

RATIO_MIB = 1024
RATIOS = (1, 2, 4, 8, 16)             # of the buffer to the fast tier
RATIO_ROUNDS = 24
# A little less than the smallest fast tier. Of a tenth, each page has 140 accesses
# a second; HPlacement exchanges pages from 52 on (HMAT, HPL_PAGE_NS).
RATIO_HOT_SHARE = 0.05


def fast_node_mib(buffer_mib: float) -> int:
    """Size of a fast node that holds so much of a buffer beside the kernel.

    As measured: nodes of 101, 256 and 1152 MiB hold 68, 219 and 1082, what is
    left free included.
    """
    return math.ceil((buffer_mib + 29) / 0.964)


def ratio_jobs(fast: bool) -> List[Job]:
    """A hot twentieth, and ever less fast memory."""
    hotset = BY_NAME["hotset"]
    workload = hotset._replace(
        gups=f"{hotset.gups} --hot-share {RATIO_HOT_SHARE}")
    rounds = RATIO_ROUNDS // 2 if fast else RATIO_ROUNDS

    def job(policy: Policy, fast_mib: int, slow_mib: int,
            **tags: object) -> Job:
        sized = dataclasses.replace(policy, fast=fast_mib, slow=slow_mib)
        return gups_job(workload, sized, rounds, misses=False,
                        size_mib=RATIO_MIB, **tags)

    # A quarter more, as Linux leaves much of a large node free. With 64 MiB instead
    # of 128 beside the buffer, DAMON's lists ran out of memory at 1:16.
    jobs = [job(POLICIES["all_fast"], RATIO_MIB * 5 // 4, 64, ratio=0)]
    return jobs + [
        job(POLICIES[name], fast_node_mib(RATIO_MIB / ratio), RATIO_MIB + 128,
            ratio=ratio)
        for ratio in (RATIOS[::4] if fast else RATIOS)
        for name in (("unmanaged", OURS) if fast
                     else ("unmanaged", "damon", OURS))]


def chosen_figures(cell: Cell, bound: Optional[Cell],
                   metrics: Sequence[str]) -> List[Row]:
    """Some figures of a cell."""
    return [{"metric": metric, "value": value, "unit": unit}
            for metric, value, unit in placement.figures(
                cell, BY_NAME[cell.workload], bound, "pmem")
            if metric in metrics and value is not None]


def ratio_rows(found: Found, _fast: bool) -> List[Row]:
    """Throughput by the fast tier's size."""
    bound = next(cell_of(*pair) for pair in found if not pair[0].tags["ratio"])
    rows = []
    for job, outcome in found:
        tags = dict(job.tags)
        if tags["ratio"]:
            tags["workload"] = f"hotset 1:{tags['ratio']}"
        cell = cell_of(job, outcome)
        if cell.error:
            rows.append(failed(job, cell.error, **tags))
            continue
        rows += [{**row, **tags} for row in chosen_figures(
            cell, bound, ("mups", "throughput_rel", "throughput_mean_rel"))]
        if tags["ratio"]:
            share = (placement.capacity_pages(cell)
                     / int(cell.facts["buffer"]["pages"]))
            rows.append({"metric": "fast_share", "value": share, "unit": "1",
                         **tags})
    return rows


# sensitivity: knobs of HPlacement. The period of samples has no knob: it
# follows the budget.

EPOCHS_MS = (20, 100, 500)
OVERHEADS_PERMILLE = (2, 10, 50)
DEFAULT_KNOBS = (100, 10)
SEED_ROUNDS = 24
FEW_SEEDS = 2                         # where a knob is not at its default
KNOBS = "/sys/kernel/mm/hplacement"


def seed_job(policy: Policy, seed: int, **tags: object) -> Job:
    """The hot set, with random numbers of its own."""
    return gups_job(seeded(BY_NAME["hotset"], seed), policy, SEED_ROUNDS,
                    misses=False, seed=seed, **tags)


def sensitivity_jobs(fast: bool) -> List[Job]:
    """Epochs and budgets, each with several seeds; and the bound of each seed."""
    seeds = SEEDS[:1] if fast else SEEDS
    # One knob at a time.
    settings = [(epoch, overhead) for epoch in EPOCHS_MS
                for overhead in OVERHEADS_PERMILLE
                if epoch == DEFAULT_KNOBS[0] or overhead == DEFAULT_KNOBS[1]]
    if fast:
        settings = [DEFAULT_KNOBS, (EPOCHS_MS[0], OVERHEADS_PERMILLE[0])]
    jobs = [seed_job(POLICIES[name], seed) for name in
            (("all_fast",) if fast else ("all_fast", "unmanaged"))
            for seed in seeds]
    for epoch, overhead in settings:
        policy = Policy(OURS, f"echo {epoch} > {KNOBS}/epoch_ms\n"
                        f"echo {overhead} > {KNOBS}/overhead_permille\n"
                        + HPLACEMENT)
        some = seeds if (epoch, overhead) == DEFAULT_KNOBS else (
            seeds[:FEW_SEEDS])
        jobs += [seed_job(policy, seed, epoch_ms=epoch,
                          overhead_permille=overhead) for seed in some]
    return jobs


def sensitivity_rows(found: Found, _fast: bool) -> List[Row]:
    """Figures of each setting and seed."""
    bounds = {job.tags["seed"]: cell_of(job, outcome)
              for job, outcome in found if job.tags["policy"] == "all_fast"}
    rows = []
    for job, outcome in found:
        if job.tags["policy"] == "all_fast" and not outcome.get("error"):
            continue
        tags = dict(job.tags)
        if "epoch_ms" in tags:
            tags["workload"] = (f"hotset, epoch {tags['epoch_ms']} ms, "
                                f"budget {tags['overhead_permille'] / 10:g}%")
        cell = cell_of(job, outcome)
        if cell.error:
            rows.append(failed(job, cell.error, **tags))
            continue
        rows += [{**row, **tags} for row in chosen_figures(
            cell, bounds[tags["seed"]],
            ("throughput_rel", "throughput_mean_rel", "converge_s",
             "tracking_cpu_pct"))]
    return rows


# programs: of bench/workloads; one size

class Program(NamedTuple):
    """What computes something, or asks a program of Debian's that does."""
    rounds: int
    fill_s: float = 14.0              # of host time; also round_s
    round_s: float = 2.5
    packages: Sequence[str] = ()      # Debian's, which the guest sees over 9p


PROGRAMS = {
    "pagerank": Program(8), "bfs": Program(8), "lookup": Program(10),
    "redis": Program(8, 14.0, 2.5, ("redis-tools", "libjemalloc2")),
    "sqlite": Program(8, 16.0, 3.5, ("sqlite3", "libsqlite3-0")),
    "liblinear": Program(2, 16.0, 17.0, ("liblinear-tools", "liblinear4")),
}
FAST_PROGRAMS = ("pagerank", "redis")
PROGRAM_FAST_MIB, PROGRAM_SLOW_MIB = 96, 320


def installed(packages: Sequence[str]) -> List[str]:
    """Which versions of packages the guest will find."""
    if not packages:
        return []
    done = subprocess.run(["dpkg-query", "-W", *packages, "libc6"],
                          capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def program_job(name: str, policy: Policy, rounds: int) -> Job:
    """A program under a policy, in a guest of its own."""
    program = PROGRAMS[name]
    sizes = ((PROGRAM_FAST_MIB + PROGRAM_SLOW_MIB, 64)
             if policy.name == "all_fast"
             else (PROGRAM_FAST_MIB, PROGRAM_SLOW_MIB))
    sized = dataclasses.replace(policy, fast=sizes[0], slow=sizes[1])

    def run(progress: Callable[[str], None]) -> Outcome:
        outcome = policies.Outcome(policy.name, name)
        policies.run(outcome, sized, "", rounds, f"bench-{name}-{policy.name}",
                     lambda _: progress(
                         f"round {len(outcome.rounds)}/{rounds}"),
                     program=name,
                     root="host" if program.packages else "busybox")
        return dataclasses.asdict(outcome)

    return Job(f"{name} {policy.name}",
               {"program": name, "rounds": rounds,
                "packages": installed(program.packages),
                "policy": dataclasses.asdict(sized)},
               BOOT_S + program.fill_s + rounds * program.round_s, run,
               {"workload": name, "policy": policy.name})


def programs_jobs(fast: bool) -> List[Job]:
    """Each program under each policy that programs need not know of."""
    names = ("all_fast", "unmanaged", OURS) if fast else FAST_POLICIES
    return [program_job(program, POLICIES[policy],
                        PROGRAMS[program].rounds // (2 if fast else 1))
            for program in (FAST_PROGRAMS if fast else PROGRAMS)
            for policy in names]


def rate(rounds: Sequence[Dict[str, float]]) -> float:
    """Million operations per second."""
    return (sum(r["mups"] * r["seconds"] for r in rounds)
            / sum(r["seconds"] for r in rounds))


def program_figures(outcome: Outcome) -> List[Tuple[str, float, str]]:
    """Metric, value and unit of what a program says of itself."""
    done = policies.Outcome.kept(outcome)
    own = done.rounds
    figures = [("mops", rate(own[-max(1, len(own) // 4):]), "1e6/s")]
    latency = done.facts.get("latency", {})
    figures += [(f"latency_{p}", float(latency[p]), "us")
                for p in ("p50_us", "p99_us") if p in latency]
    if {"start", "end"} <= done.counted.keys():
        # Of an exchange both pages.
        moved = done.grown("pgmigrate_success", "hpl_exchanged", "hpl_exchanged")
        figures.append(("moved_mib", moved / 256, "MiB"))
    return figures


def programs_rows(found: Found, _fast: bool) -> List[Row]:
    """Throughput in the last quarter and the whole run; latency."""
    bounds = {job.tags["workload"]: outcome.get("rounds")
              for job, outcome in found if job.tags["policy"] == "all_fast"}
    rows = []
    for job, outcome in found:
        if outcome.get("error"):
            rows.append(failed(job, outcome["error"]))
            continue
        own, bound = outcome["rounds"], bounds[job.tags["workload"]]
        late = -max(1, len(own) // 4)
        rows += [{"metric": metric, **job.tags, "value": value, "unit": unit}
                 for metric, value, unit in program_figures(outcome)]
        if bound:
            rows += [{"metric": metric, **job.tags, "unit": "1",
                      "value": rate(own[since:]) / rate(bound[since:])}
                     for metric, since in (("throughput_rel", late),
                                           ("throughput_mean_rel", 0))]
    return rows


# scale: the host tests' simulation

SIMULATION = TOP / "tools" / "testing" / "tiering_range"
CASE = re.compile(r"# (\S+) GiB, (\d+) hot pieces from (\S+)% on")
FIGURE = re.compile(r"# ([\w.]+)(?:\(.*?\))? = (\S+) \(")
SCALE_METRICS = {"epochs_until": ("converge_epochs", "epochs"),
                 "recall": ("recall", "1"), "precision": ("precision", "1"),
                 "w.max_ranges": ("ranges", "count")}


def read_simulation(lines: Sequence[str], policy: str) -> List[Row]:
    """Figures of the simulated machines that the host tests tell of."""
    rows, case = [], None
    for line in lines:
        if (found := CASE.match(line)):
            size, pieces, place = found.groups()
            case = {"policy": policy, "gib": float(size), "workload":
                    f"{float(size):.0f} GiB, {pieces} at {place}%"}
        elif case and (found := FIGURE.match(line)):
            metric, unit = SCALE_METRICS[found[1]]
            rows.append({"metric": metric, **case, "value": float(found[2]),
                         "unit": unit})
    return rows


def simulate(_progress: Callable[[str], None]) -> Outcome:
    """Run the host tests' simulation of a hot tenth, by both sources."""
    subprocess.run(["make", "-s", "-C", str(SIMULATION),
                    f"OUT={tiervm.BUILD / 'host-tests'}"], check=True)
    rows = []
    for policy, prefix in (("hplacement_abit", "sim_"), (OURS, "events_")):
        done = subprocess.run(
            [str(tiervm.BUILD / "host-tests" / "tests"),
             f"{prefix}finds_the_hot_set"], capture_output=True, text=True,
            check=False)
        found = read_simulation(done.stdout.splitlines(), policy)
        if not found:
            return {"error": f"the simulation said nothing: {done.stderr}"}
        rows += found
    return {"rows": rows}


def scale_jobs(_fast: bool) -> List[Job]:
    """All sizes at once: it takes seconds."""
    whole = hashlib.sha256()
    for path in sorted([*SIMULATION.glob("*.[ch]"),
                        *(TOP / "mm").glob("tiering_range*.[ch]")]):
        whole.update(path.read_bytes())
    return [Job("simulation", {"simulation": whole.hexdigest()}, 30.0,
                simulate)]


# resize: real time, one guest at a time

RESIZE_MIB, RESIZE_FAST_MIB = 512, 128
RESIZE_ROUNDS = 3


def resize_jobs(fast: bool) -> List[Job]:
    """Each device in turn, round by round, as resize.py does."""
    size_mib = RESIZE_FAST_MIB if fast else RESIZE_MIB

    def job(name: str, number: int, seconds: float,
            measure: Callable[[], List[resize.Row]], backend: str = "") -> Job:
        def run(_progress: Callable[[str], None]) -> Outcome:
            return {"rows": [{**row.fields(), "device": name, "round": number}
                             for row in measure()]}

        return Job(" ".join(filter(None, ("resize", name, backend,
                                          str(number + 1)))),
                   {"resize": name, "round": number, "mib": size_mib,
                    "gives_back": backend}, seconds,
                   run, {"device": name, "workload": "", "round": number}, True)

    jobs = []
    for number in range(1 if fast else RESIZE_ROUNDS):
        jobs += [job(d.name, number, 30,
                     lambda d=d: resize.measure(d, size_mib << 20))
                 for d in resize.DEVICES]
        # More rounds of a memfd, and virtio-mem's prealloc, are resize.py's.
        jobs += [job(d.name, number, 15, lambda d=d, b=b: resize.give_back(
            d, b, size_mib << 20), b)
                 for b in resize.BACKENDS for d in (
                     resize.DEVICES[:2] if fast
                     else (*resize.DEVICES, resize.Prealloc()))
                 if b == "ram" or not (fast or number)]
        jobs.append(job("roofline", number, 2,
                        lambda: resize.roofline(size_mib << 20)))
    return jobs


def resize_rows(found: Found, fast: bool) -> List[Row]:
    """Figures of each round, goals, what others have published."""
    rows = listed_rows(found, fast)
    results = resize.Results([r for r in rows if r["metric"] != "failed"
                              and "time_s" not in r])
    for goal in resize.GOALS:
        judged = results.judge(goal)
        if judged and not fast and not tiervm.on_kvm():
            rows.append({"metric": "goal", "device": goal.device,
                         "workload": goal.workload or "", "unit": "",
                         "value": judged.value, "goal": judged.wanted,
                         "verdict": "ok" if judged.met else "MISSED"})
    return rows + [{**published(metric, "HyperAlloc", "", float(value),
                                "GiB/s"), "device": "HyperAlloc"}
                   for metric, value in resize.PUBLISHED.items()]


EXPERIMENTS: List[Experiment] = [
    Experiment("placement", "who places best", placement_jobs, placement_rows),
    Experiment("placement_cxl", "who places best where the slow tier is less "
               "slow", cxl_jobs, cxl_rows, modelled=True),
    Experiment("time", "who reacts, to start and to a moved hot set",
               base_jobs, time_rows),
    Experiment("hits", "where do accesses land", base_jobs, hits_rows,
               modelled=True),
    Experiment("breakdown", "what does it cost, with next to no fast memory "
               "free", base_jobs, breakdown_rows),
    Experiment("costs", "what do a sample, a move and the metadata cost",
               costs_jobs, costs_rows, modelled=True),
    Experiment("tracking", "what does one sample cost, and tell",
               tracking_jobs, tracking_rows, modelled=True),
    Experiment("exchange", "which move is faster", exchange_jobs,
               exchange_rows),
    Experiment("programs", "who places programs best", programs_jobs,
               programs_rows),
    Experiment("ratio", "how small may the fast tier be", ratio_jobs,
               ratio_rows),
    Experiment("sensitivity", "does it need tuning", sensitivity_jobs,
               sensitivity_rows),
    multivm.EXPERIMENT,
    footprint.EXPERIMENT,
    Experiment("scale", "what when memory is huge", scale_jobs, listed_rows),
    Experiment("resize", "how fast does a guest give memory back and get it "
               "again", resize_jobs, resize_rows),
]
