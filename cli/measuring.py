"""Tools to measure with, of ``eventlog bench`` and of the benchmarks: text, a plain table, the clock."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from eventlog.storage import Synchronous, open_writer

INSERT = "INSERT INTO events (body) VALUES (?)"
"""One row of a plain table."""


def timed(items: Iterable[Any], act: Callable[[Any], Any], *, pause_s: float = 0.0) -> list[float]:
    """Return the microseconds of each act; with a pause after every second one, as between calls of a model."""
    samples = []
    for number, item in enumerate(items, 1):
        began = time.perf_counter()
        act(item)
        samples.append((time.perf_counter() - began) * 1e6)
        if pause_s and number % 2 == 0:
            time.sleep(pause_s)
    return samples


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the sample below which that share of all lies; ``ordered``: smallest first."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def plain_table(path: Path, synchronous: Synchronous = "NORMAL") -> sqlite3.Connection:
    """Return a connection to a file with one table of bodies; its settings are those of a log of ours."""
    ours = open_writer(path.with_suffix(".settings"), synchronous)
    plain = sqlite3.connect(path, isolation_level=None)
    for pragma in ("page_size", "journal_mode", "synchronous", "wal_autocheckpoint"):
        plain.execute(f"PRAGMA {pragma} = {ours.execute(f'PRAGMA {pragma}').fetchone()[0]}")
    plain.execute("CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, body TEXT)")
    ours.close()
    return plain


@cache
def _words() -> list[str]:
    """Return the words of Python's own documentation: English, some code, found wherever Python is."""
    from pydoc_data.topics import topics

    return " ".join(topics[name] for name in sorted(topics)).split()


def text(source: random.Random, chars: int) -> str:
    """Return that much text, which reads like prose and code and repeats like none."""
    return " ".join(source.choices(_words(), k=chars // 4 + 8))[:chars]
