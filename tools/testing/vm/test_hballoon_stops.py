# SPDX-License-Identifier: GPL-2.0
"""HBalloon when the driver, the guest or its machine stops, or moves."""
import os
import time

import pytest
import tiervm
from hballoon import DRIVER, MIB, SMALL, SYSFS, resident


def test_unbind_gives_all_back(balloon):
    """Without its driver the guest has all its memory; with it, the target."""
    with balloon() as vm:
        before = vm.meminfo()
        target = [vm.size[0] - 100 * MIB, 300 * MIB]
        vm.resize(*target)
        vm.sh(f"cd {DRIVER}; "
              "basename $(ls -d virtio*) > /tmp/dev; cat /tmp/dev > unbind")
        assert vm.meminfo() == before
        assert vm.actual() == vm.size
        vm.sh(f"cat /tmp/dev > {DRIVER}/bind")
        vm.wait_for("the new driver", lambda: vm.actual() == target)


def test_unbind_in_mid_inflate(balloon):
    """A reset drops what is under way: nothing is discarded after it."""
    with balloon(smp=2, memfd=True) as vm:
        before = vm.meminfo()
        vm.sh(f"basename $(ls -d {SYSFS}) > /tmp/dev")
        for _ in range(4):
            # Used memory, which takes the host some time.
            vm.fill(1, 600)
            vm.drop(1)
            vm.set(None, SMALL, wait=False)
            assert vm.sh(f"cat /tmp/dev > {DRIVER}/unbind\n"
                         "memtool keep 600 1 1") == "0\n"
            assert vm.meminfo() == before
            assert vm.actual() == vm.size
            vm.sh(f"cat /tmp/dev > {DRIVER}/bind")
            vm.wait_for("the new driver", lambda: vm.actual()[1] == SMALL)
            vm.resize(None, vm.size[1])
        assert vm.meminfo() == before


def test_unbind_in_mid_populate(balloon):
    """The same while the host populates what it is about to give back."""
    with balloon(smp=2, memfd=True, hballoon="prealloc=on") as vm:
        before = vm.meminfo()
        vm.sh(f"basename $(ls -d {SYSFS}) > /tmp/dev")
        for _ in range(4):
            vm.resize(None, SMALL)
            vm.set(None, vm.size[1], wait=False)
            assert vm.sh(f"cat /tmp/dev > {DRIVER}/unbind\n"
                         "memtool keep 600 1 1") == "0\n"
            assert vm.meminfo() == before
            assert vm.actual() == vm.size
            vm.sh(f"cat /tmp/dev > {DRIVER}/bind")
        vm.resize(None, SMALL)
        vm.resize(None, vm.size[1])
        assert vm.meminfo() == before


def random_data(vm):
    """Data in the guest; returns their sum."""
    return vm.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=20 2> /dev/null\n"
                 "md5sum /tmp/data")


def short_of_target(vm):
    """Ask for what a guest cannot give; returns what its nodes have then."""
    vm.fill(1, 300)
    done, = vm.set(None, SMALL)
    assert done["reason"] == "no-memory"
    return vm.actual()


def data_and_work(vm):
    """Data in the guest, and a large resize that has begun; returns the data."""
    data = random_data(vm)
    # Used memory, which takes the host some time.
    vm.fill(1, 500)
    vm.drop(1)
    vm.set(None, SMALL, wait=False)
    return data


# SeaBIOS does not set up the chipset's power management again: neither could the
# guest sleep a second time, nor power off. In the bridge's configuration, the
# address of the registers and the switch are at 64.
SLEEP = """
bridge=/sys/bus/pci/devices/0000:00:1f.0/config
dd if=$bridge of=/tmp/bridge bs=1 skip=64 count=8 2> /dev/null
echo mem > /sys/power/state
dd if=/tmp/bridge of=$bridge bs=1 seek=64 conv=notrunc 2> /dev/null
"""


def sleep(vm):
    """Send the guest to sleep and wake it."""
    vm.session.start(SLEEP)
    vm.session.event("SUSPEND")
    assert vm.actual() == vm.size
    used = resident(vm.session.pid)
    vm.session.qmp("system_wakeup")
    vm.session.wait()
    # What was given back for the night was not touched.
    assert resident(vm.session.pid) < used + 32 * MIB


def follows_its_targets(vm, target, before):
    """A guest that is back reaches its small target, and then another."""
    vm.wait_for("the target", lambda: vm.actual()[1] == SMALL)
    vm.resize(*target)
    assert vm.held_by_vmstat() == sum(vm.size) - sum(target)
    assert vm.meminfo() == [total - size + actual for total, size, actual
                            in zip(before, vm.size, target)]


def test_suspend(balloon):
    """Asleep the guest holds nothing, and awake what its targets say."""
    with balloon(smp=2) as vm:
        before = vm.meminfo()
        data = data_and_work(vm)
        # The first time in the middle of a resize.
        for target in ([vm.size[0], SMALL],
                       [vm.size[0] - 20 * MIB, 300 * MIB]):
            sleep(vm)
            assert vm.sh("md5sum /tmp/data") == data
            follows_its_targets(vm, target, before)
            assert vm.nodes(retaken=True)[1]["retaken"] == 0
            vm.resize(*vm.size)
            assert vm.meminfo() == before
            vm.resize(None, SMALL)


def test_hibernation(balloon, tmp_path):
    """A guest on disk holds nothing, and back in memory what its targets say."""
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(1024 * MIB)
    with balloon(append="resume=/dev/vda", extra=[
            "-drive", f"file={disk},format=raw,if=none,id=disk",
            "-device", "virtio-blk-pci,drive=disk"]) as vm:
        before = vm.meminfo()
        vm.sh("mkswap /dev/vda > /dev/null; swapon /dev/vda")
        vm.session.qmp("set-action", reboot="reset")
        data = data_and_work(vm)
        for target in ([vm.size[0], SMALL],
                       [vm.size[0] - 20 * MIB, 300 * MIB]):
            vm.session.start("echo reboot > /sys/power/disk\n"
                             "echo disk > /sys/power/state")
            vm.session.event("RESET")
            # A kernel that finds nothing to resume would not have the data.
            vm.session.wait()
            assert vm.sh("md5sum /tmp/data") == data
            follows_its_targets(vm, target, before)
            vm.resize(*vm.size)
            assert vm.meminfo() == before
            vm.resize(None, SMALL)


# Powers a slot off as soon as something is held: indicator and power, PCI's
# Slot Control. No driver of ours for slots is asked.
EJECT = """
for port in /sys/bus/pci/devices/*; do
    [ "$(cat $port/class)" != 0x060400 ] || slot=$port/config
done
exec 3<> $slot
dd bs=2 count={word} <&3 > /dev/null 2>&1
echo ready
while read -r held < {held} && [ "$held" = 0 ]; do :; done
printf '\\000\\007' >&3
"""


def slot_control(vm):
    """Where the register is in the configuration of the guest's only port."""
    config = bytes.fromhex(vm.sh(
        "for port in /sys/bus/pci/devices/*; do\n"
        "[ $(cat $port/class) != 0x060400 ] || xxd -p $port/config; done"))
    at = config[0x34]
    while config[at] != 0x10:         # PCI Express
        at = config[at + 1]
    return at + 0x18


def test_unplug_in_mid_inflate(balloon):
    """A processor ejects the device while the main loop discards for it."""
    with balloon(hballoon=None, smp=2, memfd=True, extra=[
            # Else the port has nothing to do with it.
            "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
            "-device", "pcie-root-port,id=rp,chassis=1",
            "-device", "virtio-hballoon-pci,id=hb0,bus=rp"]) as vm:
        # Used memory, which takes the host some time.
        vm.fill(1, 600)
        vm.drop(1)
        vm.session.start(EJECT.format(word=slot_control(vm) // 2, held=vm.sh(
            f"ls {SYSFS}/node1/held_blocks").strip()))
        vm.session.until("ready")
        vm.set(None, SMALL, wait=False)
        vm.session.event("DEVICE_DELETED", device="hb0")
        assert vm.session.qmp("query-hballoon") == []
        vm.session.wait()
        # It had not ended.
        assert vm.value(1, "actual") > SMALL
        # The guest has it back; its driver waits for a device that is gone.
        assert vm.sh("memtool keep 100 0 1") == "0\n"
        vm.session.moved = True


def test_system_reset(balloon):
    """A guest that starts over has all its memory, then its target again."""
    with balloon() as vm:
        target = [vm.size[0] - 50 * MIB, 300 * MIB]
        vm.resize(*target)
        vm.session.qmp("set-action", reboot="reset")
        vm.session.qmp("system_reset")
        vm.session.event("HBALLOON_CHANGED")
        vm.session.wait()
        vm.wait_for("the target", lambda: vm.actual() == target)
        assert vm.nodes(retaken=True)[1]["retaken"] == 0
        vm.resize(*vm.size)


def migrate(source, target, tmp_path):
    """Start moving the guest of a Balloon to another one's QEMU, slowly."""
    uri = f"unix:{tmp_path}/migration"
    target.session.qmp("migrate-incoming", uri=uri)
    source.session.qmp("migrate-set-parameters", **{"max-bandwidth": MIB})
    source.session.qmp("migrate", uri=uri)
    source.wait_for("the migration to start", lambda: source.session.qmp(
        "query-migrate").get("status") == "active")


def test_migration_in_mid_resize(balloon, tmp_path):
    """A guest that has not reached its target moves, and reaches it there."""
    with balloon(memfd=True) as vm, \
            balloon(memfd=True, incoming=True) as there:
        data = random_data(vm)
        actual = short_of_target(vm)
        assert 300 * MIB < actual[1] < 400 * MIB

        migrate(vm, there, tmp_path)
        # Memory changes hands neither way while it is copied.
        with pytest.raises(tiervm.GuestError, match="migration is running"):
            vm.set(None, 768 * MIB)
        vm.drop(1)
        vm.wait_for("the driver to be told so",
                    lambda: vm.value(1, "busy") > 0)
        finish(vm)
        ram = vm.session.qmp("query-migrate")["ram"]
        vm.session.moved = True
        # What is held was not sent, not even as zeroes.
        assert (ram["normal"] + ram["duplicate"]) * 4096 < (
            sum(actual) + 64 * MIB)

        there.wait_for("the target", lambda: there.actual()[1] == SMALL)
        assert there.nodes(retaken=True)[1]["retaken"] == 0
        assert there.sh("md5sum /tmp/data") == data
        there.resize(None, 768 * MIB)
        there.fill(1, 500)


def capability(vm, name):
    """Switch on a capability of migration."""
    vm.session.qmp("migrate-set-capabilities", capabilities=[
        {"capability": name, "state": True}])


def finish(vm, parameter="max-bandwidth"):
    """Have a migration go as fast as it can, and wait for its end."""
    vm.session.qmp("migrate-set-parameters", **{parameter: 1 << 40})
    vm.wait_for("the migration", lambda: vm.session.qmp(
        "query-migrate")["status"] == "completed")


# The memory of a guest comes slowly: it seems to have stalled.
LATE = "rcupdate.rcu_cpu_stall_suppress=1"


def test_postcopy_in_mid_resize(balloon, tmp_path):
    """A guest runs at its destination before its memory is there."""
    with balloon(append=LATE) as vm, \
            balloon(append=LATE, incoming=True) as there:
        try:
            capability(there, "postcopy-ram")
        except tiervm.GuestError as exc:
            assert "ostcopy is not supported" in str(exc)
            pytest.skip(str(exc))
        capability(vm, "postcopy-ram")
        data = random_data(vm)
        actual = short_of_target(vm)
        migrate(vm, there, tmp_path)
        vm.session.qmp("migrate-set-parameters",
                       **{"max-postcopy-bandwidth": MIB})
        vm.session.qmp("migrate-start-postcopy")
        there.session.event("RESUME")
        vm.session.moved = True

        # Memory changes hands neither way, but the guest works.
        with pytest.raises(tiervm.GuestError, match="migration is running"):
            there.set(None, 768 * MIB)
        busy = there.value(1, "busy")
        there.drop(1)
        there.wait_for("the driver to be told so",
                       lambda: there.value(1, "busy") > busy)
        assert there.actual() == actual
        finish(vm, "max-postcopy-bandwidth")
        ram = vm.session.qmp("query-migrate")["ram"]
        assert ram["postcopy-requests"] > 0
        assert (ram["normal"] + ram["duplicate"]) * 4096 < (
            sum(actual) + 64 * MIB)

        there.wait_for("the target", lambda: there.actual()[1] == SMALL, 20)
        assert there.nodes(retaken=True)[1]["retaken"] == 0
        assert there.sh("md5sum /tmp/data") == data
        there.resize(None, 768 * MIB)
        there.fill(1, 500)


def test_background_snapshot(balloon, tmp_path):
    """State is saved as it was at the beginning, while the guest may run."""
    state, gate = tmp_path / "state", tmp_path / "gate"
    os.mkfifo(gate)
    with balloon(append=LATE, memfd=True) as vm, \
            balloon(append=LATE, memfd=True, incoming=True) as there:
        capability(vm, "background-snapshot")
        actual = short_of_target(vm)
        vm.session.qmp("migrate", uri=f"exec:cat {gate}; cat > {state}")
        vm.wait_for("the snapshot to start", lambda: vm.session.qmp(
            "query-migrate").get("status") == "active")
        with pytest.raises(tiervm.GuestError, match="migration is running"):
            vm.set(None, 768 * MIB)
        assert vm.actual() == actual
        gate.write_text("")
        vm.wait_for("the snapshot", lambda: vm.session.qmp(
            "query-migrate")["status"] == "completed")
        vm.drop(1)
        vm.resize(None, SMALL)
        assert vm.nodes(retaken=True)[1]["retaken"] == 0
        vm.resize(*vm.size)

        there.session.qmp("migrate-incoming", uri=f"file:{state}")
        there.wait_for("the snapshot to be loaded", lambda: there.session.qmp(
            "query-migrate").get("status") == "completed")
        if not there.session.qmp("query-status")["running"]:
            there.session.qmp("cont")
        assert there.actual() == actual
        assert there.nodes(retaken=True)[1]["retaken"] == 0
        there.drop(1)
        there.resize(None, SMALL)
        there.resize(*vm.size)
        there.fill(1, 500)


def test_failed_migration_goes_on(balloon, tmp_path):
    """A migration that is given up: the guest resizes on, without delay."""
    with balloon() as vm, balloon(incoming=True) as there:
        vm.fill(1, 300)
        vm.set(None, SMALL)
        migrate(vm, there, tmp_path)
        vm.drop(1)
        vm.wait_for("the driver to be told so",
                    lambda: vm.value(1, "busy") > 0)
        vm.session.qmp("migrate_cancel")
        vm.wait_for("the target", lambda: vm.actual()[1] == SMALL)
        there.session.moved = True
        vm.resize(None, 768 * MIB)


def job(session, command, **arguments):
    """Run a QMP job to its end."""
    session.qmp(command, **{"job-id": "job", **arguments})
    while True:
        state, = session.qmp("query-jobs")
        if state["status"] == "concluded":
            break
        time.sleep(0.05)
    session.qmp("job-dismiss", id="job")
    assert "error" not in state, state


def test_snapshot(balloon, tmp_path):
    """A snapshot holds what was held, whatever has become of it since."""
    disk = tmp_path / "disk.qcow2"
    with balloon(append=LATE) as vm:
        qmp = vm.session.qmp
        job(vm.session, "blockdev-create",
            options={"driver": "file", "filename": str(disk), "size": 0})
        qmp("blockdev-add", **{"node-name": "file", "driver": "file",
                               "filename": str(disk)})
        job(vm.session, "blockdev-create",
            options={"driver": "qcow2", "file": "file", "size": MIB})
        qmp("blockdev-add", **{"node-name": "disk", "driver": "qcow2",
                               "file": "file"})
        vm.resize(None, 200 * MIB)
        total = vm.meminfo()
        snapshot = {"tag": "s", "vmstate": "disk", "devices": ["disk"]}
        job(vm.session, "snapshot-save", **snapshot)
        vm.resize(None, 768 * MIB)
        vm.fill(1, 500)
        job(vm.session, "snapshot-load", **snapshot)
        qmp("cont")
        assert vm.actual()[1] == 200 * MIB
        assert vm.nodes(retaken=True)[1]["retaken"] == 0
        assert vm.meminfo() == total
        vm.resize(None, 768 * MIB)
        vm.fill(1, 500)
