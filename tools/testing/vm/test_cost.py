# SPDX-License-Identifier: GPL-2.0
"""What HPlacement costs: the arithmetic of its figures, and two guests."""
import cost
import placement
import pytest
import tiervm
from policies import Outcome


def figures(found):
    """Values by metric."""
    return {metric: value for metric, value, _ in found}


@pytest.mark.parametrize("batches, median", [
    ([(10, 10, 1000)], 100),
    # Each sample counts, not each batch.
    ([(10, 10, 1000), (90, 90, 18000)], 200),
    ([(1, 1, 9000), (60, 60, 6000)], 100),
    # With samples of unknown processes among them, it is not known what one costs.
    ([(10, 10, 1000), (500, 499, 500)], 100),
])
def test_cost_of_a_sample(batches, median):
    """The median of what the samples of each batch took."""
    lines = [f"khplaced-60 [000] 1.5: hpl_sample_pebs: cpu=0 samples={nr} "
             f"counted={counted} ns={ns}" for nr, counted, ns in batches]
    assert cost.per_sample(lines) == median


def test_worst_second():
    """The dearest second, wherever it begins; its ends are not both in it."""
    assert cost.worst_window([(0.1 * n, 5) for n in range(40)]) == 50
    assert cost.worst_window([(1, 3), (1.9, 4), (2, 5), (9, 8)]) == 9
    assert cost.worst_window([(1, 3), (1.9, 4), (2.1, 50), (9, 8)]) == 54
    assert cost.worst_window([]) == 0


def test_epochs_are_read():
    """Time, and both stages together."""
    line = ("     khplaced-60      [000] .....     3.250125: hpl_epoch: mms=1 "
            "ranges=70 samples=4 interval_us=0 period=4093 promote=0 promoted=0 "
            "demoted=0 sample_ns=1000 classify_ns=234")
    assert cost.read_epochs([line]) == [(3.250125, 1234)]


def test_memory_that_is_no_longer_free():
    """The most that was missing, of 16 GiB."""
    found = figures(cost.metadata_figures([
        "free off 10010", "free off 10000", "free on 9600", "free on 9500",
        "source pebs", "ranges 300", "free off 10000", "free off 9990"]))
    assert found["metadata_bytes"] == 500 * 4096
    assert found["metadata_pct"] == pytest.approx(100 * 500 / (16 << 18))
    assert found["metadata_noise_bytes"] == 20 * 4096
    assert found["metadata_ranges"] == 300


def test_growth_of_classification():
    """Against the smallest memory; a simulation that went wrong has none."""
    lines = ["classify gib=1 ranges=90 recall=0.990 median_ns=500 worst_ns=9",
             "classify gib=64 ranges=90 recall=0.990 median_ns=800 worst_ns=9",
             "classify gib=4096 ranges=90 recall=0.990 median_ns=700 worst_ns=9"]
    found = figures(cost.classify_figures(lines))
    assert found["classify_cost_rel"] == 1.6
    assert found["classify_4096_gib_insns"] == 700
    with pytest.raises(tiervm.GuestError, match="went wrong"):
        cost.classify_figures([lines[0].replace("0.990", "0.500")])


def test_failed_experiment_is_shown(monkeypatch):
    """In the rows, in the table, and as goals missed."""
    def fails(_outcome, _profile):
        raise tiervm.GuestError("made up")

    found = cost.measure(cost.Experiment("budget", fails), "pmem")
    rows = found.rows()
    assert rows == [{"metric": "failed", "policy": "hplacement", "workload": "costs",
                     "value": "budget: made up", "unit": ""}]
    shown = placement.table(placement.Results(rows))
    assert "budget: made up" in shown
    assert shown.count("MISSED") == len(cost.GOALS)


def test_a_sample_is_timed_in_a_guest(gups):
    """Where only instructions take time, as many as a walk of a tree has."""
    assert gups
    outcome = Outcome("hplacement")
    found = figures(cost.sample(outcome, "pmem", rounds=30))
    assert outcome.linux.startswith("6.12")
    assert found["sample_batches"] > 3
    # Less than 20 could not take it from the ring and find the range.
    assert 20 < found["sample_insns_median"] < 1000


def test_classification_is_timed_in_a_guest():
    """Four sizes of memory, in each of which the hot set is found."""
    found = figures(cost.classify(Outcome("hplacement"), "pmem"))
    assert found["classify_1_gib_insns"] > 1000
    assert found["classify_4096_gib_insns"] > 1000
    assert found["classify_cost_rel"] >= 1
