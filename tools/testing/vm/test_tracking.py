# SPDX-License-Identifier: GPL-2.0
"""What samples and moves cost: the arithmetic of the figures, and guests."""
import exchange
import numpy
import pytest
import tiervm
import tracking


def found(figures):
    """Values by metric."""
    return {metric: value for metric, value, _ in figures}


def pages(*pairs):
    """As tracker prints them: hits and what they are of."""
    return numpy.array(pairs, "<u4").tobytes()


def test_heat_of_pages():
    """Per look; what was not looked at is as the others on average."""
    assert list(tracking.heat(pages((3, 4), (0, 4), (0, 0), (6, 8)))) == [
        0.75, 0, 0.5, 0.75]
    assert list(tracking.heat(pages((0, 0)))) == [0]


def test_ranks_of_equal_values():
    """They share the mean of the ranks that they take."""
    assert list(tracking.ranks([5, 1, 5, 9])) == [2.5, 1, 2.5, 4]


@pytest.mark.parametrize("seen, is_", [
    ([1, 2, 3, 4], 1), ([4, 3, 2, 1], -1), ([10, 20, 30, 99], 1),
    ([7, 7, 7, 7], 0), ([2, 1, 4, 3], 0.6)])
def test_correlation_is_of_ranks(seen, is_):
    """Of order alone; if all look alike, nothing is known."""
    assert tracking.correlation(seen, [10, 20, 30, 40]) == pytest.approx(is_)


@pytest.mark.parametrize("seen, share", [
    ([9, 8, 1, 1, 1, 1], 1), ([1, 1, 1, 1, 8, 9], 0), ([9, 1, 8, 1, 1, 1], 0.5),
    # One of the two for certain, and the other is one of five.
    ([9, 1, 1, 1, 1, 1], 0.5 + 0.5 / 5),
    # Any two of six: each of both has a chance of a third.
    ([1, 1, 1, 1, 1, 1], 1 / 3)])
def test_recall_of_the_hottest(seen, share):
    """What chance would find among pages that look alike counts as such."""
    assert tracking.recall(seen, [70, 60, 5, 4, 3, 2], 1 / 3) == (
        pytest.approx(share))


def test_cost_is_what_the_program_loses():
    """Per sample; tracing takes time that is no method's."""
    def seen(name, seconds, **fields):
        own = tracking.Seen(name, **fields)
        own.take(f"round n=1 seconds={seconds}")
        return own

    methods = {m.name: m for m in tracking.METHODS}
    base = seen("none", 2.0)
    own = found(tracking.figures(methods["abit"], seen(
        "abit", 2.5, samples=10000, recall=0.75, correlation=0.5), base))
    assert own == {"sample_ns": pytest.approx(50000), "samples_per_s": 4000,
                   "slowdown_pct": 25, "recall_hottest": 0.75,
                   "rank_correlation": 0.5}
    own = found(tracking.figures(methods["hint_fault_traced"], seen(
        "hint_fault_traced", 2.5, samples=10, recall=0.5, correlation=0.1),
        base))
    assert set(own) == {"recall_hottest", "rank_correlation"}
    own = found(tracking.figures(methods["pebs_hplacement"], seen(
        "pebs_hplacement", 2.5, samples=10, counted_ns=700), None))
    assert own == {"counted_ns": 70, "samples_per_s": 4}


def test_moves_and_their_batches():
    """Half of what was moved was promoted; the rest made room for it."""
    lines = ["vmstat start hpl_migrate_ns 1000", "vmstat end hpl_migrate_ns "
             f"{1000 + 10 ** 9}", "vmstat start hpl_promote_done_anon 100",
             "vmstat end hpl_promote_done_anon 262244",
             "vmstat end hpl_demote_done_anon 262144",
             "vmstat end hpl_exchanged 131072", "batches 4096 262144"]
    own = found(exchange.figures(exchange.Outcome("hplacement"), lines))
    assert own == {"batch_pages": 64, "move_gibs": 1, "moved_pages": 262144,
                   "exchanged_share": 0.5}
    with pytest.raises(tiervm.GuestError, match="nothing was promoted"):
        exchange.figures(exchange.Outcome("hplacement"),
                         [*lines[:-1], "batches 0 0"])


@pytest.mark.parametrize("name", ["pebs", "abit", "abit_flush"])
def test_method_sees_in_a_guest(gups, name):
    """More than by chance, which is a tenth, within some rounds."""
    assert gups
    method, = (m for m in tracking.METHODS if m.name == name)
    seen = tracking.measure(method, rounds=6)
    assert seen.samples > 1000 and seen.linux.startswith("6.12")
    # By chance 0.1 and 0, with a standard deviation of 0.005 each.
    assert seen.recall > 0.13 and seen.correlation > 0.05


def test_hint_faults_are_seen_in_a_guest(gups):
    """The hotter a page is, the sooner it faults."""
    assert gups
    method, = (m for m in tracking.METHODS if m.name == "hint_fault_traced")
    seen = tracking.measure(method, rounds=10)
    assert seen.samples > 1000
    assert seen.recall > 0.15 and seen.correlation > 0.1


@pytest.mark.parametrize("method", exchange.METHODS)
def test_batches_follow_the_rate(gups, method):
    """Few pages an epoch make small batches."""
    assert gups
    small, large = (found(exchange.measure(method, rate)[1])
                    for rate in (1, 128))
    assert small["batch_pages"] < 8 < large["batch_pages"]
    assert (small["exchanged_share"] > 0.5) == (method == "exchange")
    assert 0 < small["move_gibs"] < large["move_gibs"] < 10
