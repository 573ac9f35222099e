"""Crews: every way to kick one off, and every process that runs its tasks."""

from __future__ import annotations

import asyncio
from typing import Any

from crewai import Agent, Crew, Process, Task

from eventlog.testing import Answer, Message, digest, final, tool_call
from tests.scenarios.world import Scenario, World, saw

TOPIC = {"topic": "tea"}
TOPICS = [{"topic": "tea"}, {"topic": "coffee"}, {"topic": "milk"}]


def step(agent: Agent, number: int = 0, **options: Any) -> Task:
    """Return a task about the topic."""
    options = {"name": f"step {number}", "description": f"Do step {number} about {{topic}}", **options}
    return Task(expected_output="A sentence", agent=agent, **options)


def writers(world: World, count: int = 2, *, native: bool = False, **crew_options: Any) -> Crew:
    """Return a crew of ``count`` writers, one task each; every task looks up two facts, then answers."""
    llm, tool = world.llm(tool_rounds=2, native=native), world.lookup()
    agents = [world.agent(f"Writer {i} of {{topic}}", llm=llm, tools=[tool]) for i in range(count)]
    tasks = [step(agent, i) for i, agent in enumerate(agents)]
    return Crew(name="writers", agents=agents, tasks=tasks, **crew_options)


def of_two_writers(world: World, crew: Crew, start: Any) -> Scenario:
    """Return the scenario in which the two writers work on one topic."""
    outputs = [saw("Writer 1 of tea")]
    return Scenario(world=world, subject=crew, inputs=TOPIC, start=start, outputs=outputs, llm_calls=6, tool_runs=4)


def for_each_topic(world: World, crew: Crew, start: Any) -> Scenario:
    """Return the scenario in which one writer works on three topics."""
    outputs = [saw(f"Writer 0 of {topic['topic']}") for topic in TOPICS]
    return Scenario(world=world, subject=crew, inputs=TOPICS, start=start, outputs=outputs, llm_calls=9, tool_runs=6)


def sequential_react(world: World) -> Scenario:
    """Two tasks one after the other; tools are called in ReAct text."""
    crew = writers(world)
    return of_two_writers(world, crew, lambda: crew.kickoff(TOPIC))


def sequential_native(world: World) -> Scenario:
    """Two tasks one after the other; tools are called natively."""
    crew = writers(world, native=True)
    return of_two_writers(world, crew, lambda: crew.kickoff(TOPIC))


def kickoff_async(world: World) -> Scenario:
    """The synchronous kickoff in a thread of its own."""
    crew = writers(world)
    return of_two_writers(world, crew, lambda: asyncio.run(crew.kickoff_async(TOPIC)))


def akickoff(world: World) -> Scenario:
    """The kickoff that is asynchronous all the way down."""
    crew = writers(world)
    return of_two_writers(world, crew, lambda: asyncio.run(crew.akickoff(TOPIC)))


def streaming(world: World) -> Scenario:
    """The kickoff returns an iterator of chunks; the result is there when it is used up."""
    crew = writers(world, stream=True)

    def start() -> object:
        stream: Any = crew.kickoff(TOPIC)
        for _chunk in stream:
            pass
        return stream.result

    return of_two_writers(world, crew, start)


def kickoff_for_each(world: World) -> Scenario:
    """Copies of the crew, one after the other."""
    crew = writers(world, count=1)
    return for_each_topic(world, crew, lambda: crew.kickoff_for_each(TOPICS))


def kickoff_for_each_async(world: World) -> Scenario:
    """Copies of the crew at the same time, each in a thread."""
    crew = writers(world, count=1)
    return for_each_topic(world, crew, lambda: asyncio.run(crew.kickoff_for_each_async(TOPICS)))


def akickoff_for_each(world: World) -> Scenario:
    """Copies of the crew at the same time in one event loop."""
    crew = writers(world, count=1)
    return for_each_topic(world, crew, lambda: asyncio.run(crew.akickoff_for_each(TOPICS)))


def native_parallel_tools(world: World) -> Scenario:
    """One answer asks for three tools, which CrewAI runs in threads."""

    def ask_three(messages: list[Message], tools: list[str]) -> Answer:
        if any(message["role"] == "tool" for message in messages):
            return final(f"saw {digest(messages)}")
        return [tool_call(tools[0], q=f"q{i}") for i in range(3)]

    agent = world.agent(llm=world.llm(native=True, script=ask_three), tools=[world.lookup()])
    crew = Crew(agents=[agent], tasks=[step(agent)])
    outputs = ["saw [0-9a-f]{10}"]
    start = lambda: crew.kickoff(TOPIC)  # noqa: E731 - one line
    return Scenario(world=world, subject=crew, inputs=TOPIC, start=start, outputs=outputs, llm_calls=2, tool_runs=3)


def hierarchical(world: World) -> Scenario:
    """A manager delegates to a writer, who looks something up, and answers from what comes back."""

    def manage(messages: list[Message], tools: list[str]) -> Answer:
        if any("\nObservation:" in str(message["content"]) for message in messages[2:]):
            return final(f"manager saw {digest(messages)}")
        return tool_call("delegate_work_to_coworker", task="Write it", context="Tea", coworker="Writer")

    writer = world.agent(llm=world.llm(tool_rounds=1), tools=[world.lookup()])
    task = Task(name="step 0", description="Write about {topic}", expected_output="A sentence")
    crew = Crew(agents=[writer], tasks=[task], process=Process.hierarchical, manager_llm=world.llm(script=manage))
    return Scenario(
        world=world,
        subject=crew,
        inputs=TOPIC,
        start=lambda: crew.kickoff(TOPIC),
        outputs=[saw("manager")],
        llm_calls=4,
        tool_runs=1,
    )


def planning(world: World) -> Scenario:
    """A planner writes a plan first and CrewAI adds it to the tasks.

    The plan is fixed: a digest of the planner's prompt would differ each time, as the prompt describes the
    tools with their addresses in memory.
    """
    plans = [{"task_number": i + 1, "task": f"step {i}", "plan": f" Plan {i}: think first."} for i in range(2)]
    planner = world.llm(script=lambda messages, tools: {"list_of_plans_per_task": plans})
    crew = writers(world, planning=True, planning_llm=planner)
    return Scenario(
        world=world,
        subject=crew,
        inputs=TOPIC,
        start=lambda: crew.kickoff(TOPIC),
        outputs=[saw("Writer 1 of tea")],
        llm_calls=7,
        tool_runs=4,
    )


BUILDERS = (
    sequential_react,
    sequential_native,
    kickoff_async,
    akickoff,
    streaming,
    kickoff_for_each,
    kickoff_for_each_async,
    akickoff_for_each,
    native_parallel_tools,
    hierarchical,
    planning,
)
"""Every scenario of this file."""
