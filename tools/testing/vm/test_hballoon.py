# SPDX-License-Identifier: GPL-2.0
"""HBalloon, end to end: the host resizes nodes, the guest follows."""
import os
import random
import re
import subprocess

import pytest
import tiervm
from conftest import TOP
from hballoon import MIB, SMALL, Balloon, resident
from test_in_kernel import check, parse_ktap

HEADER = TOP / "include/uapi/linux/virtio_hballoon.h"
QEMU_HEADER = TOP / "qemu/include/standard-headers/linux/virtio_hballoon.h"


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
            assert vm.held_by_vmstat() == less


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


# A kernel that looks for bugs writes to memory that it frees.
@pytest.mark.parametrize("debug", [False], ids=["plain"])
@pytest.mark.parametrize("memfd", [False, True], ids=["ram", "memfd"])
@pytest.mark.parametrize("prealloc", ["off", "on"])
def test_host_has_what_it_gives_back(balloon, memfd, prealloc):
    """The host populates what it gives back, if told so, and not otherwise."""
    with balloon(memfd=memfd, hballoon=f"prealloc={prealloc}") as vm:
        vm.resize(None, 768 * MIB - 500 * MIB)
        used = resident(vm.session.pid)
        vm.resize(None, 768 * MIB)
        more = resident(vm.session.pid) - used
        assert more >= 500 * MIB if prealloc == "on" else more < 32 * MIB
        vm.fill(1, 600)


def test_swap_never_dips(balloon):
    """When nodes change together, their sum stays at least what it was."""
    with balloon() as vm:
        fast0 = vm.size[0] - 128 * MIB
        vm.resize(fast0, 512 * MIB)
        total = fast0 + 512 * MIB
        for more in (64 * MIB, -32 * MIB, 0):
            seen = []
            generation = vm.set(fast0 + more, 512 * MIB - more, wait=False)
            while True:
                nodes = vm.nodes()
                seen.append(sum(n["actual"] for n in nodes))
                if all(n.get("last", {}).get("generation") == generation
                       for n in nodes):
                    break
            assert min(seen) >= total
            assert seen[-1] == total


def test_shortfall_has_a_reason(balloon):
    """A target that the guest's use forbids: an answer, not a hang."""
    with balloon() as vm:
        vm.fill(1, 600)
        done, = vm.set(None, SMALL)
        assert done["reason"] == "no-memory"
        assert done["actual"] > 600 * MIB
        # What is freed later is given without being asked for again.
        vm.drop(1)
        event = vm.session.event("HBALLOON_DONE", reason="reached", node=1)
        assert event["data"]["actual"] == SMALL


LOOK = r"placement when=\d+ hot="


@pytest.mark.parametrize("debug", [False], ids=["plain"])
def test_shrinking_takes_the_coldest(balloon, gups):
    """The fast node is halved while hot memory lies on it: that stays there.

    There is no swap, so nothing but demotion can make room.
    """
    with balloon(files=gups, timing="model") as vm:
        vm.sh("gups --size 320 --hot-share 0.05 --reverse --look-every 1 "
              "--rounds 1000 --updates 200000 --after-fill "
              "'echo 1 > /sys/kernel/mm/hplacement/enabled' &")
        vm.session.until(LOOK + r"(0\.9[5-9]|1)", timeout=400)
        before = vm.vmstat("hpl_demote_done_anon")
        vm.resize(128 * MIB, timeout=200)
        assert vm.vmstat("hpl_demote_done_anon") - before > 64 * MIB / 4096
        # The first looks are of the time of resizing.
        text = "".join(vm.session.until(LOOK, timeout=200)
                       for _ in range(10))
        vm.sh("killall gups")
        hot = [float(share) for share in re.findall(LOOK + r"([\d.]+)", text)]
        assert len(hot) >= 10
        assert min(hot) >= 0.9, hot


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


def test_boots_into_its_target(balloon, debug):
    """A guest declared large starts small."""
    target = [(350 if debug else 160) * MIB, 256 * MIB]
    initial = ":".join(f"{size >> 20}M" for size in target)
    with balloon(hballoon=f"initial={initial}") as vm:
        assert [n["target"] for n in vm.nodes()] == target
        # The driver may have ended before anybody could look.
        vm.wait_for("both nodes", lambda: all(
            n.get("last", {}).get("generation") == 1 for n in vm.nodes()))
        assert vm.actual() == target
        assert {n["last"]["reason"] for n in vm.nodes()} == {"reached"}
        assert vm.meminfo()[1] <= target[1]


def test_set_of_pages():
    """The device's record of what is held, alone (QEMU's unit test)."""
    done = subprocess.run([tiervm.BUILD / "qemu/tests/unit/test-hballoon-pages"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count("\nok ") >= 3


SLOW_PARTS = ("random", "hostile-rings", "fuzz")


@pytest.mark.parametrize("part", ("rest",) + SLOW_PARTS)
def test_device(tmp_path, request, part):
    """The device alone: each request, each error, a hostile guest (qtest)."""
    steps = 1500 if request.config.getoption("--long") else 250
    build = tiervm.BUILD / "qemu"
    # qtest starts QEMU without the path to its firmware.
    wrapper = tmp_path / "qemu-system-x86_64"
    firmware = " ".join(f"-L {path}" for path in tiervm.FIRMWARE)
    wrapper.write_text(f"#!/bin/sh\nexec {tiervm.Machine().qemu_path()} "
                       f'{firmware} "$@"\n')
    wrapper.chmod(0o755)
    select = [word for name in SLOW_PARTS
              for word in ("-s", f"/x86_64/hballoon/{name}")]
    if part != "rest":
        select = ["-p", f"/x86_64/hballoon/{part}"]
    done = subprocess.run([build / "tests/qtest/virtio-hballoon-test", *select],
                          env={**os.environ, "FUZZ": str(steps),
                               "QTEST_QEMU_BINARY": str(wrapper)},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    ran = [line for line in done.stdout.splitlines()
           if line.startswith("ok ") and "SKIP" not in line]
    assert len(ran) >= (15 if part == "rest" else 1), done.stdout[-4000:]


# A QEMU in a guest, so that VFIO needs no hardware: the guest passes its edu on.
VFIO = """
for device in /sys/bus/pci/devices/*; do
    [ "$(cat $device/device)" != 0x11e8 ] || edu=$(basename $device)
done
echo vfio-pci > /sys/bus/pci/devices/$edu/driver_override
echo $edu > /sys/bus/pci/drivers_probe
cat > /tmp/qemu-system-x86_64 << "end"
#!/bin/sh
exec qemu-system-x86_64 FIRMWARE "$@"
end
chmod +x /tmp/qemu-system-x86_64
export QTEST_QEMU_BINARY=/tmp/qemu-system-x86_64 VFIO_HOST=$edu
virtio-hballoon-test -p /x86_64/hballoon/vfio
"""


def test_vfio(guest, tmp_path):
    """What a passed-through device maps follows what is held."""
    build = tiervm.BUILD / "qemu"
    # The guest has it in memory, and sees no /tmp of the host.
    qemu = tmp_path / "qemu"
    subprocess.run(["strip", "-o", str(qemu), tiervm.Machine().qemu_path()],
                   check=True)
    firmware = " ".join(f"-L {path}" for path in tiervm.FIRMWARE)
    result = guest(VFIO.replace("FIRMWARE", firmware), root="host",
                   timing="off", files={
                       "/usr/local/bin/qemu-system-x86_64": str(qemu),
                       "/usr/local/bin/virtio-hballoon-test":
                       str(build / "tests/qtest/virtio-hballoon-test")},
                   append="vfio_iommu_type1.allow_unsafe_interrupts=1",
                   extra=["-device", "virtio-iommu-pci", "-device", "edu"])
    for order in ("before", "after"):
        assert re.search(rf"^ok \d+ /x86_64/hballoon/vfio/{order}$",
                         result.text, re.M), result.text


def test_held_memory_moves_within_its_node(balloon):
    """Compaction moves single pages, and each one is accounted for.

    With huge pages of the host's, which a memfd has not, what is used beside the
    held pages of a block would have the host back them, too.
    """
    with balloon(memfd=True) as vm:
        if not vm.movable():
            pytest.skip("the kernel has no CONFIG_BALLOON_COMPACTION")
        vm.sh("mkdir /tmp/fill\n"
              "mount -t tmpfs -o mpol=bind:1 none /tmp/fill")
        # Less than a block each time, so that single pages are held; all over
        # the node, or they might lie where compaction moves pages to.
        for less in range(1, 30):
            vm.sh("dd if=/dev/zero bs=1M count=16 2> /dev/null "
                  f"of=/tmp/fill/{less}")
            vm.resize(None, 768 * MIB - less * 511 * 4096)
        vm.sh("umount /tmp/fill")
        held = [n["actual"] for n in vm.nodes()]
        total = vm.meminfo()
        vm.sh("echo 1 > /proc/sys/vm/compact_memory")
        assert vm.actual() == held == [
            vm.size[0], 768 * MIB - 29 * 511 * 4096]
        assert vm.meminfo() == total
        assert vm.value(1, "migrated") == vm.vmstat("balloon_migrate") > 0
        assert vm.nodes(retaken=True)[1]["retaken"] == 0
        vm.resize(None, 768 * MIB)


BLOCK = 128 * MIB                     # memory block of x86 at these sizes
# So that there are blocks without the kernel's own memory, all on node 1.
MOVABLE = "movablecore=512M"
OFFLINE = """
cd /sys/devices/system/memory
for block in $(ls -d ../node/node1/memory*); do
    block=$(basename $block)
    [ $(cat $block/state) = online ] || continue
    grep -q Movable $block/valid_zones || continue
    echo offline 2> /dev/null > $block/state && echo $block
done
true
"""
ONLINE = "cd /sys/devices/system/memory; for b in {}; do echo online > $b/state; done"


def test_held_memory_makes_way(balloon):
    """Memory goes offline though a part of it is held, which moves."""
    with balloon(append=MOVABLE) as vm:
        before = vm.meminfo()
        # Blocks and, not to be joined to one, single pages.
        vm.resize(None, 768 * MIB - 200 * MIB)
        for less in range(1, 4):
            vm.resize(None, 768 * MIB - 200 * MIB - less * 511 * 4096)
        actual = vm.actual()
        held = 768 * MIB - actual[1]
        gone = vm.sh(OFFLINE).split()
        assert gone
        assert vm.value(1, "migrated") == vm.vmstat("balloon_migrate") > 0
        assert vm.held_by_vmstat() == held
        assert vm.actual() == actual
        assert vm.meminfo() == [before[0],
                                before[1] - held - len(gone) * BLOCK]
        assert vm.nodes(retaken=True)[1]["retaken"] == 0
        # What is held is elsewhere: all of it can be taken back.
        vm.resize(None, 768 * MIB)
        assert vm.meminfo() == [before[0], before[1] - len(gone) * BLOCK]
        vm.sh(ONLINE.format(" ".join(gone)))
        assert vm.meminfo() == before
        vm.resize(None, 300 * MIB)
        vm.resize(None, 768 * MIB)
        assert vm.meminfo() == before


def test_held_memory_stays_online(balloon):
    """Without other memory for it: offlining fails at once, nothing changes."""
    with balloon(append=MOVABLE) as vm:
        vm.resize(None, SMALL)
        total = vm.meminfo()
        assert vm.sh(OFFLINE) == ""
        assert vm.meminfo() == total
        assert vm.actual()[1] == SMALL
        vm.resize(None, 768 * MIB)
        assert vm.sh(OFFLINE) != ""


def test_no_process_dies_for_held_memory(balloon):
    """deflate-on-oom: taken back where it helps, no more than that."""
    with balloon(hballoon="deflate-on-oom=on") as vm:
        vm.resize(vm.size[0] - 16 * MIB, 768 * MIB - 400 * MIB)
        # More than the node has left. It ends, so it was not killed.
        need = 500 * MIB - vm.meminfo("MemFree")[1]
        vm.sh("memtool touch 500 1")
        taken = vm.value(1, "oom_deflated")
        # The kernel keeps 37 MiB in reserve and more on lists of its own, and
        # goes by 4 MiB: 68 to 83 MiB beyond the need have been seen.
        assert need <= taken * 4096 <= need + 100 * MIB
        assert vm.actual()[1] == 768 * MIB - 400 * MIB + taken * 4096
        assert "Out of memory" not in vm.sh("dmesg")
        assert vm.value(0, "oom_deflated") == 0
        # More than node 0 can have, by a process that may use no other: it is
        # killed, once node 0 has all it can have, and node 1 keeps its own.
        vm.sh(f"memtool touch {vm.size[0] >> 20} 0 && exit 1; true")
        assert "Out of memory" in vm.sh("dmesg")
        assert vm.actual()[0] == vm.size[0]
        assert vm.value(1, "oom_deflated") == taken


def test_oom_takes_nothing_unasked(balloon):
    """Without the feature the host's word stands."""
    with balloon() as vm:
        vm.resize(None, 300 * MIB)
        vm.sh("memtool touch 500 1 && exit 1; true")
        assert "Out of memory" in vm.sh("dmesg")
        assert vm.actual()[1] == 300 * MIB


def test_free_pages_are_reported(balloon):
    """reporting: what the guest frees comes back without a target.

    Of node 1 only, as it is asked for; the other one is left alone.
    """
    with balloon(hballoon="reporting=:on") as vm:
        vm.fill(0, 64)
        vm.fill(1, 500)
        used = resident(vm.session.pid)
        vm.drop(0)
        vm.drop(1)
        vm.wait_for("the host's memory to fall",
                    lambda: resident(vm.session.pid) < used - 350 * MIB)
        assert vm.value(1, "reported") * 4096 > 350 * MIB
        assert vm.value(0, "reported") == 0
        assert vm.actual() == vm.size
        # Reported or not, it is the guest's; and the driver can go.
        vm.fill(1, 500)
        vm.drop(1)
        vm.sh("cd /sys/bus/virtio/drivers/virtio_hballoon; "
              "basename $(ls -d virtio*) > unbind")
        vm.fill(1, 500)


def test_processors_come_and_go(balloon):
    """Workers do not depend on a processor."""
    with balloon(smp=2) as vm:
        before = vm.meminfo()
        vm.session.start("for i in 1 2 3 4 5 6 7 8; do "
                         "echo 0 > /sys/devices/system/cpu/cpu1/online; "
                         "echo 1 > /sys/devices/system/cpu/cpu1/online; done")
        for less in (300, 17, 555, 0):
            vm.resize(vm.size[0] - less // 10 * MIB, 768 * MIB - less * MIB)
        vm.session.wait()
        assert vm.meminfo() == before


# Uses a part of each node, in all the ways there are, until it is killed.
PRESSURE = """
mkdir -p /load
mount -t tmpfs -o size=100% load /load
while true; do
    memtool touch 60 1
    dd if=/dev/zero of=/load/f bs=64k count=600
    memtool fragment 40 1 8 & fragment=$!
    echo 1 > /proc/sys/vm/compact_memory
    cp /load/f /load/g
    kill $fragment
    rm -f /load/f /load/g
done > /dev/null 2>&1 &
echo $! > /tmp/load
"""


def test_random_resizes(balloon, request):
    """Under memory pressure, in any order: each page is accounted for."""
    rounds = 1000 if request.config.getoption("--long") else 40
    rand = random.Random(20240103)
    with balloon(smp=2, hballoon="deflate-on-oom=on") as vm:
        before = vm.meminfo()
        vm.sh(PRESSURE)
        for number in range(rounds):
            # Small, large, by pages, by blocks; one node, both, in one change.
            less = [rand.choice((0, rand.randrange(20 << 8) << 12,
                                 rand.randrange(10) << 21)),
                    rand.choice((rand.randrange(1 << 8) << 12,
                                 rand.randrange(560 << 8) << 12,
                                 rand.randrange(280) << 21))]
            target = [size - part for size, part in zip(vm.size, less)]
            if rand.randrange(3) == 0:
                target[rand.randrange(2)] = None
            generation = vm.set(*target, wait=False)
            if rand.randrange(4) == 0:
                continue              # the next one comes while it works
            for node, size in enumerate(target):
                if size is None:
                    continue
                done = vm.session.event("HBALLOON_DONE", 120, node=node,
                                        generation=generation)["data"]
                assert (done["actual"] == done["target"]
                        or done["reason"] != "reached"), (number, done)
        vm.sh("kill $(cat /tmp/load); killall memtool dd cp; true")
        vm.sh("while [ -e /load/f ] || [ -e /load/g ]; do "
              "rm -f /load/f /load/g; done; umount /load")
        vm.resize(*vm.size)
        assert vm.meminfo() == before
        assert "Out of memory" not in vm.sh("dmesg")
        for node, info in enumerate(vm.nodes(retaken=True)):
            assert info["actual"] == info["size"]
            assert vm.value(node, "held_blocks") == 0
            assert vm.value(node, "held_pages") == 0
            assert vm.value(node, "wrong_node") == 0
            assert vm.value(node, "inflated") == vm.value(node, "deflated")
            assert vm.value(node, "inflated") > 0
        assert vm.held_by_vmstat() == 0
        assert vm.vmstat("balloon_inflate") == sum(
            vm.value(node, "inflated") for node in (0, 1))


def test_pure_parts(guest, debug):
    """KUnit: how pages become ranges, how long to wait."""
    result = guest("true", debug=debug, timing="off",
                   append="kunit.enable=1 kunit.filter_glob=hballoon")
    check(parse_ktap(result.log_text.splitlines()))
