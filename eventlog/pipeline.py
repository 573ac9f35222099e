"""Between the emitter and the file: keeps order, decides who writes, survives locks, signals and forks.

Everything goes through one queue. In ``commit`` and ``fsync`` mode whoever holds the lock
writes the whole queue before it returns; so threads share transactions, and a signal
handler that emits in the middle of a write just queues: the interrupted frame writes it.
In ``batch`` mode a thread writes at most ``batch_ms`` later; an event whose payload was copied
is encoded there, too (``offer_later``), in the order of the queue.

When the file cannot be written (another program holds the lock beyond the busy timeout, the
disk is full) the pipeline is *degraded*: events wait in the queue, at most
``QUEUE_BYTES_MAX``, a thread tries again, emitters wait at most ``DEGRADED_WAIT_S``. What no
longer fits is counted and recorded as a gap once writing works again.

A signal handler may run between any two bytecodes, so nothing on the emitter's path uses a
lock that the same thread cannot take twice (``threading.Event`` and ``Thread.start`` do).

Long, because all of it shares one queue, one lock and one connection: what is written, when, by whom, and what happens
when that cannot be done, is one argument.
"""

from __future__ import annotations

import _thread
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Literal
from uuid import uuid4

import msgspec

from eventlog import interrupts, place, storage, transactions
from eventlog.append import Appender
from eventlog.chain import Chain
from eventlog.errors import AppendError, EventLogError, LogClosedError, LogMovedError, LogOpenError
from eventlog.items import EVENT_BYTES, Item, Made, size_of
from eventlog.logger import Logger
from eventlog.moved import Follower, left_behind, moved_error, without_wal
from eventlog.place import Connection
from eventlog.record import NewEvent
from eventlog.transactions import impatient, transaction

Durability = Literal["commit", "fsync", "batch"]
QUEUE_BYTES_MAX = 64 * 1024 * 1024
"""Of encoded events that wait until the file can be written again."""
BACKLOG_BYTES_MAX = 4 * 1024 * 1024
"""Of those that wait for the background thread; in memory an event takes several times its encoded size."""
GROUP_EVENTS_MAX = 512
"""Events per transaction: longer ones would make other processes wait."""
DEGRADED_WAIT_S = 0.05
LOOK_S = 0.02
"""How often to look whether the path still leads to the file: that takes 7 µs, a tenth of an append."""
RETRY_S = 0.1
RETRY_BUSY_MS = 200
"""How long a retry waits for the lock; ``run_exclusively`` waits for the retry."""
CLOSE_S = 5.0

log = Logger(__name__)


class Pipeline:
    """The queue of one log and the one connection that appends to it."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        durability: Durability,
        batch_ms: float,
        chain: Chain = Chain(),  # noqa: B008 - immutable
    ) -> None:
        """``connect`` opens the writing connection, here and again in a forked child."""
        self._connect, self.durability, self._batch_s = connect, durability, batch_ms / 1000
        self._chain = chain
        self.committed = self.dropped = 0
        self.last_error: str | None = None
        self.on_lost: Callable[[], object] = lambda: None
        """Called when captured events could not be stored: contents they brought are missing."""
        self.on_collected: Callable[[], int] = lambda: 0
        """Called when contents were collected (see ``Appender``)."""
        self.on_replaced: Callable[[], None] = lambda: None
        """Called when the log goes on in a file that lacks events of the former one."""
        self.closed = False
        self._follower = Follower()
        self._reset()
        self._appender: Appender | None = self._new_appender()
        _open.append(self)

    def _reset(self) -> None:
        """Fresh locks and an empty queue; also what a forked child gets."""
        self._queue: deque[Item] = deque()
        self._queued = 0
        self._unconfirmed: list[Item] = []
        """Written since the path was looked at."""
        self._looked = 0.0
        self.degraded: str | None = None
        self._gaps: dict[tuple[str, str], int] = {}
        self._lock = threading.RLock()
        self._writer: int | None = None  # ident of the thread that uses the connection
        self._recovered = threading.Condition()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._roused = False
        self._thread_lives = threading.Lock()

    # -- the emitter's side -------------------------------------------------------------------

    def offer(self, events: Sequence[NewEvent], publish: Callable[[], None] | None = None) -> bool:
        """Queue captured events and, unless in ``batch`` mode, write them. False if they had to be dropped.

        Raises nothing but what a signal handler raises, and only after the write.
        """
        if not self._enqueue(Item(events, size_of(events))):
            return False
        if publish is not None:
            self._encode_waiting()  # no event before this one may take for stored what it brings
            publish()
        self._write_now_or_later()
        return True

    @property
    def encodes_later(self) -> bool:
        """Whether events may be left to the thread as they are."""
        return self.durability == "batch" and not _exiting

    def offer_later(self, make: Callable[[], Made], size: int, home: tuple[str, str]) -> bool:
        """Queue a captured event that is still to be encoded. False if it had to be dropped.

        ``make`` does so without raising ``Exception``, perhaps more than once; ``size``: about that of the event.
        """
        if not self._enqueue(Item((), EVENT_BYTES + size, make, home)):
            return False
        self._write_now_or_later()
        return True

    def _enqueue(self, item: Item) -> bool:
        """Queue captured events; false if they had to be dropped, which is counted."""
        if not self._admit(item):
            return False
        self._queue.append(item)
        return not (self.closed and self._is_left_behind(item))

    def _encode_waiting(self) -> None:
        """Encode what waits for that, in order."""
        if self.durability == "batch":
            for item in list(self._queue):
                item.encode()

    def _write_now_or_later(self) -> None:
        """Leave the queue to the thread in ``batch`` mode, else write it."""
        if self.encodes_later and self._rouse():
            return
        if self.degraded:
            self._wait_a_little()
        self._write_queue()

    def submit(self, events: Sequence[NewEvent], expected_seq: int | None = None) -> list[int]:
        """Return the seqs of events after their commit, whatever the mode.

        Called inside a signal handler that interrupted a write, it can only queue and returns zeros.

        Raises:
            SequenceConflictError: see ``Appender.write``.
            AppendError: they could not be written; nothing of them is in the log. (A disk that failed, or a file that
                was moved away in that moment, may show them all the same: with an id of its own an event can be
                appended again, and is there once.)
            LogClosedError: the log was closed.
        """
        if self.closed:
            raise LogClosedError
        item = Item(events, size_of(events), is_captured=False, expected_seq=expected_seq)
        self._queue.append(item)
        self._queued += item.size
        if self._is_mine():
            return [0] * len(events)
        self._write_queue()
        if not item.done and self._rouse():  # have it tried once more: the trouble may be over
            self._wait_a_little(self._patience_s())
            self._write_queue()
        if not item.done:
            self._withdraw(item)
        if item.error is not None:
            raise item.error if isinstance(item.error, EventLogError) else AppendError(str(item.error)) from item.error
        return item.seqs

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything queued so far is committed, where the path leads; false if not in time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (self._queue or self._unconfirmed) and not self.closed and not self._is_mine():
            if not self.degraded:
                self._write_queue()
                self._confirm()
            elif deadline is None or time.monotonic() > deadline:
                break
            else:
                self._wait_a_little()
        return not self._queue

    def find_file(self) -> None:
        """Look where the path leads, and go on there if it leads elsewhere by now: who reads waits for that."""
        if not self._is_mine() and self._lock.acquire(timeout=place.PART_S):
            try:
                self._confirm()
            finally:
                self._lock.release()

    def run_exclusively(self, job: Callable[[Appender], Any]) -> Any:
        """Run a job of another kind (a snapshot, a new run) on the connection, between transactions.

        Raises:
            AppendError: the file could not be written, or we are in a signal handler that interrupted a write.
            LogClosedError: the log was closed.
        """
        if self._is_mine():
            raise AppendError("a signal handler interrupted a write: only events can be appended here")
        try:
            with self._lock:
                if self.closed:
                    raise LogClosedError
                if not self._confirm():
                    raise AppendError(self.degraded or "")
                self._writer = threading.get_ident()
                try:
                    return job(self._connected())
                except sqlite3.Error as error:
                    raise AppendError(str(error)) from error
                finally:
                    self._writer = None
        finally:
            self._write_queue()  # what a signal handler emitted meanwhile

    def close(self) -> None:
        """Write what is queued, stop the thread, close the connection."""
        if self.closed:
            return
        self.flush(CLOSE_S)
        self.closed = True
        self._wake.put(None)
        self._thread_lives.acquire(timeout=CLOSE_S)
        with self._lock:
            self._leave_behind()
            if self._appender is not None:
                self._appender.db.close()
        if self in _open:
            _open.remove(self)

    def waiting_events(self) -> int:
        """Return how many events are not yet in the file."""
        return sum(item.count() for item in list(self._queue))

    # -- writing ------------------------------------------------------------------------------

    def _is_mine(self) -> bool:
        """Whether this thread uses the connection: then we are in a signal handler that interrupted it."""
        return self._writer == threading.get_ident()

    def _connected(self) -> Appender:
        """Return the appender; a forked child opens its own connection with its first write."""
        if self._appender is None:
            self._appender = self._new_appender()
        return self._appender

    def _new_appender(self, db: Connection | None = None) -> Appender:
        """Return an appender with a connection of its own."""
        appender = Appender(db or self._connect(), self._chain)
        appender.on_collected = lambda: self.on_collected()  # noqa: PLW0108 - it is set later
        return appender

    def _write_queue(self) -> None:
        """Empty the queue; what interrupts us comes out only when it is empty."""
        if self._is_mine():
            return  # the interrupted frame goes on with the queue
        if self._queue:
            attempts = iter((GROUP_EVENTS_MAX,))  # after an interrupt one by one: long transactions might never end
            interrupts.complete(lambda: self._write_groups(next(attempts, 1)), self.fail)
        interrupts.settle()

    def _write_groups(self, events_max: int) -> None:
        """Write one group after the other; another thread may be doing the same."""
        while self._queue and not self.degraded and not self.closed:
            with self._lock:
                self._write_group(events_max)

    def _write_group(self, events_max: int = GROUP_EVENTS_MAX) -> None:
        """Write the next items of the queue in one transaction and take them off."""
        self._writer = threading.get_ident()  # first of all: from here on signal handlers only queue
        try:
            items = self._next_group(events_max)
            if items and not self.closed:
                self._write_items(items)
        finally:
            self._writer = None

    def _next_group(self, events_max: int) -> list[Item]:
        """Return items for one transaction; an item with an expectation stands alone."""
        while self._queue and self._queue[0].done:  # committed, but interrupted before it was taken off
            self._queue.popleft()
        items: list[Item] = []
        count = 0
        for position in range(min(len(self._queue), events_max)):
            item = self._queue[position]
            if items and (item.expected_seq is not None or count + item.count() > events_max):
                break
            items.append(item)
            count += item.count()
            if item.expected_seq is not None:
                break
        return items

    def _write_items(self, items: list[Item]) -> None:
        """Commit the items, then take them off the queue; an item at fault fails alone."""
        for item in items:
            item.encode()
        try:
            seqs = self._connected().write([e for item in items for e in item.events], items[0].expected_seq)
            self._unconfirmed.extend(items)
            if time.monotonic() - self._looked >= LOOK_S:
                self._look()
        except Exception as error:
            if _is_the_files_fault(error) or interrupts.raised_by_handler(error):
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

    def _take_off(self, item: Item, seqs: list[int], error: Exception | None) -> None:
        """An item is done: count it, tell who waits. Interrupted, it is done once more without harm."""
        if not item.done:
            item.seqs, item.error = seqs, error
            if error is None:
                self.committed += len(seqs)
            elif item.is_captured:
                self._lose(len(item.events), f"{type(error).__name__}: {error}")
                self._connected().forget_collected()  # those after it may take its contents for stored
            item.done = True
        if self._queue and self._queue[0] is item:
            self._queue.popleft()
            self._queued = self._queued - item.size if self._queue else 0

    # -- trouble ------------------------------------------------------------------------------

    def _leave_behind(self) -> None:
        """The log is closed: count what nobody will write, and tell who waits for it."""
        lost = 0
        while self._queue:
            item = self._queue.popleft()
            if not item.is_captured:
                item.error = LogClosedError()
            elif not item.done:
                lost += item.count()
        if lost:
            self._lose(lost, self.degraded or "the log was closed")
            log.warning("events_lost", count=lost, cause=self.last_error)

    def _is_left_behind(self, item: Item) -> bool:
        """Whether an item came when the log had been closed; it is counted by whoever takes it off the queue."""
        try:
            self._queue.remove(item)
        except ValueError:
            return False
        self._lose(item.count(), "the log was closed")
        return True

    def _lose(self, count: int, cause: str | None) -> None:
        """Take note of captured events that will not be in the log."""
        self.dropped += count
        self.last_error = cause or self.last_error
        self.on_lost()

    def fail(self, error: Exception) -> None:
        """The file cannot be written now: keep the events, try again off the emitter's path."""
        self.last_error = self.degraded = f"{type(error).__name__}: {error}"
        log.warning("append_degraded", cause=self.last_error, queued=len(self._queue))
        self._rouse()

    def _recover(self) -> None:
        """Try to write what waits; on success everything is as before, and the gap is on record."""
        with self._lock:
            if self.closed:
                return
            try:
                self._follow_file()
                with impatient(self._connected().db, RETRY_BUSY_MS):
                    if not self._queue:
                        self._probe()
                    while self._queue and not self.closed:
                        self._write_group()
                    self._record_gaps()
                self.degraded = None
            except Exception as error:
                self.last_error = self.degraded = f"{type(error).__name__}: {error}"
        if self.degraded is None:
            log.warning("append_recovered", committed=self.committed)
            self._write_queue()  # what came in while we were still degraded
            with self._recovered:
                self._recovered.notify_all()

    def _look(self) -> None:
        """Return if what was written stands where the path leads.

        Raises:
            LogMovedError: it does not; when the file is found again, it is written once more.
        """
        if self._appender is not None:
            if (moved := moved_error(self._appender.db)) is not None:
                raise moved
            self.last_error = without_wal(self._appender.db) or self.last_error
        self._looked = time.monotonic()
        self._unconfirmed.clear()

    def _confirm(self) -> bool:
        """Look, and go on in another file if the path leads to another by now; false if it leads to none."""
        with self._lock:
            try:
                self._look()
            except LogMovedError as moved:
                self.fail(moved)
                self._recover()
                return not self.degraded
            return True

    def _follow_file(self) -> None:
        """Go on in the file that the path leads to now; what only the former one holds is a gap."""
        former = self._appender
        if former is None or moved_error(former.db) is None:
            return
        fresh = self._new_appender(self._follower.follow(former.db, self._connect))
        try:
            self._write_again()
            fresh.go_on_from(former)
            self._encode_waiting()
            waiting = [event for item in list(self._queue) for event in item.events]
            lost = left_behind(former.db, fresh.db, waiting)
        except BaseException:
            fresh.db.close()
            raise
        self._appender = fresh
        former.db.close()
        for key, count in lost.items():
            self._gaps[key] = self._gaps.get(key, 0) + count
        if lost:
            self.on_replaced()
        log.warning("log_found_again", path=fresh.db.path, left_behind=sum(lost.values()))

    def _write_again(self) -> None:
        """Queue what nobody has seen where the path leads; where it is, it will not be stored twice."""
        again = [Item(item.events, item.size) for item in self._unconfirmed if item.done]
        self._queue.extendleft(reversed(again))
        self._queued += sum(item.size for item in again)
        self.committed -= sum(len(item.events) for item in again)
        self._unconfirmed.clear()

    def _probe(self) -> None:
        """Return if the lock of the file can be had."""
        with transaction(self._connected().db):
            pass

    def _record_gaps(self) -> None:
        """Append ``eventlog.capture_gap`` to every run that lost events."""
        for run, branch in list(self._gaps):
            count = self._gaps[run, branch]
            payload = msgspec.json.encode({"dropped": count, "cause": self.last_error})
            event = NewEvent(
                type="eventlog.capture_gap", event_id=str(uuid4()), at_ns=time.time_ns(), payload=payload,
                run=run, branch=branch,
            )  # fmt: skip
            self._connected().write([event])
            self.committed += 1
            self._gaps.pop((run, branch))

    def _admit(self, item: Item) -> bool:
        """Make room in the queue: write while that works, count a gap while it does not."""
        while self._is_too_much(item.size) and self._queue and not self._is_mine():
            if self.degraded or self.closed:
                break
            self._write_queue()
        else:
            if not self.closed:
                self._queued += item.size
                return True
        key, count = item.place(), item.count()
        self._gaps[key] = self._gaps.get(key, 0) + count
        self._lose(count, self.degraded or "the log is closed")
        return False

    def _is_too_much(self, size: int) -> bool:
        """Whether so much more may not wait: while the file can be written, whoever emits faster than that helps."""
        return self._queued + size > (QUEUE_BYTES_MAX if self.degraded else BACKLOG_BYTES_MAX)

    def _patience_s(self) -> float:
        """Return how long an append may wait for the next attempt, or for its log to be put back."""
        is_moved = self._appender is not None and moved_error(self._appender.db) is not None
        return transactions.BUSY_S if is_moved else RETRY_S + RETRY_BUSY_MS / 1000

    def _withdraw(self, item: Item) -> None:
        """Take back an item nobody could write, so that its caller may say so."""
        with self._lock:
            if item in self._queue:
                self._queue.remove(item)
                self._queued -= item.size
                item.error = AppendError(self.degraded or "the log is closed")

    def _wait_a_little(self, longest_s: float | None = None) -> None:
        """Give a degraded pipeline a moment; never longer."""
        with self._recovered:
            if self.degraded:
                self._recovered.wait(DEGRADED_WAIT_S if longest_s is None else longest_s)

    # -- the thread ---------------------------------------------------------------------------

    def _rouse(self) -> bool:
        """Have the background thread look at the queue; false when there can be no thread any more."""
        if self._thread_lives.acquire(blocking=False):
            try:
                _thread.start_new_thread(self._work, ())
            except RuntimeError:  # the interpreter is shutting down
                self._thread_lives.release()
                return False
        if not self._roused:
            self._roused = True
            self._wake.put(None)
        return True

    def _work(self) -> None:
        """Write batches as they come; retry while degraded."""
        wake, lives = self._wake, self._thread_lives
        try:
            while not self.closed:
                with suppress(Empty):
                    wake.get(timeout=RETRY_S if self.degraded else None)
                self._roused = False
                if self.degraded:
                    self._recover()
                    time.sleep(RETRY_S if self.degraded else 0)
                    continue
                if self.durability == "batch" and self._queue:
                    time.sleep(self._batch_s / 2)  # let a group gather; the other half is for the commit
                self._write_queue()
        finally:
            lives.release()

    # -- fork ---------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Start over: the parent writes what was queued, and the child opens a connection of its own when it writes."""
        if self._appender is not None:
            storage.inherited.append(self._appender.db)
            self._appender = None
        self._reset()
        self.committed = self.dropped = 0


def _is_the_files_fault(error: Exception) -> bool:
    """Whether waiting may help; otherwise it is the event that cannot be stored."""
    if isinstance(error, sqlite3.DatabaseError):
        return not isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError))
    return isinstance(error, (sqlite3.Error, OSError, LogOpenError))


_open: list[Pipeline] = []
_exiting = False
_fork_lock = threading.RLock()
_held: list[Pipeline] = []


def is_writing() -> bool:
    """Whether this thread is in the middle of a write: only a signal handler can see that."""
    return any(pipeline._is_mine() for pipeline in tuple(_open))  # noqa: SLF001


def leave_quietly() -> None:
    """From now on, batches are written at once: our thread stops when the interpreter exits."""
    global _exiting
    _exiting = True
    for pipeline in tuple(_open):
        pipeline.flush(timeout_s=CLOSE_S)


def _before_fork() -> None:
    """No transaction may be under way in the moment of the fork."""
    _fork_lock.acquire()
    for pipeline in tuple(_open):
        pipeline._lock.acquire()  # noqa: SLF001
        _held.append(pipeline)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()._lock.release()  # noqa: SLF001
    _fork_lock.release()


def _after_fork_in_child() -> None:
    global _fork_lock
    _held.clear()
    _fork_lock = threading.RLock()
    for pipeline in tuple(_open):
        pipeline.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
