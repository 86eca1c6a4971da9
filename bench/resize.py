#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""How fast does a guest give memory back, and get it again?

Each round boots a guest for each device, in turn, and resizes its slow node by
SIZE: memory that was never used, memory that was used and freed, and memory in
small pieces. Wall-clock time, since a host's work costs a guest no time. The
roofline is this process discarding as much memory of its own, in pieces of
2 MiB. Rows go to build/results/resize.json.
"""
import argparse
import ctypes
import json
import mmap
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tools" / "tiering"))
import tiervm  # noqa: E402

MIB = 1 << 20
GIB = 1 << 30
FAST_MIB = 256
SLOW_MIB = 1024
TIMEOUT_S = 600
POLL_S = 0.0005
HOLE_KIB = 64                         # largest free piece when fragmented
PUNCH = 0x02 | 0x01                   # FALLOC_FL_PUNCH_HOLE | _KEEP_SIZE

# 20 GiB -> 2 GiB on a 12-core Xeon, from the published HyperAlloc artifact.
PUBLISHED = {"inflate_touched_gibs": 345, "inflate_untouched_gibs": 5035,
             "deflate_touch_gibs": 3.93}


class HBalloon:
    """The device of this repository."""
    name = "hballoon"

    def machine(self) -> Dict[str, object]:
        """Fields of tiervm.Machine."""
        return {"hballoon": ""}

    def ready(self, vm: tiervm.Session) -> None:
        """Wait until the device can be used."""

    def set(self, vm: tiervm.Session, less: int) -> None:
        """Ask for the slow node to be smaller by `less` bytes."""
        vm.qmp("hballoon-set", id="hb0", node=1, size=SLOW_MIB * MIB - less)

    def less(self, vm: tiervm.Session) -> int:
        """By how many bytes the guest is smaller now."""
        node = vm.qmp("query-hballoon")[0]["nodes"][1]
        return node["size"] - node["actual"]


class VirtioBalloon(HBalloon):
    """Stock, knows no node."""
    name = "virtio_balloon"

    def machine(self):
        return {"extra": ["-device", "virtio-balloon-pci,id=vb"]}

    def set(self, vm, less):
        vm.qmp("balloon", value=(FAST_MIB + SLOW_MIB) * MIB - less)

    def less(self, vm):
        return ((FAST_MIB + SLOW_MIB) * MIB
                - vm.qmp("query-balloon")["actual"])


class VirtioMem(HBalloon):
    """Stock, hot-plugs blocks of 2 MiB; it has SLOW_MIB of node 1 here."""
    name = "virtio_mem"

    def machine(self):
        return {"append": "memhp_default_state=online_movable", "extra": [
            "-m", f"maxmem={8 * GIB}",
            "-object", f"memory-backend-memfd,id=pool,share=on,"
                       f"size={SLOW_MIB}M",
            "-device", "virtio-mem-pci,id=vm,memdev=pool,node=1,"
                       f"requested-size={SLOW_MIB}M"]}

    def ready(self, vm):
        wait(lambda: self.less(vm) == 0, "virtio-mem to plug its memory")

    def set(self, vm, less):
        vm.qmp("qom-set", path="vm", property="requested-size",
               value=SLOW_MIB * MIB - less)

    def less(self, vm):
        return SLOW_MIB * MIB - vm.qmp("qom-get", path="vm", property="size")


DEVICES = (HBalloon(), VirtioBalloon(), VirtioMem())


def wait(condition: Callable[[], bool], what: str) -> float:
    """Seconds until the condition holds; raises GuestError at the timeout."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > TIMEOUT_S:
            raise tiervm.GuestError(f"waited {TIMEOUT_S} s for {what}")
        time.sleep(POLL_S)
    return time.monotonic() - start


def resize(device: HBalloon, vm: tiervm.Session, less: int) -> float:
    """Seconds from the request to the last byte."""
    start = time.monotonic()
    device.set(vm, less)
    wait(lambda: device.less(vm) == less,
         f"{device.name} to become smaller by {less >> 20} MiB")
    return time.monotonic() - start


def measure(device: HBalloon, size_mib: int) -> Dict[str, float]:
    """One guest's round: GiB/s by metric."""
    size = size_mib * MIB
    gib = size / GIB
    memtool = str(tiervm.BUILD / "bench" / "memtool")
    machine = tiervm.Machine(fast=FAST_MIB, slow=SLOW_MIB, smp=2, timing="off",
                             memfd=True, **device.machine())
    rates = {}
    with tiervm.session(f"resize-{device.name}", machine,
                        files={"/bin/memtool": memtool},
                        timeout=TIMEOUT_S) as vm:
        device.ready(vm)
        rates["inflate_untouched_gibs"] = gib / resize(device, vm, size)
        start = time.monotonic()
        resize(device, vm, 0)
        vm.sh(f"memtool touch {size_mib} 1")
        rates["deflate_touch_gibs"] = gib / (time.monotonic() - start)
        # As much more as fits, so that what is taken next has been used.
        vm.sh(f"memtool touch {SLOW_MIB - 128} 1")
        rates["inflate_touched_gibs"] = gib / resize(device, vm, size)
        resize(device, vm, 0)
        if isinstance(device, VirtioMem):
            return rates              # 2 MiB blocks cannot be given in pieces
        vm.sh(f"memtool fragment {SLOW_MIB - 128} 1 {HOLE_KIB} "
              "> /tmp/fragment & while [ ! -s /tmp/fragment ]; do sleep 0.1; "
              "done")
        rates["inflate_fragmented_gibs"] = (
            gib / 2 / resize(device, vm, size // 2))
    return rates


def roofline(size_mib: int, piece: int, touched: bool) -> float:
    """GiB/s at which a process discards memory of a memfd."""
    size = size_mib * MIB
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.memfd_create("roofline")
    os.ftruncate(fd, size)
    with mmap.mmap(fd, size) as memory:
        if touched:
            for offset in range(0, size, 4096):
                memory[offset] = 1
        start = time.monotonic()
        for offset in range(0, size, piece):
            if libc.fallocate(fd, PUNCH, ctypes.c_long(offset),
                              ctypes.c_long(piece)):
                raise OSError(ctypes.get_errno(), "fallocate")
            memory.madvise(mmap.MADV_DONTNEED, offset, piece)
        seconds = time.monotonic() - start
    os.close(fd)
    return size / GIB / seconds


def roofline_rates(size_mib: int) -> Dict[str, float]:
    """The roofline's rates by metric."""
    return {"inflate_untouched_gibs": roofline(size_mib, 2 * MIB, False),
            "inflate_touched_gibs": roofline(size_mib, 2 * MIB, True),
            "inflate_fragmented_gibs": roofline(size_mib // 2,
                                                HOLE_KIB * 1024, True)}


def write(rows: List[dict], output: Path) -> None:
    """build/results/resize.json, in the form of all results."""
    output.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([tiervm.Machine().qemu_path(), "--version"],
                             capture_output=True, text=True, check=True)
    (output / "resize.json").write_text(json.dumps({
        "experiment": "resize", "command": " ".join(sys.argv),
        "versions": {"qemu": version.stdout.splitlines()[0],
                     "host": os.uname().release},
        "rows": rows}, indent=1) + "\n")


def show(values: Dict[str, Dict[str, List[float]]]) -> None:
    """Medians and ranges, GiB/s, with what others have published."""
    metrics = sorted({m for rates in values.values() for m in rates})
    print(f"{'GiB/s: median (range)':26}"
          + "".join(f"{device:>24}" for device in values)
          + f"{'HyperAlloc (published)':>24}")
    for metric in metrics:
        line = f"{metric.removesuffix('_gibs'):26}"
        for rates in values.values():
            seen = rates.get(metric)
            line += f"{'-':>24}" if not seen else "{:>24}".format(
                f"{statistics.median(seen):.2f} "
                f"({min(seen):.2f}-{max(seen):.2f})")
        print(line + f"{PUBLISHED.get(metric, '-'):>24}")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="resize.py",
                                     description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N",
                        help="guests per device (default %(default)s)")
    parser.add_argument("--size", type=int, default=512, metavar="MIB",
                        help="by how much to resize (default %(default)s)")
    parser.add_argument("--only", action="append", metavar="DEVICE",
                        choices=[d.name for d in DEVICES] + ["roofline"],
                        help="measure this one; may be repeated")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        default=tiervm.BUILD / "results",
                        help="where the results go (default %(default)s)")
    options = parser.parse_args(argv)
    values: Dict[str, Dict[str, List[float]]] = {}
    rows: List[dict] = []
    failed = False
    jobs = [(d.name, lambda d=d: measure(d, options.size)) for d in DEVICES]
    jobs.append(("roofline", lambda: roofline_rates(options.size)))
    for number in range(options.rounds):
        for name, job in jobs:
            if options.only and name not in options.only:
                continue
            print(f"round {number + 1} of {options.rounds}: {name}",
                  file=sys.stderr, flush=True)
            try:
                rates = job()
            except tiervm.GuestError as exc:
                print(f"resize: {name}: {exc}", file=sys.stderr)
                failed = True
                continue
            for metric, value in rates.items():
                values.setdefault(name, {}).setdefault(metric, []).append(value)
                rows.append({"metric": metric, "device": name, "round": number,
                             "workload": f"{options.size} MiB",
                             "value": value, "unit": "GiB/s"})
    write(rows, options.output)
    show(values)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
