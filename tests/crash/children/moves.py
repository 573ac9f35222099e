"""A crew that works on while its log's file is deleted, moved away or replaced."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import eventlog
from eventlog import EventLogListener, pipeline
from eventlog.errors import AppendError
from tests.crash.children.disks import RUN, kick_off, say, timed_emits, wait_until
from tests.crash.children.witness import begin_another, watch

HELD = "SELECT 1 FROM branches WHERE name = 'main' AND lease_until_ns IS NOT NULL AND epoch = ?"
MOVES_AT, COMES_BACK_AT = 3, 5
"""The model calls at which something happens to the file."""


# -- what happens to the file ---------------------------------------------------------------------


def deleted(path: Path) -> None:
    """The file alone is gone; its WAL stays."""
    path.unlink()


def deleted_with_neighbours(path: Path) -> None:
    """All of it is gone."""
    for name in path.parent.glob("log.db*"):
        name.unlink()


def wal_deleted(path: Path) -> None:
    """Only its WAL is gone."""
    path.with_name("log.db-wal").unlink()


def moved_away(path: Path) -> None:
    """It has another name now."""
    path.rename(path.with_name("elsewhere.db"))


def replaced_by_a_copy(path: Path) -> None:
    """A backup of it, made a moment ago, takes its place."""
    copy_of(path, path.with_name("backup.db"))
    path.with_name("backup.db").rename(path)


def replaced_by_an_older_copy(path: Path) -> None:
    """A backup of it takes its place that lacks what came since."""
    path.with_name("older.db").rename(path)


def replaced_by_a_new_log(path: Path) -> None:
    """Another log takes its place."""
    with eventlog.open(path.with_name("new.db")) as log:
        log.append("test.new", {"n": -1})
    path.with_name("new.db").rename(path)


def replaced_by_a_stranger(path: Path) -> None:
    """A file that is no log takes its place, until the log comes back."""
    path.rename(path.with_name("elsewhere.db"))
    path.write_text("precious")


def stranger_leaves(path: Path) -> None:
    """The log is where it was."""
    assert path.read_text() == "precious"
    path.with_name("elsewhere.db").rename(path)


def folder_deleted(path: Path) -> None:
    """It is gone with all around it."""
    shutil.rmtree(path.parent)


def folder_made(path: Path) -> None:
    """There is a place for it again."""
    assert not path.parent.exists()
    path.parent.mkdir()


def copy_of(path: Path, other: Path) -> None:
    """Make a copy as a backup does, WAL included."""
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(other)) as copy:
        db.backup(copy)


# -- cases ----------------------------------------------------------------------------------------


def crew(folder: Path, *, move: str, back: str = "", durability: Any = "commit", leased: bool = False) -> None:
    """Run a crew without a log, then with one to whose file something happens; report both results and what was said.

    Files are told apart afterwards by where the witnessed events are.
    """
    pipeline.DEGRADED_WAIT_S = 0.005
    waits = timed_emits()
    expected = str(kick_off(lambda call: None))
    place = folder / "place"
    place.mkdir()
    path = place / "log.db"
    listener = EventLogListener(path, run=RUN, durability=durability, batch_ms=5)
    reader = eventlog.open(path, readonly=True)
    lease = listener.log.writer.take_lease(RUN) if leased else None
    watch(folder)
    during: list[Any] = []

    def on_call(call: int) -> None:
        if call == MOVES_AT - 1:
            copy_of(path, path.with_name("older.db"))
        if call == MOVES_AT:
            assert listener.log.flush()
            begin_another(folder)
            globals()[move](path)
        if call == COMES_BACK_AT:
            wait_until(lambda: not back or "stands in its place" in str(listener.log.status().degraded), 1)
            during.append(listener.log.status().degraded)
            if back:
                globals()[back](path)
            wait_until(lambda: listener.log.status().degraded is None)

    waits.clear()
    result = str(kick_off(on_call))
    assert listener.log.flush()
    seen = [len(list(log.events(RUN))) for log in (listener.log, reader)]
    facts = {"expected": expected, "result": result, "during": during, "longest": max(waits), "seen": seen}
    if lease is not None:
        facts["lost"] = lease.is_lost
        facts["held"] = len(listener.log.reader.query(HELD, (lease.epoch,)))
    say(folder, listener.log, **facts)
    os._exit(0)  # as if killed: everything has to be there


def writers(folder: Path, *, move: str, processes: int, events: int) -> None:
    """Append from several processes while something happens to the file; each notes what was acknowledged.

    Each goes on for a number of ``events`` after that, and looks where the path leads before it ends.
    """
    path = folder / "log.db"
    eventlog.open(path).close()
    pids = []
    for number in range(processes):
        pid = os.fork()
        if pid == 0:
            append_all(path, folder / f"acknowledged.{number}", number * 100_000, events)
            os._exit(0)
        pids.append(pid)
    wait_until(lambda: all(lines(folder / f"acknowledged.{n}") > events // 4 for n in range(processes)))
    globals()[move](path)
    (folder / "moved").touch()
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * processes


def append_all(path: Path, witness: Path, first: int, events: int) -> None:
    """Append numbers, noting each whose append returned; one that is refused is tried again under its id."""
    log, moved = eventlog.open(path), path.with_name("moved")
    left, n = events, first
    with witness.open("a", buffering=1) as file:
        while left:
            try:
                log.append("test.appended", {"n": n}, event_id=f"event-{n}", run=f"run{first}")
            except AppendError:
                time.sleep(0.01)
                continue
            file.write(f"{n}\n")
            n += 1
            left -= moved.exists()
    assert log.flush()


def lines(path: Path) -> int:
    """Return how many lines a file has."""
    return len(path.read_text().splitlines()) if path.exists() else 0
