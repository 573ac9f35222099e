"""Runs, branches and lineages: which stretches of which branches make up a history, and where it begins.

::

    main    ├────●────────────      walk(b): b from its fork on, then main up to the fork
    b            └───────           a base ends the walk: what lies before it was compacted
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from eventlog import errors
from eventlog.bases import SELECT_BASE, Base, as_base, unsealed_base
from eventlog.handle import Handle
from eventlog.record import BranchInfo
from eventlog.soundness import Soundness

SEQ_MAX = 2**62

_RUN = (
    "SELECT id, EXISTS (SELECT 1 FROM runs AS t NOT INDEXED WHERE t.id = r.id AND t.name = r.name)"
    " FROM runs AS r WHERE name = ? AND id > 0"
)
_BRANCH = (
    "SELECT id, EXISTS (SELECT 1 FROM branches AS t NOT INDEXED WHERE t.id = b.id AND t.run = b.run"
    " AND t.name = b.name) FROM branches AS b WHERE run = ? AND name = ?"
)
_NAMES = (
    "SELECT nullif(r.name, ''), b.name, EXISTS (SELECT 1 FROM runs AS t WHERE t.name = r.name AND t.id + 0 = r.id)"
    " AND EXISTS (SELECT 1 FROM branches AS t WHERE t.run = b.run AND t.name = b.name AND t.id + 0 = b.id)"
    " FROM branches AS b JOIN runs AS r ON r.id = b.run WHERE b.id = ?"
)

Segment = tuple[int, int, int]
"""Branch row, first seq (exclusive), last seq (inclusive)."""

T = TypeVar("T")
STEADY_TRIES = 5
"""How often what a compaction moves under a reader is read again."""


class BaseMovedError(errors.CompactedError):
    """A compaction moved the base of a branch while its events were being read: read again."""


def steadily(read: Callable[[], T]) -> T:
    """Return what ``read`` returns; it begins again when a compaction moves a base under it.

    Raises:
        CompactedError: what it asks for is gone.
    """
    for _ in range(STEADY_TRIES):
        try:
            return read()
        except BaseMovedError:
            continue
    return read()


class Lineages:
    """The branches of one log."""

    def __init__(self, handle: Handle) -> None:
        """``handle``: what reads the log."""
        self.handle, self.file, self.seal, self.query = handle, handle.file, handle.db.seal, handle.query
        self.soundness = Soundness(handle, self.walk)
        self._branches: dict[int, tuple[str | None, str]] = {}

    def run_id(self, run: str) -> int:
        """Return the row of a run.

        Raises:
            RunNotFoundError: there is none of that name.
        """
        rows = self.query(_RUN, (as_stored(run),))
        if not rows:
            raise errors.RunNotFoundError(run)
        return self._same(rows[0], f"run {run!r}")

    def branch_id(self, run: str, branch: str) -> int:
        """Return the row of a branch.

        Raises:
            RunNotFoundError, BranchNotFoundError: there is none of that name.
        """
        rows = self.query(_BRANCH, (self.run_id(run), as_stored(branch)))
        if not rows:
            raise errors.BranchNotFoundError(f"{run}/{branch}")
        return self._same(rows[0], f"branch {run}/{branch}")

    def _same(self, row: tuple[int, Any], what: str) -> int:
        """Return the row that an index leads to, if that is what it was asked for: no digest covers names.

        Raises:
            LogDamagedError: it is another.
        """
        if not row[1]:
            raise self.damaged(f"the index of names does not lead to {what}")
        return row[0]

    def branch_name(self, branch: int) -> tuple[str | None, str]:
        """Return run and branch name of a row; no run for the events of none.

        Raises:
            LogDamagedError: the row is not there.
        """
        known = self._branches.get(branch)
        if known is None:
            rows = self.query(_NAMES, (branch,))
            if not rows or not rows[0][2]:
                raise self.damaged(f"branch row {branch} is missing, or its name is another than in the index")
            known = self._branches[branch] = (rows[0][0], rows[0][1])
        return known

    def branches(self, run: str, branch: str | None = None) -> list[BranchInfo]:
        """Return the branches of a run, oldest first, or the one of that name: to count the events takes a while."""
        rows = self.query(
            "SELECT b.id, b.name, p.name, b.fork_seq,"
            " (SELECT count(*) FROM events WHERE branch = b.id AND seq > b.base_seq),"
            " coalesce((SELECT max(seq) FROM events WHERE branch = b.id), b.fork_seq, 0)"
            " FROM branches AS b LEFT JOIN branches AS p ON p.id = b.parent"
            " WHERE b.run = ? AND b.name = coalesce(?, b.name) ORDER BY b.id",
            (self.run_id(run), branch),
        )
        return [
            BranchInfo(run=run, branch=name, parent=parent, fork_seq=fork, events=events, last_seq=last)
            for _id, name, parent, fork, events, last in rows
        ]

    def lineage(self, branch: int, to: int = SEQ_MAX) -> list[Segment]:
        """Return the stretches of branches that make up a lineage up to a seq, oldest first, from its base on.

        Raises:
            CompactedError: ``to`` lies before the base.
        """
        segments: list[Segment] = []
        for owner, low, high, base in self.walk(branch, to):
            if base:
                if high < base:
                    raise self.compacted(branch, base)
                segments.append((owner, base, high))
                break
            segments.append((owner, low, high))
        return segments[::-1]

    def ancestry(self, branch: int, to: int = SEQ_MAX) -> list[Segment]:
        """Return all stretches of a lineage, oldest first, as if nothing had been compacted."""
        return [(owner, low, high) for owner, low, high, _ in self.walk(branch, to)][::-1]

    def base(self, branch: int) -> Base | None:
        """Return the base of a lineage, its texts as JSON; ``None`` when all its events are there.

        Raises:
            EventFormatError: it is sealed, and was changed.
        """
        base = self.stored_base(branch)
        return None if base is None else unsealed_base(base, self.seal)

    def stored_base(self, branch: int) -> Base | None:
        """Return the base of a lineage as it is stored; ``None`` when all its events are there.

        Raises:
            LogDamagedError: it is not what compaction wrote.
        """
        owner = next((owner for owner, _, _, base in self.walk(branch, SEQ_MAX) if base), None)
        rows = self.query(SELECT_BASE, (owner,)) if owner is not None else []
        if not rows:
            return None
        base = as_base(rows[0])
        try:
            self.soundness.require_base(base)
        except errors.LogDamagedError:
            if self.query(SELECT_BASE, (owner,)) == rows:
                raise
            raise self.compacted(branch, base.seq, BaseMovedError) from None
        return base

    def walk(self, branch: int, to: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield a branch and its ancestors: row, where it begins (exclusive), where it ends, its base."""
        current: int | None = branch
        high, seen = to, set()
        while current is not None and current not in seen:
            seen.add(current)
            rows = self.query("SELECT parent, fork_seq, base_seq FROM branches WHERE id = ?", (current,))
            if not rows:
                return
            parent, fork_seq, base = rows[0]
            if not (isinstance(fork_seq or 0, int) and isinstance(base, int)):
                raise self.damaged(f"branch row {current} is no branch")
            yield current, fork_seq or 0, high, base
            current, high = parent if fork_seq else None, min(high, fork_seq or 0)

    def damaged(self, what: str) -> errors.LogDamagedError:
        """Return the error that says what is damaged."""
        return errors.LogDamagedError(str(self.file), what)

    def compacted(self, branch: int, oldest: int, kind: type[errors.CompactedError] = errors.CompactedError) -> Any:
        """Return the error that says where replaying a branch can begin."""
        run, name = self.branch_name(branch)
        return kind(run or "", name, oldest)

    def head(self, branch: int, to: int = SEQ_MAX) -> int:
        """Return the seq of the last event of a lineage at or before ``to``; 0 when there is none.

        Raises:
            CompactedError: ``to`` lies before the base.
        """
        segments = self.lineage(branch, to)
        for owner, low, high in reversed(segments):
            rows = self.query(
                "SELECT max(seq) FROM events WHERE branch = ? AND seq > ? AND seq <= ?", (owner, low, high)
            )
            if rows[0][0] is not None:
                return int(rows[0][0])
        return self.base_of(segments)

    def base_of(self, segments: list[Segment]) -> int:
        """Return the base a lineage begins at; 0 when it begins at its start."""
        rows = self.query("SELECT base_seq FROM branches WHERE id = ?", (segments[0][0],)) if segments else []
        return int(rows[0][0]) if rows else 0


def as_stored(name: str) -> str:
    """Return a name as the writer keeps it: half characters, as bytes on a command line may become, are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()
