"""The state of a run: what the fold makes of its events. Pure.

``msgspec.json.encode(state)`` is both what ``--json`` shows and what a snapshot stores. Values that
came from payloads are trees as stored: ``values.resolve`` fills in large ones, ``values.plain``
makes them readable.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import msgspec

from eventlog.record import ExecutionKind

ExecutionStatus = Literal["running", "completed", "failed", "interrupted", "paused"]
TaskStatus = Literal["pending", "running", "completed", "failed", "skipped"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class ExecutionState(msgspec.Struct, kw_only=True):
    """One kickoff."""

    path: str
    parent: str | None = None
    """Path of the execution it ran inside; ``None`` for a root."""
    kind: ExecutionKind
    name: str = ""
    status: ExecutionStatus = "running"
    inputs: Any = None
    """Crew and flow: the inputs; agent: the messages; task: the context."""
    error: Any = None
    started_seq: int = 0
    """The newest start: a resumed execution starts again."""
    ended_seq: int | None = None


class TaskState(msgspec.Struct, kw_only=True):
    """One task of one execution, in definition order; a task nobody defined stands where it first appeared."""

    execution: str
    key: str = ""
    name: str = ""
    description: Any = ""
    agent: str = ""
    """Role of the agent that worked on it last: a manager's, in a hierarchical crew; before, of the one assigned."""
    status: TaskStatus = "pending"
    """A task that was at work when its execution was interrupted stays ``running`` until that starts again."""
    output: Any = None
    """The raw output of the newest completion."""
    started_seq: int | None = None
    completed_seq: int | None = None
    """When it completed or failed."""
    attempts: int = 0
    """Agent executions started for it: 1 normally, more after a guardrail's or an error's retry or a resume."""
    error: Any = None
    id: str = ""
    """CrewAI's id in the newest process; it changes with every process."""
    path: str = ""
    """Where it ran; empty before its first start."""


class MethodState(msgspec.Struct, kw_only=True):
    """One method of a flow."""

    execution: str
    name: str
    status: ExecutionStatus = "running"
    result: Any = None
    """Result of the newest run."""
    runs: int = 0
    """How often it started."""
    error: Any = None


class ModelUse(msgspec.Struct, kw_only=True):
    """Calls one model answered, and their tokens."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class LlmUse(ModelUse, kw_only=True):
    """Calls all models answered, and their tokens."""

    failed: int = 0
    """Calls that raised; they are not among ``calls``."""
    by_model: dict[str, ModelUse] = {}


class ToolUse(msgspec.Struct, kw_only=True):
    """Uses of one tool."""

    name: str
    calls: int = 0
    """All that ended, well or badly; a retry is a call."""
    errors: int = 0
    """Those that raised or reported a failure."""


class OpenScope(msgspec.Struct, kw_only=True):
    """Something that started and has not ended."""

    type: str
    """Type of the event that opened it."""
    name: str
    event_id: str
    seq: int
    path: str = ""


class Gap(msgspec.Struct, kw_only=True):
    """Events that could not be stored."""

    seq: int
    """Position of the record that says so."""
    dropped: int


class RunState(msgspec.Struct, kw_only=True):
    """A run at a cursor of one of its branches."""

    run: str
    branch: str
    cursor: int = 0
    """Seq of the newest event folded; 0 before the first."""
    status: ExecutionStatus = "running"
    """That of the root execution that started last."""
    kind: ExecutionKind | None = None
    name: str = ""
    inputs: Any = None
    executions: list[ExecutionState] = []
    tasks: list[TaskState] = []
    methods: list[MethodState] = []
    flow_state: Any = None
    """State of the outermost flow that moved last."""
    llm: LlmUse = msgspec.field(default_factory=LlmUse)
    tools: list[ToolUse] = []
    open: list[OpenScope] = []
    """Scopes at work, oldest first; CrewAI's internal flows are left out."""
    error: Any = None
    """Why the last root execution did not complete."""
    started_at: str | None = None
    """ISO 8601, UTC."""
    updated_at: str | None = None
    event_count: int = 0
    unknown_types: dict[str, int] = {}
    """Event types this version does not know, counted: a newer CrewAI, or classes of the user's."""
    user_types: dict[str, int] = {}
    """Events the user appended, by type."""
    malformed: int = 0
    """Payloads that were not what their type promises; their headers were folded."""
    gaps: list[Gap] = []
    root: str = ""
    """Path of the last root execution."""
    flow: str = ""
    """Path of the flow that ``flow_state`` belongs to."""


def copy_state(state: RunState) -> RunState:
    """Return a copy that shares nothing with ``state``."""
    return msgspec.json.decode(msgspec.json.encode(state), type=RunState)


def iso_utc(at_ns: int) -> str:
    """Return nanoseconds since the Unix epoch as ISO 8601; a time outside the years 1 to 9999 as the nearest end."""
    try:
        moment = _EPOCH + timedelta(microseconds=at_ns // 1000)
    except OverflowError:
        return "9999-12-31T23:59:59.999999Z" if at_ns > 0 else "0001-01-01T00:00:00.000000Z"
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
