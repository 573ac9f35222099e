"""What capturing an event costs on a disk, in each mode: real events, emitted into logs that are thrown away."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, get_args

import msgspec
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent, LLMCallType

from eventlog.cli.measuring import INSERT, plain_table, quantile, text, timed
from eventlog.log import open_log
from eventlog.pipeline import Durability

ROUNDS = 5
"""The modes take turns: other programs disturb them alike."""
BARE, FSYNC = "bare INSERT", "bare write + fsync"
"""What the modes are compared with: one row of SQLite, and what the disk itself takes to keep something."""

PAUSE_S = 0.0005
"""Between the calls."""


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
            made = list(_events(ceil(events / ROUNDS / 2), chars, number))
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
    p50, p95, p99, longest = (round(quantile(samples, share), 1) for share in (0.5, 0.95, 0.99, 1))
    return Cost(name, p50, p95, p99, longest, len(samples), beside_bare=round(p50 / bare, 1))


def _by_log(path: Path, mode: Durability, made: list[Any]) -> list[float]:
    """Emit into a log."""
    with open_log(path, durability=mode) as log, log.run("bench"):
        samples = timed(made, lambda event: bus.emit(None, event), pause_s=PAUSE_S)
        log.flush()
    return samples


def _by_insert(path: Path, made: list[Any]) -> list[float]:
    """Insert the same bytes by hand, as durable as ``commit``."""
    db = plain_table(path)
    bodies = [event.model_dump_json() for event in made]
    samples = timed(bodies, lambda body: db.execute(INSERT, (body,)), pause_s=PAUSE_S)
    db.close()
    return samples


def _by_file(path: Path, made: list[Any]) -> list[float]:
    """Write the same bytes to a file and have the disk keep them."""
    bodies = [event.model_dump_json().encode() for event in made]
    with path.open("ab", buffering=0) as file:

        def keep(body: bytes) -> None:
            file.write(body)
            os.fsync(file.fileno())

        return timed(bodies, keep, pause_s=PAUSE_S)


def _events(calls: int, chars: int, seed: int) -> Iterator[Any]:
    """Yield started and completed model calls with texts of their own."""
    source = random.Random(seed)  # noqa: S311 - no secret
    for number in range(calls):
        messages = [{"role": "user", "content": text(source, chars)}]
        yield from call_events(messages, text(source, chars // 4), f"{seed}-{number}")


def call_events(messages: list[Any], answer: str, call_id: str) -> list[Any]:
    """Return the two events of one call of a model; as in CrewAI, each has its own list and dicts of the same texts."""
    copies = [[dict(m) for m in messages] for _ in range(2)]
    kind = LLMCallType.LLM_CALL
    return [
        LLMCallStartedEvent(messages=copies[0], model="m", call_id=call_id),
        LLMCallCompletedEvent(messages=copies[1], response=answer, call_type=kind, model="m", call_id=call_id),
    ]
