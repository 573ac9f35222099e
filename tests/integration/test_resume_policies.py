"""Tools that were under way, code that was edited, answers that redaction changed: what a resumed run does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.tools import tool

import eventlog
from eventlog.errors import EventLogError
from eventlog.resume.divergence import DivergedError, ToolInFlightError
from eventlog.testing import ScriptedLLM


class Program:
    """A crew of two tasks whose agents send one letter each, as a script builds it at every start."""

    def __init__(self, *, dies_in: int | None = None, goal: str = "Write", second: str = "Do step 1") -> None:
        """``dies_in``: the process dies in the n-th use of the tool, after the letter was sent."""
        self.sent: list[str] = []
        self.keys: list[str | None] = []
        self.llm = ScriptedLLM(tool_rounds=1)

        @tool("send")
        def send(q: str) -> str:
            """Send a letter."""
            self.keys.append(eventlog.idempotency_key())
            self.sent.append(q)
            if len(self.sent) == dies_in:
                raise SystemExit(1)
            return f"sent {q}"

        agents = [
            Agent(role=f"Writer {i}", goal=goal if i else "Write", backstory="Old.", llm=self.llm, tools=[send])
            for i in range(2)
        ]
        texts = ["Do step 0", second]
        tasks = [
            Task(name=f"step {i}", description=texts[i], expected_output="A sentence", agent=agents[i])
            for i in range(2)
        ]
        self.crew = Crew(name="letters", agents=agents, tasks=tasks)

    def kickoff(self, path: Path, **options: Any) -> Any:
        """Run the script's main part."""
        with eventlog.open(path) as log:
            return log.run("r", **options).kickoff(self.crew)


def plainly(program: Program) -> str:
    """Return what the crew says without a log."""
    result: Any = program.crew.kickoff()
    return str(result.raw)


@pytest.fixture
def died_in_tool(tmp_path: Path) -> Path:
    """A log whose process died in the second task's tool."""
    with pytest.raises(SystemExit):
        Program(dies_in=2).kickoff(tmp_path / "log.db")
    return tmp_path / "log.db"


@pytest.fixture
def whole() -> str:
    """What the crew says when nothing goes wrong."""
    return plainly(Program())


def test_a_tool_under_way_is_run_again_and_reported(died_in_tool: Path, whole: str) -> None:
    """By default the tool runs again, alone, and the log says which one was in doubt."""
    again = Program()

    assert again.kickoff(died_in_tool).raw == whole
    assert again.sent == ["q0"]
    with eventlog.open(died_in_tool, readonly=True) as log:
        (said,) = log.events("r", types=["eventlog.resumed"])
    assert [use["tool"] for use in said.payload["in_flight"]] == ["send"]


def test_its_idempotency_key_is_the_same_in_both_processes(died_in_tool: Path, tmp_path: Path) -> None:
    """So that the tool itself can see that the letter was sent; another use has another key."""
    first, again = Program(dies_in=2), Program()
    with pytest.raises(SystemExit):
        first.kickoff(tmp_path / "other.db")
    again.kickoff(died_in_tool)

    assert again.keys == first.keys[1:]
    assert first.keys[0] != first.keys[1]
    assert str(first.keys[0]).startswith("r/crew:")


def test_a_doubtful_tool_can_stop_the_run(died_in_tool: Path) -> None:
    """With ``fail`` nothing runs twice: the kickoff stops and names the tool, through all of CrewAI's retries."""
    again = Program()

    with pytest.raises(ToolInFlightError, match="send"):
        again.kickoff(died_in_tool, on_tool="fail")
    assert again.sent == []


@pytest.mark.parametrize(
    "on_tool", [{"send": "sent q0"}, lambda use: f"sent {use.args['q']}"], ids=["mapping", "function"]
)
def test_a_doubtful_tool_can_be_given_its_result(died_in_tool: Path, whole: str, on_tool: Any) -> None:
    """Whoever knows that the letter went out says so."""
    again = Program()

    assert again.kickoff(died_in_tool, on_tool=on_tool).raw == whole
    assert again.sent == []


def test_asking_needs_a_terminal(died_in_tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can answer, ``ask`` stops instead of guessing."""
    monkeypatch.setattr("sys.stdin", None)

    with pytest.raises(ToolInFlightError, match="terminal"):
        Program().kickoff(died_in_tool, on_tool="ask")


@pytest.mark.parametrize(("typed", "sent"), [("r\n", ["q0"]), ("s\nsent q0\n", [])], ids=["run", "supply"])
def test_a_person_can_decide(
    died_in_tool: Path, whole: str, monkeypatch: pytest.MonkeyPatch, typed: str, sent: list[str]
) -> None:
    """At a terminal the person runs the tool again or says what came of it."""
    import io

    terminal = io.StringIO(typed)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    again = Program()

    assert again.kickoff(died_in_tool, on_tool="ask").raw == whole
    assert again.sent == sent


@pytest.mark.parametrize("options", [{"on_tool": "sometimes"}, {"on_change": "maybe"}])
def test_an_unknown_policy_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    """A typo must not choose a policy."""
    with pytest.raises(EventLogError, match="choose"):
        Program().kickoff(tmp_path / "log.db", **options)


def cut(path: Path, keep: Callable[[Any], bool]) -> None:
    """Shorten a log to the events up to the last one that ``keep`` accepts, as if its process had died there."""
    with eventlog.open(path, readonly=True) as log:
        last = max(event.seq for event in log.events("r") if keep(event))
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = 1 WHERE key = 'compacting'")
    db.execute("DELETE FROM events WHERE seq > ?", (last,))
    db.execute("UPDATE meta SET value = 0 WHERE key = 'compacting'")
    db.execute("UPDATE executions SET status = 'running', ended_seq = NULL WHERE ended_seq > ?", (last,))
    db.commit()
    db.close()


@pytest.fixture
def in_second_task(tmp_path: Path) -> Path:
    """A log whose process died in the second task, after its tool."""
    Program().kickoff(tmp_path / "log.db")
    cut(tmp_path / "log.db", lambda e: e.type == "eventlog.tool_exchange")
    return tmp_path / "log.db"


def test_an_edited_agent_goes_live_from_the_first_difference(in_second_task: Path) -> None:
    """The finished task stays finished; the second, whose prompt changed, asks its model anew."""
    edited = Program(goal="Write better")
    result = edited.kickoff(in_second_task)

    assert [call.agent for call in edited.llm.calls] == ["Writer 1", "Writer 1"]
    assert result.raw == plainly(Program(goal="Write better"))


def test_an_edited_task_leaves_the_others_finished(tmp_path: Path) -> None:
    """The crew's key changed with the text of one task; the run is found by the task they share."""
    Program().kickoff(tmp_path / "log.db")
    edited = Program(second="Do step 1 well")
    result = edited.kickoff(tmp_path / "log.db")

    assert [call.agent for call in edited.llm.calls] == ["Writer 1", "Writer 1"]
    assert result.raw == plainly(Program(second="Do step 1 well"))
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        assert len(log.executions("r")) == 1


def test_strict_stops_at_the_difference_and_shows_it(in_second_task: Path) -> None:
    """The error names the lane and both texts, and no model is asked."""
    edited = Program(goal="Write better")

    with pytest.raises(DivergedError) as stopped:
        edited.kickoff(in_second_task, on_change="strict")
    assert edited.llm.calls == []
    divergence = stopped.value.divergence
    assert "/task[" in divergence.where
    assert "Write" in divergence.expected
    assert "Write better" in divergence.actual
    assert repr(divergence.expected) in str(stopped.value)


def test_strict_stops_at_a_finished_task_that_was_edited(tmp_path: Path) -> None:
    """Also a finished run says that its code changed."""
    Program().kickoff(tmp_path / "log.db")
    edited = Program(goal="Write better")

    with pytest.raises(DivergedError, match="better"):
        edited.kickoff(tmp_path / "log.db", on_change="strict")
    assert edited.llm.calls == []


def test_lenient_takes_answers_by_position(in_second_task: Path) -> None:
    """The recorded answer is served though the prompt changed; only what was never asked is asked."""
    edited = Program(goal="Write better")
    edited.kickoff(in_second_task, on_change="lenient")

    assert len(edited.llm.calls) == 1
    assert edited.sent == []


def test_other_inputs_are_another_execution(tmp_path: Path) -> None:
    """Nothing of a run about tea is served to one about coffee."""
    with eventlog.open(tmp_path / "log.db") as log:
        first, second = Program(), Program()
        log.run("r").kickoff(first.crew, inputs={"topic": "tea"})
        log.run("r").kickoff(second.crew, inputs={"topic": "coffee"})

        assert len(second.llm.calls) == len(first.llm.calls)
        assert len(log.executions("r")) == 2


def test_what_redaction_changed_is_asked_again(tmp_path: Path) -> None:
    """An answer with a secret in it is not on disk, so it cannot be served: that model is asked again, and only it."""
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz123456"

    def build() -> tuple[Crew, ScriptedLLM]:
        llm = ScriptedLLM(script=lambda messages, tools: f"Thought: x\nFinal Answer: the key is {secret}")
        plain = ScriptedLLM()
        agents = [Agent(role=f"A{i}", goal="g", backstory="b", llm=m) for i, m in enumerate((plain, llm))]
        tasks = [Task(description=f"t{i}", expected_output="x", agent=a) for i, a in enumerate(agents)]
        return Crew(agents=agents, tasks=tasks), llm

    first, _ = build()
    with eventlog.open(tmp_path / "log.db") as log:
        whole = log.run("r").kickoff(first)
    again, llm = build()
    with eventlog.open(tmp_path / "log.db") as log:
        result = log.run("r").kickoff(again)

    assert result.raw == whole.raw
    assert secret in result.raw
    assert len(llm.calls) == 1
    assert secret.encode() not in (tmp_path / "log.db").read_bytes()
