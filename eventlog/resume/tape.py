"""What the log holds of one execution: its exchanges, finished tasks and methods, and what was under way.

Everything is filed under the logical path of the scope it happened in (its *lane*), which is
the same in every process. Large values stay references until they are needed.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from eventlog.read import Reader, decode_payload
from eventlog.record import FLAG_OMITTED, FLAG_REPLAYED, StoredEvent
from eventlog.replay.event_types import ENDS
from eventlog.replay.path import above
from eventlog.resume.marks import Marks
from eventlog.resume.revive import is_redacted
from eventlog.values import resolve

SAVES = ("remember", "aremember", "remember_many", "aremember_many")
"""What tells a memory something; for ``remember_many`` CrewAI saves it in the background."""


class Exchange(msgspec.Struct):
    """One recorded request and what came of it."""

    seq: int
    lane: str
    fields: dict[str, Any]
    """The payload, references unresolved."""
    started: dict[str, Any] | None = None
    """Of a model call: the payload of its ``llm_call_started``."""
    completed: dict[str, Any] | None = None
    """Of a model call: the payload of its ``llm_call_completed``."""
    chunks: list[tuple[str, dict[str, Any]]] = []
    """Of a model call that streamed: type and payload of each piece."""
    agent: tuple[str | None, str | None] = (None, None)
    """Of a model call: id and role of the agent that asked."""
    is_served: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether a model said nothing, which CrewAI takes for a failure."""
        box = self.fields.get("response")
        known = self.completed or {}
        said = box.get("value") if isinstance(box, dict) else known.get("response")
        return said in (None, "", []) and self.fields.get("completed") is not None

    @property
    def failed(self) -> bool:
        """Whether an error came back."""
        return self.fields.get("error") is not None


class Finished(msgspec.Struct):
    """A task or method that came to its end."""

    seq: int
    path: str
    started: dict[str, Any]
    ended: dict[str, Any]


class OpenTool(msgspec.Struct):
    """A use of a tool that was under way when the process ended."""

    path: str
    tool: str
    args: Any


class Tape:
    """The record of the execution at ``path``, up to a cursor."""

    def __init__(self, reader: Reader | None, path: str, cursor: int = 0) -> None:
        """``reader`` resolves references; none for an execution that has not happened yet."""
        self._reader, self.path, self.cursor = reader, path, cursor
        self.llm: dict[str, list[Exchange]] = defaultdict(list)
        self.counts: dict[str, deque[int]] = defaultdict(deque)
        self.tools: dict[str, list[Exchange]] = defaultdict(list)
        self.human: dict[str, list[Exchange]] = defaultdict(list)
        self.memory: dict[str, list[Exchange]] = defaultdict(list)
        self.tasks: dict[str, Finished] = {}
        self.methods: dict[str, Finished] = {}
        self.skipped: dict[str, int] = defaultdict(int)
        """Execution path + task key → how often the task was skipped."""
        self.started: dict[str, StoredEvent] = {}
        """Path → the event that opened the newest scope there."""
        self.last_seq: dict[str, int] = defaultdict(int)
        """Path → seq of the last event in that very scope."""
        self.tool_ends: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.busy_tools: set[str] = set()
        """Paths of uses of tools that asked models themselves."""
        self.definitions: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        self.agent_keys: dict[str, str] = {}
        """CrewAI's id of an agent, new in every process → its key."""
        self.edits: list[tuple[int, dict[str, Any]]] = []
        self.result: tuple[int, dict[str, Any]] | None = None
        self.last_state: Any = None
        """The state a flow ended with."""
        self.saved: dict[str, int] = defaultdict(int)
        """Lane → how many of the saves that its memory began in the background came to an end."""
        self.paused: set[str] = set()
        self.rejected: dict[str, int] = {}
        """Path of a task that failed → seq of its guardrail's last refusal."""
        self.marks = Marks(self.value)

    # -- reading what is on it ------------------------------------------------------------------

    def value(self, tree: Any) -> Any:
        """Return a tree with every reference filled in."""
        return tree if self._reader is None else resolve(tree, self._reader.content)

    def below(self, path: str, kind: dict[str, list[Exchange]]) -> Iterator[Exchange]:
        """Yield the exchanges of one kind that happened in a scope and below it."""
        for lane, exchanges in kind.items():
            if lane == path or lane.startswith(path + "/"):
                yield from exchanges

    def was_open(self, path: str) -> bool:
        """Whether a use of a tool began and nobody knows what came of it.

        CrewAI says that a tool finished even when it was left by SystemExit; then nothing of the agent's follows.
        """
        event = self.started.get(path)
        if event is None or event.type != "tool_usage_started" or any(not e.failed for e in self.tools[path]):
            return False
        ends = self.tool_ends[path]
        return not ends or (not ends[-1].get("from_cache") and self.last_seq[above(path)] < event.seq)

    def is_unsaved(self, path: str) -> bool:
        """Whether a memory was told something in a scope or below it that it had not saved yet."""
        told = Counter(e.lane for e in self.below(path, self.memory) if e.fields.get("operation") in SAVES)
        return any(count > self.saved[lane] for lane, count in told.items())

    def open_tools(self) -> list[OpenTool]:
        """Return the uses of tools that may or may not have happened."""
        found = []
        for path, event in self.started.items():
            if self.was_open(path):
                fields = decode_payload(event.payload)
                found.append(OpenTool(path, str(fields.get("tool_name")), self.value(fields.get("tool_args"))))
        return found

    def arguments(self, path: str) -> tuple[str, Any] | None:
        """Return name and arguments of the use of a tool at ``path``, as CrewAI's events name them."""
        event = self.started.get(path)
        if event is None or event.type != "tool_usage_started":
            return None
        fields = decode_payload(event.payload)
        return str(fields.get("tool_name")), fields.get("tool_args")

    def first_method(self, path: str) -> dict[str, Any] | None:
        """Return the payload of the first method that a flow started."""
        found = [e for p, e in self.started.items() if e.type == "method_execution_started" and above(p) == path]
        return decode_payload(found[0].payload) if found else None

    def definition(self, path: str, at: int | None = None) -> dict[str, Any] | None:
        """Return the payload of the newest definition of an execution, or of the one that held at a seq."""
        known = [payload for seq, payload in self.definitions[path] if at is None or seq < at]
        return known[-1] if known else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on it."""
        return not self.started


def read_tape(reader: Reader, branch: int, path: str, after: int, to: int, *, retries_failures: bool = True) -> Tape:
    """Return the tape of the execution at ``path``: the events of a lineage after one seq, up to another.

    ``retries_failures``: model calls that failed last are not on it.
    """
    tape = Tape(reader, path, to)
    work = _Recording(tape)
    for event in reader.stored(branch, after, to):
        if event.type == "eventlog.fork_edited":
            tape.edits.append((event.seq, decode_payload(event.payload)))
        elif event.path == path or event.path.startswith(path + "/"):
            work.add(event)
    work.finish()
    if retries_failures:
        _drop_last_failures(tape)
    return tape


class _Recording:
    """A tape while events are put on it."""

    def __init__(self, tape: Tape) -> None:
        """Calls of models are put together from up to three events."""
        self._tape = tape
        self._by_id: dict[str, tuple[StoredEvent, dict[str, Any]]] = {}
        self._calls: dict[str, dict[str, Any]] = {}
        """CrewAI's id of a call → payload of its start."""
        self._chunks: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        self._orphans: dict[str, tuple[StoredEvent, dict[str, Any]]] = {}
        self._method_starts: dict[str, dict[str, Any]] = {}
        self._refusals: dict[str, int] = {}

    def add(self, event: StoredEvent) -> None:
        """Put one event on the tape. What a resumed kickoff only said again is left out."""
        if event.path == self._tape.path and event.type == "eventlog.resumed":
            self._tape.result = None  # it was not what was asked for any more
        if event.type == "eventlog.definition" and event.flags & FLAG_REPLAYED:
            self.definition(event, decode_payload(event.payload))
        if event.flags & FLAG_REPLAYED:
            if event.type == "llm_call_started":  # its end may be new: a call that was under way is made again
                payload = decode_payload(event.payload)
                self._calls[str(payload.get("call_id"))] = payload
            return
        if not event.type.startswith("eventlog.") or event.type in ("eventlog.flow_state", "eventlog.definition"):
            self._tape.marks.add(event.path, event.type, event.payload)
        self._tape.last_seq[event.path] = event.seq
        step = _STEPS.get(event.type)
        if step is not None:
            step(self, event, decode_payload(event.payload))
        elif event.type in ENDS and event.type.startswith("tool_usage"):
            self._tape.tool_ends[event.path].append(decode_payload(event.payload))
        elif event.type.endswith("_started"):
            self._tape.started[event.path] = event

    def finish(self) -> None:
        """Calls whose process died before it stored the exchange are on the tape as well."""
        for event, completed in self._orphans.values():
            fields = {"completed": event.event_id, "request": None, "model": completed.get("model")}
            self._call(event.seq, fields, above(event.path), (event, completed))

    # -- steps -----------------------------------------------------------------------------------

    def llm_started(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A model is asked."""
        self._tape.started[event.path] = event
        self._calls[str(payload.get("call_id"))] = payload

    def llm_completed(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A model answered; its exchange follows unless the process dies now."""
        self._by_id[event.event_id] = (event, payload)
        self._orphans[event.event_id] = (event, payload)

    def llm_chunk(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A model says a piece of its answer."""
        self._chunks[str(payload.get("call_id"))].append((event.type, payload))

    def llm_exchange(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A model call is over."""
        self._orphans.pop(str(payload.get("completed")), None)
        self._call(event.seq, payload, event.path, self._by_id.get(str(payload.get("completed"))))

    def _call(
        self, seq: int, fields: dict[str, Any], lane: str, end: tuple[StoredEvent, dict[str, Any]] | None
    ) -> None:
        """File a model call."""
        completed = end[1] if end is not None else None
        agent = (end[0].agent_id, end[0].agent_role) if end is not None else (None, None)
        call = str((completed or {}).get("call_id"))
        started, chunks = self._calls.get(call), self._chunks.pop(call, [])
        self._tape.llm[lane].append(Exchange(seq, lane, fields, started, completed, chunks, agent))
        labels = lane.split("/")
        self._tape.busy_tools |= {"/".join(labels[: i + 1]) for i, x in enumerate(labels) if x.startswith("tool[")}

    def exchange(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A tool, a person or the memory answered."""
        kinds = {"tool": self._tape.tools, "human": self._tape.human, "memory": self._tape.memory}
        kind = kinds[event.type.removeprefix("eventlog.").removesuffix("_exchange")]
        kind[event.path].append(Exchange(event.seq, event.path, payload))

    def token_count(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """Tokens were counted."""
        if type(payload.get("tokens")) is int:
            self._tape.counts[event.path].append(payload["tokens"])

    def memory_saved(self, event: StoredEvent, _payload: dict[str, Any]) -> None:
        """A memory saved what it was told, or gave it up."""
        self._tape.saved[above(event.path)] += 1

    def task_completed(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A task has its output."""
        if event.flags & FLAG_OMITTED:
            return  # it is made again from its exchanges
        start = self._tape.started.get(event.path)
        started = decode_payload(start.payload) if start is not None else {}
        self._tape.tasks[event.path] = Finished(event.seq, event.path, started, payload)

    def guardrail(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A guardrail accepted or refused."""
        self._refusals[unit_of(event.path)] = 0 if payload.get("success") else event.seq

    def task_failed(self, event: StoredEvent, _payload: dict[str, Any]) -> None:
        """A task raised, perhaps because its guardrail refused every answer."""
        if self._refusals.get(event.path):
            self._tape.rejected[event.path] = self._refusals[event.path]

    def task_skipped(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A conditional task was not needed."""
        self._tape.skipped[f"{event.path}|{payload.get('key')}"] += 1

    def method_started(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A method begins."""
        self._tape.started[event.path] = event
        self._method_starts[event.path] = payload

    def method_finished(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A method returned."""
        if event.flags & FLAG_OMITTED:
            return
        started = self._method_starts.get(event.path, {})
        self._tape.methods[event.path] = Finished(event.seq, event.path, started, payload)
        self._tape.paused.discard(event.path)

    def method_paused(self, event: StoredEvent, _payload: dict[str, Any]) -> None:
        """A method waits for a person."""
        self._tape.paused.add(event.path)

    def definition(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """What an execution is made of."""
        self._tape.definitions[event.path].append((event.seq, payload))
        lines = payload.get("agents") or ()
        self._tape.agent_keys.update({str(line.get("id")): str(line.get("key")) for line in lines})

    def result(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """The kickoff returned."""
        if event.path == self._tape.path:
            self._tape.result = (event.seq, payload)

    def flow_finished(self, event: StoredEvent, payload: dict[str, Any]) -> None:
        """A flow ended."""
        if event.path == self._tape.path:
            self._tape.last_state = payload.get("state")


def _drop_last_failures(tape: Tape) -> None:
    """Take model calls off that failed, or said nothing, and that nothing good came after: they are tried again.

    So is the last answer of a task that failed because its guardrail took none: it would be refused again.
    """
    good: dict[str, int] = defaultdict(int)
    last: dict[str, int] = defaultdict(int)
    for lane, exchanges in tape.llm.items():
        for exchange in exchanges:
            unit = unit_of(lane)
            last[unit] = max(last[unit], exchange.seq)
            if not (exchange.failed or exchange.is_empty):
                good[unit] = max(good[unit], exchange.seq)
    for lane, exchanges in tape.llm.items():
        unit = unit_of(lane)
        refused = last[unit] if tape.rejected.get(unit, 0) > last[unit] else 0
        kept = (e for e in exchanges if not (e.failed or e.is_empty) or e.seq < good[unit])
        tape.llm[lane] = [e for e in kept if e.seq != refused]


def unit_of(lane: str) -> str:
    """Return the task, method or execution that a lane belongs to: within it a failed call may have been repeated."""
    labels = lane.split("/")
    for end in range(len(labels), 1, -1):
        if labels[end - 1].startswith(("task[", "task:", "method[", "agent:")):
            return "/".join(labels[:end])
    return "/".join(labels[:2])


def pick(exchanges: Iterable[Exchange], matches: Callable[[Exchange], bool]) -> Exchange | None:
    """Return the first exchange that has not been served and matches, and take it off."""
    for exchange in exchanges:
        if not exchange.is_served and matches(exchange):
            exchange.is_served = True
            return exchange
    return None


def is_servable(tape: Tape, tree: Any) -> bool:
    """Whether a recorded value is what it was: redaction took nothing from it."""
    return not is_redacted(tape.value(tree))


_Step = Callable[[_Recording, StoredEvent, dict[str, Any]], None]
_STEPS: dict[str, _Step] = {
    "llm_call_started": _Recording.llm_started,
    "llm_call_completed": _Recording.llm_completed,
    "llm_stream_chunk": _Recording.llm_chunk,
    "llm_thinking_chunk": _Recording.llm_chunk,
    "eventlog.llm_exchange": _Recording.llm_exchange,
    "eventlog.token_count": _Recording.token_count,
    "eventlog.tool_exchange": _Recording.exchange,
    "eventlog.human_exchange": _Recording.exchange,
    "eventlog.memory_exchange": _Recording.exchange,
    "memory_save_completed": _Recording.memory_saved,
    "memory_save_failed": _Recording.memory_saved,
    "eventlog.task_skipped": _Recording.task_skipped,
    "eventlog.definition": _Recording.definition,
    "eventlog.execution_result": _Recording.result,
    "flow_finished": _Recording.flow_finished,
    "llm_guardrail_completed": _Recording.guardrail,
    "task_completed": _Recording.task_completed,
    "task_failed": _Recording.task_failed,
    "method_execution_started": _Recording.method_started,
    "method_execution_finished": _Recording.method_finished,
    "method_execution_paused": _Recording.method_paused,
}
