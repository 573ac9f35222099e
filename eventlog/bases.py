"""The base of a branch: what compaction left in the place of its events up to a cut.

::

    bases     state at the cut · digest of the event there · tokens of calls that are gone · proof
    retained  events at or below the cut that are still needed (outcomes, definitions, the tape of
              what is unfinished), each with the digest it chains to

A branch with a base needs nothing of its ancestors any more: what it uses of theirs is retained for it.
"""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import structs

from eventlog.chain import Chain
from eventlog.seal import BASE, Seal

_COLUMNS = "branch, seq, digest, state, projections, spent, keeps_tape, events, created_ns, proof"
SELECT_BASE = f"SELECT {_COLUMNS} FROM bases WHERE branch = ?"
RETAINED = (
    "SELECT k.seq, k.previous, e.digest FROM retained AS k LEFT JOIN events AS e ON e.seq = k.seq"
    " WHERE k.branch = ? AND k.seq <= ? ORDER BY k.seq"
)
_TEXTS = ("state", "projections", "spent")
"""What is sealed in a sealed log."""
PUT = f"INSERT OR REPLACE INTO bases ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)"


class Base(msgspec.Struct, kw_only=True):
    """One row of ``bases``, as it is stored."""

    branch: int
    seq: int
    """The cut, inclusive: the oldest cursor of the branch."""
    digest: bytes
    """Of the event at the cut."""
    state: str
    """JSON of the ``RunState`` there."""
    projections: str = "{}"
    """JSON: name → version and state of the user's projections there."""
    spent: str = "[]"
    """JSON: the model calls whose events are gone, a list of ``Spent``."""
    keeps_tape: bool = False
    """Whether all that a re-execution needs is retained."""
    events: int = 0
    """Events of the lineage that are not in the file any more."""
    created_ns: int = 0
    proof: bytes = b""

    def row(self) -> tuple[Any, ...]:
        """Return the columns in the order of ``PUT``."""
        return (
            self.branch, self.seq, self.digest, self.state, self.projections, self.spent, int(self.keeps_tape),
            self.events, self.created_ns, self.proof,
        )  # fmt: skip


class Spent(msgspec.Struct, frozen=True, array_like=True):
    """A model call whose events are gone: for the sums of tokens."""

    lane: str
    """Path of the scope that asked."""
    seq: int
    agent_id: str | None
    agent_role: str | None
    usage: dict[str, Any]
    is_told: bool
    """Whether CrewAI told the call by an event of its own."""


def read_spent(base: Base) -> list[Spent]:
    """Return the model calls whose events are gone."""
    return msgspec.json.decode(base.spent, type=list[Spent])


Retained = tuple[int, bytes, bytes | None]
"""Seq, the digest it chains to, its own digest (``None``: the event is missing)."""


def read_base(db: sqlite3.Connection, branch: int) -> Base | None:
    """Return the base of a branch; ``None`` for one that was never compacted."""
    row = db.execute(SELECT_BASE, (branch,)).fetchone()
    return None if row is None else as_base(row)


def as_base(row: Any) -> Base:
    """Return a row of ``bases``."""
    names = [name.strip() for name in _COLUMNS.split(",")]
    facts = dict(zip(names, row, strict=True))
    return Base(**{**facts, "keeps_tape": bool(facts["keeps_tape"])})


def sealed_base(base: Base, seal: Seal) -> Base:
    """Return a base as it is stored; ``base_proof`` covers it like that. Nothing changes in a plain log."""
    return structs.replace(base, **{f: seal.seal_text(getattr(base, f), BASE, f, base.seq) for f in _TEXTS})


def unsealed_base(base: Base, seal: Seal) -> Base:
    """Return a stored base with its texts as JSON."""
    return structs.replace(base, **{f: seal.unseal_text(getattr(base, f), BASE, f, base.seq) for f in _TEXTS})


def read_retained(db: sqlite3.Connection, base: Base) -> list[Retained]:
    """Return what is retained for a base, in order; rows above it belong to a compaction under way."""
    return list(db.execute(RETAINED, (base.branch, base.seq)))


def base_proof(chain: Chain, base: Base, retained: list[Retained]) -> bytes:
    """Return the digest of a base and of all that is retained for it: nothing can be changed or left out unseen."""
    texts = [blake2b(text.encode(), digest_size=20).digest() for text in (base.state, base.projections, base.spent)]
    facts = (base.branch, base.seq, base.digest, *texts, base.keeps_tape, base.events, base.created_ns)
    return chain.proof("base", facts, retained)
