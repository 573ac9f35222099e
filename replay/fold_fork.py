"""Folds the edits a fork begins with. Pure.

``{"inputs": {NAME: value}, "outputs": {TASK: text}, "reset": [TASK, ...]}``; TASK is the key, name
or id of a task of the execution at the event's path, or of the last root execution when the path is
empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from eventlog.record import StoredEvent
from eventlog.replay.folding import Folding, Step, reading
from eventlog.replay.path import execution_of
from eventlog.replay.state import TaskState


class ForkEdited(msgspec.Struct):
    """Of ``eventlog.fork_edited``."""

    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    reset: list[str] = []
    """Tasks that used what was edited and have to run again."""


def _edited(work: Folding, event: StoredEvent, payload: ForkEdited) -> None:
    """Put the edited values where the recorded ones stood."""
    execution = execution_of(event.path) or work.state.root
    if payload.inputs:
        _edit_inputs(work, execution, payload.inputs)
    for name, output in payload.outputs.items():
        for task in _named(work, execution, name):
            task.output, task.status, task.completed_seq, task.error = output, "completed", event.seq, None
    for name in payload.reset:
        for task in _named(work, execution, name):
            task.output, task.status, task.completed_seq, task.error = None, "pending", None, None


def _edit_inputs(work: Folding, execution: str, edits: dict[str, Any]) -> None:
    """Replace some inputs of an execution."""
    row = work.executions.get(execution)
    if row is not None:
        row.inputs = {**row.inputs, **edits} if isinstance(row.inputs, dict) else edits
        if execution == work.state.root:
            work.state.inputs = row.inputs


def _named(work: Folding, execution: str, name: str) -> Iterator[TaskState]:
    """Yield the tasks of an execution that ``name`` means."""
    return (task for task in work.tasks.of(execution) if name in (task.key, task.name, task.id))


STEPS: dict[str, Step] = {"eventlog.fork_edited": reading(ForkEdited, _edited)}
