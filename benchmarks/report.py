"""Tables of measurements: medians and tails, and the ratio to the baseline taken in the same rounds."""

from __future__ import annotations

import json
import platform
import sqlite3
import statistics
from pathlib import Path
from typing import Any

import msgspec

from eventlog.storage import open_writer


class Row(msgspec.Struct):
    """One variant."""

    name: str
    samples: list[float]
    """One per round, or one per event; microseconds unless the table says otherwise."""


class Table(msgspec.Struct):
    """Variants measured together; the first is the baseline."""

    title: str
    unit: str
    rows: list[Row]
    notes: list[str] = []

    def summary(self) -> list[dict[str, Any]]:
        """Return name, median, p99 and ratio to the baseline of every row."""
        base = statistics.median(self.rows[0].samples)
        return [
            {
                "name": row.name,
                "p50": round(statistics.median(row.samples), 2),
                "p99": round(sorted(row.samples)[int(len(row.samples) * 0.99)], 2),
                "x": round(statistics.median(row.samples) / base, 2),
            }
            for row in self.rows
        ]


def environment(folder: Path) -> dict[str, str]:
    """Return what the numbers depend on, read from a connection like the one in use."""
    db = open_writer(folder / "environment.db")
    facts = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "journal_mode": str(db.execute("PRAGMA journal_mode").fetchone()[0]),
        "synchronous": {1: "NORMAL", 2: "FULL"}[db.execute("PRAGMA synchronous").fetchone()[0]],
        "page_size": str(db.execute("PRAGMA page_size").fetchone()[0]),
        "machine": platform.machine(),
    }
    db.close()
    return facts


def show(tables: list[Table], facts: dict[str, str], *, as_json: bool) -> None:
    """Print all tables."""
    if as_json:
        shown = [{"title": t.title, "unit": t.unit, "rows": t.summary(), "notes": t.notes} for t in tables]
        print(json.dumps({"environment": facts, "tables": shown}, indent=2))
        return
    print("  ".join(f"{k} {v}" for k, v in facts.items()))
    for table in tables:
        print(f"\n{table.title} ({table.unit})")
        width = max(len(row.name) for row in table.rows)
        print(f"  {'':{width}}  {'p50':>10}  {'p99':>10}  {'x baseline':>10}")
        for row in table.summary():
            print(f"  {row['name']:{width}}  {row['p50']:>10}  {row['p99']:>10}  {row['x']:>10}")
        for note in table.notes:
            print(f"  {note}")
