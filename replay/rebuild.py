"""The state at a cursor: the nearest snapshot at or before it, and the events after that one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from eventlog.errors import EventFormatError
from eventlog.logger import Logger
from eventlog.read import SEQ_MAX, Reader
from eventlog.replay.fold import FOLD_VERSION, begin_fold, fold_events
from eventlog.replay.projection import Projection, run_projection
from eventlog.replay.state import RunState
from eventlog.seal import SNAPSHOT
from eventlog.values import collect_refs, plain, resolve

STATE_PROJECTION = "run"
"""Name under which snapshots of ``RunState`` are stored."""
_NEAREST = (
    "SELECT seq, state FROM snapshots WHERE branch = ? AND projection = ? AND version = ? AND seq >= ? AND seq <= ?"
    " AND state <> '' ORDER BY seq DESC LIMIT 1"
)
log = Logger(__name__)


def rebuild_state(reader: Reader, run: str, branch: str, to: int = SEQ_MAX) -> RunState:
    """Return the state of a branch at ``to`` (inclusive), large values still as references."""
    row = reader.branch_id(run, branch)
    seq, start = _nearest(reader, row, to, STATE_PROJECTION, FOLD_VERSION, RunState)
    return fold_events(reader.stored(row, after=seq, to=to), start, run=run, branch=branch)


def rebuild_projection(reader: Reader, chosen: Projection, run: str, branch: str, to: int = SEQ_MAX) -> Any:
    """Return the state of a user's projection at ``to`` (inclusive)."""
    row = reader.branch_id(run, branch)
    seq, start = _nearest(reader, row, to, chosen.name, chosen.version, Any)
    return run_projection(chosen, reader.stored(row, after=seq, to=to), start)


def nearest_state(reader: Reader, run: str, branch: str, to: int = SEQ_MAX) -> RunState:
    """Return the last stored state of a branch at or before ``to``; an empty one when there is none."""
    row = reader.branch_id(run, branch)
    _, state = _nearest(reader, row, to, STATE_PROJECTION, FOLD_VERSION, RunState)
    return begin_fold(state, run=run, branch=branch).result()


def _nearest(reader: Reader, branch: int, to: int, projection: str, version: int, kind: Any) -> tuple[int, Any]:
    """Return seq and state of the last usable snapshot of a lineage; (0, None) when there is none."""
    for owner, low, high in reversed(reader.lineage(branch, to)):
        last = high
        while rows := reader.query(_NEAREST, (owner, projection, version, low, last)):
            seq, text = rows[0]
            state = _decoded(seq, partial(reader.seal.unseal_text, text, SNAPSHOT, projection, seq), kind)
            if state is not None:
                return seq, state
            last = seq - 1
    return 0, None


def _decoded(seq: int, unseal: Callable[[], str], kind: Any) -> Any:
    """Return a stored state, or ``None`` for a damaged one: a snapshot is only a shortcut."""
    try:
        state = msgspec.json.decode(unseal(), type=kind)
    except (EventFormatError, msgspec.MsgspecError, RecursionError) as error:
        log.warning("snapshot_ignored", seq=seq, error=str(error))
        return None
    if isinstance(state, RunState) and state.cursor != seq:
        log.warning("snapshot_ignored", seq=seq, error=f"it is the state at {state.cursor}")
        return None
    return state


def shown_state(reader: Reader, state: RunState) -> dict[str, Any]:
    """Return a state for people and programs: references filled in, tags made readable."""
    tree = msgspec.to_builtins(state)
    collect_refs(tree)
    return plain(resolve(tree, reader.content))  # type: ignore[no-any-return]
