"""What an emit costs on the emitter's thread: bare, with a handler, with us, beside a bare INSERT of the same bytes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent

import eventlog
from benchmarks.data import flat_pairs
from benchmarks.report import Row, Table
from eventlog.pipeline import Durability
from eventlog.storage import open_writer

CHARS = 3000


def run(folder: Path, *, quick: bool) -> Table:
    """Measure each variant in turn, round by round; ``llm_call_started/completed`` pairs of 3 KB, one after another."""
    rounds, pairs = (5, 100) if quick else (9, 300)
    variants: dict[str, Callable[[int], list[float]]] = {
        "bare INSERT, autocommit, same file settings": lambda n: _insert(folder / f"bare{n}.db", _bytes(pairs, n)),
        "emit, nothing listens": lambda n: _emit(flat_pairs(pairs, CHARS, n)),
        "emit, one handler that does nothing": lambda n: _with_handler(flat_pairs(pairs, CHARS, n)),
        "emit, eventlog commit": lambda n: _with_log(folder, "commit", flat_pairs(pairs, CHARS, n), n),
        "emit, eventlog batch": lambda n: _with_log(folder, "batch", flat_pairs(pairs, CHARS, n), n),
        "emit, eventlog fsync": lambda n: _with_log(folder, "fsync", flat_pairs(pairs, CHARS, n), n),
    }
    rows = [Row(name, []) for name in variants]
    for number in range(rounds + 1):
        for row, measure in zip(rows, variants.values(), strict=True):
            samples = measure(number)
            if number:  # the first round warms up
                row.samples += samples
    return Table("capture: one event of 3 KB on the emitter's thread", "µs", rows)


def _timed(events: list[Any], act: Callable[[Any], Any]) -> list[float]:
    """Return the microseconds of each act."""
    out = []
    for event in events:
        start = time.perf_counter()
        act(event)
        out.append((time.perf_counter() - start) * 1e6)
    return out


def _emit(events: list[Any]) -> list[float]:
    """Time emits."""
    return _timed(events, lambda event: bus.emit(None, event))


def _with_handler(events: list[Any]) -> list[float]:
    """Time emits with one handler of the user's."""

    def handler(_source: Any, _event: Any) -> None:
        """Nothing."""

    for cls in (LLMCallStartedEvent, LLMCallCompletedEvent):
        bus.register_handler(cls, handler)
    samples = _emit(events)
    for cls in (LLMCallStartedEvent, LLMCallCompletedEvent):
        bus.off(cls, handler)
    bus.flush()
    return samples


def _with_log(folder: Path, durability: Durability, events: list[Any], number: int) -> list[float]:
    """Time emits while we record."""
    path = folder / f"{durability}{number}.db"
    with eventlog.open(path, durability=durability) as log, log.run("r"):
        return _emit(events)


def _bytes(pairs: int, seed: int) -> list[str]:
    """Return what a plain dump of the events would store."""
    return [event.model_dump_json() for event in flat_pairs(pairs, CHARS, seed)]


def _insert(path: Path, bodies: list[str]) -> list[float]:
    """Time plain inserts through a connection with our settings."""
    db = open_writer(path)
    plain = sqlite3.connect(path.with_suffix(".plain.db"), isolation_level=None)
    for pragma in ("page_size", "journal_mode", "synchronous"):
        plain.execute(f"PRAGMA {pragma} = {db.execute(f'PRAGMA {pragma}').fetchone()[0]}")
    plain.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT)")
    samples = _timed(bodies, lambda body: plain.execute("INSERT INTO events (body) VALUES (?)", (body,)))
    plain.close()
    db.close()
    return samples
