"""What every scenario is made of: a counted outside world, and the scenario itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crewai import Agent, Crew, Task
from crewai.core.providers.human_input import SyncHumanInputProvider
from crewai.flow.flow import Flow
from crewai.tools import BaseTool, tool
from pydantic import BaseModel

from eventlog.testing import Answer, Message, ScriptedLLM
from eventlog.testing.answers import Responder


def saw(role: str) -> str:
    """Return a pattern of what an echoing LLM answers an agent of that role: a digest of its prompt."""
    return rf"{role} saw [0-9a-f]{{10}}"


TOOLS = ("lookup", "broken")
"""Names of the tools whose runs are counted."""


class World:
    """The outside a scenario touches. Every touch is counted, so that a test can ask for none."""

    def __init__(self, llm_class: type[ScriptedLLM] = ScriptedLLM, **llm_options: Any) -> None:
        """``llm_options`` overrule what the scenario gives its LLMs, e.g. ``silent=True``."""
        self.llm_class, self.llm_options = llm_class, llm_options
        self.llms: list[ScriptedLLM] = []
        self.tool_runs: list[str] = []
        """Argument of every real run of the tool ``lookup``."""
        self.people: list[Person] = []
        self.questions: list[str] = []
        """Every question a person was really asked."""
        self.callbacks: list[str] = []
        """``KIND of NAME`` for every callback that CrewAI made."""
        self.outages = 0
        """How many more calls of an LLM fail before its service is back."""
        self.earlier: Counter[str] = Counter()
        """What earlier processes did: ``llm``, ``tool``, ``question``."""
        self.store: Any = None
        """What a memory keeps its records in."""
        self.memories: list[Any] = []

    def llm(self, **options: Any) -> ScriptedLLM:
        """Return a new LLM of this world."""
        self.llms.append(self.llm_class(**{**options, **self.llm_options}))
        return self.llms[-1]

    @property
    def llm_calls(self) -> int:
        """Real calls of all LLMs."""
        return sum(len(llm.calls) for llm in self.llms)

    @property
    def turn(self) -> int:
        """Number of the call that an LLM of this world answers now, those of earlier processes included."""
        return self.earlier["llm"] + self.llm_calls

    @property
    def token_counts(self) -> int:
        """Real token counts of all LLMs."""
        return sum(llm.token_counts for llm in self.llms)

    def lookup(self, max_usage_count: int | None = None) -> BaseTool:
        """Return an ordinary tool whose runs are counted here."""
        runs = self.tool_runs

        @tool("lookup", max_usage_count=max_usage_count)
        def lookup(q: str) -> str:
            """Look up a fact."""
            runs.append(q)
            return f"fact about {q}"

        return lookup

    def broken_tool(self) -> BaseTool:
        """Return a tool that always fails."""
        runs = self.tool_runs

        @tool("broken")
        def broken(q: str) -> str:
            """Look up a fact."""
            runs.append(q)
            raise ConnectionError(f"no answer about {q}")

        return broken

    def unreliable(self, script: Responder) -> Responder:
        """Return a script whose first calls fail, as many as ``outages`` says."""

        def answer(messages: list[Message], tools: list[str]) -> Answer:
            if self.outages > 0:
                self.outages -= 1
                return ConnectionError("network down")
            return script(messages, tools)

        return answer

    def callback(self, kind: str) -> Callback:
        """Return a callback that is counted here; of a task it is told by its name."""
        return Callback(self, kind)

    def go_on_after(self, happened: Counter[str]) -> None:
        """Be the world that an earlier process has touched so often: people have given their first answers."""
        for person in self.people:
            del person.answers[: happened["question"]]
        self.outages = max(0, self.outages - happened["outage"])
        self.earlier = happened

    def settle(self) -> None:
        """Wait for what goes on in the background."""
        for memory in self.memories:
            memory.drain_writes()

    def agent(self, role: str = "Writer", **options: Any) -> Agent:
        """Return an agent; unless told otherwise with an echoing LLM and without tools."""
        options.setdefault("llm", None)
        options["llm"] = options["llm"] or self.llm()
        return Agent(role=role, goal="Write well", backstory="An expert.", **options)

    def person(self, *answers: str) -> Person:
        """Return a person who gives these answers, then accepts."""
        self.people.append(Person(self, answers))
        return self.people[-1]


class Callback:
    """Notes that it was called."""

    def __init__(self, world: World, kind: str) -> None:
        """``kind`` says what it was hung on."""
        self.world, self.kind = world, kind

    def __call__(self, subject: Any) -> None:
        """Note it."""
        self.world.callbacks.append(f"{self.kind} of {getattr(subject, 'name', None)}")


class Person(SyncHumanInputProvider):
    """Answers what CrewAI asks a person: feedback to a task, and ``flow.ask()``."""

    def __init__(self, world: World, answers: tuple[str, ...]) -> None:
        """Keep the answers in the order they will be given."""
        self.world, self.answers = world, list(answers)

    def request_input(self, message: str, flow: object, metadata: object = None) -> str:
        """Answer ``flow.ask(message)``."""
        self.world.questions.append(message)
        return self.answers.pop(0) if self.answers else ""

    def _prompt_input(self, crew: object) -> str:  # type: ignore[override]
        """Give feedback where the base class reads a line from the terminal."""
        return self.request_input("feedback", crew)

    def request_feedback(self, context: Any, flow: object) -> str:
        """Answer a method of a flow under ``@human_feedback``."""
        return self.request_input(context.message, flow)

    async def _prompt_input_async(self, crew: object) -> str:  # type: ignore[override]
        """Give feedback where the base class reads a line from the terminal."""
        return self.request_input("feedback", crew)


@dataclass(kw_only=True)
class Scenario:
    """One way of using CrewAI: fresh objects, how to run them, and what must come out."""

    world: World
    subject: Crew | Flow[Any] | Agent | Task | ScriptedLLM
    """The object that is run."""
    start: Callable[[], Any]
    """Runs it once and returns what CrewAI returns."""
    outputs: list[str]
    """Regular expressions, one per text of the result; see ``texts``."""
    llm_calls: int
    tool_runs: int = 0
    questions: int = 0
    inputs: Any = None
    """Inputs of the kickoff, a list of them for the for_each kinds, or the messages of an agent."""
    raises: type[Exception] | None = None
    """What running it raises."""
    name: str = field(default="", init=False)


def texts(result: Any) -> list[str]:
    """Return the texts in whatever a kickoff returned."""
    if isinstance(result, list):
        return [text for item in result for text in texts(item)]
    if isinstance(result, BaseModel) and hasattr(result, "raw"):
        return [str(result.raw)]
    return [result.model_dump_json() if isinstance(result, BaseModel) else str(result)]
