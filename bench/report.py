#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Draw the page of the evaluation from its results files, and from nothing else.

For each experiment tables of all that is one figure, in which what failed is
shown as failed, and plots. Figures of other hardware have a column of their own.
"""
import html
import json
import statistics
import sys
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import matplotlib
from matplotlib import pyplot

from plot import COLOURS, Row, command, head, svg, write_page

# Sections of the page, in this order; others follow by name.
ORDER = ("placement", "placement_cxl", "time", "hits", "breakdown", "costs",
         "tracking", "exchange", "programs", "ratio", "multivm", "footprint",
         "sensitivity", "scale", "resize")
# What has to be known of an experiment's figures.
NOTES = {
    "multivm": "VMs do not interact in the emulator: each has a guest clock of "
    "its own, and that they contend for bandwidth is not modelled. So one guest "
    "stands for all VMs that are alike. Where VMs keep more of a tier than the "
    "host has, the rest is reckoned at the other tier's latency; see "
    "bench/README.md.",
    "footprint": "The three VMs are one guest, begun at three times, a third of "
    "the period apart. Clean page cache is dropped after each job, with each "
    "device.",
}
OURS = "hplacement"
STAGES = ("sampling", "classification", "migration")
# What a terminal is spared of; the page has all.
DETAIL = ("mups", "mups_mean", "hit_ratio", "hit_ratio_oracle", "fast_capacity",
          "mgmt_cpu_pct", "moved_mib", "sample_source")


class Table(NamedTuple):
    """Text in rows and columns."""
    title: str
    heads: List[str]
    lines: List[List[str]]

    def html(self) -> str:
        """For the page."""
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>"
                                    for cell in cells) + "</tr>"

        return "\n".join([f"<h3>{html.escape(self.title)}</h3><table>",
                          row(self.heads, "th"),
                          *(row(line, "td") for line in self.lines),
                          "</table>"])

    def text(self) -> str:
        """For a terminal."""
        every = [[self.title, *self.heads[1:]], *self.lines]
        widths = [max(len(line[n]) for line in every)
                  for n in range(len(self.heads))]
        return "\n".join("  ".join(
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(line, widths))).rstrip()
            for line in every)


def who(row: Row) -> str:
    """Whose figure it is."""
    return " ".join(unique(str(row[key]) for key in ("device", "policy")
                           if row.get(key)))


def unique(values) -> list:
    """Each of them once, in their order."""
    return list(dict.fromkeys(values))


def number(value: object) -> str:
    """A figure for people."""
    if value is None or isinstance(value, str):
        return "-" if value is None else value
    return (f"{value:.0f}" if value == int(value) and abs(value) < 1e6
            else f"{value:.3g}")


def several(values: Sequence[object]) -> str:
    """One figure, or the median of more and their range."""
    if len(values) == 1:
        return number(values[0])
    return (f"{number(statistics.median(values))} "
            f"({number(min(values))}-{number(max(values))})")


def name_of(row: Row) -> str:
    """A metric and its unit."""
    unit = f" ({row['unit']})" if row["unit"] not in ("", "1") else ""
    return f"{row['metric']}{unit}"


def is_figure(row: Row) -> bool:
    """Is it one figure of a run, neither a point of a curve nor a counter?"""
    return ("time_s" not in row and row["metric"] not in ("failed", "goal")
            and not row["metric"].startswith("vmstat_"))


def matrix(rows: List[Row], metric: str) -> Table:
    """A metric: workloads by policies, and what others have published."""
    own = [r for r in rows if r["metric"] == metric and "published" not in r]
    known = [r for r in rows if r["metric"] == metric and "published" in r]
    failed = {(who(r), r["workload"]): "not run" if r["value"] == "not run"
              else "failed" for r in rows if r["metric"] == "failed"}
    mine = [r for r in rows if "published" not in r
            and r["metric"] in (metric, "failed")]
    columns = unique(map(who, mine)) if own else []
    lines = []
    for workload in unique(r["workload"] for r in mine):
        line = [workload]
        for column in columns:
            values = [r["value"] for r in own
                      if (who(r), r["workload"]) == (column, workload)]
            if (column, workload) in failed:
                line.append((f"{several(values)}, " if values else "")
                            + failed[column, workload])
            else:
                line.append(several(values) if values else "-")
        lines.append(line)
    heads = ["", *columns]
    if known:
        heads.append("published, other hardware")
        text = "; ".join(f"{number(r['value'])} {r['unit']} ({who(r)})"
                         for r in known)
        lines = [line + [text if not n else ""]
                 for n, line in enumerate(lines or [[""]])]
    return Table(name_of((own or known)[0]), heads, lines)


def tables(rows: List[Row]) -> List[Table]:
    """All that is one figure; goals; what failed, and why."""
    out = [matrix(rows, metric) for metric in unique(
        r["metric"] for r in rows if is_figure(r))]
    goals = [r for r in rows if r["metric"] == "goal"]
    if goals:
        out.append(Table("goals", ["", "workload", "is", "verdict"], [
            [r["goal"], r["workload"], number(r["value"]), r["verdict"]]
            for r in goals]))
    failures = [r for r in rows if r["metric"] == "failed"]
    if failures:
        out.append(Table("failed", ["", "workload", "why"], [
            [who(r), r["workload"], str(r["value"]).splitlines()[0]]
            for r in failures]))
    return out


def text(rows: List[Row]) -> str:
    """An experiment for a terminal."""
    found = tables([r for r in rows if r["metric"] not in DETAIL])
    return "\n\n".join(table.text() for table in found)


def values_of(rows: List[Row], metric: str, policy: str,
              workload: str) -> List[float]:
    """A metric of a policy on a workload: of each seed, or round."""
    return [r["value"] for r in rows if "published" not in r and
            (r["metric"], who(r), r["workload"]) == (metric, policy, workload)]


def value_of(rows: List[Row], metric: str, policy: str,
             workload: str) -> Optional[float]:
    """The mean of a metric of a policy on a workload, or None."""
    values = values_of(rows, metric, policy, workload)
    return statistics.mean(values) if values else None


def range_of(values: Sequence[float]) -> List[float]:
    """How far their least and most are from their mean."""
    if len(values) < 2:
        return [0.0, 0.0]
    mean = statistics.mean(values)
    return [mean - min(values), max(values) - mean]


def is_failed(rows: List[Row], policy: str, workload: str) -> bool:
    """Is there no figure, as its run failed?"""
    return any((r["metric"], who(r), r["workload"])
               == ("failed", policy, workload) for r in rows)


def bars(rows: List[Row], metric: str, label: str, scale: str = "linear") -> str:
    """A group of bars for each workload, a bar for each policy.

    Where there are several figures, their mean and range.
    """
    own = [r for r in rows if "published" not in r and
           r["metric"] in (metric, "failed")]
    policies, loads = unique(map(who, own)), unique(r["workload"] for r in own)
    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    width = 0.8 / max(1, len(policies))
    for n, policy in enumerate(policies):
        at = [i - 0.4 + width * (n + 0.5) for i in range(len(loads))]
        values = [values_of(rows, metric, policy, load) for load in loads]
        axes.bar(at, [statistics.mean(v) if v else 0 for v in values], width,
                 label=policy, color=COLOURS.get(policy))
        for x, several_values in zip(at, values):
            if len(several_values) > 1:
                axes.errorbar(x, statistics.mean(several_values), [
                    [end] for end in range_of(several_values)], color="black",
                    capsize=2, linewidth=1)
        for x, load in zip(at, loads):
            if is_failed(rows, policy, load):
                axes.text(x, 0, " failed", rotation=90, ha="center",
                          va="bottom", color="red",
                          transform=axes.get_xaxis_transform())
    axes.set_xticks(range(len(loads)), loads)
    axes.set_ylabel(label)
    axes.set_yscale(scale)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="small", ncols=4, loc="upper center",
                bbox_to_anchor=(0.5, -0.08))
    return svg(figure)


SWITCHED_ON = "guest time since the policy was switched on (s)"


def curves(rows: List[Row], metric: str, label: str, dashed: str = "",
           x_label: str = SWITCHED_ON) -> List[str]:
    """A plot for each workload, a line for each policy.

    dashed: another metric, of HPlacement only: the best static placement's.
    """
    out = []
    for load in unique(r["workload"] for r in rows if r["metric"] == metric):
        own = [r for r in rows if r["workload"] == load]
        figure, axes = pyplot.subplots(figsize=(9, 3.5), layout="constrained")
        lines = [(policy, metric, "-", policy)
                 for policy in unique(who(r) for r in own
                                      if r["metric"] == metric)]
        if dashed:
            lines.append((OURS, dashed, "--", "best placement"))
        top = 0.0
        for policy, which, style, name in lines:
            points = sorted((r["time_s"], r["value"]) for r in own
                            if (who(r), r["metric"]) == (policy, which))
            if points:
                axes.plot(*zip(*points), style, label=name, linewidth=1,
                          color=COLOURS.get(name, COLOURS["oracle"]))
                top = max(top, *(value for _, value in points))
        gone = [who(r) for r in own if r["metric"] == "failed"]
        axes.set_title(load + (f" (failed: {', '.join(gone)})" if gone else ""))
        axes.set_xlabel(x_label)
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.05 * top or None)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        out.append(svg(figure))
    return out


def stacked(rows: List[Row]) -> str:
    """CPU time by stage: a group for each workload, a stack for each policy."""
    own = [r for r in rows if "published" not in r]
    policies, loads = unique(map(who, own)), unique(r["workload"] for r in own)
    figure, axes = pyplot.subplots(len(loads), 1, figsize=(9, 1.8 * len(loads)),
                                   layout="constrained", squeeze=False)
    for axis, load in zip(axes[:, 0], loads):
        left = [0.0] * len(policies)
        for stage, colour in zip(STAGES, ("#56b4e9", "#e69f00", "#d55e00")):
            values = [value_of(own, f"{stage}_cpu_pct", policy, load) or 0
                      for policy in policies]
            axis.barh(policies, values, left=left, label=stage, color=colour)
            left = [a + b for a, b in zip(left, values)]
        for policy in policies:
            if is_failed(own, policy, load):
                axis.text(0, policy, " failed", va="center", color="red")
        axis.set_title(load, fontsize="medium", loc="left")
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].legend(fontsize="small")
    axes[-1, 0].set_xlabel("CPU time (% of the rounds' time)")
    return svg(figure)


def interference(rows: List[Row]) -> List[str]:
    """What programs get done meanwhile: a group of bars for each figure."""
    own = [{**r, "metric": "rel", "workload": r["metric"]} for r in rows
           if r["metric"].endswith("_rel")]
    return [bars(own, "rel", "while resized, of at rest")] if own else []


def along(rows: List[Row], metric: str, x: str, label: str,
          line: str = "") -> str:
    """A metric along a row's field `x`, a line for each value of another field.

    By default for each policy or device. Where there are several figures, their
    mean and range.
    """
    def line_of(row: Row) -> str:
        return f"{line} {row[line]}" if line else who(row)

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    own = [r for r in rows if r["metric"] == metric and r.get(x)]
    for name in unique(map(line_of, own)):
        points: Dict[float, List[float]] = {}
        for row in own:
            if line_of(row) == name:
                points.setdefault(row[x], []).append(row["value"])
        places = sorted(points)
        means = [statistics.mean(points[p]) for p in places]
        spread = list(zip(*(range_of(points[p]) for p in places)))
        axes.errorbar(places, means, spread, marker="o", capsize=3,
                      label=name, color=COLOURS.get(name))
    axes.set_ylim(0, 1.1 * max((r["value"] for r in own), default=1) or None)
    axes.set_xscale("log", base=2)
    places = sorted(unique(r[x] for r in own))
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xlabel(x)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if own:
        axes.legend(fontsize="small")
    return svg(figure)


def multivm_plots(rows: List[Row]) -> List[str]:
    """Of VMs that are alike and of mixed ones, along their number."""
    out = []
    for kind in ("hotset", "mixed"):
        # Not those of one of the mixed VMs.
        own = [r for r in rows if r["workload"].startswith(kind)
               and "," not in r["workload"]]
        if own:
            out += [along(own, metric, "vms", f"{kind}: {label}") for
                    metric, label in (
                        ("mups_total", "updates per second, all VMs (1e6)"),
                        ("mups_vm", "updates per second, a VM (1e6)"))]
    return out + [along([r for r in rows if r["workload"].startswith("hotset")],
                        metric, "vms", f"{metric[:4]} memory of a VM, MiB")
                  for metric in ("fast_mib_vm", "slow_mib_vm")]


THROUGHPUT = "throughput, of all_fast"
PLOTS: Dict[str, Callable[[List[Row]], List[str]]] = {
    "placement": lambda rows: [
        bars(rows, "throughput_rel", THROUGHPUT),
        bars(rows, "hit_ratio_rel", "hits of the fast tier, of the oracle's")],
    "time": lambda rows: curves(rows, "mups_round", "updates per second (1e6)"),
    "hits": lambda rows: curves(rows, "hit_ratio_interval",
                                "hit ratio of the fast tier",
                                "hit_ratio_interval_oracle"),
    "breakdown": lambda rows: [stacked(rows)],
    "tracking": lambda rows: [
        bars(rows, "sample_ns", "ns that the program loses per sample", "log"),
        bars(rows, "recall_hottest", "of the hottest tenth, recognised")],
    "exchange": lambda rows: [
        along(rows, "move_gibs", "batch_pages", "GiB/s")],
    "programs": lambda rows: [bars(rows, "throughput_rel", THROUGHPUT)] + [
        bars(rows, f"latency_p{p}_us", f"P{p} of requests' latency, us")
        for p in (50, 99) if any(r["metric"] == f"latency_p{p}_us"
                                 for r in rows)],
    "ratio": lambda rows: [along(rows, "throughput_rel", "ratio", THROUGHPUT)],
    "multivm": multivm_plots,
    "footprint": lambda rows: curves(
        rows, "held_mib", "held of the host's memory, MiB",
        x_label="guest time since the first job (s)"),
    "sensitivity": lambda rows: [
        along(rows, metric, "epoch_ms", label, "overhead_permille")
        for metric, label in (("throughput_mean_rel", THROUGHPUT),
                              ("converge_s", "seconds until 90% is fast"),
                              ("tracking_cpu_pct", "tracking, % of CPU time"))],
    "scale": lambda rows: [
        along(rows, "ranges", "gib", "ranges"),
        along(rows, "converge_epochs", "gib", "epochs until 95% is found")],
    "resize": lambda rows: curves(
        # All rounds are alike; more than one could not be told apart.
        [r for r in rows if r.get("round") == 0], "node_mib",
        "memory of the node (MiB)", x_label="time since the first page has "
        "left (s)") + interference(rows) + [
        bars(rows, metric, f"{metric[:-5]}, GiB/s", "log") for metric in
        ("inflate_untouched_gibs", "inflate_touched_gibs",
         "inflate_fragmented_gibs", "deflate_gibs", "deflate_touch_gibs")
        if any(r["metric"] == metric and "published" not in r for r in rows)],
}
PLOTS["placement_cxl"] = PLOTS["placement"]


def section(data: Dict[str, object]) -> List[str]:
    """An experiment."""
    name, rows = data["experiment"], data["rows"]
    out = [f"<h2 id=\"{html.escape(name)}\">{html.escape(name)}: "
           f"{html.escape(data.get('question', ''))}?</h2>", head(data)]
    if name in NOTES:
        out.append(f"<p>{html.escape(NOTES[name])}</p>")
    if any("published" not in r and r["metric"] != "failed" for r in rows):
        out += PLOTS[name](rows) if name in PLOTS else []
    return out + [table.html() for table in tables(rows)]


def draw(results: Path, report: Path) -> None:
    """Write the page for all files of a directory that answer a question."""
    matplotlib.rcParams["svg.hashsalt"] = "bench"
    found = {}
    for path in sorted(results.glob("*.json")):
        data = json.loads(path.read_text())
        if "question" in data:
            found[data["experiment"]] = data
    names = ([name for name in ORDER if name in found]
             + [name for name in found if name not in ORDER])
    body = [line for name in names for line in section(found[name])]
    write_page(report, "Evaluation", body)


def main() -> int:
    """Command line: report.py RESULTS-DIRECTORY REPORT.html."""
    def told(results: Path, report: Path) -> None:
        draw(results, report)
        print(report)

    return command(__doc__, told)


if __name__ == "__main__":
    sys.exit(main())
