"""Puts the recorded events of one execution on a tape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from eventlog.bases import Base, read_spent
from eventlog.lineage import steadily
from eventlog.nesting import decode_payload
from eventlog.read import Reader
from eventlog.record import EXECUTION_RESULT, FLAG_OMITTED, FLAG_REPLAYED, OWN_PREFIX, RESUMED, StoredEvent
from eventlog.replay.event_types import ENDS
from eventlog.replay.path import above
from eventlog.resume.exchanges import Exchange, Finished, unit_of
from eventlog.resume.failures import drop_last_failures
from eventlog.resume.tape import Tape


def read_tape(reader: Reader, branch: int, path: str, after: int, to: int, *, retries_failures: bool = True) -> Tape:
    """Return the tape of the execution at ``path``: the events of a lineage after one seq, up to another.

    ``retries_failures``: model calls that failed last are not on it.
    """
    tape = steadily(lambda: _recorded(reader, branch, path, after, to))
    if retries_failures:
        drop_last_failures(tape)
    return tape


def _recorded(reader: Reader, branch: int, path: str, after: int, to: int) -> Tape:
    """Return the tape with all that is there, also below a base."""
    tape = Tape(reader, path)
    for edit in reader.stored(branch, after, to, types=["eventlog.fork_edited"], kept=True):
        tape.edits.append((edit.seq, decode_payload(edit.payload)))
    work = _Recording(tape)
    for event in reader.stored(branch, after, to, below=path, kept=True):
        work.add(event)
    work.finish()
    _put_spent(tape, reader.base(branch), after, to)
    return tape


def _put_spent(tape: Tape, base: Base | None, after: int, to: int) -> None:
    """Put the calls on a tape whose events were compacted."""
    for call in read_spent(base) if base is not None else ():
        if (call.lane == tape.path or call.lane.startswith(tape.path + "/")) and after < call.seq <= to:
            completed = {"usage": call.usage} if call.is_told else None
            agent = (call.agent_id, call.agent_role)
            tape.spent[call.lane].append(
                Exchange(call.seq, call.lane, {"usage": call.usage}, None, completed, [], agent)
            )


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
        """Put one event on the tape. Left out: what a resumed kickoff only said again, and what was forgotten."""
        if event.flags & FLAG_OMITTED and event.type.startswith(OWN_PREFIX):
            return
        if event.path == self._tape.path and event.type == RESUMED:
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
            self._tape.rejected[event.path].append(self._refusals[event.path])

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
    EXECUTION_RESULT: _Recording.result,
    "flow_finished": _Recording.flow_finished,
    "llm_guardrail_completed": _Recording.guardrail,
    "task_completed": _Recording.task_completed,
    "task_failed": _Recording.task_failed,
    "method_execution_started": _Recording.method_started,
    "method_execution_finished": _Recording.method_finished,
    "method_execution_paused": _Recording.method_paused,
}
