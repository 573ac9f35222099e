"""Tasks: every kind a crew can hold, and those that run without a crew.

No ``from __future__ import annotations`` here: CrewAI reads the annotation of a guardrail, and refuses text.
"""

import asyncio
from typing import Any

from crewai import Crew, Task
from crewai.core.providers.human_input import reset_provider, set_provider
from crewai.tasks.conditional_task import ConditionalTask
from crewai.tasks.task_output import TaskOutput
from pydantic import BaseModel

from eventlog.testing import Answer, Message, digest, final
from tests.scenarios.crews import TOPIC, step
from tests.scenarios.world import Scenario, World, saw


class Report(BaseModel):
    """What the structured task returns."""

    title: str
    points: list[str]
    pages: int


def always(output: TaskOutput) -> bool:
    """Condition of a task that runs."""
    return True


def never(output: TaskOutput) -> bool:
    """Condition of a task that is skipped."""
    return False


def approved(output: TaskOutput) -> tuple[bool, Any]:
    """Guardrail: let only approved texts pass."""
    return ("approved" in output.raw, output.raw if "approved" in output.raw else "get it approved")


def of_crew(world: World, crew: Crew, **expected: Any) -> Scenario:
    """Return the scenario that kicks the crew off with the topic."""
    return Scenario(world=world, subject=crew, inputs=TOPIC, start=lambda: crew.kickoff(TOPIC), **expected)


def async_tasks(world: World) -> Scenario:
    """Three tasks at the same time, and a fourth that waits for them."""
    agents = [world.agent(f"Writer {i}", llm=world.llm(tool_rounds=1), tools=[world.lookup()]) for i in range(4)]
    tasks = [step(agent, i, async_execution=i < 3) for i, agent in enumerate(agents)]
    tasks[3].context = tasks[:3]
    crew = Crew(agents=agents, tasks=tasks)
    return of_crew(world, crew, outputs=[saw("Writer 3")], llm_calls=8, tool_runs=4)


def conditional_run(world: World) -> Scenario:
    """A conditional task whose condition holds."""
    agent = world.agent()
    tasks = [step(agent, 0), step_if(always, agent), step(agent, 2)]
    return of_crew(world, Crew(agents=[agent], tasks=tasks), outputs=[saw("Writer")], llm_calls=3)


def conditional_skipped(world: World) -> Scenario:
    """A conditional task whose condition does not hold: no event tells of it."""
    agent = world.agent()
    tasks = [step(agent, 0), step_if(never, agent), step(agent, 2)]
    return of_crew(world, Crew(agents=[agent], tasks=tasks), outputs=[saw("Writer")], llm_calls=2)


def step_if(condition: Any, agent: Any) -> ConditionalTask:
    """Return the second step, run only on that condition."""
    return ConditionalTask(
        condition=condition,
        name="step 1",
        description="Perhaps do step 1 about {topic}",
        expected_output="A sentence",
        agent=agent,
    )


def guardrail_retry(world: World) -> Scenario:
    """A guardrail rejects the first answer; the second passes."""

    def improve(messages: list[Message], tools: list[str]) -> Answer:
        told = any("get it approved" in str(message["content"]) for message in messages)
        return final(f"approved {digest(messages)}" if told else "a draft")

    agent = world.agent(llm=world.llm(script=improve))
    crew = Crew(agents=[agent], tasks=[step(agent, guardrail=approved)])
    return of_crew(world, crew, outputs=["approved [0-9a-f]{10}"], llm_calls=2)


def structured_output(world: World) -> Scenario:
    """The LLM is asked for an instance of a model."""
    agent = world.agent()
    crew = Crew(agents=[agent], tasks=[step(agent, output_pydantic=Report)])
    return of_crew(
        world, crew, outputs=[r'\{"title":"[0-9a-f]{10}","points":\["[0-9a-f]{10}"\],"pages":1\}'], llm_calls=1
    )


def failing_task(world: World) -> Scenario:
    """The first task succeeds; the LLM of the second is unreachable, also at CrewAI's two retries."""

    def unreachable(messages: list[Message], tools: list[str]) -> Answer:
        return ConnectionError("network down")

    agents = [world.agent("Writer"), world.agent("Editor", llm=world.llm(script=unreachable))]
    crew = Crew(agents=agents, tasks=[step(agent, i) for i, agent in enumerate(agents)])
    return of_crew(world, crew, outputs=[], llm_calls=4, raises=ConnectionError)


def human_input(world: World) -> Scenario:
    """A person asks for a change, then accepts."""
    agent, person = world.agent(), world.person("Make it shorter")
    crew = Crew(agents=[agent], tasks=[step(agent, human_input=True)])

    def start() -> object:
        token = set_provider(person)
        try:
            return crew.kickoff(TOPIC)
        finally:
            reset_provider(token)

    return Scenario(
        world=world, subject=crew, inputs=TOPIC, start=start, outputs=[saw("Writer")], llm_calls=2, questions=2
    )


def bare(world: World) -> Task:
    """Return a task of no crew."""
    agent = world.agent(llm=world.llm(tool_rounds=1), tools=[world.lookup()])
    return Task(name="bare", description="Write about tea", expected_output="A sentence", agent=agent)


def of_task(world: World, task: Task, start: Any) -> Scenario:
    """Return the scenario that runs a task without a crew."""
    return Scenario(world=world, subject=task, start=start, outputs=[saw("Writer")], llm_calls=2, tool_runs=1)


def task_execute_sync(world: World) -> Scenario:
    """A task without a crew."""
    task = bare(world)
    return of_task(world, task, lambda: task.execute_sync())  # noqa: PLW0108 - looked up when it is called


def task_execute_async(world: World) -> Scenario:
    """A task without a crew, in a thread."""
    task = bare(world)
    return of_task(world, task, lambda: task.execute_async().result())


def task_aexecute_sync(world: World) -> Scenario:
    """A task without a crew, in an event loop."""
    task = bare(world)
    return of_task(world, task, lambda: asyncio.run(task.aexecute_sync()))


BUILDERS = (
    async_tasks,
    conditional_run,
    conditional_skipped,
    guardrail_retry,
    structured_output,
    failing_task,
    human_input,
    task_execute_sync,
    task_execute_async,
    task_aexecute_sync,
)
"""Every scenario of this file."""
