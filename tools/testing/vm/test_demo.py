# SPDX-License-Identifier: GPL-2.0
"""The demo: what it must show, and that it says so when it cannot."""
import json
import subprocess
import sys
import xml.etree.ElementTree

import demo
import plot
import pytest
import tiervm
from conftest import TOP

ROUNDS = 60
POLICIES = {policy.name: policy for policy in demo.POLICIES}


@pytest.fixture(scope="module")
def all_fast(request):
    """The bound that other policies are held against."""
    outcome = demo.measure(POLICIES["all_fast"], rounds=ROUNDS, name="test")
    assert not outcome.error
    return outcome


def test_all_fast_is_all_fast(all_fast):
    """The bound has its memory on the fast tier from first to last."""
    assert all_fast.hot == {"before": 1, "after": 1}
    assert set(all_fast.slices["before"] + all_fast.slices["after"]) == {1}


def test_unmanaged_stays_slow(all_fast):
    """Without a policy nothing moves and the slow tier costs what it costs."""
    outcome = demo.measure(POLICIES["unmanaged"], rounds=8, name="test")
    assert not outcome.error
    assert outcome.hot == {"before": 0, "after": 0}
    assert outcome.counters["pgmigrate_success"] == 0
    assert 0.3 < outcome.quarter(True) / all_fast.quarter(True) < 0.7


@pytest.mark.parametrize("name", ["numa_balancing", "damon"])
def test_stock_policy_moves_memory(name):
    """The peers are set up so that they do work: they promote hot memory."""
    outcome = demo.measure(POLICIES[name], rounds=20, name="test")
    assert not outcome.error
    assert outcome.hot["before"] == 0
    assert outcome.hot["after"] > 0.2


def test_hplacement_finds_the_hot_set(all_fast):
    """HPlacement ends with 95% of the hot set fast, at 90% of the bound."""
    outcome = demo.measure(POLICIES["hplacement"], rounds=ROUNDS, name="test")
    assert not outcome.error
    assert outcome.hot["before"] == 0
    assert outcome.hot["after"] >= 0.95
    assert outcome.quarter(True) >= 0.9 * all_fast.quarter(True)


def test_hot_set_survives_halving():
    """The fast tier is halved under HPlacement, and the hot set stays."""
    outcome = demo.measure(POLICIES["hplacement_halved"], rounds=ROUNDS,
                           name="test")
    assert not outcome.error
    late = [look["hot"] for look in outcome.looks
            if look["n"] >= ROUNDS * 2 // 3]
    assert min(late) >= 0.9, late


def run_demo(output, *args, **env):
    """Run bench/demo.py as a user does, with results in `output`."""
    return subprocess.run(
        [sys.executable, str(TOP / "bench" / "demo.py"), "--output",
         str(output), *args], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **env})


def test_program_writes_results_and_report(tmp_path):
    """Table, results file and page agree on what ran."""
    done = run_demo(tmp_path, "--only", "all_fast", "--rounds", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results" / "demo.json").read_text())
    assert set(results) == {"experiment", "command", "versions", "rows"}
    final = [row for row in results["rows"] if row["metric"] == "gups_final"]
    assert len(final) == 1 and final[0]["policy"] == "all_fast"
    assert f"{final[0]['value']:.5f}" in done.stdout
    page = (tmp_path / "demo" / "report.html").read_text()
    assert f"{final[0]['value']:.5f}" in page
    for svg in page.split("<svg")[1:]:
        xml.etree.ElementTree.fromstring(
            "<svg" + svg.partition("</svg>")[0] + "</svg>")
    assert page.count("<svg") == 3


def test_failed_policy_is_shown(tmp_path, monkeypatch):
    """A policy that cannot run is in the table and the page, status not 0."""
    broken = demo.Policy("hplacement", "fail 'made up for a test'\n")
    monkeypatch.setattr(demo, "POLICIES", [broken])
    status = demo.main(["--output", str(tmp_path), "--rounds", "4"])
    assert status == 1
    rows = json.loads((tmp_path / "results" / "demo.json").read_text())["rows"]
    assert [(row["metric"], row["value"]) for row in rows] == [
        ("failed", "made up for a test")]
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "failed: made up for a test" in page


def test_page_is_deterministic(tmp_path):
    """The same results give the same page."""
    outcome = demo.Outcome("unmanaged", counters={"pgmigrate_success": 0})
    for n in range(1, 9):
        outcome.rounds.append({"n": n, "elapsed_s": n / 10, "gups": 0.001 * n,
                               "mups": n})
        outcome.looks.append({"n": n, "hot": n / 10})
    outcome.hot = {"before": 0, "after": 0.8}
    outcome.slices = {"before": [1, 0], "after": [0.5, 0.5]}
    results = tmp_path / "demo.json"
    demo.write_results(results, [outcome], "test")
    for name in ("a.html", "b.html"):
        plot.draw(results, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (
        tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize("args, message", [
    (["--rounds", "3"], "--rounds 3: give 4 or more"),
    (["--only", "luck"], "luck"),
    (["--profile", "tape"], "tape"),
])
def test_wrong_option_is_refused(tmp_path, args, message):
    """The error names the value."""
    done = run_demo(tmp_path, *args)
    assert done.returncode != 0
    assert message in done.stderr


def test_missing_kernel_is_named(tmp_path):
    """Without a kernel there is one clear sentence."""
    done = run_demo(tmp_path, KERNEL="/nowhere/bzImage")
    assert done.returncode == 1
    assert "kernel /nowhere/bzImage does not exist" in done.stderr
    assert tiervm.__file__ not in done.stderr
