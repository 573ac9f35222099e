"""Crews, flows and agents that CrewAI restored from a checkpoint of ours go on in a branch at its cursor.

A restored crew or agent emits no start of its kickoff: its events claim to be inside the one it was restored
from. So when it is kicked off, the branch is made and that kickoff's scope is opened again, there. A flow
starts anew, under the path it had.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from crewai.agent.core import Agent
from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.crew import Crew
from crewai.events.event_bus import crewai_event_bus
from crewai.events.event_context import get_current_parent_id, restore_event_scope
from crewai.flow.runtime import Flow

from eventlog.capture.homes import Home, is_restoring
from eventlog.capture.hub import hub
from eventlog.capture.natives import places_of
from eventlog.capture.patches import Patch
from eventlog.errors import BranchExistsError
from eventlog.ids import stored_id
from eventlog.logger import Logger
from eventlog.record import read_ordinal

if TYPE_CHECKING:
    from eventlog.append import Appender
    from eventlog.capture.recorder import Recorder

log = Logger(__name__)

_MARK = (
    "SELECT r.name, b.name, m.seq, b.id FROM checkpoint_marks AS m JOIN branches AS b ON b.id = m.branch"
    " JOIN runs AS r ON r.id = b.run WHERE m.name = ?"
)
_KICKOFF = (
    "SELECT e.path FROM events AS e JOIN branches AS b ON b.run = e.run WHERE b.id = ? AND e.event_id = ? LIMIT 1"
)
_FLOW = (
    "SELECT x.path FROM executions AS x JOIN branches AS b ON b.id = x.branch JOIN branches AS own ON own.run = b.run"
    " WHERE own.id = ? AND x.kind = 'flow' AND x.parent IS NULL AND x.started_seq <= ?"
    " ORDER BY x.started_seq DESC LIMIT 1"
)
_PATH = (
    "WITH RECURSIVE up (id, n, label) AS (SELECT parent, 0, label FROM paths WHERE id = ? UNION ALL"
    " SELECT paths.parent, n + 1, paths.label FROM up JOIN paths ON paths.id = up.id WHERE n < 1000)"
    " SELECT label FROM up ORDER BY n DESC"
)
KINDS = {"crew": "crew_kickoff_started", "agent": "lite_agent_execution_started"}


class Origin(msgspec.Struct):
    """Where an object was restored from."""

    file: str
    name: str
    """Id of the checkpoint."""
    state: Any
    """CrewAI's runtime state: it knows the branch's name once ``fork`` gave one."""
    branch: str
    """Branch it named when it was restored."""


class Continued(msgspec.Struct):
    """A branch that was made."""

    run: str
    branch: str
    path: tuple[str, ...]
    """Of the kickoff that goes on."""


_origins: dict[int, tuple[weakref.ref[Any], Origin]] = {}


def patches() -> list[Patch]:
    """Wrap the ways back from a checkpoint, and the first step of each kickoff."""
    module: Any = sys.modules[Crew.__module__]
    return [
        *(Patch(cls, "from_checkpoint", _noted) for cls in (Crew, Flow, BaseAgent)),
        Patch(module, "prepare_kickoff", _begun),
        Patch(Agent, "_prepare_kickoff", _begun),
        Patch(Flow, "_open_flow_scope", _begun),
    ]


def _noted(original: Callable[..., Any]) -> Callable[..., Any]:
    """Remember where an object comes from."""

    def from_checkpoint(cls: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        token = is_restoring.set(True)
        try:
            restored = original(cls, config, *args, **kwargs)
        finally:
            is_restoring.reset(token)
        file, _, name = str(config.restore_from).rpartition("#")
        state = crewai_event_bus.runtime_state
        if file and state is not None:
            _origins[id(restored)] = (weakref.ref(restored), Origin(file, name, state, state._branch))  # noqa: SLF001
            _relink(restored)
        return restored

    return from_checkpoint


def _relink(crew: Any) -> None:
    """Let a task's context be the tasks themselves again: those that still have to run have no output yet."""
    tasks = list(getattr(crew, "tasks", None) or ())
    by_id = {task.id: task for task in tasks}
    for task in tasks:
        if isinstance(task.context, list):
            task.context = [by_id.get(other.id, other) for other in task.context]


def _begun(original: Callable[..., Any]) -> Callable[..., Any]:
    """Make the branch when a restored object is kicked off."""

    def begin(subject: Any, *args: Any, **kwargs: Any) -> Any:
        known = _origins.pop(id(subject), None)
        if known is not None and known[0]() is subject:
            _enter_scope(subject)
            hub.each(lambda recorder: _continue(recorder, subject, known[1]))
        return original(subject, *args, **kwargs)

    return begin


def _enter_scope(subject: Any) -> None:
    """Stand in the kickoff that goes on: another one restored from it may have ended it meanwhile."""
    event_id = getattr(subject, "checkpoint_kickoff_event_id", None)
    if event_id is not None and get_current_parent_id() != event_id:
        restore_event_scope(((event_id, KINDS["crew" if isinstance(subject, Crew) else "agent"]),))


def _continue(recorder: Recorder, subject: Any, origin: Origin) -> None:
    """Make the branch in the recorder's log, if the checkpoint is one of that log, and go on there."""
    if not (os.path.exists(origin.file) and os.path.samefile(origin.file, recorder.file)):  # noqa: PTH110, PTH121
        return
    event_id = getattr(subject, "checkpoint_kickoff_event_id", None)
    made = recorder.pipeline.run_exclusively(lambda appender: _fork(appender, origin, event_id))
    if made is None:
        return
    home = Home(made.run, made.branch, "named", {})
    home.is_continued = True
    if event_id is None:
        label, _, ordinal = made.path[-1].rpartition("#")
        home.counters[label] = read_ordinal(ordinal) - 1
        recorder.homes.expect(subject, home)
        return
    children: dict[str, int] = {}
    for task, place in zip(getattr(subject, "tasks", ()), places_of(getattr(subject, "tasks", ())), strict=True):
        if task.output is not None:
            label, _, ordinal = place.rpartition("#")
            children[label] = int(ordinal)
    kind = "crew" if isinstance(subject, Crew) else "agent"
    recorder.scopes.go_on(event_id, KINDS[kind], kind, made.path, home, subject, children)


def _fork(appender: Appender, origin: Origin, event_id: str | None) -> Continued | None:
    """Return the branch at the checkpoint's cursor; ``None`` for a checkpoint that CrewAI wrote itself."""
    mark = appender.db.execute(_MARK, (origin.name,)).fetchone()
    if mark is None:
        return None
    run, parent, seq, branch = mark
    where = (_KICKOFF, (branch, stored_id(event_id))) if event_id is not None else (_FLOW, (branch, seq))
    row = appender.db.execute(*where).fetchone()
    if row is None:
        return None
    path = tuple(str(label) for (label,) in appender.db.execute(_PATH, (row[0],)))
    made = _branch(appender, origin, (run, parent, seq), path)
    appender.open_run(run, made)
    return Continued(run, made, path)


def _branch(appender: Appender, origin: Origin, at: tuple[str, str, int], path: tuple[str, ...]) -> str:
    """Make the branch under the name ``fork`` was given, if it was and the log can take it; else a minted one."""
    name = origin.state._branch  # noqa: SLF001 - no public name
    wanted = name if name != origin.branch and "/" not in name and "@" not in name and name.strip() else None
    try:
        return appender.fork(*at, wanted, None, [path])
    except BranchExistsError:
        log.warning("branch_renamed", run=at[0], asked=wanted)
        return appender.fork(*at, None, None, [path])
