"""Bytes of one growing conversation: ours, JSON Lines of the raw events, and its unique text."""

from __future__ import annotations

from pathlib import Path

from crewai.events.event_bus import crewai_event_bus as bus

import eventlog
from benchmarks.data import growing_pairs
from benchmarks.report import Row, Table

CHARS = 2000


def run(folder: Path, *, quick: bool) -> Table:
    """Measure file sizes, not time."""
    sizes = (100, 200) if quick else (250, 500)
    table = Table("growth: one conversation, +2 KB per call", "KB", [Row("unique text", [])])
    for calls in sizes:
        unique = calls * CHARS / 1000
        raw, ours = _sizes(folder / f"growth{calls}.db", calls)
        table.rows[0].samples = [unique]
        for name, value in ((f"raw events as JSON Lines, {calls} calls", raw), (f"eventlog, {calls} calls", ours)):
            table.rows.append(Row(name, [value]))
            table.notes.append(f"{name}: {value / unique:.2f} x its unique text")
    return table


def _sizes(path: Path, calls: int) -> tuple[float, float]:
    """Return kilobytes of the raw events and of our file."""
    events = growing_pairs(calls, CHARS, calls)
    raw = sum(len(event.model_dump_json()) + 1 for event in events)
    with eventlog.open(path) as log, log.run("r"):
        for event in events:
            bus.emit(None, event)
    return raw / 1000, path.stat().st_size / 1000
