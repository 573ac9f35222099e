"""What goes wrong and goes on: tools that fail, a model that is away for a moment, models that emit nothing."""

from __future__ import annotations

from typing import Any

from crewai import Crew

from eventlog.testing import Answer, Message, digest, final, tool_call
from eventlog.testing.echo import tool_results
from tests.scenarios.crews import of_two_writers, step, writers
from tests.scenarios.tasks import of_crew
from tests.scenarios.world import Scenario, World, saw


def once(name: str) -> Any:
    """Return a script that calls one tool once, then answers with a digest of the prompt."""

    def answer(messages: list[Message], tools: list[str]) -> Answer:
        tried = tool_results(messages) or any("no answer about" in str(m["content"]) for m in messages)
        return final(f"saw {digest(messages)}") if tried else tool_call(name, q="q0")

    return answer


def failing_tool(world: World) -> Scenario:
    """A tool raises; the agent is told so in ReAct text, and answers."""
    agent = world.agent(llm=world.llm(script=once("broken")), tools=[world.broken_tool()])
    crew = Crew(agents=[agent], tasks=[step(agent, 0), step(agent, 1)])
    return of_crew(world, crew, outputs=["saw [0-9a-f]{10}"], llm_calls=4, tool_runs=FAILED_TRIES * 2)


def failing_tool_native(world: World) -> Scenario:
    """A tool raises; the agent is told so natively, and answers."""
    agent = world.agent(llm=world.llm(native=True, script=once("broken")), tools=[world.broken_tool()])
    crew = Crew(agents=[agent], tasks=[step(agent, 0), step(agent, 1)])
    return of_crew(world, crew, outputs=["saw [0-9a-f]{10}"], llm_calls=4, tool_runs=2)


FAILED_TRIES = 6
"""How often CrewAI tries a failing tool in ReAct before it tells the agent."""


def outage(world: World) -> Scenario:
    """The model of the second task is away once; CrewAI tries again."""
    world.outages = 1
    away = world.unreliable(lambda messages, tools: final(f"saw {digest(messages)}"))
    agents = [world.agent("Writer"), world.agent("Editor", llm=world.llm(script=away))]
    crew = Crew(agents=agents, tasks=[step(agent, i) for i, agent in enumerate(agents)])
    return of_crew(world, crew, outputs=["saw [0-9a-f]{10}"], llm_calls=3)


def silent(world: World) -> Scenario:
    """Models that emit no events: their calls are on record all the same."""
    world.llm_options["silent"] = True
    crew = writers(world)
    return of_two_writers(world, crew, lambda: crew.kickoff({"topic": "tea"}))


def silent_native(world: World) -> Scenario:
    """The same where tools are called natively."""
    world.llm_options["silent"] = True
    crew = writers(world, native=True)
    return of_two_writers(world, crew, lambda: crew.kickoff({"topic": "tea"}))


def cached_tool(world: World) -> Scenario:
    """Two tasks of one agent ask a tool the same: the second answer comes from CrewAI's cache."""
    agent = world.agent(llm=world.llm(script=once("lookup")), tools=[world.lookup()])
    crew = Crew(agents=[agent], tasks=[step(agent, 0), step(agent, 1)], cache=True)
    return of_crew(world, crew, outputs=["saw [0-9a-f]{10}"], llm_calls=4, tool_runs=1)


def cached_tool_native(world: World) -> Scenario:
    """The same where tools are called natively."""
    agent = world.agent(llm=world.llm(native=True, script=once("lookup")), tools=[world.lookup()])
    crew = Crew(agents=[agent], tasks=[step(agent, 0), step(agent, 1)], cache=True)
    return of_crew(world, crew, outputs=["saw [0-9a-f]{10}"], llm_calls=4, tool_runs=1)


def limited_tool(world: World) -> Scenario:
    """A tool that may be used once; the second time in a task it refuses."""
    agent = world.agent(llm=world.llm(tool_rounds=2), tools=[world.lookup(max_usage_count=1)])
    crew = Crew(agents=[agent], tasks=[step(agent, 0), step(agent, 1)], cache=False)
    return of_crew(world, crew, outputs=[saw("Writer")], llm_calls=6, tool_runs=2)


def limited_tool_native(world: World) -> Scenario:
    """The same where tools are called natively."""
    agent = world.agent(llm=world.llm(native=True, tool_rounds=2), tools=[world.lookup(max_usage_count=1)])
    crew = Crew(agents=[agent], tasks=[step(agent, 0), step(agent, 1)], cache=False)
    return of_crew(world, crew, outputs=[saw("Writer")], llm_calls=6, tool_runs=2)


BUILDERS = (
    limited_tool,
    limited_tool_native,
    failing_tool,
    failing_tool_native,
    outage,
    silent,
    silent_native,
    cached_tool,
    cached_tool_native,
)
"""Every scenario of this file."""
