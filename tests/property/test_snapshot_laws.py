"""Laws of snapshots: wherever they stand, whatever the history, no answer depends on them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

import eventlog
from eventlog.record import NewEvent, StoredEvent
from eventlog.replay import snapshots
from eventlog.replay.rebuild import rebuild_state
from eventlog.replay.state import RunState
from tests.property.test_fold_laws import HISTORIES

EXAMPLES = settings(max_examples=25)
"""Each makes a file; the fold's own laws are tried with many more, in memory."""
FORK = (
    "INSERT INTO branches (run, name, parent, fork_seq, created_ns)"
    " SELECT runs.id, 'fork', branches.id, ?, 0 FROM runs JOIN branches ON branches.run = runs.id"
    " WHERE runs.name = 'r' AND branches.name = 'main'"
)


@contextmanager
def new_log(every: int, factor: int) -> Iterator[eventlog.Log]:
    """Return an empty log that stores a state every few events."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(snapshots, CACHE_EVENTS_MIN=every, CACHE_BYTES_FACTOR=factor),
        eventlog.open(Path(folder) / "log.db", snapshot_on=("task_completed", "x.y")) as log,
    ):
        yield log


def append(log: eventlog.Log, history: list[StoredEvent], branch: str = "main") -> None:
    """Append a history as capture does, in batches, and an event of the user's after it."""
    events = [_new_event(event, branch) for event in history]
    for batch in (events[:7], events[7:]):
        if batch:
            log.writer.pipeline.submit(batch)
            for event in batch:
                log.writer.appended(event)
    log.append("x.y", {"n": len(history)}, run="r", branch=branch)


def _new_event(event: StoredEvent, branch: str) -> NewEvent:
    """Return an event as it comes to the appender: text that is UTF-8, times SQLite can keep."""
    return NewEvent(
        type=event.type,
        event_id=f"{branch}-{event.event_id}",
        at_ns=min(max(event.at_ns, -(2**63)), 2**63 - 1),
        payload=event.payload.decode("utf-8", "replace").encode(),
        run="r",
        branch=branch,
        started_event_id=f"{branch}-{event.started_event_id}" if event.started_event_id else None,
        task=(event.task_id, event.task_name or "") if event.task_id else None,
        agent=("a", event.agent_role) if event.agent_role else None,
        path=tuple(event.path.strip("/").split("/")) if event.path.strip("/") else (),
    )


def settle(log: eventlog.Log) -> None:
    """Let the snapshots be made."""
    log.writer.snapshots.catch_up()


def states(log: eventlog.Log, branch: str = "main") -> list[RunState]:
    """Return the state at every cursor."""
    reader = log.reader
    return [rebuild_state(reader, "r", branch, event.seq) for event in reader.stored(reader.branch_id("r", branch))]


def delete_snapshots(log: eventlog.Log) -> int:
    """Take every snapshot away and return how many held a state."""
    with closing(sqlite3.connect(log.path)) as db, db:
        count = int(db.execute("SELECT count(*) FROM snapshots WHERE state <> ''").fetchone()[0])
        db.execute("DELETE FROM snapshots")
    return count


@EXAMPLES
@given(HISTORIES, st.integers(1, 6), st.integers(0, 2))
def test_deleting_every_snapshot_changes_no_state(history: list[StoredEvent], every: int, factor: int) -> None:
    """At every cursor, whether states are stored often or seldom."""
    with new_log(every, factor) as log:
        append(log, history)
        settle(log)
        before = states(log)

        assert delete_snapshots(log) > 0 or factor or every > len(history)
        assert states(log) == before


@EXAMPLES
@given(HISTORIES, st.data())
def test_a_checkpoint_by_hand_anywhere_changes_no_state(history: list[StoredEvent], data: st.DataObject) -> None:
    """What is stored at the cut is the state at the cut, and goes on as if it had been folded."""
    with new_log(1_000, 4) as log:
        append(log, history)
        before = states(log)
        cut = data.draw(st.integers(1, len(before)))
        log.snapshot("r", to=cut)
        with closing(sqlite3.connect(log.path)) as db:
            stored = db.execute("SELECT state FROM snapshots WHERE seq = ? AND state <> ''", (cut,)).fetchone()[0]

        assert msgspec.json.decode(stored, type=RunState) == before[cut - 1]
        assert states(log) == before


@EXAMPLES
@given(HISTORIES, HISTORIES, st.data())
def test_a_branch_may_continue_from_a_snapshot_of_its_parent(
    history: list[StoredEvent], later: list[StoredEvent], data: st.DataObject
) -> None:
    """One at or before the fork; those after it belong to the parent alone."""
    with new_log(3, 0) as log:
        append(log, history)
        settle(log)
        cut = data.draw(st.integers(1, len(history) + 1))
        with closing(sqlite3.connect(log.path)) as db, db:
            db.execute(FORK, (cut,))
        append(log, later, branch="fork")
        settle(log)
        main, fork = states(log), states(log, "fork")
        delete_snapshots(log)

        assert (states(log), states(log, "fork")) == (main, fork)
        assert fork[-1].event_count == cut + len(later) + 1


@EXAMPLES
@given(HISTORIES, st.integers(1, 5))
def test_two_processes_store_what_one_would(history: list[StoredEvent], every: int) -> None:
    """A follower that starts anew continues from the last stored state."""
    with new_log(every, 0) as log:
        append(log, history)
        settle(log)
        log.writer.snapshots._followers.clear()
        log.append("x.y", run="r")
        settle(log)
        before = states(log)
        delete_snapshots(log)

        assert states(log) == before
