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
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from eventlog.ledger.attempt import Attempt, inside
from eventlog.ledger.book import Book, Follower
from eventlog.ledger.calls import Call
from eventlog.ledger.claims import Claims, lives, new_claim
from eventlog.ledger.events import StepClaimed
from eventlog.ledger.inputs import essence
from eventlog.ledger.progress import Claim, Progress, Step, is_ready, is_stale
from eventlog.ledger.turns import WAIT_MAX_S, WAIT_S, Done, Turns, Wait

if TYPE_CHECKING:
    from eventlog.resume.director import RunDirector


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
