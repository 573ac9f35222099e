"""Compares two runs: their states field by field, or their events one by one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any, Literal

import msgspec

from eventlog.nesting import nests_too_deep
from eventlog.record import StoredEvent
from eventlog.replay.state import RunState


class Difference(msgspec.Struct, frozen=True):
    """One place where two trees differ."""

    path: str
    """Where, like ``tasks[2].output``; empty when the trees differ as wholes."""
    kind: Literal["changed", "removed", "added"]
    """``removed``: only the left has it; ``added``: only the right."""
    left: Any = None
    right: Any = None


class EventDifference(msgspec.Struct, frozen=True):
    """The first place where two histories differ."""

    index: int
    """How many events before it are alike."""
    left: StoredEvent | None
    """``None`` when the left history ends here."""
    right: StoredEvent | None
    differences: list[Difference]


_OWN_TO_A_RUN = ("run", "branch", "cursor", "started_at", "updated_at")
_OWN_TO_A_ROW = ("id", "event_id", "seq", "started_seq", "completed_seq", "ended_seq")
_ROWS = ("executions", "tasks", "methods", "open", "gaps")

_OWN_TO_AN_EVENT = frozenset(
    {"call_id", "completed", "finished", "request", "request_id", "response_id", "context_id", "session_id", "task_id"}
)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_TIME_NAME = re.compile(r"(_at|_ms|timestamp)$")
_UUID_OR_TIME = re.compile(
    rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?"
)


def diff_states(left: RunState | dict[str, Any], right: RunState | dict[str, Any]) -> list[Difference]:
    """Return where two states differ, ids, seqs and times aside. States resolved to plain dicts compare by value."""
    return diff_trees(_comparable(left), _comparable(right))


def diff_trees(left: Any, right: Any) -> list[Difference]:
    """Return where two JSON trees differ, in the order of the left one."""
    found: list[Difference] = []
    work: list[tuple[str, Any, Any]] = [("", left, right)]
    while work:
        path, a, b = work.pop()
        if isinstance(a, dict) and isinstance(b, dict):
            names = [*a, *(name for name in b if name not in a)]
            below = [(_join(path, n), a.get(n, _ABSENT), b.get(n, _ABSENT)) for n in names]
            work.extend(reversed(below))
        elif isinstance(a, list) and isinstance(b, list):
            pairs = zip_longest(a, b, fillvalue=_ABSENT)
            work.extend(reversed([(f"{path}[{i}]", x, y) for i, (x, y) in enumerate(pairs)]))
        elif type(a) is not type(b) or a != b:
            found.append(_difference(path, a, b))
    return found


def first_difference(left: Iterable[StoredEvent], right: Iterable[StoredEvent]) -> EventDifference | None:
    """Return the first pair of events that say different things; ``None`` when both histories agree to the end.

    Ids, times and durations do not count. Reads no further than it must.
    """
    for index, (a, b) in enumerate(zip_longest(left, right)):
        if a is None or b is None:
            return EventDifference(index, a, b, [])
        differences = diff_trees(_said(a), _said(b)) if a.payload != b.payload or _header(a) != _header(b) else []
        if differences:
            return EventDifference(index, a, b, differences)
    return None


_ABSENT: Any = object()


def _join(path: str, name: str) -> str:
    """Return the path of a field."""
    return f"{path}.{name}" if path else name


def _difference(path: str, left: Any, right: Any) -> Difference:
    """Return what a reader is told."""
    if left is _ABSENT:
        return Difference(path, "added", None, right)
    if right is _ABSENT:
        return Difference(path, "removed", left, None)
    return Difference(path, "changed", left, right)


def _comparable(state: RunState | dict[str, Any]) -> dict[str, Any]:
    """Return a state without what is new in every run; values of the user's are left alone."""
    tree: dict[str, Any] = msgspec.to_builtins(state) if isinstance(state, RunState) else state
    kept = {name: value for name, value in tree.items() if name not in _OWN_TO_A_RUN}
    for name in _ROWS:
        rows = kept.get(name, [])
        kept[name] = [{k: v for k, v in row.items() if k not in _OWN_TO_A_ROW} for row in rows]
    kept["flow_state"] = _without_minted_id(kept.get("flow_state"))
    return kept


def _without_minted_id(flow_state: Any) -> Any:
    """Return a flow's state without the id CrewAI gave it; an id the user chose is theirs."""
    minted = flow_state.get("id") if isinstance(flow_state, dict) else None
    if not isinstance(minted, str) or not _UUID.fullmatch(minted):
        return flow_state
    return {name: value for name, value in flow_state.items() if name != "id"}


def _header(event: StoredEvent) -> tuple[str, str, str | None, str | None]:
    """Return what of a header is the same in two equal runs."""
    return event.type, event.path, event.task_name, event.agent_role


def _said(event: StoredEvent) -> dict[str, Any]:
    """Return what an event says: its type, place and payload without ids and times."""
    names = ("type", "path", "task_name", "agent_role")
    return {**dict(zip(names, _header(event), strict=True)), "payload": _payload(event.payload)}


def _payload(payload: bytes) -> Any:
    """Return a payload without ids and times; a malformed one as text."""
    try:
        tree = None if nests_too_deep(payload) else msgspec.json.decode(_UUID_OR_TIME.sub(b"*", payload))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        tree = None
    if not isinstance(tree, dict):
        return payload.decode("utf-8", "replace")
    return {k: v for k, v in tree.items() if k not in _OWN_TO_AN_EVENT and not _TIME_NAME.search(k)}
