'''Projections: what users want to know about a run, folded from the same events. Pure.

Cost per agent::

    import eventlog
    from eventlog.replay.tokens import read_usage

    PRICES = {"gpt-4o": (2.5e-6, 10e-6)}  # dollars per token of prompt and completion

    @eventlog.projection("cost_per_agent", version=1, initial=dict)
    def cost_per_agent(costs, event):
        """Dollars spent by each agent role."""
        if event.type == "llm_call_completed":
            tokens = read_usage(event.payload.get("usage"))
            prompt, completion = PRICES.get(event.payload["model"], (0, 0))
            role = event.agent_role or "(no agent)"
            costs[role] = costs.get(role, 0) + tokens.prompt * prompt + tokens.completion * completion
        return costs

    log.project(cost_per_agent, "my-run")  # and at any cursor: to=...

The state is JSON: dicts with string keys, lists, strings, numbers, booleans, null; a snapshot keeps
it as such. A step depends on its two arguments alone: no clock, no files. Raise ``version`` when it
changes. Then a projection that continues from a snapshot equals one folded from the start.
'''

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from eventlog.nesting import nests_too_deep
from eventlog.record import Event, StoredEvent

ProjectionStep = Callable[[Any, Event], Any]
"""Returns the state after an event; it may change and return the state it is given."""


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """A named fold of the user's."""

    name: str
    version: int
    """Goes up when the step changes; snapshots of other versions are not used."""
    initial: Callable[[], Any]
    """Makes the state before the first event."""
    step: ProjectionStep


_registered: dict[str, Projection] = {}


def projection(name: str, *, version: int, initial: Callable[[], Any]) -> Callable[[ProjectionStep], Projection]:
    """Return a decorator that makes a step function a projection and registers it.

    A second projection of the same name takes the place of the first, as when a notebook's cell
    is run again.
    """

    def register(step: ProjectionStep) -> Projection:
        made = Projection(name=name, version=version, initial=initial, step=step)
        _registered[name] = made
        return made

    return register


def registered_projections() -> dict[str, Projection]:
    """Return every projection registered in this process, by name."""
    return dict(_registered)


def run_projection(chosen: Projection, events: Iterable[StoredEvent], start: Any = None) -> Any:
    """Return the projection's state after ``events``, which follow the state ``start``; that one stays as it is.

    The step gets each event with its payload decoded; references to large values stay
    ``{"$content": HASH}``, token counts are always there.

    Raises:
        TypeError: the state is not JSON, or the step returned nothing. Return a JSON state from it.
    """
    state = _json_copy(chosen, chosen.initial() if start is None else start)
    for event in events:
        state = chosen.step(state, decode_event(event))
        if state is None:
            message = f"projection {chosen.name!r} returned None for {event.type} at seq {event.seq}: return the state"
            raise TypeError(message)
    return _json_copy(chosen, state)


def decode_event(event: StoredEvent) -> Event:
    """Return an event with its payload as a mapping, references unresolved; empty when it is malformed."""
    header = {name: getattr(event, name) for name in _HEADER}
    return Event(**header, payload=_decode(event.payload))


_HEADER = tuple(name for name in Event.__struct_fields__ if name != "payload")


def _decode(payload: bytes) -> dict[str, Any]:
    """Return the payload's mapping; empty when there is none."""
    if nests_too_deep(payload):
        return {}
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _json_copy(chosen: Projection, state: Any) -> Any:
    """Return the state as it would come back from a snapshot."""
    try:
        return msgspec.json.decode(msgspec.json.encode(state))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        message = f"the state of projection {chosen.name!r} is not JSON: {error}"
        raise TypeError(message) from error
