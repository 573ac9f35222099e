"""A new branch that begins at a cursor of another: one row, and one event for what is edited. Nothing is copied.

What an edit invalidates is found here, once, from the recorded definitions (``replay/downstream.py``) and written
down with the edits; so the fold needs nothing but the event.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from typing import Any
from uuid import uuid4

import msgspec

from eventlog.append import Appender
from eventlog.cursors import find_cursor
from eventlog.errors import BranchNameError, EditError
from eventlog.nesting import decode_payload
from eventlog.read import Reader
from eventlog.record import NewEvent
from eventlog.replay.downstream import Downstream
from eventlog.replay.path import self_and_above
from eventlog.replay.rebuild import rebuild_state
from eventlog.replay.state import RunState, TaskState
from eventlog.replay.task_index import TaskIndex
from eventlog.values import collect_refs, plain, resolve
from eventlog.writer import Writer

KEY_CHARS_MIN = 4
NEAR_EVENTS = 50
"""A definition follows the start of its execution at once; only an imported log may have something in between."""


class Fork(msgspec.Struct, frozen=True):
    """A branch that was made."""

    run: str
    branch: str
    parent: str
    seq: int
    """Cursor on the parent, inclusive, at which it begins."""
    execution: str = ""
    """Path of the kickoff whose inputs were edited."""
    inputs: list[str] = []
    """Names of the edited inputs."""
    outputs: list[str] = []
    """Places of the tasks whose output was edited."""
    reset: list[str] = []
    """Places of the tasks that had begun and will run again."""


def make_fork(
    reader: Reader,
    writer: Writer,
    run: str,
    *,
    to: str | int | None,
    branch: str | None,
    parent: str,
    inputs: Mapping[str, Any] | None,
    outputs: Mapping[str, str] | None,
) -> Fork:
    """Make a branch of ``parent`` at a cursor, with its edits, in one transaction.

    Raises:
        NotFoundError, AmbiguousCursorError: no such run, branch or cursor.
        BranchNameError, BranchExistsError, EditError: see there; nothing was changed.
        AppendError: the file cannot be written; nothing was changed.
    """
    name = None if branch is None else _checked_name(writer.encoder.text(branch))
    at = find_cursor(reader, to, run, parent)
    plan = Fork(run=run, branch=name or "", parent=parent, seq=at.seq)
    event, reopened, publish = None, [], None
    if inputs or outputs:
        state = rebuild_state(reader, run, parent, at.seq)
        chosen = _chosen_tasks(state, outputs or {})
        plan = _planned(reader, state, plan, dict(inputs or {}), chosen)
        event, publish = _edit_event(writer, plan, inputs or {}, chosen)
        reopened = _to_reopen(state, plan)

    def job(appender: Appender) -> str:
        return appender.fork(run, parent, at.seq, name, event, reopened)

    made: str = writer.pipeline.run_exclusively(job)
    if publish is not None:
        publish()
    return msgspec.structs.replace(plan, branch=made)


def _checked_name(name: str) -> str:
    """Refuse a name that the command line could not tell from RUN/BRANCH@CURSOR."""
    if not name.strip() or "/" in name or "@" in name:
        raise BranchNameError(name)
    return name


# -- which tasks -----------------------------------------------------------------------------


def _chosen_tasks(state: RunState, outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the edited outputs by the places of their tasks."""
    chosen: dict[str, str] = {}
    tasks = TaskIndex(state.tasks)
    for name, text in outputs.items():
        given: object = text
        if not isinstance(given, str):
            raise EditError(f"the output of task {name!r} must be text, not {type(given).__name__}")
        place = tasks.place_of(find_task(state, tasks, name))
        if place in chosen:
            raise EditError(f"task {name!r} is edited twice")
        chosen[place] = text
    return chosen


def find_task(state: RunState, tasks: TaskIndex, name: str) -> TaskState:
    """Return the task a person means: by its path, its number (``#2``), name, key or the role of its agent.

    Raises:
        EditError: no task of that name at the cursor, or several.
    """
    exact = tasks.by_place(name)
    if exact is not None:
        return exact
    if name.startswith("#") and name[1:].isdecimal() and 0 < int(name[1:9]) <= len(state.tasks):
        return state.tasks[int(name[1:9]) - 1]
    for found in _matches(state.tasks, name):
        last = [task for task in found if (task.execution + "/").startswith(state.root + "/")]
        for group in (found, last):
            if len(group) == 1:
                return group[0]
        if found:
            raise EditError(f"{len(found)} tasks match {name!r}; take one of: {_listed(tasks, found)}")
    if not state.tasks:
        raise EditError(f"no task {name!r}: there are none at event {state.cursor}")
    raise EditError(f"no task {name!r} at event {state.cursor}; there are: {_listed(tasks, state.tasks)}")


def _matches(rows: list[TaskState], name: str) -> list[list[TaskState]]:
    """Return the tasks that a word may mean, the surest meaning first."""
    is_key = len(name) >= KEY_CHARS_MIN
    return [
        [task for task in rows if task.name == name],
        [task for task in rows if is_key and task.key.startswith(name)],
        [task for task in rows if task.agent == name],
    ]


def _listed(tasks: TaskIndex, rows: list[TaskState]) -> str:
    """Return tasks as a person may name them."""
    shown = [f"{task.name} ({tasks.place_of(task)})" if task.name else tasks.place_of(task) for task in rows[:20]]
    return ", ".join(shown) + (f" and {len(rows) - 20} more" if len(rows) > 20 else "")


# -- what follows from the edits -------------------------------------------------------------


def _planned(reader: Reader, state: RunState, plan: Fork, inputs: dict[str, Any], outputs: Mapping[str, str]) -> Fork:
    """Return the plan with its edits, and with the tasks that used what is edited."""
    root = next((row for row in state.executions if row.path == state.root), None)
    if inputs and (root is None or root.kind not in ("crew", "flow")):
        what = f"the last kickoff is one of {root.kind}s" if root else f"nothing was kicked off by event {state.cursor}"
        raise EditError(f"only inputs of crews and flows can be edited: {what}")
    definitions = _definitions(reader, state, plan)
    reset = Downstream(state, definitions).to_reset(list(outputs), list(inputs), state.root)
    return msgspec.structs.replace(plan, execution=state.root, inputs=list(inputs), outputs=list(outputs), reset=reset)


def _definitions(reader: Reader, state: RunState, plan: Fork) -> dict[str, dict[str, Any]]:
    """Return the newest definition of each execution that has tasks."""
    branch = reader.branch_id(plan.run, plan.parent)
    first = {info.path: info.started_seq for info in reader.executions(branch, plan.seq)}
    found: dict[str, dict[str, Any]] = {}
    with_tasks = {task.execution for task in state.tasks}
    for row in (row for row in state.executions if row.path in with_tasks):
        for start in (row.started_seq, first.get(row.path, row.started_seq)):
            payload = _definition_after(reader, branch, start, row.path, plan.seq)
            if payload is not None:
                found[row.path] = payload
                break
    return found


def _definition_after(reader: Reader, branch: int, start: int, path: str, to: int) -> dict[str, Any] | None:
    """Return the definition recorded with a start; ``None`` when an earlier one still held."""
    for event in islice(reader.stored(branch, after=start, to=to, kept=True), NEAR_EVENTS):
        if event.type == "eventlog.definition" and event.path == path:
            tree = decode_payload(event.payload)
            collect_refs(tree)
            return plain(resolve(tree, reader.content))  # type: ignore[no-any-return]
    return None


def _to_reopen(state: RunState, plan: Fork) -> list[tuple[str, ...]]:
    """Return the executions that had ended and are unfinished on the fork."""
    edited = [*plan.reset, *(place.rpartition("/")[0] for place in plan.outputs)]
    places = {p for place in [*edited, *([plan.execution] if plan.inputs else [])] for p in self_and_above(place)}
    return [_labels(row.path) for row in state.executions if row.path in places and row.status != "running"]


def _edit_event(writer: Writer, plan: Fork, inputs: Mapping[str, Any], outputs: Mapping[str, str]) -> Any:
    """Return the first event of the fork, and what to call once it is stored."""
    fields = {"execution": plan.execution, "inputs": dict(inputs), "outputs": dict(outputs), "reset": plan.reset}
    encoded = writer.encoder.encode(fields)
    event = NewEvent(
        type="eventlog.fork_edited", event_id=str(uuid4()), at_ns=time.time_ns(), run=plan.run, branch=plan.branch,
        payload=encoded.payload, contents=encoded.contents, flags=encoded.flags, path=_labels(plan.execution),
    )  # fmt: skip
    return event, encoded.publish


def _labels(path: str) -> tuple[str, ...]:
    """Return a path as the labels it is made of."""
    return tuple(path.split("/")[1:])
