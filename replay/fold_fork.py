"""Folds the edits a fork begins with. Pure.

``{"execution": PATH, "inputs": {NAME: value}, "outputs": {TASK: text}, "reset": [TASK, ...]}``; TASK is where a task
runs, ``/crew:3f2a91c0#0/task[9c1b04de]#0``, whether it ran already or not. ``inputs`` are those of ``execution``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.record import StoredEvent
from eventlog.replay.fold_executions import become_root, end_execution
from eventlog.replay.folding import Folding, Step, as_text, reading
from eventlog.replay.path import above, self_and_above


class ForkEdited(msgspec.Struct):
    """Of ``eventlog.fork_edited``."""

    execution: Any = None
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    reset: list[str] = []
    """Tasks that used what was edited and have to run again."""


def _edited(work: Folding, event: StoredEvent, payload: ForkEdited) -> None:
    """Put the edited values where the recorded ones stood; what held them goes on."""
    if payload.inputs:
        _edit_inputs(work, as_text(payload.execution) or work.state.root, payload.inputs)
    for place in payload.reset:
        _reset(work, place)
    for place, output in payload.outputs.items():
        _complete(work, event, place, output)


def _edit_inputs(work: Folding, execution: str, edits: dict[str, Any]) -> None:
    """Replace some inputs of an execution."""
    row = work.executions.get(execution)
    if row is not None:
        row.inputs = {**row.inputs, **edits} if isinstance(row.inputs, dict) else edits
        if execution == work.state.root:
            work.state.inputs = row.inputs
    _go_on(work, execution)


def _reset(work: Folding, place: str) -> None:
    """A task has to run again."""
    task = work.tasks.by_place(place)
    if task is not None:
        task.status, task.output, task.error = "pending", None, None
        task.started_seq, task.completed_seq = None, None
    _go_on(work, place)


def _complete(work: Folding, event: StoredEvent, place: str, output: Any) -> None:
    """A task has the output it was given."""
    task = work.tasks.by_place(place)
    if task is not None:
        task.status, task.output, task.error, task.completed_seq = "completed", output, None, event.seq
    _go_on(work, above(place))
    end_execution(work, event, place, "completed")  # a task outside a crew is an execution itself


def _go_on(work: Folding, path: str) -> None:
    """The executions at and above a path are unfinished, however they had ended."""
    for place in self_and_above(path):
        row = work.executions.get(place)
        if row is not None and row.status != "running":
            row.status, row.error, row.ended_seq = "running", None, None
            if row.parent is None:
                become_root(work, row)


STEPS: dict[str, Step] = {"eventlog.fork_edited": reading(ForkEdited, _edited)}
