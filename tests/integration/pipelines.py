"""A small pipeline of real crews, and who does it: for the tests of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crewai import Agent, Crew, Task

import eventlog
from eventlog.run import Run
from eventlog.testing import ScriptedLLM

RUN = "audit"
ITEMS = ["scan", "fix", "report"]


class Team:
    """Makes crews whose model counts what it is asked."""

    def __init__(self, **llm_options: Any) -> None:
        """``llm_options``: those of ``ScriptedLLM``."""
        self.llm = ScriptedLLM(**llm_options)
        self.bodies: list[str] = []
        """The items whose functions were called."""

    @property
    def calls(self) -> int:
        """How often the model was asked."""
        return len(self.llm.calls)

    def crew(self, about: str, tasks: int = 2) -> Crew:
        """Return a crew of one agent with so many tasks."""
        agent = Agent(role="Auditor", goal="Find", backstory="Old", llm=self.llm)
        made = [Task(description=f"{about} part {n}", expected_output="A list", agent=agent) for n in range(tasks)]
        return Crew(agents=[agent], tasks=made)

    def work(self, item: str, upstream: str = "") -> str:
        """Do an item: two kickoffs of two tasks each."""
        self.bodies.append(item)
        first = self.crew(f"{item} of {upstream}").kickoff()
        return str(self.crew(f"check {first}").kickoff())

    def pipeline(self, run: Run) -> list[str]:
        """Do all items, each with the result of the one before."""
        results = [""]
        for item in ITEMS:
            results.append(run.step(item, self.work, item, results[-1]))
        return results[1:]


class Counter:
    """A function that counts its calls and returns what it is told."""

    def __init__(self, *results: Any) -> None:
        """``results``: what the calls return or raise, one after the other."""
        self.results, self.calls = list(results), 0

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Return the next result, the last one again and again; an exception is raised."""
        self.calls += 1
        result = self.results[min(self.calls, len(self.results)) - 1]
        if isinstance(result, BaseException):
            raise result
        return result


def done(file: Path, **llm_options: Any) -> tuple[list[str], Team]:
    """Return the results of the pipeline in a log, and the team that did what was left to do."""
    team = Team(**llm_options)
    with eventlog.open(file) as log, log.run(RUN, items=ITEMS) as run:
        return team.pipeline(run), team
