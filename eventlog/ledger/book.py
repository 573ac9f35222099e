"""The events of the work ledger on one branch of a run: appended, read back, followed."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from eventlog.cursors import find_moment
from eventlog.errors import BranchNotFoundError, LogUnwritableError, RunNotFoundError
from eventlog.ledger.events import WorkEvent, fields_of, with_texts
from eventlog.lineage import SEQ_MAX, steadily
from eventlog.read import Reader
from eventlog.record import MAIN_BRANCH, StoredEvent
from eventlog.submit import compose_event, submit_events
from eventlog.values import resolve
from eventlog.writer import Writer

S = TypeVar("S")
V = TypeVar("V")


class Source(Protocol):
    """A log: what reads it, and what writes to it."""

    @property
    def reader(self) -> Reader:
        """What reads the log."""

    @property
    def writer(self) -> Writer:
        """What writes to the log."""


class Instead:
    """The log that a re-execution writes to: what is done there again touches no other."""

    def __init__(self, writer: Writer) -> None:
        """Nothing is opened yet."""
        self.writer = writer
        self._reader: Reader | None = None

    @property
    def reader(self) -> Reader:
        """What reads it; sees everything that was appended."""
        self.writer.pipeline.flush(timeout_s=5.0)
        if self._reader is None:
            self._reader = Reader(self.writer.path, self.writer.key)
        return self._reader


class Book:
    """The ledger of one branch of a run."""

    def __init__(self, source: Source, run: str, branch: str = MAIN_BRANCH) -> None:
        """The run is made with its first event; another branch than ``main`` must be there."""
        self._source, self.run, self.branch = source, run, branch

    def __eq__(self, other: object) -> bool:
        """Whether it is the same ledger of the same log."""
        mine = (self.writer, self.run, self.branch)
        return isinstance(other, Book) and mine == (other.writer, other.run, other.branch)

    __hash__ = None  # type: ignore[assignment]  # it compares by value

    @property
    def reader(self) -> Reader:
        """What reads the log."""
        return self._source.reader

    @property
    def writer(self) -> Writer:
        """What writes to the log."""
        return self._source.writer

    def append(self, event: WorkEvent, event_id: str | None = None) -> int:
        """Append an event of the ledger and return its seq, after its commit.

        With the ``event_id`` of an event that is there nothing is appended, and its seq comes back.

        Raises:
            AppendError: it could not be stored; nothing of it is in the log.
            BranchNotFoundError: the run has no such branch.
        """
        to = self.writer
        made = compose_event(to, event.event_type, fields_of(event), self.run, self.branch, event_id)
        return submit_events(to, [made])[0]

    def append_all(self, events: Sequence[WorkEvent]) -> None:
        """Append events of the ledger in one transaction: all of them are committed when this returns.

        Raises:
            AppendError: they could not be stored; nothing of them is in the log.
            BranchNotFoundError: the run has no such branch.
        """
        to = self.writer
        submit_events(to, [compose_event(to, e.event_type, fields_of(e), self.run, self.branch) for e in events])

    def clean(self, text: str) -> str:
        """Return a name as it is stored, without secrets; of a log that is only read, the name itself."""
        try:
            return self.writer.encoder.text(text)
        except LogUnwritableError:
            return text

    def row(self) -> int | None:
        """Return the row of the branch; ``None`` as long as nothing was recorded of the run.

        Raises:
            BranchNotFoundError: the run has no such branch.
        """
        try:
            return self.reader.branch_id(self.run, self.branch)
        except RunNotFoundError:
            if self.branch != MAIN_BRANCH:
                raise BranchNotFoundError(f"{self.run}/{self.branch}") from None
            return None

    def end_of(self, branch: str) -> int:
        """Return the last seq that another branch of the run contributes to this one."""
        row, other = self.reader.branch_id(self.run, self.branch), self.reader.branch_id(self.run, branch)
        return next((high for owner, _, high in self.reader.ancestry(row, SEQ_MAX) if owner == other), 0)

    def cursor(self, to: str | int | None) -> int:
        """Return the seq up to which events count at a cursor, also below a base; ``None`` means all.

        Raises:
            NotFoundError, AmbiguousCursorError: it means nothing, or too much.
        """
        return find_moment(self.reader, to, self.run, self.branch)

    def stored(self, types: Sequence[str], after: int = 0, to: int = SEQ_MAX) -> Iterator[StoredEvent]:
        """Yield events of the lineage in order, also those below a base: compaction keeps the ledger's.

        Long texts are in place; results and values are as they are stored: see ``resolved``.
        """
        row, reader = self.row(), self.reader
        if row is not None:
            for event in reader.stored(row, after=after, to=to, types=types, kept=True):
                yield with_texts(event, reader.content)

    def resolved(self, tree: Any) -> Any:
        """Return a stored value with every large part in its place."""
        return resolve(tree, self.reader.content)


class Follower(Generic[S]):
    """A fold of a book that is kept up to date: each event is folded once, however often one looks."""

    def __init__(
        self, book: Book, types: Sequence[str], initial: Callable[[], S], apply: Callable[[S, StoredEvent], None]
    ) -> None:
        """``apply`` changes the state it is given."""
        self._book, self._types, self._initial, self._apply = book, types, initial, apply
        self.begin_anew()
        _followers.add(self)

    def begin_anew(self) -> None:
        """Trust nothing that was folded before."""
        self._state, self._seq = self._initial(), 0
        self._lock = threading.RLock()

    def look(self, view: Callable[[S], V]) -> V:
        """Return what ``view`` sees of the state at the head; nobody changes it meanwhile, and it must keep no part."""
        with self._lock:
            steadily(self._catch_up)
            return view(self._state)

    def at(self, seq: int) -> S:
        """Return the state at a cursor."""

        def fold() -> S:
            state = self._initial()
            for event in self._book.stored(self._types, to=seq):
                self._apply(state, event)
            return state

        return steadily(fold)

    def _catch_up(self) -> None:
        """Fold what came since."""
        for event in self._book.stored(self._types, after=self._seq):
            self._apply(self._state, event)
            self._seq = event.seq


_followers: weakref.WeakSet[Follower[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """The thread that held a lock, in the middle of a fold, does not exist here."""
    for follower in list(_followers):
        follower.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
