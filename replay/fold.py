"""Folds events into the state of a run: same events, same state, on every machine. Pure.

The fold is total: no payload makes it fail, an unknown type is counted. It is strict about order
alone, because a state folded out of order would be wrong without a sign. Each event costs the
same however long the history is.

What a type changes is written beside the things it changes: ``fold_executions``, ``fold_tasks``,
``fold_flows``, ``fold_calls``, ``fold_scopes``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from eventlog.errors import EventFormatError
from eventlog.record import FLAG_REPLAYED, OWN_PREFIX, StoredEvent
from eventlog.replay import fold_calls, fold_executions, fold_flows, fold_fork, fold_tasks
from eventlog.replay.event_types import ENDS, KNOWN_TYPES, STARTS
from eventlog.replay.fold_scopes import close_scope, open_scope
from eventlog.replay.folding import Folding, Step, reading
from eventlog.replay.state import Gap, RunState, copy_state

FOLD_VERSION = 2
"""Goes up whenever the same events would give another state: older snapshots are then not used."""


def fold_events(events: Iterable[StoredEvent], start: RunState | None = None, *, run: str, branch: str) -> RunState:
    """Return the state after ``events``, which follow ``start``; ``start`` itself stays as it is.

    Raises:
        EventFormatError: the events are not in the order of their seq. Read them from one lineage.
    """
    work = begin_fold(start, run=run, branch=branch)
    for event in events:
        apply_event(work, event)
    return work.result()


def begin_fold(start: RunState | None = None, *, run: str, branch: str) -> Folding:
    """Return a fold to which ``apply_event`` adds events one by one; ``result()`` shows its state."""
    state = RunState(run=run, branch=branch) if start is None else copy_state(start)
    state.run, state.branch = run, branch
    return Folding(state)


def apply_event(work: Folding, event: StoredEvent) -> None:
    """Apply the next event in place.

    Raises:
        EventFormatError: its seq is not greater than that of the event before. Nothing was changed.
    """
    if event.seq <= work.state.cursor:
        message = f"seq {event.seq} comes after seq {work.state.cursor}: events are folded in order"
        raise EventFormatError(message)
    work.count(event)
    steps = _REPLAYED_STEPS if event.flags & FLAG_REPLAYED else _STEPS
    for step in steps.get(event.type, _UNLISTED):
        step(work, event)


class CaptureGap(msgspec.Struct):
    """Of ``eventlog.capture_gap``."""

    dropped: Any = None


def _gap(work: Folding, event: StoredEvent, payload: CaptureGap) -> None:
    """Events were lost here."""
    dropped = payload.dropped if type(payload.dropped) is int else 0
    work.state.gaps.append(Gap(seq=event.seq, dropped=dropped))


def _count_unlisted(work: Folding, event: StoredEvent) -> None:
    """Count a type that changes nothing else: the user's own (its name has a dot), or one we do not know."""
    own = "." in event.type and not event.type.startswith(OWN_PREFIX)
    counts = work.state.user_types if own else work.state.unknown_types
    counts[event.type] = counts.get(event.type, 0) + 1


def _steps_of(event_type: str, *, replayed: bool = False) -> tuple[Step, ...]:
    """Return what one known type does: first to the rows, then to the open scopes. A call said again counts once."""
    parts = [part for part in _PARTS if not (replayed and part is fold_calls)]
    steps = [part.STEPS[event_type] for part in parts if event_type in part.STEPS]
    if event_type == "eventlog.capture_gap":
        steps.append(reading(CaptureGap, _gap))
    if event_type in STARTS:
        steps.append(open_scope)
    if event_type in ENDS:
        steps.append(close_scope)
    return tuple(steps)


_PARTS = (fold_executions, fold_tasks, fold_flows, fold_calls, fold_fork)
_UNLISTED: tuple[Step, ...] = (_count_unlisted,)
_STEPS = {event_type: _steps_of(event_type) for event_type in KNOWN_TYPES}
_REPLAYED_STEPS = {event_type: _steps_of(event_type, replayed=True) for event_type in KNOWN_TYPES}
