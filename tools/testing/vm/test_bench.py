# SPDX-License-Identifier: GPL-2.0
"""The evaluation's runner and its rows, with made-up jobs, and what it runs in guests."""
import json
import os
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree

import experiments
import placement
import policies
import pytest
import report
import run
from conftest import TOP
from experiments import Experiment, Job
from placement import Cell
from test_placement import made_up


class Source:
    """Jobs that are counted, and fail or are interrupted as they are told."""

    def __init__(self):
        self.ran = []
        self.bad = {}
        self.version = "one"

    def job(self, name, quiet=False):
        """A job that finds the length of its name."""
        def work(progress):
            progress("begun")
            self.ran.append(name)
            if name in self.bad:
                raise self.bad[name]
            return {"value": len(name), "linux": "6.12-made-up"}

        return Job(name, {"made up": name}, 1.0, work,
                   {"policy": "hplacement", "workload": name}, quiet)


def rows_of(found, _fast):
    """One figure of each job, or why there is none."""
    return [experiments.failed(job, outcome["error"]) if outcome.get("error")
            else {"metric": "length", **job.tags, "value": outcome["value"],
                  "unit": "1"} for job, outcome in found]


@pytest.fixture
def source(monkeypatch):
    """Two experiments that share a job; another that wants quiet."""
    own = Source()

    def jobs(*names, quiet=False):
        return lambda fast: [own.job(name, quiet)
                             for name in (names[:1] if fast else names)]

    monkeypatch.setattr(experiments, "EXPERIMENTS", [
        Experiment("one", "is it so", jobs("a", "bb", "ccc"), rows_of),
        Experiment("two", "or so", jobs("bb", "dddd"), rows_of),
        Experiment("calm", "and now", jobs("eeeee", quiet=True), rows_of)])
    monkeypatch.setattr(policies, "build", lambda: None)
    monkeypatch.setattr(run, "built", lambda: own.version)
    monkeypatch.setattr(policies, "versions", lambda linux: {
        "project": own.version, "linux": linux, "qemu": "made up"})
    return own


def results(folder, name):
    """A results file, and its values by workload."""
    data = json.loads((folder / "results" / f"{name}.json").read_text())
    return data, {row["workload"]: row["value"] for row in data["rows"]}


def test_each_job_runs_once(source, tmp_path):
    """Also one that two experiments share; results have DESIGN's form."""
    assert run.main(["--output", str(tmp_path)]) == 0
    assert sorted(source.ran) == ["a", "bb", "ccc", "dddd", "eeeee"]
    assert source.ran[-1] == "eeeee"  # alone, at the end
    data, values = results(tmp_path, "two")
    assert values == {"bb": 2, "dddd": 4}
    assert data["experiment"] == "two" and data["question"] == "or so"
    assert data["command"] == "bench/run.py"
    assert data["versions"]["linux"] == "6.12-made-up"
    assert all(set(row) == {"metric", "policy", "workload", "value", "unit"}
               for row in data["rows"])


def test_interrupted_run_goes_on(source, tmp_path, monkeypatch, capsys):
    """What was found before is in the results and is not run again."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    source.bad["ccc"] = KeyboardInterrupt()
    assert run.main(["one", "--output", str(tmp_path)]) == 130
    assert source.ran == ["a", "bb", "ccc"]
    assert results(tmp_path, "one")[1] == {"a": 1, "bb": 2, "ccc": "not run"}
    assert "interrupted" in capsys.readouterr().err
    source.bad.clear()
    source.ran.clear()
    assert run.main(["one", "--output", str(tmp_path)]) == 0
    assert source.ran == ["ccc"]
    assert results(tmp_path, "one")[1] == {"a": 1, "bb": 2, "ccc": 3}


def test_half_written_outcome_is_run_again(source, tmp_path):
    """A file that is no JSON counts as nothing."""
    assert run.main(["two", "--output", str(tmp_path)]) == 0
    source.ran.clear()
    for path in (tmp_path / "bench" / "kept").iterdir():
        path.write_text(path.read_text()[:-3])
    assert run.main(["two", "--output", str(tmp_path)]) == 0
    assert sorted(source.ran) == ["bb", "dddd"]


def test_other_version_is_run_anew(source, tmp_path):
    """What was found by other programs does not count."""
    assert run.main(["two", "--output", str(tmp_path)]) == 0
    source.ran.clear()
    source.version = "two"
    assert run.main(["two", "--output", str(tmp_path)]) == 0
    assert sorted(source.ran) == ["bb", "dddd"]
    assert results(tmp_path, "two")[0]["versions"]["project"] == "two"


def test_failed_job_is_shown_and_run_again(source, tmp_path, capsys):
    """In the results, on the page, in the exit status; the others count."""
    source.bad["bb"] = policies.tiervm.GuestError("made <up>")
    assert run.main(["one", "--output", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "bb: FAILED: made <up>" in out
    assert results(tmp_path, "one")[1] == {"a": 1, "bb": "made <up>", "ccc": 3}
    page = (tmp_path / "bench" / "report.html").read_text()
    assert "made &lt;up&gt;" in page and "<td>failed</td>" in page
    source.bad.clear()
    source.ran.clear()
    assert run.main(["one", "--output", str(tmp_path)]) == 0
    assert source.ran == ["bb"]
    assert "failed" not in (tmp_path / "bench" / "report.html").read_text()


def test_subset(source, tmp_path):
    """NAME and --fast choose; the command says so."""
    assert run.main(["two", "--fast", "--output", str(tmp_path)]) == 0
    assert source.ran == ["bb"]
    assert results(tmp_path, "two")[0]["command"] == "bench/run.py two --fast"


def test_progress_tells_time_left(capsys):
    """Two workers need half of the time; a slow start is reckoned with."""
    source = Source()
    jobs = [source.job(name)._replace(seconds=60) for name in "abcd"]
    progress = run.Progress(jobs, 2)
    assert progress.minutes_left() == pytest.approx(2)
    progress.begin(jobs[0])
    progress.began[id(jobs[0])] -= 120
    progress.finish(jobs[0], {})
    assert progress.minutes_left() == pytest.approx(3, rel=0.01)
    assert "1 of 4, 3 min left] a: done after 120 s" in capsys.readouterr().out


def test_workers_are_side_by_side(source, tmp_path, monkeypatch):
    """Two jobs at once, but for those that want quiet."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    both = threading.Barrier(2, timeout=10)
    experiment, *_ = experiments.EXPERIMENTS
    made = [job._replace(run=lambda _: {"value": both.wait()})
            for job in experiment.jobs(False)[:2]]
    monkeypatch.setattr(experiments, "EXPERIMENTS", [
        experiment._replace(jobs=lambda _: made)])
    assert not source.ran
    assert run.main(["--output", str(tmp_path)]) == 0


def test_list_and_unknown_name(capsys):
    """Each experiment with its question and time; in about an hour."""
    assert run.main(["--list"]) == 0
    out = capsys.readouterr().out
    for experiment in experiments.EXPERIMENTS:
        assert experiment.question in out
    every = {fast: {json.dumps(job.spec, sort_keys=True): job for e in
                    experiments.EXPERIMENTS for job in e.jobs(fast)}
             for fast in (False, True)}
    assert run.minutes(list(every[False].values()), 2) < 60
    assert run.minutes(list(every[True].values()), 2) < 15
    with pytest.raises(SystemExit):
        run.main(["luck"])
    assert "luck" in capsys.readouterr().err


def test_jobs_are_told_apart():
    """No two with the same name, hence the same log; none twice."""
    for fast in (False, True):
        jobs = {json.dumps(job.spec, sort_keys=True): job for e in
                experiments.EXPERIMENTS for job in e.jobs(fast)}
        assert len({job.label for job in jobs.values()}) == len(jobs)


def guest_job(policy, workload="hotset"):
    """A job of an experiment that would boot a guest."""
    return experiments.gups_job(experiments.BY_NAME[workload],
                                experiments.POLICIES[policy], 8)


def stored(cell):
    """An outcome as it comes from a file."""
    return json.loads(json.dumps(placement.dataclasses.asdict(cell)))


def test_stages_of_damon():
    """Its bookkeeping is what its threads take beside walks and moves."""
    cell = made_up(policy="damon", rounds=8)
    for when, factor in (("start", 0), ("end", 1)):
        for name, ns in (("tier_rmap_walk_ns", 100), ("tier_migrate_ns", 50),
                         ("tier_lru_scan_ns", 8), ("tier_hint_fault_ns", 4)):
            cell.take(f"vmstat {when} {name} {factor * ns * 1000000}")
        cell.take(f"vmstat {when} kdamond_ticks {factor * 20}")
    rows = experiments.breakdown_rows(
        [(guest_job("all_fast"), stored(made_up(policy="all_fast"))),
         (guest_job("damon"), stored(cell))], False)
    own = {r["metric"]: r["value"] for r in rows if r["policy"] == "damon"}
    assert own == {"sampling_cpu_pct": pytest.approx(10.4 / 8),
                   "classification_cpu_pct": pytest.approx(5.8 / 8),
                   "migration_cpu_pct": 5 / 8,
                   "fast_free_mib": 10 / 256}
    assert not [r for r in rows if r["policy"] == "all_fast"]


def test_failed_guest_is_in_each_experiment():
    """As failed, with its policy and workload."""
    pairs = [(guest_job("damon"), {"error": "made up"}),
             (guest_job("hplacement"), stored(made_up()))]
    for experiment in experiments.EXPERIMENTS:
        if experiment.jobs not in (experiments.placement_jobs,
                                   experiments.base_jobs):
            continue
        rows = experiment.rows(pairs, False)
        assert [(r["policy"], r["workload"], r["value"]) for r in rows
                if r["metric"] == "failed"] == [("damon", "hotset", "made up")]


def test_missed_goal_is_a_row():
    """With its verdict; FAST=1 has none."""
    cells = [(guest_job(p.name), stored(made_up(policy=p.name)))
             for p in placement.POLICIES]
    goals = {(r["goal"], r["workload"]): r["verdict"]
             for r in experiments.placement_rows(cells, False)
             if r["metric"] == "goal"}
    assert goals["converge_s of hplacement <= 1.5", "hotset"] == "MISSED"
    assert not [r for r in experiments.placement_rows(cells, True)
                if r["metric"] == "goal"]


def test_goal_that_was_not_measured_is_not_missed():
    """Of the costs, FAST=1 measures some; one whose guest failed is missed."""
    jobs = experiments.costs_jobs(True)
    found = [(job, {"rows": [{
        "metric": "classify_ns_range", "value": 1.0, "unit": "ns",
        "policy": "hplacement", "workload": "costs"}]}) for job in jobs]

    def verdicts(pairs):
        return {r["goal"]: r["verdict"]
                for r in experiments.costs_rows(pairs, True)
                if r["metric"] == "goal"}

    sample = "sample_insns_median of hplacement <= 200"
    assert verdicts(found)[sample] == "not run"
    found[0] = (jobs[0], {"error": "made up"})
    assert verdicts(found)[sample] == "MISSED"


def test_hplacement_has_seeds():
    """Goals are those of the first; other seeds' rows tell which they are."""
    jobs = experiments.placement_jobs(False)
    seeds = [job for job in jobs if "seed" in job.tags]
    assert {(job.tags["policy"], job.tags["workload"]) for job in seeds} == {
        ("hplacement", "hotset"), ("hplacement", "zipf_scattered")}
    pairs = [(guest_job(p.name), stored(made_up(policy=p.name)))
             for p in placement.POLICIES]
    more = [job for job in seeds if job.tags["workload"] == "hotset"]
    pairs += [(job, stored(made_up(round_s=job.tags["seed"]))) for job in more]
    pairs[-1] = (more[-1], {"error": "made up"})
    rows = experiments.placement_rows(pairs, False)
    own = {r.get("seed"): r["value"] for r in rows if (
        r["metric"], r["policy"]) == ("throughput_rel", "hplacement")}
    assert own == {None: 1, 2: 1 / 2, 3: pytest.approx(1 / 3), 4: 1 / 4}
    assert {r["seed"] for r in rows if r["metric"] == "failed"} == {5}
    assert experiments.placement_rows(pairs[:8], False)[-1] == rows[-1]
    # In the table the median and the range, on the plot the mean and the range.
    line, = report.matrix(rows, "throughput_rel").lines
    assert "0.417 (0.25-1), failed" in line
    assert report.range_of([1, 2, 6]) == [2, 3]
    assert len(report.PLOTS["placement"](rows)) == 2


def test_without_model_on_kvm(source, tmp_path, monkeypatch, capsys):
    """What takes it is left out and named; alone, it is refused."""
    first, *others = experiments.EXPERIMENTS
    monkeypatch.setattr(experiments, "EXPERIMENTS",
                        [first._replace(modelled=True), *others])
    monkeypatch.setattr(policies.tiervm, "KVM", str(tmp_path))
    monkeypatch.setenv("ACCEL", "kvm")
    assert run.main(["--output", str(tmp_path)]) == 0
    assert "as they take the timing model: one\n" in capsys.readouterr().err
    assert sorted(source.ran) == ["bb", "dddd", "eeeee"]
    assert run.worker_count() == 1
    assert run.main(["one", "--output", str(tmp_path)]) == 1
    assert "nothing is left to run" in capsys.readouterr().err
    monkeypatch.setattr(policies.tiervm, "KVM", str(tmp_path / "kvm"))
    assert run.main(["two", "--output", str(tmp_path)]) == 1
    assert "kvm does not exist" in capsys.readouterr().err


def page_rows():
    """Rows with all that tables must cope with."""
    def row(policy, workload, value, metric="sampling_cpu_pct", **more):
        return {"metric": metric, "policy": policy, "workload": workload,
                "value": value, "unit": "%", **more}

    return [row("damon", "hotset", 1.0), row("damon", "hotset", 3.0),
            row("damon", "hotset", 2.0), row("hplacement", "hotset", 0.5),
            row("hplacement", "mix", "made up", "failed"),
            row("damon", "mix", "not run", "failed"),
            experiments.published("sampling_cpu_pct", "PML", "", 14.6, "%")]


def test_table_has_failures_and_published_figures():
    """In a column of their own; several figures are a median and a range."""
    table, failures = report.tables(page_rows())
    assert table.heads == ["", "damon", "hplacement", "published, other "
                           "hardware"]
    assert table.lines == [["hotset", "2 (1-3)", "0.5", "14.6 % (PML)"],
                           ["mix", "not run", "failed", ""]]
    assert failures.lines == [["hplacement", "mix", "made up"],
                              ["damon", "mix", "not run"]]


def test_page_is_drawn_from_results_alone(tmp_path):
    """By `make plot`'s command; the same bytes again; SVG that is well-formed;
    files that answer no question are left out."""
    folder = tmp_path / "results"
    policies.write_results(folder / "breakdown.json", "breakdown", "made up",
                           [], page_rows(), versions={"project": "made up"},
                           question="what does it cost")
    (folder / "demo.json").write_text('{"experiment": "demo"}')
    pages = []
    for name in ("a.html", "b.html"):
        subprocess.run([sys.executable, str(TOP / "bench" / "report.py"),
                        str(folder), str(tmp_path / name)], check=True,
                       env={"PATH": "/usr/bin:/bin", "BUILD": "/nowhere"})
        pages.append((tmp_path / name).read_text())
    assert pages[0] == pages[1]
    assert "what does it cost?" in pages[0] and "demo" not in pages[0]
    plots = pages[0].split("<svg")[1:]
    assert len(plots) == 1
    for svg in plots:
        xml.etree.ElementTree.fromstring(
            "<svg" + svg.partition("</svg>")[0] + "</svg>")


@pytest.mark.parametrize("name", ["placement", "placement_cxl", "time", "hits"])
def test_plots_of_guests(name):
    """Each workload is drawn, with one that failed."""
    experiment, = (e for e in experiments.EXPERIMENTS if e.name == name)
    cell = made_up(policy="hplacement")
    cell.hits = [{"time_s": n, "hit_ratio": 0.5, "oracle": 0.9}
                 for n in (1.0, 2.0)]
    rows = experiment.rows([(guest_job("hplacement"), stored(cell)),
                            (guest_job("damon"), {"error": "made up"})], False)
    page = "".join(report.PLOTS[name](rows))
    assert page.count("<svg") == (2 if name.startswith("placement") else 1)
    assert isinstance(experiments.cell_of(guest_job("damon"), {
        "error": "made up"}), Cell)


def test_tracking_is_held_against_none():
    """What fails is shown; without the guest to compare with, no cost is."""
    found = []
    for job in experiments.tracking_jobs(False):
        cell = experiments.tracking.Seen(job.tags["policy"], samples=1000)
        cell.take("round n=1 seconds="
                  + ("1" if job.tags["policy"].startswith("none") else "1.5"))
        found.append((job, json.loads(json.dumps(
            placement.dataclasses.asdict(cell)))))
    found[4] = (found[4][0], {"error": "made up"})
    own = {(r["metric"], r["policy"]): r["value"] for r in
           experiments.tracking_rows(found, False) if "published" not in r}
    assert own["sample_ns", "abit"] == own["sample_ns", "hint_fault"] == 500000
    assert own["failed", "pebs_hplacement"] == "made up"
    found[0] = (found[0][0], {"error": "made up"})
    rows = experiments.tracking_rows(found, False)
    assert [r["policy"] for r in rows if r["metric"] == "sample_ns"
            and "published" not in r] == ["abit", "hint_fault"]
    assert len(report.PLOTS["tracking"](rows)) == 2


def test_moves_by_batch():
    """Along the sizes that batches really had."""
    found = [(job, {"figures": [["batch_pages", 2.5 * job.spec["mbps"], "pages"],
                                ["move_gibs", 0.5, "GiB/s"]]})
             for job in experiments.exchange_jobs(False)]
    found[0] = (found[0][0], {"error": "made up"})
    rows = experiments.exchange_rows(found, False)
    assert {r["batch_pages"] for r in rows if r["metric"] == "move_gibs"} == {
        2.5 * rate for rate in experiments.exchange.RATES_MBPS}
    assert len([r for r in rows if r["metric"] == "failed"]) == 1
    assert len(report.PLOTS["exchange"](rows)) == 1


def test_ratio_is_of_all_fast():
    """Throughput by the fast tier's size; a failure in its place."""
    jobs = experiments.ratio_jobs(True)
    found = []
    for job in jobs:
        cell = made_up(policy=job.tags["policy"],
                       round_s={0: 0.5, 16: 2.0}.get(job.tags["ratio"], 1.0))
        found.append((job, stored(cell)))
    assert [(job.tags["policy"], job.tags["ratio"]) for job in jobs] == [
        ("all_fast", 0), *((policy, ratio) for ratio in (1, 16)
                           for policy in ("unmanaged", "hplacement"))]
    found[2] = (jobs[2], {"error": "made up"})
    rows = experiments.ratio_rows(found, True)
    own = {(r["metric"], r["policy"], r["workload"]): r for r in rows}
    slow = own["throughput_rel", "hplacement", "hotset 1:16"]
    assert slow["value"] == 0.25 and slow["ratio"] == 16
    assert own["fast_share", "hplacement", "hotset 1:16"]["value"] == 0.51
    assert own["failed", "hplacement", "hotset 1:1"]["value"] == "made up"
    assert len(report.PLOTS["ratio"](rows)) == 1


def test_fast_nodes_of_ratio():
    """The fast node has the kernel's share beside the buffer's."""
    sizes = {job.tags["ratio"]: job.spec["policy"]["fast"]
             for job in experiments.ratio_jobs(False)}
    assert 1024 * 1.05 < sizes[1] < 1024 * 1.1 and 64 * 1.4 < sizes[16] < 102
    # Or tiervm.py refuses to boot it.
    assert min(sizes.values()) >= 96


def test_seeds_have_a_spread():
    """A row for each seed, of that seed's bound; knobs stand in the script."""
    found = []
    for job in experiments.sensitivity_jobs(False):
        seed = job.tags["seed"]
        bound = job.tags["policy"] == "all_fast"
        found.append((job, stored(made_up(
            policy=job.tags["policy"],
            round_s=0.1 * seed if bound else 0.2 * seed + 0.01 * seed ** 2))))
    rows = experiments.sensitivity_rows(found, False)
    for knobs, seeds in (((20, 10), range(1, 3)), ((100, 10), range(1, 6))):
        own = [r for r in rows if r["metric"] == "throughput_mean_rel" and
               (r.get("epoch_ms"), r.get("overhead_permille")) == knobs]
        assert {r["seed"]: round(r["value"], 4) for r in own} == {
            seed: round(1 / (2 + 0.1 * seed), 4) for seed in seeds}
    spread = {r["seed"] for r in rows if r["policy"] == "unmanaged"}
    assert spread == set(range(1, 6))
    job, = (job for job, _ in found if (
        job.tags.get("epoch_ms"), job.tags.get("overhead_permille"),
        job.tags["seed"]) == (20, 10, 2))
    assert "echo 20 > /sys/kernel/mm/hplacement/epoch_ms" in (
        job.spec["policy"]["setup"])
    assert job.spec["gups"].endswith("--seed 2")
    assert len(report.PLOTS["sensitivity"](rows)) == 3
    table = next(t for t in report.tables(rows)
                 if t.title == "throughput_mean_rel")
    assert ["hotset, epoch 20 ms, budget 1%", "-", "0.465 (0.455-0.476)"] in (
        table.lines)


def test_simulation_is_read():
    """By size and place of the hot pieces; other lines are no figures."""
    rows = experiments.read_simulation("""KTAP version 1
1..1
# w.max_ranges = 70 (64 to 80)
# 1024 GiB, 20 hot pieces from 25.1% on, 200 accesses a second:
# epochs_until(0.95, max_epochs) = 51 (0 to 250)
# recall() = 0.9712 (0.95 to 1)
# w.max_ranges = 129 (2 to 400)
ok 1 sim_finds_the_hot_set_1_tib""".splitlines(), "hplacement")
    assert [(r["metric"], r["value"], r["gib"]) for r in rows] == [
        ("converge_epochs", 51, 1024), ("recall", 0.9712, 1024),
        ("ranges", 129, 1024)]
    assert rows[0]["workload"] == "1024 GiB, 20 at 25.1%"
    assert len(report.PLOTS["scale"](rows)) == 2


def test_damon_finds_nodes_above_2_gib(guest):
    """Where the shell's tools have 32 bits for a number that is printed as one."""
    result = guest(f"""
        {policies.DAMON}
        cat $admin/*/state
        echo range=$(node_memory 1)""", fast=1280, slow=1088, timing="off")
    assert result.out[:2] == ["on", "on"]
    start, end = map(int, re.search(r"range=(\d+) (\d+)", result.text).groups())
    assert 1 << 30 < start < 2 << 30 < end


def test_resize_has_goals_and_published_figures():
    """Of all rounds together; HyperAlloc's have a column of their own."""
    jobs = experiments.resize_jobs(False)
    assert all(job.quiet for job in jobs)
    found = []
    for job in jobs:
        rate = {"hballoon": 30, "virtio_mem": 20}.get(job.tags["device"], 1)
        found.append((job, {"rows": [{
            "metric": "inflate_untouched_gibs", "workload": "512 MiB",
            "value": rate + job.tags["round"], "unit": "GiB/s",
            "device": job.tags["device"], "round": job.tags["round"]}]}))
    found[-1] = (jobs[-1], {"error": "made up"})
    rows = experiments.resize_rows(found, False)
    goals = {r["goal"]: (r["value"], r["verdict"]) for r in rows
             if r["metric"] == "goal"}
    assert goals == {
        "inflate_untouched_gibs at least 20 of virtio_balloon": (
            31 / 2, "MISSED"),
        "inflate_untouched_gibs at least 1 of virtio_mem": (31 / 21, "ok")}
    table = report.matrix(rows, "inflate_untouched_gibs")
    assert table.heads == ["", "hballoon", "virtio_balloon", "virtio_mem",
                           "hballoon_prealloc", "roofline",
                           "published, other hardware"]
    assert table.lines[0][:2] == ["512 MiB", "31 (30-32)"]
    assert table.lines[0][-1] == "5035 GiB/s (HyperAlloc)"
    assert len(report.PLOTS["resize"](rows)) == 1
    more = [{"metric": metric, "device": "hballoon", "workload": workload,
             "value": 1.0, "unit": "", "round": 0, **time}
            for metric, workload, time in (
                ("node_mib", "fast node", {"time_s": 0.0}),
                ("node_mib", "slow node", {"time_s": 0.5}),
                ("ftq_p1_rel", "", {}))]
    assert len(report.PLOTS["resize"](rows + more)) == 4
    assert [r["device"] for r in rows if r["metric"] == "failed"] == ["roofline"]


def test_programs_are_held_against_all_fast():
    """In the last quarter and in all; without the bound there is no share."""
    def outcome(*mups):
        return vars(policies.Outcome("", rounds=[
            {"mups": m, "seconds": 1 / m} for m in mups]))

    jobs = {job.tags["policy"]: job for job in experiments.programs_jobs(True)
            if job.tags["workload"] == "pagerank"}
    found = [(jobs["all_fast"], outcome(5, 10, 10, 10)),
             (jobs["unmanaged"], {"error": "made up"}),
             (jobs["hplacement"], outcome(4, 5, 5, 8))]
    rows = experiments.programs_rows(found, True)
    own = {(r["metric"], r["policy"]): r["value"] for r in rows}
    assert own["mops", "hplacement"] == 8
    assert own["throughput_rel", "hplacement"] == 0.8
    assert own["throughput_mean_rel", "hplacement"] == pytest.approx(
        (1 / 5 + 3 / 10) / (1 / 4 + 2 / 5 + 1 / 8))
    assert own["failed", "unmanaged"] == "made up"
    found[0] = (jobs["all_fast"], {"error": "made up"})
    assert not [r for r in experiments.programs_rows(found, True)
                if r["metric"].startswith("throughput")]


def test_program_that_serves_has_latencies():
    """Rows of their own; what it has moved in the rounds, exchanges twice."""
    job, = (job for job in experiments.programs_jobs(True)
            if job.label == "redis hplacement")
    outcome = policies.Outcome("hplacement", "redis")
    for line in ("vmstat before pgmigrate_success 0",
                 "vmstat start pgmigrate_success 256",
                 "vmstat start hpl_exchanged 0",
                 "round n=1 seconds=0.5 elapsed_s=0.5 mups=2",
                 "vmstat end pgmigrate_success 512",
                 "vmstat end hpl_exchanged 128",
                 "latency requests=10 p50_us=31.5 p99_us=70.25"):
        outcome.take(line)
    # As run.py keeps it.
    kept = {**vars(outcome), "project": "made up"}
    rows = experiments.programs_rows([(job, kept),
                                      (experiments.programs_jobs(True)[-3],
                                       {"error": "made up"})], True)
    own = {r["metric"]: (r["value"], r["unit"]) for r in rows}
    assert own["latency_p50_us"] == (31.5, "us")
    assert own["latency_p99_us"] == (70.25, "us")
    assert own["moved_mib"] == (2, "MiB")
    page = "".join(report.PLOTS["programs"](rows))
    assert page.count("<svg") == 3
    assert len(report.PLOTS["programs"](
        [r for r in rows if not r["metric"].startswith("latency")])) == 1


def test_versions_of_packages_count():
    """What was found with another redis is not what this one does."""
    job, = (job for job in experiments.programs_jobs(True)
            if job.label == "redis unmanaged")
    found = subprocess.run(["dpkg-query", "-W", "redis-tools"],
                           capture_output=True, text=True, check=True).stdout
    assert found.strip() in job.spec["packages"]
    assert not experiments.program_job(
        "lookup", experiments.POLICIES["unmanaged"], 2).spec["packages"]


@pytest.fixture(scope="module")
def programs(gups):
    """Where programs are built."""
    return policies.Path(gups["/bin/gups"]).parent


@pytest.mark.parametrize("name, least, most", [
    ("pagerank", 1 - 1e-6, 1 + 1e-6),            # the sum of all ranks
    ("bfs", 0.3 * 2 * 2 ** 20, 2 * 2 ** 20),     # vertices found
    ("lookup", 1e6, 1e7),
    ("redis", 24000, 24000),                     # right answers
    ("sqlite", 0.8 * 16000, 16000),              # rows; each once in a query
    ("liblinear", 1e3, 0.5 * 2.77e4)])           # loss; without weights 2.77e4
def test_program_computes(programs, name, least, most):
    """What it should; rounds are in the form that outcomes are read in."""
    done = subprocess.run([str(programs / name), "--rounds", "2"],
                          capture_output=True, text=True, check=True)
    outcome = policies.Outcome("unmanaged")
    for line in done.stdout.splitlines():
        outcome.take(line)
    assert [r["n"] for r in outcome.rounds] == [1, 2]
    assert int(outcome.facts["buffer"]["pages"]) > 4096
    assert ("latency" in outcome.facts) == (name in ("redis", "sqlite"))
    if "latency" in outcome.facts:
        latency = {k: float(v) for k, v in outcome.facts["latency"].items()}
        # Those of the second round alone, in which others wait for them.
        assert 0 < latency["p50_us"] < latency["p99_us"]
        assert (latency["requests"] * latency["p50_us"] / 2
                < outcome.rounds[1]["seconds"] * 1e6)
    kind, value = done.stdout.splitlines()[-1].split("=")
    assert kind == "check value" and least <= float(value) <= most
    bad = subprocess.run([str(programs / name), "--rounds", "0"],
                         capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and "0: give a number" in bad.stderr


def test_program_runs_in_a_guest(programs):
    """Debian's own, on the host's root; its memory is on both nodes."""
    outcome = policies.Outcome("unmanaged", "redis")
    policies.run(outcome, policies.Policy("unmanaged", fast=96, slow=320), "",
                 1, "test-program-in-a-guest", lambda _: None,
                 program="redis", root="host", timing="off")
    assert not outcome.error
    assert float(outcome.facts["latency"]["requests"]) == 1500
    assert int(outcome.facts["buffer"]["pages"]) > 25000
    # Of 96 MiB, with more than that in use.
    assert int(outcome.facts["fast_free"]["pages"]) < 4096


def test_missing_program_is_named(programs, guest):
    """With the package that has it."""
    out = guest("redis --rounds 1 2>&1 || echo status $?", timing="off",
                files={"/bin/redis": str(programs / "redis")}).out
    assert out[-1] == "status 1"
    assert out[-2].startswith("redis: /usr/bin/redis-check-rdb: No such file")
    assert out[-2].endswith("install the package redis-tools")
