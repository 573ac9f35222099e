"""What users add to crews and agents: callbacks, guardrails, typed outputs, several crews in one program.

No ``from __future__ import annotations`` here: CrewAI reads the annotation of a guardrail, and refuses text.
"""

import warnings
from typing import Any

from crewai import Crew
from crewai.lite_agent_output import LiteAgentOutput
from crewai.tasks.task_output import TaskOutput

from eventlog.testing import Answer, Message, digest, final
from tests.scenarios.agents import QUESTION
from tests.scenarios.crews import TOPIC, step, writers
from tests.scenarios.tasks import Report, of_crew
from tests.scenarios.world import Callback, Scenario, World, saw

REPORT = r'\{"title": ?"[0-9a-f]{10}", ?"points": ?\["[0-9a-f]{10}"\], ?"pages": ?1\}'


class Before(Callback):
    """Changes the inputs of a kickoff."""

    def __call__(self, subject: dict[str, Any] | None) -> Any:
        """Add to them."""
        super().__call__(subject)
        return {**(subject or {}), "topic": "green tea"}


class After(Callback):
    """Changes the result of a kickoff."""

    def __call__(self, subject: Any) -> Any:
        """Add to it."""
        super().__call__(subject)
        subject.raw += " indeed"
        return subject


def passing(word: str, output: Any) -> tuple[bool, Any]:
    """Let a text pass only with a word in it."""
    return (word in output.raw, output.raw if word in output.raw else f"say {word}")


def first(output: TaskOutput) -> tuple[bool, Any]:
    """Guardrail of the first task."""
    return passing("first", output)


def second(output: TaskOutput) -> tuple[bool, Any]:
    """Guardrail of the second task."""
    return passing("second", output)


def approved(output: LiteAgentOutput) -> tuple[bool, Any]:
    """Guardrail of an agent."""
    return passing("approved", output)


def callbacks(world: World) -> Scenario:
    """Callbacks of tasks, of the crew, of every step, before and after the kickoff."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that they cannot be stored
        crew = writers(world, 3, step_callback=world.callback("step"), task_callback=world.callback("crew's task"))
        for task in crew.tasks[:2]:
            task.callback = world.callback("task")
        crew.before_kickoff_callbacks.append(Before(world, "before"))
        crew.after_kickoff_callbacks.append(After(world, "after"))
    output = saw("Writer 2 of green tea") + " indeed"
    return of_crew(world, crew, outputs=[output], llm_calls=9, tool_runs=6)


def typed_outputs(world: World) -> Scenario:
    """One task returns an instance of a model, one a dictionary, one reads both."""
    agent = world.agent(llm=world.llm(tool_rounds=1), tools=[world.lookup()])
    asked = world.agent("Reporter")
    tasks = [step(asked, 0, output_pydantic=Report), step(asked, 1, output_json=Report), step(agent, 2)]
    crew = Crew(agents=[asked, agent], tasks=tasks)
    return of_crew(world, crew, outputs=[saw("Writer")], llm_calls=4, tool_runs=1)


def json_output(world: World) -> Scenario:
    """The last task returns a dictionary."""
    agent = world.agent()
    crew = Crew(agents=[agent], tasks=[step(agent, 0), step(agent, 1, output_json=Report)])
    return of_crew(world, crew, outputs=[REPORT], llm_calls=2)


def guardrails(world: World) -> Scenario:
    """Two tasks whose answers are refused once and twice; callbacks follow only those that pass."""

    def improve(messages: list[Message], tools: list[str]) -> Answer:
        told = [word for word in ("first", "second") if any(f"say {word}" in str(m["content"]) for m in messages)]
        return final(f"{told and told[-1]} {digest(messages)}")

    agent = world.agent(llm=world.llm(script=improve))
    tasks = [step(agent, i, guardrail=check) for i, check in enumerate((first, second))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it cannot be stored
        crew = Crew(agents=[agent], tasks=tasks, task_callback=world.callback("crew's task"))
    return of_crew(world, crew, outputs=["second [0-9a-f]{10}"], llm_calls=4)


def agent_guardrail(world: World) -> Scenario:
    """An agent of its own whose first answer is refused: it is asked the very same once more."""

    def improve(messages: list[Message], tools: list[str]) -> Answer:
        return final(f"{'approved' if world.turn > 1 else 'draft'} {digest(messages)}")

    agent = world.agent(llm=world.llm(script=improve), guardrail=approved)
    return Scenario(
        world=world,
        subject=agent,
        inputs=QUESTION,
        start=lambda: agent.kickoff(QUESTION),
        outputs=["approved [0-9a-f]{10}"],
        llm_calls=2,
    )


def two_crews(world: World) -> Scenario:
    """A program that kicks off two crews, then an agent; all share one LLM, and each works on what came before."""
    llm = world.llm(tool_rounds=1)
    agents = [world.agent(role, llm=llm, tools=[world.lookup()]) for role in ("Writer", "Editor", "Critic")]
    crews: list[Any] = [Crew(name=f"crew {i}", agents=[agents[i]], tasks=[step(agents[i], i)]) for i in range(2)]

    def start() -> object:
        draft = crews[0].kickoff(TOPIC)
        edited = crews[1].kickoff({"topic": draft.raw})
        return [draft, edited, agents[2].kickoff(f"Judge {edited.raw}")]

    outputs = [saw("Writer"), saw("Editor"), saw("Critic")]
    return Scenario(world=world, subject=crews[0], inputs=TOPIC, start=start, outputs=outputs, llm_calls=6, tool_runs=3)


def twice(world: World) -> Scenario:
    """A program that kicks the same crew off twice with equal inputs: two executions."""
    crew = writers(world, count=1)

    def start() -> object:
        return [crew.kickoff(TOPIC), crew.kickoff(TOPIC)]

    outputs = [saw("Writer 0 of tea")] * 2
    return Scenario(world=world, subject=crew, inputs=TOPIC, start=start, outputs=outputs, llm_calls=6, tool_runs=4)


BUILDERS = (
    callbacks,
    typed_outputs,
    json_output,
    guardrails,
    agent_guardrail,
    two_crews,
    twice,
)
"""Every scenario of this file."""
