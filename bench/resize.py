#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""How fast does a guest give memory back and get it again, and what does it cost?

Each round boots guests for each device, in turn, and resizes their slow node.
Wall-clock time, since a host's work costs a guest no time. The roofline is a
process of the host that discards as much memory of its own, in pieces as large
as the guest can give. Rows go to build/results/resize.json; bench/README.md
says what the metrics mean.
"""
import argparse
import concurrent.futures
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import (Callable, Dict, List, NamedTuple, Optional, Sequence,
                    Tuple)

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tools" / "tiering"))
import tiervm  # noqa: E402

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
FAST_MIB = 256
SLOW_MIB = 1024
TIMEOUT_S = 600
POLL_S = 0.005                        # QEMU's main loop pays for each look
HOLES_KIB = (64, 4)                   # largest free piece when fragmented
SPARE_MIB = 8                         # what a program leaves of a node
BACKENDS = ("memfd", "ram")           # of a guest's memory: shared, QEMU's own
SAME = 0.95                           # least share of what is used that was back
STREAM_MIB = 64
STREAM_IDLE_S = 3
STREAM_RESIZE_S = 6
FTQ_IDLE_S = 1
FTQ_RESIZE_S = 3
MEMTOOL = tiervm.BUILD / "bench" / "memtool"
# TCG executes string instructions byte by byte: that a guest's kernel zeroes
# its pages so would take longer than all that is measured here.
CPU = "erms=off,fsrm=off,fast-string=off"

# 672 GiB of virtual machines on 384 GiB, scaled: 21 of 1 GiB on 12 GiB.
VMS = 21
VM_FAST_MIB = 256
VM_SLOW_MIB = 768
VMS_LIMIT = 12 * GIB
CGROUPS = Path("/sys/fs/cgroup/memory")

# 20 GiB -> 2 GiB on a 12-core Xeon, from the published HyperAlloc artifact.
PUBLISHED = {"inflate_touched_gibs": "345", "inflate_untouched_gibs": "5035",
             "deflate_touch_gibs": "3.93"}


class Device:
    """The device of this repository, and what all have in common."""
    name = "hballoon"
    granule = 4096                    # bytes, of a target
    on_oom: Optional[Dict[str, object]] = {"hballoon": "deflate-on-oom=on"}
    pieces = True                     # can give less than 2 MiB

    properties = ""

    def machine(self, backend: str = "memfd") -> Dict[str, object]:
        """Fields of tiervm.Machine, for memory of a kind of BACKENDS."""
        return {"hballoon": self.properties, "memfd": backend == "memfd"}

    def ready(self, vm: tiervm.Session) -> None:
        """Wait until the device can be used."""

    def set(self, vm: tiervm.Session, less: int) -> Tuple[str, dict]:
        """Ask for the slow node to be smaller by `less` bytes.

        Returns name and data of the event that says when it is.
        """
        done = vm.qmp("hballoon-set", id="hb0", node=1,
                      size=SLOW_MIB * MIB - less)
        return "HBALLOON_DONE", {"node": 1, "reason": "reached", **done}

    def less(self, vm: tiervm.Session) -> int:
        """By how many bytes the guest is smaller now."""
        node = vm.qmp("query-hballoon")[0]["nodes"][1]
        return node["size"] - node["actual"]


class Prealloc(Device):
    """The same, with memory of the host for what is given back."""
    name = "hballoon_prealloc"
    properties = "prealloc=on"


class VirtioBalloon(Device):
    """Stock, knows no node."""
    name = "virtio_balloon"
    on_oom = {"extra": ["-device",
                        "virtio-balloon-pci,id=vb,deflate-on-oom=on"]}

    def machine(self, backend="memfd"):
        return {"extra": ["-device", "virtio-balloon-pci,id=vb"],
                "memfd": backend == "memfd"}

    def set(self, vm, less):
        size = (FAST_MIB + SLOW_MIB) * MIB - less
        vm.qmp("balloon", value=size)
        return "BALLOON_CHANGE", {"actual": size}

    def less(self, vm):
        return ((FAST_MIB + SLOW_MIB) * MIB
                - vm.qmp("query-balloon")["actual"])


class VirtioMem(Device):
    """Stock, hot-plugs blocks of 2 MiB; it has SLOW_MIB of node 1 here."""
    name = "virtio_mem"
    granule = 2 * MIB
    on_oom = None
    pieces = False

    def machine(self, backend="memfd"):
        memfd = backend == "memfd"
        return {"append": "memhp_default_state=online_movable",
                "memfd": memfd, "extra": [
                    "-m", f"maxmem={8 * GIB}",
                    "-object",
                    f"memory-backend-{'memfd,share=on' if memfd else 'ram'},"
                    f"id=pool,size={SLOW_MIB}M",
                    "-device", "virtio-mem-pci,id=vm,memdev=pool,node=1,"
                    f"requested-size={SLOW_MIB}M{self.properties}"]}

    def ready(self, vm):
        wait(lambda: self.less(vm) == 0, "virtio-mem to plug its memory")

    def set(self, vm, less):
        size = SLOW_MIB * MIB - less
        vm.qmp("qom-set", path="vm", property="requested-size", value=size)
        return "MEMORY_DEVICE_SIZE_CHANGE", {"id": "vm", "size": size}

    def less(self, vm):
        return SLOW_MIB * MIB - vm.qmp("qom-get", path="vm", property="size")


class VirtioMemPrealloc(VirtioMem):
    """The same, with memory of the host for what is plugged."""
    name = "virtio_mem_prealloc"
    properties = ",prealloc=on"


DEVICES = (Device(), VirtioBalloon(), VirtioMem())
# Those that give back: virtio-balloon has no way to populate.
GIVERS = (*DEVICES, Prealloc(), VirtioMemPrealloc())


class Row(NamedTuple):
    """One figure of one round."""
    metric: str
    workload: str
    value: float
    unit: str
    time_s: Optional[float] = None    # of a point of a curve

    def fields(self) -> Dict[str, object]:
        """Of a row of a results file."""
        return {k: v for k, v in self._asdict().items() if v is not None}


def wait(condition: Callable[[], bool], what: str) -> float:
    """Seconds until the condition holds; raises GuestError at the timeout."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > TIMEOUT_S:
            raise tiervm.GuestError(f"waited {TIMEOUT_S} s for {what}")
        time.sleep(POLL_S)
    return time.monotonic() - start


def meminfo(vm: tiervm.Session, name: str) -> List[int]:
    """A line of each node's meminfo, in bytes."""
    text = vm.sh("cat /sys/devices/system/node/node*/meminfo")
    return [int(kb) * KIB for kb in re.findall(rf" {name}: +(\d+)", text)]


def usable(vm: tiervm.Session) -> List[int]:
    """MiB of each node that a program gets without trouble."""
    zones = vm.sh("cat /proc/zoneinfo").split("Node ")
    sizes = []
    for node, free in enumerate(meminfo(vm, "MemFree")):
        # What the kernel does not like to hand out.
        reserve = 4096 * sum(int(re.search(r"\n +high +(\d+)", zone)[1])
                             for zone in zones if zone.startswith(f"{node},"))
        sizes.append(max((free - reserve) // MIB - SPARE_MIB, 0))
    return sizes


class Bench:
    """One device's guest in one round."""

    def __init__(self, device: Device, vm: tiervm.Session, size: int):
        self.device = device
        self.vm = vm
        self.size = size
        self.rows: List[Row] = []
        self.wrong = 0
        self.fast = meminfo(vm, "MemTotal")[0]

    def rate(self, metric: str, workload: str, size: int,
             seconds: float) -> None:
        """A row in GiB/s."""
        self.rows.append(Row(metric, workload, size / GIB / seconds, "GiB/s"))

    def resize(self, less: int) -> float:
        """Seconds from the request to the last byte.

        QEMU says when that was; asking it again and again would take its time.
        """
        start = end = time.time()
        if self.device.less(self.vm) != less:
            start = time.time()
            name, data = self.device.set(self.vm, less)
            end = 0.0
        # Some events come late, and an older one may have the same data.
        while end < start:
            stamp = self.vm.event(name, TIMEOUT_S, **data)["timestamp"]
            end = stamp["seconds"] + stamp["microseconds"] / 1e6
        seconds = end - start
        self.wrong = max(self.wrong,
                         self.fast - meminfo(self.vm, "MemTotal")[0])
        return seconds

    def whole(self) -> None:
        """Memory never used, and used before."""
        workload = f"{self.size >> 20} MiB"
        self.rate("inflate_untouched_gibs", workload, self.size,
                  self.resize(self.size))
        self.resize(0)
        # As much more as fits, so that what is taken next has been used.
        self.vm.sh(f"memtool touch {usable(self.vm)[1]} 1")
        self.rate("inflate_touched_gibs", workload, self.size,
                  self.resize(self.size))
        self.resize(0)

    def returned(self, backend: str) -> None:
        """Memory that had been used is given back, and used again.

        All else that is free is taken before, so that a program finds just
        what came back, on whichever node.
        """
        # Nor is anything of it to lie in the lists of a processor.
        self.vm.sh("echo 10000 > /proc/sys/vm/percpu_pagelist_high_fraction")
        for node, free in enumerate(usable(self.vm)):
            self.vm.sh(f"memtool touch {free} {node}")
        self.resize(self.size)
        for node, free in enumerate(usable(self.vm)):
            if free:
                self.background("hold", f"memtool hold {free} {node}")
        for pages, option in (("4 KiB", ""), ("2 MiB", " huge")):
            workload = f"{backend}, {pages} pages"
            before = meminfo(self.vm, "MemTotal")
            had = resident(self.vm)
            back = self.resize(0)
            came = [(now - old) // MIB for now, old in
                    zip(meminfo(self.vm, "MemTotal"), before)]
            touched = sum(float(self.vm.sh(
                f"memtool touch {mib} {node}{option}"))
                for node, mib in enumerate(came) if mib)
            if resident(self.vm) - had < SAME * self.size:
                raise tiervm.GuestError(
                    f"of {self.size >> 20} MiB that came back only "
                    f"{(resident(self.vm) - had) >> 20} were used")
            self.rate("deflate_gibs", workload, self.size, back)
            self.rate("deflate_touch_gibs", workload, self.size,
                      back + touched)
            self.resize(self.size)

    def background(self, name: str, command: str) -> str:
        """Start a program that goes on once it has said something: that."""
        return self.vm.sh(
            f"rm -f /tmp/{name}\n{command} > /tmp/{name} &\n"
            f"echo $! > /tmp/{name}.pid\n"
            f"while [ ! -s /tmp/{name} ]; do "
            f"kill -0 $(cat /tmp/{name}.pid) || exit 1; sleep 0.1; done\n"
            f"cat /tmp/{name}")

    def fragmented(self, hole_kib: int) -> None:
        """Memory of which only pieces are free."""
        free = usable(self.vm)[1]
        # Or the kernel puts the pieces together while they are measured.
        self.vm.sh("echo 0 > /proc/sys/vm/compaction_proactiveness")
        # Most of what is in pieces; not the last of it.
        freed = int(self.background(
            "fragment", f"memtool fragment {free} 1 {hole_kib}")) * MIB
        size = min(self.size, freed * 3 // 4) & ~(2 * MIB - 1)
        self.rate("inflate_fragmented_gibs", f"{hole_kib} KiB", size,
                  self.resize(size))
        self.vm.sh("kill $(cat /tmp/fragment.pid)")
        self.resize(0)

    def exact(self) -> None:
        """How far from a target does it end?"""
        error = 0
        for less in (self.size, self.size // 3 & ~4095, 5 * 4096, 0):
            asked = less // self.device.granule * self.device.granule
            self.resize(asked)
            error = max(error, abs(self.device.less(self.vm) - less))
        self.rows.append(Row("target_error_bytes", "", error, "bytes"))

    def interfere(self, name: str, command: str, unit: str, idle_s: int,
                  resize_s: int) -> None:
        """What a program gets done, at rest and while the node is resized."""
        idle = windows(self.vm.sh(f"{command} {idle_s}"))
        self.vm.start(f"{command} {resize_s}")
        end = time.monotonic() + resize_s
        count = 0
        while time.monotonic() < end:
            less = 0 if count % 2 else self.size
            self.device.set(self.vm, less)
            wait(lambda: self.device.less(self.vm) == less, "a resize")
            count += 1
        busy = windows(self.vm.wait())
        rest = statistics.median(idle)
        self.rows += [
            Row(f"{name}_idle{unit and '_gibs'}", "", rest, unit),
            Row(f"{name}_median_rel", "", statistics.median(busy) / rest, ""),
            Row(f"{name}_p1_rel", "", sorted(busy)[len(busy) // 100] / rest,
                ""),
            Row(f"{name}_resizes", "", count, "resizes")]
        self.resize(0)

    def interference(self) -> None:
        """With a program's bandwidth, and with its computing."""
        self.interfere("stream", f"memtool stream {STREAM_MIB} 1", "GiB/s",
                       STREAM_IDLE_S, STREAM_RESIZE_S)
        self.interfere("ftq", "memtool ftq", "", FTQ_IDLE_S, FTQ_RESIZE_S)

    def sizes(self) -> None:
        """What the guest has of each node, while one shrinks and grows again."""
        self.background("sizes", "memtool sizes")
        self.resize(self.size)
        self.resize(0)
        self.rows += size_rows(self.vm.sh(
            "kill $(cat /tmp/sizes.pid); cat /tmp/sizes"))

    def swap(self) -> None:
        """Both nodes change together: how low is the sum?"""
        def total() -> int:
            return sum(n["actual"] for n in
                       self.vm.qmp("query-hballoon")[0]["nodes"])

        half = FAST_MIB // 2
        dip = 0
        for fast, slow in ((FAST_MIB - half // 2, SLOW_MIB - half),
                           (half, SLOW_MIB - half + half // 2),
                           (FAST_MIB - half // 2, SLOW_MIB - half)):
            before = total()
            self.vm.qmp("hballoon-set", id="hb0", targets=[
                {"node": 0, "size": fast * MIB},
                {"node": 1, "size": slow * MIB}])
            floor = min(before, (fast + slow) * MIB)
            seen = before
            while True:
                nodes = self.vm.qmp("query-hballoon")[0]["nodes"]
                seen = min(seen, sum(n["actual"] for n in nodes))
                if all(n["actual"] == n["target"] for n in nodes):
                    break
            dip = max(dip, floor - seen)
        self.rows.append(Row("swap_dip_bytes", "", dip, "bytes"))


def size_rows(text: str) -> List[Row]:
    """Of what memtool sizes printed; time begins when the first change does."""
    # The first line is how it was long before.
    lines = [[float(word) for word in line.split()]
             for line in text.splitlines()][1:]
    return [Row("node_mib", tier, line[column] / KIB, "MiB",
                line[0] - lines[0][0])
            for tier, column in (("fast node", 1), ("slow node", 2))
            for line in lines]


def windows(text: str) -> List[float]:
    """What memtool stream or ftq printed of each window."""
    return [float(line.split()[1]) for line in text.splitlines()]


def guest(name: str, **machine):
    """A guest for the length of a `with` statement."""
    machine = {"fast": FAST_MIB, "slow": SLOW_MIB, "smp": 2, "timing": "off",
               "memfd": True, "cpu": "" if tiervm.on_kvm() else CPU, **machine}
    return tiervm.session(name, tiervm.Machine(**machine),
                          files={"/bin/memtool": str(MEMTOOL)},
                          timeout=TIMEOUT_S)


def measure(device: Device, size: int) -> List[Row]:
    """One round of a device."""
    with guest(f"resize-{device.name}", **device.machine()) as vm:
        device.ready(vm)
        bench = Bench(device, vm, size)
        bench.whole()
        bench.exact()
        if device.pieces:
            for hole in HOLES_KIB:
                bench.fragmented(hole)
        bench.interference()
        bench.sizes()
        bench.rows.append(Row("wrong_node_bytes", "", bench.wrong, "bytes"))
        if device.name == "hballoon":
            bench.swap()
    if device.on_oom is not None:
        bench.rows.append(oom_kills(device, size))
    return bench.rows


def give_back(device: Device, backend: str, size: int) -> List[Row]:
    """A round of giving back, on memory of a kind of BACKENDS."""
    with guest(f"resize-back-{device.name}-{backend}",
               **device.machine(backend)) as vm:
        device.ready(vm)
        bench = Bench(device, vm, size)
        bench.returned(backend)
    return bench.rows


def oom_kills(device: Device, size: int) -> Row:
    """Processes killed that needed what is held."""
    with guest(f"resize-oom-{device.name}", **device.on_oom) as vm:
        device.set(vm, size)
        wait(lambda: device.less(vm) == size, "a resize")
        # More than is free now, by less than what is held; node 1's share.
        need = (meminfo(vm, "MemFree")[1] + size // 2) // MIB
        vm.sh(f"memtool touch {need} 1 || true")
        kills = vm.sh("dmesg").count("Out of memory: Killed")
    return Row("oom_kills", "", kills, "processes")


def roofline(size: int) -> List[Row]:
    """What a process of the host reaches that only discards."""
    def seconds(size: int, piece: int, written: int) -> float:
        done = subprocess.run([MEMTOOL, "discard", str(size // MIB),
                               str(piece // KIB), str(written)], check=True,
                              capture_output=True, text=True)
        return float(done.stdout)

    workload = f"{size >> 20} MiB"
    rows = [Row("inflate_untouched_gibs", workload,
                size / GIB / seconds(size, 2 * MIB, 0), "GiB/s"),
            Row("inflate_touched_gibs", workload,
                size / GIB / seconds(size, 2 * MIB, 1), "GiB/s")]
    return rows + [Row("inflate_fragmented_gibs", f"{hole} KiB",
                       size / GIB / seconds(size, hole * KIB, 1), "GiB/s")
                   for hole in HOLES_KIB]


class Group:
    """A memory control group (version 1), for its processes' memory."""

    def __init__(self, name: str):
        own = re.search(r"^\d+:memory:(.*)$",
                        Path("/proc/self/cgroup").read_text(), re.M)
        if not own or not CGROUPS.is_dir():
            raise tiervm.GuestError("no memory cgroups of version 1 here")
        self.parent = CGROUPS / own[1].lstrip("/")
        self.path = self.parent / name

    def __enter__(self):
        """All that this process starts from now on is in the group."""
        self.path.mkdir(exist_ok=True)
        (self.path / "cgroup.procs").write_text(str(os.getpid()))
        return self

    def __exit__(self, *exc):
        (self.parent / "cgroup.procs").write_text(str(os.getpid()))
        # Pages of files that the group has read stay charged to it.
        (self.path / "memory.force_empty").write_text("0")
        self.path.rmdir()

    def value(self, name: str) -> int:
        """A number of the group."""
        return int((self.path / name).read_text())

    def limit(self, size: int) -> None:
        """No more than this many bytes."""
        (self.path / "memory.limit_in_bytes").write_text(str(size))

    def kills(self) -> int:
        """Processes that the limit has killed."""
        text = (self.path / "memory.oom_control").read_text()
        return int(re.search(r"oom_kill (\d+)", text)[1])


def resident(vm: tiervm.Session) -> int:
    """Bytes of the host that a guest's QEMU has."""
    text = Path(f"/proc/{vm.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * KIB


def shared(vm: tiervm.Session) -> int:
    """Bytes of the guest's memory that the host has."""
    text = Path(f"/proc/{vm.pid}/status").read_text()
    return int(re.search(r"RssShmem:\s+(\d+)", text)[1]) * KIB


class Half:
    """A guest of a crowd, whose target is half of what it was declared."""

    def __init__(self, number: int):
        self.target = (VM_FAST_MIB + VM_SLOW_MIB) // 2 * MIB
        self.manager = guest(
            f"resize-vm{number}", smp=1, fast=VM_FAST_MIB, slow=VM_SLOW_MIB,
            hballoon=f"initial={VM_FAST_MIB // 2}M:{VM_SLOW_MIB // 2}M")
        self.vm: Optional[tiervm.Session] = None

    def boot(self, stack: contextlib.ExitStack) -> None:
        """Boots, reaches its target, and uses all that it has."""
        self.vm = stack.enter_context(self.manager)
        wait(lambda: all(n["actual"] == n["target"] for n in
                         self.vm.qmp("query-hballoon")[0]["nodes"]),
             "a guest to reach its target")
        for node, size in enumerate(usable(self.vm)):
            self.vm.sh(f"memtool touch {size} {node}")

    def retained(self) -> int:
        """Bytes of the host above the target."""
        return max(0, shared(self.vm) - self.target)


def overcommit(count: int) -> List[Row]:
    """As many guests as would not fit if they had what was declared."""
    with Group("resize-one") as group:
        before = group.value("memory.usage_in_bytes")
        one = Half(0)
        with contextlib.ExitStack() as stack:
            one.boot(stack)
            overhead = (group.value("memory.usage_in_bytes") - before
                        - shared(one.vm))
    booted: List[Half] = []
    limit = VMS_LIMIT * count // VMS + overhead * count
    with Group("resize-crowd") as group, contextlib.ExitStack() as stack:
        group.limit(limit)

        def boot(vm: Half) -> None:
            try:
                vm.boot(stack)
            except (tiervm.GuestError, OSError) as exc:
                print(f"resize: {exc}", file=sys.stderr)
                return
            booted.append(vm)

        crowd = [Half(number) for number in range(count)]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(boot, crowd))
        alive = [vm for vm in booted if vm.vm.sh("echo alive") == "alive\n"]
        workload = f"{count} VMs, {limit >> 20} MiB"
        return [
            Row("overcommit_vms", workload, len(alive), "VMs"),
            Row("overcommit_kills", workload, group.kills(), "processes"),
            Row("overcommit_retained_bytes", workload,
                sum(vm.retained() for vm in alive), "bytes"),
            Row("overcommit_overhead_bytes", workload, overhead, "bytes"),
            Row("overcommit_peak_bytes", workload,
                group.value("memory.max_usage_in_bytes"), "bytes")]


def write(rows: List[dict], output: Path) -> None:
    """build/results/resize.json, in the form of all results."""
    output.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([tiervm.Machine().qemu_path(), "--version"],
                             capture_output=True, text=True, check=True)
    (output / "resize.json").write_text(json.dumps({
        "experiment": "resize", "command": " ".join(sys.argv),
        "versions": {"qemu": version.stdout.splitlines()[0],
                     "host": os.uname().release},
        "load": os.getloadavg()[0],
        "rows": rows}, indent=1) + "\n")


class Goal(NamedTuple):
    """What a device's median of a metric has to be."""
    metric: str
    workload: Optional[str]           # None: any
    factor: float
    of: Optional[str]                 # a device; None: an absolute value
    least: bool                       # at least, not at most
    device: str = "hballoon"


GOALS = (
    Goal("inflate_untouched_gibs", None, 20, "virtio_balloon", True),
    Goal("inflate_untouched_gibs", None, 1, "virtio_mem", True),
    Goal("inflate_touched_gibs", None, 0.8, "roofline", True),
    Goal("inflate_fragmented_gibs", "64 KiB", 0.8, "roofline", True),
    Goal("inflate_fragmented_gibs", "4 KiB", 0.6, "roofline", True),
    *(Goal("deflate_touch_gibs", f"{backend}, {pages} pages", 2,
           "virtio_balloon", True, device)
      for device in ("hballoon", "hballoon_prealloc")
      for backend in BACKENDS for pages in ("4 KiB", "2 MiB")),
    Goal("wrong_node_bytes", None, 0, None, False),
    Goal("target_error_bytes", None, 4096, None, False),
    Goal("swap_dip_bytes", None, 0, None, False),
    Goal("oom_kills", None, 0, None, False),
    Goal("overcommit_vms", None, VMS, None, True),
    Goal("overcommit_kills", None, 0, None, False),
    Goal("overcommit_retained_bytes", None, 0, None, False),
    Goal("stream_median_rel", None, 0.9, None, True),
    Goal("stream_p1_rel", None, 1, "virtio_balloon", True),
)


class Results:
    """All rows, by metric and workload."""

    def __init__(self, rows: List[dict]):
        self.values: Dict[tuple, Dict[str, List[float]]] = {}
        for row in rows:
            key = (row["metric"], row["workload"])
            self.values.setdefault(key, {}).setdefault(
                row["device"], []).append(row["value"])

    def median(self, metric: str, workload: Optional[str],
               device: str) -> Optional[float]:
        """The median of all rounds, or None."""
        for (name, load), devices in self.values.items():
            if (name == metric and workload in (None, load)
                    and device in devices):
                return statistics.median(devices[device])
        return None

    def show(self) -> None:
        """A table of medians and ranges, then the goals."""
        devices = [d.name for d in GIVERS] + ["roofline"]
        print(f"{'median (range)':38}"
              + "".join(f"{device:>24}" for device in devices)
              + f"{'HyperAlloc (published)':>24}")
        for (metric, workload), seen in self.values.items():
            line = f"{metric} {workload}".rstrip()[:37].ljust(38)
            for device in devices:
                values = seen.get(device)
                line += f"{'-':>24}" if not values else "{:>24}".format(
                    f"{show(statistics.median(values))} "
                    f"({show(min(values))}-{show(max(values))})")
            print(line + f"{PUBLISHED.get(metric, '-'):>24}")
        print()
        for goal in GOALS:
            self.show_goal(goal)

    def judge(self, goal: Goal) -> Optional["Judged"]:
        """How it is with a goal, or None if the metric was not measured."""
        value = self.median(goal.metric, goal.workload, goal.device)
        base = 1.0 if goal.of is None else self.median(
            goal.metric, goal.workload, goal.of)
        if value is None or base is None:
            return None
        bound = goal.factor * base
        what = f"{goal.metric} {goal.workload or ''}".rstrip()
        if goal.device != "hballoon":
            what = f"{goal.device}: {what}"
        least = "at least" if goal.least else "at most"
        return Judged(
            f"{what} {least} {goal.factor:g}"
            + (f" of {goal.of}" if goal.of else ""),
            value / base if goal.of and base else value,
            value >= bound if goal.least else value <= bound)

    def show_goal(self, goal: Goal) -> None:
        """One line, if the metric was measured."""
        judged = self.judge(goal)
        if judged:
            print(f"{'met   ' if judged.met else 'MISSED'}  "
                  f"{judged.wanted}: {show(judged.value)}")


class Judged(NamedTuple):
    """A goal, and what is."""
    wanted: str
    value: float
    met: bool


def show(value: float) -> str:
    """A figure for people."""
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="resize.py",
                                     description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N",
                        help="guests per device (default %(default)s)")
    parser.add_argument("--size", type=int, default=512, metavar="MIB",
                        help="by how much to resize (default %(default)s)")
    parser.add_argument("--vms", type=int, default=VMS, metavar="N",
                        help="guests of the crowd, 0: none "
                             "(default %(default)s)")
    parser.add_argument("--only", action="append", metavar="DEVICE",
                        choices=[d.name for d in GIVERS] + ["roofline"],
                        help="measure this one; may be repeated")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        default=tiervm.BUILD / "results",
                        help="where the results go (default %(default)s)")
    options = parser.parse_args(argv)
    rows: List[dict] = []
    failed = False
    size = options.size * MIB
    jobs = [job for number in range(options.rounds) for job in (
        *((number, d.name, lambda d=d: measure(d, size)) for d in DEVICES),
        *((number, d.name, lambda d=d, b=b: give_back(d, b, size))
          for b in BACKENDS for d in GIVERS),
        (number, "roofline", lambda: roofline(size)))]
    if options.vms:
        jobs.append((0, "hballoon", lambda: overcommit(options.vms)))
    for number, name, job in jobs:
        if options.only and name not in options.only:
            continue
        print(f"round {number + 1} of {options.rounds}: {name}",
              file=sys.stderr, flush=True)
        try:
            done = job()
        except tiervm.GuestError as exc:
            print(f"resize: {name}: {exc}", file=sys.stderr)
            failed = True
            continue
        rows += [{**row.fields(), "device": name, "round": number}
                 for row in done]
        # Each time: a run that is interrupted has been of some use.
        write(rows, options.output)
    Results([row for row in rows if "time_s" not in row]).show()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
