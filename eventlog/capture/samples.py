"""State that is in no event: a flow's state inside a method, an agent executor between its steps.

A flow's state is in the events at the start and the end of each method. In between it is
looked at whenever something else inside the method is captured, and what changed becomes
``eventlog.flow_state``. An executor that follows a plan has its plan and to-dos sampled at each
model call (``eventlog.executor``); its messages and counters follow from the exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from eventlog.codec import dump_json

if TYPE_CHECKING:
    from eventlog.capture.recorder import Recorder
    from eventlog.capture.scopes import Execution, Place
    from eventlog.codec import Encoded
    from eventlog.record import NewEvent

Publish = list["Callable[[], None]"]
EXECUTOR_FIELDS = ("plan", "plan_ready", "replan_count", "last_replan_reason", "observations")


class Samples:
    """Looks at live state on behalf of a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        """``recorder`` encodes and builds the events."""
        self._recorder = recorder

    def before(self, source: Any, event: Any, place: Place, publish: Publish) -> list[NewEvent]:
        """Return samples to store ahead of an event."""
        out = []
        for flow in self._around(place):
            carries = flow.entity() is source and getattr(event, "state", None) is not None
            sample = self._flow_state(flow, place, publish, rebase=carries)
            if sample is not None:
                out.append(sample)
        if event.type == "llm_call_started":
            sample = self._executor_state(event, place, publish)
            if sample is not None:
                out.append(sample)
        return out

    @staticmethod
    def _around(place: Place) -> Iterator[Execution]:
        """Yield the flows that an event happens in, innermost first; one that starts with it has no state yet."""
        execution = place.execution
        if place.opens is not None and execution is not None:
            execution = execution.parent
        while execution is not None:
            if execution.kind == "flow" and execution.entity() is not None:
                yield execution
            execution = execution.parent

    def _flow_state(self, flow: Execution, place: Place, publish: Publish, *, rebase: bool) -> NewEvent | None:
        """Return what changed in a flow's state since it was last seen; ``rebase`` only takes note of it.

        Threads may look at the same time. So the last note is read before the state: what another thread
        adds in between is left alone. And a new note is taken when the event is queued: the event that comes
        last leaves its note, and the next sample corrects what that one did not see.
        """
        last = flow.sample or {}
        state = getattr(flow.entity(), "state", None)
        fields = state if isinstance(state, dict) else getattr(state, "__dict__", None)
        if not isinstance(fields, dict):
            return None
        now = {str(k): self._encode(str(k), v) for k, v in list(fields.items())}
        seen = {k: e.payload for k, e in now.items()}
        changed = [e for k, e in now.items() if last.get(k) != e.payload]
        gone = [k for k in last if k not in now]
        if not (changed or gone):
            return None
        publish.append(lambda: setattr(flow, "sample", seen))
        if rebase:
            return None
        publish.extend(e.publish for e in changed)
        return self._recorder.built("eventlog.flow_state", _merge(changed, gone), place.home, flow.path)

    def _encode(self, key: str, value: Any) -> Encoded:
        """Encode one field of a state; ``None`` is a value here."""
        encoded = self._recorder.encoder.encode({key: value})
        if encoded.payload == b"{}":
            encoded.payload = dump_json({key: None})
        return encoded

    def _executor_state(self, event: Any, place: Place, publish: Publish) -> NewEvent | None:
        """Return the executor's counters and plan if they changed since its last model call."""
        scopes = self._recorder.scopes
        executor = scopes.executor(scopes.scope(event.parent_event_id))
        state = getattr(executor, "state", None)
        if state is None:
            return None
        fields = {name: getattr(state, name, None) for name in EXECUTOR_FIELDS}
        fields["todos"] = getattr(getattr(state, "todos", None), "items", None)
        fields = {k: v for k, v in fields.items() if v}
        if not fields:
            return None
        encoded = self._recorder.encoder.encode(fields)
        scope = scopes.scope(event.parent_event_id)
        mark = hash(encoded.payload)
        if scope is None or scope.children.get("$executor") == mark:
            return None
        publish += [encoded.publish, lambda: scope.children.update({"$executor": mark})]
        return self._recorder.built("eventlog.executor", encoded, place.home, scope.path, event.parent_event_id)


def _merge(parts: list[Encoded], gone: list[str]) -> Encoded:
    """Return ``{"set": {all parts}, "unset": gone}`` without encoding anything twice."""
    first = parts[0] if parts else None
    inner = b",".join(p.payload[1:-1] for p in parts)
    body = b'{"set":{' + inner + b"}" + (b',"unset":' + dump_json(gone) if gone else b"") + b"}"
    from eventlog.codec import Encoded  # noqa: PLC0415

    flags = 0
    contents = []
    for part in parts:
        flags |= part.flags
        contents += part.contents
    return Encoded(body, contents, flags, lambda: None, first.epoch if first else 0)
