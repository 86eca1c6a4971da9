# SPDX-License-Identifier: GPL-2.0
"""`tiervm.py shell` on a terminal, as a person would use it."""
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import termios
import time

import pytest
import tiervm


class Terminal:
    """A terminal of 31 lines and 97 columns with `tiervm.py shell` on it."""

    def __init__(self):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            size = struct.pack("4H", 31, 97, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.environ["TERM"] = "xterm"
            os.execv(tiervm.__file__, ["tiervm.py", "shell"])
        self.seen = ""

    def expect(self, text, seconds=60):
        """Read until `text` has come; return what came before it."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], (
                f"no {text!r} within {seconds} s; last: {self.seen[-800:]!r}")
            self.seen += os.read(self.fd, 4096).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, keys):
        """Press keys."""
        os.write(self.fd, keys.encode())

    def command(self, line):
        """Run a command line and return what it printed."""
        self.type(f"{line}; echo 'done''-mark'\n")
        return self.expect("done-mark")

    def end(self, seconds=60):
        """Wait for the program's end and return its exit status."""
        deadline = time.monotonic() + seconds
        while True:
            left = max(deadline - time.monotonic(), 0)
            if not select.select([self.fd], [], [], left)[0]:
                os.kill(self.pid, signal.SIGTERM)
                break
            try:
                if not os.read(self.fd, 4096):
                    break
            except OSError:
                break
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture(scope="module")
def terminal():
    """One shell for all tests of this file: they follow each other."""
    term = Terminal()
    term.expect("booting", 240)
    term.expect("# ", 240)
    yield term
    if term.pid:
        term.type("\x1d")
        term.end()


def test_numactl_shows_two_nodes(terminal):
    """A dynamic program of the host runs and sees the guest's nodes."""
    if not shutil.which("numactl"):
        pytest.fail("numactl is not installed: apt install numactl")
    assert "available: 2 nodes (0-1)" in terminal.command("numactl -H")


def test_python_runs(terminal):
    """An interpreter with its library and a temporary file."""
    out = terminal.command(
        "/usr/bin/python3 -c 'import json, tempfile; "
        "tempfile.TemporaryFile().write(b\"x\"); print(json.dumps([6 * 7]))'")
    assert "[42]" in out


def test_window_size(terminal):
    """The guest's terminal has the size of this one."""
    assert "31 97" in terminal.command("stty size")


def test_interrupt_key_and_job_control(terminal):
    """Ctrl-C ends a job, Ctrl-Z stops it; neither ends the shell."""
    # The job says so itself: between two commands of its own a shell ignores Ctrl-Z.
    terminal.type("sh -c 'trap \"echo go\\\"-\\\"on\" CONT; echo before\"-\"sleep; "
                  "while :; do sleep 0.1; done'\n")
    terminal.expect("before-sleep\r\n")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    assert "Stopped" in terminal.command("jobs")
    # It has the terminal again before it is woken up.
    terminal.type("fg\n")
    terminal.expect("go-on\r\n")
    terminal.type("\x03")
    assert "130" in terminal.command("echo $?")


def test_host_is_not_written(terminal):
    """A change in the guest's root stays in the guest."""
    path = f"/var/tmp/tiervm-test-{os.getpid()}"
    assert "written" in terminal.command(f"echo written > {path}; cat {path}")
    assert not os.path.exists(path)


def test_mounts_and_loopback(terminal):
    """What tools expect of a running system is there."""
    out = terminal.command("mount; cat /proc/net/fib_trie")
    for word in ("proc", "sysfs", "tracefs", "debugfs", "cgroup2", "tmpfs on /tmp",
                 "tmpfs on /run", "127.0.0.1"):
        assert word in out, word


def test_exit_status_comes_back(terminal):
    """`exit 3` powers the machine off and gives status 3."""
    terminal.type("exit 3\n")
    status = terminal.end()
    terminal.pid = 0
    assert status == 3
