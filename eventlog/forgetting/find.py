"""Which rows hold a value, and what they are without it. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from eventlog.bases import Base, as_base
from eventlog.errors import ForgetError
from eventlog.forgetting.needle import LABEL_MARKER, Needle
from eventlog.forgetting.stale import events_of_names, events_of_paths, states_of_bases, states_of_events
from eventlog.forgetting.stored import Query, as_json, as_tree, closed, opened
from eventlog.pieces import join_pieces
from eventlog.replay.state import RunState

PAGE_ROWS = 500
PIECES_DEPTH_MAX = 32

_EVENTS = (
    "SELECT seq, event_id, parent, previous, triggered, started, payload FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
)
_CONTENTS = "SELECT id, hash, kind, body FROM contents WHERE id > ? ORDER BY id LIMIT ?"
_CONTENT = "SELECT kind, body FROM contents WHERE hash = ?"
_SNAPSHOTS = "SELECT id, state FROM snapshots WHERE id > ? AND state <> '' ORDER BY id LIMIT ?"
_MARKS = "SELECT id, data FROM checkpoint_marks WHERE id > ? AND data IS NOT NULL ORDER BY id LIMIT ?"
_NAMES = "SELECT id, kind, name, label FROM names WHERE id > ? ORDER BY id LIMIT ?"
_PATHS = "SELECT id, parent, label FROM paths WHERE id > ? ORDER BY id LIMIT ?"
_EXECUTIONS = "SELECT branch, path, name, key FROM executions"
_BASES = (
    "SELECT branch, seq, digest, state, projections, spent, keeps_tape, events, created_ns, proof FROM bases"
    " ORDER BY branch"
)
_LINKS = ("event_id", "parent", "previous", "triggered", "started")


class Changes(msgspec.Struct):
    """What is to be written where."""

    events: dict[int, dict[str, Any]] = {}
    """Seq → new columns."""
    contents: dict[int, tuple[str, str, str, bool]] = {}
    """Row → hash, kind, body, and whether the hash still fits."""
    names: dict[int, tuple[str, str, str]] = {}
    """Row → kind, name, label."""
    paths: dict[int, tuple[int, str]] = {}
    """Row → parent, label."""
    executions: list[tuple[str, str, int, int]] = []
    """Name, key, branch, path."""
    bases: list[Base] = []
    """Without a valid proof."""
    marks: dict[int, str] = {}
    snapshots: set[int] = set()
    """Rows whose states hold it, or were folded from what did."""
    touched: set[int] = set()
    """Seqs of the events that differ from their digest then."""
    fixed: list[str] = []
    """Where it stands and cannot be taken out."""


def find_changes(query: Query, needle: Needle) -> Changes:
    """Return every row that holds the value, without it.

    Raises:
        EventFormatError: a row cannot be read.
        ForgetError: it is part of what a base needs.
    """
    changes = Changes()
    _look_at_events(query, needle, changes)
    _look_at_contents(query, needle, changes)
    _look_at_names(query, needle, changes)
    _look_at_states(query, needle, changes)
    changes.touched = {
        *changes.events,
        *events_of_names(query, changes.names),
        *events_of_paths(query, changes.paths),
    }
    changes.snapshots |= states_of_events(query, changes.touched) | states_of_bases(query, changes.bases)
    changes.fixed = list(_fixed_names(query, needle))
    return changes


def pages(query: Query, sql: str) -> Iterator[Any]:
    """Yield all rows of a query that reads on after the row it read last."""
    after = 0
    while rows := query(sql, (after, PAGE_ROWS)):
        yield from rows
        after = rows[-1][0]


def _look_at_events(query: Query, needle: Needle, changes: Changes) -> None:
    """Look at payloads, and at ids that a user gave."""
    for seq, *links, payload in pages(query, _EVENTS):
        new: dict[str, Any] = {
            name: needle.clean(link)
            for name, link in zip(_LINKS, links, strict=True)
            if isinstance(link, str) and needle.is_in(link)
        }
        cleaned = needle.clean_json(opened(payload))
        if cleaned is not None:
            new["payload"] = closed(cleaned)
        if new:
            changes.events[seq] = new


def _look_at_contents(query: Query, needle: Needle, changes: Changes) -> None:
    """Look at large values; a text in pieces is looked at as a whole, and no longer kept in pieces if one changes."""
    in_pieces = []
    for row, name, kind, stored in pages(query, _CONTENTS):
        body = opened(stored)
        if kind == "pieces":
            in_pieces.append((row, name, body))
            continue
        cleaned = needle.clean(body) if kind == "text" else needle.clean_json(body)
        if cleaned is not None and cleaned is not body:
            changes.contents[row] = (name, kind, closed(cleaned), False)
    changed = {name for name, *_ in changes.contents.values()}
    for row, name, body in in_pieces:
        whole, uses = _joined(query, body)
        cleaned = needle.clean(whole)
        if cleaned is not whole or uses & changed:
            changes.contents[row] = (name, "text", closed(cleaned), cleaned is whole)


def _joined(query: Query, body: str, depth: int = 0) -> tuple[str, set[str]]:
    """Return the text that pieces make up, and the hashes of all that it is made of."""
    uses: set[str] = set()

    def lookup(name: str) -> str:
        rows = query(_CONTENT, (name,)) if depth < PIECES_DEPTH_MAX else []
        uses.add(name)
        if not rows:
            return ""
        text = opened(rows[0][1])
        if rows[0][0] == "pieces":
            text, inner = _joined(query, text, depth + 1)
            uses.update(inner)
        return text

    return join_pieces(as_tree(body), lookup), uses


def _look_at_names(query: Query, needle: Needle, changes: Changes) -> None:
    """Look at what is interned, and at the index of executions."""
    for row, kind, name, label in pages(query, _NAMES):
        new = (kind, needle.clean(opened(name)), needle.clean(opened(label)))
        if new != (kind, opened(name), opened(label)):
            changes.names[row] = (kind, closed(new[1]), closed(new[2]))
    for row, parent, label in pages(query, _PATHS):
        if needle.is_in(opened(label)):
            changes.paths[row] = (parent, closed(needle.clean(opened(label), LABEL_MARKER)))
    for branch, path, name, key in query(_EXECUTIONS, ()):
        if needle.is_in(opened(name)) or needle.is_in(opened(key)):
            cleaned = closed(needle.clean(opened(name))), closed(needle.clean(opened(key)))
            changes.executions.append((*cleaned, branch, path))


def _look_at_states(query: Query, needle: Needle, changes: Changes) -> None:
    """Look at bases, which cannot be folded anew, at snapshots, which can, and at what CrewAI stored."""
    for row in query(_BASES, ()):
        base = as_base(row)
        texts = [needle.clean_json(opened(text)) for text in (base.state, base.projections, base.spent)]
        if any(text is not None for text in texts):
            state, projections, spent = (
                old if new is None else closed(new)
                for old, new in zip((base.state, base.projections, base.spent), texts, strict=True)
            )
            changes.bases.append(
                _readable(msgspec.structs.replace(base, state=state, projections=projections, spent=spent))
            )
    changes.snapshots = {row for row, state in pages(query, _SNAPSHOTS) if needle.clean_json(opened(state)) is not None}
    for row, data in pages(query, _MARKS):
        tree = as_tree(opened(data))
        cleaned = needle.clean_tree(tree)
        if cleaned != tree:
            changes.marks[row] = closed(as_json(cleaned))


def _readable(base: Base) -> Base:
    """Return a base whose state can still be read.

    Raises:
        ForgetError: it cannot: the value is part of its form.
    """
    try:
        state = msgspec.json.decode(opened(base.state), type=RunState)
    except msgspec.MsgspecError:
        state = None
    if state is None or state.cursor != base.seq:
        raise ForgetError("the value is part of the form of a stored state, not of what it tells")
    return base


def _fixed_names(query: Query, needle: Needle) -> Iterator[str]:
    """Yield where it stands in names by which runs and branches are found."""
    for row, name in query("SELECT id, name FROM runs ORDER BY id", ()):
        if needle.is_in(name):
            yield f"the name of a run holds it, and runs cannot be renamed: row {row} of the runs"
    for run, row, name in query("SELECT run, id, name FROM branches ORDER BY id", ()):
        if needle.is_in(name):
            yield f"the name of a branch holds it, and branches cannot be renamed: row {row} of the branches, run {run}"
