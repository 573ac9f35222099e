"""The link of one event to another: what every judge of a repair needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventlog.chain import Chain
from eventlog.digests import (
    COLUMNS,
    BrokenRowError,
    Interned,
    Row,
    as_stored,
    digest_after,
    facts_of,
    tombstone_of,
)
from eventlog.repair.work import Work
from eventlog.seal import PATH, PLAIN, Place, Seal

TRIES_MAX = 200
_ROW = f"SELECT {COLUMNS} FROM events WHERE seq = ?"
_BEFORE = (
    "SELECT digest FROM (SELECT digest FROM events WHERE branch = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT 1)"
    " UNION ALL SELECT previous FROM retained WHERE seq = ?2"
    " UNION ALL SELECT digest FROM bases WHERE branch = ?1 AND seq < ?2"
    " UNION ALL SELECT e.digest FROM branches AS b JOIN events AS e ON e.seq = b.fork_seq WHERE b.id = ?1"
)
_AFTER = f"SELECT {COLUMNS} FROM events WHERE branch = ? AND seq > ? ORDER BY seq LIMIT 1"
_KEPT = "SELECT seq, payload FROM events WHERE verdict IN ('proven', 'changed', 'unproven')"
_REFERS = " AND payload LIKE '%$content%'"
_PROOF = "SELECT proof FROM tombstones WHERE what = 'event' AND id = ?"


class Links:
    """Computes digests of found rows."""

    def __init__(self, work: Work, chain: Chain, seal: Seal = PLAIN) -> None:
        """``chain``: of the log, with its key; ``seal``: what opens its values."""
        self.work, self.chain, self.seal = work, chain, seal
        self.interned = Interned(work.db)

    def forget_names(self) -> None:
        """Names and paths were mended."""
        self.interned = Interned(self.work.db)

    def row(self, seq: int) -> Row | None:
        """Return the row of an event."""
        found = self.work.db.execute(_ROW, (seq,)).fetchone()
        return None if found is None else Row._make(found)

    def opened(self, text: str, *place: Place) -> bytes:
        """Return what a stored text stands for.

        Raises:
            EventFormatError: it is sealed, and was damaged.
        """
        return self.seal.unseal(as_stored(text), *place) if text else b""

    def path(self, row: Any) -> str:
        """Return a logical path as text.

        Raises:
            BrokenRowError, EventFormatError: it, or one above it, is lost or damaged.
        """
        stored = self.interned.path(row)
        if not self.seal or not stored:
            return stored
        return "".join(f"/{self.seal.unseal_text(label, PATH)}" for label in stored[1:].split("/"))

    def referring(self) -> Iterator[tuple[int, str]]:
        """Yield seq and payload of every kept event that may refer to a large value: of a sealed log, of each."""
        yield from self.work.db.execute(_KEPT if self.seal else _KEPT + _REFERS)

    def digest(self, previous: Any, row: Row) -> bytes | None:
        """Return the digest of an event after another; ``None`` when one of them does not allow it."""
        if not isinstance(previous, bytes):
            return None
        try:
            return digest_after(self.chain, previous, row, facts_of(row, self.interned))
        except BrokenRowError:
            return None

    def follows(self, previous: Any, row: Row) -> bool:
        """Whether an event is proven by the digest before it."""
        return row.digest is not None and self.digest(previous, row) == row.digest

    def is_changed(self, row: Row) -> bool:
        """Whether a tombstone proves that the row differs from its digest on purpose."""
        proof = self.work.one(_PROOF, row.seq)
        if proof is None:
            return False
        try:
            return bool(tombstone_of(self.chain, row, facts_of(row, self.interned)) == proof)
        except BrokenRowError:
            return False

    def follows_neighbour(self, row: Row) -> bool:
        """Whether an event is proven by what may stand before it: an event, what is kept of one, a base, or nothing."""
        found = self.work.db.execute(_BEFORE, (row.branch, row.seq)).fetchall()
        return any(self.follows(previous, row) for (previous,) in [*found, (b"",)])

    def proves_next(self, row: Row) -> bool:
        """Whether the event after it on its branch was made with its digest: it stood there, whatever else is wrong."""
        found = self.work.db.execute(_AFTER, (row.branch, row.seq)).fetchone()
        return found is not None and self.follows(row.digest, Row._make(found))

    def prove_any(self, where: str, *args: Any) -> bool:
        """Whether one of the first events that a condition chooses is proven by its neighbour."""
        sql = f"SELECT {COLUMNS} FROM events WHERE {where} ORDER BY seq LIMIT {TRIES_MAX}"
        return any(self.follows_neighbour(Row._make(found)) for found in self.work.db.execute(sql, args).fetchall())
