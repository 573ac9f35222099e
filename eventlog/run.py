"""A run: capture what happens inside a ``with`` block under a name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import Self

from eventlog.errors import EventLogError

if TYPE_CHECKING:
    from eventlog.capture.homes import Home
    from eventlog.log import Log
    from eventlog.record import Event
    from eventlog.replay.state import RunState

F = TypeVar("F", bound=Callable[..., Any])


class Entry:
    """One time that a run was entered."""

    def __init__(self, run: Run, home: Home, token: Any) -> None:
        """``token`` leads back to the run this context was in before."""
        self.run, self.home, self.token = run, home, token


_entered: ContextVar[tuple[Entry, ...]] = ContextVar("eventlog_entered", default=())
"""What this context is inside of: one ``Run`` may be entered in several threads and tasks at once."""


class Run:
    """A named piece of work in a log. Made by ``log.run(name)``."""

    def __init__(self, log: Log, name: str, branch: str) -> None:
        """Nothing is captured before the run is entered."""
        if not name:
            text = "a run needs a name"
            raise EventLogError(text)
        self.log, self.name, self.branch = log, log.writer.encoder.text(name), branch
        self._open: list[Entry] = []

    def __enter__(self) -> Self:
        """Capture what happens inside, in this context, its tasks and threads that inherit it.

        Raises:
            BranchNotFoundError: the run has no such branch.
            AppendError: the file cannot be written.
        """
        writer = self.log.writer
        home = writer.enter_run(self.name, self.branch)
        entry = Entry(self, home, writer.recorder.homes.enter(home))
        self._open.append(entry)
        _entered.set((*_entered.get(), entry))
        return self

    def __exit__(self, *exc: object) -> None:
        """Capture no more; everything so far is committed, or (see ``log.status()``) waits for the file."""
        here = [entry for entry in _entered.get() if entry.run is self and entry in self._open]
        entry = (here or self._open)[-1]  # fixtures and generators may leave in another context than they entered
        self._open.remove(entry)
        _entered.set(tuple(e for e in _entered.get() if e is not entry))
        writer = self.log.writer
        writer.recorder.homes.leave(entry.home, entry.token)
        writer.leave_run(entry.home)

    def bind(self, function: F) -> F:
        """Return ``function`` as one that belongs to this run in whatever thread it is called.

        A raw ``threading.Thread`` does not inherit the context; CrewAI's own threads do.
        """
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def bound_later(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return bound_later  # type: ignore[return-value]

        @functools.wraps(function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return bound  # type: ignore[return-value]

    def append(self, event_type: str, payload: Mapping[str, Any] | None = None, **options: Any) -> int:
        """Append an event of your own to this run; see ``Log.append``."""
        return self.log.append(event_type, payload, run=self.name, branch=self.branch, **options)

    def events(self, **options: Any) -> Iterator[Event]:
        """Yield this run's events; see ``Log.events``."""
        return self.log.events(self.name, self.branch, **options)

    def state(self, to: str | int | None = None) -> RunState:
        """Return this run's state at a cursor, by default now; see ``Log.state``."""
        return self.log.state(self.name, branch=self.branch, to=to)
