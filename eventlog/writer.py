"""Everything that writes to one file in this process: shared by all ``Log`` objects and listeners on it.

Long, because it is where they meet: who made what, in which order it is closed, and what a forked child gets.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import closing, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from eventlog import pipeline
from eventlog.chain_key import chain_of_environment
from eventlog.codec import Encoder
from eventlog.compaction.auto import Compactor, is_unfinished
from eventlog.contents import ContentIndex
from eventlog.errors import AppendError, BranchNotFoundError, CipherKeyError, EventLogError, RunNotFoundError
from eventlog.lease import Lease, Renewal
from eventlog.logger import Logger
from eventlog.pipeline import DEGRADED_WAIT_S, Durability, Pipeline
from eventlog.read import Reader
from eventlog.record import MAIN_BRANCH, NewEvent
from eventlog.redact import Redaction
from eventlog.replay.snapshots import SNAPSHOT_ON, Snapshotter
from eventlog.seal import CipherKey, Seal, cipher_key
from eventlog.storage import Synchronous, open_writer, opening
from eventlog.transactions import impatient

if TYPE_CHECKING:
    from eventlog.append import Appender
    from eventlog.capture.homes import Home
    from eventlog.capture.recorder import Recorder

SIDE_BUSY_MS = 50
"""How long a snapshot or the renewal of leases waits for another program's lock; meanwhile emitters wait for it."""

log = Logger(__name__)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a process writes to a log."""

    durability: Durability = "commit"
    """``commit``: on disk, safe from a kill, before ``emit`` returns. ``fsync``: safe from power loss too.
    ``batch``: at most ``batch_ms`` are lost on a kill."""
    batch_ms: float = 20
    """Milliseconds an event of ``batch`` mode may wait for its commit."""
    redaction: Redaction = Redaction()
    snapshot_on: Collection[str] = SNAPSHOT_ON
    """Event types that make a checkpoint; ``"*"`` for all."""
    omit_payload: Collection[str] = ()
    """Event types of CrewAI whose payload is left out: header and exchange stay. What only the payload held, such as
    the output of a task (``task_completed``), is made again from the exchanges when a run goes on."""
    max_checkpoints: int | None = None
    """Compact in the background: each branch keeps so many checkpoints, and what came after them. ``None``: never."""
    compact_events: int = 10_000
    """After so many events of this process since the last time."""
    compact_bytes: int = 64 * 1024 * 1024
    """Or after so many bytes of payloads and large values."""
    key: CipherKey | None = None
    """What the log is encrypted with; an empty one for a plain log, ``None`` for what the environment says."""
    like: Seal | None = None
    """A new file is sealed as the log this is the seal of."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to the events of this process."""

    path: str
    durability: str
    capture_mode: str
    """``tap``: every event; ``handlers``: the fallback, which misses some; ``off``."""
    captured: int
    """Events of CrewAI's bus that were taken."""
    committed: int
    """Events that are in the file, our own included."""
    failed: int
    """Events that were lost: dropped while the file could not be written, or errors of ours."""
    queued: int
    placeholders: int
    """Events in which a tag stands for a value that could not be encoded."""
    redacted: int
    """Events from which a secret was taken."""
    degraded: str | None
    """Why the file cannot be written at the moment."""
    last_error: str | None
    cuts: int = 0
    """Branches that were compacted in the background."""


class Told(threading.local):
    """Events of this thread the snapshots have not been told about."""

    is_busy = False

    def __init__(self) -> None:
        """One queue per thread."""
        self.waiting: deque[NewEvent] = deque()


class Writer:
    """The pipeline, the encoder, the recorder and the snapshots of one file."""

    def __init__(self, path: Path, options: Options) -> None:
        """Open the file for appending.

        Raises:
            LogOpenError: the file cannot be used.
        """
        self.path, self.options = path, options
        synchronous: Synchronous = "FULL" if options.durability == "fsync" else "NORMAL"
        self.key = key = _key_of(path, options)
        chain = chain_of_environment(str(path))
        self.pipeline = Pipeline(
            lambda: open_writer(path, synchronous, key, options.like, chain=chain),
            options.durability, options.batch_ms, chain,
        )  # fmt: skip
        self.encoder = self._encoder()
        self.pipeline.on_lost = self.encoder.index.clear
        self.snapshots = Snapshotter(self.next_reader, self._store_snapshot, options.snapshot_on)
        self.pipeline.on_collected = self._rows_changed
        self.pipeline.on_replaced = self._forget_definitions
        self.compactor = Compactor(
            self.pipeline, self.snapshots.reader, options.max_checkpoints, options.compact_events, options.compact_bytes
        )
        if is_unfinished(self.pipeline):
            self.compactor.start()
        self._recorder: Recorder | None = None
        self._homes: dict[tuple[str, str], tuple[Home, int]] = {}
        self._lock = threading.RLock()
        self.active: set[tuple[str, str, str]] = set()
        """Run, branch and path of every execution that is directed in this process."""
        self.active_lock = threading.RLock()
        self._told = Told()
        self._renewal = Renewal(self._renew_leases)
        self.users = 0

    def _encoder(self) -> Encoder:
        """Return what encodes for this file; a passphrase that turns up in a text is a secret like others."""
        seal: Seal = self.pipeline.run_exclusively(lambda appender: appender.seal)
        redactor = self.options.redaction.redactor()
        if self.key:
            redactor.learn_all([self.key.reveal().decode("utf-8", "replace")])
        return Encoder(redactor, ContentIndex(seal.content_key))

    # -- capture --------------------------------------------------------------------------------

    @property
    def recorder(self) -> Recorder:
        """The recorder of this file; the first use imports CrewAI."""
        if self._recorder is None:
            from eventlog.capture.recorder import Recorder  # noqa: PLC0415 - imports CrewAI
            from eventlog.capture.secrets import environment_secrets  # noqa: PLC0415

            self.encoder.redactor.learn_all(environment_secrets())
            self._recorder = Recorder(self.pipeline, self.encoder, _mint, self.options.omit_payload)
            self._recorder.on_committed = self.appended
            self._recorder.file = str(self.path)
        return self._recorder

    def enter_run(self, run: str, branch: str) -> Home:
        """Open a run for capture; the same run opened twice in this process is one home.

        Raises:
            BranchNotFoundError: the run has no such branch.
            LogOpenError: the file cannot be read.
        """
        with self._lock:
            home, uses = self._homes.get((run, branch), (None, 0))
            if home is None:
                self._open_run(run, branch)
                home = self._make_home(run, branch)
            self._homes[run, branch] = (home, uses + 1)
            self.recorder.start()
            return home

    def _open_run(self, run: str, branch: str) -> None:
        """Say that this process has the branch open; while the file cannot be written, the first events make a run."""
        try:
            self._run_when_sound(lambda appender: appender.open_run(run, branch))
        except AppendError as error:
            if not isinstance(error.__cause__, sqlite3.Error):
                raise
            self.pipeline.fail(error.__cause__)  # from now on nobody waits
            log.warning("run_not_opened", run=run, branch=branch, error=str(error))

    def _run_when_sound(self, job: Callable[[Appender], None]) -> None:
        """Run a job on the connection; while that is in trouble, without patience."""

        def run(appender: Appender) -> None:
            with impatient(appender.db, SIDE_BUSY_MS) if degraded else nullcontext():
                job(appender)

        degraded = self.pipeline.degraded is not None
        self.pipeline.run_exclusively(run)

    def next_reader(self, former: Reader | None = None) -> Reader:
        """Return a reader; ``former`` reads a file that the path leads to no more.

        Raises:
            LogMovedError: the former file was replaced, and nobody took its WAL away.
            LogOpenError: it cannot be read as a log.
        """
        if former is None:
            return Reader(self.path, self.key)
        self.pipeline.find_file()
        return former.successor()

    def _make_home(self, run: str, branch: str) -> Home:
        """Return the place of a run's events, which goes on from what is there."""
        from eventlog.capture.homes import Home  # noqa: PLC0415 - imports CrewAI

        with opening, closing(Reader(self.path, self.key)) as reader:  # nobody forks while this connection is in use
            try:
                row = reader.branch_id(run, branch)
            except RunNotFoundError:
                if branch != MAIN_BRANCH:
                    raise BranchNotFoundError(f"{run}/{branch}") from None
                return Home(run, branch, "named", {})
            home = Home(run, branch, "named", reader.root_labels(row))
            home.unfinished = any(e.parent is None and e.status != "completed" for e in reader.executions(row))
            return home

    def leave_run(self, home: Home) -> None:
        """Undo ``enter_run``; the last one says that this process no longer has the branch open."""
        key = (home.run, home.branch)
        with self._lock:
            _, uses = self._homes[key]
            if uses > 1:
                self._homes[key] = (home, uses - 1)
                return
            del self._homes[key]
            if not self._homes:
                self.recorder.pause_if_idle()
        self.pipeline.flush(timeout_s=DEGRADED_WAIT_S if self.pipeline.degraded else 5.0)
        try:
            self._run_when_sound(lambda appender: appender.release_run(home.run, home.branch))
        except EventLogError as error:  # the process will end, and then the branch has no owner either
            log.warning("run_not_released", run=home.run, error=str(error))

    # -- lease ------------------------------------------------------------------------------------

    def take_lease(self, run: str, branch: str = MAIN_BRANCH, *, takeover: bool = False) -> Lease:
        """Return the right to work on a branch of a run; give it back with ``give_back``.

        Taken twice in a process, it is one. Other branches of the run are leases of their own: this process may
        have several, and other processes the rest. A dead process of this host holds nothing; one of another host
        until its lease expires. With ``takeover`` a living one loses the branch: what it still records of it goes
        to one of its own.

        Raises:
            RunBusyError: another process is working on the branch.
            BranchNotFoundError: the run has no such branch.
            AppendError: the file cannot be written.
        """
        with self._lock:
            self.pipeline.flush(timeout_s=5.0)  # what was recorded under an older lease must not come under this one
            lease: Lease = self.pipeline.run_exclusively(
                lambda appender: appender.take_lease(run, branch, takeover=takeover)
            )
            self._renewal.start()
        return lease

    def give_back(self, lease: Lease) -> None:
        """Undo one ``take_lease``; with the last one others may have the branch. Raises nothing."""
        with self._lock:
            lease.uses -= 1
            if lease.uses > 0:
                return
            try:
                if not self.pipeline.run_exclusively(lambda appender: appender.renew_leases()):
                    self._renewal.stop()
            except EventLogError as error:  # the thread tries again; when the process ends the lease is free anyway
                log.warning("lease_not_given_back", run=lease.run, branch=lease.branch, error=str(error))

    def _give_all_back(self) -> None:
        """Let others have the branches; if that cannot be written, they have them when this process ends."""

        def give_back(appender: Appender) -> None:
            appender.leases.leave_all()
            appender.renew_leases()

        try:
            self.pipeline.run_exclusively(give_back)
        except EventLogError as error:
            log.debug("leases_not_given_back", error=str(error))

    def _renew_leases(self) -> bool:
        """Extend the leases between the appends; false when it has to be tried again soon."""

        def renew(appender: Appender) -> None:
            with impatient(appender.db, SIDE_BUSY_MS):
                appender.renew_leases()

        try:
            self.pipeline.run_exclusively(renew)
        except Exception as error:  # nobody sees this thread fail
            log.debug("lease_not_renewed", error=repr(error))
            return False
        return True

    def _forget_definitions(self) -> None:
        """Record anew what runs: the file that has it is not the log any more."""
        for home, _ in list(self._homes.values()):
            home.definitions.clear()
            home.agents.clear()

    def appended(self, event: NewEvent) -> None:
        """Tell the snapshots about an event; one that a signal handler appends meanwhile, after it."""
        self.compactor.appended(event)
        told = self._told
        told.waiting.append(event)
        if told.is_busy:
            return
        told.is_busy = True
        try:
            while told.waiting:
                self.snapshots.appended(told.waiting.popleft())
        finally:
            told.is_busy = False

    def active_paths(self, home: Home) -> set[str]:
        """Return the paths of the executions of a branch that are directed in this process now."""
        return {path for run, branch, path in self.active if (run, branch) == (home.run, home.branch)}

    # -- state ------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return counts and troubles."""
        recorder, line = self._recorder, self.pipeline
        return Status(
            path=str(self.path),
            durability=line.durability,
            capture_mode=recorder.mode if recorder else "off",
            captured=recorder.captured if recorder else 0,
            committed=line.committed,
            failed=line.dropped + (recorder.errors if recorder else 0),
            queued=line.waiting_events(),
            placeholders=recorder.placeholders if recorder else 0,
            redacted=recorder.redacted if recorder else 0,
            degraded=line.degraded,
            last_error=line.last_error or (recorder.last_error if recorder else None) or self.compactor.last_error,
            cuts=self.compactor.cuts,
        )

    def _rows_changed(self) -> int:
        """Trust nothing that was read or stored before: rows were collected, or rewritten without a secret."""
        self.snapshots.forget()
        return self.encoder.index.clear()

    def _store_snapshot(self, row: tuple[Any, ...], is_current: Callable[[], bool]) -> None:
        """Write a snapshot between the appends; it may fail, an emitter must not wait for it."""

        def write(appender: Appender) -> None:
            with impatient(appender.db, SIDE_BUSY_MS):
                appender.write_snapshot(row, is_current)

        self.pipeline.run_exclusively(write)

    def after_fork_in_child(self) -> None:
        """Locks and threads of the parent are not here."""
        self._lock = threading.RLock()
        self._renewal = Renewal(self._renew_leases)
        self.compactor.after_fork_in_child()
        self.snapshots.after_fork_in_child()

    def close(self) -> None:
        """Stop capturing, write everything, close the file."""
        if self._recorder is not None:
            self._recorder.stop()
        self.pipeline.flush(timeout_s=5.0)
        if self._renewal.stop():
            self._give_all_back()
        self.compactor.close()
        self.snapshots.close()
        self.pipeline.close()


redirections: list[Callable[[Path], Path]] = []
"""What gives another path for one that is opened: a program that is executed again gets copies of its logs."""


def redirected(path: Path) -> Path:
    """Return the file to open for a path."""
    return redirections[-1](path) if redirections else path


instead: ContextVar[Writer | None] = ContextVar("eventlog_instead", default=None)
"""Where events of the user's go in this context: what is executed again appends to no log that is kept."""


def _mint(attribution: str) -> Home:
    """Return the home of a new run, named by the clock; its row is made with its first event."""
    from eventlog.capture.homes import Home  # noqa: PLC0415

    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return Home(f"run-{stamp}-{uuid4().hex[:6]}", "main", attribution, {})


_writers: dict[str, Writer] = {}
_writers_lock = threading.RLock()


def _after_fork_in_child() -> None:
    """The thread that held the lock may not exist here."""
    global _writers_lock
    _writers_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _key_of(path: Path, options: Options) -> CipherKey:
    """Return what a file is to be opened with."""
    return cipher_key(None, str(path)) if options.key is None else options.key


def acquire(path: Path, options: Options) -> Writer:
    """Return the writer of a file, made if this process has none; give it back with ``release``.

    Raises:
        LogOpenError: the file cannot be used.
    """
    with _writers_lock:
        key = str(path.resolve())
        writer = _writers.get(key)
        if writer is None:
            writer = _writers[key] = Writer(path, options)
        elif writer.key != _key_of(path, options):
            raise CipherKeyError(str(path), "this process has it open with another key, or with none")
        elif writer.options.durability != options.durability:
            log.warning("durability_kept", path=key, open_with=writer.options.durability, asked=options.durability)
        writer.users += 1
        return writer


def release(writer: Writer) -> None:
    """Give a writer back; the last user closes it."""
    with _writers_lock:
        writer.users -= 1
        if writer.users == 0:
            _writers.pop(str(writer.path.resolve()), None)
            writer.close()


def _at_exit() -> None:
    """Everything captured so far goes to disk; what is emitted even later is written at once."""
    pipeline.leave_quietly()


atexit.register(_at_exit)
