"""What reading costs: the state at a cursor however long the log is, events in a stream, the command line's start."""

from __future__ import annotations

import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import eventlog
from benchmarks import logs
from benchmarks.logs import RUN
from benchmarks.report import Chart, Curve, Goal, Row, Table
from benchmarks.timing import Measure, Scale, seconds, sized, take_turns
from eventlog.cli.measuring import timed
from eventlog.replay.fold import fold_events
from eventlog.replay.rebuild import rebuild_state, refold_state

TURNS = {"smoke": 1, "quick": 1, "full": 5}
"""Rounds: building the logs takes most of the time."""
KICKOFF_EVENTS = 50
MANY_MAX, REFOLD_MAX = 10_000, 100_000
"""Folding more from the first event takes seconds for each cursor."""
LONG, ANEW, MANY, REFOLD = (
    "eventlog: one kickoff that goes on and on",
    "the same, by a reader that has read nothing before",
    "one kickoff of 50 events after another: the state grows",
    "one kickoff, folded from its first event",
)
SELECT, STORED, EVENTS, FOLD = (
    "bare SELECT seq, payload",
    "log.reader.stored: proven",
    "log.events: proven and decoded",
    "fold of events in memory",
)
PYTHON, HELP, RUNS = "python -c pass", "eventlog --help", "eventlog runs"


def run(folder: Path, scale: Scale) -> list[Table]:
    """Build the logs once, then measure states, streams, stored states and the command line on them."""
    sizes = sized(scale, smoke=(200, 1_000), quick=(1_000, 10_000), full=(1_000, 10_000, 100_000, 1_000_000))
    long = {size: logs.build(folder / f"long{size}.db", size) for size in sizes}
    many = {
        size: logs.build(folder / f"many{size}.db", size, kickoff_events=KICKOFF_EVENTS)
        for size in sizes
        if size <= MANY_MAX
    }
    middle = sizes[1]
    return [
        _states(long, many, scale),
        _stream(long[middle], middle, scale),
        _snapshots(long[middle], middle, scale),
        _commands(long, scale),
    ]


# -- states ------------------------------------------------------------------------------------


def _states(long: dict[int, Path], many: dict[int, Path], scale: Scale) -> Table:
    """Measure the state at cursors drawn at random, in this process, as ``replay --to`` has it."""
    count, few = sized(scale, smoke=(5, 1), quick=(70, 2), full=(60, 2))
    variants = {_name(LONG, size): _open(path, count) for size, path in long.items()}
    variants |= {_name(ANEW, size): _anew(path, count) for size, path in long.items() if size in (min(long), max(long))}
    variants |= {_name(MANY, size): _open(path, count) for size, path in many.items()}
    with ExitStack() as stack:
        for size, path in long.items():
            if size <= REFOLD_MAX:
                log = stack.enter_context(eventlog.open(path, readonly=True))
                variants[_name(REFOLD, size)] = _cursors(log, few, _refolded)
        rows = take_turns(variants, TURNS[scale])
    table = Table("The state at a cursor drawn at random, of events of 0.3 KB", "ms", rows)
    largest = table.row(_name(LONG, max(long)))
    what = f"state at a cursor of a run of {max(long):,} events"
    table.goals = [
        Goal(f"{what}, p95", largest.quantile(0.95), 3, unit="ms"),
        Goal(f"{what}, p99", largest.quantile(0.99), 10, unit="ms"),
    ]
    table.charts = [_state_chart(rows)]
    return table


def _name(kind: str, size: int) -> str:
    """Return the name of a row."""
    return f"{kind}; {size:,} events"


def _cursors(
    log: eventlog.Log,
    count: int,
    find: Callable[[eventlog.Log, int], Any],
    span: tuple[int, int] | None = None,
) -> Measure:
    """Return what finds the state at cursors that are others in every round, the last first.

    So a state that is stored by hand at one is no shortcut to the next.
    """
    first, last = span or _span(log)

    def measure(number: int) -> list[float]:
        source = random.Random(number)
        cursors = sorted((source.randint(first, last) for _ in range(count)), reverse=True)
        return [sample / 1e3 for sample in timed(cursors, lambda cursor: find(log, cursor))]

    return measure


def _anew(path: Path, count: int) -> Measure:
    """Return what finds states by a new reader each time: in a short log, one would soon have read all of it."""
    with eventlog.open(path, readonly=True) as log:
        span = _span(log)

    def measure(number: int) -> list[float]:
        samples = []
        for at in range(count):
            with eventlog.open(path, readonly=True) as log:
                samples += _cursors(log, 1, _shown, span)(number * count + at)
        return samples

    return measure


def _open(path: Path, count: int) -> Measure:
    """Return what finds states in a log that stays open; in every round it is opened once."""

    def measure(number: int) -> list[float]:
        with eventlog.open(path, readonly=True) as log:
            return _cursors(log, count, _shown)(number)

    return measure


def _span(log: eventlog.Log) -> tuple[int, int]:
    """Return the first and the last seq of the long run; its events are the newest of the log, without a gap."""
    info = next(info for info in log.branches(RUN) if info.branch == "main")
    return info.last_seq - info.events + 1, info.last_seq


def _shown(log: eventlog.Log, cursor: int) -> Any:
    """Return the state with the help of stored ones, as the API gives it."""
    return log.state(RUN, to=cursor)


def _refolded(log: eventlog.Log, cursor: int) -> Any:
    """Return the state without that help."""
    return refold_state(log.reader, RUN, "main", cursor)


def _state_chart(rows: Iterable[Row]) -> Chart:
    """Return the p95 over the number of events."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        kind, _, size = row.name.rpartition("; ")
        points.setdefault(kind, []).append((float(size.split()[0].replace(",", "")), row.quantile(0.95)))
    curves = [Curve(kind, found) for kind, found in points.items()]
    return Chart("read_state", "The state at any cursor", "events of the run", "p95, ms", curves)


# -- streams and stored states -----------------------------------------------------------------


def _stream(path: Path, size: int, scale: Scale) -> Table:
    """Measure all events in order, beside a plain query, and the fold of events that are in memory."""
    with eventlog.open(path, readonly=True) as log:
        branch = log.reader.branch_id(RUN, "main")
        stored = list(log.reader.stored(branch))
        db = sqlite3.connect(path)

        def fold() -> None:
            fold_events(stored, run=RUN, branch="main")

        acts: dict[str, Callable[[], None]] = {
            SELECT: lambda: _drain(db.execute("SELECT seq, payload FROM events ORDER BY seq")),
            STORED: lambda: _drain(log.reader.stored(branch)),
            EVENTS: lambda: _drain(log.events(RUN)),
            FOLD: fold,
        }
        rows = take_turns({name: _per_event(act, size) for name, act in acts.items()}, TURNS[scale])
        db.close()
    table = Table(f"One event of {size:,}, read in order", "µs", rows)
    chars = sum(len(event.payload) for event in stored) / size
    table.notes = [f"{row.name}: {_speed(row, chars)}" for row in rows]
    return table


def _drain(items: Iterable[Any]) -> None:
    """Take everything, keep nothing."""
    deque(items, maxlen=0)


def _per_event(act: Callable[[], None], size: int) -> Measure:
    """Return what measures the microseconds per event."""
    return lambda _number: [seconds(act) / size * 1e6]


def _speed(row: Row, chars: float) -> str:
    """Return events and payload per second."""
    per_s = 1e6 / row.quantile(0.5)
    return f"{per_s:,.0f} events/s, {per_s * chars / 1e6:.1f} MB/s of payload"


def _snapshots(path: Path, size: int, scale: Scale) -> Table:
    """Measure what it takes to store a state by hand beyond making it."""
    count = sized(scale, smoke=3, quick=30, full=60)

    def made(number: int) -> list[float]:
        with eventlog.open(_fresh(path)) as log:
            return _cursors(log, count, lambda log, at: rebuild_state(log.reader, RUN, "main", at))(number)

    def stored(number: int) -> list[float]:
        with eventlog.open(_fresh(path)) as log:
            return _cursors(log, count, lambda log, at: log.snapshot(RUN, to=at))(number)

    rows = take_turns({"the state is made": made, "it is made and stored: log.snapshot": stored}, TURNS[scale])
    table = Table(f"A state stored by hand, in a run of {size:,} events", "ms", rows)
    table.notes = [_stored_states(path)]
    return table


def _fresh(path: Path) -> Path:
    """Return a copy of a log without the states that were stored by hand in the last one: they are shortcuts."""
    return Path(shutil.copy(path, path.with_suffix(".copy")))


def _stored_states(path: Path) -> str:
    """Return what the states that were stored without being asked for take of a file."""
    sql = "SELECT count(*), coalesce(sum(length(state)), 0) FROM snapshots WHERE state <> ''"
    db = sqlite3.connect(path)
    count, chars = db.execute(sql).fetchone()
    db.close()
    share = chars / path.stat().st_size
    return f"stored by itself: {count} states of {chars / max(count, 1) / 1e3:.1f} KB, {share:.1%} of the file"


# -- the command line --------------------------------------------------------------------------


def _commands(long: dict[int, Path], scale: Scale) -> Table:
    """Measure the time from the start of a process to its first output, or to its end without one."""
    smallest, largest = min(long), max(long)
    ours: dict[str, tuple[str, ...]] = {HELP: ("--help",)}
    for size in sized(scale, smoke=(largest,), quick=(largest,), full=(smallest, largest)):
        db = ("--db", str(long[size]))
        ours |= {
            _name(RUNS, size): ("runs", *db),
            _name("eventlog replay --to N", size): ("replay", RUN, "--to", str(size // 2 + size // 4), *db),
            _name("eventlog log | head -1", size): ("log", *db),
        }
    variants = {PYTHON: _first_output("-c", "pass")}
    variants |= {name: _first_output("-m", "eventlog.cli", *args) for name, args in ours.items()}
    table = Table("From the start of a process to its first output", "ms", take_turns(variants, TURNS[scale]))
    table.goals = [
        Goal(
            f"start of `{RUNS}` with{name.partition(';')[2]} beyond that of Python, median",
            _beyond(table.row(name), table.row(PYTHON)),
            0.25,
            unit="s",
        )
        for name in ours
        if name.startswith(RUNS)
    ]
    return table


def _first_output(*args: str) -> Measure:
    """Return what starts Python, waits for a line and leaves as ``head -1`` does."""

    def measure(_number: int) -> list[float]:
        start = time.perf_counter()
        with subprocess.Popen([sys.executable, *args], stdout=subprocess.PIPE) as child:
            if child.stdout is not None:
                child.stdout.readline()
            took = time.perf_counter() - start
        return [took * 1e3]

    return measure


def _beyond(row: Row, base: Row) -> float:
    """Return the seconds that a row takes more than the baseline, the median over the rounds."""
    pairs = zip(row.rounds, base.rounds, strict=True)
    return statistics.median(own[0] - other[0] for own, other in pairs) / 1e3
