"""The words of the log as types. Pure: no clock, no I/O, no CrewAI.

An event is stored as a *header* (who, when, where in the call tree) and a *payload*: a JSON
object in UTF-8. Inside a payload an object whose keys begin with ``$`` is a tag (see
``codec.py``); ``{"$content": HASH}`` stands for a large value that is kept once in the
``contents`` table, ``{"$content": HASH, "n": 12}`` for a conversation of twelve messages.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

MAIN_BRANCH = "main"
"""Name of the branch every run begins with."""

ORDINAL_DIGITS_MAX = 12
OWN_PREFIX = "eventlog."
"""Types of the library's own events begin with this."""

ExecutionKind = Literal["crew", "flow", "agent", "task"]
"""What a kickoff ran."""


class EventHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Who, when, and where in the call tree."""

    seq: int
    """Position in the log; strictly increasing, never reused."""
    event_id: str
    """CrewAI's id of the event (a UUID), or the one the caller gave."""
    type: str
    """Event type as CrewAI spells it, e.g. ``"task_completed"``; ours begin with ``eventlog.``."""
    at_ns: int
    """When it was emitted: nanoseconds since the Unix epoch, UTC."""
    run: str | None
    """Name of the run it belongs to; ``None`` when it belongs to none."""
    branch: str
    """Name of the branch it was appended to."""
    parent_event_id: str | None = None
    """The scope it was emitted in."""
    previous_event_id: str | None = None
    """The event emitted before it in the same context."""
    triggered_by_event_id: str | None = None
    """The event that caused it (flow listeners)."""
    started_event_id: str | None = None
    """For an ending event: the one that opened the scope."""
    emission_sequence: int | None = None
    """CrewAI's own counter: data, never order; it repeats."""
    task_id: str | None = None
    task_name: str | None = None
    agent_id: str | None = None
    agent_role: str | None = None
    path: str = ""
    """Logical path of the scope, the same in every process, e.g. ``/crew:3f2a#0/task:9c1b#0``."""
    flags: int = 0
    """Bit set of ``FLAG_*``."""


class StoredEvent(EventHeader, frozen=True, kw_only=True):
    """One event exactly as the log holds it: large values of the payload are still references."""

    payload: bytes = b"{}"
    """JSON object, UTF-8; large values are references."""


class Event(EventHeader, frozen=True, kw_only=True):
    """One event for the reader: the payload decoded, every reference resolved."""

    payload: dict[str, Any] = {}
    """The decoded mapping; valid after the log is closed."""


FLAG_REDACTED = 1
"""Redaction changed the payload or a value it refers to."""
FLAG_PLACEHOLDER = 2
"""A value could not be encoded; a tagged placeholder stands in its place."""
FLAG_UNMARKED = 8
"""Its agent, crew or flow has ``checkpoint=False``: it triggers no checkpoint."""
FLAG_REPLAYED = 4
"""A resumed kickoff said again what an earlier process had said: the same step, not another one."""
FLAG_OMITTED = 16
"""The payload was left out by the user's choice (``omit_payload``)."""


COMMAND, RESUMED, EXECUTION_RESULT = "eventlog.command", "eventlog.resumed", "eventlog.execution_result"
"""What is stored of a kickoff at the top: the command line, that an earlier process's work goes on, what came back."""

WORK_TYPES = frozenset(
    "eventlog." + name
    for name in """
    session_opened session_updated session_noted
    step_claimed step_started step_renewed step_moved step_completed step_kept step_failed step_released
    step_invalidated step_blocked step_unblocked
    feature_defined feature_updated feature_verified feature_completed
    memory_saved memory_corrected memory_deleted
    """.split()
)
"""The work ledger: what a pipeline is made of, how far it is, what it delivered and found (``eventlog.ledger``)."""

BOOKKEEPING = frozenset({COMMAND, RESUMED})
"""Types that say how a run was started again, not what it did."""


def is_step(event: EventHeader) -> bool:
    """Whether an event is a step of the run, and not one said again by a resumed kickoff, nor our own bookkeeping.

    The steps of a run that was interrupted and resumed are those of one that never was.
    """
    return not event.flags & FLAG_REPLAYED and event.type not in BOOKKEEPING


class ExecutionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One kickoff as the log's index knows it."""

    path: str
    parent: str | None
    """Path of the execution it ran inside; ``None`` for a root."""
    kind: ExecutionKind
    name: str
    key: str
    """Definition key: CrewAI's ``crew.key``/``task.key``/``agent.key``, or the flow's class."""
    status: str
    """``running``, ``completed``, ``failed``, ``paused`` or ``interrupted``."""
    inputs_hash: str
    started_seq: int
    ended_seq: int | None


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the list of runs."""

    run: str
    status: str
    """Status of the last root execution, ``interrupted`` when it did not end and nobody has its branch open any more.
    ``running`` while a living process works on any branch."""
    kind: ExecutionKind | None
    name: str
    events: int
    branches: int
    executions: int
    started_at_ns: int | None
    updated_at_ns: int | None
    attribution: str
    """``named`` by the user, ``minted`` by the listener, or ``guessed``."""


class BranchInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A named line of history inside a run."""

    run: str
    branch: str
    parent: str | None
    """The branch it was forked from."""
    fork_seq: int | None
    """Cursor on the parent, inclusive, at which it begins."""
    last_seq: int
    """Its newest event, its own or inherited; 0 when there is none."""
    events: int
    """Events of its own."""
    status: str = ""
    """Status of its last root execution; ``interrupted`` when that did not end and nobody has the branch open."""


class NewExecution(msgspec.Struct, frozen=True, kw_only=True):
    """What the root event of a kickoff tells the index of executions."""

    kind: ExecutionKind
    name: str
    key: str
    inputs_hash: str
    parent: tuple[str, ...] | None
    """Path of the enclosing execution."""


class NewEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event on its way to the log: everything encoded, nothing live."""

    type: str
    event_id: str
    at_ns: int
    payload: bytes
    run: str = ""
    """Name of the run; empty for none. A run that is new is made with its first event."""
    branch: str = MAIN_BRANCH
    attribution: str = "named"
    """How a run that this event makes got its name: ``named``, ``minted`` or ``guessed``."""
    type_class: str = ""
    """``module:Qualname`` of the event's class, kept for classes users define."""
    parent_event_id: str | None = None
    previous_event_id: str | None = None
    triggered_by_event_id: str | None = None
    started_event_id: str | None = None
    emission_sequence: int | None = None
    task: tuple[str, str] | None = None
    """Id and name."""
    agent: tuple[str, str] | None = None
    """Id and role."""
    path: tuple[str, ...] = ()
    flags: int = 0
    contents: list[Any] = []
    """``contents.NewContent`` this event is the first to mention."""
    opens: NewExecution | None = None
    """Set on the root event of a kickoff."""
    closes: tuple[tuple[str, ...], str] | None = None
    """Path and new status of the execution this event ends."""
    releases: bool = False
    """With this event nothing of the branch goes on in this process."""


def read_ordinal(text: str) -> int:
    """Return the number that stands behind ``#`` in a label; 0 for what is none of ours."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= ORDINAL_DIGITS_MAX else 0


def join_path(labels: tuple[str, ...]) -> str:
    """Return a logical path as text: ``("crew:3f#0", "llm#1")`` → ``/crew:3f#0/llm#1``."""
    return "".join("/" + label for label in labels)
