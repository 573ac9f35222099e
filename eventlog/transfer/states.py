"""The state at a base, on its way into another log: other seqs, other names, large values among the contents. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any

import msgspec

from eventlog.codec import Encoded
from eventlog.recode import Recoder
from eventlog.replay.state import RunState

_SEQS = frozenset(("cursor", "started_seq", "completed_seq", "ended_seq", "seq"))
_VALUES = frozenset(("inputs", "error", "output", "result", "description", "flow_state"))
"""Fields that hold values of the user's."""
_PATHS = frozenset(("path", "execution", "parent", "root", "flow"))


class Seqs(msgspec.Struct):
    """Where the imported events stood, and where they stand; both in order."""

    old: list[int]
    new: list[int]

    def floor(self, seq: int) -> int:
        """Return where the last event at or before an old seq stands now; 0 before the first."""
        place = bisect_right(self.old, seq)
        return self.new[place - 1] if place else 0

    def ceiling(self, seq: int) -> int:
        """Return where the first event at or after an old seq stands now; behind the last, that one."""
        place = bisect_left(self.old, seq)
        return self.new[min(place, len(self.new) - 1)] if self.new else 0


def recode_state(recoder: Recoder, tree: dict[str, Any], seqs: Seqs, run: str, branch: str) -> Encoded:
    """Return the state of an export as this log stores it: its payload is JSON of the ``RunState``.

    The values of the user's are encoded again as those of events are; of the rest, only seqs and names change.
    """
    state = msgspec.convert(tree, RunState)
    state.run, state.branch = run, branch
    slots = list(_slots(state))
    encoded = recoder.encode({"values": [getattr(owner, name) for owner, name in slots]})
    for (owner, name), value in zip(slots, msgspec.json.decode(encoded.payload)["values"], strict=True):
        setattr(owner, name, value)
    _move(state, recoder, seqs)
    encoded.payload = msgspec.json.encode(state)
    return encoded


def _structs(state: RunState) -> list[Any]:
    """Return the state and the rows in it."""
    return [state, *state.executions, *state.tasks, *state.methods, *state.tools, *state.open, *state.gaps]


def _slots(state: RunState) -> list[tuple[Any, str]]:
    """Return every place that holds a value of the user's."""
    return [(row, name) for row in _structs(state) for name in row.__struct_fields__ if name in _VALUES]


def _move(state: RunState, recoder: Recoder, seqs: Seqs) -> None:
    """Put in the seqs of this log, and take known secrets out of names."""
    for row in _structs(state):
        for name in row.__struct_fields__:
            value = getattr(row, name)
            if name in _SEQS and value is not None:
                setattr(row, name, seqs.floor(value))
            elif isinstance(value, str) and name not in _VALUES:
                setattr(row, name, recoder.path(value) if name in _PATHS else recoder.text(value))
    state.llm.by_model = _cleaned(state.llm.by_model, recoder.text)
    state.unknown_types = _cleaned(state.unknown_types, recoder.text)
    state.user_types = _cleaned(state.user_types, recoder.text)


def _cleaned(items: dict[str, Any], text: Callable[[str], str]) -> dict[str, Any]:
    """Return a dict whose keys hold no secret."""
    return {text(key): value for key, value in items.items()}
