"""What a change reaches beside the rows that hold the value: digests with changed names, states folded from events."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from eventlog.bases import Base
from eventlog.forgetting.stored import Query

COLUMNS = {"type": "type", "task": "task", "agent": "agent"}
"""Kind of a name → the column of events that refers to it."""
_BELOW = (
    "SELECT seq FROM events WHERE path IN (WITH RECURSIVE below (id) AS (VALUES (?)"
    " UNION ALL SELECT paths.id FROM below JOIN paths ON paths.parent = below.id) SELECT id FROM below)"
)
_STATES = (
    "SELECT id FROM snapshots WHERE state <> '' AND branch IN (SELECT id FROM branches WHERE run = ?) AND seq >= ?"
)
_LOOKUPS_MAX = 500


def events_of_names(query: Query, names: dict[int, tuple[str, str, str]]) -> set[int]:
    """Return the events in whose digest one of some names is."""
    found: set[int] = set()
    for row, (kind, _, _) in names.items():
        found |= {seq for (seq,) in query(f"SELECT seq FROM events WHERE {COLUMNS[kind]} = ?", (row,))}
    return found


def events_of_paths(query: Query, paths: Iterable[int]) -> set[int]:
    """Return the events in whose path one of some labels is."""
    return {seq for row in paths for (seq,) in query(_BELOW, (row,))}


def states_of_events(query: Query, seqs: Collection[int]) -> set[int]:
    """Return the stored states of the runs of some events, from the earliest on.

    What was changed may be in them, also in part, as in the beginning of a text.
    """
    earliest: dict[int, int] = {}
    ordered = sorted(seqs)
    for start in range(0, len(ordered), _LOOKUPS_MAX):
        chunk = ordered[start : start + _LOOKUPS_MAX]
        marks = ",".join("?" * len(chunk))
        for run, seq in query(f"SELECT run, min(seq) FROM events WHERE seq IN ({marks}) GROUP BY run", chunk):
            earliest.setdefault(run, seq)
    return states_from(query, earliest)


def states_of_bases(query: Query, bases: Iterable[Base]) -> set[int]:
    """Return the stored states that were folded from bases."""
    earliest: dict[int, int] = {}
    for base in bases:
        run = query("SELECT run FROM branches WHERE id = ?", (base.branch,))[0][0]
        earliest[run] = min(base.seq, earliest.get(run, base.seq))
    return states_from(query, earliest)


def states_from(query: Query, earliest: dict[int, int]) -> set[int]:
    """Return the stored states of runs, each from a seq on."""
    return {row for run, seq in earliest.items() for (row,) in query(_STATES, (run, seq))}
