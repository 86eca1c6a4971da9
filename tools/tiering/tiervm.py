#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Boot a guest with a fast and a slow memory tier.

As a program: `tiervm.py shell` for a prompt in the guest, `tiervm.py run CMD`
for one command; both see the host's files read-only. As a library: run() boots
a guest, runs a shell script in it and returns what it printed, its exit status
and what the kernel complained of; session() boots one that takes commands while
the host talks to its QEMU. This file alone knows QEMU's command line.
"""
import argparse
import asyncio
import base64
import contextlib
import dataclasses
import os
import re
import selectors
import shlex
import shutil
import socket
import sys
import tempfile
import termios
import threading
import time
import tty
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List, Optional, Sequence, Tuple

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", TOP / "build"))
INIT = Path(__file__).resolve().parent / "guest-init"
BUSYBOX = Path("/bin/busybox")
FIRMWARE = ("/usr/share/seabios", "/usr/share/qemu")
KVM = "/dev/kvm"
HOST_NODE = "/sys/devices/system/node/node"

try:
    from qemu.machine import QEMUMachine
    from qemu.machine.machine import AbnormalShutdown, VMLaunchFailure
except ImportError:
    sys.path.insert(0, str(BUILD / "qemu-src" / "python"))
    try:
        from qemu.machine import QEMUMachine
        from qemu.machine.machine import AbnormalShutdown, VMLaunchFailure
    except ImportError:
        sys.exit("tiervm: QEMU's python packages are not in "
                 f"{BUILD}/qemu-src/python: run `make qemu` first")

# Idle latency (ns) and bandwidth (GB/s) of the (fast, slow) tier, as measured
# on real machines: local DRAM against Optane PMem 200 and against a CXL card.
PROFILES = {
    "pmem": ((69, 88), (177, 21)),
    "cxl": ((69, 88), (122, 54)),
}

# Ice Lake is safe from Meltdown, but TCG's CPU does not say so: pti=off. On a
# busy host, with timing off, the timer may miss the kernel's test of it, which
# is a panic: no_timer_check.
KERNEL_ARGS = ("console=ttyS0 nokaslr norandmaps pti=off no_timer_check "
               "oops=panic panic=-1")

# From asm-generic/socket.h; as SO_SNDBUF, but root may have more than others.
SO_SNDBUFFORCE = 32
# Bytes of the kernel's memory, if a guest prints that much: 40,000 of its bytes.
TERMINAL_BUFFER = 16 << 20

# What the kernel prints when it is in trouble. A line that matches fails the run.
SPLAT = re.compile(
    r"WARNING:|BUG:|KASAN:|UBSAN:|KFENCE:|Oops|general protection fault"
    r"|possible circular locking|possible recursive locking"
    r"|inconsistent lock state|suspicious RCU usage|INFO: trying to register"
    r"|rcu: INFO: .*detected.* stall|INFO: task .* blocked for more than"
    r"|soft lockup|hard LOCKUP|kmemleak: \d+ new suspected|unreferenced object"
    r"|refcount_t: |list_(add|del) corruption|Kernel panic|page dumped because")
STATUS = re.compile(r"tiervm: exit status (\d+)")
SESSION_END = re.compile(rb"tiervm: ended (\d+)\r?\n")
MESSAGE = re.compile(r"tiervm: (?!exit status)(.+)")


class GuestError(Exception):
    """A guest did not do what it was asked, or its kernel complained."""


def on_kvm() -> bool:
    """Do guests run on this host's CPUs, by its time?"""
    return Machine().accel == "kvm"


@dataclasses.dataclass
class Machine:
    """The emulated machine: sizes in MiB, times in ns."""
    fast: int = 256
    slow: int = 768                   # 0: no second node
    profile: str = "pmem"             # a key of PROFILES
    smp: int = 1
    # model: accesses cost what their tier costs, in guest time; icount: each
    # instruction is 1 ns, tiers alike; off: the host's clock, fastest.
    timing: str = "model"
    tlb_size: int = 2048              # entries; Ice Lake's second-level TLB
    timing_props: str = ""            # more properties of memory-timing
    csv: Optional[str] = None         # per node: accesses, misses, stall time
    csv_interval_ms: int = 100        # of guest time
    truth: Optional[str] = None       # exact miss counts per page
    truth_interval_ms: int = 0        # of guest time; 0: for the whole run
    debug: bool = False               # KASAN, lockdep, kmemleak kernel
    kernel: Optional[str] = None
    qemu: Optional[str] = None
    append: str = ""                  # more kernel arguments
    extra: Sequence[str] = ()         # more QEMU arguments
    realtime: bool = False            # an idle guest sleeps instead of skipping
    pmu: bool = False                 # performance counters and PEBS
    memfd: bool = False               # memory in a memfd instead of anonymous
    cpu: str = ""                     # more properties of the CPU
    # An HBalloon device with id hb0 and these properties; None: no device.
    hballoon: Optional[str] = None
    # tcg: emulated; kvm: this host's CPUs and time, whatever `timing` says.
    accel: str = dataclasses.field(
        default_factory=lambda: os.environ.get("ACCEL", "tcg"))
    # Nodes of the host whose memory the fast and the slow node have, as "0,2";
    # "": any.
    host_nodes: str = dataclasses.field(
        default_factory=lambda: os.environ.get("HOST_NODES", ""))

    def __post_init__(self):
        if self.accel == "kvm":
            self.timing = "off"

    def check(self) -> None:
        """Refuse values that make no machine; raises GuestError."""
        self._check_host()
        if self.profile not in PROFILES:
            raise GuestError(f"profile {self.profile!r} is unknown: "
                             f"choose from {', '.join(PROFILES)}")
        if self.timing not in ("model", "icount", "off"):
            raise GuestError(f"timing {self.timing!r} is unknown: "
                             "choose from model, icount, off")
        if self.timing != "model" and (self.csv or self.truth or
                                       self.timing_props):
            raise GuestError("csv, truth and properties of the timing model "
                             f"need timing model, not {self.timing}")
        if self.fast < 96:
            raise GuestError(f"fast node of {self.fast} MiB is too small: "
                             "the guest needs 96 MiB to boot")
        if self.slow < 0:
            raise GuestError(f"slow node of {self.slow} MiB: "
                             "give 0 for none, or a size")
        if self.smp < 1:
            raise GuestError(f"{self.smp} virtual CPUs: give 1 or more")

    def _check_host(self) -> None:
        if self.accel not in ("tcg", "kvm"):
            raise GuestError(f"ACCEL={self.accel} is unknown: choose from tcg, "
                             "kvm")
        if self.accel == "kvm" and not os.access(KVM, os.R_OK | os.W_OK):
            raise GuestError(
                f"ACCEL=kvm: {KVM} " + (
                    "may not be used: join its group, or be root"
                    if os.path.exists(KVM) else "does not exist: load the "
                    "module kvm_intel or kvm_amd, or leave ACCEL out"))
        nodes = self.host_nodes.split(",")
        if self.host_nodes and (len(nodes) != 2
                                or not all(map(str.isdecimal, nodes))):
            raise GuestError(f"HOST_NODES={self.host_nodes}: give the host's "
                             "nodes of the fast and the slow tier, as 0,2")
        for node in filter(None, nodes):
            _existing(f"{HOST_NODE}{node}", f"HOST_NODES={self.host_nodes}: "
                      "the host's node", "choose from those in "
                      f"{os.path.dirname(HOST_NODE)}")

    def kernel_path(self) -> str:
        """The bzImage to boot; raises GuestError if it is not there."""
        which = "kernel-debug" if self.debug else "kernel"
        path = (self.kernel or (not self.debug and os.environ.get("KERNEL"))
                or str(BUILD / which / "arch/x86/boot/bzImage"))
        return _existing(path, "kernel", f"run `make {which}` or set KERNEL=")

    def qemu_path(self) -> str:
        """The QEMU binary; raises GuestError if it is not there."""
        path = (self.qemu or os.environ.get("QEMU")
                or str(BUILD / "qemu/qemu-system-x86_64"))
        return _existing(path, "QEMU", "run `make qemu` or set QEMU=")

    def args(self) -> List[str]:
        """QEMU's arguments that make up this machine, without its channels."""
        self.check()
        model = ("host" if self.accel == "kvm"
                 else "Icelake-Server,model=106,stepping=6")
        cpu = f"{model},pmu={'on' if self.pmu else 'off'}"
        if self.timing != "off":
            # String instructions are slow under -icount: keep Linux off them.
            cpu += ",erms=off,fsrm=off,fast-string=off"
        if self.cpu:
            cpu += f",{self.cpu}"
        args = ["-nodefaults", "-no-reboot", "-no-user-config",
                "-machine", "q35,hmat=on", "-cpu", cpu,
                "-m", f"{self.fast + self.slow}M", "-smp", str(self.smp)]
        for path in FIRMWARE:
            args += ["-L", path]
        if self.timing == "off":
            args += ["-accel", self.accel]
        else:
            sleep = "on" if self.realtime else "off"
            args += ["-accel", f"tcg,tlb-size={self.tlb_size}",
                     "-icount", f"shift=0,sleep={sleep}", "-seed", "42",
                     "-rtc", "base=2024-01-01T00:00:00,clock=vm"]
        args += self._nodes()
        if self.timing == "model":
            args += ["-object", self._timing()]
        if self.hballoon is not None:
            args += ["-device", ",".join(filter(None, (
                "virtio-hballoon-pci,id=hb0", self.hballoon)))]
        return args + list(self.extra)

    def _nodes(self) -> List[str]:
        sizes = [self.fast] + ([self.slow] if self.slow else [])
        args = []
        for node, size in enumerate(sizes):
            owner = f"cpus=0-{self.smp - 1}" if node == 0 else "initiator=0"
            backend = "memfd,share=on" if self.memfd else "ram"
            # Bound and there from the start, or the first accesses to it would be
            # slow for want of it.
            host = (f",host-nodes={self.host_nodes.split(',')[node]},"
                    "policy=bind,prealloc=on" if self.host_nodes else "")
            args += ["-object",
                     f"memory-backend-{backend},id=m{node},size={size}M{host}",
                     "-numa", f"node,nodeid={node},memdev=m{node},{owner}"]
        for node, (latency, bandwidth) in zip(range(len(sizes)),
                                              PROFILES[self.profile]):
            lb = f"hmat-lb,initiator=0,target={node},hierarchy=memory"
            args += ["-numa", f"{lb},data-type=access-latency,"
                              f"latency={latency}",
                     "-numa", f"{lb},data-type=access-bandwidth,"
                              f"bandwidth={bandwidth}G"]
        return args

    def _timing(self) -> str:
        opts = ["memory-timing,id=mt0"]
        if self.csv:
            opts += [f"csv={_quote(self.csv)}",
                     f"csv-interval-ms={self.csv_interval_ms}"]
        if self.truth:
            opts += [f"truth={_quote(self.truth)}",
                     f"truth-interval-ms={self.truth_interval_ms}"]
        if self.timing_props:
            opts.append(self.timing_props)
        return ",".join(opts)


@dataclasses.dataclass
class Result:
    """What became of one guest."""
    name: str
    log: Path                         # where the kernel's console log is
    log_text: str = ""                # what it says
    status: Optional[int] = None      # exit status of the script
    text: str = ""                    # what the script printed
    error: Optional[str] = None       # why the run failed, if it did
    splats: List[str] = dataclasses.field(default_factory=list)
    host_seconds: float = 0.0

    @property
    def out(self) -> List[str]:
        """What the script printed, by lines."""
        return self.text.splitlines()

    def check(self) -> "Result":
        """Return self, or raise GuestError with all there is to know."""
        if self.error is None:
            return self
        raise GuestError(
            f"guest {self.name}: {self.error}\n"
            f"--- last lines of its script ---\n{_tail(self.out)}\n"
            f"--- last lines of {self.log} ---\n"
            f"{_tail(self.log_text.splitlines())}")


def _existing(path: str, what: str, hint: str) -> str:
    if not os.path.exists(path):
        raise GuestError(f"{what} {path} does not exist: {hint}")
    return os.path.abspath(path)


def _quote(path: str) -> str:
    """QEMU's option syntax doubles a comma that belongs to a value."""
    return str(path).replace(",", ",,")


def _tail(lines: Sequence[str], count: int = 25) -> str:
    return "\n".join(lines[-count:])


def find_splats(log: str) -> List[str]:
    """The lines of a console log with which the kernel reports trouble."""
    return [line for line in log.splitlines() if SPLAT.search(line)]


def _cpio_entry(name: str, mode: int, data: bytes, inode: int,
                rdev: Tuple[int, int] = (0, 0)) -> bytes:
    """One entry of the kernel's initramfs format ("newc"), all times zero."""
    path = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields)
    entry = head + path
    entry += b"\0" * (-len(entry) % 4) + data
    return entry + b"\0" * (-len(data) % 4)


def initramfs(files: Dict[str, bytes]) -> bytes:
    """Pack the guest's first file system: busybox, init and the given files.

    A name in `files` is an absolute path in the guest. The same contents give
    the same bytes.
    """
    if not BUSYBOX.exists():
        raise GuestError(f"{BUSYBOX} does not exist: "
                         "install the package busybox-static")
    content = {"bin/busybox": BUSYBOX.read_bytes(), "init": INIT.read_bytes()}
    content.update({path.lstrip("/"): data for path, data in files.items()})
    folders = {"dev"}
    for path in content:
        folders.update(str(p) for p in Path(path).parents if str(p) != ".")
    entries = [(name, 0o040755, b"", (0, 0)) for name in sorted(folders)]
    entries.append(("dev/console", 0o020600, b"", (5, 1)))
    entries += [(name, 0o100755, content[name], (0, 0))
                for name in sorted(content)]
    archive = b"".join(_cpio_entry(name, mode, data, inode, rdev)
                       for inode, (name, mode, data, rdev)
                       in enumerate(entries, 1))
    return archive + _cpio_entry("TRAILER!!!", 0, b"", 0)


def _new_file(path: Path) -> BinaryIO:
    """Open a new file in place of an old one, which is not touched.

    Another process may be writing it, for a guest of the same name whose
    verdict must not depend on this one's.
    """
    while True:
        path.unlink(missing_ok=True)
        try:
            return open(path, "x+b")
        except FileExistsError:
            continue


def _terminal() -> Tuple[socket.socket, socket.socket]:
    """A connection for the script's terminal: our end, and QEMU's.

    QEMU writes byte by byte, and each byte takes some 770 bytes of a socket's
    buffer. When that is full, QEMU tries again some time later, by the host's
    clock, and a reproducible guest is none: there has to be room for what a
    guest prints while this process is slow.
    """
    ours, theirs = socket.socketpair()
    try:
        theirs.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, TERMINAL_BUFFER)
    except PermissionError:
        # Not root: as much as anybody gets, a few hundred bytes of output.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TERMINAL_BUFFER)
    return ours, theirs


class Guest:
    """A running guest: QEMU, its kernel log, and the script's terminal."""

    # One start at a time: QEMU inherits all of this process's inheritable
    # sockets, and another guest's must not be among them, or its end would
    # not be seen as the end of its terminal.
    starting = threading.Lock()

    def __init__(self, name: str, machine: Machine, script: str,
                 config: Dict[str, str], files: Dict[str, str]):
        self.log = BUILD / "logs" / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log_file = _new_file(self.log)
        self.scratch = tempfile.mkdtemp(prefix="tiervm-")
        with self.starting:
            self._start(name, machine, script, config, files)

    def _start(self, name, machine, script, config, files):
        self.terminal, theirs = _terminal()
        try:
            self.vm = self._machine(name, machine, script, config, files,
                                    theirs)
            self.vm.launch()
            os.set_inheritable(self.log_file.fileno(), False)
        except (VMLaunchFailure, GuestError, OSError) as exc:
            self.terminal.close()
            self.log_file.close()
            shutil.rmtree(self.scratch)
            output = (getattr(exc, "output", None) or "").strip()
            raise GuestError(f"guest {name} did not start: {output or exc}"
                             ) from exc
        finally:
            theirs.close()

    def _machine(self, name, machine, script, config, files, theirs):
        content = {"/files" + path: Path(_existing(
            source, "file", "build it first")).read_bytes()
            for path, source in files.items()}
        content["/tiervm/script"] = script.encode()
        content["/tiervm/config"] = "".join(
            f"{key}={shlex.quote(value)}\n"
            for key, value in config.items()).encode()
        initrd = Path(self.scratch) / "initramfs"
        initrd.write_bytes(initramfs(content))
        args = machine.args() + [
            "-kernel", machine.kernel_path(), "-initrd", str(initrd),
            "-append", f"{KERNEL_ARGS} {machine.append}",
            "-chardev",
            f"file,id=log,path=/proc/self/fd/{self.log_file.fileno()}",
            "-serial", "chardev:log",
            "-chardev", f"socket,id=terminal,fd={theirs.fileno()}",
            "-serial", "chardev:terminal"]
        if config["ROOT"] == "host":
            args += ["-fsdev", "local,id=root,path=/,security_model=none,"
                               "readonly=on,multidevs=remap",
                     "-device", "virtio-9p-pci,fsdev=root,mount_tag=host"]
        os.set_inheritable(theirs.fileno(), True)
        os.set_inheritable(self.log_file.fileno(), True)
        return QEMUMachine(machine.qemu_path(), args, name=name,
                           base_temp_dir=self.scratch)

    def stop(self) -> None:
        """End the guest at once."""
        self.vm.kill()

    def wait(self) -> Tuple[str, Optional[str]]:
        """Collect QEMU once its terminal is closed.

        Returns the kernel's log, and what went wrong with QEMU or None.
        """
        error = None
        try:
            self.vm.wait(timeout=30)
        except AbnormalShutdown:
            error = "QEMU closed the guest's terminal but did not exit"
        if error is None and self.vm.exitcode() != 0:
            error = (f"QEMU ended with status {self.vm.exitcode()}: "
                     f"{(self.vm.get_log() or '').strip()[-2000:]}")
        self.terminal.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        with self.log_file:
            self.log_file.seek(0)
            return self.log_file.read().decode(errors="replace"), error


def _config(mode: str, root: str, leaks: bool) -> Dict[str, str]:
    size = os.terminal_size((80, 24))
    if sys.stdin.isatty():
        size = os.get_terminal_size(sys.stdin.fileno())
    return {"MODE": mode, "ROOT": root, "LEAKS": str(int(leaks)),
            "DIR": os.getcwd(), "ROWS": str(size.lines),
            "COLS": str(size.columns),
            "TERM": os.environ.get("TERM", "vt100")}


def _read_until(guest: Guest, deadline: float,
                on_line: Optional[Callable[[str], None]]) -> Tuple[bytes, bool]:
    """Read the terminal to its end; False if the deadline came first."""
    data = b""
    seen = 0
    while True:
        guest.terminal.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            chunk = guest.terminal.recv(65536)
        except (TimeoutError, BlockingIOError):
            return data, False
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            return data, True
        data += chunk
        while on_line and (end := data.find(b"\n", seen)) >= 0:
            on_line(data[seen:end].decode(errors="replace").rstrip("\r"))
            seen = end + 1


def _judge(result: Result, qemu_error: Optional[str], timed_out: bool,
           timeout: float) -> None:
    """Fill in status, splats and error from what is known at the end."""
    result.splats = find_splats(result.log_text)
    found = STATUS.findall(result.log_text)
    if found:
        result.status = int(found[-1])
    if timed_out:
        result.error = f"no end after {timeout:.0f} s, stopped"
    elif result.splats:
        result.error = "the kernel complained: " + result.splats[0].strip()
    elif qemu_error:
        result.error = qemu_error
    elif result.status is None:
        result.error = "the machine went off before the script ended"
    elif result.status:
        said = MESSAGE.findall(result.log_text)
        result.error = (f"its script ended with status {result.status}"
                        + (f": {said[-1]}" if said else ""))


def run(name: str, script: str, machine: Optional[Machine] = None,
        files: Optional[Dict[str, str]] = None, root: str = "busybox",
        timeout: float = 120, leaks: bool = False,
        on_line: Optional[Callable[[str], None]] = None,
        on_start: Optional[Callable[["Session"], None]] = None) -> Result:
    """Boot a guest, run a shell script in it, power it off.

    name: names the log, build/logs/NAME.log. files: host files to bring along,
    by their absolute path in the guest. root: "busybox", or "host" for the
    host's files read-only. timeout: host seconds. leaks: end with a kmemleak
    scan. on_line: called with each line as the script prints it. on_start: called
    with the guest, for QMP only.

    Returns a Result; its check() raises if the script failed, the kernel
    complained or the guest hung. Raises GuestError if the guest did not start.
    """
    machine = machine or Machine()
    start = time.monotonic()
    guest = Guest(name, machine, script, _config("script", root, leaks),
                  files or {})
    ended = False
    try:
        if on_start:
            on_start(Session(guest, timeout))
        data, ended = _read_until(guest, start + timeout, on_line)
    finally:
        if not ended:
            guest.stop()
        log_text, qemu_error = guest.wait()
    result = Result(name, guest.log, log_text,
                    text=data.decode(errors="replace"))
    result.host_seconds = time.monotonic() - start
    _judge(result, qemu_error, not ended, timeout)
    return result


# Runs what comes in, one line of base64 a script, and says how it ended. What
# comes before the terminal is open would be lost: it says when it is.
SESSION_SCRIPT = """
exec < /dev/ttyS1
echo "tiervm: ended 0"
while read -r line; do
    [ "$line" != end ] || exit 0
    echo "$line" | base64 -d > /tmp/command
    sh /tmp/command < /dev/null
    echo "tiervm: ended $?"
done
exit 1
"""


class Session:
    """A running guest that takes commands; made by session()."""

    def __init__(self, guest: Guest, timeout: float):
        self.guest = guest
        self.timeout = timeout
        self.pending = b""
        self.moved = False            # the guest is elsewhere, or never came

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self.guest.vm.get_pid()

    def qmp(self, command: str, **arguments):
        """What QEMU returns to a command; raises GuestError if it refuses."""
        answer = self.guest.vm.qmp(command, **arguments)
        if "error" in answer:
            raise GuestError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def event(self, name: str, timeout: float = 60, **match) -> dict:
        """The next event `name` whose data has the values of `match`."""
        try:
            # A timeout that is no float would be none.
            return self.guest.vm.event_wait(name, float(timeout),
                                            {"data": match} if match else None)
        except asyncio.TimeoutError as exc:
            raise GuestError(f"no event {name} {match} in {timeout:.0f} s"
                             ) from exc

    def start(self, script: str) -> None:
        """Have the guest run a script; wait() for it."""
        line = base64.b64encode(script.encode()) + b"\n"
        self.guest.terminal.sendall(line)

    def wait(self, timeout: Optional[float] = None) -> str:
        """What the script of start() printed; raises if it failed."""
        found, text = self._receive(SESSION_END, timeout)
        text = text[:-len(found[0])]
        if int(found[1]):
            raise GuestError("a script in the guest ended with status "
                             f"{int(found[1])}: {text}")
        return text.replace("\r\n", "\n")

    def until(self, pattern: str, timeout: Optional[float] = None) -> str:
        """What is printed up to the end of the line that has a match.

        For what a script of sh() left running; wait() does not see it again.
        """
        line = re.compile(rb"^.*(?:" + pattern.encode() + rb").*\n", re.M)
        return self._receive(line, timeout)[1].replace("\r\n", "\n")

    def _receive(self, pattern, timeout: Optional[float]):
        """Take what the guest prints up to a match: the match, all of it."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while not (found := pattern.search(self.pending)):
            self.guest.terminal.settimeout(
                max(deadline - time.monotonic(), 0.001))
            try:
                chunk = self.guest.terminal.recv(65536)
            except (TimeoutError, BlockingIOError) as exc:
                raise GuestError("a script in the guest did not end: "
                                 + self.pending.decode(errors="replace")
                                 ) from exc
            if not chunk:
                raise GuestError("the guest went away")
            self.pending += chunk
        text = self.pending[:found.end()].decode(errors="replace")
        self.pending = self.pending[found.end():]
        return found, text

    def sh(self, script: str, timeout: Optional[float] = None) -> str:
        """Run a script in the guest; returns what it printed."""
        self.start(script)
        return self.wait(timeout)


@contextlib.contextmanager
def session(name: str, machine: Optional[Machine] = None,
            files: Optional[Dict[str, str]] = None, root: str = "busybox",
            timeout: float = 120, incoming: bool = False):
    """Boot a guest for the length of a `with` statement; gives a Session.

    At the end the guest powers off; raises GuestError if its kernel complained.
    timeout: host seconds for the boot and for each script. incoming: boot
    nothing, but wait for another session's guest: see QMP migrate-incoming. A
    session that has no guest at the end must have its `moved` set.
    """
    machine = machine or Machine()
    if incoming:
        machine = dataclasses.replace(
            machine, extra=[*machine.extra, "-incoming", "defer"])
    guest = Guest(name, machine, SESSION_SCRIPT,
                  _config("script", root, False), files or {})
    ended = False
    try:
        running = Session(guest, timeout)
        if not incoming:
            running.wait()
        yield running
        if not running.moved:
            guest.terminal.sendall(b"end\n")
            _, ended = _read_until(guest, time.monotonic() + timeout, None)
    finally:
        if not ended:
            guest.stop()
        log_text, qemu_error = guest.wait()
        splats = find_splats(log_text)
        if splats:
            raise GuestError(f"guest {name}: the kernel complained: "
                             + splats[0].strip())
    if not running.moved and (not ended or qemu_error):
        raise GuestError(f"guest {name}: "
                         + (qemu_error or "did not power off"))


# A terminal that nobody has open forgets its size: so not before the shell.
SHELL_SCRIPT = """
stty sane rows "$ROWS" cols "$COLS"
cd "$DIR" 2> /dev/null || cd /
if command -v bash > /dev/null; then
    exec bash -i
fi
exec sh -i
"""
KEY_END = b"\x1d"                     # Ctrl-]
KEY_EOF = b"\x04"                     # Ctrl-D


def _relay(guest: Guest) -> bool:
    """Join this terminal and the guest's; False if the user ended it."""
    with selectors.DefaultSelector() as events:
        events.register(sys.stdin, selectors.EVENT_READ)
        events.register(guest.terminal, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.fileobj is guest.terminal:
                    data = guest.terminal.recv(65536)
                    if not data:
                        return True
                    os.write(sys.stdout.fileno(), data)
                    continue
                data = os.read(sys.stdin.fileno(), 4096)
                if KEY_END in data:
                    return False
                if not data:
                    events.unregister(sys.stdin)
                guest.terminal.sendall(data or KEY_EOF)


def shell(machine: Machine, name: str = "shell") -> int:
    """An interactive prompt in the guest; returns the shell's exit status."""
    machine.realtime = machine.pmu = True
    print("tiervm: booting; leave with `exit`, end the machine with Ctrl-]",
          flush=True)
    guest = Guest(name, machine, SHELL_SCRIPT, _config("shell", "host", False),
                  {})
    saved = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    ended = False
    try:
        if saved:
            tty.setraw(sys.stdin)
        ended = _relay(guest)
    except ConnectionResetError:
        ended = True
    finally:
        if saved:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
        if not ended:
            guest.stop()
        log_text, qemu_error = guest.wait()
    if not ended:
        print("\ntiervm: machine ended")
        return 0
    result = Result(name, guest.log, log_text)
    _judge(result, qemu_error, False, 0)
    if result.splats or result.status is None or qemu_error:
        result.check()
    return result.status or 0


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """The options that describe a machine, for this and other programs."""
    default = Machine()
    parser.add_argument("--fast", type=int, default=default.fast,
                        metavar="MIB", help="fast node (default %(default)s)")
    parser.add_argument("--slow", type=int, default=default.slow,
                        metavar="MIB", help="slow node (default %(default)s)")
    parser.add_argument("--profile", default=default.profile,
                        choices=sorted(PROFILES),
                        help="latencies of the tiers (default %(default)s)")
    parser.add_argument("--smp", type=int, default=default.smp, metavar="N",
                        help="virtual CPUs (default %(default)s)")
    parser.add_argument("--timing", default=default.timing,
                        choices=("model", "icount", "off"),
                        help="model: tiers cost what they cost; icount: 1 ns "
                             "an instruction; off: the host's clock, also for "
                             "stock QEMU (default %(default)s)")
    parser.add_argument("--pmu", action="store_true",
                        help="performance counters and PEBS, for perf; the "
                             "shell always has them")
    parser.add_argument("--debug", action="store_true",
                        help="boot the kernel with KASAN, lockdep, kmemleak")
    parser.add_argument("--csv", metavar="FILE",
                        help="record accesses, misses, stalls per node")
    parser.add_argument("--truth", metavar="FILE",
                        help="record exact miss counts per page")
    parser.add_argument("--append", default="", metavar="ARGS",
                        help="more kernel arguments")


def machine_from(options: argparse.Namespace) -> Machine:
    """The Machine that the options of add_machine_options() describe."""
    names = ("fast", "slow", "profile", "smp", "timing", "pmu", "debug", "csv",
             "truth", "append")
    return Machine(**{name: getattr(options, name) for name in names})


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tiervm.py", description="Boot a guest with two memory tiers.",
        epilog="KERNEL= and QEMU= in the environment name another bzImage "
               "and another qemu-system-x86_64; ACCEL=kvm runs on this host's "
               "CPUs, HOST_NODES=0,2 on memory of these nodes. Kernel logs: "
               "build/logs/.")
    add_machine_options(parser)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("shell", help="a prompt in the guest")
    runner = verbs.add_parser("run", help="run one command in the guest")
    runner.add_argument("--timeout", type=float, default=600, metavar="S",
                        help="host seconds (default %(default)s)")
    runner.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD",
                        help="command and its arguments")
    options = parser.parse_args(argv)
    machine = machine_from(options)
    try:
        if options.verb == "shell":
            return shell(machine)
        if not options.command:
            parser.error("run: give the command to run in the guest")
        words = options.command
        command = words[0] if len(words) == 1 else shlex.join(words)
        machine.realtime = True
        result = run("run", f"cd {shlex.quote(os.getcwd())}\n{command}\n",
                     machine, root="host", timeout=options.timeout,
                     on_line=lambda line: print(line, flush=True))
        if result.splats or result.status is None:
            result.check()
        return result.status
    except GuestError as exc:
        print(f"tiervm: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
