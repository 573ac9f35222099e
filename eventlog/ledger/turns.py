"""What to do next for one call of a step: take the recorded result, wait, or do it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from eventlog.errors import StaleStepError, StepBlockedError, StepBusyError, StepError, StepOrderError
from eventlog.ledger.attempt import Attempt, inside
from eventlog.ledger.calls import Call
from eventlog.ledger.events import StepKept, StepStarted
from eventlog.ledger.overview import worker_of
from eventlog.ledger.progress import Progress, Step, is_stale
from eventlog.ledger.results import revived
from eventlog.logger import Logger
from eventlog.resume.revive import UnrevivableError
from eventlog.values import plain

if TYPE_CHECKING:
    from eventlog.ledger.steps import Steps

WAIT_S, WAIT_MAX_S = 0.05, 2.0
"""How long to wait before looking again whether another worker is done: the first time, and at most."""

log = Logger(__name__)


class Done(msgspec.Struct, frozen=True):
    """There is a result."""

    result: Any


class Wait(msgspec.Struct, frozen=True):
    """Nothing can be done yet."""

    seconds: float


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


def _dependency(progress: Progress, name: str) -> tuple[Step, bool]:
    """Return a step that another one is made of, and whether its result is about to change."""
    step = progress.steps.get(name) or Step(name=name)
    return structs.replace(step), step.stage == "completed" and is_stale(progress, step)


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
