"""Everything that can go wrong, in one tree. Each error says what, where, and what to do next.

::

    EventLogError
    ├── LogOpenError            the file cannot be used as an event log
    │   ├── LogNotFoundError        there is no file
    │   ├── NotAnEventLogError      another program's file, or one changed by hand
    │   ├── LogDamagedError         SQLite or the log's own rules say it is broken
    │   ├── LogMovedError           its path leads to no file, or to another one, while it is open
    │   ├── FormatTooNewError       written by a newer version
    │   ├── ChainKeyError           its chain of digests needs another key (EVENTLOG_KEY)
    │   ├── CipherKeyError          it is encrypted, and the key is missing or wrong
    │   │   └── NotEncryptedError       a key was given, and it is not
    │   └── LogUnwritableError      read-only place or full disk
    ├── EncryptedLogError       CrewAI's own checkpoint tools cannot read an encrypted log
    ├── LogClosedError          used after close()
    ├── RunBusyError            another process is working on the branch of the run
    ├── LeaseLostError          another process took the branch of the run over
    ├── StepError               a step of a pipeline is not to be done now
    │   ├── StepBlockedError        somebody blocked it
    │   ├── StepBusyError           another worker has it
    │   ├── StepOrderError          what it depends on is not done
    │   └── StaleStepError          its result is of other inputs, and on_stale="fail"
    ├── BranchExistsError       the run has a branch of that name already
    ├── BranchNameError         a branch cannot be called that
    ├── EditError               what a fork was to change is not there
    ├── FeatureIncompleteError  a feature cannot be completed: a test step has not passed
    ├── TestStepError           a feature has no such test step
    ├── AppendError             the event could not be stored
    │   └── SequenceConflictError   the branch moved on since the caller looked
    ├── NotFoundError           no such run, branch, event or cursor
    │   ├── RunNotFoundError
    │   ├── BranchNotFoundError
    │   ├── CursorNotFoundError
    │   ├── ExecutionNotFoundError
    │   ├── ItemNotFoundError
    │   ├── FeatureNotFoundError
    │   ├── MemoryNotFoundError
    │   └── SessionNotFoundError
    ├── MemoryScopeError        nobody could tell who may see the memory
    ├── MemoryValueError        there is nothing to remember
    ├── CompactedError          what was asked for lies before the base of its branch
    ├── CompactionError         a branch could not be compacted; it is as it was
    ├── ForgetError             something cannot be taken out of the log; it is as it was
    ├── AmbiguousCursorError    several events match
    ├── EventFormatError        a stored or imported event cannot be read
    └── CaptureError            the tap could not be placed on CrewAI's bus
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class EventLogError(Exception):
    """Base of all errors raised by this library."""

    hint: ClassVar[str] = ""
    """What the reader can do about it; shown by the command line, and by Python 3.11+ below a traceback."""

    def __init__(self, *args: object) -> None:
        """Have the hint shown with the message."""
        super().__init__(*args)
        if self.hint and hasattr(self, "add_note"):
            self.add_note(f"Hint: {self.hint}")


class LogOpenError(EventLogError):
    """The file at ``path`` cannot be used as an event log."""

    def __init__(self, path: str, reason: str = "") -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        """Say which file, then why."""
        return f"{self.path}: {self.reason or 'cannot be opened'}"


class LogNotFoundError(LogOpenError):
    """There is no file at ``path``."""

    hint = "give the log with --db PATH or EVENTLOG_DB, or record one: eventlog record SCRIPT"

    def __str__(self) -> str:
        """Say which file is missing."""
        return f"{self.path}: there is no such log"


class NotAnEventLogError(LogOpenError):
    """The file is not an event log, or its tables, triggers or views differ from ours."""

    hint = "choose another path; this file was left untouched"


class LogDamagedError(LogOpenError):
    """The file is damaged."""

    hint = "copy it with its -wal and -shm first; `eventlog verify` says more, `eventlog repair` saves what it holds"


class LogMovedError(LogOpenError):
    """The path leads to no file any more, or to another one than the one that is open."""

    hint = "stop the programs that use a log before it is moved or replaced; see log.status()"


class FormatTooNewError(LogOpenError):
    """The file was written by a newer format than this version knows."""

    hint = "upgrade: pip install -U crewai-eventlog; the file was left untouched"


class ChainKeyError(LogOpenError):
    """The chain of digests was made with a key, and this process has another one or none."""

    hint = "set EVENTLOG_KEY to what it was when the log was made, or unset it; export and import give it another key"


class CipherKeyError(LogOpenError):
    """The log is encrypted, and the key is missing or wrong."""

    hint = "give the key it was made with: EVENTLOG_CIPHER_KEY or eventlog.open(..., key=...)"


class NotEncryptedError(CipherKeyError):
    """A key was given, and the log is not encrypted: it became what it is when it was made."""

    hint = (
        "leave the key out (unset EVENTLOG_CIPHER_KEY) to use it as it is; to encrypt it, export it without the key:"
        " eventlog export --all -o log.jsonl, and import it with the key: eventlog import log.jsonl --db NEW"
    )


class LogUnwritableError(LogOpenError):
    """The place does not let us write: read-only, no permission or no space."""

    hint = "check permissions and free space, or choose another path"


class EncryptedLogError(EventLogError):
    """CrewAI's checkpoints cannot be kept in, or read from, an encrypted log: its tools read the file themselves."""

    hint = (
        "go on with run.kickoff or eventlog resume, which open it; for CrewAI's checkpoints give the provider"
        " another file, a log without a key"
    )

    def __init__(self, path: str) -> None:
        """Keep the file; ``args`` holds it so pickling works."""
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        """Say which file, then what it has not."""
        return f"{self.path}: it is encrypted, and CrewAI's checkpoint tools cannot open an encrypted log"


class LogClosedError(EventLogError):
    """The log was closed."""

    hint = "open it again with eventlog.open(path)"


class RunBusyError(EventLogError):
    """Another process is working on the branch of the run."""

    hint = "wait for it, stop it, or take over with takeover=True (eventlog resume --takeover)"

    def __init__(self, run: str, owner_text: str, branch: str = "main") -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(run, owner_text, branch)
        self.run, self.owner_text, self.branch = run, owner_text, branch

    def __str__(self) -> str:
        """Say which run and branch, then who."""
        return f"{_place(self.run, self.branch)} is being worked on by {self.owner_text}"


class LeaseLostError(EventLogError):
    """Another process took the branch of the run over; what this one still recorded stands on one of its own."""

    hint = "look at what this process still did: eventlog branches; the run goes on in the other process"

    def __init__(self, run: str, epoch: int, branch: str = "main") -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(run, epoch, branch)
        self.run, self.epoch, self.branch = run, epoch, branch

    def __str__(self) -> str:
        """Say which run and branch, then where our events are."""
        where = f"branch 'stale/{self.epoch}'"
        return f"{_place(self.run, self.branch)} was taken over by another process; later events of this one: {where}"


class StepError(EventLogError):
    """A step of a pipeline is not to be done now."""

    def __init__(self, item: str, reason: str = "") -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(item, reason)
        self.item, self.reason = item, reason

    def __str__(self) -> str:
        """Say which step, then why."""
        return f"step {self.item!r}: {self.reason}" if self.reason else f"step {self.item!r}"


class StepBlockedError(StepError):
    """Somebody blocked it."""

    hint = "run.unblock(item) when the reason is gone"


class StepBusyError(StepError):
    """Another worker has it."""

    hint = "leave out wait=False to wait for its result; a dead worker of this host has nothing"


class StepOrderError(StepError):
    """What it depends on is not done."""

    hint = "call run.step(...) of what it depends on before, in every run of the program"


class StaleStepError(StepError):
    """It is completed, but with other inputs than now, or it was invalidated; and ``on_stale="fail"``."""

    hint = 'on_stale="rerun" does it again, on_stale="keep" takes the result it had'


class BranchExistsError(EventLogError):
    """The run has a branch of that name already."""

    hint = "choose another name, or leave it out to have one made up; list them: eventlog branches"

    def __init__(self, run: str, branch: str) -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(run, branch)
        self.run, self.branch = run, branch

    def __str__(self) -> str:
        """Say which."""
        return f"run {self.run!r} has a branch {self.branch!r} already"


class BranchNameError(EventLogError):
    """A branch cannot be called that: ``RUN/BRANCH@CURSOR`` could not be read any more."""

    hint = "a branch needs a name without '/' and '@', e.g. cheaper-model"

    def __init__(self, branch: str) -> None:
        """Keep the name."""
        super().__init__(branch)
        self.branch = branch

    def __str__(self) -> str:
        """Say which name."""
        return f"a branch cannot be called {self.branch!r}"


class EditError(EventLogError):
    """What a fork was to change is not there at its cursor, or cannot be changed."""

    hint = "name a task by its name, key, number (#2), agent or path, as eventlog replay shows it at that event"


class FeatureIncompleteError(EventLogError):
    """A feature cannot be completed: a test step has not passed."""

    hint = "let each of them pass, or say why that does not matter: complete(force=REASON)"

    def __init__(self, feature: str, missing: Sequence[str]) -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(feature, missing)
        self.feature, self.missing = feature, missing

    def __str__(self) -> str:
        """Say which feature, then which test steps."""
        steps = ", ".join(map(repr, self.missing))
        return f"feature {self.feature!r} is not complete, these test steps have not passed: {steps}"


class TestStepError(EventLogError):
    """A feature has no such test step."""

    __test__ = False  # its name is no test's, whatever pytest thinks
    hint = "name a test step as it was defined; list them: eventlog feature show RUN FEATURE"

    def __init__(self, feature: str, step: str, steps: Sequence[str]) -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(feature, step, steps)
        self.feature, self.step, self.steps = feature, step, steps

    def __str__(self) -> str:
        """Say what was named, then what there is."""
        steps = ", ".join(map(repr, self.steps)) or "none"
        return f"feature {self.feature!r} has no test step {self.step!r}; it has: {steps}"


class AppendError(EventLogError):
    """The event could not be stored; nothing of it is in the log."""

    hint = "see log.status() for the cause"


class SequenceConflictError(AppendError):
    """The branch moved on between the caller's read and this write."""

    hint = "re-read the branch from the actual seq and append again"

    def __init__(self, branch: str, expected: int, actual: int) -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(branch, expected, actual)
        self.branch, self.expected, self.actual = branch, expected, actual

    def __str__(self) -> str:
        """Say what was expected, then what is."""
        return f"branch {self.branch}: expected last seq {self.expected}, log has {self.actual}"


class NotFoundError(EventLogError):
    """The log has nothing under that name."""

    what: ClassVar[str] = "entry"

    def __init__(self, name: str) -> None:
        """Keep the name that was asked for."""
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        """Say what was looked for."""
        return f"no {self.what} {self.name!r} in this log"


class RunNotFoundError(NotFoundError):
    """No run has that name."""

    what = "run"
    hint = "list them: eventlog runs"


class BranchNotFoundError(NotFoundError):
    """The run has no branch of that name."""

    what = "branch"
    hint = "list the runs and their branches: eventlog runs"


class CursorNotFoundError(NotFoundError):
    """No event, time or checkpoint of the lineage matches the cursor."""

    what = "event"
    hint = "a cursor is a seq, 'latest', an ISO time or an event id (6 characters or more); see: eventlog log"


class ItemNotFoundError(NotFoundError):
    """A session has no such item."""

    what = "item"
    hint = "write it as eventlog session show RUN does; a session knows its items once its program has begun"

    def __init__(self, name: str, run: str, items: list[str]) -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(name)
        self.args = (name, run, items)
        self.run, self.items = run, items

    def __str__(self) -> str:
        """Say which item, of which session, and what there is."""
        known = ", ".join(self.items[:20]) or "none yet"
        return f"no item {self.name!r} in session {self.run!r}; there are: {known}"


class ExecutionNotFoundError(NotFoundError):
    """The run holds no kickoff of that crew, flow, agent or task with those inputs."""

    what = "execution"
    hint = "give the inputs it had, or none for those of the newest one; list what there is: eventlog replay RUN"

    def __init__(self, run: str, name: str) -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(name)
        self.args = (run, name)
        self.run = run

    def __str__(self) -> str:
        """Say what was looked for, and where."""
        return f"no execution {self.name!r} with these inputs in run {self.run!r}"


class FeatureNotFoundError(NotFoundError):
    """Nobody defined a feature of that name."""

    what = "feature"
    hint = "define it with a description or test steps; list what there is: eventlog feature list"


class SessionNotFoundError(NotFoundError):
    """The log holds no session of that name."""

    what = "session"
    hint = "begin it with create_session, or list the runs: eventlog runs"


class MemoryNotFoundError(NotFoundError):
    """There is no such memory, or whoever asks may not see it; it may have been deleted."""

    what = "memory"
    hint = "list them: eventlog memory list (private ones only with --agent)"


class MemoryScopeError(EventLogError):
    """It is not clear who may see the memory; nothing was saved."""

    hint = "scope is agent-private (with an agent), agent-shared or global; outside of a run, name the namespace"


class MemoryValueError(EventLogError):
    """There is nothing to remember; nothing was saved."""

    hint = "give a text, or another JSON value that is not empty"


class CompactedError(EventLogError):
    """The events asked for were dropped by compaction: the branch begins at its base."""

    hint = "choose a later cursor; earlier events are in the archive, if compaction was given one"

    def __init__(self, run: str, branch: str, oldest: int, what: str = "") -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(run, branch, oldest, what)
        self.run, self.branch, self.oldest, self.what = run, branch, oldest, what

    def __str__(self) -> str:
        """Say what is gone, then where replaying can begin."""
        what = self.what or "its earlier events"
        return f"{_place(self.run, self.branch)} was compacted, {what} are gone; the oldest cursor is {self.oldest}"


class CompactionError(EventLogError):
    """A branch could not be compacted; it is as it was."""

    hint = (
        "try again; check the log: eventlog verify; name the module of a projection: eventlog compact --import MODULE"
    )

    def __init__(self, run: str, branch: str, reason: str) -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(run, branch, reason)
        self.run, self.branch, self.reason = run, branch, reason

    def __str__(self) -> str:
        """Say which branch, then why."""
        return f"{_place(self.run, self.branch)} was not compacted: {self.reason}"


class ForgetError(EventLogError):
    """Something cannot be taken out of the log, which is as it was. The text never holds what was to be forgotten."""

    hint = "see eventlog forget --help for what can be forgotten, and how"


class AmbiguousCursorError(EventLogError):
    """An event id prefix matches several events."""

    hint = "give more characters of the id"

    def __init__(self, prefix: str, matches: int) -> None:
        """Keep the prefix and how many events it matches."""
        super().__init__(prefix, matches)
        self.prefix, self.matches = prefix, matches

    def __str__(self) -> str:
        """Say how many events match."""
        return f"{self.matches} events begin with {self.prefix!r}"


class EventFormatError(EventLogError):
    """A stored or imported event cannot be read."""

    hint = "the log may be damaged or made by another program"


class CaptureError(EventLogError):
    """The tap could not be placed on CrewAI's event bus."""

    hint = "check that crewai>=1.15.30,<1.16 is installed"


def _place(run: str, branch: str) -> str:
    """Return a run and its branch as a message begins; ``main`` goes without saying."""
    return f"run {run!r}" if branch == "main" else f"branch {branch!r} of run {run!r}"
