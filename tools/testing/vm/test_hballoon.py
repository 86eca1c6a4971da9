# SPDX-License-Identifier: GPL-2.0
"""HBalloon, end to end: the host resizes nodes, the guest follows."""
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import tiervm
from conftest import TOP
from test_in_kernel import check, parse_ktap

MIB = 1 << 20
SYSFS = "/sys/bus/virtio/drivers/virtio_hballoon/virtio*"
HEADER = TOP / "include/uapi/linux/virtio_hballoon.h"
QEMU_HEADER = TOP / "qemu/include/standard-headers/linux/virtio_hballoon.h"


class Balloon:
    """A guest with an HBalloon device."""

    def __init__(self, session):
        self.session = session
        self.sh = session.sh

    def nodes(self, **options):
        """What query-hballoon says of each node."""
        info, = self.session.qmp("query-hballoon", **options)
        assert not info["broken"]
        return info["nodes"]

    def set(self, *sizes, wait=True, timeout=60):
        """Set targets, one for each node or None; wait for the answers.

        Returns the events HBALLOON_DONE, in the order of the nodes.
        """
        targets = [{"node": node, "size": int(size)}
                   for node, size in enumerate(sizes) if size is not None]
        generation = self.session.qmp("hballoon-set", id="hb0",
                                      targets=targets)["generation"]
        if not wait:
            return generation
        return [self.session.event("HBALLOON_DONE", timeout,
                                   node=target["node"],
                                   generation=generation)["data"]
                for target in targets]

    def resize(self, *sizes, **options):
        """Set targets that must be reached, exactly."""
        for done in self.set(*sizes, **options):
            assert done["reason"] == "reached", done
            assert done["actual"] == done["target"]

    def value(self, node, name):
        """A number that the driver shows in sysfs."""
        return int(self.sh(f"cat {SYSFS}/node{node}/{name}"))

    def movable(self):
        """Can compaction move what is held?"""
        return self.sh("zcat /proc/config.gz | "
                       "grep -c CONFIG_BALLOON_COMPACTION=y || true") == "1\n"

    def meminfo(self, name="MemTotal"):
        """A line of each node's meminfo, in bytes."""
        text = self.sh("cat /sys/devices/system/node/node*/meminfo")
        return [int(kb) * 1024 for kb in re.findall(rf" {name}: +(\d+)",
                                                    text)]

    def fill(self, node, mib):
        """Write to memory of a node, in tmpfs; freed by drop()."""
        self.sh(f"mkdir -p /fill{node}\n"
                f"mount -t tmpfs -o mpol=bind:{node},size=100% t /fill{node}\n"
                f"dd if=/dev/zero of=/fill{node}/f bs=1M count={mib} "
                "2> /dev/null")

    def drop(self, node):
        """Free what fill() has filled."""
        self.sh(f"umount /fill{node}")


def resident(pid):
    """Bytes of memory that a process occupies."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * 1024


@pytest.fixture
def balloon(request):
    """A function that boots a guest with a balloon, for use in a `with`."""
    stem = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")

    class Booted:
        def __init__(self, **machine):
            machine.setdefault("timing", "off")
            machine.setdefault("hballoon", "")
            self.manager = tiervm.session(stem, tiervm.Machine(**machine))

        def __enter__(self):
            return Balloon(self.manager.__enter__())

        def __exit__(self, *exc):
            return self.manager.__exit__(*exc)
    return Booted


def test_header_is_shared():
    """QEMU's copy of the protocol is the kernel's, converted as QEMU does."""
    text = HEADER.read_text()
    text = re.sub(r"__le(\d+)", r"uint\1_t", text)
    text = re.sub(r"<linux/([^>]*)>", r'"standard-headers/linux/\1"', text)
    assert QEMU_HEADER.read_text() == text


@pytest.mark.parametrize("node", [0, 1])
def test_right_node_exact(balloon, node):
    """A node shrinks and grows to the page, and no other node changes."""
    with balloon() as vm:
        before = vm.meminfo()
        sizes = [n["size"] for n in vm.nodes()]
        for less in (64 * MIB, 64 * MIB + 4096, 7 * 4096, 100 * MIB, 4096, 0):
            targets = [None, None]
            targets[node] = sizes[node] - less
            vm.resize(*targets)
            expected = list(before)
            expected[node] -= less
            assert vm.meminfo() == expected
            assert [n["actual"] for n in vm.nodes()] == [
                size - (less if n == node else 0)
                for n, size in enumerate(sizes)]
            assert vm.value(node, "wrong_node") == 0


@pytest.mark.parametrize("memfd", [False, True], ids=["ram", "memfd"])
def test_host_memory_is_given_back(balloon, memfd):
    """The host's memory in use falls by what the guest has touched."""
    with balloon(memfd=memfd) as vm:
        vm.fill(1, 400)
        vm.drop(1)
        used = resident(vm.session.pid)
        assert used > 400 * MIB
        vm.resize(None, 768 * MIB - 500 * MIB)
        assert used - resident(vm.session.pid) > 250 * MIB
        assert vm.nodes(retaken=True)[1]["retaken"] == 0
        vm.resize(None, 768 * MIB)
        vm.fill(1, 600)


def test_swap_never_dips(balloon):
    """When nodes change together, their sum stays at least what it was."""
    with balloon() as vm:
        vm.resize(128 * MIB, 512 * MIB)
        for fast, slow in ((192, 448), (96, 544), (128, 512)):
            seen = []
            generation = vm.set(fast * MIB, slow * MIB, wait=False)
            while True:
                nodes = vm.nodes()
                seen.append(sum(n["actual"] for n in nodes))
                if all(n.get("last", {}).get("generation") == generation
                       for n in nodes):
                    break
            assert min(seen) >= 640 * MIB
            assert seen[-1] == 640 * MIB


def test_shortfall_has_a_reason(balloon):
    """A target that the guest's use forbids: an answer, not a hang."""
    with balloon() as vm:
        vm.fill(1, 600)
        done, = vm.set(None, 64 * MIB)
        assert done["reason"] == "no-memory"
        assert done["actual"] > 600 * MIB
        # What is freed later is given without being asked for again.
        vm.drop(1)
        event = vm.session.event("HBALLOON_DONE", reason="reached", node=1)
        assert event["data"]["actual"] == 64 * MIB


@pytest.mark.parametrize("arguments, named", [
    ({"id": "nope", "node": 0, "size": 128 * MIB}, "'nope'"),
    ({"id": "hb0", "node": 5, "size": 128 * MIB}, "node 5"),
    ({"id": "hb0", "node": 0, "size": 128 * MIB + 1}, str(128 * MIB + 1)),
    ({"id": "hb0", "node": 0, "size": 32 * MIB}, str(32 * MIB)),
    ({"id": "hb0", "node": 1, "size": 1 << 40}, str(1 << 40)),
    ({"id": "hb0", "node": 1}, "size"),
    ({"id": "hb0", "targets": []}, "targets"),
    ({"id": "hb0", "targets": [{"node": 0, "size": 64 * MIB}] * 2}, "twice"),
])
def test_bad_values_are_refused_by_name(refused, arguments, named):
    """An error tells which value is wrong; nothing changes."""
    before = refused.nodes()
    with pytest.raises(tiervm.GuestError, match=re.escape(named)):
        refused.session.qmp("hballoon-set", **arguments)
    assert [n["target"] for n in refused.nodes()] == [
        n["target"] for n in before]


@pytest.fixture(scope="module")
def refused():
    """One guest for all tests of refusal; it has a floor of 64 MiB."""
    with tiervm.session("hballoon-refused", tiervm.Machine(
            timing="off", hballoon="floors=64M")) as session:
        yield Balloon(session)


def test_unbind_gives_all_back(balloon):
    """Without its driver the guest has all its memory; with it, the target."""
    with balloon() as vm:
        before = vm.meminfo()
        vm.resize(128 * MIB, 300 * MIB)
        vm.sh("cd /sys/bus/virtio/drivers/virtio_hballoon; "
              "basename $(ls -d virtio*) > /tmp/dev; cat /tmp/dev > unbind")
        assert vm.meminfo() == before
        assert [n["actual"] for n in vm.nodes()] == [256 * MIB, 768 * MIB]
        vm.sh("cat /tmp/dev > /sys/bus/virtio/drivers/virtio_hballoon/bind")
        deadline = time.monotonic() + 60
        while [n["actual"] for n in vm.nodes()] != [128 * MIB, 300 * MIB]:
            assert time.monotonic() < deadline, vm.nodes()


def test_boots_into_its_target(balloon):
    """A guest declared large starts small."""
    with balloon(hballoon="initial=160M:256M") as vm:
        assert [n["target"] for n in vm.nodes()] == [160 * MIB, 256 * MIB]
        for node in (0, 1):
            vm.session.event("HBALLOON_DONE", node=node, generation=1)
        assert [n["actual"] for n in vm.nodes()] == [160 * MIB, 256 * MIB]


def test_set_of_pages():
    """The device's record of what is held, alone (QEMU's unit test)."""
    done = subprocess.run([tiervm.BUILD / "qemu/tests/unit/test-hballoon-pages"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count("\nok ") >= 3


def test_device(tmp_path):
    """The device alone: each request, each error, a hostile guest (qtest)."""
    build = tiervm.BUILD / "qemu"
    # qtest starts QEMU without the path to its firmware.
    wrapper = tmp_path / "qemu-system-x86_64"
    firmware = " ".join(f"-L {path}" for path in tiervm.FIRMWARE)
    wrapper.write_text(f"#!/bin/sh\nexec {tiervm.Machine().qemu_path()} "
                       f'{firmware} "$@"\n')
    wrapper.chmod(0o755)
    done = subprocess.run([build / "tests/qtest/virtio-hballoon-test"],
                          env={**os.environ, "QTEST_QEMU_BINARY": str(wrapper)},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count("\nok ") >= 13


def test_held_memory_moves_within_its_node(balloon):
    """Compaction moves single pages, and each one is accounted for."""
    with balloon() as vm:
        if not vm.movable():
            pytest.skip("the kernel has no CONFIG_BALLOON_COMPACTION")
        # Less than a block each time, so that single pages are held.
        for less in range(1, 30):
            vm.resize(None, 768 * MIB - less * 511 * 4096)
        vm.sh("echo 1 > /proc/sys/vm/compact_memory")
        actual = [n["actual"] for n in vm.nodes()]
        assert actual == [256 * MIB, 768 * MIB - 29 * 511 * 4096]
        assert vm.value(1, "migrated") > 0


def test_held_memory_stays_online(balloon):
    """Offlining fails at once while memory is held, and works afterwards."""
    offline = ("cd /sys/devices/system/memory; for b in 5 4 3; do "
               "echo offline 2> /dev/null > memory$b/state && echo $b; done; "
               "true")
    with balloon() as vm:
        vm.resize(None, 64 * MIB)
        assert vm.sh(offline) == ""
        vm.resize(None, 768 * MIB)
        assert vm.sh(offline) != ""


def test_pure_parts(guest, debug):
    """KUnit: how pages become ranges, how long to wait."""
    result = guest("true", debug=debug, timing="off",
                   append="kunit.enable=1 kunit.filter_glob=hballoon")
    check(parse_ktap(result.log_text.splitlines()))
