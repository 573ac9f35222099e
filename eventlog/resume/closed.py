"""The player of a re-execution: everything runs again, and everything it asks is answered from the tape, or refused."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, cast

from eventlog.capture.playing import MISSING, Served
from eventlog.codec import Request
from eventlog.record import NewEvent
from eventlog.references import read_fact
from eventlog.replay.path import above
from eventlog.resume import flows
from eventlog.resume.divergence import DivergedError, Divergence
from eventlog.resume.exchanges import Exchange, pick
from eventlog.resume.models import request_tree
from eventlog.resume.outcome import ServedCounts
from eventlog.resume.player import TapePlayer
from eventlog.resume.policy import Policy
from eventlog.resume.revive import UnrevivableError
from eventlog.resume.tape import Tape

if TYPE_CHECKING:
    from eventlog.capture.kickoffs import Kickoff
    from eventlog.capture.recorder import Recorder
    from eventlog.resume.edits import Edits

_reason: ContextVar[str | None] = ContextVar("eventlog_unusable", default=None)
"""Why what is recorded of the question at hand cannot be used."""


class NoKickoff:
    """Stands for the kickoff where none is under way, as far as a player looks at it."""

    kind, asked = "?", None

    def __init__(self, entity: Any = None) -> None:
        """``entity`` declares the classes that values are made of."""
        self.entity = entity
        self.given: dict[str, Any] = {}
        self.kwargs: dict[str, Any] = {}


class ClosedPlayer(TapePlayer):
    """Keeps the door to the world closed."""

    def __init__(
        self, recorder: Recorder, tape: Tape, kickoff: Kickoff | NoKickoff, *, busy: Collection[str] = (),
        edits: Edits | None = None,
    ) -> None:  # fmt: skip
        """``busy``: uses of tools that are run again, because what they ask is on the tape itself."""
        super().__init__(recorder, tape, Policy(on_change="strict"), cast("Kickoff", kickoff), edits=edits)
        self._busy = busy
        self.served = ServedCounts()
        tape.tasks.clear()

    # -- nothing is kept --------------------------------------------------------------------------

    def is_replayed(self, event: NewEvent, whole: Callable[[], Any]) -> bool:  # noqa: ARG002 - a player's signature
        """Whether an event is only said again: here every event counts."""
        return False

    def condition(self, parent: str | None, task: Any) -> bool | None:  # noqa: ARG002
        """Return nothing: conditions are the user's code, and run again."""
        return None

    def method(self, lane: str, flow: Any) -> Any:
        """Return ``MISSING``: methods run again, in a flow with the id it had."""
        flows.keep_identity(self, above(lane), flow)
        return MISSING

    # -- questions ----------------------------------------------------------------------------------

    def llm(self, lane: str, name: str, request: Request, llm: Any, given: dict[str, Any]) -> Any:
        """Return the recorded response to a request, or raise the recorded error.

        Raises:
            DivergedError: nothing is recorded.
        """
        _reason.set(None)
        try:
            answer = super().llm(lane, name, request, llm, given)
        except Exception:
            if self.stopped is None:
                self._count("llm")
            raise
        if answer is MISSING:
            self.refuse(lane, "llm", request_tree(self, request))
        self._count("llm")
        return answer

    def count(self, lane: str, estimate: Callable[[], int]) -> Any:
        """Return the next recorded token count; where none is on record, as when it failed, an estimate.

        The model call that follows says better what differs.
        """
        tokens = super().count(lane, estimate)
        if tokens is MISSING:
            return estimate()
        self._count("token_counts")
        return tokens

    def tool(self, lane: str, tool: Any, given: dict[str, Any]) -> Served | None:
        """Return what a tool returned; one that asks models and crews itself runs again.

        Raises:
            DivergedError: nothing is recorded.
        """
        _reason.set(None)
        name = read_fact(tool, "name")
        if self._runs_again(lane, name):
            self.go_on()
            return None
        served = super().tool(lane, tool, given)
        if served is None:
            self.refuse(lane, "tool", {"tool": name, "args": self.encoded(given)})
        self._count("tools")
        return served

    def human(self, lane: str, kind: str, message: Any, given: dict[str, Any]) -> Served | None:
        """Return what a person answered.

        Raises:
            DivergedError: nothing is recorded.
        """
        _reason.set(None)
        served = super().human(lane, kind, message, given) or self._failure(self.tape.human, lane, "kind", kind)
        if served is None:
            self.refuse(lane, "human", {"kind": kind, "message": self.encoded(message)})
        self._count("human")
        return served

    def memory(self, lane: str, operation: str, given: dict[str, Any]) -> Served | None:
        """Return what the memory answered.

        Raises:
            DivergedError: nothing is recorded.
        """
        _reason.set(None)
        served = super().memory(lane, operation, given)
        served = served or self._failure(self.tape.memory, lane, "operation", operation)
        if served is None:
            self.refuse(lane, "memory", {"operation": operation, "args": self.encoded(given)})
        self._count("memory")
        return served

    def revived(self, tree: Any, *, lenient: bool = False) -> Any:
        """Return the value of a recorded tree; why it cannot be made is kept for ``refuse``.

        Raises:
            UnrevivableError: it cannot be made again, or redaction took something from it.
        """
        try:
            return super().revived(tree, lenient=lenient)
        except UnrevivableError as error:
            _reason.set(str(error))
            raise

    def refuse(self, lane: str, what: str, asked: Any) -> NoReturn:
        """Stop instead of going to the world.

        Raises:
            DivergedError: always.
        """
        self.go_on()
        reason = _reason.get()
        expected = None if reason is None else f"an answer that cannot be used: {reason}"
        divergence = Divergence(lane, what, "", expected, asked)
        self.divergences.append(divergence)
        self.stop(DivergedError(divergence))

    # -- helpers --------------------------------------------------------------------------------------

    def _runs_again(self, lane: str, name: str | None) -> bool:
        """Whether this is the tool of a busy use; another one that it calls itself is served."""
        exchanges = self.tape.tools.get(lane)
        return lane in self._busy and (not exchanges or exchanges[-1].fields.get("tool") == name)

    def _failure(self, kind: dict[str, list[Exchange]], lane: str, field: str, value: str) -> Served | None:
        """Return a recorded failure as an answer that raises it."""
        with self.lock:
            exchange = pick(kind.get(lane, ()), lambda e: e.failed and e.fields.get(field) == value)
        return None if exchange is None else self.error_of(exchange)

    def _count(self, name: str) -> None:
        """Count an answer."""
        with self.lock:
            setattr(self.served, name, getattr(self.served, name) + 1)
