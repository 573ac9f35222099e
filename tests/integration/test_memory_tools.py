"""The tools with which agents use the memory: in real crews, over crashes, on forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task

import eventlog
from eventlog import Memory, MemorySaveTool, MemoryScopeError, MemorySearchTool
from eventlog.testing import ScriptedLLM, final, tool_call
from tests.cli_world import environment

FINDING = "SQL injection in the auth module"
RUN = "audit"


def script(messages: Any, tools: list[str]) -> Any:
    """Save when asked to scan, search when asked to review, and say what the tool said."""
    said = str(messages)
    if "Saved to memory" in said or "1. SQL" in said or "Nothing found" in said:
        return final("done")
    if "memory_save" in said or "memory_save" in tools:
        return tool_call("memory_save", value=FINDING, metadata={"severity": "critical"})
    return tool_call("memory_search", query="vulnerable auth")


class Program:
    """A crew that scans and reviews, as a script builds it at every start."""

    def __init__(self, log: eventlog.Log, *, native: bool = True, namespace: str | None = None) -> None:
        """``native``: models that call functions; else ReAct."""
        self.log = log
        self.memory = Memory(log, RUN, namespace=namespace)
        self.llms = [ScriptedLLM(script=script, native=native) for _ in range(2)]
        save, search = MemorySaveTool(self.memory, agent="scanner"), MemorySearchTool(self.memory, agent="reviewer")
        agents = [
            Agent(role=role, goal="Find bugs", backstory="Old.", llm=llm, tools=[tool])
            for role, llm, tool in zip(("Scanner", "Reviewer"), self.llms, (save, search), strict=True)
        ]
        tasks = [
            Task(name=name, description=f"Please {name}", expected_output="A sentence", agent=agent)
            for name, agent in zip(("scan", "review"), agents, strict=True)
        ]
        self.crew = Crew(name="audit", agents=agents, tasks=tasks)

    def kickoff(self) -> Any:
        """Run the script's main part."""
        return self.log.run(RUN).kickoff(self.crew)


def saved(log: eventlog.Log) -> list[Any]:
    """Return what stands in the log of what was saved."""
    return [event.payload["value"] for event in log.events(types=["eventlog.memory_saved"])]


@pytest.mark.parametrize("native", [True, False], ids=["functions", "react"])
def test_a_crew_saves_and_finds(tmp_path: Path, native: bool) -> None:
    """One agent saves, another one finds it, through CrewAI's own way of calling tools."""
    with eventlog.open(tmp_path / "x.db") as log:
        program = Program(log, native=native)
        program.kickoff()
        [match] = program.memory.search("auth")
        told = str(program.llms[1].calls[-1].messages)

        assert (match.value, match.agent, match.metadata) == (FINDING, "scanner", {"severity": "critical"})
        assert saved(log) == [FINDING]
    assert f"1. {FINDING} [severity: critical] (from scanner, id {match.id})" in told


def test_kicked_off_again_it_saves_nothing_again(tmp_path: Path) -> None:
    """What is finished is taken from the log."""
    with eventlog.open(tmp_path / "x.db") as log:
        Program(log).kickoff()
        Program(log).kickoff()

        assert saved(log) == [FINDING]


DIES = """
import os, signal, sys, eventlog
from tests.integration.test_memory_tools import Program
when, path = sys.argv[1:]
real = eventlog.Memory.save

def save(self, *args, **options):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    name = real(self, *args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

eventlog.Memory.save = save
with eventlog.open(path) as log:
    Program(log).kickoff()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_in_the_tool_and_started_again_it_has_saved_once(tmp_path: Path, when: str) -> None:
    """Whether the process died right before the commit or right after it, when nobody knew yet.

    Seeded once: without the key of the use as its id, the finding stands in the log twice.
    """
    path = tmp_path / "x.db"
    died = subprocess.run([sys.executable, "-c", DIES, when, str(path)], env=environment(), check=False, timeout=100)
    assert died.returncode == -signal.SIGKILL
    with eventlog.open(path) as log:
        assert len(saved(log)) == (when == "after")
        program = Program(log)
        program.kickoff()

        assert saved(log) == [FINDING]
        assert [match.value for match in program.memory.search("auth")] == [FINDING]
        assert len(program.llms[0].calls) == 1  # what it had said before was not asked again


def test_two_uses_that_say_the_same_are_two_memories(tmp_path: Path) -> None:
    """A use is a place in the run, not a text."""
    with eventlog.open(tmp_path / "x.db") as log:
        Program(log).kickoff()
        other = Program(log)
        with log.run(RUN):
            log.run("again").kickoff(other.crew)

        assert saved(log) == [FINDING, FINDING]


def test_outside_of_a_crew_each_use_saves(tmp_path: Path) -> None:
    """There is no use that could be told from another one."""
    with eventlog.open(tmp_path / "x.db") as log:
        tool = MemorySaveTool(Memory(log, RUN))
        tool.run(value=FINDING)
        tool.run(value=FINDING)

        assert saved(log) == [FINDING, FINDING]


def test_a_fork_that_says_something_else_at_the_same_place_saves_that(tmp_path: Path) -> None:
    """The use has the same key as its parent's, whose finding the fork has inherited."""
    with eventlog.open(tmp_path / "x.db") as log:
        memory = Memory(log, RUN)
        uses = iter([FINDING, "It is all fine"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("eventlog.ledger.tools.idempotency_key", lambda: "audit/crew:a#0/tool#0")
            MemorySaveTool(memory).run(value=next(uses))
            log.fork(RUN, branch="b")
            fork = Memory(log, RUN, "b")
            MemorySaveTool(fork).run(value=FINDING)
            MemorySaveTool(fork).run(value=next(uses))

        assert [match.value for match in fork.all()] == ["It is all fine", FINDING]
        assert [match.value for match in memory.all()] == [FINDING]


def test_errors_come_back_as_text(tmp_path: Path) -> None:
    """An agent can deal with a sentence; an exception would cost it a retry, or the crew."""
    with eventlog.open(tmp_path / "x.db") as log:
        memory = Memory(log, RUN)
        save = MemorySaveTool(memory, agent="scanner")

        assert save.run(value=" ").startswith("Error: the value is empty")
        assert save.run(value="x").startswith("Saved to memory as ")
        assert MemorySearchTool(Memory(log, RUN, "no-branch")).run(query="x").startswith("Error: no branch")
        assert MemorySearchTool(memory).run(query="unicorns") == "Nothing found."
    assert save.run(value="x").startswith("Error: ")
    assert MemorySearchTool().run(query="x").startswith("Error: ")


def test_a_tool_that_nobody_could_understand_is_refused(tmp_path: Path) -> None:
    """When it is made, not when the agent uses it."""
    with eventlog.open(tmp_path / "x.db") as log:
        for options in ({"scope": "agent-private"}, {"scope": "everybody", "agent": "x"}):
            with pytest.raises(MemoryScopeError):
                MemorySaveTool(Memory(log, RUN), **options)


def test_what_is_private_is_found_by_its_agent_only(tmp_path: Path) -> None:
    """The model has no say in whose memory it is."""
    with eventlog.open(tmp_path / "x.db") as log:
        memory = Memory(log, RUN)
        MemorySaveTool(memory, agent="scanner", scope="agent-private").run(value=FINDING)

        assert FINDING in MemorySearchTool(memory, agent="scanner").run(query="auth")
        assert MemorySearchTool(memory, agent="reviewer").run(query="auth") == "Nothing found."
        assert MemorySearchTool(memory).run(query="auth") == "Nothing found."
        assert set(MemorySearchTool(memory).args_schema.model_fields) == {"query", "metadata"}


def test_a_search_is_never_answered_from_crewais_cache(tmp_path: Path) -> None:
    """The same words find something else once there is more to find."""
    with eventlog.open(tmp_path / "x.db") as log:
        memory = Memory(log, RUN)
        search = MemorySearchTool(memory, limit=1)

        assert search.cache_function() is False
        assert search.limit == 1
        assert search.model_copy().run(query="auth") == "Nothing found."
        memory.save(FINDING)
        assert FINDING in search.model_copy().run(query="auth")


def test_importing_eventlog_does_not_import_crewai() -> None:
    """The tools are exported; CrewAI takes seconds."""
    code = "import eventlog, sys; eventlog.Memory; print('crewai' in sys.modules); eventlog.MemorySaveTool"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment()}, check=True, capture_output=True, text=True
    )

    assert done.stdout.strip() == "False"
