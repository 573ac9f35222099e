"""Agents and LLMs on their own, without task, crew or flow."""

from __future__ import annotations

import asyncio
from typing import Any

from crewai import Agent

from tests.scenarios.tasks import Report
from tests.scenarios.world import Scenario, World, saw

QUESTION = "What is tea?"


def taster(world: World, *, native: bool = False) -> Agent:
    """Return an agent that looks up one fact."""
    return world.agent("Taster", llm=world.llm(tool_rounds=1, native=native), tools=[world.lookup()])


def of_agent(world: World, agent: Agent, start: Any) -> Scenario:
    """Return the scenario that asks the agent the question."""
    return Scenario(
        world=world, subject=agent, inputs=QUESTION, start=start, outputs=[saw("Taster")], llm_calls=2, tool_runs=1
    )


def agent_kickoff(world: World) -> Scenario:
    """An agent answers in ReAct text."""
    agent = taster(world)
    return of_agent(world, agent, lambda: agent.kickoff(QUESTION))


def agent_kickoff_native(world: World) -> Scenario:
    """An agent calls its tool natively."""
    agent = taster(world, native=True)
    return of_agent(world, agent, lambda: agent.kickoff(QUESTION))


def agent_kickoff_async(world: World) -> Scenario:
    """An agent in an event loop."""
    agent = taster(world)
    return of_agent(world, agent, lambda: asyncio.run(agent.kickoff_async(QUESTION)))


def agent_akickoff(world: World) -> Scenario:
    """An agent in an event loop, by the newer name."""
    agent = taster(world)
    return of_agent(world, agent, lambda: asyncio.run(agent.akickoff(QUESTION)))


def agent_structured(world: World) -> Scenario:
    """An agent returns an instance of a model."""
    agent = world.agent("Taster")
    return Scenario(
        world=world,
        subject=agent,
        inputs=QUESTION,
        start=lambda: agent.kickoff(QUESTION, response_format=Report),
        outputs=[r'\{"title":"[0-9a-f]{10}",.*\}'],
        llm_calls=1,
    )


def llm_call(world: World) -> Scenario:
    """An LLM asked directly."""
    llm = world.llm()
    return Scenario(
        world=world,
        subject=llm,
        inputs=QUESTION,
        start=lambda: llm.call(QUESTION),
        outputs=[saw("llm")],
        llm_calls=1,
    )


def llm_acall(world: World) -> Scenario:
    """An LLM asked directly in an event loop."""
    llm = world.llm()
    return Scenario(
        world=world,
        subject=llm,
        inputs=QUESTION,
        start=lambda: asyncio.run(llm.acall(QUESTION)),
        outputs=[saw("llm")],
        llm_calls=1,
    )


BUILDERS = (
    agent_kickoff,
    agent_kickoff_native,
    agent_kickoff_async,
    agent_akickoff,
    agent_structured,
    llm_call,
    llm_acall,
)
"""Every scenario of this file."""
