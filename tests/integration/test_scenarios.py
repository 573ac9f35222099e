"""The scenarios other tests stand on do what they say, with CrewAI alone."""

from __future__ import annotations

import re

import pytest

from tests.scenarios import SHAPES, Scenario, build, texts


def run(scenario: Scenario) -> list[str]:
    """Return the texts of the result; none when the scenario raises as announced."""
    if scenario.raises is None:
        result = texts(scenario.start())
        scenario.world.settle()
        return result
    with pytest.raises(scenario.raises):
        scenario.start()
    return []


@pytest.mark.parametrize("name", SHAPES)
def test_a_scenario_gives_what_it_announces(name: str) -> None:
    """Tests of capture and replay compare with these numbers, so they must be true without us."""
    scenario = build(name)
    world = scenario.world

    outputs = run(scenario)

    assert len(outputs) == len(scenario.outputs)
    assert all(map(re.fullmatch, scenario.outputs, outputs)), outputs
    assert (world.llm_calls, len(world.tool_runs)) == (scenario.llm_calls, scenario.tool_runs)
    assert len(world.questions) == scenario.questions


@pytest.mark.parametrize("name", SHAPES)
def test_two_builds_of_a_scenario_ask_the_same(name: str) -> None:
    """An output is a digest of its prompt: were prompts not reproducible, no test of replay could use them."""
    first, second = build(name), build(name)

    assert run(first) == run(second)
