"""The index of executions, where its rows are lost: told again by the events that begin and end kickoffs.

What a kickoff was asked tells it from others when a run goes on. For crews and agents the event that begins it says
so; for a flow that begins with a state, a task, or inputs from which a secret was taken, nothing does any more: such
a kickoff will be taken for a new one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from eventlog.codec import dump_json
from eventlog.digests import BrokenRowError, as_stored
from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.record import FLAG_REDACTED
from eventlog.repair.links import Links
from eventlog.replay.path import above, execution_of, kind_of
from eventlog.requests import without_addresses
from eventlog.transfer.lines import EventLine, opens_execution, status_after

ASKED = {"crew": "inputs", "agent": "messages"}
_TOLD = (
    "SELECT e.seq, e.branch, e.path, e.flags, e.payload, n.name FROM events AS e JOIN names AS n ON n.id = e.type"
    " WHERE e.verdict IN ('proven', 'changed', 'unproven') AND (n.name LIKE '%\\_started' ESCAPE '\\'"
    " OR n.name IN ('eventlog.definition', 'eventlog.execution_aborted') OR n.name LIKE '%\\_completed' ESCAPE '\\'"
    " OR n.name LIKE '%\\_finished' ESCAPE '\\' OR n.name LIKE '%\\_failed' ESCAPE '\\' OR n.name LIKE '%\\_error'"
    " ESCAPE '\\' OR n.name LIKE '%\\_paused' ESCAPE '\\') ORDER BY e.seq"
)
_KNOWN = "SELECT 1 FROM executions WHERE branch = ? AND path = ?"
_PUT = "INSERT INTO executions VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?, NULL)"
_END = "UPDATE executions SET status = ?, ended_seq = ? WHERE branch = ? AND path = ?"
_DEFINE = "UPDATE executions SET key = ?, name = coalesce(nullif(name, ''), ?) WHERE branch = ? AND path = ?"


class _Told(msgspec.Struct):
    """An event that begins, ends or defines an execution."""

    seq: int
    branch: int
    path_row: int
    path: str
    type: str
    flags: int
    fields: dict[str, Any]


def tell_again(links: Links) -> int:
    """Fill in rows of the index that are lost; returns how many kickoffs they are of."""
    made: set[tuple[int, int]] = set()
    for row in links.work.db.execute(_TOLD):
        told = _read(links, row)
        if told is None:
            continue
        place = (told.branch, told.path_row)
        line = EventLine(seq=1, event_id="-", type=told.type, at_ns=0, path=told.path)
        if opens_execution(line) and links.work.db.execute(_KNOWN, place).fetchone() is None:
            _put(links, told)
            made.add(place)
        elif place in made:
            _go_on(links, told, status_after(line))
    return len(made)


def _read(links: Links, row: Any) -> _Told | None:
    """Return an event if it may tell something: its path is that of an execution."""
    seq, branch, path_row, flags, payload, kind = row
    try:
        path = links.interned.path(path_row)
        if not path or execution_of(path) != path:
            return None
        fields = decode_payload(as_stored(payload))
    except (BrokenRowError, EventFormatError):
        return None
    return _Told(seq, branch, path_row, path, kind, flags, fields if isinstance(fields, dict) else {})


def _put(links: Links, told: _Told) -> None:
    """Put a kickoff into the index."""
    outer = execution_of(above(told.path))
    parent = _row_of(links, outer) if outer else None
    kind = kind_of(told.path)
    name = told.fields.get("crew_name") or told.fields.get("flow_name") or ""
    asked = told.fields.get(ASKED.get(kind, ""), None) or None
    is_known = kind in ASKED and not told.flags & FLAG_REDACTED
    asked_hash = blake2b(without_addresses(dump_json({"v": asked})), digest_size=8).hexdigest() if is_known else ""
    row = (told.branch, told.path_row, parent, kind, str(name), "", asked_hash, told.seq)
    links.work.db.execute(_PUT, row)


def _go_on(links: Links, told: _Told, status: str | None) -> None:
    """Take in what a later event tells of a kickoff."""
    if told.type == "eventlog.definition":
        facts = (str(told.fields.get("key") or ""), str(told.fields.get("name") or ""))
        links.work.db.execute(_DEFINE, (*facts, told.branch, told.path_row))
    elif status is not None:
        links.work.db.execute(_END, (status, told.seq, told.branch, told.path_row))


def _row_of(links: Links, path: str) -> int | None:
    """Return the row of a path."""
    row: int | None = 0
    for label in path.split("/")[1:]:
        row = links.work.one("SELECT id FROM paths WHERE parent = ? AND label = ?", row, label)
    return row
