"""Whether what is read is what was recorded: events by their digests, contents by their hashes, bases by their proofs.

Checked on the way to whoever reads, so that a flipped bit becomes an error and never a state. Rows that were changed
on purpose (``eventlog forget``) have tombstones that say so; such an event proves itself, but not that none is missing
just before it. Where the chain has a key that is not here, digests and
proofs cannot be compared: ``eventlog verify`` says so, too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from eventlog.bases import RETAINED, Base, base_proof
from eventlog.chain import Chain
from eventlog.chain_key import PLAIN_CHAIN, chain_of_environment, fits, stored_check
from eventlog.contents import content_hash
from eventlog.digests import COLUMNS, BrokenRowError, Interned, Row, digest_after, facts_of, tombstone_of
from eventlog.errors import LogDamagedError
from eventlog.handle import Handle

Walk = Callable[[int, int], Iterator[tuple[int, int, int, int]]]
"""Yields a branch and its ancestors: row, where it begins (exclusive), where it ends, its base."""
_PREVIOUS = (
    "SELECT e.seq, e.branch, b.run, e.seq <= b.base_seq, CASE WHEN e.seq <= b.base_seq"
    " THEN (SELECT previous FROM retained WHERE seq = e.seq)"
    " ELSE (SELECT digest FROM events WHERE branch = e.branch AND seq < e.seq AND seq > b.base_seq"
    " ORDER BY seq DESC LIMIT 1) END"
    " FROM events AS e LEFT JOIN branches AS b ON b.id = e.branch WHERE e.seq IN ({marks})"
)
_LAST = "SELECT digest FROM events WHERE branch = ? AND seq > ? AND seq <= ? ORDER BY seq DESC LIMIT 1"
_FIRST = f"SELECT {COLUMNS} FROM events WHERE branch = ? ORDER BY seq LIMIT 1"
_BASE = "SELECT digest FROM bases WHERE branch = ?"
_TOMBSTONE = "SELECT proof FROM tombstones WHERE what = ? AND id = ?"
LOOKUPS_MAX = 500
CHECKS_MAX = 4
"""How often events are checked before they count as damaged: what they follow is asked for in several statements."""

T = TypeVar("T")

Previous = dict[int, tuple[int, bytes | None]]
"""Seq → the run of its branch, and the digest it follows: ``None`` if nobody knows any more."""


def chain_of(db: sqlite3.Connection, path: str) -> Chain | None:
    """Return the chain of a log; ``None`` if its key is not in the environment.

    Raises:
        ChainKeyError: the variable of the key is empty.
    """
    if stored_check(db) is None:
        return PLAIN_CHAIN
    chain = chain_of_environment(path)
    return chain if chain.is_keyed and fits(db, chain) else None


def _steadily(check: Callable[[], T]) -> T:
    """Return what a check returns. Damage that is not found again was none: a compaction moved what events follow.

    Raises:
        LogDamagedError: it was found every time.
    """
    for _ in range(CHECKS_MAX - 1):
        with suppress(LogDamagedError):
            return check()
    return check()


class Soundness:
    """Checks what one reader reads."""

    def __init__(self, handle: Handle, walk: Walk) -> None:
        """``walk``: how the reader follows a lineage."""
        self._handle, self._walk = handle, walk
        self._interned = Interned(handle.db)
        self.chain = chain_of(handle.db, str(handle.file))
        self._proven: set[tuple[int, int, bytes]] = set()
        self._forks: set[tuple[int, int]] = set()

    def forget(self) -> None:
        """Look at everything anew: rows were rewritten."""
        self._interned = Interned(self._handle.db)
        self._proven.clear()
        self._forks.clear()

    # -- events ---------------------------------------------------------------------------------------

    def require_events(self, rows: Sequence[Row]) -> None:
        """Return if events are what was recorded, each after the one before it.

        Raises:
            LogDamagedError: one is not, or one before it is missing.
        """
        if self.chain is not None and rows:
            chain = self.chain
            _steadily(lambda: self._require_each(chain, rows))

    def _require_each(self, chain: Chain, rows: Sequence[Row]) -> None:
        """Compare events with what they follow, each by itself.

        Raises:
            LogDamagedError: one is not what was recorded.
        """
        previous = self._previous(rows)
        for row in rows:
            self._require_event(chain, row, *self._known(previous, row))

    def require_chain(self, branch: int, rows: Sequence[Row], after: bytes | None) -> bytes | None:
        """Return the digest of the last of ``rows``: these are all events of a stretch of ``branch``, as recorded.

        ``after``: digest of the event before them; ``None`` where it cannot be compared.

        Raises:
            LogDamagedError: one is not, or one between them is missing.
        """
        if self.chain is None or not rows:
            return after
        chain = self.chain
        return _steadily(lambda: self._require_all(chain, branch, rows, after))

    def _require_all(self, chain: Chain, branch: int, rows: Sequence[Row], after: bytes | None) -> bytes | None:
        """Return the digest of the last of ``rows``, each of which follows the one before it.

        Raises:
            LogDamagedError: one is not what was recorded, or one between them is missing.
        """
        run, before = self._known(self._previous(rows[:1]), rows[0])
        before = before if after is None else after
        for row in rows:
            if row.branch != branch:  # SQLite takes it from the index
                raise self._damaged(f"the index of branches does not lead to event {row.seq}")
            self._require_event(chain, row, run, before)
            before = row.digest
        return before

    def before(self, branch: int, after: int) -> bytes | None:
        """Return the digest that the first event of a lineage after a seq follows.

        An index that is damaged may leave out the events between them: those after them then follow another.

        Raises:
            LogDamagedError: the base is missing.
        """
        if self.chain is None:
            return None
        return self._last((current, min(high, after), base) for current, _, high, base in self._walk(branch, 2**62))

    def require_fork(self, branch: int, fork_seq: int) -> None:
        """Return if the first event of a branch follows the event at which the branch is said to begin.

        Raises:
            LogDamagedError: it does not.
        """
        if self.chain is None or (branch, fork_seq) in self._forks:
            return
        rows = [Row._make(row) for row in self._handle.query(_FIRST, (branch,))]
        if rows and rows[0].seq <= fork_seq:
            raise self._damaged(f"branch row {branch} is said to begin at {fork_seq}, behind its own events")
        self.require_events(rows)
        self._forks.update((branch, fork_seq) for _ in rows)

    def _known(self, previous: Previous, row: Row) -> tuple[int, bytes | None]:
        """Return what was found out about an event; what was compacted since it was read is not looked at."""
        return previous.get(row.seq, (row.run, None))

    def _require_event(self, chain: Chain, row: Row, run: int, previous: bytes | None) -> None:
        """Compare one event with its digest, and with the run of its branch.

        Raises:
            LogDamagedError: it is another.
        """
        try:
            if row.run != run:
                raise BrokenRowError("it says another run than its branch")
            if previous is not None:
                self._compare(chain, row, previous)
        except BrokenRowError as error:
            raise self._damaged(f"event {row.seq} is not what was recorded: {error}") from error

    def _compare(self, chain: Chain, row: Row, previous: bytes) -> None:
        """Compare one event with its digest.

        Raises:
            BrokenRowError: it is another.
        """
        facts = facts_of(row, self._interned)
        if digest_after(chain, previous, row, facts) == row.digest:
            return
        proof = self._tombstone("event", row.seq)
        if proof is None:
            raise BrokenRowError("its digest is not that of its content after its predecessor")
        if tombstone_of(chain, row, facts) != proof:
            raise BrokenRowError("it was changed on purpose once, and again since")

    def _previous(self, rows: Sequence[Row]) -> Previous:
        """Return what each event follows.

        Raises:
            LogDamagedError: the branch of one is not there.
        """
        found: Previous = {}
        branches = {row.seq: row.branch for row in rows}
        for start in range(0, len(rows), LOOKUPS_MAX):
            seqs = [row.seq for row in rows[start : start + LOOKUPS_MAX]]
            marks = ",".join("?" * len(seqs))
            for seq, branch, run, is_below, digest in self._handle.query(_PREVIOUS.format(marks=marks), seqs):
                if run is None or branch != branches[seq]:
                    raise self._damaged(
                        f"event {seq} belongs to branch row {branch}, which is not there, or to another"
                    )
                found[seq] = (run, digest if digest is not None or is_below else self._anchor(branches[seq]))
        return found

    def _anchor(self, branch: int) -> bytes:
        """Return what the first event of a branch follows: its base, or the event at which it was forked.

        Raises:
            LogDamagedError: the base is missing.
        """
        stretches = self._walk(branch, 2**62)
        return self._last((current, 0 if current == branch else high, base) for current, _, high, base in stretches)

    def _last(self, stretches: Iterable[tuple[int, int, int]]) -> bytes:
        """Return the digest of the last event of stretches: branch row, end, base; without any, that of the base.

        Raises:
            LogDamagedError: the base is missing.
        """
        for branch, end, base in stretches:
            if end > base and (rows := self._handle.query(_LAST, (branch, base, end))):
                return self._digest(rows)
            if base:
                return self._digest(self._handle.query(_BASE, (branch,)))
        return b""

    def _digest(self, rows: list[Any]) -> bytes:
        """Return the digest that was asked for.

        Raises:
            LogDamagedError: there is none.
        """
        if not rows or not isinstance(rows[0][0], bytes):
            raise self._damaged("the digest that a branch begins after is missing")
        return rows[0][0]

    # -- what stands beside them ------------------------------------------------------------------------

    def require_content(
        self, name: str, kind: str, stored: str, data: bytes, *, parent: str | None = None, text: str | None = None,
        pieces: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Return if a content is what its name says.

        ``stored``: its body as it stands in the table; ``data``: opened, and joined if it is in ``pieces``.

        Raises:
            LogDamagedError: it is another.
        """
        seal = self._handle.db.seal
        if content_hash("text" if kind == "pieces" else kind, data, parent, text, seal.content_key) == name:
            return
        proof = self._tombstone("content", name)
        if proof is None:
            if any(self._tombstone("content", piece) is not None for piece in pieces):
                return  # a part of it was forgotten
            raise self._damaged(f"content {name} is not what its hash says")
        if self.chain is not None and self.chain.proof("tombstone", "content", name, kind, stored) != proof:
            raise self._damaged(f"content {name} was changed on purpose once, and again since")

    def require_text(self, stored: Any, name: str) -> str:
        """Return the body of a content, if it is text.

        Raises:
            LogDamagedError: it is no text.
        """
        if not isinstance(stored, str):
            raise self._damaged(f"content {name} is no text")
        return stored

    def require_base(self, base: Base) -> None:
        """Return if a stored base, and what is retained for it, is what compaction wrote.

        Raises:
            LogDamagedError: it is not.
        """
        key = (base.branch, base.seq, base.proof)
        if self.chain is None or key in self._proven:
            return
        retained = self._handle.query(RETAINED, (base.branch, base.seq))
        try:
            proof = base_proof(self.chain, base, retained)
        except (AttributeError, TypeError, ValueError):  # columns of other types
            proof = None
        if proof is None or proof != base.proof:
            raise self._damaged(f"the base at {base.seq} is not what compaction wrote")
        self._proven.add(key)

    def require_snapshot(
        self, proof: bytes | None, digest: bytes | None, seq: int, projection: str, version: int, state: str
    ) -> None:
        """Return if a stored state is what was stored, after the event with that digest.

        Raises:
            LogDamagedError: it is not.
        """
        if self.chain is None:
            return
        if digest is None or self.chain.snapshot_proof(digest, seq, projection, version, state) != proof:
            raise self._damaged(f"the state stored at {seq} is not what was stored there")

    def _tombstone(self, what: str, name: int | str) -> bytes | None:
        """Return the proof of a row that was changed on purpose."""
        rows = self._handle.query(_TOMBSTONE, (what, name))
        return rows[0][0] if rows else None

    def _damaged(self, what: str) -> LogDamagedError:
        """Return the error that says what is damaged."""
        return LogDamagedError(str(self._handle.file), what)
