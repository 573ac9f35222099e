"""Pictures of results: curves over a size; PNG to look at, SVG to print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.report import Chart
from benchmarks.results import Result

OURS, OTHERS = "#c2410c", ("#1f4e79", "#4d7c0f", "#6b21a8", "#0f766e", "#78716c", "#a16207", "#334155", "#9f1239")
MARKERS = "osD^vP*Xh"


def draw_all(folder: Path, results: Iterable[Result]) -> list[Path]:
    """Draw every chart of the results; returns the files."""
    return [path for result in results for chart in result.charts for path in draw(folder, chart)]


def draw(folder: Path, chart: Chart) -> list[Path]:
    """Draw one chart as PNG and SVG; the same numbers give the same bytes."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = chart.name
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
    colours = iter(OTHERS * 3)
    for number, curve in enumerate(chart.curves):
        ours = curve.name.startswith("eventlog")
        xs, ys = zip(*curve.points, strict=True)
        has_slope = len(curve.points) > 1 and chart.axes == "log"
        label = f"{curve.name}  (∝ n^{curve.slope:.2f})" if has_slope else curve.name
        axes.plot(
            xs, ys, label=label, marker=MARKERS[number % len(MARKERS)], markersize=5,
            color=OURS if ours else next(colours), linewidth=2.4 if ours else 1.2, zorder=3 if ours else 2,
            linestyle="-" if number < len(OTHERS) else "--",
        )  # fmt: skip
    axes.set(xlabel=chart.x, ylabel=chart.y, title=chart.title)
    if chart.axes == "linear":
        axes.set(xlim=(0, None))
    else:
        ticks = sorted({x for curve in chart.curves for x, _ in curve.points})
        axes.set(xscale="log", xticks=ticks, xticklabels=[f"{x:,.0f}" for x in ticks])
        axes.minorticks_off()
    if chart.axes == "log":
        axes.set(yscale="log")
    else:
        axes.set(ylim=(0, 1.1 * max(y for curve in chart.curves for _, y in curve.points)))
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{chart.name}.{ending}" for ending in ("png", "svg")]
    for path in paths:
        date = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=130, metadata=date)
    pyplot.close(figure)
    return paths
