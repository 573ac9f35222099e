"""Which bases of compacted branches are what their proof says."""

from __future__ import annotations

import msgspec

from eventlog.bases import Base, base_proof
from eventlog.errors import EventFormatError
from eventlog.repair.links import Links
from eventlog.replay.state import RunState
from eventlog.seal import BASE

_COLUMNS = "branch, seq, digest, state, projections, spent, keeps_tape, events, created_ns, proof"
_RETAINED = (
    "SELECT k.seq, k.previous, e.digest FROM retained AS k LEFT JOIN events AS e ON e.seq = k.seq"
    " WHERE k.branch = ? AND k.seq <= ? ORDER BY k.seq"
)
_MISSING = (
    "SELECT count(*) FROM known_retained AS n WHERE n.branch = ?1 AND n.seq <= ?2"
    " AND NOT EXISTS (SELECT 1 FROM retained AS k WHERE k.branch = n.branch AND k.seq = n.seq)"
)
_FROM_INDEX = (
    "INSERT OR IGNORE INTO retained SELECT branch, seq, x'' FROM known_retained WHERE branch = ?"
    " AND seq IN (SELECT seq FROM events)"
)


def judge_bases(links: Links, *, keeps_unproven: bool) -> dict[int, str]:
    """Decide about every base; returns branch → why its base is lost or not proven.

    A base whose proof holds is kept. One that cannot be proven, because something it retains is lost, is kept
    unless the chain has a key: then only what is proven is kept.
    """
    work, problems = links.work, dict[int, str]()
    rows = work.db.execute(f"SELECT {_COLUMNS} FROM bases").fetchall()
    for row in rows:
        problem, is_usable = _problem(links, row)
        if problem:
            problems[row[0]] = problem
        if not problem or (is_usable and keeps_unproven):
            work.db.execute(
                "UPDATE bases SET verdict = ? WHERE branch = ?", ("unproven" if problem else "good", row[0])
            )
            work.db.execute(_FROM_INDEX, (row[0],))
    work.db.execute("DELETE FROM bases WHERE verdict IS NULL")
    gone = work.db.execute("SELECT id FROM branches WHERE base_seq > 0 AND id NOT IN (SELECT branch FROM bases)")
    for (branch,) in gone.fetchall():
        problems.setdefault(branch, "its base is lost")
    work.db.execute("UPDATE branches SET base_seq = coalesce((SELECT seq FROM bases WHERE branch = branches.id), 0)")
    return problems


def _problem(links: Links, row: tuple[object, ...]) -> tuple[str, bool]:
    """Return what is wrong with a base, and whether it can be used all the same."""
    work = links.work
    try:
        base = msgspec.convert(dict(zip(_COLUMNS.split(", "), row, strict=True)), Base, strict=False)
        state = msgspec.json.decode(links.opened(base.state, BASE, "state", base.seq), type=RunState)
        retained = list(work.db.execute(_RETAINED, (base.branch, base.seq)))
        proven = base_proof(links.chain, base, retained) == base.proof
    except (EventFormatError, msgspec.MsgspecError, TypeError, ValueError, AttributeError):
        return "its base cannot be read", False
    if proven and row[6] in (0, 1):
        return "", True
    missing = sum(digest is None for _, _, digest in retained) + work.one(_MISSING, base.branch, base.seq)
    if missing and state.cursor == base.seq:
        return f"its base cannot be proven: {missing} of the events it retains are lost", True
    return "its base is not what its proof says", False
