"""The state a flow begins with: part of what it is asked, as its inputs are.

CrewAI keeps the state of a flow object between its kickoffs. A second attempt with the same
object, which nobody touched since the first ended, is told to be one: it begins with what the
first began with.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

RAN_MAX = 1_000
_ran: dict[int, tuple[Callable[[], Any], Any, Any]] = {}
"""Flows that ran in this process: weak reference, the state it began with, the state it was left with."""


def starting_state(flow: Any) -> dict[str, Any]:
    """Return the fields of the state that a kickoff of a flow begins with, without its id."""
    now = _state_of(flow)
    ref, began, left = _ran.get(id(flow), (lambda: None, None, None))
    return began if ref() is flow and _is_equal(left, now) else now


def note_state(flow: Any, began: Any) -> None:
    """Take down the state a flow is left with."""
    while len(_ran) >= RAN_MAX:
        _ran.pop(next(iter(_ran)))
    with suppress(TypeError):  # a class without weak references
        _ran[id(flow)] = (weakref.ref(flow), began, _state_of(flow))


def _state_of(flow: Any) -> dict[str, Any]:
    """Return a copy of the fields of a flow's state."""
    state = getattr(flow, "state", None)
    fields = state if isinstance(state, dict) else getattr(state, "__dict__", None) or {}
    shown = {str(k): v for k, v in fields.items() if k != "id"}
    try:
        return deepcopy(shown)
    except Exception:  # something that cannot be copied
        return {k: repr(v) for k, v in shown.items()}


def _is_equal(left: Any, right: Any) -> bool:
    """Whether two states are equal, as far as they can be compared."""
    try:
        return bool(left == right)
    except Exception:
        return False
