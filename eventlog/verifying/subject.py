"""The log under check: its connection, its branches, and what every check needs to know."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from eventlog.chain import Chain
from eventlog.digests import Interned, as_stored
from eventlog.seal import PLAIN, Seal
from eventlog.verifying.pages import Table, Unreadable
from eventlog.verifying.report import NOWHERE, Findings, Place

_BRANCHES = "id, run, name, parent, fork_seq, base_seq"


class Branch(msgspec.Struct, frozen=True):
    """A row of ``branches``."""

    row: int
    run: Any
    name: Any
    parent: Any
    fork_seq: Any
    base_seq: Any

    @property
    def fork(self) -> int:
        """Where it begins, exclusive."""
        return self.fork_seq if isinstance(self.fork_seq, int) else 0

    @property
    def base(self) -> int:
        """Its own base; 0 when it was never compacted."""
        return self.base_seq if isinstance(self.base_seq, int) else 0


class Subject:
    """A log under check."""

    def __init__(
        self, db: sqlite3.Connection, chain: Chain | None, findings: Findings, on_step: Callable[[], None],
        seal: Seal | None = PLAIN,
    ) -> None:  # fmt: skip
        """``chain``: ``None`` when its digests cannot be computed, because the key is not here; ``seal`` likewise."""
        self.seal = seal
        self.db, self.chain, self.findings, self.on_step = db, chain, findings, on_step
        self.interned = Interned(db)
        self.runs: dict[int, str] = {}
        self.branches: dict[int, Branch] = {}
        self._given = 0
        self.is_archive = False
        """Whether it holds compacted events of another log: what it has not, that log has."""
        self.last_seq = newest_seq(db)
        """The newest event when the check began; what comes later is not looked at."""
        self.lost_seqs: list[tuple[int, int]] = []
        """Stretches of seqs that a repair could not save, by what it wrote in their place."""
        with self.guarded("the runs and branches"):
            self._load()

    def _load(self) -> None:
        """Read what is small."""
        for row, name in self.rows("id, name", "runs", "id"):
            self.runs[row] = name
        for row in self.rows(_BRANCHES, "branches", "id"):
            self.branches[row[0]] = Branch(*row)
        meta = dict(self.db.execute("SELECT key, value FROM meta"))
        self.is_archive = "archive_of" in meta
        given = meta.get("last_seq")
        self._given = given if isinstance(given, int) else 0
        if not isinstance(given, int):
            self.findings.add("file", "the row of meta that keeps seqs from being used again is missing")

    def opened(self, text: str, *place: str | int) -> bytes | None:
        """Return what a stored text stands for; ``None`` when it is sealed and the key is not here.

        Raises:
            EventFormatError: it is sealed, and was changed or belongs elsewhere.
        """
        return None if self.seal is None else self.seal.unseal(as_stored(text), *place) if text else b""

    def rows(self, columns: str, table: str, key: str, rows: int = 500) -> Iterator[Any]:
        """Yield the rows of a table; what cannot be read is taken down."""
        for page in Table(self.db, columns, table, key, rows).read(-1, 2**62):
            if isinstance(page, Unreadable):
                self.findings.add("page", f"rows of {table.split(maxsplit=1)[0]} cannot be read: {page.error}")
            else:
                yield from page

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Take down what SQLite cannot read in a block, which ends there."""
        try:
            yield
        except sqlite3.Error as error:
            self.findings.add("page", f"{what} cannot be read: {error}")

    def place(self, branch: Any) -> Place:
        """Return a branch as a finding names it."""
        known = self.branches.get(branch)
        if known is None or not known.row:
            return NOWHERE
        run = self.runs.get(known.run)
        return Place(str(run) if run is not None else f"#{known.run}", str(known.name))

    def has_come_to(self, seq: int) -> bool:
        """Whether the log has come as far as a seq by now."""
        return seq <= max(self.last_seq, self._given) or seq <= newest_seq(self.db)

    @property
    def highest_base(self) -> int:
        """The greatest base: seqs up to here may be missing."""
        return max((branch.base for branch in self.branches.values()), default=0)


def newest_seq(db: sqlite3.Connection) -> int:
    """Return the greatest seq; beyond all if the end of the table cannot be read."""
    for source in ("events", "events INDEXED BY events_by_branch"):
        try:
            return int(db.execute(f"SELECT coalesce(max(seq), 0) FROM {source}").fetchone()[0])
        except (sqlite3.Error, TypeError, ValueError):
            continue
    return 2**62
