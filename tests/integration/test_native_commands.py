"""The real ``crewai checkpoint`` commands and its TUI on a log."""

from __future__ import annotations

import asyncio
import sqlite3
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from crewai import LLM, Agent, Crew, Task
from crewai.state.checkpoint_config import CheckpointConfig

import eventlog
from tests.cli_world import Cli
from tests.integration.native import RUN, crewai, record, rows
from tests.integration.test_openai_client import KEY


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with a crew of two tasks."""
    path = tmp_path_factory.mktemp("native") / "x.db"
    record(path, "sequential_react")
    return path


def test_list_info_and_diff_show_the_log(db: Path) -> None:
    """With triggers, tasks, outputs and lineage."""
    first, last = rows(db)
    listed = crewai("list", db, folder=db.parent)
    latest, one = crewai("info", db, folder=db.parent), crewai("info", f"{db}#{first.id[-8:]}", folder=db.parent)
    compared = crewai("--location", db, "diff", first.id, last.id, folder=db.parent)

    assert f"Found 2 checkpoint(s) in SQLite: {db}" in listed
    assert f"{last.id}" in listed.splitlines()[2]
    assert "task_completed  crew:writers [2/2 tasks]" in listed
    assert f"Latest checkpoint: {last.id}" in latest
    assert f"Parent:  {first.id}" in latest
    assert "1. [done] Do step 0 about tea" in one
    assert "2. [pending] Do step 1 about tea" in one
    assert "status: pending -> done" in compared
    assert "+ Writer 1 of tea saw" in compared


def test_prune_takes_away_what_it_should(tmp_path: Path) -> None:
    """SQLite reports no rows for a view, so the command says 0: ``list`` tells. The events stay."""
    db = tmp_path / "x.db"
    record(db, "sequential_react")
    dry = crewai("--location", db, "prune", "--keep", "1", "--dry-run", folder=tmp_path)
    done = crewai("--location", db, "prune", "--keep", "1", folder=tmp_path)

    assert f"Would prune from 2 checkpoint(s) in {db}" in dry
    assert f"Pruned 0 checkpoint(s) from {db}" in done
    assert len(rows(db)) == 1
    crewai("--location", db, "prune", "--older-than", "0m", folder=tmp_path)
    crewai("--location", db, "prune", "--keep", "0", folder=tmp_path)
    assert rows(db) == []
    with eventlog.open(db, readonly=True) as log:
        assert log.state(RUN).status == "completed"


def test_resume_runs_what_is_left_in_a_process_of_its_own(model_server: ThreadingHTTPServer, tmp_path: Path) -> None:
    """With one of CrewAI's own models, whose key comes from the environment; what it does is not logged."""
    db, url = tmp_path / "x.db", f"http://127.0.0.1:{model_server.server_port}/v1"
    llm: Any = LLM(model="openai/gpt-4o-mini", api_key=KEY, base_url=url)
    agent = Agent(role="Clerk of {town}", goal="g", backstory="b", llm=llm)
    tasks = [Task(description=f"Answer {i} in {{town}}.", expected_output="A number", agent=agent) for i in range(3)]
    with eventlog.open(db) as log, log.run(RUN):
        Crew(name="clerks", agents=[agent], tasks=tasks).kickoff(inputs={"town": "Oxford"})
    events = sqlite3.connect(db).execute("SELECT count(*) FROM events").fetchone()
    asked: Any = model_server.RequestHandlerClass
    before = len(asked.requests)
    first = rows(db)[0]
    shown = crewai("--location", db, "resume", first.id, folder=tmp_path, OPENAI_API_KEY=KEY)

    assert "Result: forty-two" in shown
    assert len(asked.requests) - before == 2
    assert "Oxford" in str(asked.requests[-1])
    assert sqlite3.connect(db).execute("SELECT count(*) FROM events").fetchone() == events
    assert KEY not in str(first.data)


def test_resume_of_a_crew_with_live_objects_says_what_is_missing(db: Path) -> None:
    """A process without the user's code cannot have the user's function."""
    shown = crewai("--location", db, "resume", rows(db)[0].id, folder=db.parent, OPENAI_API_KEY=KEY)

    assert "this process has no such object" in shown
    assert "lookup" in shown


def test_the_tui_shows_every_checkpoint(db: Path) -> None:
    """Its tree has the crew and its branch."""
    pytest.importorskip("textual")
    from crewai_cli.checkpoint_tui import CheckpointTUI
    from textual.widgets import Tree

    async def labels() -> list[str]:
        app = CheckpointTUI(location=str(db))
        async with app.run_test() as pilot:
            await pilot.pause()
            found: list[str] = []
            waiting = [app.query_one(Tree).root]
            while waiting:
                node = waiting.pop()
                found.append(str(node.label))
                waiting.extend(node.children)
            return found

    shown = " ".join(asyncio.run(labels()))

    assert "2/2" in shown
    assert "writers" in shown


@pytest.mark.parametrize("cursor", ["first", "between"])
def test_export_writes_the_file_of_the_json_provider(
    db: Path, tmp_path: Path, cursor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a checkpoint's id and at any other cursor."""
    first, last = rows(db)
    to = first.id if cursor == "first" else str(int(last.id[-8:], 16) - 3)
    target = tmp_path / "one.json"
    result = Cli(db, capsys)("export", "--format", "crewai-checkpoint", "--to", to, "-o", target)
    crew = Crew.from_checkpoint(CheckpointConfig(restore_from=target))

    assert (result.code, result.out) == (0, "")
    assert target.stat().st_mode & 0o777 == 0o600
    assert [task.output is not None for task in crew.tasks] == [True, False]
    assert "1/2" in crewai("list", tmp_path, folder=tmp_path)


def test_export_before_any_kickoff_is_an_error_of_one_line(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, what and where, and a hint; no file is made."""
    cli, target = Cli(db, capsys), tmp_path / "one.json"
    with eventlog.open(db) as log:
        log.append("my.note", {}, run="empty")
    result = cli("export", "empty", "--format", "crewai-checkpoint", "-o", target)
    usage = cli("export", "--all", "--format", "crewai-checkpoint", "-o", target)

    assert (result.code, usage.code) == (1, 2)
    assert "empty/main@" in result.err
    assert not target.exists()
