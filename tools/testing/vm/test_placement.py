# SPDX-License-Identifier: GPL-2.0
"""Who places memory best: the arithmetic of its figures, and one guest."""
import json
import re

import cost
import numpy
import placement
import policies
import pytest
from placement import Cell, Interval, Results, Window

WORKLOADS = {w.name: w for w in placement.WORKLOADS}
POLICIES = {p.name: p for p in placement.POLICIES}
MS = 1000000                          # ns


def made_up(workload="hotset", policy="hplacement", rounds=8, round_s=1.0):
    """A cell of 1000 pages, 100 of them hot, whose rounds take `round_s`."""
    cell = Cell(policy, workload)
    start = 5000 * MS
    cell.take("config hot_share=0.1")
    cell.take("buffer address=0x1000000 pages=1000")
    cell.take("placement when=before hot=0.2000 all=0.5000")
    cell.take("vmstat start pgmigrate_success 50")
    cell.take("vmstat start system_ticks 100")
    cell.take("fast_free pages=10")
    cell.take(f"start tsc={start}")
    for n in range(1, rounds + 1):
        end = start + round(n * round_s * 1000 * MS)
        cell.take(f"round n={n} elapsed_s={n * round_s} seconds={round_s} "
                  f"gups={1e-3 / round_s} mups={1 / round_s} tsc={end}")
        cell.take(f"placement when={n} hot={min(10, 2 + n) / 10} all=0.5 "
                  f"moved={50 + 60 * n} query_s=0.1")
    cell.take("vmstat end pgmigrate_success 600")
    cell.take("vmstat end system_ticks 350")
    return cell


@pytest.mark.parametrize("capacity, misses", [
    (0, 0), (1, 70), (2, 80), (3, 130), (4, 131), (9, 131)])
def test_oracle_takes_the_highest_rank(capacity, misses):
    """Pages are chosen by one count and judged by another."""
    assert placement.best_misses([5, 1, 9, 6], [50, 1, 70, 10],
                                 capacity) == misses


def table(*rows):
    """Lines of a file of exact misses."""
    return [b"time_ns,address_space,virtual_page,node,misses\n",
            *(f"{ms * MS},{rest}\n".encode() for ms, rest in rows)]


def test_misses_are_read_by_interval():
    """What lies only partly in a window, or is another page, is left out."""
    span = Window([4], 1000 * MS, 1500 * MS, 2000 * MS)
    found, spaces = placement.read_misses(table(
        (1249, "0x9,0x100,0,1"),      # began before the window
        (1250, "0x7,0x100,0,2"), (1500, "0x7,0x101,1,4"),
        (1749, "0x7,0x101,0,8"),      # began before the judged part
        (1750, "0x7,0x100,0,16"), (1750, "0x7,0x100,1,32"),
        (1750, "0x7,0x102,0,64"),     # not of the buffer
        (2000, "0x7,0x101,1,128"),
        (2250, "0x9,0x100,0,256")),   # ends after it
        0x100, 2, 1000 * MS, 2000 * MS)
    own = placement.Misses(found, span)
    assert list(own.stay) == [2 + 16 + 32, 4 + 8 + 128]
    assert list(own.judged) == [16 + 32, 128]
    assert list(own.judged_fast) == [16, 0]
    assert spaces == 1


def test_misses_of_each_stay_are_apart():
    """Each window has its own; a second address space is noticed."""
    spans = [Window([2], 0, 0, 1000 * MS),
             Window([4], 1000 * MS, 1000 * MS, 2000 * MS)]
    found, spaces = placement.read_misses(
        table((1000, "0x7,0x100,0,1"), (1250, "0x8,0x100,0,2")), 0x100, 1,
        0, 2000 * MS)
    assert [list(placement.Misses(found, span).stay) for span in spans] == [
        [1], [2]]
    assert spaces == 2


def test_hits_over_time_and_the_oracles():
    """An oracle for each stay; what lies across a move is left out."""
    found, _ = placement.read_misses(
        table((1250, "0x7,0x100,0,1"), (1250, "0x7,0x101,1,3"),
              (1500, "0x7,0x100,0,4"), (1500, "0x7,0x101,1,6"),
              (1700, "0x7,0x100,0,9"),        # the hot set moves meanwhile
              (2000, "0x7,0x100,0,3"), (2000, "0x7,0x101,1,1")),
        0x100, 2, 1000 * MS, 2000 * MS)
    assert placement.hits_over_time(
        found, 1000 * MS, [(1000 * MS, 1600 * MS), (1600 * MS, 2000 * MS)],
        1) == [{"time_s": 0.25, "hit_ratio": 0.25, "oracle": 0.75},
               {"time_s": 0.5, "hit_ratio": 0.4, "oracle": 0.6},
               {"time_s": 1.0, "hit_ratio": 0.75, "oracle": 0.75}]


def test_hit_ratio_is_held_against_the_oracle(monkeypatch, tmp_path):
    """Misses on the fast node, of those that the best placement has there."""
    fast = numpy.array([9] * 50 + [0] * 950)
    all_ = numpy.array([9] * 100 + [1] * 900)
    monkeypatch.setattr(placement, "read_misses", lambda *_: (
        [Interval(13000 * MS, fast, all_)], 1))
    (tmp_path / "truth").touch()
    cell = made_up()
    spans = placement.windows(cell, WORKLOADS["hotset"])
    assert cell.judge_misses(WORKLOADS["hotset"], spans,
                             tmp_path / "truth") is None
    assert cell.capacity == 510       # half of the pages, and 10 free ones
    assert cell.best_misses == 900 + 410
    figures = {name: value for name, value, _ in placement.figures(
        cell, WORKLOADS["hotset"], None, "pmem")}
    assert figures["hit_ratio"] == 450 / 1800
    assert figures["hit_ratio_rel"] == 450 / 1310


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_wrong_clock_is_noticed(tmp_path, factor):
    """A counter of the CPU that is not the model's clock judges nothing."""
    cell = made_up()
    start = float(cell.facts["start"]["tsc"])
    cell.rounds[-1]["tsc"] = start + factor * (cell.rounds[-1]["tsc"] - start)
    assert "time stamp counter" in cell.judge_misses(
        WORKLOADS["hotset"], [], tmp_path / "truth")


def test_last_quarter_is_judged():
    """And the whole run is what misses are ranked by."""
    span, = placement.windows(made_up(rounds=12), WORKLOADS["hotset"])
    assert span == Window([10, 11, 12], 5000 * MS, 14000 * MS, 17000 * MS)


def test_what_follows_a_move_is_judged():
    """Of each stay after the first, what begins 1.5 s after the move."""
    cell = made_up("moving", rounds=90, round_s=0.2)
    spans = placement.windows(cell, WORKLOADS["moving"])
    assert [(s.rounds[0], s.rounds[-1]) for s in spans] == [(39, 60), (69, 90)]
    assert spans[0][1:] == (11000 * MS, 12600 * MS, 17000 * MS)


def test_times_until_the_hot_set_is_fast():
    """Counted from the start, or from the move; None if it never was."""
    cell = made_up()
    assert placement.settled_s(cell, 1, 8) == 7
    assert placement.settled_s(cell, 4, 8) == 4
    assert placement.settled_s(cell, 1, 6) is None


def test_cost_of_moving():
    """Pages moved, of those needed; time per pair, beyond the copy's."""
    cell = made_up()
    cell.take("vmstat start pgmigrate_success 30")
    cell.take("vmstat start hpl_exchanged 10")
    cell.take("vmstat end hpl_exchanged 12")
    # After 7 rounds 0.9 are fast: 70 pages have come, 60 had to go for that.
    assert placement.moved_ratio(cell) == pytest.approx(7 * 60 / (70 + 60))
    assert placement.pair_us_over_floor(cell, "pmem") is None
    cell.take("vmstat start hpl_migrate_ns 1000")
    cell.take("vmstat end hpl_migrate_ns 50001000")
    cell.take("vmstat end hpl_promote_done_anon 1500")
    cell.take("vmstat end hpl_demote_done_anon 500")
    # 25 us a page, of which 64 x (69 + 177) ns are the copy; two pairs have
    # changed places.
    assert placement.pair_us_over_floor(cell, "pmem") == pytest.approx(
        2 * (25 - 15.744 * 1998 / 2000))
    figures = {name: value for name, value, _ in placement.figures(
        cell, WORKLOADS["hotset"], None, "pmem")}
    assert figures["mgmt_cpu_pct"] == pytest.approx(100 * (2.5 - 0.1) / 8)
    assert figures["moved_mib"] == pytest.approx((570 + 2 * 2) / 256)


def good_rows():
    """Rows with which each goal is reached."""
    out = []
    for w in placement.WORKLOADS:
        for p in placement.POLICIES:
            ours = p.name.startswith("hplacement")
            values = {"mups_mean": 8, "throughput_mean_rel": 0.9,
                      "throughput_rel": 0.95 if ours else 0.7,
                      "hit_ratio_rel": 0.97, "converge_s": 1.2,
                      "reconverge_s": 1.4, "tracking_cpu_pct": 0.4}
            out += [{"metric": metric, "policy": p.name, "workload": w.name,
                     "value": value, "unit": ""}
                    for metric, value in values.items()]
    return out + [{"metric": metric, "policy": "hplacement",
                   "workload": cost.WORKLOAD, "value": bound, "unit": ""}
                  for metric, bound in cost.GOALS]


def verdicts(rows):
    """Goals that are not reached, and why."""
    results = Results(rows)
    return {(goal.what, goal.workload): goal.verdict(results)[1]
            for goal in placement.GOALS if goal.verdict(results)[1] != "ok"}


def change(metric, policy, workload, value):
    """The good rows but for one, which is left out if `value` is None."""
    rows = good_rows()
    row, = (r for r in rows if (r["metric"], r["policy"], r["workload"])
            == (metric, policy, workload))
    if value is None:
        rows.remove(row)
    row["value"] = value
    return rows


def test_goals_that_are_reached():
    """Nothing is missed, and all workloads and the costs have goals."""
    assert not verdicts(good_rows())
    assert ({goal.workload for goal in placement.GOALS}
            == {*WORKLOADS, cost.WORKLOAD, ""})


@pytest.mark.parametrize("changed, missed", [
    (("hit_ratio_rel", "hplacement", "mix", 0.949),
     {("hit_ratio_rel of hplacement", "mix")}),
    (("hit_ratio_rel", "hplacement", "scattered", 0.849),
     {("hit_ratio_rel of hplacement", "scattered")}),
    (("converge_s", "hplacement", "hotset", 1.51),
     {("converge_s of hplacement", "hotset")}),
    (("converge_s", "hplacement", "hotset", None),
     {("converge_s of hplacement", "hotset")}),
    (("reconverge_s", "hplacement", "moving", 1.6),
     {("reconverge_s of hplacement", "moving")}),
    (("throughput_mean_rel", "hplacement", "hotset", 0.84),
     {("throughput_mean_rel of hplacement", "hotset")}),
    (("tracking_cpu_pct", "hplacement", "uniform", 0.51),
     {("tracking_cpu_pct of hplacement", "uniform")}),
    (("tracking_cpu_pct", "hplacement_abit", "mix", 1.01),
     {("tracking_cpu_pct of hplacement_abit", "mix")}),
    (("converge_s", "hplacement_abit", "hotset", 5.1),
     {("converge_s of hplacement_abit", "hotset")}),
    (("mups_mean", "hplacement", "uniform", 7.9),
     {("slowdown against unmanaged, %", "uniform")}),
    (("throughput_rel", "damon", "moving", 0.97),
     {("throughput over the best peer's", "moving")}),
    (("throughput_rel", "unmanaged", "uniform", 0.95), set()),
    (("metadata_pct", "hplacement", "costs", 0.021),
     {("metadata_pct of hplacement", "costs")}),
    (("sample_insns_median", "hplacement", "costs", 201),
     {("sample_insns_median of hplacement", "costs")}),
    # Six workloads: the geometric mean falls by the sixth root.
    (("throughput_rel", "hplacement", "mix", 0.95 * (1.27 / 1.35714) ** 6),
     {("throughput over the best peer's", "mix"),
      ("throughput over the best single peer's, geometric mean", "")}),
])
def test_goal_that_is_missed(changed, missed):
    """One figure beyond its bound misses its goal, and no other."""
    assert verdicts(change(*changed)) == {key: "MISSED" for key in missed}


def test_goal_of_what_did_not_run():
    """Of some policies and workloads only: the rest is not called missed."""
    rows = [row for row in good_rows()
            if (row["policy"], row["workload"]) == ("hplacement", "hotset")]
    states = verdicts(rows)
    assert set(states.values()) == {"not run"}
    assert ("hit_ratio_rel of hplacement", "hotset") not in states
    assert ("throughput over the best peer's", "hotset") in states


def test_failed_run_is_shown():
    """In the rows, in the table, and as goals missed."""
    broken = Cell("hplacement", "hotset", error="made up")
    rows = placement.rows([made_up(policy="unmanaged"), broken], "pmem")
    assert {"metric": "failed", "policy": "hplacement", "workload": "hotset",
            "value": "made up", "unit": ""} in rows
    shown = placement.table(Results(rows))
    assert re.search(r"^hplacement +FAILED: made up$", shown, re.M)
    assert re.search(r"hit_ratio_rel of hplacement .* MISSED$", shown, re.M)
    assert re.search(r"^unmanaged .* 1.20 ", shown, re.M) is None


def test_page_shows_each_workload(tmp_path):
    """A plot of throughput and one of placement for each, and failures."""
    cells = [made_up(policy="unmanaged"), made_up("uniform"),
             Cell("damon", "uniform", error="made up")]
    results = tmp_path / "placement.json"
    policies.write_results(results, "placement", "test", cells,
                           placement.rows(cells, "pmem"))
    placement.plot.draw_workloads(results, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 3    # uniform access has no hot set
    assert "made up" in page


def test_model_and_placement_agree(tmp_path, monkeypatch, gups):
    """Hits by the model's counts are those that placement leads to expect.

    Of HPlacement on the hot set, by the program: the rows are in its file.
    """
    seen = []
    measure = placement.measure

    def spy(*args, **more):
        seen.append(measure(*args, name="test-placement", **more))
        return seen[0]

    assert gups
    monkeypatch.setattr(placement, "measure", spy)
    assert placement.main(["--only", "hotset", "--policy", "hplacement",
                           "--rounds", "20", "--output", str(tmp_path)]) == 0
    rows = Results(json.loads((tmp_path / "results" / "placement.json")
                              .read_text())["rows"])
    key = ("hplacement", "hotset")
    cell, = seen
    late = cell.looks[-5:]
    hot = sum(look["hot"] for look in late) / len(late)
    all_ = sum(look["all"] for look in late) / len(late)
    hot_share = 0.1
    cold = (all_ - hot_share * hot) / (1 - hot_share)
    expected = 0.9 * hot + 0.1 * cold
    assert hot > 0.5                  # or there would be little to agree on
    assert rows.get("hit_ratio", *key) == pytest.approx(expected, abs=0.02)
    # The hot set and as many others as there is room for.
    fits = rows.get("fast_capacity", *key) / (policies.SIZE_MIB * 256)
    best = 0.9 + 0.1 * (fits - hot_share) / (1 - hot_share)
    assert 0.5 < fits < 0.67
    assert rows.get("hit_ratio_oracle", *key) == pytest.approx(best, abs=0.02)
    assert rows.get("hit_ratio_rel", *key) == pytest.approx(expected / best,
                                                            abs=0.03)


@pytest.mark.parametrize("args, message", [
    (["--rounds", "3"], "--rounds 3: give 4 or more"),
    (["--only", "luck"], "luck"), (["--policy", "luck"], "luck"),
    (["--profile", "tape"], "tape"),
])
def test_wrong_option_is_refused(capsys, args, message):
    """The error names the value."""
    with pytest.raises(SystemExit):
        placement.main(args)
    assert message in capsys.readouterr().err
