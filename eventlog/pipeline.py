"""Between the emitter and the file: keeps order, decides who writes, survives locks, signals and forks.

Everything goes through one queue. In ``commit`` and ``fsync`` mode whoever holds the lock
writes the whole queue before it returns; so threads share transactions, and a signal
handler that emits in the middle of a write just queues: the interrupted frame writes it.
In ``batch`` mode a thread writes at most ``batch_ms`` later.

When the file cannot be written (another program holds the lock beyond the busy timeout, the
disk is full) the pipeline is *degraded*: events wait in the queue, at most
``QUEUE_BYTES_MAX``, a thread tries again, emitters wait at most ``DEGRADED_WAIT_S``. What no
longer fits is counted and recorded as a gap once writing works again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal
from uuid import uuid4

import msgspec

from eventlog.append import Appender
from eventlog.errors import AppendError, EventLogError, LogClosedError
from eventlog.logger import Logger
from eventlog.record import NewEvent

Durability = Literal["commit", "fsync", "batch"]
QUEUE_BYTES_MAX = 64 * 1024 * 1024
GROUP_EVENTS_MAX = 512
"""Events per transaction: longer ones would make other processes wait."""
DEGRADED_WAIT_S = 0.05
RETRY_S = 0.1
INTERRUPTS_MAX = 1000
"""How many exceptions of signal handlers one write outlives."""

log = Logger(__name__)


class Item(msgspec.Struct, gc=False):
    """Events that go into the same transaction."""

    events: Sequence[NewEvent]
    size: int
    done: Any = None
    """A ``threading.Event`` somebody waits on."""
    expected_seq: int | None = None
    seqs: list[int] = []
    error: BaseException | None = None


class Pipeline:
    """The queue of one log and the one connection that appends to it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], durability: Durability, batch_ms: float) -> None:
        """``connect`` opens the writing connection, here and again after a fork."""
        self._connect, self.durability, self._batch_s = connect, durability, batch_ms / 1000
        self.committed = self.dropped = 0
        self.degraded: str | None = None
        self.last_error: str | None = None
        self._gaps: dict[tuple[str, str], int] = {}
        self._reset()
        self.appender = Appender(connect())
        _pipelines.add(self)

    def _reset(self) -> None:
        """Fresh locks and an empty queue; also what a forked child gets."""
        self._queue: deque[Item] = deque()
        self._queued = 0
        self._lock = threading.RLock()
        self._writer: int | None = None  # ident of the thread inside a transaction
        self._wake = threading.Event()
        self._progress = threading.Condition()
        self._thread: threading.Thread | None = None
        self._hurry = False
        self.closed = False

    # -- the emitter's side -------------------------------------------------------------------

    def offer(self, events: Sequence[NewEvent], publish: Callable[[], None] | None = None) -> bool:
        """Queue captured events and, unless in ``batch`` mode, write them. False if they had to be dropped.

        Raises nothing but what a signal handler raises, and only after the write.
        """
        item = Item(events, _size(events))
        if not self._admit(item):
            return False
        self._queue.append(item)
        if publish is not None:
            publish()
        if self.durability == "batch" and not _exiting:
            self._start_thread()
            if not self._wake.is_set():
                self._wake.set()
        elif self.degraded:
            self._wait_a_little()
        else:
            self._write_queue()
        return True

    def submit(self, events: Sequence[NewEvent], expected_seq: int | None = None) -> list[int]:
        """Return the seqs of events after their commit, whatever the mode.

        Called inside a signal handler that interrupted a write, it can only queue and returns zeros.

        Raises:
            SequenceConflictError: see ``Appender.write``.
            AppendError: they could not be written; nothing of them is in the log.
        """
        item = Item(events, _size(events), threading.Event(), expected_seq)
        self._queue.append(item)
        self._queued += item.size
        if self._writer == threading.get_ident():
            return [0] * len(events)
        self._write_queue()
        if not item.done.is_set():
            self._withdraw(item)
        if item.error is not None:
            raise item.error if isinstance(item.error, EventLogError) else AppendError(str(item.error)) from item.error
        return item.seqs

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything queued so far is committed; false if that did not happen in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._queue:
            if not self.degraded:
                self._write_queue()
            elif deadline is None:
                return False
            else:
                self._wait_a_little()
            if deadline is not None and time.monotonic() > deadline:
                return not self._queue
        return True

    def run_exclusively(self, job: Callable[[Appender], Any]) -> Any:
        """Run a job of another kind (a snapshot, a new run) on the connection, between transactions.

        Raises:
            AppendError: the file could not be written.
        """
        if self.closed:
            raise LogClosedError
        with self._lock:
            try:
                return job(self.appender)
            except sqlite3.Error as error:
                raise AppendError(str(error)) from error

    def close(self) -> None:
        """Write what is queued, stop the thread, close the connection."""
        if self.closed:
            return
        self.flush(timeout_s=5.0)
        self.closed = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5.0)
        with self._lock:
            self.appender.db.close()
        _pipelines.discard(self)

    # -- writing ------------------------------------------------------------------------------

    def _write_queue(self) -> None:
        """Empty the queue; what interrupts us comes out only when it is empty."""
        me = threading.get_ident()
        if self._writer == me:
            return  # a signal handler inside our own write: the interrupted frame goes on with the queue
        interrupt: BaseException | None = None
        for _ in range(INTERRUPTS_MAX):
            try:
                while self._queue and not self.degraded:
                    with self._lock:
                        self._write_group(me)
                break
            except Exception as error:
                self._fail(error)
                break
            except BaseException as error:  # a signal handler raised in the middle: first finish, then let it out
                interrupt = interrupt or error
        if interrupt is not None:
            raise interrupt

    def _write_group(self, me: int) -> None:
        """Write the next items of the queue in one transaction and take them off."""
        items = self._next_group()
        if not items or self.closed:
            return
        self._writer = me
        try:
            self._write_items(items)
        finally:
            self._writer = None
        with self._progress:
            self._progress.notify_all()

    def _next_group(self) -> list[Item]:
        """Return items for one transaction; an item with an expectation stands alone."""
        items: list[Item] = []
        count = 0
        for position in range(min(len(self._queue), GROUP_EVENTS_MAX)):
            item = self._queue[position]
            if items and (item.expected_seq is not None or count + len(item.events) > GROUP_EVENTS_MAX):
                break
            items.append(item)
            count += len(item.events)
            if item.expected_seq is not None:
                break
        return items

    def _write_items(self, items: list[Item]) -> None:
        """Commit the items, then take them off the queue; an item at fault fails alone."""
        try:
            seqs = self.appender.write([e for item in items for e in item.events], items[0].expected_seq)
        except Exception as error:
            if _is_the_files_fault(error):
                raise
            if len(items) == 1:
                self._take_off(items[0], [], error)
                return
            for item in items:
                self._write_items([item])
            return
        for item in items:
            own, seqs = seqs[: len(item.events)], seqs[len(item.events) :]
            self._take_off(item, own, None)

    def _take_off(self, item: Item, seqs: list[int], error: BaseException | None) -> None:
        """An item is done: tell who waits, count it."""
        if self._queue and self._queue[0] is item:
            self._queue.popleft()
            self._queued = self._queued - item.size if self._queue else 0
        item.seqs, item.error = seqs, error
        if error is None:
            self.committed += len(seqs)
        else:
            self.dropped += len(item.events) if item.done is None else 0
            self.last_error = str(error)
        if item.done is not None:
            item.done.set()

    # -- trouble ------------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        """The file cannot be written now: keep the events, try again off the emitter's path."""
        self.last_error = self.degraded = f"{type(error).__name__}: {error}"
        log.warning("append_degraded", cause=self.last_error, queued=len(self._queue))
        self._start_thread()
        self._wake.set()

    def _recover(self) -> None:
        """Try to write what waits; on success everything is as before, and the gap is on record."""
        with self._lock:
            if self.closed:
                return
            self.appender.db.execute("PRAGMA busy_timeout = 200")
            try:
                while self._queue:
                    self._write_group(threading.get_ident())
                self._record_gaps()
                self.degraded = None
            except (sqlite3.Error, EventLogError) as error:
                self.last_error = self.degraded = f"{type(error).__name__}: {error}"
            finally:
                self.appender.db.execute("PRAGMA busy_timeout = 5000")
        if self.degraded is None:
            log.warning("append_recovered", committed=self.committed)
        with self._progress:
            self._progress.notify_all()

    def _record_gaps(self) -> None:
        """Append ``eventlog.capture_gap`` to every run that lost events."""
        for (run, branch), count in self._gaps.items():
            payload = msgspec.json.encode({"dropped": count, "cause": self.last_error})
            event = NewEvent(
                type="eventlog.capture_gap", event_id=str(uuid4()), at_ns=time.time_ns(), payload=payload,
                run=run, branch=branch,
            )  # fmt: skip
            self.appender.write([event])
            self.committed += 1
        self._gaps.clear()

    def _admit(self, item: Item) -> bool:
        """Make room in the queue: wait while writing works, count a gap while it does not."""
        while self._queued + item.size > QUEUE_BYTES_MAX and self._queue and self._writer != threading.get_ident():
            if self.degraded or self.closed:
                first = item.events[0]
                key = (first.run, first.branch)
                self._gaps[key] = self._gaps.get(key, 0) + len(item.events)
                self.dropped += len(item.events)
                return False
            self._write_queue()
        self._queued += item.size
        return True

    def _withdraw(self, item: Item) -> None:
        """Take back an item nobody could write, so that its caller may say so."""
        with self._lock:
            if item in self._queue:
                self._queue.remove(item)
                self._queued -= item.size
                item.error = AppendError(self.degraded or "the log is closed")

    def _wait_a_little(self) -> None:
        """Give a degraded pipeline a moment; never longer."""
        with self._progress:
            if self.degraded:
                self._progress.wait(DEGRADED_WAIT_S)

    # -- the thread ---------------------------------------------------------------------------

    def _start_thread(self) -> None:
        """Start the background thread once: it writes batches, and retries when degraded."""
        if self._thread is None or not self._thread.is_alive():
            try:
                self._thread = threading.Thread(target=self._work, name="eventlog-writer", daemon=True)
                self._thread.start()
            except RuntimeError:  # the interpreter is shutting down
                self._write_queue()

    def _work(self) -> None:
        """Write batches as they come; retry while degraded."""
        while not self.closed:
            self._wake.wait(None if not self.degraded else RETRY_S)
            if self.degraded:
                self._recover()
                time.sleep(RETRY_S if self.degraded else 0)
                continue
            if self._wake.is_set() and self.durability == "batch" and self._queue:
                time.sleep(self._batch_s / 2)  # let a group gather; the other half is for the commit
            self._wake.clear()
            self._write_queue()

    # -- fork ---------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """A child has neither the threads nor the right to the parent's connection: start over.

        The inherited connection is never closed: closing could remove the parent's WAL. What
        was queued is the parent's to write.
        """
        _inherited.append(self.appender.db)
        was_closed = self.closed
        self._reset()
        self.closed = was_closed
        self.degraded = None
        self.committed = self.dropped = 0
        if not was_closed:
            self.appender = Appender(self._connect())


def _is_the_files_fault(error: Exception) -> bool:
    """Whether waiting may help; otherwise it is the event that cannot be stored."""
    if isinstance(error, sqlite3.DatabaseError):
        return not isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError))
    return isinstance(error, (sqlite3.Error, OSError))


def _size(events: Sequence[NewEvent]) -> int:
    """Return roughly the memory events hold, in bytes."""
    return sum(600 + len(e.payload) + sum(len(c.body) for c in e.contents) for e in events)


_pipelines: weakref.WeakSet[Pipeline] = weakref.WeakSet()
_inherited: list[Any] = []
_held: list[Pipeline] = []
_exiting = False


def leave_quietly() -> None:
    """From now on, batches are written at once: daemon threads stop when the interpreter exits."""
    global _exiting  # noqa: PLW0603 - one interpreter, one exit
    _exiting = True
    for pipeline in list(_pipelines):
        pipeline.flush(timeout_s=5.0)


def _before_fork() -> None:
    """No transaction may be under way in the moment of the fork."""
    for pipeline in list(_pipelines):
        pipeline._lock.acquire()  # noqa: SLF001
        _held.append(pipeline)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()._lock.release()  # noqa: SLF001


def _after_fork_in_child() -> None:
    _held.clear()
    for pipeline in list(_pipelines):
        pipeline.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
