"""Results on disk: one JSON file per case, from which pictures and the README's table are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.report import Chart, Goal, Table

FOLDER = Path(__file__).parent / "results"


class Result(msgspec.Struct):
    """What a case measured, as it is stored."""

    case: str
    scale: str
    environment: dict[str, str]
    tables: list[dict[str, Any]]
    """Title, unit, notes, and per row its name, quantiles and ratio."""
    goals: list[Goal]
    charts: list[Chart]


def result(case: str, scale: str, facts: dict[str, str], tables: Sequence[Table]) -> Result:
    """Return what is kept of the tables of a case."""
    kept = [{"title": t.title, "unit": t.unit, "rows": t.summary(), "notes": t.notes} for t in tables]
    goals = [goal for table in tables for goal in table.goals]
    return Result(case, scale, facts, kept, goals, [chart for table in tables for chart in table.charts])


def write(folder: Path, made: Result) -> Path:
    """Write a result; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{made.case}.json"
    path.write_text(json.dumps(msgspec.to_builtins(made), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_all(folder: Path) -> list[Result]:
    """Return the results in a folder, by case."""
    return [msgspec.json.decode(path.read_bytes(), type=Result) for path in sorted(folder.glob("*.json"))]
