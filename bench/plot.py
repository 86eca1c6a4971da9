#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Draw a page of plots from a results file, and from nothing else."""
import argparse
import html
import io
import json
import sys
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

import matplotlib
matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

Row = Dict[str, object]

# A colour for each policy and device, the same in each plot (Okabe and Ito's palette,
# which the colour-blind can tell apart).
COLOURS = {
    "all_fast": "#000000", "unmanaged": "#999999",
    "numa_balancing": "#e69f00", "damon": "#56b4e9", "hplacement": "#d55e00",
    "hplacement_halved": "#009e73", "hplacement_abit": "#009e73",
    "interleave": "#0072b2", "oracle": "#cc79a7", "hballoon": "#d55e00",
    "virtio_balloon": "#56b4e9", "virtio_mem": "#e69f00", "roofline": "#000000",
    "none": "#999999",
}
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .2em .8em;
text-align: right; border-bottom: 1px solid #ccc; }}
td:first-child, th:first-child {{ text-align: left; }}
svg {{ width: 100%; height: auto; }}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def _series(rows: List[Row], metric: str, policy: str) -> List[Row]:
    return [row for row in rows
            if row["metric"] == metric and row["policy"] == policy]


def _value(rows: List[Row], metric: str, policy: str) -> Optional[float]:
    found = _series(rows, metric, policy)
    return found[0]["value"] if found else None


def svg(figure) -> str:
    """A figure as SVG for a page, the same bytes for the same figure."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg"):]


def _lines(rows: List[Row], policies: Sequence[str], metric: str,
           label: str) -> str:
    """One metric over time, a line for each policy."""
    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    for policy in policies:
        points = _series(rows, metric, policy)
        if points:
            axes.plot([p["time_s"] for p in points],
                      [p["value"] for p in points],
                      label=policy, color=COLOURS.get(policy))
    axes.set_xlabel("guest time since the policy was switched on (s)")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return svg(figure)


def _slices(rows: List[Row], policies: Sequence[str]) -> str:
    """Where the buffer lay, before and after, in slices of 64 MiB."""
    moments = ("before", "after")
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3), sharey=True,
                                   layout="constrained")
    for axis, when in zip(axes, moments):
        shares = [[row["value"] for row in
                   _series(rows, f"slice_in_fast_{when}", policy)]
                  for policy in policies]
        image = axis.imshow(shares, vmin=0, vmax=1, cmap="cividis",
                            aspect="auto")
        axis.set_title(when)
        axis.set_xlabel("64 MiB slice of the buffer (hot set: the last)")
        axis.set_yticks(range(len(policies)), policies)
    figure.colorbar(image, ax=axes, label="share on the fast tier")
    return svg(figure)


def _table(rows: List[Row], policies: Sequence[str]) -> str:
    best = _value(rows, "gups_final", "all_fast")
    heads = ("policy", "GUPS, first quarter", "GUPS, last quarter",
             "of all_fast", "hot set in fast", "moved (MiB)")
    lines = ["<table><tr>" + "".join(f"<th>{h}</th>" for h in heads) + "</tr>"]
    for policy in policies:
        failed = _value(rows, "failed", policy)
        if failed is not None:
            lines.append(f"<tr><td>{policy}</td><td colspan=5>failed: "
                         f"{html.escape(str(failed))}</td></tr>")
            continue
        final = _value(rows, "gups_final", policy)
        share = f"{final / best:.2f}" if best else "-"
        moved = (_value(rows, "vmstat_pgmigrate_success", policy) or 0) + 2 * (
            _value(rows, "vmstat_hpl_exchanged", policy) or 0)
        cells = (f"{_value(rows, 'gups_first', policy):.5f}", f"{final:.5f}",
                 share, f"{_value(rows, 'hot_in_fast', policy):.1%}",
                 f"{moved / 256:.0f}")
        lines.append(f"<tr><td>{policy}</td>"
                     + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return "\n".join(lines) + "</table>"


def _figures(rows: List[Row], policies: Sequence[str]) -> str:
    """All that is one number, a column for each policy."""
    metrics = dict.fromkeys((row["metric"], row["unit"]) for row in rows
                            if "time_s" not in row
                            and not row["metric"].startswith("vmstat_"))
    lines = ["<table><tr><th></th>"
             + "".join(f"<th>{p}</th>" for p in policies) + "</tr>"]
    for metric, unit in metrics:
        values = [_value(rows, metric, policy) for policy in policies]
        cells = ["" if v is None else html.escape(str(v)) if isinstance(v, str)
                 else f"{v:.4g}" for v in values]
        name = f"{metric} ({unit})" if unit not in ("", "1") else metric
        lines.append(f"<tr><td>{name}</td>"
                     + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return "\n".join(lines) + "</table>"


def _policies(rows: List[Row]) -> List[str]:
    return list(dict.fromkeys(row["policy"] for row in rows))


def _ran(rows: List[Row]) -> List[str]:
    return [p for p in _policies(rows) if _value(rows, "failed", p) is None]


def head(data: Dict[str, object]) -> str:
    """By what command and which versions the results were made."""
    versions = ", ".join(f"{k} {v}" for k, v in data["versions"].items())
    return (f"<p><code>{html.escape(data['command'])}</code><br>"
            f"{html.escape(versions)}</p>")


def write_page(report: Path, title: str, body: List[str]) -> None:
    """Write a page, and its directory."""
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(PAGE.format(title=html.escape(title),
                                  body="\n".join(body)))


def draw_workloads(results: Path, report: Path) -> None:
    """Write the page for a results file of several workloads."""
    matplotlib.rcParams["svg.hashsalt"] = "placement"
    data = json.loads(results.read_text())
    body = [head(data)]
    for workload in dict.fromkeys(row["workload"] for row in data["rows"]):
        rows = [row for row in data["rows"] if row["workload"] == workload]
        body += [f"<h2>{html.escape(workload)}</h2>",
                 _figures(rows, _policies(rows))]
        body += [_lines(rows, _ran(rows), metric, label) for metric, label in
                 (("gups_round", "updates per second (1e9)"),
                  ("hot_in_fast_round", "share of the hot set on the fast tier"))
                 if any(row["metric"] == metric for row in rows)]
    write_page(report, data["experiment"], body)


def draw(results: Path, report: Path) -> None:
    """Write the page for the demo's results file."""
    matplotlib.rcParams["svg.hashsalt"] = "demo"
    data = json.loads(results.read_text())
    rows = data["rows"]
    policies, ran = _policies(rows), _ran(rows)
    body = [head(data), _table(rows, policies)]
    if ran:
        body += ["<h2>Throughput over time</h2>",
                 _lines(rows, ran, "gups_round", "updates per second (1e9)"),
                 "<h2>Placement over time</h2>",
                 _lines(rows, ran, "hot_in_fast_round",
                        "share of the hot set on the fast tier"),
                 "<h2>Placement of the buffer</h2>", _slices(rows, ran)]
    write_page(report, f"{data['experiment']}: {rows[0]['workload']}", body)


def command(description: str, drawn: Callable[[Path, Path], None]) -> int:
    """A command line: where the results are, and the page to be drawn."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("results", type=Path)
    parser.add_argument("report", type=Path)
    options = parser.parse_args()
    try:
        drawn(options.results, options.report)
    except (OSError, ValueError, KeyError) as exc:
        print(f"{Path(parser.prog).stem}: {options.results}: {exc!r}",
              file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Command line: plot.py RESULTS.json REPORT.html."""
    def either(results: Path, report: Path) -> None:
        several = json.loads(results.read_text())["experiment"] == "placement"
        (draw_workloads if several else draw)(results, report)

    return command(__doc__, either)


if __name__ == "__main__":
    sys.exit(main())
