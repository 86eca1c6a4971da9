# SPDX-License-Identifier: GPL-2.0
"""The measurement of resizing: its figures are there, its promises hold."""
import json

import pytest
import resize


@pytest.fixture(scope="module")
def rows(tmp_path_factory, memtool):
    """All rows of one short round, by device and metric."""
    assert memtool
    out = tmp_path_factory.mktemp("resize")
    assert resize.main(["--rounds", "1", "--size", "128", "--vms", "0",
                        "--output", str(out)]) == 0
    result = json.loads((out / "resize.json").read_text())
    assert result["experiment"] == "resize"
    found = {}
    for row in result["rows"]:
        assert set(row) - {"time_s"} == {"metric", "workload", "value", "unit",
                                         "device", "round"}
        found.setdefault((row["device"], row["metric"]), []).append(
            row["value"])
    return found


@pytest.mark.parametrize("device", [d.name for d in resize.DEVICES])
def test_rates(rows, device):
    """Each device has its rates, and they are possible."""
    for metric in ("inflate_untouched_gibs", "inflate_touched_gibs",
                   "stream_idle_gibs"):
        assert rows[device, metric]
        assert all(0 < value < 1000 for value in rows[device, metric])
    pieces = rows.get((device, "inflate_fragmented_gibs"), [])
    assert len(pieces) == (0 if device == "virtio_mem" else
                           len(resize.HOLES_KIB))
    for program in ("stream", "ftq"):
        assert rows[device, f"{program}_resizes"][0] > 1
        # It has done something, and not more than twice as much as at rest.
        assert 0 < rows[device, f"{program}_median_rel"][0] < 2
        assert 0 <= rows[device, f"{program}_p1_rel"][0] < 2


@pytest.mark.parametrize("device", [d.name for d in resize.DEVICES])
def test_sizes_over_time(rows, device):
    """The slow node shrinks by what was asked for, and is what it was again."""
    sizes = rows[device, "node_mib"]
    slow = sizes[len(sizes) // 2:]
    less = slow[0] - min(slow)
    # virtio-balloon takes of both nodes as it likes.
    assert less > 0 if device == "virtio_balloon" else abs(less - 128) < 1
    assert slow[-1] == slow[0]


def test_sizes_are_read():
    """Time begins with the first change; what was before is left out."""
    rows = resize.size_rows("5.0 262144 1048576\n7.5 262144 1048576\n"
                            "7.501 262144 524288\n")
    assert [(r.workload, r.value, round(r.time_s, 3)) for r in rows] == [
        ("fast node", 256, 0), ("fast node", 256, 0.001),
        ("slow node", 1024, 0), ("slow node", 512, 0.001)]
    assert resize.size_rows("5.0 262144 1048576\n") == []


@pytest.mark.parametrize("device", [d.name for d in resize.GIVERS])
def test_rates_of_giving_back(rows, device):
    """So they have on each kind of memory, for each size of pages."""
    for metric in ("deflate_gibs", "deflate_touch_gibs"):
        assert len(rows[device, metric]) == 2 * len(resize.BACKENDS)
        assert all(0 < value < 1000 for value in rows[device, metric])


def test_promises(rows):
    """What HBalloon promises at any speed."""
    assert rows["hballoon", "wrong_node_bytes"] == [0]
    assert rows["hballoon", "target_error_bytes"] == [0]
    assert rows["hballoon", "swap_dip_bytes"] == [0]
    assert rows["hballoon", "oom_kills"] == [0]
    # That these can be otherwise.
    assert rows["virtio_balloon", "wrong_node_bytes"][0] > 0
    assert rows["virtio_mem", "target_error_bytes"][0] > 4096
