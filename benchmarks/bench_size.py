"""How big a log is: of a conversation that grows, and of a real kickoff; beside its text, its JSON, and checkpoints."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import zlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.stream_context import add_stream_sink, reset_stream_sinks
from crewai.state.checkpoint_config import CheckpointConfig

import eventlog
from benchmarks import checkpointing
from benchmarks.data import growing_pairs
from benchmarks.peers import bytes_in
from benchmarks.report import Chart, Curve, Goal, Table, single
from benchmarks.timing import Scale, sized
from eventlog.cli.measuring import text

GROWTH_CHARS, RESTART, ANSWER_CHARS = 2_000, 25, 2_000
LONG_CHARS = 100
"""Strings of that length are text; shorter ones are names, numbers and times."""

OURS, TEXT, RAW, GZIP = "eventlog", "its text, each once", "JSONL of the events", "JSONL of the events, gzip"
CHECKPOINTS = 'CrewAI JsonProvider, on_events=["*"]'


def run(folder: Path, scale: Scale) -> list[Table]:
    """Measure one conversation at several lengths, one that begins anew, and a kickoff."""
    lengths = sized(scale, smoke=(4, 8), quick=(25, 100), full=(25, 50, 100, 250, 300, 500))
    sizes = {calls: _emitted(folder, growing_pairs(calls, GROWTH_CHARS, 1)) for calls in lengths}
    shown = [calls for calls in lengths if calls in {250, 500}] or [lengths[-1]]
    tables = [_table(f"One conversation of {calls} calls, +2 KB per call", sizes[calls]) for calls in shown]
    goal_at = 300 if 300 in sizes else lengths[-1]
    tables[-1].goals = [_goal(f"one conversation of {goal_at} calls", sizes[goal_at], 0.01)]
    tables[-1].charts = [_chart(sizes)]
    return [*tables, _restarting(folder, scale), _kickoff(folder, scale)]


def _restarting(folder: Path, scale: Scale) -> Table:
    """Measure conversations that begin anew after so many calls."""
    calls = sized(scale, smoke=8, quick=100, full=1_000)
    found = _emitted(folder, growing_pairs(calls, GROWTH_CHARS, 1, restart=RESTART))
    table = _table(f"Conversations of {RESTART} calls, +2 KB per call, {calls} calls in all", found)
    table.goals = [_goal(f"{calls} calls, a new conversation every {RESTART}", found, 0.08)]
    return table


def _kickoff(folder: Path, scale: Scale) -> Table:
    """Measure one real kickoff, offline, that is captured and checkpointed at once."""
    tasks, rounds = sized(scale, smoke=(1, 2), quick=(2, 8), full=(4, 20))
    source, place, path = random.Random(1), folder / "checkpoints", folder / "kickoff.db"
    texts = tuple(text(source, ANSWER_CHARS) for _ in range(tasks * rounds))
    config = CheckpointConfig(location=str(place), on_events=["*"])
    with eventlog.open(path) as log, log.run("r"), _collected() as events, _hushed():
        checkpointing.kickoff(checkpointing.crew(rounds=rounds, tasks=tasks, texts=texts, config=config))
    _check(path, len(events))
    written = len(list(place.rglob("*.json")))
    found = {OURS: path.stat().st_size, **_plain(events), CHECKPOINTS: bytes_in(place)}
    table = _table(f"A kickoff of {tasks} tasks with {rounds} uses of a tool each, {len(events)} events", found)
    table.notes.append(f"{CHECKPOINTS}: {written} checkpoints written during the same kickoff")
    return table


@contextmanager
def _hushed() -> Generator[None]:
    """Keep stderr to ourselves: checkpoints that CrewAI loses to its own threads print pages of Rust."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _collected() -> Generator[list[Any]]:
    """Yield a list of the events that are emitted meanwhile."""
    events: list[Any] = []
    token = add_stream_sink(lambda *heard: events.append(heard[-1]))
    yield events
    reset_stream_sinks(token)


def _emitted(folder: Path, events: Sequence[Any]) -> dict[str, int]:
    """Return the bytes of a log of these events, and of what else they could be kept in."""
    path = folder / "size.db"
    with bus.scoped_handlers(), eventlog.open(path, durability="batch") as log, log.run("r"):
        for event in events:
            bus.emit(None, event)
    _check(path, len(events))
    size = path.stat().st_size
    path.unlink()
    return {OURS: size, **_plain(events)}


def _check(path: Path, events: int) -> None:
    """See that the log is not small because something is missing.

    Raises:
        RuntimeError: it holds fewer events than were emitted.
    """
    with closing(sqlite3.connect(path)) as db:
        (stored,) = db.execute("SELECT count(*) FROM events").fetchone()
    if stored < events:
        raise RuntimeError(f"the log holds {stored} of {events} events")


def _plain(events: Iterable[Any]) -> dict[str, int]:
    """Return the bytes of the text, and of the events as lines of JSON, plain and compressed."""
    squeeze, raw, squeezed, long = zlib.compressobj(wbits=31), 0, 0, set[str]()
    for event in events:
        line = event.model_dump_json().encode() + b"\n"
        raw, squeezed = raw + len(line), squeezed + len(squeeze.compress(line))
        long.update(_long(event.__dict__))
    squeezed += len(squeeze.flush())
    return {TEXT: sum(len(one.encode()) for one in long), RAW: raw, GZIP: squeezed}


def _long(value: Any) -> Generator[str]:
    """Yield the long strings in plain data."""
    if isinstance(value, str) and len(value) >= LONG_CHARS:
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _long(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _long(one)


def _table(title: str, found: dict[str, int]) -> Table:
    """Return sizes as a table."""
    notes = [f"strings of {LONG_CHARS} characters or more are text; ours is the file after closing"]
    return Table(title, "MB", [single(name, size / 1e6) for name, size in found.items()], notes=notes)


def _goal(what: str, found: dict[str, int], limit: float) -> Goal:
    """Return the goal beside the plain JSON."""
    return Goal(f"{what}: bytes beside the JSON of the events", found[OURS] / found[RAW], limit)


def _chart(sizes: dict[int, dict[str, int]]) -> Chart:
    """Return the sizes over the number of calls."""
    curves = [
        Curve(name, [(calls, found[name] / 1e6) for calls, found in sizes.items()]) for name in (OURS, TEXT, GZIP, RAW)
    ]
    return Chart("size", "A conversation that grows by 2 KB per call: on disk", "calls", "MB", curves)
