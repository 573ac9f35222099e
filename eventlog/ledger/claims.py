"""Who has an item: a claim of one worker, renewed as long as it works, void when the worker is gone."""

from __future__ import annotations

import os
import threading
import time
import weakref
from uuid import uuid4

import msgspec

from eventlog.errors import EventLogError
from eventlog.lease import Renewal
from eventlog.ledger.book import Book
from eventlog.ledger.events import StepReleased, StepRenewed
from eventlog.ledger.progress import Claim
from eventlog.logger import Logger
from eventlog.owner import living_owner, read_owner, this_process

CLAIM_S = 300.0
"""How long a claim holds that nobody renews. It matters to other hosts only: a dead worker of this one is seen."""

_held: set[str] = set()
"""Claims that somebody in this process works on."""

log = Logger(__name__)


def new_claim() -> Claim:
    """Return a claim of this process, from now on."""
    owner = msgspec.json.encode(this_process()).decode()
    return Claim(uuid4().hex, owner, time.time_ns() + int(CLAIM_S * 1e9))


def lives(claim: Claim) -> bool:
    """Whether somebody still works under a claim."""
    if read_owner(claim.owner) == this_process():
        return claim.id in _held
    return living_owner(claim.owner, claim.until_ns, time.time_ns()) is not None


class Claims:
    """The claims that this process has in one book."""

    def __init__(self, book: Book) -> None:
        """Nothing is claimed yet."""
        self._book = book
        self.begin_anew()
        _all.add(self)

    def begin_anew(self) -> None:
        """Have no claims."""
        self._items: dict[str, str] = {}
        self._taken: dict[str, str] = {}
        """Item → claim of those that were taken and are not begun."""
        self._lock = threading.RLock()
        self._renewal = Renewal(self._renew, CLAIM_S)

    def hold(self, item: str, claim: str) -> None:
        """Work under a claim; it is renewed until ``drop``."""
        with self._lock:
            self._items[claim] = item
            _held.add(claim)
            self._renewal.start()

    def drop(self, claim: str) -> None:
        """Work under a claim no more."""
        with self._lock:
            self._items.pop(claim, None)
            _held.discard(claim)
            if not self._items:
                self._renewal.stop()

    def lay_down(self, item: str, claim: str) -> None:
        """Keep a claim for the attempt that will come."""
        with self._lock:
            self._taken[item] = claim

    def pick_up(self, item: str) -> str | None:
        """Return the claim that was kept for an attempt; it is kept no more."""
        with self._lock:
            return self._taken.pop(item, None)

    def is_kept(self, item: str) -> bool:
        """Whether a claim waits for an attempt."""
        return item in self._taken

    def give_back(self, item: str, claim: str) -> None:
        """Let others have an item. Raises nothing: a claim that cannot be given back dies with this process."""
        try:
            self._book.append(StepReleased(item=item, claim=claim))
        except EventLogError as error:
            log.warning("step_not_released", item=item, error=str(error))
        finally:
            self.drop(claim)

    def _renew(self) -> bool:
        """Say that the work goes on; false when it has to be said again soon."""
        with self._lock:
            items = dict(self._items)
        try:
            for claim, item in items.items():
                until_ns = time.time_ns() + int(CLAIM_S * 1e9)
                self._book.append(StepRenewed(item=item, claim=claim, until_ns=until_ns))
        except Exception as error:  # nobody sees this thread fail
            log.debug("claim_not_renewed", error=repr(error))
            return False
        return True


_all: weakref.WeakSet[Claims] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """What was claimed is the parent's; so is the thread that renews it."""
    _held.clear()
    for claims in list(_all):
        claims.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
