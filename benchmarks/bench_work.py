"""What people do with a log: fork it, shrink it, prove it, copy it, go on with a run that was killed."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eventlog
from benchmarks import logs
from benchmarks.bench_append import pages
from benchmarks.children import BARE, run_child
from benchmarks.crews import small_crew
from benchmarks.logs import RUN
from benchmarks.report import Chart, Curve, Goal, Row, Table
from benchmarks.timing import Measure, Scale, seconds, sized, take_turns
from eventlog.cli.measuring import timed
from eventlog.transfer.exports import export_lines

TURNS = {"smoke": 1, "quick": 1, "full": 5}
"""Rounds: building the logs takes most of the time."""
KICKOFF_EVENTS = 400
PAUSE_S = 0.0002
"""Between two appends of a writer while old events go in the background."""
CHECKPOINT_EVERY, COMPACT_EVENTS = 500, 1_000
NEVER, KEPT = "append, never compacted", "append, max_checkpoints=2, every 1,000 events"
NEW, NEW_LOGGED, RESUMED = "a new run, without a log", "a new run, with a log", "eventlog: a run that was killed"


def run(folder: Path, scale: Scale) -> list[Table]:
    """Measure forks, compactions, what goes through a whole log, and resuming."""
    size = sized(scale, smoke=400, quick=2_000, full=10_000)
    log = logs.build(folder / "kickoffs.db", size, kickoff_events=KICKOFF_EVENTS)
    return [
        _forks(folder, scale),
        _compactions(_recorded(folder, scale), scale),
        _pauses(folder, scale),
        _whole_logs(log, scale),
        _resumes(folder, scale),
    ]


# -- forks -------------------------------------------------------------------------------------


def _forks(folder: Path, scale: Scale) -> Table:
    """Measure forks at cursors drawn at random, in a fresh copy of the log for every round."""
    sizes = sized(scale, smoke=(100, 400), quick=(100, 1_000), full=(100, 1_000, 10_000, 100_000))
    count = sized(scale, smoke=3, quick=20, full=20)
    built = {size: logs.build(folder / f"fork{size}.db", size) for size in sizes}
    variants = {f"fork of a run of {size:,} events": _forked(path, count) for size, path in built.items()}
    table = Table(f"A fork, {count} from each copy of a log", "ms", take_turns(variants, TURNS[scale]))
    medians = [row.quantile(0.5) for row in table.rows]
    table.goals = [Goal(f"fork of a run of {sizes[-1]:,} events, p50", medians[-1], 2, unit="ms")]
    curve = Curve("eventlog: fork", [(float(size), ms) for size, ms in zip(sizes, medians, strict=True)])
    table.charts = [Chart("work_fork", "A fork at any event", "events of the run", "p50, ms", [curve], axes="log x")]
    return table


def _forked(path: Path, count: int) -> Measure:
    """Return what forks a copy of a log again and again."""

    def measure(number: int) -> list[float]:
        source, copy = random.Random(number), shutil.copy(path, path.with_suffix(".copy"))
        with eventlog.open(copy) as log:
            last = log.branches(RUN)[0].last_seq
            cursors = [source.randint(last // 2, last) for _ in range(count)]
            samples = timed(cursors, lambda cursor: log.fork(RUN, to=cursor))
        return [sample / 1e3 for sample in samples]

    return measure


# -- compactions -------------------------------------------------------------------------------


def _recorded(folder: Path, scale: Scale) -> Path:
    """Return a log of kickoffs that really happened: copies of events would bring no texts of their own to drop."""
    path = folder / "recorded.db"
    with eventlog.open(path) as log, log.run(RUN):
        for _ in range(sized(scale, smoke=2, quick=10, full=60)):
            small_crew(rounds=6, tasks=2).kickoff()
    return path


def _compactions(path: Path, scale: Scale) -> Table:
    """Measure a compaction by hand down to the newest checkpoint, in a fresh copy for every round."""
    facts: list[Any] = []

    def measure(_number: int) -> list[float]:
        with eventlog.open(shutil.copy(path, path.with_suffix(".copy"))) as log:
            return [seconds(lambda: facts.append(log.compact(max_checkpoints=1))) * 1e3]

    rows = take_turns({"log.compact(max_checkpoints=1)": measure}, TURNS[scale])
    report = facts[-1]
    mb, after = report.bytes_before / 1e6, report.bytes_after / 1e6
    table = Table(f"A compaction of {report.events_before:,} events of recorded crews", "ms", rows)
    table.notes = [
        f"{mb:.1f} MB become {after:.1f} MB: {mb / rows[0].quantile(0.5) * 1e3:.1f} MB/s",
        f"{report.events_before:,} events become {report.events_after:,}",
    ]
    return table


def _pauses(folder: Path, scale: Scale) -> Table:
    """Measure what a writer feels of compactions in the background, beside a log that is never compacted."""
    count = sized(scale, smoke=100, quick=1_200, full=3_000)
    place = folder / "pauses"
    place.mkdir()
    variants = {
        NEVER: _appended(place / "never", count),
        KEPT: _appended(place / "kept", count, max_checkpoints=2, compact_events=COMPACT_EVENTS),
    }
    rounds = sized(scale, smoke=1, quick=1, full=5)
    table = Table("An append while old events go in the background", "µs", take_turns(variants, rounds))
    sizes = [(place / f"{name}{rounds}.db").stat().st_size / 1e6 for name in ("never", "kept")]
    table.notes = [
        f"longest append: {' and '.join(f'{row.samples[-1] / 1e3:.1f} ms' for row in table.rows)}",
        f"file after {count:,} events: {' and '.join(f'{size:.1f} MB' for size in sizes)}",
    ]
    return table


def _appended(path: Path, count: int, **options: Any) -> Measure:
    """Return what appends events of the user's at a pace, with a checkpoint now and then."""

    def measure(number: int) -> list[float]:
        samples = []
        with eventlog.open(path.with_name(f"{path.name}{number}.db"), **options) as log:
            for at, page in enumerate(pages(count, 900, seed=number)):
                samples += timed([page], lambda made: log.append("bench.page", made, run=RUN))
                if at % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1:
                    log.snapshot(RUN)
                time.sleep(PAUSE_S)
        return samples

    return measure


# -- through a whole log -----------------------------------------------------------------------


def _whole_logs(path: Path, scale: Scale) -> Table:
    """Measure proofs and copies of a log, beside what SQLite has to offer."""
    with eventlog.open(path, readonly=True) as log:
        db = sqlite3.connect(path)
        events = sum(info.events for info in log.runs())
        acts: dict[str, Callable[[Path], Any]] = {
            "PRAGMA integrity_check": lambda _: db.execute("PRAGMA integrity_check").fetchall(),
            "log.verify()": lambda _: log.verify(),
            "log.verify(deep=True)": lambda _: log.verify(deep=True),
            "backup of sqlite3": lambda target: _bare_backup(db, target),
            "log.backup: copied and verified": log.backup,
            "export to JSON lines": lambda target: _exported(log, target),
        }
        variants = {name: _through(act, path.with_name(f"copy{at}")) for at, (name, act) in enumerate(acts.items())}
        rows = take_turns(variants, TURNS[scale])
        db.close()
    mb = path.stat().st_size / 1e6
    table = Table(f"Through a log of {events:,} events and {mb:.1f} MB", "ms", rows)
    table.notes = [_speed(row.name, row.quantile(0.5) / 1e3, events, mb) for row in rows]
    return table


def _through(act: Callable[[Path], Any], target: Path) -> Measure:
    """Return what does something with a whole log, and perhaps a file that is not there yet."""
    return lambda number: [seconds(lambda: act(target.with_suffix(f".{number}"))) * 1e3]


def _bare_backup(db: sqlite3.Connection, target: Path) -> None:
    """Copy a database as anybody would."""
    copy = sqlite3.connect(target)
    db.backup(copy)
    copy.close()


def _exported(log: eventlog.Log, target: Path) -> None:
    """Write all runs as lines."""
    with target.open("wb") as file:
        file.writelines(export_lines(log, None))


def _speed(name: str, took_s: float, events: int, mb: float) -> str:
    """Return events and bytes of the log per second."""
    return f"{name}: {events / took_s:,.0f} events/s, {mb / took_s:.1f} MB/s"


# -- resuming ----------------------------------------------------------------------------------


def _resumes(folder: Path, scale: Scale) -> Table:
    """Measure from the start of a process to its first question to a model; of new runs, and of one that was killed."""
    tasks, rounds, turns = sized(scale, smoke=(2, 2, 1), quick=(4, 4, 1), full=(6, 6, 3))
    kill_at = tasks * (rounds + 1) * 3 // 4
    killed, out = folder / "killed.db", folder / "first.json"
    run_child("first_call", out, killed, tasks, rounds, kill_at)
    starts: dict[str, Callable[[int], object]] = {
        RESUMED: lambda number: _copied(killed, folder / f"resumed{number}.db"),
        NEW: lambda _: BARE,
        NEW_LOGGED: lambda number: folder / f"new{number}.db",
    }
    names = sized(scale, smoke=(RESUMED,), quick=(NEW, RESUMED), full=(NEW, NEW_LOGGED, RESUMED))
    rows, calls = {name: Row(name, []) for name in names}, dict.fromkeys(names, 0)
    for number in range(turns):  # a process needs no round that warms it up
        for name in names:
            path, start = starts[name](number), time.monotonic()
            found = run_child("first_call", out, path, tasks, rounds, 0)
            rows[name].rounds.append([(found["first"] - start) * 1e3])
            calls[name] = found["calls"]
    title = "From the start of a process to its first question to a model"
    table = Table(f"{title} (each {turns} x)", "ms", list(rows.values()))
    table.notes = _calls(killed, folder, calls)
    return table


def _calls(killed: Path, folder: Path, calls: dict[str, int]) -> list[str]:
    """Return how many answers the killed process left, and how many calls each program made."""
    with eventlog.open(_copied(killed, folder / "look.db"), readonly=True) as log:
        saved = log.state(RUN).llm.calls
    made = [f"{name}: {count} calls of the model" for name, count in calls.items()]
    return [f"the killed process left {saved} answers, that many calls are saved", *made]


def _copied(path: Path, target: Path) -> Path:
    """Return a copy of a log whose process was killed: its newest events may be beside it."""
    for ending in ("", "-wal"):
        beside = path.with_name(path.name + ending)
        if beside.exists():
            shutil.copy(beside, target.with_name(target.name + ending))
    return target
