"""``CheckpointConfig(provider=EventLogProvider())``: CrewAI's own checkpoints in a log."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from crewai import LLM, Agent, Crew, RuntimeState, Task
from crewai.events.event_bus import crewai_event_bus
from crewai.state.checkpoint_config import CheckpointConfig
from crewai.state.checkpoint_listener import _find_checkpoint
from crewai.state.provider.sqlite_provider import SqliteProvider

import eventlog
from eventlog import EventLogProvider
from eventlog.errors import EventLogError
from tests.integration.native import RUN, config, record, rows

CANARY = "sk-test-canary-0123456789abcdef"


@pytest.fixture
def llm(model_server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One of CrewAI's own models with a key: those of others it cannot restore."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment-0123456789")
    return LLM(model="openai/gpt-4o-mini", api_key=CANARY, base_url=f"http://127.0.0.1:{model_server.server_port}/v1")


def crew_with(llm: Any, of_crew: Any, **options: Any) -> Crew:
    """Return a crew of two tasks without tools: CrewAI cannot write function tools down."""
    agent = Agent(role="Writer", goal="g", backstory="b", llm=llm, **options)
    tasks = [Task(description=f"Do {i}.", expected_output="x", agent=agent) for i in range(2)]
    return Crew(name="pair", agents=[agent], tasks=tasks, checkpoint=of_crew)


def run(crew: Crew) -> None:
    """Kick off and wait for the handlers, which write the checkpoints."""
    crewai_event_bus.reset_runtime_state()
    crew.kickoff()
    crewai_event_bus.flush()


def test_automatic_checkpoints_go_into_the_log_in_a_line(tmp_path: Path, llm: Any) -> None:
    """One line to migrate; the log is made if it is not there; no secret; each names the one before as its parent."""
    db = tmp_path / "x.db"
    run(crew_with(llm, CheckpointConfig(location=str(db), provider=EventLogProvider())))
    marks = rows(db)

    assert [row.data["trigger"] for row in marks] == ["task_completed"] * 2
    assert [row.parent_id for row in marks] == [None, marks[0].id]
    assert CANARY not in str(marks)
    assert not any(CANARY.encode() in path.read_bytes() for path in tmp_path.glob("x.db*"))
    crew = next(entity for entity in marks[0].data["entities"] if entity["entity_type"] == "crew")
    assert "api_key" not in crew["agents"][0]["llm"]
    assert Crew.from_checkpoint(config(db, marks[0])).tasks[0].output is not None


def test_they_stand_beside_those_of_the_log(tmp_path: Path, llm: Any) -> None:
    """The newest first, whoever wrote it; both are restored from."""
    db = tmp_path / "x.db"
    record(db, "sequential_react")
    with eventlog.open(db) as log:
        provider = EventLogProvider(log)
        run(crew_with(llm, CheckpointConfig(location="elsewhere.db", provider=provider)))
    ours, native = rows(db)[:2], rows(db)[2:]

    assert len(native) == 2
    assert all("live" in str(row.data) for row in ours)
    assert json.loads(provider.from_checkpoint(f"{db}#{ours[0].id}"))["branch"] == "main"
    assert not (tmp_path / "elsewhere.db").exists()


def test_max_checkpoints_prunes_only_what_crewai_wrote(tmp_path: Path, llm: Any) -> None:
    """And says how many went, which SQLite does not for a view."""
    db = tmp_path / "x.db"
    record(db, "sequential_react")
    provider = EventLogProvider()
    run(crew_with(llm, CheckpointConfig(location=str(db), provider=provider, max_checkpoints=1, on_events=["*"])))

    assert len(rows(db)) == 2 + 1
    provider.checkpoint("{}", str(db), branch="b")
    provider.checkpoint("{}", str(db), branch="b")
    assert provider.prune(str(db), 1, branch="b") == 1
    assert [row.branch for row in rows(db)] == ["main", "main", "main", "b"]


def test_manual_checkpoints_are_stored_or_raise(tmp_path: Path, llm: Any) -> None:
    """``state.checkpoint`` and ``acheckpoint``; a file that is no log is refused, and left as it was."""
    db, other = tmp_path / "x.db", tmp_path / "other.db"
    sqlite3.connect(other).execute("CREATE TABLE t (x)")
    crew = crew_with(llm, None)
    state: Any = RuntimeState(root=[crew])
    state._provider = EventLogProvider()
    first = state.checkpoint(str(db))
    second = asyncio.run(state.acheckpoint(str(db)))

    assert [f"{db}#{row.id}" for row in rows(db)] == [first, second]
    assert rows(db)[1].parent_id == rows(db)[0].id
    assert asyncio.run(EventLogProvider().afrom_checkpoint(first)) == EventLogProvider().from_checkpoint(first)
    with pytest.raises(EventLogError):
        state.checkpoint(str(other))
    with pytest.raises(EventLogError):
        EventLogProvider().from_checkpoint(f"{tmp_path}/none.db#x")
    assert not (tmp_path / "none.db").exists()


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 45), reason="CrewAI's own provider needs jsonb()")
def test_crewais_own_provider_can_write_into_a_log(tmp_path: Path) -> None:
    """Its INSERT and DELETE go through triggers; nobody redacts what it writes."""
    db = tmp_path / "x.db"
    with eventlog.open(db):
        pass
    provider = SqliteProvider()
    place = provider.checkpoint('{"entities": []}', str(db))

    assert json.loads(provider.from_checkpoint(place)) == {"entities": []}
    assert len(rows(db)) == 1


@pytest.mark.parametrize(
    ("of_agent", "of_crew", "expected"),
    [(None, None, 2), (False, None, 0), (None, False, 0), (True, False, 2), (False, True, 0)],
)
def test_checkpoint_false_is_heeded_as_crewai_inherits_it(
    tmp_path: Path, llm: Any, of_agent: Any, of_crew: Any, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent's own word counts, without one its crew's; by hand there is always one."""
    monkeypatch.chdir(tmp_path)  # CrewAI's own default provider writes to ./.checkpoints
    crew = crew_with(llm, of_crew, checkpoint=of_agent)
    with eventlog.open(tmp_path / "x.db") as log, log.run(RUN):
        crew.kickoff()
    asked = [row for row in rows(tmp_path / "x.db") if row.data["trigger"] == "task_completed"]
    refused = {_find_checkpoint(task) is None for task in crew.tasks}

    assert len(asked) == expected
    if (of_agent, of_crew) != (None, None):
        assert refused == {expected == 0}
    with eventlog.open(tmp_path / "x.db") as log:
        log.snapshot(RUN)
    assert len(rows(tmp_path / "x.db")) == expected + 1


def test_a_star_means_every_event_of_crewai(tmp_path: Path) -> None:
    """What the log writes beside them makes a checkpoint only when it is asked for by name."""
    record(tmp_path / "x.db", "sequential_react", snapshot_on=["*"])
    triggers = {row.data["trigger"] for row in rows(tmp_path / "x.db")}

    assert {"llm_call_completed", "tool_usage_finished", "task_started"} <= triggers
    assert not any(trigger.startswith("eventlog.") for trigger in triggers)
