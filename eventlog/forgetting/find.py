"""Which rows hold a value, and what they are without it. Reads only; opens and seals what a sealed log keeps."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from eventlog.bases import Base, as_base, sealed_base, unsealed_base
from eventlog.errors import ForgetError
from eventlog.forgetting.changes import Changes
from eventlog.forgetting.needle import LABEL_MARKER, Needle
from eventlog.forgetting.stale import events_of_names, events_of_paths, states_of_bases, states_of_events
from eventlog.forgetting.stored import Query, as_json, as_tree, pages
from eventlog.forgetting.texts import find_in_contents, find_in_events
from eventlog.replay.state import RunState
from eventlog.seal import EXECUTION, NAME, PATH, SNAPSHOT, Seal

_SNAPSHOTS = "SELECT id, state, projection, seq FROM snapshots WHERE id > ? AND state <> '' ORDER BY id LIMIT ?"
_MARKS = "SELECT id, data FROM checkpoint_marks WHERE id > ? AND data IS NOT NULL ORDER BY id LIMIT ?"
_NAMES = "SELECT id, kind, name, label FROM names WHERE id > ? ORDER BY id LIMIT ?"
_PATHS = "SELECT id, parent, label FROM paths WHERE id > ? ORDER BY id LIMIT ?"
_EXECUTIONS = "SELECT branch, path, name, key, started_seq FROM executions"
_BASES = (
    "SELECT branch, seq, digest, state, projections, spent, keeps_tape, events, created_ns, proof FROM bases"
    " ORDER BY branch"
)


def find_changes(query: Query, seal: Seal, needle: Needle) -> Changes:
    """Return every row that holds the value, without it.

    Raises:
        EventFormatError: a row cannot be read.
        ForgetError: it is part of what a base needs.
    """
    changes = Changes(events=find_in_events(query, seal, needle), contents=find_in_contents(query, seal, needle))
    _look_at_names(query, seal, needle, changes)
    _look_at_executions(query, seal, needle, changes)
    _look_at_bases(query, seal, needle, changes)
    _look_at_states(query, seal, needle, changes)
    changes.touched = {
        *changes.events,
        *events_of_names(query, changes.names),
        *events_of_paths(query, changes.paths),
    }
    changes.snapshots |= states_of_events(query, changes.touched) | states_of_bases(query, changes.bases)
    changes.fixed = list(_fixed_names(query, needle))
    return changes


def _look_at_names(query: Query, seal: Seal, needle: Needle, changes: Changes) -> None:
    """Look at what is interned."""
    for row, kind, name, stored in pages(query, _NAMES):
        is_type = kind == "type"
        label = stored if is_type else seal.unseal_text(stored, NAME)
        new = (needle.clean(name), needle.clean(label))
        if new != (name, label):
            changes.names[row] = (kind, new[0], new[1] if is_type else seal.seal_name(new[1], NAME))
    for row, parent, stored in pages(query, _PATHS):
        label = seal.unseal_text(stored, PATH)
        if needle.is_in(label):
            cleaned = needle.clean(label, LABEL_MARKER)
            changes.paths[row] = (parent, seal.seal_name(cleaned, PATH), cleaned)


def _look_at_executions(query: Query, seal: Seal, needle: Needle, changes: Changes) -> None:
    """Look at the index of executions."""
    for branch, path, *stored, seq in query(_EXECUTIONS, ()):
        fields = dict(zip(("name", "key"), stored, strict=True))
        texts = {field: seal.unseal_text(text, EXECUTION, field, seq) for field, text in fields.items()}
        cleaned = {field: needle.clean(text) for field, text in texts.items()}
        if cleaned != texts:
            name, key = (seal.seal_text(text, EXECUTION, field, seq) for field, text in cleaned.items())
            changes.executions.append((name, key, branch, path))


def _look_at_bases(query: Query, seal: Seal, needle: Needle, changes: Changes) -> None:
    """Look at bases, which cannot be folded anew."""
    for row in query(_BASES, ()):
        base = unsealed_base(as_base(row), seal)
        texts = {field: getattr(base, field) for field in ("state", "projections", "spent")}
        found = {field: text for field, raw in texts.items() if (text := needle.clean_json(raw)) is not None}
        if found:
            changes.bases.append(sealed_base(_readable(msgspec.structs.replace(base, **found)), seal))


def _look_at_states(query: Query, seal: Seal, needle: Needle, changes: Changes) -> None:
    """Look at snapshots, which are folded anew, and at what CrewAI stored; a sealed log has nothing of the latter."""
    for row, stored, projection, seq in pages(query, _SNAPSHOTS):
        if needle.clean_json(seal.unseal_text(stored, SNAPSHOT, projection, seq)) is not None:
            changes.snapshots.add(row)
    for row, data in pages(query, _MARKS):
        tree = as_tree(data)
        cleaned = needle.clean_tree(tree)
        if cleaned != tree:
            changes.marks[row] = as_json(cleaned)


def _readable(base: Base) -> Base:
    """Return a base whose state can still be read.

    Raises:
        ForgetError: it cannot: the value is part of its form.
    """
    try:
        state = msgspec.json.decode(base.state, type=RunState)
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
