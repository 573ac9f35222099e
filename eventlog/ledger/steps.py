"""Steps: each is done once, by one worker at a time, and its result is there for whoever asks again.

::

    step(item, fn) ── turn ──┬── Done      completed with these inputs: the recorded result
                             ├── Wait      another worker has it, or an attempt failed a moment ago
                             └── Attempt   claimed: fn is called, its result or its error recorded

A claim is an event, and the first one in the log has the item; so whoever appends one looks afterwards whether it
was the first. A claim whose worker is gone is superseded by naming it.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from hashlib import blake2b
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs
from typing_extensions import Self

from eventlog.capture.playing import directing, reexecutor, step_mark, within
from eventlog.errors import (
    EventLogError,
    StaleStepError,
    StepBlockedError,
    StepBusyError,
    StepError,
    StepOrderError,
)
from eventlog.ledger.book import Book, Follower
from eventlog.ledger.calls import Call
from eventlog.ledger.claims import Claims, lives, new_claim
from eventlog.ledger.events import StepClaimed, StepCompleted, StepFailed, StepKept, StepMoved, StepStarted
from eventlog.ledger.inputs import essence
from eventlog.ledger.progress import Claim, Progress, Step, is_ready, is_stale, worker_of
from eventlog.ledger.results import as_stored, other_type, revived, tell_user
from eventlog.logger import Logger
from eventlog.resume.revive import UnrevivableError
from eventlog.resume.stepping import StepDirector, waits_for_person
from eventlog.values import plain

if TYPE_CHECKING:
    from eventlog.resume.director import RunDirector

WAIT_S, WAIT_MAX_S = 0.05, 2.0
"""How long to wait before looking again whether another worker is done: the first time, and at most."""
MARK_CHARS_MAX = 40

log = Logger(__name__)


class Done(msgspec.Struct, frozen=True):
    """There is a result."""

    result: Any


class LostError(Exception):
    """What an attempt returned does not count."""


class Wait(msgspec.Struct, frozen=True):
    """Nothing can be done yet."""

    seconds: float


inside: ContextVar[tuple[Attempt, ...]] = ContextVar("eventlog_steps", default=())
"""The attempts that this context is in, the innermost last."""


class Steps:
    """The steps of one branch of a run, as this process does them."""

    def __init__(self, book: Book, progress: Follower[Progress], director: Callable[[], RunDirector]) -> None:
        """``director()`` decides about the kickoffs of the run."""
        self.book, self.progress, self.director = book, progress, director
        self.claims = Claims(book)
        self.on_done_again: Callable[[str], None] = lambda _mark: None
        """Told the mark of a step that was done before, and is done again now."""

    def run(self, call: Call) -> Any:
        """Return the result of a step: the recorded one, another worker's, or that of calling the function.

        A result that does not count, because the item was invalidated or taken over meanwhile, is dropped, and the
        step goes on as it stands then.

        Raises:
            StepError: see its kinds.
            Exception: what the function raised in the last attempt.
        """
        turns = Turns(self, call)
        while True:
            turn = turns.next()
            if isinstance(turn, Done):
                return turn.result
            if isinstance(turn, Wait):
                time.sleep(turn.seconds)
                continue
            with turn:
                return turn.complete(call.now())

    async def arun(self, call: Call) -> Any:
        """``run`` for a function that returns an awaitable, without blocking the event loop."""
        turns = Turns(self, call)
        while True:
            turn = await _in_thread(turns)
            if isinstance(turn, Done):
                return turn.result
            if isinstance(turn, Wait):
                await asyncio.sleep(turn.seconds)
                continue
            with turn:
                return turn.complete(await call.later())

    def take(self, items: Collection[str] | None = None) -> Iterator[str]:
        """Yield items that nobody has, each once and claimed for this worker until the loop goes on."""
        tried: set[str] = set()
        wait_s = WAIT_S
        while (step := self.progress.look(lambda progress: _next_free(progress, items, tried, self.lives))) is not None:
            if isinstance(step, Wait):
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, WAIT_MAX_S)
                continue
            tried.add(step.name)
            wait_s, claim = WAIT_S, self.claim(StepClaimed(item=step.name), step)
            if claim is not None:
                yield from self._lent(step.name, claim)

    def _lent(self, item: str, claim: str) -> Iterator[str]:
        """Yield an item; what was not begun meanwhile is given back."""
        self.claims.lay_down(item, claim)
        try:
            yield item
        finally:
            if self.claims.pick_up(item) == claim:
                self.claims.give_back(item, claim)

    def name_memory(self, saved: object) -> tuple[str, str] | None:
        """Return id and origin of what is saved in the innermost step of this context; ``None`` outside of steps."""
        attempt = next((attempt for attempt in reversed(inside.get()) if attempt.steps is self), None)
        return None if attempt is None else (attempt.memory_id(self.hash_of(saved)), attempt.mark)

    def lives(self, claim: Claim) -> bool:
        """Whether somebody still works under a claim, on this branch: a fork inherits nobody."""
        return claim.branch == self.book.branch and lives(claim)

    # -- used by turns and attempts -----------------------------------------------------------------

    def step(self, item: str) -> Step:
        """Return what is known of one item now; what others do later does not change it."""
        return self.progress.look(lambda progress: structs.replace(progress.step(item)))

    def hash_of(self, value: Any) -> str:
        """Return a hash of a value that is the same in every process."""
        return self.book.writer.recorder.hash_of(essence(value))

    def claim(self, event: StepClaimed, seen: Step) -> str | None:
        """Claim an item, with an event that says so, and return the claim; ``None`` if another worker was first.

        ``seen``: the item when it was found free. What happened since makes the claim void.
        """
        item, former, made = event.item, seen.claim, new_claim()
        kept = self.claims.pick_up(item)
        if kept is None and former is not None and self.lives(former):
            return None  # another thread picked it up first
        name = kept or made.id
        self.claims.hold(item, name)
        try:
            self.book.append(
                structs.replace(
                    event, claim=name, owner=msgspec.json.decode(made.owner), until_ns=made.until_ns,
                    after=seen.completions,
                    supersedes=former.id if former is not None and former.id not in ("", name) else None,
                )
            )  # fmt: skip
            now = self.step(item).claim
        except BaseException:
            self.claims.drop(name)
            raise
        if now is not None and now.id == name:
            return name
        self.claims.drop(name)
        return None


class Turns:
    """What to do next for one call of a step."""

    def __init__(self, steps: Steps, call: Call) -> None:
        """Nothing was tried yet."""
        self._steps, self._call = steps, call
        self._inputs = steps.hash_of(call.inputs)  # once: the function may change what it is given
        self.attempts_left = call.options.retries + 1
        self.not_before = 0.0
        self._wait_s, self._retry_s = WAIT_S, call.options.retry_wait_s

    def next(self) -> Done | Wait | Attempt:
        """Return the recorded result, how long to wait, or an attempt to do.

        Raises:
            StepError: it is not to be done now.
        """
        step, item = self._steps.step(self._call.item), self._call.item
        self._refuse_itself(item)
        upstream = self._upstream()
        inputs = self._steps.hash_of([self._inputs, upstream])
        if step.stage == "completed" and (done := self._done(step, inputs, upstream)) is not None:
            return done
        if step.blocked is not None:
            raise StepBlockedError(item, f"blocked: {step.blocked}")
        if step.claim is not None and self._steps.lives(step.claim) and not self._steps.claims.is_kept(item):
            return self._wait_for(step)
        if (seconds := self.not_before - time.monotonic()) > 0:
            return Wait(seconds)
        claim = self._steps.claim(StepStarted(item=item, inputs_hash=inputs, upstream=upstream), step)
        return self._attempt(claim) if claim is not None else Wait(0)

    def _attempt(self, claim: str) -> Attempt:
        """Return an attempt under a claim; if that fails, others may have the item."""
        try:
            return Attempt(self._steps, self, self._call, claim)
        except BaseException:
            self._steps.claims.give_back(self._call.item, claim)
            raise

    def _refuse_itself(self, item: str) -> None:
        """A step that waits for itself would wait for ever."""
        if any(attempt.item == item and attempt.steps.book == self._steps.book for attempt in inside.get()):
            raise StepError(item, "it is called from inside itself")

    def _upstream(self) -> dict[str, str]:
        """Return the hashes of the results that the step is made of.

        Raises:
            StepOrderError: one of them is not there.
        """
        found = {}
        for given in sorted(self._call.options.depends_on):
            name = self._steps.book.clean(given)
            dep, stale = self._steps.progress.look(partial(_dependency, name=name))
            if dep.stage != "completed" or stale:
                state = "stale" if stale else "not completed"
                raise StepOrderError(self._call.item, f"it depends on {given!r}, which is {state}")
            found[name] = dep.result_hash
        return found

    def _done(self, step: Step, inputs: str, upstream: dict[str, str]) -> Done | None:
        """Return the recorded result, unless the step is to be done again.

        Raises:
            StaleStepError: it is stale, and that is not allowed.
        """
        keeps = self._call.options.on_stale == "keep"
        why = _why_stale(step, inputs)
        if why is not None and not keeps:
            self._refuse_stale(step, why)
            return None
        try:
            result = self._recorded(step)
        except UnrevivableError as error:
            if not keeps:
                self._refuse_stale(step, str(error))
                return None
            log.warning("step_result_not_restored", item=step.name, reason=str(error))
            result = plain(self._steps.book.resolved(_value(step.result)))
        if why is not None and (step.is_invalid or step.inputs_hash != inputs):
            self._steps.book.append(StepKept(item=step.name, inputs_hash=inputs, upstream=upstream))
        return Done(result)

    def _refuse_stale(self, step: Step, why: str) -> None:
        """Return if a completed step may be done again.

        Raises:
            StaleStepError: it must not be.
        """
        if self._call.options.on_stale == "fail":
            raise StaleStepError(step.name, f"completed, but {why}")
        log.info("step_stale", item=step.name, reason=why)

    def _recorded(self, step: Step) -> Any:
        """Return the result of a completed step, typed."""
        tree = self._steps.book.resolved(_value(step.result))
        return revived(tree, self._call.classes(), self._steps.book.writer.encoder)

    def _wait_for(self, step: Step) -> Wait:
        """Wait for the worker that has the item.

        Raises:
            StepBusyError: the caller does not want to.
        """
        if not self._call.options.wait:
            raise StepBusyError(step.name, f"{worker_of(step.claim) or 'another worker'} has it")
        seconds, self._wait_s = self._wait_s, min(2 * self._wait_s, WAIT_MAX_S)
        return Wait(seconds)

    def failed(self) -> bool:
        """Take note of a failed attempt; true when another one is to follow."""
        self.attempts_left -= 1
        self.not_before = time.monotonic() + self._retry_s
        self._retry_s *= 2
        return self.attempts_left > 0


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


async def _in_thread(turns: Turns) -> Done | Wait | Attempt:
    """Return what to do next, found without blocking the event loop; what nobody waits for any more is given up."""
    found = asyncio.ensure_future(asyncio.to_thread(turns.next))
    try:
        return await asyncio.shield(found)
    except asyncio.CancelledError:
        found.add_done_callback(_give_up)
        raise


def _give_up(found: asyncio.Future[Done | Wait | Attempt]) -> None:
    """Give back what was claimed for somebody who is gone."""
    if not found.cancelled() and found.exception() is None and isinstance(turn := found.result(), Attempt):
        turn.give_up()


def step_label(item: str, number: int) -> str:
    """Return the mark of the kickoffs of a step: the same in every process, another one in every round."""
    text = re.sub(r"[^A-Za-z0-9._-]", "_", item)[:MARK_CHARS_MAX]
    if text != item:
        text += "-" + blake2b(item.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"@{text}~{number}" if number else f"@{text}"


def _dependency(progress: Progress, name: str) -> tuple[Step, bool]:
    """Return a step that another one is made of, and whether its result is about to change."""
    step = progress.steps.get(name) or Step(name=name)
    return structs.replace(step), step.stage == "completed" and is_stale(progress, step)


def _next_free(
    progress: Progress, items: Collection[str] | None, tried: Collection[str], alive: Callable[[Claim], bool]
) -> Step | Wait | None:  # fmt: skip
    """Return the first item that a worker may take and has not tried; of the session's, if none are given.

    ``Wait``: there is none as long as others have not done what comes before; ``None``: there will be none.
    """
    names = items if items is not None else progress.order or list(progress.steps)
    free = [name for name in names if name not in tried and is_free(progress, progress.step(name), alive)]
    ready = next((name for name in free if is_ready(progress, name)), None)
    if ready is not None:
        return structs.replace(progress.step(ready))
    is_busy = any(step.claim is not None and alive(step.claim) for step in progress.steps.values())
    return Wait(0) if free and is_busy else None


def is_free(progress: Progress, step: Step, alive: Callable[[Claim], bool]) -> bool:
    """Whether a worker may take an item: not done, not blocked, and nobody has it."""
    if step.blocked is not None or (step.claim is not None and alive(step.claim)):
        return False
    return step.stage != "completed" or is_stale(progress, step)


def _value(result: Any) -> Any:
    """Return the stored value of a result."""
    return result.get("value") if isinstance(result, dict) else None


def _why_stale(step: Step, inputs: str) -> str | None:
    """Return why a completed step is to be done again; ``None`` when it is not."""
    if step.is_invalid:
        return f"it was invalidated{': ' + step.reason if step.reason else ''}"
    if step.inputs_hash and step.inputs_hash != inputs:
        return "its inputs were others"
    return f"its result could not be kept: {step.unkept}" if step.unkept else None
