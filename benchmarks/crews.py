"""A crew without a network. Nothing of the log is imported here: programs that are compared with ours use it, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crewai import Agent, Crew, Task
from crewai.tools import tool

from eventlog.testing import ScriptedLLM, final, tool_call


@tool
def look_up(question: str) -> str:
    """Look up a fact."""
    return f"Whoever asks {question!r} is told: what is served here is green, and has been for as long as anyone knows."


def small_crew(rounds: int = 3, tasks: int = 1, on_call: Callable[[], None] = lambda: None) -> Crew:
    """Return a crew whose agent looks something up so many times in every task, then answers.

    ``on_call`` is called whenever the model is asked, which happens ``(rounds + 1) * tasks`` times.
    """

    def answer(messages: list[Any], _tools: list[str]) -> Any:
        on_call()
        number = sum("\nObservation:" in str(m["content"]) for m in messages if m["role"] == "assistant")
        ask = f"What colour is tea number {number}, and who says so, and since when?"
        return tool_call("look_up", question=ask) if number < rounds else final("Tea is green.")

    agent = Agent(
        role="Taster", goal="Taste", backstory="Old", llm=ScriptedLLM(script=answer), tools=[look_up],
        max_iter=rounds + 2,
    )  # fmt: skip
    chores = [Task(description=f"Describe tea {n}.", expected_output="A sentence", agent=agent) for n in range(tasks)]
    return Crew(name="tasters", agents=[agent], tasks=chores)
