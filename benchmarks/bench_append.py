"""How many events per second: ``append_many`` beside a bare ``executemany`` of the same bytes."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eventlog
from benchmarks.data import text
from benchmarks.report import Row, Table

CHARS, GROUP = 600, 500


def run(folder: Path, *, quick: bool) -> Table:
    """Measure each variant in turn, round by round."""
    rounds, count = (5, 2_000) if quick else (7, 10_000)
    source = random.Random(1)
    payloads = [{"number": n, "text": text(source, CHARS)} for n in range(count)]
    variants: dict[str, Callable[[Path], float]] = {
        "bare executemany, groups of 500": lambda path: _bare(path, payloads),
        "log.append_many, groups of 500": lambda path: _ours(path, payloads),
    }
    rows = [Row(name, []) for name in variants]
    for number in range(rounds):
        for position, (row, measure) in enumerate(zip(rows, variants.values(), strict=True)):
            row.samples.append(measure(folder / f"append{number}{position}.db") / count * 1e6)
    return Table("append: one event of 0.6 KB in a group", "µs", rows)


def _bare(path: Path, payloads: list[Any]) -> float:
    """Insert the same JSON into a plain table; WAL, synchronous NORMAL; returns seconds."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT)")
    start = time.perf_counter()
    for at in range(0, len(payloads), GROUP):
        db.execute("BEGIN")
        rows = [(json.dumps(p),) for p in payloads[at : at + GROUP]]
        db.executemany("INSERT INTO events (body) VALUES (?)", rows)
        db.execute("COMMIT")
    took = time.perf_counter() - start
    db.close()
    return took


def _ours(path: Path, payloads: list[Any]) -> float:
    """Append through the library: encoding, redaction, contents, chain and index included; returns seconds."""
    with eventlog.open(path) as log:
        start = time.perf_counter()
        for at in range(0, len(payloads), GROUP):
            log.append_many((("bench.event", p) for p in payloads[at : at + GROUP]), run="r")
        return time.perf_counter() - start
