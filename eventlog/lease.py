"""Who may work on a run: one process at a time, until it gives the lease back or another takes it over.

The lease stands in the run's row: ``owner``, ``epoch``, ``lease_until_ns`` (NULL: nobody's). Taking it raises the
epoch, so a process that was stopped for a while and goes on sees another epoch than its own: it has become *stale*,
and what it still records of the run goes to the branch ``stale/EPOCH``, where it disturbs nobody and nothing is lost.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable

from eventlog.errors import LeaseLostError, RunBusyError
from eventlog.logger import Logger
from eventlog.owner import Owner, describe, is_alive, read_owner, this_process

LEASE_S = 30.0
"""How long a lease holds that nobody renews; it matters to other hosts only: a dead local owner is seen as dead."""
RETRY_S = 1.0
"""When to try again what another program's lock prevented."""
STALE_PREFIX = "stale/"
"""Branches of events that a process recorded after it had lost its lease."""

_TAKE = "UPDATE runs SET owner = ?, epoch = epoch + 1, lease_until_ns = ? WHERE id = ? RETURNING epoch"
_RENEW = "UPDATE runs SET owner = ?, lease_until_ns = ? WHERE id = ? AND epoch = ?"
_GIVE_BACK = "UPDATE runs SET owner = iif(?, NULL, owner), lease_until_ns = NULL WHERE id = ? AND epoch = ?"
_ADOPT = "UPDATE runs SET owner = ?, lease_until_ns = NULL WHERE id = ?"
_RELEASE = "UPDATE runs SET owner = NULL WHERE id = ? AND owner = ?"

log = Logger(__name__)


class Lease:
    """The right of this process to work on a run; taken several times, it is one."""

    def __init__(self, run: str, branch: str, row: int, epoch: int) -> None:
        """``row`` is the run's; made by ``Leases.take``."""
        self.run, self.branch, self.row, self.epoch = run, branch, row, epoch
        self.uses = 0
        self.left = False
        """The run was left meanwhile: with the lease its owner goes, too."""
        self.seen_seq = 0
        """Last seq this process knew of when it lost the lease: what follows was not written for it."""
        self._pid = os.getpid()
        self._lost = False

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the run over, as far as this one noticed; a forked child has no lease."""
        return self._lost or self._pid != os.getpid()

    def check(self) -> None:
        """Return if the lease is still ours.

        Raises:
            LeaseLostError: it is not; stop working on the run.
        """
        if self.is_lost:
            raise LeaseLostError(self.run, self.epoch)

    def lose(self, seen_seq: int) -> None:
        """Take note that another process has the run now."""
        self.seen_seq, self._lost = seen_seq, True

    def stale_branch(self, branch: str) -> str:
        """Return where events meant for ``branch`` go once the lease is lost."""
        own = f"{STALE_PREFIX}{self.epoch}"
        if branch == own or branch.startswith(own + "/"):
            return branch
        return own if branch == self.branch else f"{own}/{branch}"


class Leases:
    """The leases that this process has in one log; used by whoever holds the connection."""

    def __init__(self, db: sqlite3.Connection, owner: str) -> None:
        """``owner``: this process, as ``runs.owner`` keeps it."""
        self._db, self._owner = db, owner
        self._held: dict[str, Lease] = {}
        self._lost: dict[str, Lease] = {}

    def __len__(self) -> int:
        """Return how many are held."""
        return len(self._held)

    def take(self, run: str, branch: str, row: int, *, takeover: bool) -> Lease:
        """Return the lease of a run, written into the transaction under way; ``hold`` it after the commit.

        Raises:
            RunBusyError: another process has it; it is alive, or on another host and within its time.
        """
        held = self._held.get(run)
        if held is not None:
            return held
        owner = self._other_holder(row)
        if owner is not None and not takeover:
            raise RunBusyError(run, describe(owner))
        epoch = self._db.execute(_TAKE, (self._owner, _until_ns(), row)).fetchone()[0]
        return Lease(run, branch, row, int(epoch))

    def hold(self, lease: Lease) -> Lease:
        """Count one more use of a lease."""
        self._held[lease.run] = lease
        self._lost.pop(lease.run, None)
        lease.uses += 1
        return lease

    def verify(self, seen_seq: int) -> None:
        """Notice which runs other processes have taken over; ``seen_seq`` is the newest event known until now."""
        for lease in list(self._held.values()):
            row = self._db.execute("SELECT epoch FROM runs WHERE id = ?", (lease.row,)).fetchone()
            if row is None or row[0] != lease.epoch:
                self._lose(lease, seen_seq)

    def renew(self) -> list[Lease]:
        """Extend what is in use, in the transaction under way; returns what is not: ``drop`` it after the commit."""
        unused = [lease for lease in self._held.values() if lease.uses <= 0]
        for lease in self._held.values():
            if lease in unused:
                self._db.execute(_GIVE_BACK, (lease.left, lease.row, lease.epoch))
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
            self._held.pop(lease.run, None)

    def branch_for(self, run: str, branch: str) -> str:
        """Return the branch that events meant for ``branch`` go to: another one, once the run's lease is lost."""
        lease = self._lost.get(run) if self._lost else None
        return branch if lease is None else lease.stale_branch(branch)

    def seen_seq(self, run: str) -> int:
        """Return up to where the branches of a run whose lease is lost are still this process's own past."""
        return self._lost[run].seen_seq

    def adopt(self, row: int) -> None:
        """Say that this process has a run open, unless another holds its lease."""
        if row not in {lease.row for lease in self._held.values()} and self._other_holder(row) is None:
            self._db.execute(_ADOPT, (self._owner, row))

    def release(self, row: int) -> None:
        """Say that this process no longer has a run open; while it holds the lease, that waits for the lease."""
        for lease in self._held.values():
            if lease.row == row:
                lease.left = True
                return
        self._db.execute(_RELEASE, (row, self._owner))

    def _lose(self, lease: Lease, seen_seq: int) -> None:
        """The run has another owner."""
        log.warning("lease_lost", run=lease.run, epoch=lease.epoch)
        lease.lose(seen_seq)
        self._held.pop(lease.run, None)
        self._lost[lease.run] = lease

    def _other_holder(self, row: int) -> Owner | None:
        """Return who holds a run's lease, if it is another process and its lease still counts."""
        text, until = self._db.execute("SELECT owner, lease_until_ns FROM runs WHERE id = ?", (row,)).fetchone()
        owner = read_owner(text) if until is not None else None
        if owner is None or owner == this_process() or not is_alive(owner):
            return None
        is_local = owner.host == this_process().host
        return owner if is_local or until >= time.time_ns() else None


class Renewal:
    """A thread that renews leases in time; it keeps no process alive."""

    def __init__(self, renew: Callable[[], bool]) -> None:
        """``renew()`` tells whether it worked; it raises nothing."""
        self._renew = renew
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
        """Renew thrice within the time of a lease."""
        wait_s = LEASE_S / 3
        while not stop.wait(wait_s):
            wait_s = LEASE_S / 3 if self._renew() else RETRY_S


def _until_ns() -> int:
    """Return when a lease taken now ends."""
    return time.time_ns() + int(LEASE_S * 1e9)
