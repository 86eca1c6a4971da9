# SPDX-License-Identifier: GPL-2.0
"""How do N overcommitted VMs share a host of fast and slow memory?

Each VM is declared as large as the host. Once it has booted, a balloon takes all
but its N-th part, and GUPS runs in what is left. VMs do not interact here: each
has a guest clock of its own, so one guest stands for all VMs that are alike.
bench/README.md says what the metrics mean.
"""
import csv
import dataclasses
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import placement
import policies
from jobs import Experiment, Found, Job, Outcome, Row, failed
from policies import Policy, tiervm

MIB = 1 << 20
# The host, and each VM as declared. An eighth of the fast memory is what the
# kernel needs and a hot set; an eighth of both is what it needs and the buffer.
FAST_MIB, SLOW_MIB = 512, 1536
SIZE_MIB = 128                        # of the buffer
VMS, FAST_VMS = (1, 2, 4, 8), (8,)
SAME = "hotset"
# What VMs run in turn when they are mixed.
MIXED = ("hotset", "zipf_scattered", "mix", "uniform")
ROUNDS, FAST_ROUNDS = 28, 16
OWN_POLICIES = ("unmanaged", "hplacement")
CSV_MS = 10                           # of guest time: a tenth of a round
PROFILE = "pmem"

# Of host time, on one core: boot, balloon and the filling of the buffer; a round.
BOOT_S = 12.0
ROUND_S = 0.4

# Looks for the balloon to be as large as it is to be. An idle guest skips the time
# between them, so this bounds the host's time: some 2 ms each.
LOOKS = 30000

# Says how much memory each node has, and waits for the balloon, which the host
# sets when it reads that. What Linux keeps free is by the declared size, 67 MiB
# with huge pages, of which a part of the host cannot spare as much.
BALLOON = """
fail() { echo "failed reason=$1"; exit 1; }
memory()
{
    echo "memory when=$1 $(awk '$3 == "MemTotal:" {
        printf "node%d=%d ", $2, $4 }' /sys/devices/system/node/node*/meminfo)"
}
held()
{
    awk '$1 == "balloon_inflate" { n += $2 }
         $1 == "balloon_deflate" { n -= $2 } END { print n + 0 }' /proc/vmstat
}
reserve=/proc/sys/vm/min_free_kbytes
echo $(($(cat $reserve) / VMS)) > $reserve
memory boot
n=0
while [ "$(held)" -lt PAGES ]; do
    n=$((n + 1))
    [ $n -le LOOKS ] || fail "the balloon has $(held) pages, not PAGES"
    sleep 0.01
done
memory set
"""


class Balloon(NamedTuple):
    """A device, and when it takes memory."""
    name: str
    machine: Dict[str, object]        # fields of tiervm.Machine
    set: Callable[[tiervm.Session, int], None]   # to the share of so many VMs
    late: bool = False                # only when the buffer is filled


def set_nodes(guest: tiervm.Session, vms: int) -> None:
    """HBalloon: a size for each node."""
    guest.qmp("hballoon-set", id="hb0", targets=[
        {"node": node, "size": size * MIB // vms}
        for node, size in enumerate((FAST_MIB, SLOW_MIB))])


def set_total(guest: tiervm.Session, vms: int) -> None:
    """virtio-balloon: all that can be said is one size."""
    guest.qmp("balloon", value=(FAST_MIB + SLOW_MIB) * MIB // vms)


STOCK = {"extra": ["-device", "virtio-balloon-pci"]}
BALLOONS = [Balloon("hballoon", {"hballoon": ""}, set_nodes),
            Balloon("virtio_balloon", STOCK, set_total),
            Balloon("virtio_balloon_late", STOCK, set_total, late=True)]
POLICIES = {p.name: p for p in policies.POLICIES}


@dataclasses.dataclass
class Vm(policies.Outcome):
    """One of several VMs that are alike."""
    # KiB of each node, by when: after boot, when the balloon is set.
    memory: Dict[str, List[int]] = dataclasses.field(default_factory=dict)
    misses: List[int] = dataclasses.field(default_factory=list)   # by node

    def take(self, line: str) -> None:
        """Read one line of the guest's output."""
        if line.startswith("memory "):
            _, when, *nodes = line.split()
            self.memory[when.partition("=")[2]] = [
                int(node.partition("=")[2]) for node in nodes]
        super().take(line)

    def judged(self) -> List[Dict[str, float]]:
        """The last quarter of the rounds."""
        return self.rounds[-max(1, len(self.rounds) // 4):]


def kept_mib(vm: Dict[str, object]) -> Tuple[float, float]:
    """Memory of each node that the balloon has left, of an outcome."""
    boot, now = (vm["memory"][when] for when in ("boot", "set"))
    fast, slow = (size - (was - has) / 1024 for size, was, has in
                  zip((FAST_MIB, SLOW_MIB), boot, now))
    return fast, slow


def elsewhere(fast_mib: float, slow_mib: float) -> Tuple[float, float]:
    """What VMs keep of their fast and slow nodes, altogether: shares thereof that
    lie on the host's other tier.

    A host that has more to give of a tier than there is gives what is left of
    the other one. It does not know which pages are hot.
    """
    on_slow = min(max(0.0, fast_mib - FAST_MIB), max(0.0, SLOW_MIB - slow_mib))
    on_fast = min(max(0.0, slow_mib - SLOW_MIB), max(0.0, FAST_MIB - fast_mib))
    return on_slow / fast_mib, on_fast / slow_mib


def rate(vm: Dict[str, object], shares: Tuple[float, float]) -> float:
    """Million updates per second in the judged rounds, of an outcome.

    shares: of its nodes, what lies on the other tier: misses cost, in the mean,
    so much more or less.
    """
    (fast_ns, _), (slow_ns, _) = tiervm.PROFILES[PROFILE]
    count = max(1, len(vm["rounds"]) // 4)
    seconds = sum(r["seconds"] for r in vm["rounds"][-count:])
    more_ns = (slow_ns - fast_ns) * (vm["misses"][0] * shares[0]
                                     - vm["misses"][1] * shares[1])
    return count * policies.UPDATES / 1e6 / (seconds + more_ns / 1e9)


def count_misses(table: Path, start: int, end: int) -> List[int]:
    """Misses of each node in [start, end) of the machine's time in ns.

    table: the timing model's file `csv`.
    """
    first, last = [0, 0], [0, 0]
    with open(table, encoding="ascii") as rows:
        for row in csv.DictReader(rows):
            counts = [int(row[f"node{node}_misses"]) for node in (0, 1)]
            if int(row["time_ns"]) <= start:
                first = counts
            if int(row["time_ns"]) <= end:
                last = counts
    return [b - a for a, b in zip(first, last)]


def measure(balloon: Balloon, policy: Policy, workload: placement.Workload,
            vms: int, rounds: int, name: str,
            progress: Callable[[policies.Outcome], None]) -> Vm:
    """Run a VM that has its part of the host; never raises GuestError.

    name: of the console log. progress: called after each line of output.
    """
    vm = Vm(policy.name, workload.name)
    guests: List[tiervm.Session] = []

    def on_line(line: str) -> None:
        if line.startswith("memory when=boot") and vms > 1:
            balloon.set(guests[0], vms)
        progress(vm)

    pages = (FAST_MIB + SLOW_MIB) * (MIB - MIB // vms) // 4096
    script = BALLOON
    for word, value in (("PAGES", pages), ("LOOKS", LOOKS), ("VMS", vms)):
        script = script.replace(word, str(value))
    policy = dataclasses.replace(
        policy, fast=FAST_MIB, slow=SLOW_MIB,
        setup=(script if balloon.late else "") + policy.setup)
    with tempfile.TemporaryDirectory(prefix="multivm-") as scratch:
        table = Path(scratch) / "csv"
        policies.run(vm, policy, workload.arguments(), rounds, name, on_line,
                     guests.append, SIZE_MIB,
                     before="" if balloon.late else script,
                     profile=PROFILE, csv=str(table), csv_interval_ms=CSV_MS,
                     **balloon.machine)
        if not vm.error:
            stamps = placement.stamps_of(vm)
            vm.misses = count_misses(
                table, int(stamps[-1 - len(vm.judged())]), int(stamps[-1]))
    return vm


def vm_job(balloon: Balloon, policy: Policy, workload: placement.Workload,
           vms: int, rounds: int) -> Job:
    """One guest, for all VMs that are alike."""
    tags = {"device": balloon.name, "policy": policy.name,
            "workload": workload.name, "vms": vms}
    label = f"1 of {vms} {balloon.name} {policy.name} {workload.name}"

    def run(progress: Callable[[str], None]) -> Outcome:
        return dataclasses.asdict(measure(
            balloon, policy, workload, vms, rounds,
            "bench-" + label.replace(" ", "-"),
            lambda vm: progress(f"round {len(vm.rounds)}/{rounds}")))

    return Job(label, {"multivm": tags, "rounds": rounds},
               BOOT_S + ROUND_S * rounds, run, tags)


def multivm_jobs(fast: bool) -> List[Job]:
    """Each distinct VM once.

    What takes long, or tells little more, is left to the most VMs: other policies
    and workloads. One VM has all, whatever the balloon.
    """
    workloads = {w.name: w for w in placement.WORKLOADS}
    rounds = FAST_ROUNDS if fast else ROUNDS
    jobs = []
    for vms in FAST_VMS if fast else VMS:
        most = vms == VMS[-1] and not fast
        for balloon in BALLOONS[:1] if vms == 1 else BALLOONS:
            chosen = [(SAME, policy) for policy in OWN_POLICIES]
            if balloon.late and vms != VMS[-1] or balloon.late and fast:
                continue
            if most and not balloon.late:
                chosen.append((SAME, "numa_balancing"))
                chosen += [(other, policy) for other in MIXED[1:]
                           for policy in OWN_POLICIES]
            jobs += [vm_job(balloon, POLICIES[policy], workloads[workload],
                            vms, rounds) for workload, policy in chosen]
    return jobs


def host_rows(parts: Sequence[Tuple[Job, Outcome]], kind: str) -> List[Row]:
    """Figures of a host on which as many VMs run each part as any other."""
    vms = parts[0][0].tags["vms"]
    tags = {key: parts[0][0].tags[key] for key in ("device", "policy", "vms")}
    tags["workload"] = f"{kind} {vms} VMs"
    errors = [outcome["error"] for _, outcome in parts if outcome.get("error")]
    if errors:
        return [failed(parts[0][0], errors[0], **tags)]
    each = vms / len(parts)
    kept = [kept_mib(outcome) for _, outcome in parts]
    fast, slow = (each * sum(sizes) for sizes in zip(*kept))
    shares = elsewhere(fast, slow)
    rates = [rate(outcome, shares) for _, outcome in parts]
    figures = [("mups_total", each * sum(rates), "1e6/s"),
               ("mups_vm", sum(rates) / len(rates), "1e6/s"),
               ("mups_vm_declared", sum(rate(outcome, (0, 0)) for _, outcome
                                        in parts) / len(parts), "1e6/s"),
               ("fast_mib_vm", fast / vms, "MiB"),
               ("slow_mib_vm", slow / vms, "MiB"),
               ("fast_idle_mib", FAST_MIB - fast, "MiB")]
    rows = [{"metric": metric, **tags, "value": value, "unit": unit}
            for metric, value, unit in figures]
    if len(parts) > 1:
        rows += [{"metric": "mups_vm", **tags, "value": value, "unit": "1e6/s",
                  "workload": f"{kind} {vms} VMs, {job.tags['workload']}"}
                 for (job, _), value in zip(parts, rates)]
    return rows


def multivm_rows(found: Found, _fast: bool) -> List[Row]:
    """Figures of each host, of VMs that are alike and of mixed ones."""
    hosts: Dict[Tuple, List[Tuple[Job, Outcome]]] = {}
    for job, outcome in found:
        key = tuple(job.tags[name] for name in ("vms", "device", "policy"))
        hosts.setdefault(key, []).append((job, outcome))
    rows = []
    for kind in (SAME, "mixed"):
        for parts in hosts.values():
            if kind == SAME:
                rows += host_rows([pair for pair in parts if
                                   pair[0].tags["workload"] == SAME], kind)
            elif len(parts) == len(MIXED):
                rows += host_rows(parts, kind)
    return rows


EXPERIMENT = Experiment(
    "multivm", "how do overcommitted VMs share a host's fast and slow memory",
    multivm_jobs, multivm_rows, modelled=True)
