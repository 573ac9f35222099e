"""One attempt of a step: what happens in it is the step's, and its end is on record."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from eventlog.capture.playing import directing, reexecutor, step_mark, within
from eventlog.errors import EventLogError
from eventlog.ledger.calls import Call
from eventlog.ledger.events import StepCompleted, StepFailed, StepMoved
from eventlog.ledger.results import as_stored, other_type, revived, tell_user
from eventlog.logger import Logger
from eventlog.resume.revive import UnrevivableError
from eventlog.resume.stepping import StepDirector, waits_for_person

if TYPE_CHECKING:
    from eventlog.ledger.steps import Steps
    from eventlog.ledger.turns import Turns

MARK_CHARS_MAX = 40

log = Logger(__name__)


class LostError(Exception):
    """What an attempt returned does not count."""


inside: ContextVar[tuple[Attempt, ...]] = ContextVar("eventlog_steps", default=())
"""The attempts that this context is in, the innermost last."""


class Attempt:
    """A step while it is done; a context manager around the call of its function."""

    def __init__(self, steps: Steps, turns: Turns, call: Call, claim: str) -> None:
        """``claim`` is ours."""
        self.steps, self._turns, self._call, self._claim = steps, turns, call, claim
        self.item, step = call.item, steps.step(call.item)
        mark, again = step_label(call.item, step.round), reexecutor()
        self.mark = mark if again is None else again.newest_mark(mark)
        self.director: StepDirector | None = None
        self._stack = ExitStack()
        self._pid = os.getpid()
        self._is_over = False
        """Whether its end is known: completed, or lost."""
        self._saved: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Let kickoffs in this context be those of the step."""
        try:
            self.director = StepDirector(self.steps.director(), self)
            self._stack.enter_context(self.here())
        except BaseException:
            self.give_up()
            raise
        return self

    def give_up(self) -> None:
        """Let others have the item: nothing was done."""
        self.steps.claims.give_back(self.item, self._claim)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Let what happens in a block be part of the attempt, in whatever thread."""
        with (
            within(inside, (*inside.get(), self)), within(step_mark, self.mark), within(directing, self.director),
        ):  # fmt: skip
            yield

    def memory_id(self, content: str) -> str:
        """Return the id of what has this content: the same for the n-th of its kind in every attempt of a round."""
        self._saved[content] += 1
        return blake2b(f"{self.mark}/{content}/{self._saved[content]}".encode(), digest_size=16).hexdigest()

    def complete(self, value: Any) -> Any:
        """Record the result of the function and return it; one that cannot be recorded is the caller's all the same.

        Raises:
            LostError: it does not count: another worker has the item meanwhile, or it was invalidated.
        """
        if waits_for_person(value) or os.getpid() != self._pid:
            return value  # it waits for a person, or this is a forked child that came back: not done
        try:
            self._record(value)
        except (EventLogError, RecursionError) as error:
            self._is_over = True
            hint = "the result is not lost for this process; the next one does the step again"
            log.warning("step_result_not_recorded", item=self.item, error=str(error), hint=hint)
        return value

    def _record(self, value: Any) -> None:
        """Record a result.

        Raises:
            LostError: it does not count.
            EventLogError, RecursionError: it cannot be recorded.
        """
        event = StepCompleted(
            item=self.item, claim=self._claim, result={"value": value}, result_hash=self.steps.hash_of(value),
            unkept=self._why_unkept(value),
        )  # fmt: skip
        if not self._has_it():
            raise LostError
        self._is_over = True
        seq = self.steps.book.append(event)
        step = self.steps.step(self.item)
        if step.completed_seq < seq:
            raise LostError
        if step.round:
            self.steps.on_done_again(self.mark)

    def _has_it(self) -> bool:
        """Whether the claim still counts."""
        claim = self.steps.step(self.item).claim
        return claim is not None and claim.id == self._claim

    def _why_unkept(self, value: Any) -> str | None:
        """Return why the result will not come back, and say so at once; ``None`` when it will."""
        encoder = self.steps.book.writer.encoder
        try:
            why = other_type(value, revived(as_stored(value, encoder), self._call.classes(), encoder))
        except UnrevivableError as error:
            why = str(error)
        if why is not None:
            tell_user(
                f"the result of step {self.item!r} cannot be kept ({why}): the next start of the program does it"
                " again; return text, numbers, lists or dicts, or declare its class: annotate the function, or"
                " result_type=..."
            )
        return why

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Record how it ended; an ordinary error is swallowed when another attempt follows."""
        self._stack.close()
        if os.getpid() != self._pid:
            return False  # a forked child leaves: the item is its parent's
        if self.director is not None:
            self.director.close()
        if isinstance(error, LostError):
            log.warning("step_lost", item=self.item)
            self.steps.claims.drop(self._claim)
            return True
        if self._is_over:
            self.steps.claims.drop(self._claim)
            return False
        if not isinstance(error, Exception):
            self.give_up()
            return False
        return self._fail(error)

    def _fail(self, error: Exception) -> bool:
        """Record an error; true when another attempt follows."""
        anew = self.director is not None and self.director.must_ask_anew(error)
        try:
            self.steps.book.append(StepFailed(item=self.item, claim=self._claim, error=error, anew=anew))
        except EventLogError as problem:
            log.warning("step_error_not_recorded", item=self.item, error=str(problem))
        self.steps.claims.drop(self._claim)
        return self._turns.failed()

    # -- where its kickoffs are recorded (``StepPlace``) ----------------------------------------------

    def branch(self) -> tuple[str, int | None]:
        """Return the branch they were recorded on so far, and the seq up to which that counts; ``None``: all."""
        step, book = self.steps.step(self.item), self.steps.book
        if not step.branch:
            return book.branch, None
        return step.branch, None if step.placed_on == book.branch else book.end_of(step.placed_on)

    def new_branch(self) -> str:
        """Return a name for a branch of its own; names of branches stay clear in an encrypted log."""
        item = "" if self.steps.book.writer.key else f"{self.mark[1:]}-"
        return f"step-{item}{self._claim[:6]}"

    def move(self, branch: str) -> None:
        """Say that from now on they are recorded there."""
        self.steps.book.append(StepMoved(item=self.item, claim=self._claim, branch=branch))


def step_label(item: str, number: int) -> str:
    """Return the mark of the kickoffs of a step: the same in every process, another one in every round."""
    text = re.sub(r"[^A-Za-z0-9._-]", "_", item)[:MARK_CHARS_MAX]
    if text != item:
        text += "-" + blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"@{text}~{number}" if number else f"@{text}"
