# SPDX-License-Identifier: GPL-2.0
"""The emulated machine as the guest's kernel sees it."""
import os
import re
import time

import pytest
import tiervm
from conftest import GO_ON, move_away

NODES = "cd /sys/devices/system/node; "


def test_two_memory_tiers(guest, debug):
    """Each node is a tier of its own, the fast one higher."""
    out = guest("cd /sys/devices/virtual/memory_tiering; "
                "for t in memory_tier*; do echo $t $(cat $t/nodelist); done",
                debug=debug, timing="off").out
    tiers = sorted((int(re.sub(r"\D", "", tier)), nodes)
                   for tier, nodes in map(str.split, out))
    assert [nodes for _, nodes in tiers] == ["0", "1"]


def test_demotion_target(guest):
    """The slow node is where the fast one demotes to, and the end."""
    log = guest("true", timing="off").log_text
    assert "Demotion targets for Node 0: preferred: 1, fallback: 1" in log
    assert "Demotion targets for Node 1: null" in log


def test_cpus_are_on_the_fast_node(guest):
    """The slow node has memory only."""
    out = guest(NODES + "cat has_cpu has_memory node0/cpulist", smp=2,
                timing="off").out
    assert out == ["0", "0-1", "0-1"]


@pytest.mark.parametrize("profile", sorted(tiervm.PROFILES))
def test_hmat_declares_the_profile(guest, profile):
    """Linux reads the profile's latencies (ns) and bandwidths (MB/s)."""
    out = guest(NODES + "for n in 0 1; do for a in latency bandwidth; do "
                "cat node$n/access0/initiators/read_$a; done; done",
                profile=profile, timing="off").out
    (fast_ns, fast_gb), (slow_ns, slow_gb) = tiervm.PROFILES[profile]
    # HMAT counts bandwidth in units of 2^20 bytes.
    assert [int(word) for word in out] == [
        fast_ns, fast_gb * 1024, slow_ns, slow_gb * 1024]


def test_sizes(guest):
    """Node sizes are as asked, less what the firmware and kernel keep."""
    out = guest(NODES + "awk '/MemTotal/ { print $4 }' node*/meminfo",
                fast=320, slow=512, timing="off").out
    fast, slow = (int(kb) / 1024 for kb in out)
    assert 250 < fast <= 320
    assert 480 < slow <= 512


def test_runs_are_identical(guest, gups):
    """Two runs print the same, to the last digit of each time."""
    script = "gups --size 64 --rounds 3 --updates 100000 --look-every 1"
    first, second = guest(script, files=gups), guest(script, files=gups)
    assert "round n=3" in first.text
    assert first.text == second.text
    assert first.log_text == second.log_text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have so large "
                    "a buffer between QEMU and the test")
def test_time_does_not_wait_for_a_reader(guest):
    """What a script prints takes as long if nobody reads it until the end."""
    log = tiervm.BUILD / "logs" / "test_time_does_not_wait_for_a_reader-2.log"

    def late(line):
        end = time.monotonic() + 60
        while line == "begin" and "exit status" not in log.read_text():
            assert time.monotonic() < end, "the guest waits for its reader"
            time.sleep(0.05)
    script = "echo begin; seq 5000"
    prompt = guest(script, timing="icount")
    tardy = guest(script, timing="icount", on_line=late)
    assert prompt.text == tardy.text
    assert prompt.log_text == tardy.log_text


@pytest.mark.parametrize("timing", ["model", "off"])
def test_moves_while_it_works(guest, gups, tmp_path, timing):
    """A live migration loses no store of a program that writes all the time."""
    state, control = tmp_path / "state", tmp_path / "qmp"

    def watch(line):
        if line.startswith("round n=2 "):
            move_away(control, state, stop=False)
    left = guest("gups --size 320 --rounds 40 --updates 1000000 --verify",
                 files=gups, timing=timing, pmu=True, check=False,
                 on_line=watch, extra=[*GO_ON, "-qmp",
                                       f"unix:{control},server=on,wait=off"])
    assert "round n=2 " in left.text and "verify" not in left.text
    out = guest("", timing=timing, pmu=True,
                extra=[*GO_ON, "-incoming", f"file:{state}"]).text
    assert "round n=2 " not in out and "round n=40 " in out
    assert "verify errors=0" in out


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A host with /dev/kvm and nodes 0 and 2, and arguments made for it."""
    for name in ("kvm", "node0", "node2"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(tiervm, "KVM", str(tmp_path / "kvm"))
    monkeypatch.setattr(tiervm, "HOST_NODE", str(tmp_path / "node"))
    monkeypatch.setenv("ACCEL", "kvm")

    def joined(**fields):
        return " ".join(tiervm.Machine(**fields).args())
    return joined


def test_kvm_has_the_hosts_time_and_nodes(host, monkeypatch):
    """No model, no counted instructions, memory bound to the host's tiers."""
    monkeypatch.setenv("HOST_NODES", "0,2")
    args = host(fast=512, slow=1024, pmu=True)
    assert "-accel kvm" in args and "-cpu host,pmu=on" in args
    assert not re.search("tcg|icount|memory-timing|Icelake|fast-string", args)
    for node, size, of in ((0, 512, 0), (1, 1024, 2)):
        assert (f"memory-backend-ram,id=m{node},size={size}M,host-nodes={of},"
                "policy=bind,prealloc=on") in args
    assert "hmat=on" in args and "data-type=access-latency,latency=177" in args
    monkeypatch.delenv("HOST_NODES")
    assert "host-nodes" not in host()


@pytest.mark.parametrize("setting, value, reason", [
    ("ACCEL", "xen", "ACCEL=xen is unknown: choose from tcg, kvm"),
    ("HOST_NODES", "0", "give the host's nodes of the fast and the slow tier"),
    ("HOST_NODES", "0,x", "give the host's nodes of the fast and the slow tier"),
    ("HOST_NODES", "0,1", "node1 does not exist: choose from those in")])
def test_wrong_host_is_refused(host, monkeypatch, setting, value, reason):
    """With what is wrong and what to do."""
    monkeypatch.setenv(setting, value)
    with pytest.raises(tiervm.GuestError, match=re.escape(reason)):
        host()


def test_kvm_has_no_exact_counts(host):
    """Those are the timing model's."""
    with pytest.raises(tiervm.GuestError, match="need timing model"):
        host(truth="/tmp/truth")


def test_missing_kvm_is_told(host, monkeypatch, tmp_path):
    """Before any guest is started; so is one that may not be used."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(tiervm.GuestError, match="may not be used"):
        host()
    (tmp_path / "kvm").unlink()
    with pytest.raises(tiervm.GuestError, match="kvm does not exist"):
        host()
