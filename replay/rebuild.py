"""The state at a cursor: the nearest snapshot at or before it, and the events after that one."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.errors import CompactedError, EventFormatError, LogDamagedError
from eventlog.lineage import SEQ_MAX, steadily
from eventlog.logger import Logger
from eventlog.read import Reader
from eventlog.replay.fold import FOLD_VERSION, begin_fold, fold_events
from eventlog.replay.projection import Projection, run_projection
from eventlog.replay.state import RunState
from eventlog.seal import SNAPSHOT
from eventlog.values import collect_refs, plain, resolve

STATE_PROJECTION = "run"
"""Name under which snapshots of ``RunState`` are stored."""
_NEAREST = (
    "SELECT s.seq, s.state, s.proof, e.digest FROM snapshots AS s LEFT JOIN events AS e ON e.seq = s.seq"
    " WHERE s.branch = ? AND s.projection = ? AND s.version = ? AND s.seq >= ? AND s.seq <= ? AND s.state <> ''"
    " ORDER BY s.seq DESC LIMIT 1"
)
log = Logger(__name__)


def rebuild_state(reader: Reader, run: str, branch: str, to: int = SEQ_MAX) -> RunState:
    """Return the state of a branch at ``to`` (inclusive), large values still as references.

    Raises:
        CompactedError: ``to`` lies before the base of the branch.
    """

    def rebuild() -> RunState:
        row = reader.branch_id(run, branch)
        seq, start = _nearest(reader, row, to)
        return fold_events(reader.stored(row, after=seq, to=to, whole=True), start, run=run, branch=branch)

    return steadily(rebuild)


def refold_state(reader: Reader, run: str, branch: str, to: int) -> RunState:
    """Return the state of a branch at ``to``, without any snapshot: from its base, or else from its start."""

    def refold() -> RunState:
        row = reader.branch_id(run, branch)
        seq, start = _at_base(reader, row, None)
        return fold_events(reader.stored(row, after=seq, to=to, whole=True), start, run=run, branch=branch)

    return steadily(refold)


def rebuild_projection(reader: Reader, chosen: Projection, run: str, branch: str, to: int = SEQ_MAX) -> Any:
    """Return the state of a user's projection at ``to`` (inclusive).

    Raises:
        CompactedError: ``to`` lies before the base, or the branch was compacted in a process that did not know the
            projection, or knew another version of it.
    """

    def rebuild() -> Any:
        row = reader.branch_id(run, branch)
        seq, start = _nearest(reader, row, to, chosen)
        return run_projection(chosen, reader.stored(row, after=seq, to=to, whole=True), start)

    return steadily(rebuild)


def nearest_state(reader: Reader, run: str, branch: str, to: int = SEQ_MAX) -> RunState:
    """Return the last stored state of a branch at or before ``to``; an empty one when there is none."""
    row = reader.branch_id(run, branch)
    _, state = _nearest(reader, row, to)
    return begin_fold(state, run=run, branch=branch).result()


def _nearest(reader: Reader, branch: int, to: int, chosen: Projection | None = None) -> tuple[int, Any]:
    """Return seq and state of the last usable snapshot of a lineage, or of its base; (0, None) without either."""
    projection, version = (chosen.name, chosen.version) if chosen else (STATE_PROJECTION, FOLD_VERSION)
    for owner, low, high in reversed(reader.lineage(branch, to)):
        last = high
        while rows := reader.query(_NEAREST, (owner, projection, version, low, last)):
            seq, text, proof, digest = rows[0]
            try:
                reader.soundness.require_snapshot(proof, digest, seq, projection, version, text)
                return seq, _decoded(seq, reader.seal.unseal_text(text, SNAPSHOT, projection, seq), chosen)
            except (EventFormatError, LogDamagedError, msgspec.MsgspecError, RecursionError) as error:
                log.warning("snapshot_ignored", seq=seq, error=str(error))  # it is only a shortcut
            last = seq - 1
    return _at_base(reader, branch, chosen)


def _at_base(reader: Reader, branch: int, chosen: Projection | None) -> tuple[int, Any]:
    """Return seq and state of the base of a lineage; (0, None) when it has none.

    Raises:
        CompactedError: the projection was not settled there.
        LogDamagedError: the base cannot be read.
    """
    base = reader.base(branch)
    if base is None:
        return 0, None
    try:
        if chosen is None:
            return base.seq, msgspec.json.decode(base.state, type=RunState)
        settled = msgspec.json.decode(base.projections).get(chosen.name, {})
    except (msgspec.MsgspecError, RecursionError, AttributeError) as error:
        raise LogDamagedError(str(reader.file), f"the base at {base.seq} cannot be read: {error}") from error
    if settled.get("version") != chosen.version:
        run, name = reader.branch_name(branch)
        what = f"the events that projection {chosen.name!r} version {chosen.version} needs"
        raise CompactedError(run or "", name, base.seq, what)
    return base.seq, settled.get("state")


def _decoded(seq: int, text: str, chosen: Projection | None) -> Any:
    """Return a stored state.

    Raises:
        EventFormatError: it is that of another cursor.
        MsgspecError, RecursionError: it is none.
    """
    if chosen is not None:
        return msgspec.json.decode(text)
    state = msgspec.json.decode(text, type=RunState)
    if state.cursor != seq:
        raise EventFormatError(f"it is the state at {state.cursor}")
    return state


def shown_state(reader: Reader, state: RunState) -> dict[str, Any]:
    """Return a state for people and programs: references filled in, tags made readable."""
    tree = msgspec.to_builtins(state)
    collect_refs(tree)
    return plain(resolve(tree, reader.content))  # type: ignore[no-any-return]
