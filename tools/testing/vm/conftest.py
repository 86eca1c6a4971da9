# SPDX-License-Identifier: GPL-2.0
"""Fixtures that boot guests, and the closing line of a test run.

guest(script, ...) boots a guest, runs a shell script in it and returns a
tiervm.Result: .out (lines), .status, .log_text. It raises if the script fails,
if the kernel complains or if the guest hangs, unless check=False is given.
A test that takes the fixture `debug` runs on the plain kernel and on the one
with KASAN, lockdep and kmemleak: pass it on as guest(..., debug=debug).
"""
import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(TOP / "tools" / "tiering"), str(TOP / "bench")]
import tiervm  # noqa: E402
from hballoon import Balloon  # noqa: E402
from qemu.qmp.legacy import QEMUMonitorProtocol  # noqa: E402

# Left to `make test-long`, as they take minutes, or, on the debug kernel, a quarter
# of one each or more. Parts of the names of tests.
LONG = (
    "test_config_off.py::test_option_is_there_and_off[vmlinux]",
    "test_config_off.py::test_nothing_remains[vmlinux]",
    "test_config_off.py::test_sections_have_upstreams_sizes[vmlinux]",
    "test_a_million_samples", "test_sampling_is_quick", "test_model_is_quick",
    "test_right_node_exact[debug", "test_swap_never_dips[debug",
    "test_oom_takes_nothing_unasked[debug", "test_free_pages_are_reported[debug",
    "test_processors_come_and_go[debug", "test_system_reset[debug",
    "test_migration_in_mid_resize[debug", "test_failed_migration_goes_on[debug",
    "test_snapshot[debug", "test_host_memory_is_given_back[debug",
    "test_unbind_in_mid_inflate[debug", "test_unbind_in_mid_populate[debug",
    "test_suspend[debug", "test_hibernation[debug",
    "test_postcopy_in_mid_resize[debug", "test_background_snapshot[debug",
    "test_unplug_in_mid_inflate[debug",
    "test_shortfall_has_a_reason[debug", "test_no_process_dies_for_held_memory[debug",
    "test_in_kernel.py::test_kselftest[debug",
    "test_numa_migration_keeps_the_data[debug", "test_moves_while_it_works[off",
    "test_resize.py",
    "test_tracking.py::test_method_sees_in_a_guest",
    "test_tracking.py::test_hint_faults_are_seen_in_a_guest",
    "test_tracking.py::test_batches_follow_the_rate",
    "test_pebs.py::test_unrest",
    "test_pebs.py::test_no_leaks_on_the_debug_kernel",
    "test_pebs.py::test_finds_the_hot_set_and_keeps_the_data[debug",
)


def pytest_addoption(parser):
    """--long: run the long tests as well."""
    parser.addoption("--long", action="store_true",
                     help="run the long tests as well")


def pytest_collection_modifyitems(config, items):
    """Leave out the long tests unless they are asked for."""
    if config.getoption("--long"):
        return
    left = [i for i in items if any(name in i.nodeid for name in LONG)]
    config.hook.pytest_deselected(items=left)
    items[:] = [i for i in items if i not in left]


# The debug kernel takes about 200 MiB of the fast node for itself (KASAN's
# shadow, lockdep, kmemleak): with so much, what is left is as on the plain one.
DEBUG_FAST_MIB = 448


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def debug(request):
    """Whether to boot the debug kernel: the test runs with both."""
    return request.param


@pytest.fixture
def guest(request):
    """A function that boots a guest and runs a script in it.

    Options beside those of tiervm.run() are fields of tiervm.Machine. Timing
    is `model` by default, on the debug kernel `off`, where it would take long.
    The log is build/logs/TEST.log, for a test's second guest TEST-2.log.
    """
    stem = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")
    count = 0

    def boot(script, *, check=True, files=None, root="busybox", timeout=240,
             leaks=False, on_line=None, **machine):
        nonlocal count
        count += 1
        name = stem if count == 1 else f"{stem}-{count}"
        if machine.get("debug"):
            machine = {"timing": "off", "fast": DEBUG_FAST_MIB, **machine}
        machine.setdefault("timing", "model")
        result = tiervm.run(name, script, tiervm.Machine(**machine),
                            files=files, root=root, timeout=timeout,
                            leaks=leaks, on_line=on_line)
        return result.check() if check else result
    return boot


@pytest.fixture
def balloon(request, debug, memtool):
    """A function that boots a guest with a balloon, for use in a `with`."""
    stem = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")

    class Booted:
        count = 0

        def __init__(self, files=None, **machine):
            machine = {"timing": "off", "hballoon": "", "debug": debug,
                       "fast": DEBUG_FAST_MIB if debug else 256, **machine}
            Booted.count += 1
            name = stem if Booted.count == 1 else f"{stem}-{Booted.count}"
            incoming = machine.pop("incoming", False)
            self.manager = tiervm.session(name, tiervm.Machine(**machine),
                                          files={**memtool, **(files or {})},
                                          timeout=240, incoming=incoming)

        def __enter__(self):
            return Balloon(self.manager.__enter__())

        def __exit__(self, *exc):
            return self.manager.__exit__(*exc)
    return Booted


# For both sides of a move: a machine that was stopped is to go on all the same.
GO_ON = ["-global", "migration.store-global-state=off"]


def move_away(control, state, stop):
    """Write the state of the machine behind a QMP socket to a file, end it.

    stop: before that, not when little is left to write.
    """
    # Its end of the socket may be gone before ours is closed.
    with contextlib.suppress(EOFError), QEMUMonitorProtocol(
            str(control)) as qmp:
        qmp.connect()
        qmp.cmd("migrate-set-capabilities",
                capabilities=[{"capability": "events", "state": True}])
        # No limit but that of the disk.
        qmp.cmd("migrate-set-parameters", **{"max-bandwidth": 0,
                                             "downtime-limit": 2000})
        if stop:
            qmp.cmd("stop")
        qmp.cmd("migrate", uri=f"file:{state}")
        status = None
        while status not in ("completed", "failed"):
            event = qmp.pull_event(wait=60.0)
            if event["event"] == "MIGRATION":
                status = event["data"]["status"]
        assert status == "completed"
        qmp.cmd("quit")


def guest_program(name):
    """Compile guest/NAME*.c for a guest; the program's path here."""
    out = tiervm.BUILD / "bench" / name
    out.parent.mkdir(parents=True, exist_ok=True)
    sources = (Path(__file__).resolve().parent / "guest").glob(f"{name}*.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static",
                    "-o", str(out), *map(str, sources)], check=True)
    return str(out)


@pytest.fixture(scope="session")
def gups():
    """The gups program, as files= for a guest: it is there as `gups`."""
    out = tiervm.BUILD / "bench"
    subprocess.run(["make", "-s", "-C", str(TOP / "bench"), f"OUT={out}"],
                   check=True)
    return {"/bin/gups": str(out / "gups")}


@pytest.fixture(scope="session")
def memtool():
    """The memtool program, as files= for a guest: it is there as `memtool`."""
    out = tiervm.BUILD / "bench"
    subprocess.run(["make", "-s", "-C", str(TOP / "bench"), f"OUT={out}"],
                   check=True)
    return {"/bin/memtool": str(out / "memtool")}


def pytest_unconfigure(config):
    """The last line of a run: how many passed, failed and were skipped."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return

    def count(*kinds):
        return sum(len(reporter.stats.get(kind, ())) for kind in kinds)

    reporter.write_line(f"{count('passed', 'xpassed')} passed, "
                        f"{count('failed', 'error')} failed, "
                        f"{count('skipped', 'xfailed')} skipped")
