"""Projections of the user's."""

from __future__ import annotations

from typing import Any

import pytest

from eventlog.record import Event
from eventlog.replay.projection import Projection, projection, registered_projections, run_projection
from eventlog.replay.tokens import read_usage
from tests.unit.histories import History

PRICES = {"m": (2, 10)}


@projection("cost_per_agent", version=1, initial=dict)
def cost_per_agent(costs: dict[str, int], event: Event) -> dict[str, int]:
    """Cents spent by each agent role: the example of the documentation."""
    if event.type == "llm_call_completed":
        tokens = read_usage(event.payload.get("usage"))
        prompt, completion = PRICES.get(event.payload["model"], (0, 0))
        role = event.agent_role or "(no agent)"
        costs[role] = costs.get(role, 0) + tokens.prompt * prompt + tokens.completion * completion
    return costs


def calls() -> History:
    """Return calls by two agents."""
    history = History()
    for role, prompt in (("Writer", 3), ("Editor", 1), ("Writer", 2)):
        usage = {"prompt_tokens": prompt, "completion_tokens": 1}
        history.add("llm_call_completed", agent_role=role, model="m", usage=usage, messages={"$content": "h", "n": 2})
    return history


def making(name: str, step: Any, initial: Any = dict) -> Projection:
    """Return a projection that nobody registered."""
    return Projection(name=name, version=1, initial=initial, step=step)


def test_the_documented_example_works() -> None:
    """Cost per agent is what users ask for first."""
    assert run_projection(cost_per_agent, calls().events) == {"Writer": 30, "Editor": 12}


def test_a_projection_continues_from_a_stored_state_without_changing_it() -> None:
    """Snapshots of projections are safe to reuse."""
    events = calls().events
    start = run_projection(cost_per_agent, events[:1])
    kept = dict(start)

    assert run_projection(cost_per_agent, events[1:], start) == run_projection(cost_per_agent, events)
    assert start == kept


def test_a_step_sees_the_payload_as_a_mapping_with_references_unresolved() -> None:
    """Reading large values for every event would make projections slow."""
    seen: list[Event] = []

    def remember(state: Any, event: Event) -> Any:
        seen.append(event)
        return state

    run_projection(making("seen", remember), calls().events[:1])

    assert seen[0].payload["messages"] == {"$content": "h", "n": 2}
    assert (seen[0].type, seen[0].agent_role, seen[0].seq) == ("llm_call_completed", "Writer", 1)


@pytest.mark.parametrize("raw", [b"[]", b"{", b"\xff", b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"])
def test_a_malformed_payload_is_an_empty_mapping(raw: bytes) -> None:
    """A user's step need not guard against strange files."""
    history = History()
    history.add("x.y", raw=raw)

    assert run_projection(making("p", lambda _state, event: [event.payload]), history.events) == [{}]


def test_the_decorator_registers_under_the_name() -> None:
    """The log finds it there and snapshots it by name and version; the newest of a name counts."""
    assert registered_projections()["cost_per_agent"] is cost_per_agent

    again = projection("cost_per_agent", version=2, initial=dict)(cost_per_agent.step)

    assert registered_projections()["cost_per_agent"] is again

    projection("cost_per_agent", version=1, initial=dict)(cost_per_agent.step)


def test_a_step_that_forgets_to_return_is_told_so() -> None:
    """The commonest mistake, with the place where it happened."""
    with pytest.raises(TypeError, match=r"'p' returned None for llm_call_completed at seq 1: return the state"):
        run_projection(making("p", lambda _state, _event: None), calls().events)


@pytest.mark.parametrize("value", [object(), float, "\ud800"])
def test_a_state_that_is_not_json_is_refused_by_name(value: Any) -> None:
    """It could not be stored; better now than at the first snapshot."""
    with pytest.raises(TypeError, match="projection 'p' is not JSON"):
        run_projection(making("p", lambda _state, _event: {"x": value}), calls().events)
