"""The ledger of a run for whoever looks at it or says something about it: ``log.ledger(run)``, and every ``Run``."""

from __future__ import annotations

from collections.abc import Iterable

from eventlog.errors import EventLogError, ItemNotFoundError
from eventlog.ledger import progress
from eventlog.ledger.book import Book, Follower, Instead, Source
from eventlog.ledger.claims import lives
from eventlog.ledger.events import (
    SessionNoted,
    SessionUpdated,
    StepBlocked,
    StepInvalidated,
    StepReleased,
    StepUnblocked,
)
from eventlog.ledger.feature import Feature, Features
from eventlog.ledger.features import FeatureInfo
from eventlog.ledger.memory import Memory
from eventlog.ledger.overview import session_of
from eventlog.ledger.progress import SESSION_TYPES, Claim, Progress
from eventlog.ledger.session import Session
from eventlog.record import MAIN_BRANCH
from eventlog.redact import MARKER
from eventlog.writer import Writer, instead


class Desk:
    """A book with the folds that are kept of it."""

    def __init__(self, source: Source, run: str, branch: str) -> None:
        """Nothing is read yet."""
        self.book = Book(source, run, branch)
        self.progress: Follower[Progress] = Follower(self.book, SESSION_TYPES, Progress, progress.apply)
        self.features = Features(self.book)
        self.memory = Memory(source, run, branch, name=self.name_memory)

    def name_memory(self, _saved: object) -> tuple[str, str] | None:
        """Return id and origin of what is saved, if the same work may save it again; here it never does."""
        return None


class Ledger:
    """Steps, features and memory of one branch of a run."""

    def __init__(self, source: Source, run: str, branch: str = MAIN_BRANCH) -> None:
        """Nothing is read or written before it is asked for."""
        self._source, self._names = source, (run, branch)
        self._desks: dict[Writer | None, Desk] = {}
        """The log's own, and those of re-executions."""

    def _make_desk(self, source: Source, run: str, branch: str) -> Desk:
        """Return a book with its folds."""
        return Desk(source, run, branch)

    def _elsewhere(self) -> Writer | None:
        """Return where what is said goes in a re-execution: it touches no log."""
        return instead.get()

    def _at_desk(self) -> Desk:
        """Return the book that counts here, and its folds."""
        other, (run, branch) = self._elsewhere(), self._names
        if other not in self._desks:
            made = (
                self._make_desk(Instead(other), run, MAIN_BRANCH)
                if other
                else self._make_desk(self._source, run, branch)
            )
            return self._desks.setdefault(other, made)
        return self._desks[other]

    # -- sessions -------------------------------------------------------------------------------

    def session(self, to: str | int | None = None) -> Session:
        """Return how far the pipeline has come, at a cursor; without one, now.

        Now, an item whose worker is gone is ``interrupted``; at an earlier cursor it is in progress, as it was.

        Raises:
            NotFoundError, AmbiguousCursorError: the cursor means nothing, or too much.
        """
        desk = self._at_desk()
        if to is None:
            return desk.progress.look(lambda state: self._shown(desk, state, is_now=True))
        return self._shown(desk, desk.progress.at(desk.book.cursor(to)), is_now=False)

    def _shown(self, desk: Desk, state: Progress, *, is_now: bool) -> Session:
        """Return a session for the reader."""
        book = desk.book

        def here(claim: Claim) -> bool:
            return claim.branch == book.branch and lives(claim)

        return session_of(state, book.run, book.branch, book.resolved, here if is_now else lambda _claim: True)

    def summary(self, text: str) -> None:
        """Say where the whole stands, for whoever goes on with it.

        Raises:
            AppendError: it could not be stored.
        """
        self._at_desk().book.append(SessionUpdated(summary=text))

    def note(self, text: str) -> None:
        """Add something to remember.

        Raises:
            AppendError: it could not be stored.
        """
        self._at_desk().book.append(SessionNoted(text=text))

    def block(self, item: str, reason: str) -> None:
        """Let nobody begin an item until ``unblock``; one that is under way is completed.

        Raises:
            ItemNotFoundError: the session has no such item.
            AppendError: it could not be stored.
        """
        self._at_desk().book.append(StepBlocked(item=self._known(item), reason=reason))

    def unblock(self, item: str) -> None:
        """Let an item be begun again.

        Raises:
            ItemNotFoundError: the session has no such item.
            AppendError: it could not be stored.
        """
        self._at_desk().book.append(StepUnblocked(item=self._known(item)))

    def invalidate(self, item: str, reason: str | None = None) -> None:
        """Let an item be done again, from nothing; what depends on it is stale until then.

        What is under way does not count when it is done: its worker does it once more.

        Raises:
            ItemNotFoundError: the session has no such item.
            AppendError: it could not be stored.
        """
        self._at_desk().book.append(StepInvalidated(item=self._known(item), reason=reason))

    def release(self, item: str) -> None:
        """Take an item from a worker that hangs, or that nobody can see: others may begin it.

        Should that worker finish after all, its result does not count: it gets that of the other one.

        Raises:
            ItemNotFoundError: the session has no such item.
            AppendError: it could not be stored.
        """
        self._at_desk().book.append(StepReleased(item=self._known(item)))

    def _known(self, item: str) -> str:
        """Return the name of an item that the session has."""
        name = self._name(item)
        known = self._at_desk().progress.look(lambda state: list(state.steps))
        if name not in known:
            raise ItemNotFoundError(item, self._names[0], known)
        return name

    def _name(self, item: str) -> str:
        """Return the name of an item as it is stored.

        Raises:
            EventLogError: it is none, or it holds a secret: two that differ in it would be one.
        """
        given: object = item
        if not isinstance(given, str) or not given:
            raise EventLogError(f"an item needs a name, a text, not {item!r}")
        name = self._at_desk().book.clean(item)
        if MARKER in name and MARKER not in item:
            raise EventLogError("the name of an item must not hold a secret")
        return name

    # -- features -------------------------------------------------------------------------------

    def feature(
        self, name: str, description: str | None = None, category: str | None = None,
        test_steps: Iterable[str] | None = None,
    ) -> Feature:  # fmt: skip
        """Return something to be delivered: ``.passed(step)``, ``.failed(step)``, ``.complete()``, ``.info``.

        Defined as given; what is not given stays as it is, so a name alone finds one that is defined.

        Raises:
            FeatureNotFoundError: a name alone, and nobody defined it.
            AppendError: it could not be stored.
        """
        return self._at_desk().features.feature(name, description, category, test_steps)

    def features(
        self, status: str | None = None, category: str | None = None, to: str | int | None = None
    ) -> list[FeatureInfo]:
        """Return what is to be delivered, of a status and a category (``None``: of any), at a cursor.

        Raises:
            NotFoundError, AmbiguousCursorError: the cursor means nothing, or too much.
        """
        return self._at_desk().features.features(status, category, to)

    # -- memory ---------------------------------------------------------------------------------

    @property
    def memory(self) -> Memory:
        """What was found on the way, in the namespace of the run: ``.save(value)``, ``.search(query)``."""
        return self._at_desk().memory
