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
from eventlog.digests import BrokenRowError
from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.record import FLAG_REDACTED
from eventlog.repair.links import Links
from eventlog.replay.path import above, execution_of, kind_of
from eventlog.requests import without_addresses
from eventlog.seal import EVENT, EXECUTION, PATH
from eventlog.transfer.lines import EventLine, opens_execution, status_after

ASKED = {"crew": "inputs", "agent": "messages"}
_TOLD = (
    "SELECT e.seq, e.branch, e.path, e.flags, e.payload, n.name FROM events AS e JOIN names AS n ON n.id = e.type"
    " WHERE e.verdict IN ('proven', 'changed', 'unproven') AND (n.name LIKE '%\\_started' ESCAPE '\\'"
    " OR n.name IN ('eventlog.definition', 'eventlog.execution_aborted') OR n.name LIKE '%\\_completed' ESCAPE '\\'"
    " OR n.name LIKE '%\\_finished' ESCAPE '\\' OR n.name LIKE '%\\_failed' ESCAPE '\\' OR n.name LIKE '%\\_error'"
    " ESCAPE '\\' OR n.name LIKE '%\\_paused' ESCAPE '\\') ORDER BY e.seq"
)
_TEXTS = "SELECT branch, path, started_seq, name, key, inputs_hash FROM executions"
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
    _drop_unreadable(links)
    made: dict[tuple[int, int], int] = {}
    for row in links.work.db.execute(_TOLD):
        told = _read(links, row)
        if told is None:
            continue
        place = (told.branch, told.path_row)
        line = EventLine(seq=1, event_id="-", type=told.type, at_ns=0, path=told.path)
        if opens_execution(line) and links.work.db.execute(_KNOWN, place).fetchone() is None:
            _put(links, told)
            made[place] = told.seq
        elif place in made:
            _go_on(links, told, status_after(line), made[place])
    return len(made)


def _drop_unreadable(links: Links) -> None:
    """Take rows out whose texts do not open: in an encrypted log nobody could read the index any more."""
    for branch, path, started, *texts in links.work.db.execute(_TEXTS).fetchall() if links.seal else ():
        try:
            for field, text in zip(("name", "key", "inputs"), texts, strict=True):
                links.opened(text, EXECUTION, field, started)
        except EventFormatError:
            links.work.db.execute("DELETE FROM executions WHERE branch = ? AND path = ?", (branch, path))


def _read(links: Links, row: Any) -> _Told | None:
    """Return an event if it may tell something: its path is that of an execution."""
    seq, branch, path_row, flags, payload, kind = row
    try:
        path = links.path(path_row)
        if not path or execution_of(path) != path:
            return None
        fields = decode_payload(links.opened(payload, EVENT, seq))
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
    name, asked_hash = (
        links.seal.seal_text(text, EXECUTION, field, told.seq)
        for field, text in (("name", str(name)), ("inputs", asked_hash))
    )
    row = (told.branch, told.path_row, parent, kind, name, "", asked_hash, told.seq)
    links.work.db.execute(_PUT, row)


def _go_on(links: Links, told: _Told, status: str | None, started: int) -> None:
    """Take in what a later event tells of a kickoff."""
    if told.type == "eventlog.definition":
        texts = ((field, str(told.fields.get(field) or "")) for field in ("key", "name"))
        facts = [links.seal.seal_text(text, EXECUTION, field, started) for field, text in texts]
        links.work.db.execute(_DEFINE, (*facts, told.branch, told.path_row))
    elif status is not None:
        links.work.db.execute(_END, (status, told.seq, told.branch, told.path_row))


def _row_of(links: Links, path: str) -> int | None:
    """Return the row of a path."""
    row: int | None = 0
    for label in path.split("/")[1:]:
        stored = links.seal.seal_name(label, PATH)
        row = links.work.one("SELECT id FROM paths WHERE parent = ? AND label = ?", row, stored)
    return row
