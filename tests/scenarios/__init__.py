"""Every way of using CrewAI, offline and deterministic: real crews, flows, agents and tasks, scripted LLMs.

``build("sequential_react")`` returns fresh objects each time, and the same prompts each time: the outputs
of two builds are equal exactly if every LLM saw the same messages in both.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.scenarios import agents, crews, extras, flows, memories, tasks, troubles, values
from tests.scenarios.world import Scenario, World, texts

BUILDERS: dict[str, Callable[[World], Scenario]] = {
    builder.__name__: builder
    for builders in (crews.BUILDERS, tasks.BUILDERS, flows.BUILDERS, agents.BUILDERS)
    for builder in builders
}
"""Name to builder of every basic scenario."""

RARER: dict[str, Callable[[World], Scenario]] = {
    builder.__name__: builder
    for builders in (extras.BUILDERS, troubles.BUILDERS, values.BUILDERS, memories.BUILDERS)
    for builder in builders
}
"""Name to builder of those that have more in them: callbacks, errors, objects, a memory."""

NAMES = tuple(BUILDERS)
"""For ``pytest.mark.parametrize``."""

SHAPES = (*NAMES, *RARER)
"""All of them: what a run can be cut off in."""


def build(name: str, world: World | None = None) -> Scenario:
    """Return a scenario made of fresh objects, in a world of its own unless one is given."""
    builder = BUILDERS.get(name) or RARER[name]
    scenario = builder(world or World())
    scenario.name = name
    return scenario


__all__ = ["BUILDERS", "NAMES", "RARER", "SHAPES", "Scenario", "World", "build", "texts"]
