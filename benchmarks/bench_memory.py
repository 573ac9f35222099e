"""Whether a process grows: over many kickoffs, and over many events, with a log and without."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.children import BARE, run_child
from benchmarks.report import Chart, Curve, Row, Table
from benchmarks.timing import Scale, sized

WITHOUT, COMMIT, BATCH = "without a log", "eventlog, commit", "eventlog, batch"


def run(folder: Path, scale: Scale) -> list[Table]:
    """Measure kickoffs and events, each in processes of their own."""
    return [_kickoffs(folder, scale), _emits(folder, scale)]


def _kickoffs(folder: Path, scale: Scale) -> Table:
    """Measure one process that kicks a crew off again and again."""
    count, every = sized(scale, smoke=(6, 1), quick=(20, 2), full=(600, 30))
    found: dict[str, list[tuple[int, float]]] = _side_by_side(folder / "kickoffs", COMMIT, "kickoffs", count, every)
    rows = [Row(name, [[mb for _, mb in series]]) for name, series in found.items()]
    table = Table(f"Memory of a process over {count} kickoffs of a crew, sampled {count // every} times", "MB", rows)
    table.notes = [
        f"{name}: grows by {_growth(series):.3f} MB per kickoff in the second half" for name, series in found.items()
    ]
    curves = [Curve(name, [*series]) for name, series in found.items()]
    table.charts = [Chart("memory_kickoffs", "Memory of one process", "kickoffs", "MB in RAM", curves, axes="linear")]
    return table


def _growth(series: list[tuple[int, float]]) -> float:
    """Return the MB per kickoff over the second half: in the first, things are loaded and caches filled."""
    half = series[len(series) // 2 :]
    return statistics.linear_regression([number for number, _ in half], [mb for _, mb in half]).slope


def _emits(folder: Path, scale: Scale) -> Table:
    """Measure by how much a process grows that emits events."""
    count = sized(scale, smoke=200, quick=2_000, full=20_000)
    grown = _side_by_side(folder / "emits", BATCH, "emits", count)
    rows = [Row(name, [[after]]) for name, (_, after) in grown.items()]
    table = Table(f"Memory of a process after {count:,} events of 3 KB (measured once)", "MB", rows)
    table.notes = [
        f"{name}: {after - before:.1f} MB more than after the first 100" for name, (before, after) in grown.items()
    ]
    return table


def _side_by_side(place: Path, ours: str, program: str, *args: int) -> dict[str, Any]:
    """Run a program without a log and with one at the same time, as nothing is timed; return what each found."""
    place.mkdir()
    given = {WITHOUT: (place / "without.json", BARE), ours: (place / "ours.json", place / "log.db")}
    with ThreadPoolExecutor() as pool:
        started = {name: pool.submit(run_child, program, out, db, *args) for name, (out, db) in given.items()}
    return {name: one.result() for name, one in started.items()}
