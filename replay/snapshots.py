"""Write snapshots off the emitter's path: a thread folds what was appended and stores states now and then.

A *checkpoint* is asked for by an event type (``snapshot_on``) or by hand. A *cache* snapshot
is written when it pays: at least ``CACHE_EVENTS_MIN`` events and four times its own size in
payloads since the last one. A checkpoint stores its state under the same rule and is
otherwise only a mark, so that many checkpoints of a growing state stay linear in size; one
made by hand always stores it. Delete them all and no answer changes.

Nothing here may hurt who appends: a snapshot that fails is logged, and missing.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from eventlog.errors import CompactedError
from eventlog.logger import Logger
from eventlog.read import Reader
from eventlog.record import FLAG_REPLAYED, FLAG_UNMARKED, OWN_PREFIX, NewEvent, StoredEvent
from eventlog.replay.fold import FOLD_VERSION, apply_event, begin_fold
from eventlog.replay.folding import Folding
from eventlog.replay.rebuild import STATE_PROJECTION, nearest_state
from eventlog.replay.state import RunState

CACHE_EVENTS_MIN = 200
CACHE_BYTES_FACTOR = 4
BRANCHES_MAX = 16
"""Folds kept in memory."""
LATE_S, LATE_TRIES_MAX = 0.1, 50
"""How often, and how many times, an event is looked for that was told of before its commit."""
RECENT_MAX = 2_000
CLOSE_S = 10.0
FORK_S = 5.0
"""How long a fork waits for a connection that is being opened."""
SNAPSHOT_ON = ("task_completed", "method_execution_finished")
"""Event types that make a checkpoint unless the user chooses others."""

_LAST_MARK = "SELECT max(seq) FROM snapshots WHERE branch = ? AND projection = ? AND kind = 'checkpoint'"
_SINCE_STORED = (
    "SELECT count(*) FROM (SELECT 1 FROM events WHERE branch = ? AND seq > coalesce((SELECT max(seq) FROM snapshots"
    f" WHERE branch = ? AND projection = ? AND version = ? AND state <> ''), 0) LIMIT {CACHE_EVENTS_MIN})"
)
_IS_STORED = "SELECT 1 FROM snapshots WHERE branch = ? AND projection = ? AND seq = ? AND kind = 'checkpoint'"

log = Logger(__name__)
Store = Callable[[tuple[Any, ...], Callable[[], bool]], None]
"""Gets a row, and what tells whether it is still true."""
OpenReader = Callable[[Reader | None], Reader]
"""Gets the former reader, when the path of its file leads elsewhere by now."""
Key = tuple[str, str]
"""Run and branch."""


class Follower:
    """The fold of one branch, and how much came since it was last stored."""

    def __init__(self, state: RunState, branch: int, marked: int) -> None:
        """Continue from ``state``, which is stored; checkpoints up to seq ``marked`` are made already."""
        self.fold: Folding = begin_fold(state, run=state.run, branch=state.branch)
        self.branch, self.marked = branch, marked
        self.events = self.bytes = 0
        self.recent: deque[str] = deque(maxlen=RECENT_MAX)
        """Ids of the events folded last."""
        self._size = 0  # of the state when it was last encoded: it seldom shrinks

    def apply(self, event: StoredEvent) -> None:
        """Fold one event."""
        apply_event(self.fold, event)
        self.events += 1
        self.bytes += len(event.payload)
        self.recent.append(event.event_id)

    def checkpoint(self, trigger: str) -> tuple[Any, ...] | None:
        """Return the row of a checkpoint here, without a state if that does not pay yet."""
        if self.fold.state.cursor <= self.marked:
            return None
        return self._row("checkpoint", trigger, self._state_if_it_pays())

    def cache(self, trigger: str) -> tuple[Any, ...] | None:
        """Return the row of a cache snapshot here, or ``None`` if it does not pay yet."""
        text = self._state_if_it_pays()
        return self._row("cache", trigger, text) if text else None

    def _row(self, kind: str, trigger: str, text: str) -> tuple[Any, ...]:
        """Return what the appender stores."""
        cursor = self.fold.state.cursor
        return (self.branch, cursor, kind, STATE_PROJECTION, FOLD_VERSION, trigger, time.time_ns(), text)

    def _state_if_it_pays(self) -> str:
        """Return the encoded state if enough came since the last one, else an empty text."""
        if self.events < CACHE_EVENTS_MIN or self.bytes < CACHE_BYTES_FACTOR * self._size:
            return ""
        text = msgspec.json.encode(self.fold.result()).decode()
        self._size = len(text)
        if self.bytes < CACHE_BYTES_FACTOR * self._size:
            return ""
        self.events = self.bytes = 0
        return text


class Snapshotter:
    """Follows the branches this process appends to."""

    def __init__(self, open_reader: OpenReader, store: Store, snapshot_on: Collection[str]) -> None:
        """``store`` writes a row through the appender's connection; ``"*"`` in ``snapshot_on`` means every event."""
        self._open_reader, self._store = open_reader, store
        self._triggers = frozenset(snapshot_on)
        self._all = "*" in self._triggers
        self._pending: dict[Key, int] = {}
        self._due: dict[Key, str] = {}  # and the event that made it due
        self._late: dict[Key, tuple[str, int]] = {}
        self._followers: dict[Key, Follower] = {}
        self._wake = threading.Event()
        self._busy = threading.Lock()
        self._opening = threading.Lock()
        self._thread_lives = threading.Lock()
        self._thread: threading.Thread | None = None
        self._reader: Reader | None = None
        self._closed = False
        self._changes = self._seen_changes = 0
        _remember(self)

    def appended(self, event: NewEvent) -> None:
        """Take note of an appended event; the work is the thread's."""
        if not event.run or self._closed:
            return
        key = (event.run, event.branch)
        count = self._pending[key] = self._pending.get(key, 0) + 1
        if count >= CACHE_EVENTS_MIN or self._is_trigger(event):
            self._due[key] = event.event_id
            self._start()
            if not self._wake.is_set():  # the check takes a tenth of the time, and this is on the emitter's path
                self._wake.set()

    def forget(self) -> None:
        """Take nothing for true that was read before: rows were rewritten. The work is the thread's."""
        self._changes += 1

    def _is_trigger(self, event: NewEvent | StoredEvent) -> bool:
        """Whether an event makes a checkpoint; what stands beside the events of CrewAI does only by its own name.

        What a resumed kickoff only said again has had its checkpoint.
        """
        is_asked = event.type in self._triggers or (self._all and not event.type.startswith(OWN_PREFIX))
        return is_asked and not event.flags & (FLAG_UNMARKED | FLAG_REPLAYED)

    def imported(self, run: str, branch: str) -> None:
        """Take note of a branch that got many events at once."""
        self._due[run, branch] = ""
        self._start()
        self._wake.set()

    def _start(self) -> None:
        """Have one thread; while the interpreter exits there is none, and ``close`` does the work."""
        if not self._thread_lives.acquire(blocking=False):
            return
        thread = threading.Thread(target=self._work, name="eventlog-snapshots", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError as error:
            self._thread_lives.release()
            log.debug("snapshots_wait", error=str(error))

    def close(self) -> None:
        """Store what is due, and what pays by now, then stop."""
        self._closed = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=CLOSE_S)
        self._due.update(dict.fromkeys(self._late, ""))
        self._due.update(dict.fromkeys(filter(self._has_many, list(self._pending)[-BRANCHES_MAX:]), ""))
        self.catch_up()
        if self._reader is not None:
            self._reader.close()

    def _has_many(self, key: Key) -> bool:
        """Whether a branch to which this process added little has become long by many such processes."""
        try:
            branch = self.reader().branch_id(*key)
            rows = self.reader().query(_SINCE_STORED, (branch, branch, STATE_PROJECTION, FOLD_VERSION))
        except Exception as error:  # the log may be gone by now
            log.debug("snapshots_skipped", run=key[0], error=repr(error))
            return False
        return bool(rows[0][0] >= CACHE_EVENTS_MIN)

    def _work(self) -> None:
        """Wait for work, do it, leave the emitters alone in between."""
        lives = self._thread_lives
        try:
            while not self._closed:
                self._wake.wait(LATE_S if self._late else None)
                self._wake.clear()
                for key, (event_id, _) in list(self._late.items()):
                    self._due.setdefault(key, event_id)
                self.catch_up()
                time.sleep(0.01)
        finally:
            lives.release()

    def catch_up(self) -> None:
        """Fold what was appended to due branches and store their snapshots; logs what goes wrong."""
        if not self._busy.acquire(timeout=CLOSE_S):
            log.warning("snapshot_failed", error="another thread is still at it")
            return
        try:
            while self._due:
                key, event_id = self._due.popitem()
                self._pending.pop(key, None)
                try:
                    self._note_late(key, event_id, found=event_id in self._follow(key).recent)
                except CompactedError:  # the base moved past what was folded: begin there
                    self._followers.pop(key, None)
                    self._due[key] = event_id
                except Exception as error:  # only a shortcut is missing; the events are safe
                    self._followers.pop(key, None)
                    log.warning("snapshot_failed", run=key[0], branch=key[1], error=repr(error))
        finally:
            self._busy.release()

    def _note_late(self, key: Key, event_id: str, *, found: bool) -> None:
        """Look again later for an event that was not there yet (``batch`` mode, or the file was locked)."""
        known, tries = self._late.pop(key, ("", 0))
        tries = tries + 1 if known == event_id else 1
        if event_id and not found and tries < LATE_TRIES_MAX:
            self._late[key] = (event_id, tries)

    def _follow(self, key: Key) -> Follower:
        """Fold the new events of one branch, storing on the way; again when rows are rewritten meanwhile."""
        changes = self._changes
        if changes != self._seen_changes:
            self._followers.clear()
            self.reader().forget()
            self._seen_changes = changes
        follower = self._follower(key)
        for event in self.reader().stored(follower.branch, after=follower.fold.state.cursor, whole=True):
            follower.apply(event)
            row = follower.checkpoint(event.type) if self._is_trigger(event) else None
            if row is not None and not row[-1] and self.reader().query(_IS_STORED, (row[0], row[3], row[1])):
                row = None  # somebody made one here by hand, with its state
            if row is None and follower.events % CACHE_EVENTS_MIN == 0:
                row = follower.cache(event.type)
            if row is not None:
                self._store(row, lambda: self._changes == changes)
        if self._changes != changes:
            self._due.setdefault(key, "")
        return follower

    def _follower(self, key: Key) -> Follower:
        """Return the fold of a branch, continued from its last stored state when it is not in memory."""
        found = self._followers.get(key)
        if found is None:
            reader = self.reader()
            branch = reader.branch_id(*key)
            marked = reader.query(_LAST_MARK, (branch, STATE_PROJECTION))[0][0] or 0
            found = Follower(nearest_state(reader, *key), branch, marked)
            while len(self._followers) >= BRANCHES_MAX:
                self._followers.pop(next(iter(self._followers)))
            self._followers[key] = found
        return found

    def reader(self) -> Reader:
        """Return the reader of the work in the background."""
        with self._opening:
            if self._reader is not None and self._reader.has_moved():
                former, self._reader = self._reader, self._open_reader(self._reader)
                former.close()
                self._followers.clear()
            if self._reader is None:
                self._reader = self._open_reader(None)
            return self._reader

    def after_fork_in_child(self) -> None:
        """The thread and the connection are the parent's."""
        self.__init__(self._open_reader, self._store, self._triggers)  # type: ignore[misc]


_alive: weakref.WeakSet[Snapshotter] = weakref.WeakSet()
_held: list[threading.Lock] = []
_is_registered = False


def _remember(snapshotter: Snapshotter) -> None:
    """Have no connection half open in the moment of a fork: the child closes what it inherits (``log.py``).

    Registered with the first snapshotter, so after every module's own: before a fork handlers run in the reverse
    order, and no connection may appear once they have looked which there are.
    """
    global _is_registered
    _alive.add(snapshotter)
    if not _is_registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
        _is_registered = True


def _before_fork() -> None:
    """Let nobody open a connection."""
    locks = [snapshotter._opening for snapshotter in list(_alive)]  # noqa: SLF001
    _held.extend(lock for lock in locks if lock.acquire(timeout=FORK_S))


def _after_fork() -> None:
    while _held:
        _held.pop().release()
