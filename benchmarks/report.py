"""What a case measured: rows beside a baseline of the same rounds, goals, and curves over a size."""

from __future__ import annotations

import platform
import sqlite3
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from eventlog.cli.measuring import quantile
from eventlog.storage import open_writer

SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
FORMATS = ((100, ",.0f"), (10, ".1f"), (0.1, ".2f"), (0, ".4f"))


class Row(msgspec.Struct):
    """One variant, measured in rounds that took turns with those of the others."""

    name: str
    rounds: list[list[float]]
    """Samples by round, in the unit of the table."""

    @property
    def samples(self) -> list[float]:
        """All of them, smallest first."""
        return sorted(sample for samples in self.rounds for sample in samples)

    def quantile(self, share: float) -> float:
        """Return the sample below which that share of all lies."""
        return quantile(self.samples, share)

    def ratio(self, base: Row) -> float:
        """Return how many times the baseline it takes: the median over the rounds of the ratio of their medians."""
        pairs = zip(self.rounds, base.rounds, strict=True)
        return statistics.median(statistics.median(own) / statistics.median(other) for own, other in pairs)


class Goal(msgspec.Struct):
    """What we want, and what was measured."""

    what: str
    measured: float
    limit: float
    at_least: bool = False
    """Whether more is better."""
    unit: str = "x"

    @property
    def is_reached(self) -> bool:
        """Whether it is as wanted."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def line(self) -> tuple[str, str, str, str]:
        """Return it as texts: what, limit, measured, verdict."""
        sign = "≥" if self.at_least else "≤"
        limit, measured = (f"{shown(value)} {self.unit}".strip() for value in (self.limit, self.measured))
        return self.what, f"{sign} {limit}", measured, "yes" if self.is_reached else "no"


class Curve(msgspec.Struct):
    """One variant over a size."""

    name: str
    points: list[tuple[float, float]]

    @property
    def slope(self) -> float:
        """Exponent of the power law that fits best: 1 is linear, 2 quadratic."""
        return slope(self.points)


class Chart(msgspec.Struct):
    """Curves that belong into one picture."""

    name: str
    """Of the files of the picture."""
    title: str
    x: str
    y: str
    curves: list[Curve]
    axes: Literal["log", "log x", "linear"] = "log"
    """Which are logarithmic: both, the one below, none; linear ones begin at zero."""


class Table(msgspec.Struct):
    """Variants measured together; the first row is the baseline unless another one is named."""

    title: str
    unit: str
    rows: list[Row]
    baseline: str = ""
    notes: list[str] = []
    goals: list[Goal] = []
    charts: list[Chart] = []

    def row(self, name: str) -> Row:
        """Return the row of that name."""
        return next(row for row in self.rows if row.name == name)

    def ratio(self, name: str, base: str = "") -> float:
        """Return how many times the baseline, or another row, a row takes."""
        return self.row(name).ratio(self.row(base or self.baseline or self.rows[0].name))

    def summary(self) -> list[dict[str, Any]]:
        """Return name, quantiles and ratio to the baseline of every row; no ratio where there is but one row."""
        return [
            {
                "name": row.name,
                "p50": row.quantile(0.5),
                "p95": row.quantile(0.95),
                "p99": row.quantile(0.99),
                "min": row.samples[0],
                "max": row.samples[-1],
                "rounds": len(row.rounds),
                "samples": len(row.samples),
                "ratio": self.ratio(row.name),
            }
            for row in self.rows
            if row.samples
        ]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the exponent of the power law that fits points best."""
    from math import log

    xs, ys = [log(x) for x, _ in points], [log(y) for _, y in points]
    return statistics.linear_regression(xs, ys).slope


def single(name: str, value: float) -> Row:
    """Return a row of one value."""
    return Row(name, [[value]])


def shown(value: float) -> str:
    """Return a number with three digits or so."""
    return next(format(value, spec) for least, spec in FORMATS if abs(value) >= least)


def environment(folder: Path) -> dict[str, str]:
    """Return what the numbers depend on, the settings as our own connections have them."""
    import crewai

    db = open_writer(folder / "environment.db")
    facts = {
        "python": platform.python_version(),
        "crewai": crewai.__version__,
        "sqlite": sqlite3.sqlite_version,
        "processor": _processor(),
        **settings(db),
    }
    db.close()
    return facts


def settings(db: sqlite3.Connection) -> dict[str, str]:
    """Return journal mode, ``synchronous`` and page size of a connection."""
    values = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "page_size")}
    return {**{k: str(v) for k, v in values.items()}, "synchronous": SYNCHRONOUS[values["synchronous"]]}


def _processor() -> str:
    """Return what the machine computes with."""
    import os

    names = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in names if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores"


def show(tables: Sequence[Table], *, is_rough: bool = False) -> None:
    """Print tables; ``is_rough``: goals are not judged, they are made for the whole run."""
    for table in tables:
        print(f"\n{table.title} ({table.unit})")
        lines = [
            (row["name"], *(shown(row[k]) for k in ("p50", "p95", "p99", "max")), f"{shown(row['ratio'])} x")
            for row in table.summary()
        ]
        heads = ("", "p50", "p95", "p99", "longest", "beside the first")
        _print_columns([heads, *lines] if lines else [])
        for note in table.notes:
            print(f"  {note}")
        for chart in table.charts:
            for curve in chart.curves:
                if len(curve.points) > 1 and chart.axes == "log":
                    print(f"  {chart.y} over {chart.x}, {curve.name}: exponent {curve.slope:.2f}")
        _print_columns([(*goal.line()[:3], "") if is_rough else goal.line() for goal in table.goals])


def _print_columns(lines: Sequence[tuple[str, ...]]) -> None:
    """Print lines with the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        rest = (f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True))
        print(f"  {first:{widths[0]}}  {'  '.join(rest)}")
