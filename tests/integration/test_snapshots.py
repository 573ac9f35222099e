"""Snapshots are shortcuts: they change no answer, bound what a reader reads, and hurt nobody who appends."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog import errors
from eventlog.read import Reader
from eventlog.replay import snapshots
from eventlog.replay.state import RunState
from tests.integration.oracle import WatchedLLM
from tests.integration.recording import start
from tests.scenarios import NAMES, World, build

LONG = 4_300
NOTE = {"text": "x" * 40}


def without_snapshots(path: Path, read: Callable[[], Any]) -> Any:
    """Return what ``read`` returns once every snapshot is gone."""
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM snapshots")
    db.close()
    return read()


def rows(path: Path) -> list[tuple[Any, ...]]:
    """Return seq, kind, trigger and size of every snapshot."""
    db = sqlite3.connect(path)
    found = db.execute("SELECT seq, kind, trigger, length(state) FROM snapshots ORDER BY seq").fetchall()
    db.close()
    return found


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until the thread has done its work; fails after ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of one run of many small events."""
    path = tmp_path_factory.mktemp("long") / "log.db"
    with eventlog.open(path) as log:
        for _ in range(LONG // 100):
            log.append_many([("note.taken", NOTE)] * 100, run="r")
    return path


def test_snapshots_of_real_runs_change_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state at every cursor of every scenario, with a state stored every few events and with none."""
    monkeypatch.setattr(snapshots, "CACHE_EVENTS_MIN", 7)
    monkeypatch.setattr(snapshots, "CACHE_BYTES_FACTOR", 0)
    path = tmp_path / "log.db"
    with eventlog.open(path) as log:
        for name in NAMES:
            with log.run(name):
                start(build(name, World(WatchedLLM)))
    with eventlog.open(path, readonly=True) as log:
        cursors = [(name, event.seq) for name in NAMES for event in log.events(name)]
        kept = Counter(bool(size) for *_, size in rows(path))

        def states() -> list[RunState]:
            return [log.state(name, to=seq) for name, seq in cursors]

        before = states()

        assert kept[True] > len(NAMES)
        assert before == without_snapshots(path, states)


def test_a_state_is_stored_every_two_hundred_events(long_log: Path) -> None:
    """No more often: a fixed part of the file; no less: a bounded part to read."""
    found = rows(long_log)

    assert [seq for seq, *_ in found] == list(range(200, LONG + 1, 200))
    assert {(kind, trigger) for _, kind, trigger, _ in found} == {("cache", "note.taken")}


def test_a_late_cursor_costs_no_more_than_an_early_one(long_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in events read, wherever the cursor stands."""
    read: list[int] = []
    original = Reader._stored

    def counted(reader: Reader, row: Any) -> Any:
        read.append(row[0])
        return original(reader, row)

    monkeypatch.setattr(Reader, "_stored", counted)
    with eventlog.open(long_log, readonly=True) as log:
        for cursor in (1, 199, 200, 201, 2_750, LONG):
            read.clear()
            state = log.state("r", to=cursor)

            assert state.event_count == cursor
            assert len(read) <= snapshots.CACHE_EVENTS_MIN


def test_a_state_that_grows_is_stored_ever_more_seldom(tmp_path: Path) -> None:
    """All stored states together are smaller than what was appended, however the state grows."""
    path = tmp_path / "log.db"
    with eventlog.open(path) as log:
        for number in range(30):
            log.append_many([(f"kind.k{number}-{i}", {}) for i in range(100)], run="r")
    found = rows(path)
    appended = sum(len(f"kind.k{n}-{i}") for n in range(30) for i in range(100))

    assert sum(size for *_, size in found) < appended
    assert len(found) < 30 * 100 / snapshots.CACHE_EVENTS_MIN


def test_event_types_that_were_chosen_make_checkpoints(tmp_path: Path) -> None:
    """A mark each; the state itself only where it pays."""
    path = tmp_path / "log.db"
    with eventlog.open(path, snapshot_on=("deal.closed",)) as log:
        seqs = [log.append(kind, {}, run="r") for kind in ("a.b", "deal.closed", "a.b", "deal.closed")]

    assert rows(path) == [(seqs[1], "checkpoint", "deal.closed", 0), (seqs[3], "checkpoint", "deal.closed", 0)]


def test_every_event_makes_a_checkpoint_when_all_are_chosen(tmp_path: Path) -> None:
    """``"*"`` is CrewAI's word for it."""
    path = tmp_path / "log.db"
    with eventlog.open(path, snapshot_on=("*",)) as log:
        seqs = [log.append("a.b", {}, run="r") for _ in range(5)]

    assert [seq for seq, *_ in rows(path)] == seqs


@pytest.mark.parametrize("durability", ["commit", "batch"])
def test_a_finished_task_makes_a_checkpoint_while_the_log_is_open(tmp_path: Path, durability: Any) -> None:
    """Also in ``batch`` mode, where an event is told of before it is in the file."""
    path = tmp_path / "log.db"
    with eventlog.open(path, durability=durability, batch_ms=200) as log, log.run("r"):
        start(build("sequential_react"))
        log.flush()
        done = [event.seq for event in log.events("r", types=["task_completed"])]
        wait_for(lambda: len(rows(path)) == len(done))

    assert [(seq, kind, trigger) for seq, kind, trigger, _ in rows(path)] == [
        (seq, "checkpoint", "task_completed") for seq in done
    ]


def test_a_checkpoint_by_hand_stores_the_state(tmp_path: Path) -> None:
    """Also where an event type left a mark, and not the other way round."""
    path = tmp_path / "log.db"
    with eventlog.open(path, snapshot_on=("a.done",)) as log:
        log.append("a.b", {}, run="r")
        cut = log.append("a.done", {}, run="r")
        made = log.snapshot("r")
        asynchronous = asyncio.run(log.asnapshot("r", to=cut - 1))
        log.append("a.done", {}, run="r")
    found = {seq: (kind, size) for seq, kind, _, size in rows(path)}

    assert (made.seq, asynchronous.seq) == (cut, cut - 1)
    assert found[cut] == ("checkpoint", made.payload_bytes)
    assert found[cut - 1] == ("checkpoint", asynchronous.payload_bytes)
    assert found[cut + 1] == ("checkpoint", 0)


def test_a_checkpoint_by_hand_says_when_it_fails(tmp_path: Path) -> None:
    """Somebody asked for it; silence would be a promise."""
    with eventlog.open(tmp_path / "log.db") as log:
        log.append("a.b", {}, run="r")
        with pytest.raises(errors.RunNotFoundError):
            log.snapshot("nobody")
        with sqlite3.connect(log.path) as db:
            db.execute("ALTER TABLE snapshots RENAME TO gone")
        db.close()

        with pytest.raises(errors.EventLogError):
            asyncio.run(log.asnapshot("r"))


def test_a_damaged_snapshot_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was only a shortcut: the one before it serves, or the events themselves."""
    path = tmp_path / "log.db"
    with eventlog.open(path) as log:
        for _ in range(11):
            log.append_many([("note.taken", NOTE)] * 100, run="r")
        good = log.state("r")
    damage = ("{", '{"run":"r"}', '{"cursor":3,"run":"r","branch":"main"}', "[" * 3_000)
    for text in damage:
        with sqlite3.connect(path) as db:
            db.execute("UPDATE snapshots SET state = ? WHERE seq = (SELECT max(seq) FROM snapshots)", (text,))
        db.close()
        with eventlog.open(path, readonly=True) as log:
            assert log.state("r") == good

    assert caplog.text.count("snapshot_ignored") == len(damage)


def test_a_snapshot_of_another_fold_version_is_not_used(tmp_path: Path) -> None:
    """An older version may have folded the same events differently."""
    path = tmp_path / "log.db"
    with eventlog.open(path) as log:
        log.append("a.b", {}, run="r")
        log.snapshot("r")
        good = log.state("r")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE snapshots SET version = version - 1, state = json_set(state, '$.event_count', 9)")
    db.close()

    with eventlog.open(path, readonly=True) as log:
        assert log.state("r") == good


def test_a_store_that_fails_never_reaches_who_appends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The events are safe, the failure is logged, and later snapshots are made again."""
    path = tmp_path / "log.db"
    with eventlog.open(path, snapshot_on=("a.done",)) as log:
        snapshotter = log.writer.snapshots
        store = snapshotter._store
        snapshotter._store = _failing
        first = log.append("a.done", {}, run="r")
        wait_for(lambda: "snapshot_failed" in caplog.text)
        snapshotter._store = store
        second = log.append("a.done", {}, run="r")
        wait_for(lambda: len(rows(path)) == 2)

        assert log.status().failed == 0

    assert [seq for seq, *_ in rows(path)] == [first, second]


def _failing(row: object, is_current: object) -> None:
    """Fail in a way nobody foresaw."""
    raise ZeroDivisionError("disk on fire")


def test_a_slow_store_does_not_hold_up_who_appends(tmp_path: Path) -> None:
    """Snapshots have a thread of their own."""
    entered, leave = threading.Event(), threading.Event()
    with eventlog.open(tmp_path / "log.db", snapshot_on=("a.done",)) as log:

        def store(row: object, is_current: object) -> None:
            entered.set()
            leave.wait(10)

        log.writer.snapshots._store = store
        log.append("a.done", {}, run="r")
        assert entered.wait(10)

        assert [log.append("a.b", {}, run="r") for _ in range(50)] == list(range(2, 52))
        leave.set()


def test_appending_without_threads_goes_on_without_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the interpreter exits no thread can be started; closing does the work then."""
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    path = tmp_path / "log.db"
    with eventlog.open(path, snapshot_on=("a.done",)) as log:
        seq = log.append("a.done", {}, run="r")
        assert log.status().failed == 0

    assert [found for found, *_ in rows(path)] == [seq]


def _refuse(thread: threading.Thread) -> None:
    """Do what Python does at its end."""
    raise RuntimeError("can't create new thread at interpreter shutdown")


def test_processes_that_append_little_make_a_snapshot_together(tmp_path: Path) -> None:
    """None of them has two hundred events of its own; the branch has."""
    path = tmp_path / "log.db"
    for _ in range(6):
        with eventlog.open(path) as log:
            log.append_many([("note.taken", NOTE)] * 50, run="r")

    assert [(seq, kind) for seq, kind, *_ in rows(path)] == [(200, "cache")]


def test_marks_are_made_once_however_often_the_log_is_opened(tmp_path: Path) -> None:
    """A process that takes over folds from the last stored state, and makes nothing of what is made."""
    path = tmp_path / "log.db"
    for _ in range(3):
        with eventlog.open(path, snapshot_on=("a.done",)) as log:
            log.append_many([("note.taken", NOTE)] * 80, run="r")
            log.append("a.done", {}, run="r")
    found = rows(path)

    assert [(seq, kind) for seq, kind, *_ in found] == [
        (81, "checkpoint"), (162, "checkpoint"), (200, "cache"), (243, "checkpoint")
    ]  # fmt: skip
    assert [bool(size) for *_, size in found] == [False, False, True, False]


def test_closing_twice_or_with_a_closed_pipeline_is_harmless(tmp_path: Path) -> None:
    """Order of destruction is nobody's duty."""
    log = eventlog.open(tmp_path / "log.db", snapshot_on=("a.done",))
    log.append("a.done", {}, run="r")
    log.writer.pipeline.close()
    log.writer.snapshots.close()
    log.writer.snapshots.close()
    log.close()
    log.close()

    with eventlog.open(tmp_path / "log.db", readonly=True) as again:
        assert [event.type for event in again.events("r")] == ["a.done"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_parent_and_child_of_a_fork_both_make_snapshots(tmp_path: Path) -> None:
    """The thread stays with the parent; the child gets its own, and nobody waits for the other's locks."""
    path = tmp_path / "log.db"
    with eventlog.open(path, snapshot_on=("a.done",)) as log:
        for _ in range(20):
            log.append("a.done", {}, run="r")
        child = os.fork()
        if child == 0:
            log.append("a.done", {}, run="child")
            log.close()
            os._exit(0)
        log.append("a.done", {}, run="r")

        assert os.waitpid(child, 0)[1] == 0
    with eventlog.open(path, readonly=True) as log:
        wanted = [event.seq for event in log.events()]

    assert [seq for seq, *_ in rows(path)] == wanted
