"""What a kickoff asks before it touches the world, when it resumes or is executed again.

The boundaries of this package ask the player of their context; ``eventlog.resume`` answers from
the tape. ``MISSING`` means: nothing is recorded, go to the world. An answer may also be an
exception that stops the kickoff.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from eventlog.capture.homes import Home
    from eventlog.capture.kickoffs import Kickoff
    from eventlog.capture.recorder import Recorder
    from eventlog.codec import Request
    from eventlog.record import NewEvent
    from eventlog.writer import Writer

MISSING: Any = object()
"""The tape does not hold the answer."""


class Served(Protocol):
    """A recorded answer."""

    def give(self) -> Any:
        """Return the result, or raise the error that came back."""


class Player(Protocol):
    """Answers from the tape of one execution."""

    recorder: Recorder

    def llm(self, lane: str, name: str, request: Request, llm: Any, given: dict[str, Any]) -> Any:
        """Return the response to a request; its events have been emitted."""

    def count(self, lane: str, estimate: Callable[[], int]) -> Any:
        """Return the next token count; ``estimate`` counts without asking anybody."""

    def tool(self, lane: str, tool: Any, given: dict[str, Any]) -> Served | None:
        """Return what a tool returned."""

    def human(self, lane: str, kind: str, message: Any, given: dict[str, Any]) -> Served | None:
        """Return what a person answered."""

    def memory(self, lane: str, operation: str, given: dict[str, Any]) -> Served | None:
        """Return what the memory answered."""

    def task(self, parent: str | None, task: Any, agent: Any, context: Any) -> Any:
        """Return the output of a task that is finished."""

    def condition(self, parent: str | None, task: Any) -> bool | None:
        """Return whether a conditional task ran."""

    def method(self, lane: str, flow: Any) -> Any:
        """Return the result of a flow's method that is finished; what it did to the state is done."""

    def take_definition(self, path: str, fields: dict[str, Any]) -> None:
        """Take down what an execution is made of now."""

    def is_replayed(self, event: NewEvent, whole: Callable[[], Any]) -> bool:
        """Whether an event repeats one that is on record; ``whole`` returns its payload with every text in place."""


class Director(Protocol):
    """Decides what a kickoff at the top of a run means: new, unfinished or finished."""

    def is_open(self) -> bool:
        """Whether its run is still open here."""

    def direct(self, kickoff: Kickoff) -> Any:
        """Return the result of the kickoff; for an asynchronous one an awaitable of it."""


class Reexecutor(Protocol):
    """Executes a run again: nothing but its own recorder captures, and nothing goes to the world."""

    run: str
    """Name of the run."""
    writer: Writer
    """What writes to the log that takes what is executed again."""

    @property
    def recorder(self) -> Recorder:
        """The only recorder that captures here."""

    def newest_mark(self, mark: str) -> str:
        """Return the mark that a step had when it was done last."""

    @property
    def outside(self) -> Player:
        """Answers what is asked outside of every kickoff."""

    def is_open(self) -> bool:
        """Whether its run is still open here."""

    def direct(self, kickoff: Kickoff) -> Any:
        """Return the result of the kickoff; for an asynchronous one an awaitable of it."""


class Claim(msgspec.Struct, frozen=True):
    """The place that a kickoff at the top takes: its own of an earlier process, or a new one."""

    home: Home
    kind: str
    label: str
    """Without the ordinal."""
    ordinal: int


current_kickoff: ContextVar[Kickoff | None] = ContextVar("eventlog_kickoff", default=None)
"""The kickoff that was called last in this context."""

claims: ContextVar[Claim | None] = ContextVar("eventlog_claim", default=None)
"""The place of the kickoff that begins in this context."""

playing: ContextVar[Player | None] = ContextVar("eventlog_playing", default=None)
"""The player of the execution this context is in."""

step_mark: ContextVar[str] = ContextVar("eventlog_step", default="")
"""What marks the labels of the kickoffs of the step this context is in: ``@ITEM``; nothing outside of steps."""

serving: ContextVar[bool] = ContextVar("eventlog_serving", default=False)
"""Set while a recorded model call is told to the listeners once more."""

directing: ContextVar[Director | None] = ContextVar("eventlog_directing", default=None)
"""Who decides about kickoffs in this context."""

program_director: list[Director] = []
"""Who decides about kickoffs of the whole program (``eventlog resume``); at most one."""


reexecuting: ContextVar[Reexecutor | None] = ContextVar("eventlog_reexecuting", default=None)
"""The re-execution this context is in."""

program_reexecutor: list[Reexecutor] = []
"""The re-execution of the whole program (``eventlog replay --execute``), raw threads and all; at most one."""


def reexecutor() -> Reexecutor | None:
    """Return the re-execution that what happens here belongs to."""
    return reexecuting.get() or (program_reexecutor[-1] if program_reexecutor else None)


def player_here() -> Player | None:
    """Return who answers for the world here."""
    player = playing.get()
    if player is not None:
        return player
    again = reexecutor()
    return again.outside if again is not None else None


before_kickoffs: list[Callable[[], None]] = []
"""What is to be done once, when the program kicks something off for the first time."""


def kickoff_of(source: Any) -> Kickoff | None:
    """Return the kickoff that a root event of ``source`` belongs to."""
    kickoff = current_kickoff.get()
    return kickoff if kickoff is not None and kickoff.entity is source else None


def director() -> Director | None:
    """Return who decides about a kickoff that begins here."""
    return reexecutor() or directing.get() or (program_director[-1] if program_director else None)


@contextmanager
def within(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    """Set a context variable for a block."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
