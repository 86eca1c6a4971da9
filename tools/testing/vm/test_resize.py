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
        assert set(row) == {"metric", "workload", "value", "unit", "device",
                            "round"}
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
    assert rows[device, "stream_resizes"][0] > 1


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
