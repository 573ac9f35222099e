"""Decides about the kickoffs inside a step: where they are recorded, and what is known of them.

The first worker of a session works on the session's own branch, as kickoffs without steps do. A branch is worked on
by one process at a time, so another worker's steps get branches of their own, forked from where their work so far is
recorded. What a step asked before its worker died is found again by whoever goes on with it, on any of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from crewai.flow.async_feedback import HumanFeedbackPending

from eventlog.errors import CompactedError, RunBusyError
from eventlog.fork import make_fork
from eventlog.resume.director import RunDirector

if TYPE_CHECKING:
    from eventlog.capture.homes import Home
    from eventlog.capture.kickoffs import Kickoff
    from eventlog.lease import Lease


class StepPlace(Protocol):
    """What the ledger knows of where a step's kickoffs are."""

    mark: str
    """Of the labels of its kickoffs."""

    def branch(self) -> tuple[str, int | None]:
        """Return the branch they were recorded on so far, and the seq up to which that counts; ``None``: all."""

    def new_branch(self) -> str:
        """Return a name for a branch of its own."""

    def move(self, branch: str) -> None:
        """Say that from now on they are recorded there."""


def waits_for_person(result: Any) -> bool:
    """Whether a kickoff returned only that it waits for what a person says."""
    return isinstance(result, HumanFeedbackPending)


class StepDirector:
    """Directs the kickoffs of one attempt of a step."""

    def __init__(self, main: RunDirector, place: StepPlace) -> None:
        """``main`` decides about the kickoffs of the run."""
        self._main, self._place = main, place
        self._chosen: RunDirector | None = None
        self._home: Home | None = None
        self._lease: Lease | None = None
        self._lock = threading.RLock()
        self._is_open = True
        self._errors: list[tuple[BaseException, Kickoff]] = []
        """What its kickoffs raised."""
        self._has_finished = False
        """Whether a kickoff returned."""

    def is_open(self) -> bool:
        """Whether the run is still open in this process, and the attempt under way."""
        return self._is_open and self._main.is_open()

    def direct(self, kickoff: Kickoff) -> Any:
        """Return the result of the kickoff; for an asynchronous one an awaitable of it.

        Raises:
            DivergedError: the code changed, and the policy says to stop.
        """
        if not self.is_open():
            return kickoff.call()  # of a thread that outlived its step
        director = self._director()
        return self._later(director, kickoff) if kickoff.is_async else self._now(director, kickoff)

    def _now(self, director: RunDirector, kickoff: Kickoff) -> Any:
        """Direct a synchronous kickoff."""
        with self._noted(kickoff):
            return director.direct(kickoff)

    async def _later(self, director: RunDirector, kickoff: Kickoff) -> Any:
        """Direct an asynchronous kickoff."""
        with self._noted(kickoff):
            return await director.direct(kickoff)

    @contextmanager
    def _noted(self, kickoff: Kickoff) -> Iterator[None]:
        """Be where the kickoffs are recorded, and take note of how one ends."""
        homes, home = self._main.recorder.homes, self._home
        token = homes.enter(home) if home is not None else None
        try:
            yield
            self._has_finished = True
        except BaseException as error:
            self._errors.append((error, kickoff))
            raise
        finally:
            if home is not None:
                homes.leave(home, token)

    def must_ask_anew(self, error: BaseException) -> bool:
        """Whether what was recorded is of no use to the next attempt after this one ended with an error.

        So it is when the step itself refused what its kickoffs had returned, and when a kickoff failed on recorded
        answers alone: it would fail on them for ever.
        """
        failed = self._kickoff_behind(error)
        return self._has_finished if failed is None else failed.live_calls == 0

    def _kickoff_behind(self, error: BaseException) -> Kickoff | None:
        """Return the kickoff that an error came from, perhaps as the cause of another one."""
        seen: set[int] = set()
        at: BaseException | None = error
        while at is not None and id(at) not in seen:
            for known, kickoff in self._errors:
                if at is known:
                    return kickoff
            seen.add(id(at))
            at = at.__cause__ or at.__context__
        return None

    def close(self) -> None:
        """The attempt is over: give everything back."""
        with self._lock:
            self._is_open = False
            if self._chosen is not None:
                self._chosen.release_step(self._place.mark)
            if self._lease is not None:
                self._main.writer.give_back(self._lease)
            if self._home is not None:
                self._main.writer.leave_run(self._home)
            self._chosen = self._home = self._lease = None

    # -- where ----------------------------------------------------------------------------------

    def _director(self) -> RunDirector:
        """Return who decides on the branch of the step; that is found with its first kickoff."""
        with self._lock:
            if self._chosen is None:
                self._chosen = self._choose()
            return self._chosen

    def _choose(self) -> RunDirector:
        """Go on where the work so far is recorded, or on a branch that begins there when others have that one."""
        branch, cut = self._place.branch()
        try:
            return self._go_on(branch, cut)
        except CompactedError:  # what was asked so far is gone: it is asked again
            return self._go_on(self._main.home.branch, None)

    def _go_on(self, branch: str, cut: int | None) -> RunDirector:
        """Go on with what is recorded on a branch, up to a seq: there if it is ours, else on a fork of it."""
        try:
            return self._on_branch(branch) if cut is None else self._on_fork(branch, cut)
        except RunBusyError:
            return self._on_fork(branch, None)

    def _on_branch(self, branch: str) -> RunDirector:
        """Go on on a branch that is there.

        Raises:
            RunBusyError: another process works on it.
        """
        if branch == self._main.home.branch:
            self._lease = self._main.take_lease()
            return self._main
        self._lease = self._main.writer.take_lease(self._main.home.run, branch)
        self._home = self._main.writer.enter_run(self._main.home.run, branch)
        return self._main.twin(self._home)

    def _on_fork(self, parent: str, cut: int | None) -> RunDirector:
        """Go on on a new branch."""
        writer, run, name = self._main.writer, self._main.home.run, self._place.new_branch()
        make_fork(self._main.reader, writer, run, to=cut, branch=name, parent=parent, inputs=None, outputs=None)
        director = self._on_branch(name)
        self._place.move(name)
        return director
