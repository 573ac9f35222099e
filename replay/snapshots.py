"""Write snapshots off the emitter's path: a thread folds what was appended and stores states now and then.

A *checkpoint* is asked for by an event type (``snapshot_on``) or by hand. A *cache* snapshot
is written when it pays: at least ``CACHE_EVENTS_MIN`` events and four times its own size in
payloads since the last one. A checkpoint stores its state under the same rule and is
otherwise only a mark, so that many checkpoints of a growing state stay linear in size; one
made by hand always stores it. Delete them all and no answer changes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from eventlog.errors import EventLogError
from eventlog.logger import Logger
from eventlog.read import Reader
from eventlog.record import NewEvent, StoredEvent
from eventlog.replay.fold import FOLD_VERSION, apply_event, begin_fold
from eventlog.replay.folding import Folding
from eventlog.replay.rebuild import STATE_PROJECTION, rebuild_state
from eventlog.replay.state import RunState

CACHE_EVENTS_MIN = 500
CACHE_BYTES_FACTOR = 4
BRANCHES_MAX = 16
"""Folds kept in memory."""
SNAPSHOT_ON = ("task_completed", "method_execution_finished")
"""Event types that make a checkpoint unless the user chooses others."""

log = Logger(__name__)
Store = Callable[[tuple[Any, ...]], None]


class Follower:
    """The fold of one branch, and when it was last stored."""

    def __init__(self, state: RunState, branch: int) -> None:
        """Continue from ``state``, which counts as stored."""
        self.fold: Folding = begin_fold(state, run=state.run, branch=state.branch)
        self.branch = branch
        self.events = self.bytes = 0

    def apply(self, event: StoredEvent) -> None:
        """Fold one event."""
        apply_event(self.fold, event)
        self.events += 1
        self.bytes += len(event.payload)

    def snapshot(self, kind: str, trigger: str, *, always: bool = False) -> tuple[Any, ...] | None:
        """Return the row to store, or ``None`` when there is nothing worth storing."""
        pays = self.events >= CACHE_EVENTS_MIN
        state = self.fold.result() if pays or always or kind == "checkpoint" else None
        if state is None:
            return None
        text = msgspec.json.encode(state).decode() if pays or always else ""
        if not always and self.bytes < CACHE_BYTES_FACTOR * len(text):
            text = ""
        if not text and kind == "cache":
            return None
        if text:
            self.events = self.bytes = 0
        return (self.branch, state.cursor, kind, STATE_PROJECTION, FOLD_VERSION, trigger, time.time_ns(), text)


class Snapshotter:
    """Follows the branches this process appends to."""

    def __init__(self, open_reader: Callable[[], Reader], store: Store, snapshot_on: Collection[str]) -> None:
        """``store`` writes a row through the appender's connection; ``"*"`` in ``snapshot_on`` means every event."""
        self._open_reader, self._store = open_reader, store
        self._triggers = frozenset(snapshot_on)
        self._all = "*" in self._triggers
        self._pending: dict[tuple[str, str], int] = {}
        self._due: set[tuple[str, str]] = set()
        self._followers: dict[tuple[str, str], Follower] = {}
        self._wake = threading.Event()
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None
        self._reader: Reader | None = None
        self._closed = False

    def appended(self, event: NewEvent) -> None:
        """Take note of an appended event; the work is the thread's."""
        if not event.run:
            return
        key = (event.run, event.branch)
        count = self._pending[key] = self._pending.get(key, 0) + 1
        if count >= CACHE_EVENTS_MIN or self._all or event.type in self._triggers:
            self._due.add(key)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="eventlog-snapshots", daemon=True)
                self._thread.start()
            self._wake.set()

    def follow(self, branches: Iterable[tuple[str, str]]) -> None:
        """Store the snapshots of branches (run, branch) that were appended to in one go."""
        self._due.update(branches)
        self.catch_up()

    def close(self) -> None:
        """Store what is due, then stop."""
        self._closed = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)
        self.catch_up()
        if self._reader is not None:
            self._reader.close()

    def _work(self) -> None:
        """Wait for work, do it, leave the emitters alone in between."""
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            self.catch_up()
            time.sleep(0.01)

    def catch_up(self) -> None:
        """Fold what was appended to due branches and store their snapshots."""
        with self._busy:
            while self._due:
                key = self._due.pop()
                self._pending.pop(key, None)
                try:
                    self._follow(key)
                except (EventLogError, OSError) as error:  # only a shortcut is missing; the events are safe
                    self._followers.pop(key, None)
                    log.warning("snapshot_failed", run=key[0], branch=key[1], error=str(error))

    def _follow(self, key: tuple[str, str]) -> None:
        """Fold the new events of one branch, storing on the way."""
        follower = self._follower(key)
        if follower is None or self._reader is None:
            return
        for event in self._reader.stored(follower.branch, after=follower.fold.state.cursor):
            follower.apply(event)
            wanted = self._all or event.type in self._triggers
            row = follower.snapshot("checkpoint", event.type) if wanted else None
            if row is None and follower.events % CACHE_EVENTS_MIN == 0:
                row = follower.snapshot("cache", event.type)
            if row is not None:
                self._store(row)

    def _follower(self, key: tuple[str, str]) -> Follower | None:
        """Return the fold of a branch, rebuilt from its last snapshot when it is not in memory."""
        if self._reader is None:
            self._reader = self._open_reader()
        found = self._followers.get(key)
        if found is None:
            branch = self._reader.branch_id(*key)
            last = self._reader.query("SELECT max(seq) FROM snapshots WHERE branch = ?", (branch,))[0][0]
            found = Follower(rebuild_state(self._reader, *key, to=last or 0), branch)
            while len(self._followers) >= BRANCHES_MAX:
                self._followers.pop(next(iter(self._followers)))
            self._followers[key] = found
        return found

    def after_fork_in_child(self) -> None:
        """The thread and the connection are the parent's."""
        self.__init__(self._open_reader, self._store, self._triggers)  # type: ignore[misc]
