"""What a writer feels of a compaction in the background: each append, beside a log that is never compacted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import eventlog
from benchmarks.report import Row, Table

CHARS = 900
"""Of the text in each event, new in most of them."""


def run(folder: Path, *, quick: bool) -> Table:
    """Measure appends of the user's events at a pace, with a checkpoint at every 500th."""
    count = 3_000 if quick else 20_000
    never = _appends(folder / "plain.db", count)
    kept = _appends(folder / "kept.db", count, max_checkpoints=2, compact_events=1_000)
    rows = [Row("append, never compacted", never), Row("append, max_checkpoints=2, every 1,000 events", kept)]
    sizes = [(folder / name).stat().st_size / 1e6 for name in ("plain.db", "kept.db")]
    notes = [
        f"longest append: {max(never) / 1e3:.1f} ms and {max(kept) / 1e3:.1f} ms",
        f"file in the end: {sizes[0]:.1f} MB and {sizes[1]:.1f} MB",
    ]
    return Table("compaction: one append while old events go in the background", "µs", rows, notes)


def _appends(path: Path, count: int, **options: Any) -> list[float]:
    """Return the microseconds of each append."""
    samples = []
    with eventlog.open(path, **options) as log:
        for number in range(count):
            start = time.perf_counter()
            log.append("bench.page", {"n": number, "text": f"{number} " * (CHARS // len(f"{number} "))}, run="r")
            samples.append((time.perf_counter() - start) * 1e6)
            if number % 500 == 499:
                log.snapshot("r")
            time.sleep(0.0002)
    return samples
