"""What capturing an event costs on a disk, in each mode: real events, emitted into logs that are thrown away."""

from __future__ import annotations

import os
import random
import sqlite3
import statistics
import string
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

import msgspec
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent, LLMCallType

from eventlog.log import open_log
from eventlog.pipeline import Durability
from eventlog.storage import open_writer

ROUNDS = 5
"""The modes take turns: other programs disturb them alike."""
BARE, FSYNC = "bare INSERT", "bare write + fsync"
"""What the modes are compared with: one row of SQLite, and what the disk itself takes to keep something."""

_WORDS = 400
_LETTERS = string.ascii_lowercase


class Cost(msgspec.Struct, frozen=True):
    """What one event took, in microseconds, on the thread that emitted it."""

    name: str
    """A mode, or what it is compared with."""
    p50_us: float
    p95_us: float
    p99_us: float
    longest_us: float
    events: int
    beside_bare: float
    """Times the p50 of a bare INSERT of the same bytes."""


def measure(folder: Path, events: int, chars: int, tell: Callable[[], None]) -> list[Cost]:
    """Return the costs in a folder; ``tell`` is called after each of its ``steps``.

    Raises:
        OSError: nothing can be written there.
    """
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix=".eventlog-bench-", dir=folder) as place, bus.scoped_handlers():
        for number, name, act in _turns(Path(place)):
            made = list(_events(max(2, events // ROUNDS), chars, number))
            samples.setdefault(name, []).extend(act(made))
            tell()
    bare = statistics.median(samples[BARE])
    return [_cost(name, sorted(found), bare) for name, found in samples.items()]


def steps() -> int:
    """Return how many steps ``measure`` takes."""
    return ROUNDS * (len(get_args(Durability)) + 2)


def _turns(place: Path) -> Iterator[tuple[int, str, Callable[[list[Any]], list[float]]]]:
    """Yield what is to be done, round by round: its number, the name, and what takes events and returns samples."""
    for number in range(ROUNDS):
        yield number, FSYNC, partial(_by_file, place / "bare.bin")
        yield number, BARE, partial(_by_insert, place / "bare.db")
        for mode in get_args(Durability):
            yield number, mode, partial(_by_log, place / f"{mode}.db", mode)


def _cost(name: str, samples: list[float], bare: float) -> Cost:
    """Return what samples say, smallest first."""

    def quantile(share: float) -> float:
        return round(samples[min(int(len(samples) * share), len(samples) - 1)], 1)

    return Cost(
        name=name, p50_us=quantile(0.5), p95_us=quantile(0.95), p99_us=quantile(0.99), longest_us=quantile(1),
        events=len(samples), beside_bare=round(quantile(0.5) / bare, 1),
    )  # fmt: skip


def _timed(made: list[Any], act: Callable[[Any], Any]) -> list[float]:
    """Return the microseconds of each act; a pause after each pair, as between calls of a model."""
    samples = []
    for number, item in enumerate(made):
        began = time.perf_counter()
        act(item)
        samples.append((time.perf_counter() - began) * 1e6)
        if number % 2:
            time.sleep(0.0005)
    return samples


def _by_log(path: Path, mode: Durability, made: list[Any]) -> list[float]:
    """Emit into a log."""
    with open_log(path, durability=mode) as log, log.run("bench"):
        samples = _timed(made, lambda event: bus.emit(None, event))
        log.flush()
    return samples


def _by_insert(path: Path, made: list[Any]) -> list[float]:
    """Insert the same bytes by hand, as durable as ``commit``."""
    db = open_writer(path)
    plain = sqlite3.connect(path.with_suffix(".plain"), isolation_level=None)
    for pragma in ("page_size", "journal_mode", "synchronous"):
        plain.execute(f"PRAGMA {pragma} = {db.execute(f'PRAGMA {pragma}').fetchone()[0]}")
    db.close()
    plain.execute("CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, body TEXT)")
    bodies = [event.model_dump_json() for event in made]
    samples = _timed(bodies, lambda body: plain.execute("INSERT INTO events (body) VALUES (?)", (body,)))
    plain.close()
    return samples


def _by_file(path: Path, made: list[Any]) -> list[float]:
    """Write the same bytes to a file and have the disk keep them."""
    bodies = [event.model_dump_json().encode() for event in made]
    with path.open("ab", buffering=0) as file:

        def keep(body: bytes) -> None:
            file.write(body)
            os.fsync(file.fileno())

        return _timed(bodies, keep)


def _events(count: int, chars: int, seed: int) -> Iterator[Any]:
    """Yield started and completed model calls with texts of their own."""
    source = random.Random(seed)  # noqa: S311 - no secret
    words = ["".join(source.choices(_LETTERS, k=source.randint(2, 9))) for _ in range(_WORDS)]

    def text(length: int) -> str:
        return " ".join(source.choices(words, k=length // 4 + 2))[:length]

    for number in range(count // 2):
        messages, call = [{"role": "user", "content": text(chars)}], f"{seed}-{number}"
        yield LLMCallStartedEvent(messages=messages, model="bench", call_id=call)
        kind = LLMCallType.LLM_CALL
        yield LLMCallCompletedEvent(
            messages=messages, response=text(chars // 4), call_type=kind, model="bench", call_id=call
        )
