# SPDX-License-Identifier: GPL-2.0
"""tiervm itself: a run that went wrong must never look like one that passed."""
import concurrent.futures
import functools
import subprocess
import sys

import pytest
import tiervm

SPLATS = [
    "WARNING: CPU: 0 PID: 1 at mm/slub.c:1 foo+0x1/0x2",
    "WARNING: possible circular locking dependency detected",
    "BUG: KASAN: slab-use-after-free in foo+0x1/0x2",
    "BUG: sleeping function called from invalid context at mm/foo.c:1",
    "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "UBSAN: array-index-out-of-bounds in mm/foo.c:1:2",
    "Oops: general protection fault, probably for non-canonical address",
    "rcu: INFO: rcu_preempt self-detected stall on CPU",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "INFO: task kworker/0:1:12 blocked for more than 120 seconds.",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [foo:1]",
    "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "Kernel panic - not syncing: Attempted to kill init!",
    "INFO: trying to register non-static key.",
]
HARMLESS = [
    "Linux version 6.12.0 (gcc 12.2.0)", "kmemleak: Kernel memory leak "
    "detector initialized (mem pool available: 15679)",
    "rcu: Hierarchical RCU implementation.", "Bugs: none",
    "debug: warning levels unchanged",
]


@pytest.fixture(name="guest")
def quick_guest(guest):
    """Guest time does not matter here."""
    return functools.partial(guest, timing="off")


@pytest.mark.parametrize("line", SPLATS)
def test_splat_is_found(line):
    """Each kind of complaint is recognised, with the time printk puts first."""
    assert tiervm.find_splats(f"[    1.0] fine\n[    2.0] {line}\n") == [
        f"[    2.0] {line}"]


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless_line_is_no_splat(line):
    """Ordinary lines are not taken for complaints."""
    assert tiervm.find_splats(f"[    1.0] {line}\n") == []


def test_status_and_output(guest):
    """The script's output arrives byte by byte, its status as it was."""
    result = guest("printf 'one\\n\\ttwo  \\n'; exit 0")
    assert result.text == "one\n\ttwo  \n"
    assert result.status == 0


def test_failing_script_fails(guest):
    """A status other than 0 fails the run and is reported."""
    result = guest("echo so far; exit 7", check=False)
    assert result.status == 7
    with pytest.raises(tiervm.GuestError, match="status 7(.|\n)*so far"):
        result.check()


def test_splat_fails_a_successful_script(guest):
    """A complaint in the kernel's log fails the run though the script passed."""
    result = guest("echo 'BUG: made up for a test' > /dev/kmsg", check=False)
    assert result.status == 0
    with pytest.raises(tiervm.GuestError, match="BUG: made up for a test"):
        result.check()


def test_panic_fails(guest):
    """A crash ends the guest at once and is reported with the log's tail."""
    result = guest("echo c > /proc/sysrq-trigger", check=False, timeout=60)
    assert result.status is None
    with pytest.raises(tiervm.GuestError, match="sysrq triggered crash"):
        result.check()


def test_poweroff_before_the_end_fails(guest):
    """A guest that goes off without an exit status has not succeeded."""
    result = guest("poweroff -f", check=False)
    assert result.status is None
    with pytest.raises(tiervm.GuestError, match="before the script ended"):
        result.check()


def test_hang_times_out(guest):
    """A guest that never ends is stopped, and the report says so."""
    result = guest("echo started; while :; do :; done", check=False, timeout=20)
    assert result.out == ["started"]
    with pytest.raises(tiervm.GuestError, match="no end after 20 s"):
        result.check()
    assert result.host_seconds < 40


def test_leak_scan_needs_kmemleak(guest):
    """A leak scan on a kernel that cannot do it fails."""
    with pytest.raises(tiervm.GuestError, match="no kmemleak"):
        guest("true", leaks=True)


def test_leak_scan_passes_on_the_debug_kernel(guest):
    """An idle debug kernel has no leaks."""
    result = guest("true", debug=True, leaks=True)
    assert result.status == 0


def test_initramfs_is_deterministic():
    """The same files give the same bytes, whatever order they come in."""
    files = {"/a/b": b"1", "/c": b"2"}
    assert tiervm.initramfs(files) == tiervm.initramfs(
        dict(reversed(list(files.items()))))


@pytest.mark.parametrize("fields, message", [
    ({"profile": "tape"}, "profile 'tape' is unknown"),
    ({"timing": "fast"}, "timing 'fast' is unknown"),
    ({"timing": "off", "csv": "x"}, "need timing model"),
    ({"fast": 8}, "fast node of 8 MiB is too small"),
    ({"slow": -1}, "slow node of -1 MiB"),
    ({"smp": 0}, "0 virtual CPUs"),
])
def test_wrong_machine_is_refused(fields, message):
    """A value that makes no machine is named in the error."""
    with pytest.raises(tiervm.GuestError, match=message):
        tiervm.Machine(**fields).args()


@pytest.mark.parametrize("fields, message", [
    ({"kernel": "/nowhere/bzImage"}, "kernel /nowhere/bzImage does not exist"),
    ({"qemu": "/nowhere/qemu"}, "QEMU /nowhere/qemu does not exist"),
    ({"extra": ["-device", "no-such"]}, "did not start(.|\n)*no-such"),
])
def test_guest_that_cannot_start(guest, fields, message):
    """What is missing is named."""
    with pytest.raises(tiervm.GuestError, match=message):
        guest("true", **fields)


def test_command_line_reports_errors():
    """The program says what is wrong and fails."""
    done = subprocess.run(
        [sys.executable, tiervm.__file__, "--fast", "8", "run", "true"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "fast node of 8 MiB is too small" in done.stderr


def test_guests_of_one_name_do_not_mix():
    """Two at once under the same name: each has its own status and log."""
    def end_with(status):
        return tiervm.run("same-name", f"exit {status}",
                          tiervm.Machine(timing="off"), timeout=240)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = list(pool.map(end_with, (3, 4)))
    assert [result.status for result in results] == [3, 4]
