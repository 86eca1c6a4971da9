# SPDX-License-Identifier: GPL-2.0
"""HBalloon when the driver or the machine stops, or the guest moves."""
import time

import pytest
import tiervm
from hballoon import DRIVER, MIB, SMALL, SYSFS


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
        vm.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=20 2> /dev/null")
        data = vm.sh("md5sum /tmp/data")
        vm.fill(1, 300)
        done, = vm.set(None, SMALL)
        assert done["reason"] == "no-memory"
        actual = vm.actual()
        assert 300 * MIB < actual[1] < 400 * MIB

        migrate(vm, there, tmp_path)
        # Memory changes hands neither way while it is copied.
        with pytest.raises(tiervm.GuestError, match="migration is running"):
            vm.set(None, 768 * MIB)
        vm.drop(1)
        vm.wait_for("the driver to be told so",
                    lambda: vm.value(1, "busy") > 0)
        vm.session.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        vm.wait_for("the migration", lambda: vm.session.qmp(
            "query-migrate")["status"] == "completed")
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
    # A guest whose memory is being loaded seems to have stalled.
    with balloon(append="rcupdate.rcu_cpu_stall_suppress=1") as vm:
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
