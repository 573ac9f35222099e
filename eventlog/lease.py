"""Who may work on a branch of a run: one process at a time, until it gives the lease back or another takes it over.

The lease stands in the branch's row: ``owner``, ``epoch``, ``lease_until_ns`` (NULL: nobody's). Taking it gives the
branch the next epoch of its run, so a process that was stopped for a while and goes on sees another epoch than its
own: it has become *stale*, and what it still records of the branch goes to the branch ``stale/EPOCH``, where it
disturbs nobody and nothing is lost. The run counts the epochs, that no two leases of it have the same; which one
holds is a matter of the branch alone: a parent and its forks may grow in several processes at the same time.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable

from eventlog.errors import LeaseLostError, RunBusyError
from eventlog.logger import Logger
from eventlog.owner import Owner, describe, living_owner, this_process

LEASE_S = 30.0
"""How long a lease holds that nobody renews; it matters to other hosts only: a dead local owner is seen as dead."""
RETRY_S = 1.0
"""When to try again what another program's lock prevented."""
STALE_PREFIX = "stale/"
"""Branches of events that a process recorded after it had lost its lease."""

_NEXT_EPOCH = "UPDATE runs SET epoch = epoch + 1 WHERE id = (SELECT run FROM branches WHERE id = ?) RETURNING epoch"
_TAKE = "UPDATE branches SET owner = ?, epoch = ?, lease_until_ns = ? WHERE id = ?"
_RAISE_EPOCH = "UPDATE runs SET epoch = max(epoch, ?) WHERE id = (SELECT run FROM branches WHERE id = ?)"
_RENEW = "UPDATE branches SET owner = ?, lease_until_ns = ? WHERE id = ? AND epoch = ?"
_GIVE_BACK = (
    "UPDATE branches SET owner = iif(?, nullif(owner, ?), owner), lease_until_ns = NULL WHERE id = ? AND epoch = ?"
)
_ADOPT = "UPDATE branches SET owner = ?, lease_until_ns = NULL WHERE id = ?"
_RELEASE = "UPDATE branches SET owner = NULL WHERE id = ? AND owner = ?"

log = Logger(__name__)


class Lease:
    """The right of this process to work on a branch of a run; taken several times, it is one."""

    def __init__(self, run: str, branch: str, row: int, epoch: int) -> None:
        """``row`` is the branch's; made by ``Leases.take``."""
        self.run, self.branch, self.row, self.epoch = run, branch, row, epoch
        self.uses = 0
        self.left = False
        """The branch was left meanwhile: with the lease its owner goes, too."""
        self.seen_seq = 0
        """Last seq this process knew of when it lost the lease: what follows was not written for it."""
        self._pid = os.getpid()
        self._lost = False

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the branch over, as far as we noticed; a forked child has no lease."""
        return self._lost or self._pid != os.getpid()

    def check(self) -> None:
        """Return if the lease is still ours.

        Raises:
            LeaseLostError: it is not; stop working on the branch.
        """
        if self.is_lost:
            raise LeaseLostError(self.run, self.epoch, self.branch)

    def lose(self, seen_seq: int) -> None:
        """Take note that another process has the branch now."""
        self.seen_seq, self._lost = seen_seq, True

    @property
    def stale_branch(self) -> str:
        """Where events meant for the branch go once the lease is lost."""
        return f"{STALE_PREFIX}{self.epoch}"


class Leases:
    """The leases that this process has in one log; used by whoever holds the connection."""

    def __init__(self, db: sqlite3.Connection, owner: str) -> None:
        """``owner``: this process, as ``branches.owner`` keeps it."""
        self._db, self._owner = db, owner
        self._held: dict[tuple[str, str], Lease] = {}
        self._lost: dict[tuple[str, str], Lease] = {}

    def __len__(self) -> int:
        """Return how many are held."""
        return len(self._held)

    def take(self, run: str, branch: str, row: int, *, takeover: bool) -> Lease:
        """Return the lease of a branch, written into the transaction under way; ``hold`` it after the commit.

        Raises:
            RunBusyError: another process has it; it is alive, or on another host and within its time.
        """
        held = self._held.get((run, branch))
        if held is not None:
            return held
        owner = self._other_holder(row)
        if owner is not None and not takeover:
            raise RunBusyError(run, describe(owner), branch)
        epoch = int(self._db.execute(_NEXT_EPOCH, (row,)).fetchone()[0])
        self._db.execute(_TAKE, (self._owner, epoch, _until_ns(), row))
        return Lease(run, branch, row, epoch)

    def hold(self, lease: Lease) -> Lease:
        """Count one more use of a lease."""
        self._held[lease.run, lease.branch] = lease
        self._lost.pop((lease.run, lease.branch), None)
        lease.uses += 1
        return lease

    def held(self) -> list[Lease]:
        """Return the leases that are held."""
        return list(self._held.values())

    def move_here(self, lease: Lease, row: int | None) -> None:
        """Hold a lease in another file, in the transaction under way; it is lost if another process has it there.

        ``row``: that of the branch in this file, if there is one.
        """
        if row is None or self._other_holder(row) is not None:
            self._lose(lease, 0)
            return
        self._db.execute(_RAISE_EPOCH, (lease.epoch, row))
        self._db.execute(_TAKE, (self._owner, lease.epoch, _until_ns(), row))
        lease.row = row
        self._held[lease.run, lease.branch] = lease

    def follow(self, former: Leases) -> None:
        """Know what was lost on another connection, too."""
        self._lost = {**former._lost, **self._lost}

    def verify(self, seen_seq: int) -> None:
        """Notice which branches other processes have taken over; ``seen_seq`` is the newest event known until now."""
        for lease in list(self._held.values()):
            row = self._db.execute("SELECT epoch FROM branches WHERE id = ?", (lease.row,)).fetchone()
            if row is None or row[0] != lease.epoch:
                self._lose(lease, seen_seq)

    def renew(self) -> list[Lease]:
        """Extend what is in use, in the transaction under way; returns what is not: ``drop`` it after the commit."""
        unused = [lease for lease in self._held.values() if lease.uses <= 0]
        for lease in self._held.values():
            if lease in unused:
                self._db.execute(_GIVE_BACK, (lease.left, self._owner, lease.row, lease.epoch))
            else:
                self._db.execute(_RENEW, (self._owner, _until_ns(), lease.row, lease.epoch))
        return unused

    def leave_all(self) -> None:
        """Let the next ``renew`` give everything back."""
        for lease in self._held.values():
            lease.uses, lease.left = 0, True

    def drop(self, leases: list[Lease]) -> None:
        """Forget leases that were given back."""
        for lease in leases:
            self._held.pop((lease.run, lease.branch), None)

    def branch_for(self, run: str, branch: str) -> str:
        """Return the branch that events meant for ``branch`` go to: another one, once its lease is lost."""
        lease = self._lost.get((run, branch)) if self._lost else None
        return branch if lease is None else lease.stale_branch

    def seen_seq(self, run: str, branch: str) -> int:
        """Return up to where a branch whose lease is lost is still this process's own past."""
        return self._lost[run, branch].seen_seq

    def adopt(self, row: int) -> None:
        """Say that this process has a branch open, unless another holds its lease."""
        if row not in {lease.row for lease in self._held.values()} and self._other_holder(row) is None:
            self._db.execute(_ADOPT, (self._owner, row))

    def release(self, row: int) -> None:
        """Say that this process no longer has a branch open; while it holds the lease, that waits for the lease."""
        for lease in self._held.values():
            if lease.row == row:
                lease.left = True
                return
        self._db.execute(_RELEASE, (row, self._owner))

    def _lose(self, lease: Lease, seen_seq: int) -> None:
        """The branch has another owner."""
        log.warning("lease_lost", run=lease.run, branch=lease.branch, epoch=lease.epoch)
        lease.lose(seen_seq)
        self._held.pop((lease.run, lease.branch), None)
        self._lost[lease.run, lease.branch] = lease

    def _other_holder(self, row: int) -> Owner | None:
        """Return who holds a branch's lease, if it is another process and its lease still counts."""
        text, until = self._db.execute("SELECT owner, lease_until_ns FROM branches WHERE id = ?", (row,)).fetchone()
        owner = living_owner(text, until, time.time_ns()) if until is not None else None
        return owner if owner != this_process() else None


class Renewal:
    """A thread that renews leases in time; it keeps no process alive."""

    def __init__(self, renew: Callable[[], bool], lasts_s: float | None = None) -> None:
        """``renew()`` tells whether it worked; it raises nothing. ``lasts_s``: how long what it renews holds."""
        self._renew, self._lasts_s = renew, lasts_s
        self._stop: threading.Event | None = None

    def start(self) -> None:
        """Begin, unless it is under way."""
        if self._stop is not None:
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._work, args=(stop,), name="eventlog-lease", daemon=True)
        try:
            thread.start()
            self._stop = stop
        except RuntimeError as error:  # the interpreter is shutting down: the lease holds long enough
            log.debug("lease_not_renewed", error=str(error))

    def stop(self) -> bool:
        """End; the thread goes by itself. Returns whether it was under way."""
        if self._stop is None:
            return False
        self._stop.set()
        self._stop = None
        return True

    def _work(self, stop: threading.Event) -> None:
        """Renew thrice within its time, and soon again what did not work."""
        every_s = wait_s = (self._lasts_s or LEASE_S) / 3
        while not stop.wait(wait_s):
            wait_s = every_s if self._renew() else RETRY_S


def _until_ns() -> int:
    """Return when a lease taken now ends."""
    return time.time_ns() + int(LEASE_S * 1e9)
