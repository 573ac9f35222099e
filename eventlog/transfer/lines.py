"""The form in which events travel from one log to another: JSON Lines. Pure.

::

    {"format":"eventlog-jsonl","version":1,"runs":[{"run":…,"attribution":…,"branches":[…]}]}
    {"seq":1,"event_id":…,"type":…,"at_ns":…,"run":…,"branch":"main","path":…,"payload":{…}}
    …

Every line stands alone: large values are filled in, tags (``codec.py``) stay. The events of a run
follow each other in order. ``seq`` is where an event stood; an import gives it a new one and
keeps its id, so importing twice is importing once.

Version 2 is written when a branch was compacted: the header has its base, and the events at or below it that are
retained are lines like the others, which name the branches that retain them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from eventlog.bases import Spent
from eventlog.errors import EventFormatError
from eventlog.record import MAIN_BRANCH, ExecutionKind
from eventlog.replay.path import execution_of, kind_of
from eventlog.replay.state import ExecutionStatus

FORMAT, VERSION = "eventlog-jsonl", 1
VERSION_OF_BASES = 2
"""Of files in which a branch has a base."""
DEPTH_MAX = 200
"""Deeper lines are refused: no log of ours makes them."""

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Name = Annotated[str, msgspec.Meta(min_length=1)]
Path = Annotated[str, msgspec.Meta(pattern=r"^(/[^/]+)*$")]

_OPENERS = {
    "crew_kickoff_started": "crew", "flow_started": "flow",
    "lite_agent_execution_started": "agent", "task_started": "task",
}  # fmt: skip
"""Event types that open an execution, if their path is one."""
_CLOSERS = {
    "crew_kickoff_completed": "completed", "crew_kickoff_failed": "failed",
    "flow_finished": "completed", "flow_failed": "failed", "flow_paused": "paused",
    "lite_agent_execution_completed": "completed", "lite_agent_execution_error": "failed",
    "task_completed": "completed", "task_failed": "failed", "eventlog.execution_aborted": "interrupted",
}  # fmt: skip
"""Event types that end the execution at their path, and the status they leave it in."""


class SettledLine(msgspec.Struct):
    """A projection of the user's at a cut."""

    version: int
    state: Any = None


class StandingLine(msgspec.Struct, omit_defaults=True):
    """How an execution stood at a cut: the event that ended it may be gone."""

    path: Path
    status: ExecutionStatus
    ended_seq: Seq | None = None


class BaseLine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What compaction left in the place of a branch's events, in the header."""

    event_id: Name
    """The event at the cut."""
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    """Where it stood; ``seq`` everywhere in the base is counted like that of the lines."""
    state: dict[str, Any]
    """The ``RunState`` at the cut, large values filled in."""
    projections: dict[str, SettledLine] = {}
    spent: list[Spent] = []
    keeps_tape: bool = False
    events: Seq = 0
    """How many are gone."""
    executions: list[StandingLine] = []


class BranchLine(msgspec.Struct, omit_defaults=True):
    """A branch, in the header."""

    branch: Name
    parent: str | None = None
    fork_event_id: str | None = None
    """The last event it inherits."""
    reopened: list[str] = []
    """Paths of executions that had ended at the fork and were made unfinished by its edits."""
    fork_seq: Seq | None = None
    """Where that stood, of a branch with a base: the event may be gone."""
    base: BaseLine | None = None


class RunLine(msgspec.Struct):
    """A run, in the header."""

    run: Name
    attribution: str
    branches: list[BranchLine]
    """Parents before their children."""


class Header(msgspec.Struct):
    """The first line."""

    format: str
    version: int
    runs: list[RunLine]


class ExecutionLine(msgspec.Struct, omit_defaults=True):
    """What the index of executions keeps, on the event that opens one."""

    kind: ExecutionKind
    name: str
    key: str
    inputs_hash: str
    parent: str | None = None


class EventLine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One event."""

    seq: Int64
    event_id: Name
    type: Name
    at_ns: Int64
    run: str | None = None
    branch: str = MAIN_BRANCH
    type_class: str = ""
    parent_event_id: str | None = None
    previous_event_id: str | None = None
    triggered_by_event_id: str | None = None
    started_event_id: str | None = None
    emission_sequence: Int64 | None = None
    task_id: str | None = None
    task_name: str | None = None
    agent_id: str | None = None
    agent_role: str | None = None
    path: Path = ""
    flags: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    execution: ExecutionLine | None = None
    retained_for: list[str] = []
    """Branches whose base needs it: it lies at or below their cuts."""
    payload: dict[str, Any] = {}


class ImportFileError(EventFormatError):
    """A line of an import file is not what it should be."""

    hint = "nothing was imported; export the run again, or mend that line"

    def __init__(self, path: str, line: int, reason: str) -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        super().__init__(path, line, reason)
        self.path, self.line, self.reason = path, line, reason

    def __str__(self) -> str:
        """Say which line, then why."""
        return f"{self.path}: line {self.line}: {self.reason}"


def opens_execution(line: EventLine) -> bool:
    """Whether an event is the start of the execution at its path."""
    kind = _OPENERS.get(line.type)
    return kind is not None and execution_of(line.path) == line.path and kind_of(line.path) == kind


def status_after(line: EventLine) -> str | None:
    """Return the status in which an event leaves the execution at its path; ``None``: it ends none."""
    return _CLOSERS.get(line.type) if line.path and execution_of(line.path) == line.path else None
