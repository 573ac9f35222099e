"""``eventlog replay RUN --execute -- COMMAND``: programs of users, once more, from the log alone."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.cli import main
from tests.cli_world import Cli, Result, environment, finish

CREW = """
import os, pathlib, sys, threading
from crewai import Agent, Crew, Task
from eventlog.testing import ScriptedLLM, final

calls = pathlib.Path(os.environ["CALLS"])

class Counted(ScriptedLLM):
    def call(self, *args, **kwargs):
        with calls.open("a") as file:
            file.write("x")
        return super().call(*args, **kwargs)

llm = Counted()
agent = Agent(role="Writer", goal="Write", backstory="Expert", llm=llm)
manner = os.environ.get("MANNER", "well")
tasks = [
    Task(name=str(i), description=f"Do step {i}{' ' + manner if i == 1 else ''}", expected_output="Text", agent=agent)
    for i in range(3)
]
crew = Crew(name="writers", agents=[agent], tasks=tasks)
"""
PLAIN = (
    CREW
    + """
print("direct", llm.call("Hello"))
print("crew", crew.kickoff().raw)
thread = threading.Thread(target=lambda: print("thread", llm.call("In a thread")))
thread.start()
thread.join()
"""
)
OWN_LOG = (
    CREW
    + """
import eventlog
with eventlog.open(os.environ["DB"]) as log:
    with log.run("own") as run:
        run.append("script.note", {"n": 1})
        print("crew", run.kickoff(crew).raw)
    print("status", log.state("own").status)
"""
)


PIPELINE = (
    CREW
    + """
import eventlog
with eventlog.open(os.environ["DB"]) as log, log.run("steps", items=["a", "b"]) as run:
    first = run.step("a", lambda: crew.kickoff().raw)
    print("b", run.step("b", lambda: crew.kickoff(inputs={"before": first}).raw))
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the scripts."""
    (tmp_path / "plain.py").write_text(PLAIN, "utf-8")
    (tmp_path / "pipeline.py").write_text(PIPELINE, "utf-8")
    (tmp_path / "own_log.py").write_text(OWN_LOG, "utf-8")
    return tmp_path


def run(folder: Path, *args: object, **env: str) -> Result:
    """Run ``eventlog ARGS`` on the folder's log."""
    facts = {"CALLS": str(folder / "calls"), "DB": str(folder / "x.db"), "CREWAI_STORAGE_DIR": str(folder / "crewai")}
    return finish(*args, env=environment(EVENTLOG_DB=str(folder / "x.db"), **facts, **env), cwd=folder)


def calls(folder: Path) -> int:
    """Return how often a model was really called; then forget it."""
    file = folder / "calls"
    count = len(file.read_text("utf-8")) if file.exists() else 0
    file.unlink(missing_ok=True)
    return count


def events(folder: Path) -> list[Any]:
    """Return every event of the log, byte by byte."""
    with sqlite3.connect(folder / "x.db") as db:
        return db.execute("SELECT * FROM events ORDER BY seq").fetchall()


def said(result: Result, *words: str) -> list[str]:
    """Return the lines of a program's output that begin with one of the words."""
    return sorted(line for line in result.out.splitlines() if line.startswith(words))


def test_a_recorded_program_runs_again_without_any_call(folder: Path) -> None:
    """Its crew, a call outside of any kickoff and one in a raw thread are answered from the log."""
    recorded = run(folder, "record", "--run", "r", "plain.py")
    assert (recorded.code, calls(folder)) == (0, 5)
    before = events(folder)

    again = run(folder, "replay", "r", "--execute", "--", "python", "plain.py")

    assert again.code == 0, again.out + again.err
    assert calls(folder) == 0
    words = ("direct", "crew", "thread")
    assert said(again, *words) == said(recorded, *words)
    assert len(said(again, *words)) == 3
    assert "equal" in again.out
    assert "5 model calls" in again.out
    assert events(folder) == before


def test_the_report_is_one_json_document(folder: Path) -> None:
    """With ``--json`` the program's own output goes to stderr."""
    run(folder, "record", "--run", "r", "plain.py")

    again = run(folder, "replay", "r", "--execute", "--json", "--", "python", "plain.py")
    report = json.loads(again.out)

    assert again.code == 0
    assert (report["equal"], report["live_calls"], report["served"]["llm"]) == (True, 0, 5)
    assert [e["equal"] for e in report["executions"]] == [True]
    assert "direct" in again.err


def test_an_edited_prompt_is_found_and_costs_nothing(folder: Path) -> None:
    """Exit code 3; the report names the task's place and both texts; nothing goes to the model."""
    run(folder, "record", "--run", "r", "plain.py")
    calls(folder)

    again = run(folder, "replay", "r", "--execute", "--json", "--", "plain.py", MANNER="badly")
    report = json.loads(again.out)["executions"][0]

    assert again.code == 3, again.err
    assert calls(folder) == 0
    assert "/task[" in report["diverged_at"]
    assert report["diverged_at"].endswith(" llm_call_started")
    assert ("well" in report["expected"], "badly" in report["actual"]) == (True, True)
    assert report["served"]["llm"] == 1


def test_a_program_that_opens_the_log_itself_is_executed_again_not_resumed(folder: Path) -> None:
    """``run.kickoff`` would return the recorded result at once; here everything runs, on a copy of the log."""
    env = {"CALLS": str(folder / "calls"), "DB": str(folder / "x.db")}
    first = subprocess.run(
        [sys.executable, "own_log.py"], cwd=folder, env=environment(**env), capture_output=True, text=True, check=True
    )
    assert calls(folder) == 3
    before = events(folder)

    again = run(folder, "replay", "own", "--execute", "--", "python", "own_log.py")

    assert again.code == 0, again.out + again.err
    assert said(again, "crew", "status") == sorted(
        line for line in first.stdout.splitlines() if line[:4] in ("crew", "stat")
    )
    assert calls(folder) == 0
    assert "3 model calls" in again.out
    assert events(folder) == before


def test_a_kickoff_that_does_not_come_again_is_a_difference(folder: Path) -> None:
    """A program that does less than it did is not equal."""
    run(folder, "record", "--run", "r", "plain.py")
    (folder / "less.py").write_text("print('nothing')", "utf-8")

    again = run(folder, "replay", "r", "--execute", "--", "less.py")

    assert again.code == 3
    assert "did not come" in again.out


def test_errors_of_the_program_are_no_divergence(folder: Path) -> None:
    """Exit code 1 and the traceback of the program."""
    run(folder, "record", "--run", "r", "plain.py")
    (folder / "broken.py").write_text("raise RuntimeError('my own')", "utf-8")

    again = run(folder, "replay", "r", "--execute", "--", "broken.py")

    assert again.code == 1
    assert "RuntimeError: my own" in again.err


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("replay", "nobody", "--execute", "--", "x.py"), 1, "no run 'nobody'"),
        (("replay", "tea", "--execute", "--", "nothing.py"), 2, "there is no such file"),
        (("replay", "tea", "--execute"), 2, "name the program"),
        (("replay", "tea", "--execute", "--to", "3", "--", "x.py"), 2, "--to cannot be used"),
        (("replay", "tea", "--execute", "--", "ls"), 2, "no Python program"),
        (("replay", "tea", "--execute", "--", "python", "-c", "pass"), 2, "give a script"),
        (("replay", "tea", "--", "x.py"), 2, "needs --execute"),
    ],
)
def test_bad_requests_are_told_before_anything_runs(
    cli: Cli, args: tuple[str, ...], code: int, text: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One line, and the exit code for usage or failure."""
    monkeypatch.setenv("EVENTLOG_DB", str(cli.db))
    capsys.readouterr()
    code_now = main.run(args)
    result = Result(code_now, *capsys.readouterr())

    assert result.code == code
    assert text in result.err


def test_a_pipeline_that_is_done_is_executed_again_step_by_step(folder: Path) -> None:
    """What is done is not skipped: its functions run again, their kickoffs are answered from the log."""
    env = environment(CALLS=str(folder / "calls"), DB=str(folder / "x.db"))
    first = subprocess.run(
        [sys.executable, "pipeline.py"], cwd=folder, env=env, check=True, capture_output=True, text=True, timeout=100
    )
    assert calls(folder) == 6
    before = events(folder)
    done = run(folder, "replay", "steps", "--execute", "--", "python", "pipeline.py")

    assert (done.code, calls(folder)) == (0, 0), done.err
    assert done.out.count("equal") == 2
    assert first.stdout.splitlines()[-1] in done.out
    assert events(folder) == before


def test_resuming_a_branch_of_a_pipeline_goes_on_there(folder: Path) -> None:
    """The program names no branch: it is the one that is resumed, and the other one stays as it is."""
    env = environment(CALLS=str(folder / "calls"), DB=str(folder / "x.db"))
    subprocess.run([sys.executable, "pipeline.py"], cwd=folder, env=env, check=True, capture_output=True, timeout=100)
    with eventlog.open(folder / "x.db") as log:
        begun = [event.seq for event in log.events("steps", types=["eventlog.step_started"])]
        log.fork("steps", to=begun[1] - 1, branch="alt")
        before = log.ledger("steps").session()
    calls(folder)
    done = run(folder, "resume", "steps", "--branch", "alt", "--", "python", "pipeline.py")

    assert (done.code, calls(folder)) == (0, 3), done.err
    assert "3 model calls made" in done.err
    with eventlog.open(folder / "x.db", readonly=True) as log:
        assert log.ledger("steps").session() == before
        assert log.ledger("steps", branch="alt").session().completed_items == ["a", "b"]
