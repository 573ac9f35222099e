"""The programs whose logs are kept in ``v1``, ``v2``, …: never edited, or the logs would not be of them any more.

They use nothing of ``tests`` for the same reason. A new program goes to the end of the file, into ``PROGRAMS``.
Every answer is a digest of what the model was asked: equal texts mean equal prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crewai import Agent, Crew, Task
from crewai.flow.async_feedback import HumanFeedbackPending
from crewai.flow.flow import Flow, listen, start
from crewai.flow.human_feedback import human_feedback
from crewai.tools import BaseTool, tool
from pydantic import BaseModel

import eventlog
from eventlog.testing import Answer, Message, ScriptedLLM, digest, final, tool_call

TOPIC = {"topic": "tea", "year": 2026}
LEAF = "Camellia sinensis, from the hills in the south of the country; "
"""Long when repeated: a value of this size is stored once and referred to."""


@dataclass
class World:
    """What a program touches."""

    die: Callable[[int], None] = lambda _call: None
    """Told the number of each model call, from 1, before it is answered."""
    calls: int = 0
    tool_runs: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    """What a person was asked."""

    def llm(self, *, native: bool = False, rounds: int = 0, silent: bool = False) -> ScriptedLLM:
        """Return a model that uses its first tool so many times for each task, then answers."""

        def answer(messages: list[Message], tools: list[str]) -> Answer:
            self.calls += 1
            self.die(self.calls)
            used = sum(str(message).count("fact about") for message in messages if message["role"] != "system")
            return tool_call("lookup", q=f"q{used}") if tools and used < rounds else final(f"saw {digest(messages)}")

        return ScriptedLLM(script=answer, native=native, silent=silent)

    def lookup(self) -> BaseTool:
        """Return a tool that says something long about anything."""
        runs = self.tool_runs

        @tool("lookup")
        def lookup(q: str) -> str:
            """Look up a fact."""
            runs.append(q)
            return f"fact about {q}: {LEAF * 20}"

        return lookup

    def agent(self, role: str, *, rounds: int = 0, native: bool = False, silent: bool = False) -> Agent:
        """Return an agent; one that looks things up has the tool for it."""
        tools = [self.lookup()] if rounds else []
        llm = self.llm(native=native, rounds=rounds, silent=silent)
        return Agent(role=role, goal="Write about {topic}", backstory="An expert.", llm=llm, tools=tools)


@dataclass
class Program:
    """Fresh objects, as a script builds them at every start."""

    entity: Any
    inputs: Any
    world: World


def go_on(run: eventlog.Run, program: Program) -> Any:
    """Kick a program off in a run, and say what a person says when that is what it waits for."""
    result = run.kickoff(program.entity, program.inputs)
    return run.resume(program.entity, feedback="Shorter") if isinstance(result, HumanFeedbackPending) else result


def step(agent: Agent, number: int, text: str) -> Task:
    """Return one task of a crew."""
    return Task(name=f"step {number}", description=text, expected_output="A sentence", agent=agent)


def crew(world: World) -> Program:
    """Three tasks in a row: a tool in ReAct text, a tool called natively, a model that emits nothing."""
    agents = [
        world.agent("Finder", rounds=2),
        world.agent("Checker", rounds=1, native=True),
        world.agent("Writer", silent=True),
    ]
    texts = ("Find facts about {topic} in {year}", "Check them", "Write a report about {topic}")
    tasks = [step(agent, number, text) for number, (agent, text) in enumerate(zip(agents, texts, strict=True))]
    return Program(Crew(name="reporters", agents=agents, tasks=tasks), TOPIC, world)


class Draft(BaseModel):
    """State of the flow."""

    id: str = ""
    topic: str = ""
    year: int = 0
    notes: list[str] = []
    scores: dict[str, float] = {}


class Letters(Flow[Draft]):
    """Four methods that share a state; the second kicks off a crew, the third asks an agent."""

    world: Any = None

    @start()
    def begin(self) -> str:
        """Ask the model directly."""
        self.state.notes.append(str(self.world.llm().call(f"Begin with {self.state.topic}")))
        return str(self.state.notes[-1])

    @listen(begin)
    def write(self, text: str) -> str:
        """Have a crew of two tasks write."""
        agents = [self.world.agent("Finder", rounds=1), self.world.agent("Writer")]
        tasks = [step(agent, number, f"Go on from {text}") for number, agent in enumerate(agents)]
        inner: Any = Crew(name="inner", agents=agents, tasks=tasks)
        self.state.notes.append(inner.kickoff({"topic": self.state.topic}).raw)
        return str(self.state.notes[-1])

    @listen(write)
    def judge(self, text: str) -> float:
        """Have an agent judge."""
        verdict: Any = self.world.agent("Judge of").kickoff(f"Judge {text}")
        self.state.scores = {"first": 0.5, "second": float(len(verdict.raw) > 0)}
        return float(len(self.state.scores))

    @listen(judge)
    def end(self, score: float) -> str:
        """Ask the model about everything."""
        return str(self.world.llm().call(f"End {self.state.notes} {score} {self.state.year}"))


def flow(world: World) -> Program:
    """The flow of letters."""
    made = Letters()
    made.world = world
    return Program(made, TOPIC, world)


def agent(world: World) -> Program:
    """An agent on its own, with a tool."""
    return Program(world.agent("Taster", rounds=2, native=True), "What is tea?", world)


class Person:
    """Answers a question at once, and takes a draft home."""

    def __init__(self, world: World) -> None:
        self.world = world

    def request_input(self, message: str, flow: Any, metadata: Any = None) -> str:
        """Answer ``flow.ask``."""
        self.world.questions.append(message)
        return "green tea"

    def request_feedback(self, context: Any, flow: Any) -> str:
        """Answer later."""
        self.world.questions.append(str(context.method_output))
        raise HumanFeedbackPending(context=context)


def review(world: World) -> Program:
    """A flow that asks a person, then waits for what one says of a draft."""
    person = Person(world)

    class Review(Flow[Draft]):
        @start()
        @human_feedback(message="Ok?", provider=person)
        def write(self) -> str:
            self.state.notes.append(str(self.ask("Which topic?")))
            return str(world.llm().call(f"Write about {self.state.notes}"))

        @listen(write)
        def publish(self, _result: Any) -> str:
            said: Any = self.last_human_feedback
            return str(world.llm().call(f"{said.output} {said.feedback} {self.state.notes}"))

    return Program(Review(input_provider=person), None, world)


PROGRAMS: dict[str, Callable[[World], Program]] = {"crew": crew, "flow": flow, "agent": agent, "review": review}
"""What a log's ``program`` names."""


# -- pipelines -------------------------------------------------------------------------------------------

STEPS = ["scan", "mend", "report"]


def pipeline(run: eventlog.Run, world: World) -> list[str]:
    """Do all steps, each with a crew and the result of the one before; deliver a feature, remember what was found."""

    def work(step: str, before: str) -> str:
        agent = world.agent("Worker", rounds=1)
        text = f"{step} {{topic}}, given: {before}"
        tasks = [Task(description=text, expected_output="A text", agent=agent)]
        found = str(Crew(agents=[agent], tasks=tasks).kickoff(inputs=TOPIC))
        run.memory.save(f"{step}: {found}", metadata={"step": step}, agent="worker")
        return found

    texts = [""]
    for step in STEPS:
        texts.append(run.step(step, work, step, texts[-1]))
    feature = run.feature("leaves", description="Leaves are described", category="tea", test_steps=["taste", "colour"])
    feature.passed("taste", by="taster")
    feature.failed("colour", by="taster", reason="too pale")
    run.summary(f"All done. {LEAF * 10}")
    return texts[1:]
