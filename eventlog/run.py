"""A run: capture what happens inside a ``with`` block under a name."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from typing_extensions import Self

from eventlog.errors import EventLogError
from eventlog.ledger.work import Items, Work
from eventlog.references import kind_of

if TYPE_CHECKING:
    from eventlog.capture.homes import Home
    from eventlog.ledger.attempt import Attempt
    from eventlog.log import Log
    from eventlog.record import Event
    from eventlog.replay.state import RunState
    from eventlog.resume.director import RunDirector
    from eventlog.resume.outcome import Reexecution
    from eventlog.resume.player import Tally
    from eventlog.resume.reexecute import RunReexecutor

F = TypeVar("F", bound=Callable[..., Any])


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a run goes on with what is recorded of it; see ``eventlog.resume.policy``."""

    on_change: str = "adapt"
    on_tool: Any = "rerun"
    takeover: bool = False


class Entry:
    """One time that a run was entered."""

    def __init__(self, run: Run, home: Home, token: Any) -> None:
        """``token`` leads back to the run this context was in before."""
        self.run, self.home, self.token = run, home, token


resumed_branches: dict[tuple[str, str], str] = {}
"""Path of a log and run → the branch that is meant where a program names none: the one that is resumed."""

_entered: ContextVar[tuple[Entry, ...]] = ContextVar("eventlog_entered", default=())
"""What this context is inside of: one ``Run`` may be entered in several threads and tasks at once."""


class Run(Work):
    """A named piece of work in a log. Made by ``log.run(name)``."""

    def __init__(
        self, log: Log, name: str, branch: str, options: RunOptions | None = None, items: Items | None = None
    ) -> None:
        """Nothing is captured before the run is entered; ``options`` and ``items`` as for ``Log.run``."""
        if not name:
            text = "a run needs a name"
            raise EventLogError(text)
        self.log, self.name, self.branch = log, log.clean_name(name), branch
        super().__init__(log, self.name, branch, items)
        self._options = options or RunOptions()
        self._director: RunDirector | None = None
        self._open: list[Entry] = []

    def __enter__(self) -> Self:
        """Capture what happens inside, in this context, its tasks and threads that inherit it.

        A file that cannot be written at the moment is no error here: see ``log.status()``.

        Raises:
            BranchNotFoundError: the run has no such branch.
            LogOpenError: the file cannot be read.
        """
        writer = self.log.writer
        home = writer.enter_run(self.name, self.branch)
        entry = Entry(self, home, writer.recorder.homes.enter(home))
        self._open.append(entry)
        _entered.set((*_entered.get(), entry))
        self._begin_session()
        return self

    def __exit__(self, *exc: object) -> None:
        """Capture no more; everything so far is committed, or (see ``log.status()``) waits for the file."""
        here = [entry for entry in _entered.get() if entry.run is self and entry in self._open]
        entry = (here or self._open)[-1]  # fixtures and generators may leave in another context than they entered
        self._open.remove(entry)
        if self._director is not None and not self._open:
            self._director.leave()
        _entered.set(tuple(e for e in _entered.get() if e is not entry))
        writer = self.log.writer
        writer.recorder.homes.leave(entry.home, entry.token)
        writer.leave_run(entry.home)

    # -- kickoffs ---------------------------------------------------------------------------------

    def kickoff(self, entity: Any, *args: Any, **kwargs: Any) -> Any:
        """Kick off a crew, flow, agent or task: new it runs, interrupted it goes on, finished it returns its result.

        Takes what the entity's own ``kickoff`` (of a task: ``execute_sync``) takes: ``inputs`` of a crew
        or flow, ``messages`` of an agent, ``context`` of a task. The next execution of this
        definition with equal inputs is the one meant; with other inputs a new one begins.
        What is on record is not asked again: no model call, no tool, no person.

        Raises:
            RunBusyError: another process works on this branch of the run; ``log.run(…, takeover=True)`` takes it over.
            DivergedError: the code changed, and ``on_change="strict"``.
            ToolInFlightError: a tool was under way when its process ended, and ``on_tool="fail"``.
        """
        name = "execute_sync" if kind_of(entity) == "task" else "kickoff"
        self._require_room_to_stream(entity)
        if kind_of(entity) == "agent" and _in_event_loop():
            return self.akickoff(entity, *args, **kwargs)  # as CrewAI does: the caller awaits it
        with self.directed():
            return getattr(entity, name)(*args, **kwargs)

    async def akickoff(self, entity: Any, *args: Any, **kwargs: Any) -> Any:
        """``kickoff`` without blocking the event loop, through the entity's own asynchronous kickoff."""
        name = "aexecute_sync" if kind_of(entity) == "task" else "akickoff"
        self._require_room_to_stream(entity)
        with self.directed():
            return await getattr(entity, name)(*args, **kwargs)

    def kickoff_for_each(self, crew: Any, inputs: list[Any], **kwargs: Any) -> list[Any]:
        """Kick off a copy of the crew for each of the inputs; each copy is new, interrupted or finished by itself."""
        with self.directed():
            return list(crew.kickoff_for_each(inputs=inputs, **kwargs))

    async def akickoff_for_each(self, crew: Any, inputs: list[Any], **kwargs: Any) -> list[Any]:
        """``kickoff_for_each`` with all copies at the same time."""
        with self.directed():
            return list(await crew.akickoff_for_each(inputs=inputs, **kwargs))

    def resume(self, entity: Any = None, *args: Any, feedback: str = "", **kwargs: Any) -> Any:
        """Go on with a flow that waits for a person, and tell it what that person says.

        Without ``entity`` the flow is the one this run kicked off last. In another process than the
        one that paused, give the flow, built as before, with the inputs it had.

        Raises:
            EventLogError: no flow waits here.
        """
        director = self._director_of_this_pass()
        waiting = director.paused
        if entity is None and waiting is None:
            raise EventLogError(f"no flow of run {self.name!r} waits here: kick it off first, or give it: resume(flow)")
        if entity is None and waiting is not None:
            entity, kwargs = waiting.entity, {"inputs": waiting.given.get("inputs")}
        if not any(e.status == "paused" for e in self.log.executions(self.name, branch=self.branch)):
            raise EventLogError(f"no flow of run {self.name!r} waits for a person; see: eventlog replay {self.name}")
        self._director = None  # a new pass: the paused execution is to be taken again
        director = self._director_of_this_pass()
        director.feedback = feedback
        try:
            return self.kickoff(entity, *args, **kwargs)
        finally:
            director.feedback = None

    def reexecute(self, entity: Any, inputs: Any = None, **options: Any) -> Reexecution:
        """Run a recorded kickoff again from the log alone and return whether it did the same; see ``Log.reexecute``.

        Raises:
            NotFoundError: the run holds no such kickoff.
        """
        return self.log.reexecute(self.name, entity, inputs, branch=self.branch, **options)

    async def areexecute(self, entity: Any, inputs: Any = None, **options: Any) -> Reexecution:
        """``reexecute`` without blocking the event loop, through the entity's own asynchronous kickoff."""
        return await self.log.areexecute(self.name, entity, inputs, branch=self.branch, **options)

    def reexecuting(self) -> AbstractContextManager[RunReexecutor]:
        """Run every plain kickoff in a block again from the log alone; see ``Log.reexecuting``."""
        return self.log.reexecuting(self.name, branch=self.branch)

    @property
    def tally(self) -> Tally:
        """What the kickoffs of this ``Run`` object took from the log, and what they asked the world."""
        return self._director_of_this_pass().tally

    @contextmanager
    def directed(self) -> Iterator[None]:
        """Let this run decide about the plain kickoffs in a block: new, unfinished or finished."""
        with self._inside():
            from eventlog.capture.playing import directing, within  # noqa: PLC0415 - imports CrewAI

            attempt = self._attempt()
            director = self._director_of_this_pass() if attempt is None else attempt.director
            with within(directing, director):
                yield

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Be inside the run for a block."""
        is_inside = self._entry() is not None
        with nullcontext() if is_inside else self:
            self._director_of_this_pass().holds = is_inside
            yield

    def _attempt(self) -> Attempt | None:
        """Return the attempt of a step of this run that this context is in."""
        from eventlog.ledger.attempt import inside  # noqa: PLC0415 - imports CrewAI

        return next((attempt for attempt in reversed(inside.get()) if attempt.steps is self._at_desk().steps), None)

    def _require_room_to_stream(self, entity: Any) -> None:
        """A stream is read after ``kickoff`` returned: the run must still be open then."""
        if getattr(entity, "stream", False) is True and self._entry() is None:
            raise EventLogError("a kickoff that streams needs the run around it: with log.run(...) as run: ...")

    def _entry(self) -> Entry | None:
        """Return the innermost time this context entered the run; ``None`` outside."""
        return next((entry for entry in reversed(_entered.get()) if entry in self._open), None)

    def _director_of_this_pass(self) -> RunDirector:
        """Return who decides about kickoffs; each ``Run`` object is one pass over the run."""
        from eventlog.capture.playing import program_director  # noqa: PLC0415 - imports CrewAI
        from eventlog.resume.director import RunDirector  # noqa: PLC0415
        from eventlog.resume.policy import Policy  # noqa: PLC0415

        entry = self._entry() or next(iter(self._open), None)
        if self._director is None:
            policy = Policy(on_change=self._options.on_change, on_tool=self._options.on_tool)  # type: ignore[arg-type]  # checked there
            self._director = RunDirector(self.log.writer, policy, takeover=self._options.takeover)
            self._director.count_with(program_director)
        if entry is not None:
            self._director.enter(entry.home, self.log.reader)
        return self._director

    def forget_command(self) -> None:
        """Leave the command line of this process out of the log: nobody will go on with the run by it."""
        self._director_of_this_pass().command = None

    def bind(self, function: F) -> F:
        """Return ``function`` as one that belongs to this run in whatever thread it is called.

        A raw ``threading.Thread`` does not inherit the context; CrewAI's own threads do. Bound inside of a step, it is
        part of that step.
        """
        attempt = self._attempt()
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def bound_later(*args: Any, **kwargs: Any) -> Any:
                with self, nullcontext() if attempt is None else attempt.here():
                    return await function(*args, **kwargs)

            return bound_later  # type: ignore[return-value]

        @functools.wraps(function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            with self, nullcontext() if attempt is None else attempt.here():
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


def _in_event_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
