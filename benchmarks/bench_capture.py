"""What an emit costs on the emitter's thread: bare, with a handler, with us, beside plain inserts of the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent

import eventlog
from benchmarks import bare
from benchmarks.data import as_json, flat_pairs, growing_pairs
from benchmarks.report import Goal, Table
from benchmarks.timing import ROUNDS, Measure, Scale, sized, take_turns
from eventlog.cli.measuring import plain_table, timed
from eventlog.pipeline import Durability
from eventlog.storage import open_writer

PAUSE_S = 0.001
"""Between the calls of a paced emitter; a real model takes longer."""
GROWTH_CHARS = 2_000
CLASSES = (LLMCallStartedEvent, LLMCallCompletedEvent)

BARE, ROWS = "bare INSERT of the event's JSON", "hand-written sqlite3, the same rows as ours"
NOTHING, DEFAULT, HANDLER = (
    "emit: nothing listens",
    "emit: CrewAI's own listeners",
    "emit: one handler that does nothing",
)
COMMIT, FSYNC, BATCH = "emit: eventlog, commit", "emit: eventlog, fsync", "emit: eventlog, batch"


def run(folder: Path, scale: Scale) -> list[Table]:
    """Measure three sizes, paced and in bursts, then the end of a long conversation."""
    sizes = sized(scale, smoke=(3_000,), quick=(3_000,), full=(500, 3_000, 30_000))
    paces = sized(scale, smoke=(True,), quick=(True,), full=(True, False))
    tables = [_flat(folder, scale, chars, is_paced=paced) for chars in sizes for paced in paces]
    return [*tables, _growing(folder, scale)]


def _flat(folder: Path, scale: Scale, chars: int, *, is_paced: bool) -> Table:
    """Measure events with one message each."""
    pairs, pause = sized(scale, smoke=3, quick=40, full=80), PAUSE_S if is_paced else 0.0
    place = folder / f"{chars}{is_paced}"
    place.mkdir()

    def events(number: int) -> list[Any]:
        return flat_pairs(pairs, chars, number)

    rows = take_turns(_variants(place, events, pause), ROUNDS[scale])
    table = Table(f"One event of {chars / 1000:g} KB, {'paced' if is_paced else 'in bursts'}", "µs", rows)
    if chars == 3_000 and is_paced:
        table.goals = [
            Goal("an event of 3 KB, paced: `commit` beside hand-written rows", table.ratio(COMMIT, ROWS), 2),
            Goal("an event of 3 KB, paced: `commit` beside a bare INSERT", table.ratio(COMMIT, BARE), 4),
            Goal("an event of 3 KB, paced: `batch` beside a bare INSERT", table.ratio(BATCH, BARE), 1),
        ]
    return table


def _growing(folder: Path, scale: Scale) -> Table:
    """Measure the last calls of a long conversation."""
    calls, last, rounds = sized(scale, smoke=(5, 2, 1), quick=(60, 10, 3), full=(500, 10, 5))
    place = folder / "growing"
    place.mkdir()
    variants = _variants(place, lambda n: growing_pairs(calls, GROWTH_CHARS, n), PAUSE_S, last=2 * last)
    rows = take_turns({name: variants[name] for name in (BARE, ROWS, NOTHING, COMMIT, BATCH)}, rounds)
    title = f"One event at the {calls}th call of a conversation that grows by {GROWTH_CHARS / 1000:g} KB per call"
    table = Table(title, "µs", rows)
    limit = f"conversation at the {calls}th call: `commit` beside a bare INSERT of the event"
    table.goals = [Goal(limit, table.ratio(COMMIT, BARE), 0.1)]
    return table


def _variants(folder: Path, events: Callable[[int], list[Any]], pause_s: float, last: int = 0) -> dict[str, Measure]:
    """Return what to measure, by name; of the events of a round only the ``last`` ones count, or all."""

    def counted(samples: list[float]) -> list[float]:
        return samples[-last:]

    def emit(number: int) -> list[float]:
        return counted(timed(events(number), lambda event: bus.emit(None, event), pause_s=pause_s))

    def listened(number: int) -> list[float]:
        with _handler():
            return emit(number)

    def alone(number: int) -> list[float]:
        with bus.scoped_handlers():
            return emit(number)

    def plain(number: int) -> list[float]:
        db = plain_table(folder / f"bare{number}.db")
        samples = timed(as_json(events(number)[-last:]), lambda body: bare.insert(db, body), pause_s=pause_s)
        db.close()
        return samples

    def by_hand(number: int) -> list[float]:
        rows = bare.rows_of(folder / f"rows{number}.db", events(number))
        db = open_writer(folder / f"hand{number}.db")
        samples = timed(rows, lambda row: bare.write_rows(db, row), pause_s=pause_s)
        db.close()
        return counted(samples)

    def ours(durability: Durability) -> Measure:
        def measure(number: int) -> list[float]:
            path = folder / f"{durability}{number}.db"
            with eventlog.open(path, durability=durability) as log, log.run("r"):
                return alone(number)

        return measure

    return {
        BARE: plain, ROWS: by_hand, NOTHING: alone, DEFAULT: emit, HANDLER: listened,
        COMMIT: ours("commit"), BATCH: ours("batch"), FSYNC: ours("fsync"),
    }  # fmt: skip


@contextmanager
def _handler() -> Any:
    """Let one handler that does nothing hear both types, and no other."""

    def handler(_source: Any, _event: Any) -> None:
        """Nothing."""

    with bus.scoped_handlers():
        for cls in CLASSES:
            bus.register_handler(cls, handler)
        yield
        bus.flush()
