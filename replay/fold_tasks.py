"""Folds the life of tasks: defined, started, tried, completed, failed, skipped. Pure.

CrewAI's task ids are new in every process and its ending events may name the wrong scope, so a
task is found by its id within its execution first, then by its path.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.record import FLAG_REPLAYED, StoredEvent
from eventlog.replay.fold_executions import close_below, end_execution, start_execution
from eventlog.replay.folding import Folding, Step, as_text, reading
from eventlog.replay.path import above, execution_of
from eventlog.replay.state import TaskState


class TaskRef(msgspec.Struct):
    """A live task, as a payload refers to it."""

    id: Any = None
    key: Any = None
    name: Any = None


class AgentRef(msgspec.Struct):
    """A live agent, as a payload refers to it."""

    role: Any = None


class TaskStarted(msgspec.Struct):
    """Of ``task_started``."""

    task: TaskRef = msgspec.field(default_factory=TaskRef)
    context: Any = None


class TaskTried(msgspec.Struct):
    """Of ``agent_execution_started``."""

    task: TaskRef = msgspec.field(default_factory=TaskRef)
    agent: AgentRef = msgspec.field(default_factory=AgentRef)


class TaskEnded(msgspec.Struct):
    """Of ``task_completed`` and ``task_failed``."""

    task: TaskRef = msgspec.field(default_factory=TaskRef)
    output: Any = None
    error: Any = None


class TaskSkipped(msgspec.Struct):
    """Of ``eventlog.task_skipped``."""

    task_id: Any = None
    key: Any = None


class DefinedTask(msgspec.Struct):
    """One task of a crew's definition."""

    id: Any = None
    key: Any = None
    name: Any = None
    description: Any = ""
    agent: Any = None


class Definition(msgspec.Struct):
    """Of ``eventlog.definition``."""

    tasks: list[DefinedTask] = []


def _defined(work: Folding, event: StoredEvent, payload: Definition) -> None:
    """List an execution's tasks; after a restart the same keys come with new ids.

    A definition is written before CrewAI fills in the inputs, so what is known of a task already is kept.
    """
    execution = execution_of(event.path)
    seen: dict[str, int] = {}
    for task in payload.tasks:
        key = as_text(task.key)
        rows = work.tasks.by_key(execution, key)
        occurrence = seen.get(key, 0)
        seen[key] = occurrence + 1
        row = rows[occurrence] if occurrence < len(rows) else work.tasks.add(TaskState(execution=execution, key=key))
        row.name = row.name or as_text(task.name)
        row.description = row.description or task.description
        row.agent = row.agent or as_text(task.agent)
        work.tasks.set_id(row, as_text(task.id))


def _started(work: Folding, event: StoredEvent, payload: TaskStarted) -> None:
    """A task begins, perhaps again; outside a crew it is an execution of its own."""
    row = _find_or_add(work, event, payload.task)
    work.tasks.set_path(row, event.path)
    row.name = row.name or as_text(payload.task.name)
    if event.task_name and event.task_name != row.name:
        row.description = event.task_name  # CrewAI: the name, or else the description
    row.agent = row.agent or event.agent_role or ""
    start_execution(work, event, row.name or as_text(row.description), payload.context)
    row.status, row.output, row.error = "running", None, None
    row.started_seq, row.completed_seq = event.seq, None


def _tried(work: Folding, event: StoredEvent, payload: TaskTried) -> None:
    """An agent sets to work on a task; a coworker it delegates to does not count."""
    row = _find(work, event, payload.task) or work.tasks.by_path(above(event.path))
    if row is not None:
        row.attempts += not event.flags & FLAG_REPLAYED
        row.agent = as_text(payload.agent.role) or row.agent


def _completed(work: Folding, event: StoredEvent, payload: TaskEnded) -> None:
    """A task has its output."""
    row = _find_or_add(work, event, payload.task)
    fields = _fields(payload.output)
    row.status, row.completed_seq, row.error = "completed", event.seq, None
    row.output = fields.get("raw", payload.output)
    row.description = fields.get("description", row.description)
    row.agent = as_text(fields.get("agent")) or row.agent
    close_below(work, row.path)
    end_execution(work, event, row.path, "completed")


def _failed(work: Folding, event: StoredEvent, payload: TaskEnded) -> None:
    """A task raised."""
    row = _find_or_add(work, event, payload.task)
    row.status, row.completed_seq, row.error = "failed", event.seq, payload.error
    close_below(work, row.path)
    end_execution(work, event, row.path, "failed", payload.error)


def _skipped(work: Folding, event: StoredEvent, payload: TaskSkipped) -> None:
    """A conditional task was not needed."""
    execution, key = execution_of(event.path), as_text(payload.key)
    row = work.tasks.by_id(execution, as_text(payload.task_id) or event.task_id or "")
    if row is None:
        pending = (task for task in work.tasks.by_key(execution, key) if task.status == "pending")
        row = next(pending, None) or work.tasks.add(TaskState(execution=execution, key=key))
    row.status = "skipped"


def _find(work: Folding, event: StoredEvent, ref: TaskRef) -> TaskState | None:
    """Return the task an event is about, by its id."""
    return work.tasks.by_id(execution_of(event.path), event.task_id or as_text(ref.id))


def _find_or_add(work: Folding, event: StoredEvent, ref: TaskRef) -> TaskState:
    """Return the task an event is about; one that no definition lists is added."""
    row = _find(work, event, ref) or work.tasks.by_path(event.path)
    if row is None:
        row = work.tasks.add(TaskState(execution=execution_of(event.path), key=as_text(ref.key)))
    work.tasks.set_id(row, event.task_id or as_text(ref.id))
    return row


def _fields(output: Any) -> dict[str, Any]:
    """Return the fields of a ``TaskOutput`` tree; none when it is something else."""
    fields = output.get("fields", output) if isinstance(output, dict) else None
    return fields if isinstance(fields, dict) else {}


STEPS: dict[str, Step] = {
    "eventlog.definition": reading(Definition, _defined),
    "task_started": reading(TaskStarted, _started),
    "agent_execution_started": reading(TaskTried, _tried),
    "task_completed": reading(TaskEnded, _completed),
    "task_failed": reading(TaskEnded, _failed),
    "eventlog.task_skipped": reading(TaskSkipped, _skipped),
}
