"""A state while events are applied to it: rows found by name, payloads read into small Structs. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from eventlog.nesting import nests_too_deep
from eventlog.record import StoredEvent
from eventlog.replay.open_scopes import OpenScopes
from eventlog.replay.state import RunState, iso_utc
from eventlog.replay.task_index import TaskIndex

PayloadT = TypeVar("PayloadT", bound=msgspec.Struct)
Step = Callable[["Folding", StoredEvent], None]
"""Applies one event to the state."""


class Folding:
    """A ``RunState`` and what finds its rows; every index can be rebuilt from the state alone."""

    def __init__(self, state: RunState) -> None:
        """Index ``state``, which is changed in place from here on."""
        self.state = state
        self.executions = {row.path: row for row in state.executions}
        self.tasks = TaskIndex(state.tasks)
        self.methods = {(row.execution, row.name): row for row in state.methods}
        self.tools = {row.name: row for row in state.tools}
        self.open = OpenScopes(state.open)
        self._updated_ns: int | None = None
        self._malformed = False

    def count(self, event: StoredEvent) -> None:
        """Move the cursor and the times to ``event``."""
        if self.state.started_at is None:
            self.state.started_at = iso_utc(event.at_ns)
        self.state.cursor = event.seq
        self.state.event_count += 1
        self._updated_ns = event.at_ns
        self._malformed = False

    def count_malformed(self) -> None:
        """Count the payload of this event as malformed, once however many steps read it."""
        if not self._malformed:
            self.state.malformed += 1
            self._malformed = True

    def result(self) -> RunState:
        """Return the state, up to date; it changes again with the next event: see ``copy_state``."""
        self.state.open = self.open.rows()
        if self._updated_ns is not None:
            self.state.updated_at = iso_utc(self._updated_ns)
        return self.state


def reading(struct: type[PayloadT], step: Callable[[Folding, StoredEvent, PayloadT], None]) -> Step:
    """Return a step that gets the payload as ``struct``.

    A payload that does not fit is counted as malformed and read as an empty one: what the header
    says (this task ended, this call failed) is still true.
    """
    decoder = msgspec.json.Decoder(struct)

    def apply(work: Folding, event: StoredEvent) -> None:
        step(work, event, _read(work, event.payload, decoder, struct))

    return apply


def as_text(value: Any) -> str:
    """Return a name out of a payload; anything but a string is no name."""
    return value if isinstance(value, str) else ""


def _read(work: Folding, payload: bytes, decoder: msgspec.json.Decoder[PayloadT], struct: type[PayloadT]) -> PayloadT:
    """Return the payload, or an empty one when it is malformed."""
    if not nests_too_deep(payload):
        try:
            return decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # counted below
            pass
    work.count_malformed()
    return struct()
