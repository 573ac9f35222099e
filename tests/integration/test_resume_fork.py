"""A fork goes on with the edits it began with: what was derived from them runs again, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, listen, start

import eventlog
from eventlog.testing import ScriptedLLM

DictFlow = Flow[dict]  # type: ignore[type-arg]  # CrewAI does not know dict[str, Any] as a state
TOPIC = {"topic": "tea", "year": 2026}


class Program:
    """Four tasks: facts, a summary of them, a poem of nothing, and a report of summary and poem."""

    def __init__(self) -> None:
        """Build the crew as a script does at every start."""
        self.llm = ScriptedLLM()
        self.agents = {name: Agent(role=name, goal="g", backstory="b", llm=self.llm) for name in "ABCD"}
        texts = ("Facts about {topic}", "Sum it up", "A poem about {year}", "Report")
        self.tasks = [
            Task(name=f"t{i}", description=text, expected_output="x", agent=agent)
            for i, (text, agent) in enumerate(zip(texts, self.agents.values(), strict=True))
        ]
        self.tasks[1].context = [self.tasks[0]]
        self.tasks[2].context = []
        self.tasks[3].context = [self.tasks[1], self.tasks[2]]
        self.crew = Crew(agents=list(self.agents.values()), tasks=self.tasks)

    @property
    def asked(self) -> list[str | None]:
        """Who really asked the model."""
        return [call.agent for call in self.llm.calls]


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """A log with the finished crew in it."""
    with eventlog.open(tmp_path / "log.db") as opened:
        opened.run("r").kickoff(Program().crew, inputs=TOPIC)
        yield opened


def on(log: eventlog.Log, branch: str) -> tuple[Program, Any]:
    """Run the same script on a branch."""
    program = Program()
    return program, log.run("r", branch=branch).kickoff(program.crew, inputs=TOPIC)


def test_an_edited_output_runs_again_what_was_derived_from_it(log: eventlog.Log) -> None:
    """The summary and the report are made anew from the edited facts; the poem is kept."""
    log.fork("r", branch="exp", outputs={"t0": "Tea is blue."})
    program, result = on(log, "exp")

    assert program.asked == ["B", "D"]
    assert result.tasks_output[0].raw == "Tea is blue."
    assert any("Tea is blue." in str(m["content"]) for m in program.llm.calls[0].messages)
    assert [t.status for t in log.state("r", branch="exp").tasks] == ["completed"] * 4


def test_the_parent_never_shows_the_edit(log: eventlog.Log) -> None:
    """Parent and child are two lines of history; the parent's result is still its own."""
    before = [(e.seq, e.type, e.payload) for e in log.events("r")]
    log.fork("r", branch="exp", outputs={"t0": "Tea is blue."})
    on(log, "exp")
    program, result = on(log, "main")

    assert program.asked == []
    assert result.tasks_output[0].raw != "Tea is blue."
    assert [(e.seq, e.type, e.payload) for e in log.events("r")] == before


def test_an_edited_input_restarts_what_used_it(log: eventlog.Log) -> None:
    """The script still gives the old input; on the fork the edited one counts, for the tasks that name it."""
    log.fork("r", branch="exp", inputs={"topic": "coffee"})
    program, result = on(log, "exp")

    assert program.asked == ["A", "B", "D"]
    assert any("coffee" in str(m["content"]) for m in program.llm.calls[0].messages)
    assert log.state("r", branch="exp").inputs["topic"] == "coffee"
    assert result.tasks_output[2].raw == on(log, "main")[1].tasks_output[2].raw


def test_a_fork_in_the_middle_of_a_task_goes_on_there(log: eventlog.Log) -> None:
    """Forked when the second task had its answer but was not done: only the third and fourth ask."""
    answered = [e.seq for e in log.events("r", types=["eventlog.llm_exchange"])][1]
    log.fork("r", to=answered, branch="exp")
    program, result = on(log, "exp")

    assert program.asked == ["C", "D"]
    assert result.raw == on(log, "main")[1].raw


def test_a_fork_of_a_fork_keeps_both_edits(log: eventlog.Log) -> None:
    """The second fork edits another task; the first edit still holds."""
    log.fork("r", branch="one", outputs={"t0": "Tea is blue."})
    on(log, "one")
    log.fork("r", parent="one", branch="two", outputs={"t2": "A poem."})
    program, result = on(log, "two")

    assert program.asked == ["D"]
    assert [result.tasks_output[i].raw for i in (0, 2)] == ["Tea is blue.", "A poem."]


def test_a_fork_without_edits_of_a_finished_run_is_finished(log: eventlog.Log) -> None:
    """Nothing changed, so nothing runs."""
    log.fork("r", branch="same")
    program, result = on(log, "same")

    assert program.asked == []
    assert result == on(log, "main")[1]


def test_a_continued_fork_is_finished_too(log: eventlog.Log) -> None:
    """The second start of the script on the fork returns what the first one made there."""
    log.fork("r", branch="exp", outputs={"t0": "Tea is blue."})
    _, first = on(log, "exp")
    program, again = on(log, "exp")

    assert program.asked == []
    assert again == first


def test_an_edit_inside_a_flow_runs_again_the_method_around_it_and_those_after(tmp_path: Path) -> None:
    """The method that held the edited task runs again from the tape; one before it is kept."""

    def build() -> tuple[Flow[Any], ScriptedLLM, list[str]]:
        llm, ran = ScriptedLLM(), list[str]()

        class Report(DictFlow):
            @start()
            def begin(self) -> str:
                ran.append("begin")
                return str(llm.call("begin"))

            @listen(begin)
            def work(self, text: str) -> str:
                ran.append("work")
                agent = Agent(role="A", goal="g", backstory="b", llm=llm)
                tasks = [Task(name=f"t{i}", description=f"Do {i}", expected_output="x", agent=agent) for i in range(2)]
                crew: Any = Crew(agents=[agent], tasks=tasks)
                return str(crew.kickoff().raw)

            @listen(work)
            def end(self, text: str) -> str:
                ran.append("end")
                return str(llm.call(f"end {text}"))

        return Report(), llm, ran

    with eventlog.open(tmp_path / "log.db") as log:
        first, _, _ = build()
        whole = log.run("r").kickoff(first)
        log.fork("r", branch="exp", outputs={"t0": "Edited."})
        flow, llm, ran = build()
        result = log.run("r", branch="exp").kickoff(flow)

    assert ran == ["work", "end"]
    assert [call.agent for call in llm.calls] == ["A", None]
    assert result != whole
