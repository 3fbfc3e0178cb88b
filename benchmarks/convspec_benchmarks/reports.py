"""What is shown of a report: tables, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convspec.tables import Column, Row, show

from .running import Report
from .timing import geometric_mean

SLOWER = 1 / 1.03


def show_report(report: Report) -> None:
    """A table of all rows, then what they come to."""
    columns = [
        *(Column(name) for name in ("framework", "workload", "layout", "passes", "way")),
        *(Column(name, number=True) for name in ("ms", "raw ms", "raw/ours")),
        *(Column(name, number=True) for name in ("interval", "same way", "keras ms")),
        *(Column(name, number=True) for name in ("GFLOP/s", "of matmul")),
        Column("fastest raw call", wrap=True),
    ]
    rows, before = [], None
    for row in report.rows:
        group = (row["framework"], row["workload"])
        rows.append(Row(_cells(row), _style(row), group != before))
        before = group
    show(columns, rows)
    print()
    for machine in report.machines:
        print(
            f"{machine['framework']} {machine['version']}, {machine['threads']} threads, matrix "
            f"product {machine['matmul_gflops']:.0f} GFLOP/s{_mean(report, machine['framework'])}"
        )
    for error in report.errors:
        print(f"not measured: {error}")
    if report.left:
        print(f"{report.left} measurements were not begun; --resume goes on with them")


def show_fastest(report: Report) -> None:
    """A user's own spec: the fastest engine and layout first."""
    columns = [Column("framework"), Column("layout"), Column("way"), Column("ms", number=True)]
    columns += [Column("GFLOP/s", number=True), Column("path", wrap=True)]
    rows = sorted(report.rows, key=lambda row: float(row["seconds"]))
    show(
        columns,
        [
            Row((r["framework"], r["layout"], r["way"], _ms(r["seconds"]), _rate(r), r["path"]))
            for r in rows
        ],
    )
    for error in report.errors:
        print(f"not measured: {error}")
    if rows:
        print(f"\nfastest here: {rows[0]['framework']}, {rows[0]['layout']}, {rows[0]['way']}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    rate = row["matmul_gflops"]
    share = f"{100 * row['gflops'] / rate:.0f}%" if rate else ""
    names = (row["framework"], row["workload"], row["layout"], row["passes"], row["way"])
    if row["baseline"] is None:
        return (*names, _ms(row["seconds"]), *[""] * 5, _rate(row), share, "none")
    low, high = row["interval"]
    times = (_ms(row["seconds"]), _ms(row["baseline_seconds"]))
    keras = "" if row["keras"] is None else _ms(row["candidates"][row["keras"]])
    alike = f"{row['alike_ratio']:.2f}" if row.get("alike") else ""
    ratio = (f"{row['ratio']:.2f}", f"{low:.2f} to {high:.2f}", alike, keras)
    return (*names, *times, *ratio, _rate(row), share, row["baseline"])


def _style(row: dict[str, Any]) -> str:
    """Bad where the whole interval is slower than the raw call."""
    return "bad" if row["baseline"] is not None and row["interval"][1] < SLOWER else ""


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"


def _rate(row: dict[str, Any]) -> str:
    return f"{row['gflops']:.3g}"


def _mean(report: Report, framework: str) -> str:
    parts = []
    for passes in ("forward", "gradients"):
        wanted = (framework, passes)
        rows = [row for row in report.rows if (row["framework"], row["passes"]) == wanted]
        for name, which in (("ratio", "baseline"), ("alike_ratio", "alike")):
            ratios = [row[name] for row in rows if row.get(which)]
            if ratios:
                of = "raw" if name == "ratio" else "raw of the same way"
                mean = geometric_mean(ratios)
                parts.append(f"{passes} {mean:.2f} times {of} in {len(ratios)} rows")
    return "; " + ", ".join(parts) if parts else ""


def draw(report: Report, path: Path) -> None:
    """Ratios with their intervals, a panel for each framework and pass, on a common log scale."""
    from matplotlib.figure import Figure

    rows = [row for row in report.rows if row["baseline"] is not None]
    names = list(dict.fromkeys(row["workload"] for row in rows))
    panels = list(dict.fromkeys((row["framework"], row["passes"]) for row in rows))
    kinds = list(dict.fromkeys((row["layout"], row["way"]) for row in rows))
    colours = {"channels_first": "#0b6e99", "channels_last": "#d1603d"}
    width = max(1.9 + 3.1 * len(panels), 6.5)
    figure = Figure(figsize=(width, 2 + 0.32 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, sharex=True, squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        ax.axvline(1, color="0.3", linewidth=1)
        for layout, way in kinds:
            shift = (kinds.index((layout, way)) + 0.5) / len(kinds) - 0.5
            chosen = [
                row
                for row in rows
                if (row["framework"], row["passes"], row["layout"], row["way"])
                == (*panel, layout, way)
            ]
            ax.errorbar(
                [row["ratio"] for row in chosen],
                [names.index(row["workload"]) + 0.7 * shift for row in chosen],
                xerr=[
                    [max(row["ratio"] - row["interval"][0], 0) for row in chosen],
                    [max(row["interval"][1] - row["ratio"], 0) for row in chosen],
                ],
                fmt="o" if way == "eager" else "s",
                markersize=4,
                linewidth=1,
                color=colours[layout],
                markerfacecolor=colours[layout] if way == "eager" else "white",
                label=f"{layout.replace('_', ' ')}, {way}",
            )
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_title(" ".join(panel).replace("gradients", "with gradients"), fontsize=10)
        ax.grid(axis="both", color="0.9")
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel(
        "time of the fastest raw call / time of convspec\n(right of 1: convspec is faster)",
        fontsize=10,
    )
    handles, labels = axes[0].get_legend_handles_labels()
    columns = min(len(kinds), int(width // 2.5))
    figure.legend(
        handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=150)
