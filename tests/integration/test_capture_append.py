"""``log.append``: events of the user's own, with the guarantees of all others."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

import eventlog
from eventlog import AppendError, BranchNotFoundError, Log, LogClosedError, SequenceConflictError
from eventlog.record import NewEvent
from tests.verifying import problems, query, stored_types

PATH = "log.db"
COLUMNS = (
    "branch, run, event_id, type, at_ns, parent, previous, triggered, started, emission, task, agent, path, flags,"
    " payload, digest"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / PATH


@pytest.fixture(params=["commit", "batch"])
def log(request: pytest.FixtureRequest, path: Path) -> Iterator[Log]:
    """A log of each mode; whole when the test is over."""
    with eventlog.open(path, durability=request.param, batch_ms=2000) as log:
        yield log

    assert list(problems(path)) == []


def test_an_append_is_committed_when_it_returns(log: Log, path: Path) -> None:
    """In every mode, also ``batch``, where it does not wait for the batch. Another connection sees it at once."""
    before = time.monotonic()
    for n in range(1, 6):
        assert log.append("invoice.sent", {"id": n}) == n

        assert len(stored_types(path)) == n
    assert time.monotonic() - before < 5  # each of them would wait for two seconds


def test_appending_twice_is_appending_once(log: Log) -> None:
    """An event id the run already has keeps its seq; the same id in another run is another event."""
    event_id = str(uuid4())
    first = log.append("invoice.sent", {"id": 1}, run="a", event_id=event_id)
    again = log.append("invoice.sent", {"id": 1}, run="a", event_id=event_id)
    other = log.append("invoice.sent", {"id": 1}, run="b", event_id=event_id)
    own = [log.append("invoice.sent", event_id="order-17", run="a") for _ in range(2)]

    assert (first, again, other, own) == (1, 1, 2, [3, 3])
    assert [e.event_id for e in log.events("a")] == [event_id, "order-17"]


def test_an_expectation_that_does_not_hold_appends_nothing(log: Log) -> None:
    """Optimistic concurrency, per branch: 0 means empty, and other runs do not count."""
    log.append("invoice.sent", run="other")
    seq = log.append("invoice.sent", {"id": 1}, run="a", expected_seq=0)

    with pytest.raises(SequenceConflictError) as conflict:
        log.append("invoice.sent", {"id": 2}, run="a", expected_seq=0)

    assert (conflict.value.branch, conflict.value.expected, conflict.value.actual) == ("a/main", 0, seq)
    assert len(list(log.events("a"))) == 1
    assert log.append("invoice.sent", {"id": 2}, run="a", expected_seq=seq) == seq + 1


def test_a_repeated_append_with_an_expectation_is_no_conflict(log: Log) -> None:
    """Who does not know whether the first attempt was committed must be able to repeat it."""
    event_id = str(uuid4())

    seqs = [log.append("invoice.sent", run="a", event_id=event_id, expected_seq=0) for _ in range(2)]

    assert seqs == [1, 1]


def test_of_many_writers_with_one_expectation_one_wins(log: Log) -> None:
    """That is what it is for."""
    barrier, won, lost = threading.Barrier(8), [], []

    def append() -> None:
        barrier.wait(10)
        try:
            won.append(log.append("job.taken", run="a", expected_seq=0))
        except SequenceConflictError as error:
            lost.append(error)

    threads = [threading.Thread(target=append) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert (won, len(lost)) == ([1], 7)


def test_many_are_appended_together_or_not_at_all(log: Log, path: Path) -> None:
    """One transaction; an event that cannot be stored takes the others with it."""
    seqs = log.append_many([("invoice.sent", {"id": n}) for n in range(5)], run="a")
    with pytest.raises(AppendError):
        log.append_many([("invoice.sent", {"id": 5}), ("eventlog.forged", {})], run="a")
    with pytest.raises(BranchNotFoundError):
        log.append_many([("invoice.sent", {"id": 6})], run="a", branch="no such branch")

    assert seqs == [1, 2, 3, 4, 5]
    assert log.append_many([]) == []
    assert stored_types(path) == ["invoice.sent"] * 5


@pytest.mark.parametrize("event_type", ["invoice", "eventlog.forged", ""])
def test_types_that_could_be_taken_for_others_are_refused(log: Log, path: Path, event_type: str) -> None:
    """Names without a dot are CrewAI's, ``eventlog.`` is ours."""
    with pytest.raises(AppendError):
        log.append(event_type, {"id": 1})
    with pytest.raises(AppendError):
        log.append("invoice.sent", [("id", 1)])  # type: ignore[arg-type]

    assert stored_types(path) == []


def test_a_closed_log_appends_nothing(path: Path) -> None:
    """And says so, instead of hanging."""
    log = eventlog.open(path)
    pipeline = log.writer.pipeline
    late = NewEvent(type="test.late", event_id="late", at_ns=0, payload=b"{}")
    log.close()

    with pytest.raises(LogClosedError):
        log.append("invoice.sent")
    with pytest.raises(LogClosedError):
        pipeline.submit([late])
    assert not pipeline.offer([late])


def test_a_seq_is_never_used_again(path: Path) -> None:
    """Not even that of a deleted tail: somebody may hold it as a cursor."""
    with eventlog.open(path) as log:
        for n in range(5):
            log.append("invoice.sent", {"id": n})
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("UPDATE meta SET value = 1 WHERE key = 'compacting'")
            db.execute("DELETE FROM events WHERE seq >= 3")
            db.execute("UPDATE meta SET value = 0 WHERE key = 'compacting'")

        assert log.append("invoice.sent", {"id": 5}) == 6
    with eventlog.open(path) as log:
        assert log.append("invoice.sent", {"id": 6}) == 7
    assert [row[0] for row in query(path, "SELECT seq FROM events ORDER BY seq")] == [1, 2, 6, 7]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = '{}' WHERE seq = 1",
        "DELETE FROM events WHERE seq = 2",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 1",
        "UPDATE OR REPLACE events SET seq = 2 WHERE seq = 1",
        "INSERT OR REPLACE INTO events SELECT 10, * FROM (SELECT COLUMNS FROM events WHERE seq = 1)",
        "INSERT OR REPLACE INTO events (seq, ANOTHER) SELECT 1, SAME FROM events WHERE seq = 1",
        "UPDATE contents SET body = ''",
    ],
)
def test_the_file_itself_is_append_only(path: Path, statement: str) -> None:
    """Triggers in the schema hold for every program that opens the file."""
    with eventlog.open(path) as log:
        log.append_many([("invoice.sent", {"id": n, "text": "long " * 100}) for n in range(3)])
    before = query(path, "SELECT * FROM events"), query(path, "SELECT * FROM contents")
    rest = "branch, run, type, at_ns, path, flags, payload, digest"
    for name, columns in (("COLUMNS", COLUMNS), ("ANOTHER", f"event_id, {rest}"), ("SAME", f"'another', {rest}")):
        statement = statement.replace(name, columns)

    with closing(sqlite3.connect(path, isolation_level=None)) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)

    assert (query(path, "SELECT * FROM events"), query(path, "SELECT * FROM contents")) == before
