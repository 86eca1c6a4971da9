# SPDX-License-Identifier: GPL-2.0
"""What HPlacement costs, beside what placement.py finds out on its way.

Each experiment boots guests of its own and returns figures; placement.py runs
them and has their goals. bench/README.md says what each figure means.
"""
import dataclasses
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import policies
from policies import SIZE_MIB, TOP, Outcome, tiervm

Figure = Tuple[str, float, str]       # metric, value, unit

WORKLOAD = "costs"
KNOBS = "/sys/kernel/mm/hplacement"
ON = f"echo 1 > {KNOBS}/enabled"
OFF = f"echo 0 > {KNOBS}/enabled"
PAGE = 4096

# Metric, at most
GOALS = (("sample_insns_median", 200), ("metadata_pct", 0.02),
         ("budget_overshoot_ms", 0.1), ("classify_cost_rel", 2))

# The timing model still finds misses, which is what is sampled, but nothing
# costs more than its instructions, of 1 ns each.
FREE = ",".join(["latency-ns=0", "latency-ns=0", *(
    f"{event}-ns=0" for event in ("walk", "exception", "interrupt", "pause",
                                  "sample"))])
SAMPLE_ROUNDS = 150

# 16 GiB and 4 virtual CPUs. Four programs have half a GiB of it; the rest is
# never touched, so it takes no memory of the host.
GUEST_MIB = 16384
PROGRAM_MIB = 128
CPUS = 4
EPOCHS = (30, 60, 90)                 # after so many, memory is looked at

# 1/1000 of CPU time: the default, and one that sampling does not keep to by
# itself, so that it has to be held to it.
BUDGETS = (10, 2)
WINDOW_S = 1.0


def guest(name: str, script: str, outcome: Outcome, timeout: float = 600,
          files: Sequence[Path] = (), **machine) -> List[str]:
    """Run a script in a guest; what it printed. Raises GuestError."""
    bench = tiervm.BUILD / "bench"
    result = tiervm.run(
        f"cost-{name}", "set -e\necho \"versions linux=$(uname -r)\"\n" + script,
        tiervm.Machine(**machine),
        files={f"/bin/{path.name}": str(path)
               for path in (bench / "gups", *files)},
        timeout=timeout).check()
    outcome.take(result.out[0])
    return result.out[1:]


def traced(event: str, run: str) -> str:
    """A script that runs something and prints what was traced meanwhile."""
    return f"""
        cd /sys/kernel/tracing
        echo 4096 > buffer_size_kb
        echo 1 > events/tiering_range/{event}/enable
        {run}
        {OFF}
        grep -q "entries-in-buffer/entries-written: \\([0-9]*\\)/\\1 " trace
        grep {event}: trace"""


def counted(arguments: str, start: str, end: str) -> str:
    """A script that runs GUPS and says what was counted in its rounds.

    start: a script that is run before the rounds; end: one after them.
    """
    files = "".join(f"cat > /tiervm/{name} << 'END'\n{text}\nEND\n"
                    for name, text in (
                        ("figures", policies.FIGURES),
                        ("start", f"set -e\n{start}\nsh /tiervm/figures start"),
                        ("end", f"set -e\nsh /tiervm/figures end\n{end}")))
    return files + (f"gups {arguments} --after-fill 'sh /tiervm/start' "
                    "--after-rounds 'sh /tiervm/end'\n")


def per_sample(lines: Sequence[str]) -> float:
    """Median of nanoseconds per sample, each sample taken with its batch's."""
    found: List[float] = []
    for line in lines:
        batch = re.search(r"samples=(\d+) counted=(\d+) ns=(\d+)", line)
        nr, counted, ns = (int(word) for word in batch.groups())
        # What is not counted is of no process that is known, hence cheap.
        if nr == counted:
            found += [ns / nr] * nr
    return statistics.median(found)


def sample(outcome: Outcome, profile: str,
           rounds: int = SAMPLE_ROUNDS) -> List[Figure]:
    """Instructions from a CPU's ring to a range, of each sample."""
    lines = guest("sample", traced(
        "hpl_sample_pebs", f"gups --size {SIZE_MIB} --reverse --rounds {rounds}"
        f" --after-fill '{ON}' > /dev/null"), outcome, pmu=True,
        timing_props=FREE, profile=profile)
    return [("sample_insns_median", per_sample(lines), "instructions"),
            ("sample_batches", len(lines), "count")]


# Pages free, those in the CPUs' lists too. Counts of CPUs are added up before.
METADATA = f"""
free_pages()
{{
    echo 1 > /proc/sys/vm/stat_refresh
    sleep 1
    echo 1 > /proc/sys/vm/stat_refresh
    awk -v when="$1" '$1 == "pages" && $2 == "free" {{ sum += $3 }}
        $1 == "count:" {{ sum += $2 }}
        END {{ print "free", when, sum }}' /proc/zoneinfo
}}

epochs() {{ awk '$1 == "hpl_epochs" {{ print $2 }}' /proc/vmstat; }}

for n in $(seq {CPUS}); do
    gups --size {PROGRAM_MIB} --reverse --seed $n --rounds 1000000 \\
        --after-fill "echo > /tmp/filled$n" > /dev/null &
    pids="$pids $!"
done
until [ "$(ls /tmp/filled* 2> /dev/null | wc -l)" -eq {CPUS} ]; do
    sleep 0.1
done
free_pages off
free_pages off
{ON}
for goal in {" ".join(map(str, EPOCHS))}; do
    until [ "$(epochs)" -ge $goal ]; do
        sleep 0.1
    done
    free_pages on
done
echo "source $(cat {KNOBS}/sample_source_in_use)"
echo "ranges $(($(wc -l < /sys/kernel/debug/hplacement/ranges) - 1))"
{OFF}
free_pages off
free_pages off
kill $pids
"""


def metadata_figures(lines: Sequence[str]) -> List[Figure]:
    """What was free without, less what was free with HPlacement at work."""
    words = [line.split() for line in lines]
    off, on = ([int(w[2]) for w in words if w[:2] == ["free", when]]
               for when in ("off", "on"))
    used = (statistics.mean(off) - min(on)) * PAGE
    ranges = next(int(w[1]) for w in words if w[0] == "ranges")
    return [("metadata_pct", 100 * used / (GUEST_MIB << 20), "%"),
            ("metadata_bytes", used, "bytes"),
            ("metadata_noise_bytes", (max(off) - min(off)) * PAGE, "bytes"),
            ("metadata_ranges", ranges, "count")]


def metadata(outcome: Outcome, profile: str) -> List[Figure]:
    """Memory that HPlacement takes, of a large guest's."""
    lines = guest("metadata", METADATA, outcome, fast=GUEST_MIB // 4,
                  slow=GUEST_MIB * 3 // 4, smp=CPUS, pmu=True, profile=profile)
    if "source pebs" not in lines:
        raise tiervm.GuestError("samples are not by pebs, so there are no "
                                "buffers of the CPUs to be measured")
    return metadata_figures(lines)


def worst_window(epochs: Sequence[Tuple[float, int]]) -> int:
    """The most nanoseconds that were spent within WINDOW_S.

    epochs: when each ended, in s, and what was spent in it. An epoch that ends
    within a window is taken to have been spent in it as a whole.
    """
    worst = spent = 0
    first = 0
    for when, ns in epochs:
        spent += ns
        while epochs[first][0] <= when - WINDOW_S:
            spent -= epochs[first][1]
            first += 1
        worst = max(worst, spent)
    return worst


def read_epochs(lines: Sequence[str]) -> List[Tuple[float, int]]:
    """When each traced epoch ended, and what sampling and classifying took."""
    found = []
    for line in lines:
        fields = re.search(r" (\d+\.\d+): hpl_epoch: .* sample_ns=(\d+) "
                           r"classify_ns=(\d+)", line)
        found.append((float(fields[1]), int(fields[2]) + int(fields[3])))
    return found


def budget(outcome: Outcome, profile: str) -> List[Figure]:
    """How far sampling and classifying exceed their budget at worst."""
    figures: List[Figure] = []
    over: Dict[int, float] = {}
    for permille in BUDGETS:
        epochs = read_epochs(guest(f"budget-{permille}", traced(
            "hpl_epoch", f"""
                echo {permille} > {KNOBS}/overhead_permille
                gups --size {SIZE_MIB} --reverse --move-by 0.85 --rounds 40 \\
                    --move-every 20 --after-fill '{ON}' > /dev/null"""),
            outcome, pmu=True, profile=profile))
        worst = worst_window(epochs) / 1e6
        over[permille] = max(0.0, worst - permille * WINDOW_S)
        figures += [(f"budget_{permille}_permille_worst_ms", worst, "ms")]
    return [("budget_overshoot_ms", max(over.values()), "ms"), *figures]


def classify_figures(lines: Sequence[str]) -> List[Figure]:
    """Instructions of an epoch's classification by size of memory."""
    figures: List[Figure] = []
    medians = []
    for line in lines:
        kind, *words = line.split()
        fields = dict(word.split("=", 1) for word in words)
        if kind != "classify" or float(fields["recall"]) < 0.9:
            raise tiervm.GuestError(f"the simulation went wrong: {line}")
        medians.append(int(fields["median_ns"]))
        figures.append((f"classify_{fields['gib']}_gib_insns", medians[-1],
                        "instructions"))
    return [("classify_cost_rel", max(medians) / medians[0], "1"), *figures]


def classify(outcome: Outcome, profile: str) -> List[Figure]:
    """How classification's cost grows with memory, in simulation.

    The simulation of the host tests runs in a guest whose clock counts
    instructions: so the host's speed does not matter.
    """
    del profile
    out = tiervm.BUILD / "host-sim"
    subprocess.run(["make", "-s", "-C",
                    str(TOP / "tools" / "testing" / "tiering_range"),
                    f"OUT={out}", "SAN=", "LDFLAGS=-static", "all"], check=True)
    return classify_figures(guest("classify", "tests -c", outcome,
                                  timing="icount", files=[out / "tests"]))


class Experiment(NamedTuple):
    """One of them: a name, and what returns its figures or raises."""
    name: str
    run: Callable[[Outcome, str], List[Figure]]


EXPERIMENTS = [Experiment(run.__name__, run) for run in
               (sample, metadata, budget, classify)]


@dataclasses.dataclass
class Cost(Outcome):
    """What an experiment found; no figures if it failed."""
    figures: List[Figure] = dataclasses.field(default_factory=list)

    @property
    def label(self) -> str:
        """What a person knows this run by."""
        return f"{WORKLOAD} {self.workload}"

    def rows(self) -> List[Dict[str, object]]:
        """Rows of a results file."""
        found = self.figures
        if self.error:
            found = [("failed", f"{self.workload}: {self.error}", "")]
        return [{"metric": metric, "policy": self.policy, "workload": WORKLOAD,
                 "value": value, "unit": unit} for metric, value, unit in found]


def measure(experiment: Experiment, profile: str) -> Cost:
    """Run an experiment; never raises GuestError."""
    found = Cost("hplacement", experiment.name)
    begin = time.monotonic()
    try:
        found.figures = experiment.run(found, profile)
    except (tiervm.GuestError, subprocess.CalledProcessError) as exc:
        found.error = str(exc)
    found.host_seconds = time.monotonic() - begin
    return found
