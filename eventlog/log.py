"""The public face of a log: open it, append to it, read it, replay it.

Long, because a person looks for everything on one object; each method says what it does and raises, and leaves the
doing to the module it is named for.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from typing_extensions import Self

from eventlog import errors, storage, writer
from eventlog.compaction.compact import Progress, Wish, compact, no_progress
from eventlog.compaction.report import CompactionReport
from eventlog.cursors import Cursor, find_cursor, find_event, find_moment
from eventlog.forgetting.forget import forget_event, forget_value
from eventlog.forgetting.report import ForgetReport
from eventlog.fork import make_fork
from eventlog.ledger.ledger import Ledger
from eventlog.ledger.memory import Memory
from eventlog.ledger.memory_vectors import Embed
from eventlog.ledger.progress import SESSION_TYPES
from eventlog.ledger.session import Session
from eventlog.ledger.work import Items
from eventlog.lineage import SEQ_MAX
from eventlog.pipeline import Durability
from eventlog.read import Reader
from eventlog.record import MAIN_BRANCH, OWN_PREFIX, BranchInfo, Event, ExecutionInfo, RunInfo
from eventlog.redact import Redaction
from eventlog.replay.fold import FOLD_VERSION
from eventlog.replay.projection import Projection
from eventlog.replay.rebuild import STATE_PROJECTION, rebuild_projection, rebuild_state, shown_state
from eventlog.replay.snapshots import SNAPSHOT_ON
from eventlog.replay.state import RunState
from eventlog.run import Run, RunOptions, resumed_branches
from eventlog.seal import CipherKey, cipher_key
from eventlog.standing import is_owned, list_branches, list_runs, unended
from eventlog.submit import compose_event, require_users_type, submit_events
from eventlog.writer import Options, Status, Writer

if TYPE_CHECKING:
    from eventlog.backup import Backup
    from eventlog.resume.outcome import Reexecution
    from eventlog.resume.reexecute import RunReexecutor
    from eventlog.verifying.report import VerifyReport

DEFAULT_PATH = "eventlog.db"
"""Used when neither a path nor ``EVENTLOG_DB`` is given."""


class Snapshot(msgspec.Struct, frozen=True):
    """A stored state."""

    run: str
    branch: str
    seq: int
    """The cursor it stands at."""
    payload_bytes: int


class Log:
    """One event log. Safe to use from several threads; a context manager."""

    def __init__(
        self, path: Path, options: Options | None, redaction: Redaction | None = None, key: CipherKey | None = None
    ) -> None:
        """Use ``eventlog.open``. Without options the log is only read."""
        self.path = path
        self.key = cipher_key(None, str(path)) if key is None else key
        self.redaction = redaction or (options.redaction if options is not None else Redaction())
        self._writer: Writer | None = writer.acquire(path, options) if options is not None else None
        self._reader: Reader | None = Reader(path, self.key) if options is None else None
        self._left: list[Reader] = []
        """Readers of files that were replaced."""
        self._closed = False
        with _logs_lock:
            _logs.add(self)

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Write what is queued and close; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for reader in (self._reader, *self._left):
            if reader is not None:
                reader.close()
        if self._writer is not None:
            writer.release(self._writer)

    # -- writing --------------------------------------------------------------------------------

    @property
    def writer(self) -> Writer:
        """What writes to this file.

        Raises:
            LogUnwritableError: the log was opened for reading only.
            LogClosedError: it was closed.
        """
        if self._closed:
            raise errors.LogClosedError
        if self._writer is None:
            raise errors.LogUnwritableError(str(self.path), "opened for reading only")
        return self._writer

    def clean_name(self, name: str) -> str:
        """Return the name of a run as it is stored, without secrets.

        Raises:
            LogClosedError: the log was closed.
        """
        return name if self._writer is None and not self._closed else self.writer.encoder.text(name)

    def run(
        self, run: str, *, branch: str | None = None, items: Items | None = None, on_change: str = "adapt",
        on_tool: Any = "rerun", takeover: bool = False,
    ) -> Run:  # fmt: skip
        """Return the run of that name; entered (``with``), it captures what happens inside.

        The same name later, in any process, is the same run: ``run.kickoff`` goes on with what is
        unfinished. ``on_change`` says what happens when the code was edited meanwhile: ``adapt`` (go
        live from the first difference), ``strict`` (stop there), ``lenient`` (take recorded answers by
        position). ``on_tool`` is for tools that were under way when a process ended: ``rerun``,
        ``ask`` (on the terminal), ``fail``, a mapping of tool names or paths to results, or a function
        that returns the result. ``takeover`` takes the branch from another living process. ``items`` are the steps
        of a long pipeline, in order, or a mapping of each to those that come before it: see ``run.step``. Without
        ``branch`` it is ``main``, or the one that ``eventlog resume --branch`` goes on with.
        """
        branch = branch or resumed_branches.get((str(self.path.resolve()), run), MAIN_BRANCH)
        return Run(self, run, branch, RunOptions(on_change=on_change, on_tool=on_tool, takeover=takeover), items)

    def ledger(self, run: str, *, branch: str = MAIN_BRANCH) -> Ledger:
        """Return the steps, features and memory of a run, for who looks at them or says something about them."""
        return Ledger(self, run, branch)

    def memory(self, namespace: str | None = None, *, embedder: Embed | None = None) -> Memory:
        """Return what was remembered in a namespace, outside of every run; without one, to search all of them.

        ``embedder`` gives each text a vector; then a search ranks by meaning as well.
        """
        return Memory(self, namespace=namespace, embedder=embedder)

    def sessions(self, to: str | int | None = None) -> list[Session]:
        """Return how far every run with steps had come on its main branch at a cursor of the log, in their order.

        Raises:
            NotFoundError, AmbiguousCursorError: the cursor means nothing, or too much.
        """
        moment = None if to is None else find_moment(self.reader, to)
        found = (self.ledger(name).session(moment) for name in self.reader.runs_with(SESSION_TYPES))
        return [session for session in found if session.cursor]

    def append(
        self,
        event_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        run: str | None = None,
        branch: str = MAIN_BRANCH,
        event_id: str | None = None,
        expected_seq: int | None = None,
    ) -> int:
        """Append an event of your own and return its seq, after its commit in every durability mode.

        ``event_type`` needs a dot and must not begin with ``eventlog.``. An ``event_id`` the run
        already has appends nothing and returns the seq of the event that is there. With
        ``expected_seq`` the append happens only if that is the branch's last seq (0: it is empty).

        Raises:
            SequenceConflictError: the branch moved on; read it again.
            BranchNotFoundError: the run has no such branch; a fork makes one.
            AppendError: the event could not be stored; nothing of it is in the log.
        """
        require_users_type(event_type)
        if (other := writer.instead.get()) is not None:
            branch, expected_seq = MAIN_BRANCH, None
        made = compose_event(other or self.writer, event_type, payload or {}, run, branch, event_id)
        return submit_events(other or self.writer, [made], expected_seq)[0]

    def append_many(
        self, events: Iterable[tuple[str, Mapping[str, Any]]], *, run: str | None = None, branch: str = MAIN_BRANCH
    ) -> list[int]:
        """Append (type, payload) pairs in one transaction, all or none, and return their seqs.

        Raises:
            AppendError: they could not be stored; nothing of them is in the log.
        """
        other = writer.instead.get()
        to, branch = (self.writer, branch) if other is None else (other, MAIN_BRANCH)
        pairs = list(events)
        for event_type, _ in pairs:
            require_users_type(event_type)
        return submit_events(to, [compose_event(to, kind, payload, run, branch) for kind, payload in pairs])

    def flush(self, timeout_s: float | None = 30.0) -> bool:
        """Wait until everything captured so far is committed; false if that did not happen in time."""
        return self.writer.pipeline.flush(timeout_s)

    def status(self) -> Status:
        """Return what happened to the events of this process: captured, committed, lost, and why."""
        return self.writer.status()

    def fork(
        self,
        run: str,
        *,
        to: str | int | None = None,
        branch: str | None = None,
        parent: str = MAIN_BRANCH,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, str] | None = None,
    ) -> BranchInfo:
        """Return a new branch that begins at a cursor of ``parent`` (default: its newest event); nothing is copied.

        ``inputs`` replace those of the last kickoff at the cursor. ``outputs`` give tasks (by name, key, ``#number``,
        agent or path) another output; what was derived from either will run again, the rest will not. The parent
        stays as it is; both may grow, also at the same time.

        Raises:
            NotFoundError, AmbiguousCursorError: no such run, branch or cursor.
            BranchExistsError, BranchNameError: choose another name.
            EditError: there is no such task or kickoff at the cursor.
            AppendError: the file cannot be written.
        """
        made = make_fork(
            self.reader, self.writer, run, to=to, branch=branch, parent=parent, inputs=inputs, outputs=outputs
        )
        return list_branches(self.reader, run, made.branch)[0]

    def snapshot(self, run: str, *, branch: str = MAIN_BRANCH, to: str | int | None = None) -> Snapshot:
        """Store the state at a cursor as a checkpoint and return it. Raises on failure.

        Raises:
            NotFoundError: no such run, branch or cursor.
            AppendError: it could not be stored.
        """
        at = self.cursor(to, run, branch)
        state = rebuild_state(self.reader, run, branch, at.seq)
        text = msgspec.json.encode(state).decode()
        row = self.reader.branch_id(run, branch)
        facts = (row, at.seq, "checkpoint", STATE_PROJECTION, FOLD_VERSION, "manual", time.time_ns(), text)
        self.writer.pipeline.run_exclusively(lambda appender: appender.write_snapshot(facts))
        return Snapshot(run, branch, at.seq, len(text))

    async def asnapshot(self, run: str, *, branch: str = MAIN_BRANCH, to: str | int | None = None) -> Snapshot:
        """``snapshot`` without blocking the event loop."""
        import asyncio  # noqa: PLC0415 - 40 ms that only this method needs

        return await asyncio.to_thread(self.snapshot, run, branch=branch, to=to)

    def compact(
        self,
        max_checkpoints: int = 5,
        *,
        run: str | None = None,
        older_than: float | timedelta | None = None,
        archive: str | os.PathLike[str] | None = None,
        keep_tape: bool = False,
        dry_run: bool = False,
        progress: Progress = no_progress,
    ) -> CompactionReport:
        """Drop the events before the oldest of the newest ``max_checkpoints`` checkpoints of each branch.

        A branch without checkpoints is cut at its head, or at the end of its last task or method when it is
        unfinished. What the runs still need stays: outcomes, definitions, the recorded answers of what is unfinished,
        what forks begin with. States, resuming and forks from the cut on are what they were; earlier cursors raise
        ``CompactedError``, and so does executing again, unless ``keep_tape`` retains all that it needs.

        ``run``: only this one. ``older_than``: only runs quiet for so many seconds. ``archive``: a log that takes the
        events that go. Other processes may go on writing.

        Raises:
            RunNotFoundError: no such run.
            AppendError, LogOpenError: the log, or the archive, cannot be written.
        """
        seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than or 0
        runs = tuple(info.run for info in self.runs()) if run is None else (run,)
        wish = Wish(
            max_checkpoints=max_checkpoints, runs=runs, older_than_ns=int(seconds * 1e9), keeps_tape=keep_tape,
            archive=None if archive is None else Path(archive), dry_run=dry_run,
        )  # fmt: skip
        self.writer.snapshots.catch_up()  # checkpoints that are due count
        return compact(self.writer.pipeline, self.reader, wish, progress)

    def forget(
        self, *, value: str | None = None, event: str | int | None = None, dry_run: bool = False
    ) -> ForgetReport:
        """Take a secret out of the log wherever it stands (``value``), or the payload of one event (``event``: its id).

        What is changed keeps its digest and gets a tombstone that proves it as it is then. Stored states are folded
        anew, free pages are overwritten, and no copy is left in the file or its WAL; ``report.unfinished`` says what
        could not be done. Backups, exports, archives and what other processes still have in memory are not touched.
        This process does not record the value again, if it has 8 characters or more; for other processes give it as
        ``Redaction(values=…)``. A ``dry_run`` only counts, also in a log that is open for reading.

        Raises:
            ForgetError: it cannot be taken out; nothing was changed.
            NotFoundError, AmbiguousCursorError: no such event, or several.
            AppendError: the file cannot be written at the moment; nothing was changed.
        """
        if (value is None) == (event is None):
            raise errors.ForgetError("say what to forget: a value or an event, one of them")
        reader, pipeline = self.reader, None if dry_run else self.writer.pipeline
        if value is None:
            return forget_event(reader, pipeline, find_event(reader, str(event)).seq)
        return forget_value(reader, pipeline, value, lambda: self.writer.encoder.redactor.learn_all([value]))

    # -- executing again --------------------------------------------------------------------------

    def reexecute(
        self, run: str, entity: Any, inputs: Any = None, *, branch: str = MAIN_BRANCH, **options: Any
    ) -> Reexecution:
        """Run a recorded kickoff of a crew, flow, agent or task again and return whether it did the same.

        All code runs again, and everything it asks is answered from the log: no model call, no tool,
        no person. What is not on record is refused. Nothing is appended. Give an object that has not
        run yet: CrewAI keeps counters and caches in one that has, and goes on with them. ``inputs``
        (``messages`` of an agent, ``context`` of a task) tell which kickoff is meant; without them the
        newest. ``options`` go to the entity's own kickoff.

        Raises:
            NotFoundError: no such run or branch, or it holds no such kickoff.
        """
        from eventlog.resume.reexecute import Request, reexecute  # noqa: PLC0415 - imports CrewAI

        return reexecute(self.reader, run, branch, self.redaction, Request(entity, inputs, options))

    async def areexecute(
        self, run: str, entity: Any, inputs: Any = None, *, branch: str = MAIN_BRANCH, **options: Any
    ) -> Reexecution:
        """``reexecute`` without blocking the event loop, through the entity's own asynchronous kickoff."""
        from eventlog.resume.reexecute import Request, areexecute  # noqa: PLC0415 - imports CrewAI

        return await areexecute(self.reader, run, branch, self.redaction, Request(entity, inputs, options))

    def reexecuting(self, run: str, *, branch: str = MAIN_BRANCH) -> AbstractContextManager[RunReexecutor]:
        """Run every plain kickoff in a block again from the record of a run; ``results`` of what it gives tells more.

        Raises:
            NotFoundError: no such run or branch.
        """
        from eventlog.resume.reexecute import reexecution  # noqa: PLC0415 - imports CrewAI

        return reexecution(self.reader, run, branch, self.redaction)

    # -- reading --------------------------------------------------------------------------------

    @property
    def reader(self) -> Reader:
        """What reads this file; sees everything captured so far.

        Raises:
            LogClosedError: the log was closed.
        """
        if self._closed:
            raise errors.LogClosedError
        if self._writer is not None:
            self._writer.pipeline.flush(timeout_s=5.0)
        with _logs_lock:
            if self._reader is not None and self._reader.has_moved():
                former = self._reader
                self._reader = former.successor() if self._writer is None else self._writer.next_reader(former)
                self._left.append(former)  # somebody may be in the middle of reading it
            if self._reader is None:
                self._reader = Reader(self.path, self.key)
            return self._reader

    def events(
        self,
        run: str | None = None,
        branch: str | None = None,
        *,
        after: int = 0,
        to: str | int | None = None,
        types: Iterable[str] | None = None,
    ) -> Iterator[Event]:
        """Yield events in order: of a run's branch with its ancestors, or (no run) of the whole log.

        ``after`` is exclusive, ``to`` inclusive; ``types`` may end in ``*``. Memory stays
        constant however long the log is; each event stays valid after the log is closed.

        Raises:
            NotFoundError: no such run, branch or cursor.
        """
        reader = self.reader
        if run is None:
            return reader.events(None, after, SEQ_MAX if to in (None, "latest") else int(to or 0), types)
        name = branch or MAIN_BRANCH
        at = SEQ_MAX if to is None else self.cursor(to, run, name).seq
        return reader.events(reader.branch_id(run, name), after, at, types)

    def state(self, run: str | None = None, *, branch: str = MAIN_BRANCH, to: str | int | None = None) -> RunState:
        """Return the state of a run at a cursor; of the latest run when none is named.

        At the head, a branch that did not end and whose owner is gone reads ``interrupted``.
        Values are as a reader wants them: large ones filled in, tags made readable.

        Raises:
            NotFoundError: no such run, branch or cursor.
        """
        name = run if run is not None else self.latest_run()
        at = self.cursor(to, name, branch)
        state = rebuild_state(self.reader, name, branch, at.seq)
        row = self.reader.branch_id(name, branch)
        if state.status == "running" and at.seq == self.reader.head(row):
            state.status = unended(started=bool(state.executions), owned=is_owned(self.reader, row))
        return msgspec.convert(shown_state(self.reader, state), RunState)

    def project(
        self, projection: Projection, run: str, *, branch: str = MAIN_BRANCH, to: str | int | None = None
    ) -> Any:
        """Return the state of a projection of yours at a cursor.

        Raises:
            NotFoundError: no such run, branch or cursor.
        """
        return rebuild_projection(self.reader, projection, run, branch, self.cursor(to, run, branch).seq)

    def cursor(self, text: str | int | None, run: str, branch: str = MAIN_BRANCH) -> Cursor:
        """Return what a cursor means on a branch: a seq, ``latest``, an ISO time, a checkpoint or event id.

        Raises:
            NotFoundError, AmbiguousCursorError: it means nothing there, or too much.
        """
        return find_cursor(self.reader, text, run, branch)

    def latest_run(self) -> str:
        """Return the run that an event was appended to last.

        Raises:
            RunNotFoundError: the log has no run.
        """
        sql = (
            "SELECT r.name FROM events AS e JOIN runs AS r ON r.id = e.run WHERE e.run > 0 ORDER BY e.seq DESC LIMIT 1"
        )
        rows = self.reader.query(sql)
        if not rows:
            raise errors.RunNotFoundError("latest")
        return str(rows[0][0])

    def runs(self) -> list[RunInfo]:
        """Return all runs, oldest first."""
        return list_runs(self.reader)

    def branches(self, run: str) -> list[BranchInfo]:
        """Return the branches of a run, oldest first.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return list_branches(self.reader, run)

    def verify(self, *, deep: bool = False, head: str | None = None, run: str | None = None) -> VerifyReport:
        """Return whether the log, or one run of it, holds together; what is damaged is a finding, not an error.

        Without a key it finds accidental damage; with ``EVENTLOG_KEY``, set when the log was made and now, tampering
        too. A cut tail shows only against a ``head`` that was kept elsewhere (``report.head``). ``deep`` also folds
        every stored state again.

        Raises:
            ChainKeyError: ``EVENTLOG_KEY`` is another key than the one the log was made with.
            NotFoundError: there is no such run.
            HeadFormatError: ``head`` is none.
        """
        from eventlog.verifying.verify import Wish, verify_log  # noqa: PLC0415 - reading needs none of it

        _ = self.reader  # what was captured so far is there
        return verify_log(self.path, Wish(deep=deep, head=head, run=run), key=self.key)

    def backup(self, path: str | os.PathLike[str]) -> Backup:
        """Return a copy of the log as it stands now, verified, made while everybody goes on writing.

        The new file is private (0600) and complete or not there; one that exists is never overwritten.

        Raises:
            LogUnwritableError: there is something of that name, or no space; nothing was left.
            LogDamagedError: the log does not hold together; no copy was kept.
        """
        from eventlog.backup import make_backup  # noqa: PLC0415 - reading needs none of it

        _ = self.reader  # what was captured so far is there
        return make_backup(self.path, Path(path), key=self.key)

    def executions(self, run: str, *, branch: str = MAIN_BRANCH) -> list[ExecutionInfo]:
        """Return the kickoffs of a branch in the order they started.

        Raises:
            NotFoundError: no such run or branch.
        """
        return self.reader.executions(self.reader.branch_id(run, branch))


def open_log(
    path: str | os.PathLike[str] | None = None,
    *,
    readonly: bool = False,
    durability: Durability = "commit",
    batch_ms: float = 20,
    redaction: Redaction = Redaction(),  # noqa: B008 - frozen
    snapshot_on: Collection[str] = SNAPSHOT_ON,
    omit_payload: Collection[str] = (),
    max_checkpoints: int | None = None,
    compact_events: int = 10_000,
    compact_bytes: int = 64 * 1024 * 1024,
    key: str | bytes | None = None,
) -> Log:
    """Return the log at ``path`` (default: ``EVENTLOG_DB``, else ``./eventlog.db``), made if it is not there.

    ``readonly=True`` never changes the file, and needs it to exist. ``key`` (default: ``EVENTLOG_CIPHER_KEY``, else
    none) encrypts a log that is made, and opens one that is encrypted. The others are those of ``eventlog.Options``.

    Raises:
        LogOpenError: one of its kinds: the file cannot be used as a log; it is unchanged.
        EventLogError: ``omit_payload`` names events of the library's own, which resuming needs.
    """
    if any(name.startswith(OWN_PREFIX) for name in omit_payload):
        raise errors.EventLogError(f"omit_payload: events that begin with {OWN_PREFIX!r} are needed to resume a run")
    where = writer.redirected(Path(path if path is not None else os.environ.get("EVENTLOG_DB", DEFAULT_PATH)))
    secret = cipher_key(key, str(where))
    options = Options(
        durability=durability, batch_ms=batch_ms, redaction=redaction, snapshot_on=snapshot_on,
        omit_payload=omit_payload, max_checkpoints=max_checkpoints, compact_events=compact_events,
        compact_bytes=compact_bytes, key=secret,
    )  # fmt: skip
    return Log(where, None if readonly else options, redaction, secret)


_logs: weakref.WeakSet[Log] = weakref.WeakSet()
_logs_lock = threading.RLock()
_held: list[Reader] = []


def _before_fork() -> None:
    """Nobody may be reading in the moment of the fork: the child will close what it inherits."""
    _logs_lock.acquire()
    for log in _logs:
        for reader in (log._reader, log._writer.snapshots._reader if log._writer else None):  # noqa: SLF001
            if reader is not None:
                reader.handle.lock.acquire()
                _held.append(reader)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().handle.lock.release()
    _logs_lock.release()


def _after_fork_in_child() -> None:
    """Connections must be the child's own; they are opened when needed."""
    while _held:
        reader = _held.pop()
        storage.inherited.append(reader.handle.db)
        reader.handle.lock.release()
    for log in _logs:
        log._reader = None  # noqa: SLF001
        if log._writer is not None:  # noqa: SLF001
            log._writer.after_fork_in_child()  # noqa: SLF001
    _logs_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
