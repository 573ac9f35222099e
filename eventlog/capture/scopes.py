"""Where an event stands: its run, its execution and its logical path.

A path is the same in every process and every re-run::

    /crew:3f2a91c0#0/task[9c1b04de]#0/agent_execution#0/internal[AgentExecutor]#0/llm#2

Each starting event opens a scope named by what it is and by how many of the same name came
before it under the same parent, so parallel branches do not disturb each other. Executions
(kickoffs) are written ``kind:KEY#n``, everything else ``name[KEY]#n`` or ``name#n``.

Long, because opening, closing, resuming and aborting a scope change the same tree, under one lock.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.capture.homes import Home, Homes
from eventlog.capture.keys import stable_key
from eventlog.capture.playing import claims, kickoff_of, step_mark
from eventlog.contents import Cache
from eventlog.record import NewExecution, join_path
from eventlog.references import read_fact

if TYPE_CHECKING:
    from eventlog.capture.kickoffs import Kickoff

SCOPES_MAX = 5_000
"""Scopes remembered per generation: open ones and recently closed ones."""

PAUSED_MAX = 1_000
"""Flows remembered while they wait for a person."""

ENDINGS = {
    "crew_kickoff_completed": "completed", "crew_kickoff_failed": "failed",
    "flow_finished": "completed", "flow_failed": "failed", "flow_paused": "paused",
    "lite_agent_execution_completed": "completed", "lite_agent_execution_error": "failed",
    "task_completed": "completed", "task_failed": "failed",
}  # fmt: skip
"""Events that end an execution, and the status they leave it in."""

ROOTS = frozenset(
    {"crew_kickoff_started", "flow_started", "lite_agent_execution_started", "task_started"}
    | {"crew_train_started", "crew_test_started"}
)
"""Events that may stand at the top of a run."""

in_for_each: ContextVar[bool] = ContextVar("eventlog_for_each", default=False)
"""Set while ``kickoff_for_each`` runs: its copies differ by inputs only, and may run in any order."""


class Execution:
    """One kickoff while this process runs it."""

    __slots__ = ("entity", "keys", "kind", "parent", "path", "sample")

    def __init__(self, kind: str, path: tuple[str, ...], parent: Execution | None, entity: Any) -> None:
        """``entity`` is held weakly: the user's objects are theirs."""
        self.kind, self.path, self.parent = kind, path, parent
        self.sample: Any = None
        """Last sample of a flow's state (``samples.py``)."""
        self.keys: dict[str, str] = _task_keys(entity) if kind == "crew" else {}
        """Keys of a crew's tasks by id: a planner's text, added later, would change them."""
        try:
            self.entity: Callable[[], Any] = weakref.ref(entity)
        except TypeError:
            self.entity = lambda: None


class Scope:
    """A started event that has not ended, or ended a short while ago."""

    __slots__ = (
        "children", "entity", "event_id", "execution", "home", "is_aborted", "is_open", "parent", "path", "place",
        "task_id", "type",
    )  # fmt: skip

    def __init__(self, event: Any, path: tuple[str, ...], parent: Scope | None, home: Home) -> None:
        """A scope under ``parent``, in the same execution until told otherwise."""
        self.event_id, self.type, self.task_id = event.event_id, event.type, event.task_id
        self.path, self.parent, self.home = path, parent, home
        self.execution: Execution | None = parent.execution if parent else None
        self.entity: Any = None
        """Weak reference to the agent executor of an internal scope."""
        self.children: dict[str, int] = {}
        self.is_open, self.is_aborted = True, False
        self.place: Place | None = None


class Resumed(msgspec.Struct):
    """Stands for a start that is not emitted again."""

    event_id: str
    type: str
    task_id: str | None = None


class Place(msgspec.Struct):
    """Where one event goes."""

    home: Home
    path: tuple[str, ...]
    execution: Execution | None = None
    opened: Scope | None = None
    opens: NewExecution | None = None
    closes: tuple[tuple[str, ...], str] | None = None
    closed_root: bool = False


class Scopes:
    """The call tree of this process, as far as one recorder sees it. Thread-safe."""

    def __init__(
        self, homes: Homes, name_of: Callable[[str], str], hash_of: Callable[[Any], str],
        asked_hash: Callable[[Kickoff], str],
    ) -> None:  # fmt: skip
        """``name_of`` cleans a text for use in a path; ``hash_of`` names a tool's arguments, ``asked_hash`` inputs."""
        self._homes, self._name_of, self._hash_of, self._asked_hash = homes, name_of, hash_of, asked_hash
        self._known: Cache[str, Scope] = Cache(SCOPES_MAX)
        self._open: dict[str, Scope] = {}
        self._paused: Cache[str, Scope] = Cache(PAUSED_MAX)
        """Flows that wait for a person, by the id that ``from_pending`` takes."""
        self._lock = threading.RLock()
        from crewai.events import event_context  # noqa: PLC0415 - known to be loaded by whoever emits

        self._starting, self._ending = event_context.SCOPE_STARTING_EVENTS, event_context.SCOPE_ENDING_EVENTS
        self._pairs = event_context.VALID_EVENT_PAIRS

    def scope(self, event_id: str | None) -> Scope | None:
        """Return the scope an event opened."""
        return (self._open.get(event_id) or self._known.get(event_id)) if event_id else None

    def place(self, source: Any, event: Any) -> Place | None:
        """Return where an event belongs and take note of scopes that open or close; ``None``: not for us."""
        with self._lock:
            if event.type in self._ending:
                scope = self._ending_scope(event)
                if scope is not None:
                    return self._close(scope, event)
            parent = self._parent(event.parent_event_id)
            starting = event.type in self._starting
            is_root = starting and event.type in ROOTS and not _is_internal(source)
            if parent is not None and parent.is_aborted and is_root:
                parent = None
            home = parent.home if parent else self._homes.find(source, event.type, is_root=is_root)
            if home is None:
                return None
            if starting:
                return self._reopen(source, event, home) or self._open_scope(source, event, parent, home)
            return Place(home, parent.path if parent else (), parent.execution if parent else None)

    def _parent(self, event_id: str | None) -> Scope | None:
        """Return the enclosing scope, unless it belongs to another run than the one this context is in."""
        parent = self.scope(event_id)
        current = self._homes.current()
        if parent is not None and current not in (None, parent.home) and not parent.home.is_continued:
            return None
        return parent

    # -- opening ------------------------------------------------------------------------------

    def _open_scope(self, source: Any, event: Any, parent: Scope | None, home: Home) -> Place:
        """Register a scope; a kickoff also opens an execution."""
        again = self._open.get(event.event_id)
        if again is not None and again.place is not None:  # a signal handler interrupted the first attempt
            return again.place
        outer = parent.execution if parent else None
        kind = self._execution_kind(source, event, outer)
        label, ordinal = self._take_place(source, event, kind, parent, home)
        scope = Scope(event, (*(parent.path if parent else ()), f"{label}#{ordinal}"), parent, home)
        place = Place(home, scope.path, opened=scope)
        if kind is not None:
            scope.execution = Execution(kind, scope.path, outer, source)
            place.opens = self._new_execution(source, event, kind, outer)
            if outer is None:
                self._homes.root_opened(home)
        elif event.type == "flow_started":
            scope.entity = weakref.ref(source)
        place.execution = scope.execution
        scope.place = place
        self._open[event.event_id] = scope
        return place

    def _take_place(
        self, source: Any, event: Any, kind: str | None, parent: Scope | None, home: Home
    ) -> tuple[str, int]:
        """Return label and ordinal of a new scope: the claimed ones of a kickoff, or the next."""
        siblings = parent.children if parent else home.counters
        claim = claims.get() if kind is not None and parent is None else None
        if claim is not None and claim.kind == kind and claim.home is home:
            siblings[claim.label] = max(siblings.get(claim.label, -1), claim.ordinal)
            return claim.label, claim.ordinal
        label = self._label(source, event, kind, parent.execution if parent else None)
        siblings[label] = siblings.get(label, -1) + 1
        return label, siblings[label]

    def go_on(
        self, event_id: str, event_type: str, kind: str, path: tuple[str, ...], home: Home, entity: Any,
        children: dict[str, int],
    ) -> None:  # fmt: skip
        """Open the scope of a kickoff again, elsewhere: something restored goes on in it."""
        event = Resumed(event_id, event_type)
        scope = Scope(event, path, None, home)
        scope.execution, scope.children = Execution(kind, path, None, entity), children
        with self._lock:
            self._homes.root_opened(home)
            self._open[event_id] = scope

    # -- places of what has not happened yet ----------------------------------------------------

    def lane(self, event_id: str | None) -> str:
        """Return the path of the scope an event opened; empty at the top."""
        scope = self.scope(event_id)
        return join_path(scope.path) if scope else ""

    def next_path(self, event_id: str | None, label: str) -> str:
        """Return the path that the next scope of that label below an event's scope will have."""
        with self._lock:
            scope = self.scope(event_id)
            return f"{self.lane(event_id)}/{label}#{(scope.children.get(label, -1) if scope else -1) + 1}"

    def skip(self, event_id: str | None, label: str) -> None:
        """Count a scope that will not be opened: what it stands for is finished."""
        with self._lock:
            scope = self.scope(event_id)
            if scope is not None:
                scope.children[label] = scope.children.get(label, -1) + 1

    def task_label(self, event_id: str | None, task: Any) -> str:
        """Return the label of a task in the execution around an event's scope."""
        scope = self.scope(event_id)
        known = scope.execution.keys.get(str(read_fact(task, "id"))) if scope and scope.execution else None
        return f"task[{_short(known or stable_key(task) or '?', 'task')}]"

    def _reopen(self, source: Any, event: Any, home: Home) -> Place | None:
        """Return the place of a flow that goes on after a pause: its own, counters and all."""
        pending = getattr(source, "_pending_feedback_context", None) if event.type == "flow_started" else None
        paused = self._paused.get(str(pending.flow_id)) if pending is not None else None
        if paused is None or paused.execution is None or paused.home is not home:
            return None
        outer = paused.execution.parent
        scope = Scope(event, paused.path, paused.parent, home)
        scope.children, scope.execution = paused.children, Execution("flow", paused.path, outer, source)
        opens = self._new_execution(source, event, "flow", outer)
        scope.place = Place(home, scope.path, scope.execution, scope, opens)
        if outer is None:
            self._homes.root_opened(home)
        self._open[event.event_id] = scope
        return scope.place

    def _execution_kind(self, source: Any, event: Any, outer: Execution | None) -> str | None:
        """Return what kind of execution an event begins, or ``None``."""
        if event.type == "crew_kickoff_started":
            return "crew"
        if event.type == "lite_agent_execution_started":
            return "agent"
        if event.type == "flow_started":
            return None if _is_internal(source) else "flow"
        if event.type == "task_started" and (outer is None or outer.kind != "crew"):
            return "task"
        return None

    def _new_execution(self, source: Any, event: Any, kind: str, outer: Execution | None) -> NewExecution:
        """Return what the index of executions keeps of a kickoff."""
        return NewExecution(
            kind=kind,  # type: ignore[arg-type]
            name=self._name_of(self._execution_name(source, event, kind)),
            key=self._name_of(self._execution_key(source, event, kind)),
            inputs_hash=self._inputs_hash(source, event, kind),
            parent=outer.path if outer else None,
        )

    def _inputs_hash(self, source: Any, event: Any, kind: str) -> str:
        """Return the hash of what a kickoff was asked, before callbacks changed it."""
        kickoff = kickoff_of(event.task if kind == "task" else source)
        return self._asked_hash(kickoff) if kickoff is not None else self._hash_of(execution_inputs(event))

    def _execution_name(self, source: Any, event: Any, kind: str) -> str:
        """Return what a person calls the thing that runs."""
        if kind == "crew":
            return str(event.crew_name or "crew")
        if kind == "flow":
            return str(event.flow_name)
        if kind == "agent":
            return read_fact(source, "role") or str(event.agent_info.get("role", "agent"))
        return read_fact(event.task, "name") or read_fact(event.task, "description") or "task"

    def _execution_key(self, source: Any, event: Any, kind: str) -> str:
        """Return the key of the definition: CrewAI's own where it has one."""
        if kind == "flow":
            return type(source).__qualname__
        return stable_key(event.task if kind == "task" else source) or "unknown"

    def _label(self, source: Any, event: Any, kind: str | None, outer: Execution | None) -> str:
        """Return the name of a scope, without its ordinal."""
        if kind is not None:
            label = execution_label(kind, self._name_of(self._execution_key(source, event, kind))) + _mark(outer)
            return f"{label}+{self._inputs_hash(source, event, kind)[:6]}" if _is_copy(kind, outer) else label
        name: str = event.type.removesuffix("_started")
        if name == "task":
            known = outer.keys.get(str(event.task_id)) if outer else None
            return f"task[{_short(known or stable_key(event.task) or '?', 'task')}]"
        if name == "method_execution":
            return f"method[{self._clean(event.method_name)}]"
        if name == "flow":
            return f"internal[{type(source).__name__}]"
        if name == "tool_usage":
            return f"tool[{self._clean(event.tool_name)}:{self._hash_of(event.tool_args)[:6]}]"
        return {"llm_call": "llm", "crew_train": "crew_train", "crew_test": "crew_test"}.get(name, name)

    def _clean(self, name: Any) -> str:
        """Return a user's name as part of a path."""
        return re.sub(r"[/\[\]#]", "_", self._name_of(str(name)))[:80]

    # -- closing ------------------------------------------------------------------------------

    def _ending_scope(self, event: Any) -> Scope | None:
        """Return the scope an ending event closes: of the matching type, at or above the popped one.

        After an abort inside a task, CrewAI's own ``started_event_id`` names a scope below it.
        """
        expected = self._pairs.get(event.type)
        scope = self.scope(event.started_event_id) or self.scope(event.parent_event_id)
        while scope is not None:
            if scope.type == expected and (scope.task_id in (None, event.task_id) or event.task_id is None):
                return scope
            scope = scope.parent
        return None

    def _close(self, scope: Scope, event: Any) -> Place:
        """Close a scope and whatever was left open below it."""
        lowest = self.scope(event.started_event_id)
        while lowest is not None and lowest is not scope:
            self._forget(lowest)
            lowest = lowest.parent
        was_open = scope.is_open
        self._forget(scope)
        if event.type == "flow_paused":
            self._paused.put(str(event.flow_id), scope)
        execution = scope.execution
        place = Place(scope.home, scope.path, execution)
        if execution is not None and execution.path == scope.path:
            place.closes = (scope.path, ENDINGS.get(event.type, "completed"))
            place.closed_root = was_open and execution.parent is None and self._homes.root_closed(scope.home)
        return place

    def _forget(self, scope: Scope) -> None:
        """A closed scope is remembered a while: late events of its threads still find it."""
        scope.is_open = False
        if self._open.pop(scope.event_id, None) is not None:
            self._known.put(scope.event_id, scope)

    def abort(self, top: str | None, keep: str | None) -> list[tuple[Scope, bool]]:
        """Close all scopes from ``top`` up to, not including, ``keep``; returns those that were executions.

        Each comes with whether nothing of its minted run goes on. What a thread of theirs still says
        finds its place in them; a later kickoff that claims to be in one is not.
        """
        aborted: list[tuple[Scope, bool]] = []
        with self._lock:
            scope = self.scope(top)
            while scope is not None and scope.event_id != keep:
                if scope.is_open and scope.execution is not None and scope.execution.path == scope.path:
                    is_root = scope.execution.parent is None
                    aborted.append((scope, is_root and self._homes.root_closed(scope.home)))
                self._forget(scope)
                scope.is_aborted = True
                scope = scope.parent
        return aborted

    def after_fork_in_child(self) -> None:
        """The thread that held the lock may not exist here."""
        self._lock = threading.RLock()

    def next_number(self, scope: Scope | None, home: Home, name: str) -> int:
        """Count the exchanges of one type in one scope."""
        with self._lock:
            siblings = scope.children if scope else home.counters
            siblings["$" + name] = number = siblings.get("$" + name, -1) + 1
            return number

    def executor(self, scope: Scope | None) -> Any:
        """Return the live agent executor around a scope, if there is one."""
        while scope is not None:
            if scope.entity is not None:
                return scope.entity()
            scope = scope.parent
        return None


def _is_copy(kind: str, outer: Execution | None) -> bool:
    """Whether a kickoff is one of ``kickoff_for_each``; what runs inside a copy is not."""
    if kind != "crew" or not in_for_each.get():
        return False
    while outer is not None:
        if outer.kind == "crew" and "+" in outer.path[-1]:
            return False
        outer = outer.parent
    return True


def _task_keys(crew: Any) -> dict[str, str]:
    """Return the keys that a crew's tasks have before it runs."""
    tasks = getattr(crew, "tasks", None)
    known = tasks if isinstance(tasks, (list, tuple)) else ()
    return {str(getattr(task, "id", "")): key for task in known if (key := stable_key(task))}


def _mark(outer: Execution | None) -> str:
    """Return the mark of a step that began inside of an execution, for what is kicked off in that step.

    When the step is done, its kickoffs do not come again: those after it must not move up into their places.
    """
    mark = step_mark.get()
    return "" if outer is None or any(_is_marked(label, mark) for label in outer.path) else mark


def _is_marked(label: str, mark: str) -> bool:
    """Whether a label of a path, with its ordinal, is one of a step."""
    return label.rpartition("#")[0].partition("+")[0].endswith(mark)


def execution_label(kind: str, key: str) -> str:
    """Return the label of a kickoff by the key of what is kicked off."""
    return f"{kind}:{_short(key, kind)}"


def execution_inputs(event: Any) -> Any:
    """Return the inputs a root event carries."""
    return getattr(event, "inputs", None) or getattr(event, "messages", None) or getattr(event, "context", None)


def _is_internal(source: Any) -> bool:
    """Whether a flow is CrewAI's own machinery (agent executor, memory)."""
    return bool(getattr(type(source), "is_crewai_internal", False))


def _short(key: str, kind: str) -> str:
    """Return eight characters of a hash, or the whole of a class name, fit for a path."""
    return re.sub(r"[/\[\]#]", "_", key) if kind == "flow" else key[:8]
