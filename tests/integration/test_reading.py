"""Reading: filters, cursors, lineages, the view for SQL users."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

import eventlog
from eventlog.errors import AmbiguousCursorError, BranchNotFoundError, CursorNotFoundError, RunNotFoundError
from tests.scenarios import build


@pytest.fixture
def log(tmp_path: Path) -> Iterator[eventlog.Log]:
    """A log with two interleaved runs of five events each, and a fork of the first after its third."""
    with eventlog.open(tmp_path / "x.db") as opened:
        for number in range(5):
            for run in ("one", "two"):
                opened.append(
                    "user.step", {"number": number, "text": f"{run} " * 100}, run=run, event_id=f"{run}-event-{number}"
                )
        db = sqlite3.connect(tmp_path / "x.db")
        with db:
            cut = db.execute("SELECT seq FROM events WHERE event_id = 'one-event-2'").fetchone()[0]
            parent = db.execute("SELECT id, run FROM branches WHERE id > 0 ORDER BY id LIMIT 1").fetchone()
            row = (parent[1], "exp", parent[0], cut, 0)
            db.execute("INSERT INTO branches (run, name, parent, fork_seq, created_ns) VALUES (?, ?, ?, ?, ?)", row)
        db.close()
        opened.append("user.step", {"number": 99}, run="one", branch="exp", event_id="exp-event-0")
        yield opened


def numbers(events: Iterator[eventlog.Event]) -> list[int]:
    """Return what the steps are numbered."""
    return [event.payload["number"] for event in events]


def test_a_run_is_read_in_order_without_the_other_runs(log: eventlog.Log) -> None:
    """Runs share one sequence but not their events."""
    events = list(log.events("one"))

    assert [e.seq for e in events] == [1, 3, 5, 7, 9]
    assert numbers(iter(events)) == [0, 1, 2, 3, 4]
    assert {e.run for e in events} == {"one"}
    assert events[0].payload["text"] == "one " * 100


def test_a_branch_is_read_through_its_ancestors_up_to_the_fork(log: eventlog.Log) -> None:
    """The child sees the parent's past and not its future; the parent never sees the child."""
    assert numbers(log.events("one", "exp")) == [0, 1, 2, 99]
    assert numbers(log.events("one", "main")) == [0, 1, 2, 3, 4]


def test_after_is_exclusive_to_is_inclusive_and_types_filter(log: eventlog.Log) -> None:
    """The bounds mean what the words mean."""
    log.append("other.kind", {"number": 7}, run="one")

    assert numbers(log.events("one", after=3, to=7)) == [2, 3]
    assert numbers(log.events("one", types=["other.*"])) == [7]
    assert numbers(log.events("one", types=["nothing"])) == []
    assert len(list(log.events())) == 12


def test_events_stay_valid_after_the_log_is_closed(tmp_path: Path) -> None:
    """An event is a value."""
    with eventlog.open(tmp_path / "y.db") as opened:
        opened.append("a.b", {"text": "long " * 200}, run="r")
        events = list(opened.events("r"))

    assert events[0].payload == {"text": "long " * 200}


@pytest.mark.parametrize(
    ("cursor", "seq"),
    [
        (None, 9),
        ("latest", 9),
        ("5", 5),
        (5, 5),
        ("6", 5),
        ("0", 0),
        ("one-event-3", 7),
        ("2999-01-01T00:00:00Z", 9),
        ("1999-01-01", 0),
    ],
)
def test_a_cursor_means_the_last_event_of_the_lineage_at_or_before_it(
    log: eventlog.Log, cursor: str | int | None, seq: int
) -> None:
    """A seq of another run, a time, an id: each is a position on this lineage."""
    assert log.cursor(cursor, "one").seq == seq


def test_an_iso_time_finds_the_event_before_it(tmp_path: Path) -> None:
    """Times are compared to the microsecond."""
    with eventlog.open(tmp_path / "y.db") as opened:
        opened.append("a.b", {}, run="r")
        time.sleep(0.002)
        moment = datetime.now(timezone.utc).isoformat()
        time.sleep(0.002)
        opened.append("a.b", {}, run="r")

        assert opened.cursor(moment, "r").seq == 1


def test_cursors_that_mean_nothing_or_too_much_say_so(log: eventlog.Log) -> None:
    """Each mistake has its own error with a hint."""
    with pytest.raises(CursorNotFoundError):
        log.cursor("999", "one")
    with pytest.raises(CursorNotFoundError):
        log.cursor("one", "one")
    with pytest.raises(CursorNotFoundError):
        log.cursor("two-event-1", "one")
    with pytest.raises(AmbiguousCursorError, match="5 events begin with 'one-event'"):
        log.cursor("one-event", "one")
    with pytest.raises(RunNotFoundError):
        log.state("three")
    with pytest.raises(BranchNotFoundError):
        log.state("one", branch="other")


def test_an_event_id_may_be_shortened_to_six_characters(tmp_path: Path) -> None:
    """UUIDs are stored as bytes and found by the beginning of their text, dashes or not."""
    with eventlog.open(tmp_path / "y.db") as opened:
        opened.append("a.b", {}, run="r", event_id="a2345678-9abc-4def-8123-456789abcdef")

        assert opened.cursor("a23456", "r").seq == 1
        assert opened.cursor("a2345678-9A", "r").seq == 1
        assert next(opened.events("r")).event_id == "a2345678-9abc-4def-8123-456789abcdef"


def test_a_read_only_log_refuses_to_write_and_changes_no_byte(tmp_path: Path) -> None:
    """Reading is safe on a file that matters."""
    with eventlog.open(tmp_path / "y.db") as opened:
        opened.append("a.b", {}, run="r")
    before = (tmp_path / "y.db").read_bytes()
    with eventlog.open(tmp_path / "y.db", readonly=True) as opened:
        opened.state("r")
        opened.runs()
        with pytest.raises(eventlog.LogUnwritableError):
            opened.append("a.b", {}, run="r")

    assert (tmp_path / "y.db").read_bytes() == before


def test_the_view_shows_every_event_with_its_text_to_sql_users(tmp_path: Path) -> None:
    """sqlite-utils, Datasette and SQLite's JSON functions read the log without this library."""
    scenario = build("sequential_react")
    with eventlog.open(tmp_path / "y.db") as opened:
        with opened.run("r"):
            scenario.start()
        expected = {e.seq: e for e in opened.events()}
    rows = {row["seq"]: row for row in Database(tmp_path / "y.db")["event_json"].rows}

    assert rows.keys() == expected.keys()
    for seq, event in expected.items():
        row, payload = rows[seq], json.loads(rows[seq]["payload"])
        assert (row["type"], row["run"], row["branch"]) == (event.type, event.run, event.branch)
        assert (row["event_id"], row["path"] or "") == (event.event_id, event.path)
        if event.type == "llm_call_completed":
            assert payload["messages"]["messages"] == len(event.payload["messages"])
            assert payload["messages"]["last"] == event.payload["messages"][-20:]
            assert payload["response"] == event.payload["response"]
        if event.type == "task_completed":
            assert payload["output"]["fields"]["raw"] == event.payload["output"]["fields"]["raw"]


def test_a_conversation_of_many_messages_shows_its_last_twenty_in_the_view(tmp_path: Path) -> None:
    """A row of Datasette stays readable; the whole is in ``eventlog show``."""
    messages = [{"role": "user", "content": f"message {n} " * (1 + 40 * (n % 2))} for n in range(30)]
    with eventlog.open(tmp_path / "y.db") as opened:
        opened.append("a.b", {"messages": messages}, run="r")
    payload = json.loads(next(iter(Database(tmp_path / "y.db")["event_json"].rows))["payload"])

    assert payload["messages"] == {"messages": 30, "last": messages[-20:]}


def test_own_events_show_in_the_state_and_in_the_list_of_runs(log: eventlog.Log) -> None:
    """A run of nothing but the user's own events is a run."""
    assert log.state("one").user_types == {"user.step": 5}
    assert [(r.run, r.events, r.status) for r in log.runs()] == [("one", 6, "completed"), ("two", 5, "completed")]
    assert [(b.branch, b.parent, b.fork_seq, b.events) for b in log.branches("one")] == [
        ("main", None, None, 5),
        ("exp", "main", 5, 1),
    ]


def test_a_type_that_is_new_while_one_reads_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows some types sees later events of the others, and would never come back for what it missed.

    Seen to fail when the names of types were looked up before the events.
    """
    with eventlog.open(tmp_path / "log.db") as log:
        log.append("t.known", run="r")
        reader, query = log.reader, log.reader.query

        def late(sql: str, *args: Any) -> list[Any]:
            if "SELECT seq" in sql:
                monkeypatch.setattr(reader, "query", query)
                log.append_many([("t.new", {}), ("t.known", {})], run="r")
            return query(sql, *args)

        monkeypatch.setattr(reader, "query", late)
        row = reader.branch_id("r", "main")
        found = [event.type for event in reader.stored(row, types=["t.known", "t.new"])]

    assert found == ["t.known", "t.new", "t.known"]
