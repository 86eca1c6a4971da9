# SPDX-License-Identifier: GPL-2.0
"""hplstat in a guest: that it says what the kernel's own files say."""
import contextlib
import json
import os
import pty
import re
import subprocess

import pytest
import tiervm
from conftest import TOP

ON = "echo 1 > /sys/kernel/mm/hplacement/enabled"
OFF = "echo 0 > /sys/kernel/mm/hplacement/enabled"
VMSTAT = "grep -E '^(hpl|tier)_' /proc/vmstat"


@pytest.fixture(scope="module")
def hplstat():
    """The program, static, as files= for a guest."""
    out = tiervm.BUILD / "tools" / "static"
    subprocess.run(["make", "-s", "-C", str(TOP / "tools/tiering"),
                    f"OUT={out}", "STATIC=1"], check=True)
    return {"/bin/hplstat": str(out / "hplstat")}


def vmstat(text):
    """The counters of a part of a guest's output."""
    return {name: int(value) for name, value in
            re.findall(r"^((?:hpl|tier)_\w+) (\d+)$", text, re.M)}


def reports(text):
    """The objects in a part of a guest's output."""
    return [json.loads(line) for line in text.splitlines()
            if line.startswith("{")]


def test_counters_are_those_of_the_kernel(guest, gups, hplstat):
    """Each counter once, with its value; rates are its growth."""
    result = guest(f"""
        gups --size 64 --reverse --rounds 100000 --updates 200000 \
            --after-fill '{ON}' > /dev/null &
        until grep -q '^hpl_epochs [1-9]' /proc/vmstat; do :; done
        {VMSTAT}
        hplstat --once --json --interval 0.5
        {VMSTAT}
        kill $!
        {OFF}
        echo stopped
        {VMSTAT}
        hplstat --once --json --interval 0.1""",
                   files={**gups, **hplstat}, timing="icount")
    at_work, stopped = result.text.split("stopped")
    (report,) = reports(at_work)
    first, last = (vmstat(part) for part in
                   re.split(r"^\{.*\}$", at_work, flags=re.M))
    assert list(report["counters"]) == list(first)
    for name, value in report["counters"].items():
        assert first[name] <= value <= last[name], name
        growth = report["rates_per_s"][name] * report["interval_s"]
        # Rates are printed with three digits.
        assert -0.01 <= growth <= value - first[name] + 0.01, name
    assert report["interval_s"] >= 0.5
    assert report["rates_per_s"]["hpl_epochs"] > 0
    share = report["rates_per_s"]["hpl_sample_ns"] / 1e7 / report["cpus"]
    assert share > 0
    assert report["cpu_percent"]["hplacement"]["sampling"] == pytest.approx(
        share, abs=0.001)

    # Whatever stands still says exactly what the kernel says.
    (report,) = reports(stopped)
    assert {k: v for k, v in report["counters"].items()
            if k.startswith("hpl_")} == {
                k: v for k, v in vmstat(stopped).items()
                if k.startswith("hpl_")}
    assert report["rates_per_s"]["hpl_epochs"] == 0
    assert report["enabled"] == 0
    assert report["source"] == "none"


def test_nodes_and_ranges(guest, gups, hplstat):
    """Which node is fast, how large they are, and where it is hot."""
    result = guest(f"""
        cd /sys/devices/system/node
        grep -h MemTotal node*/meminfo
        gups --size 64 --hot-share 0.05 --reverse --rounds 100000 \
            --updates 200000 --after-fill '{ON}' > /dev/null &
        until grep -q '^hpl_epochs [1-9].' /proc/vmstat; do :; done
        hplstat --json --once
        kill $!""", files={**gups, **hplstat}, timing="icount")
    (report,) = reports(result.text)
    total = [int(kib) for kib in
             re.findall(r"MemTotal: +(\d+) kB", result.text)]
    assert [n["node"] for n in report["nodes"]] == [0, 1]
    assert [n["fast"] for n in report["nodes"]] == [True, False]
    assert [n["total_kib"] for n in report["nodes"]] == total
    assert all(0 < n["free_kib"] < n["total_kib"] for n in report["nodes"])
    assert report["nodes"][0]["tier"] < report["nodes"][1]["tier"]
    assert report["enabled"] == 1
    assert report["source"] == "abit"
    assert report["budget_permille"] == 10
    hottest = report["hottest"]
    assert 0 < len(hottest) <= report["ranges"]
    heat = [r["accessed_permille"] for r in hottest]
    assert heat == sorted(heat, reverse=True)
    assert any(r["comm"] == "gups" for r in hottest)
    assert all(int(r["start"], 16) < int(r["end"], 16) for r in hottest)


def test_what_is_not_readable_is_not_known(guest, hplstat):
    """Others than root see rates, but neither knobs nor addresses."""
    result = guest("""
        chmod 755 /bin/hplstat
        echo nobody:x:65534:65534::/:/bin/sh > /etc/passwd 2> /dev/null ||
            { mkdir -p /etc; echo nobody:x:65534:65534::/:/bin/sh > /etc/passwd; }
        su nobody -c 'hplstat --once --json --interval 0.1'
        su nobody -c 'hplstat --once --interval 0.1'""", files=hplstat,
                   timing="icount")
    (report,) = reports(result.text)
    assert report["hottest"] is None and report["ranges"] is None
    assert report["enabled"] is None and report["budget_permille"] is None
    assert report["counters"]["hpl_epochs"] == 0
    assert "cannot be read" in result.text


@pytest.mark.parametrize("args", ["--interval x", "--interval 0", "--what",
                                  "--interval nan", "more"])
def test_nonsense_is_refused(hplstat, args):
    """Wrong arguments: status 2, and a word on standard error."""
    done = subprocess.run([hplstat["/bin/hplstat"], *args.split()],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "hplstat" in done.stderr and not done.stdout


def test_screen(hplstat):
    """On a terminal it draws a screen, and q ends it."""
    if subprocess.run(["pkg-config", "--exists", "ncurses"],
                      check=False).returncode:
        pytest.skip("built without ncurses")
    ours, theirs = pty.openpty()
    with subprocess.Popen([hplstat["/bin/hplstat"], "--interval", "0.05"],
                          stdin=theirs, stdout=theirs,
                          env={**os.environ, "TERM": "xterm"}) as program:
        os.close(theirs)
        seen = b""
        while b"speed" not in seen:
            seen += os.read(ours, 4096)
        assert seen.startswith(b"\x1b")
        os.write(ours, b"q")
        # It draws until it ends, and would wait for a reader.
        with contextlib.suppress(OSError):
            while os.read(ours, 4096):
                pass
        assert program.wait() == 0
    os.close(ours)


def test_help_and_manual_name_each_option(hplstat):
    """--help works anywhere, and the manual knows the same options."""
    done = subprocess.run([hplstat["/bin/hplstat"], "--help"],
                          capture_output=True, text=True, check=True)
    manual = (TOP / "tools/tiering/hplstat.8").read_text().replace("\\-", "-")
    options = re.findall(r"--[a-z]+", done.stdout)
    assert len(set(options)) == 4
    assert all(option in manual for option in options)
