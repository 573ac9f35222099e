"""The tap on CrewAI's bus: sees every event on the emitter's thread, before ``emit`` returns.

``CrewAIEventsBus._prepare_event`` runs in the emitter for ``emit`` and ``aemit`` alike, after
ids and scopes are set and before any handler. It is private: a probe event proves that the
tap works, and if it does not, handlers on every class and CrewAI's stream sink take over
(``mode`` says so): they miss what CrewAI does not hand to handlers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal
from uuid import uuid4

from crewai.events.base_events import BaseEvent
from crewai.events.event_bus import crewai_event_bus as bus

from eventlog.contents import Cache
from eventlog.logger import Logger

Prepare = Callable[[Any, Any], None]
Sink = Callable[[Prepare, Any, Any], None]
"""Called with what gives the event its ids, and with the source and the event."""
Mode = Literal["off", "tap", "handlers"]
log = Logger(__name__)


class ProbeEvent(BaseEvent):
    """Asks whether the tap sees what is emitted; never stored."""

    type: str = "eventlog_probe"


class Tap:
    """Calls a sink for every event, once per event. The sink must not raise ``Exception``."""

    def __init__(self, sink: Sink) -> None:
        """Not installed yet."""
        self._sink = sink
        self._active = False
        self._probes: set[str] = set()
        self._seen: Cache[str, bool] = Cache(10_000)
        self._handled: dict[type, Callable[..., None]] = {}
        self._sink_token: Any = None
        self._wrapper: Prepare | None = None
        self._previous: Prepare | None = None
        self.mode: Mode = "off"

    def install(self) -> Mode:
        """Start tapping; returns how."""
        self._active = True
        self._wrap()
        if self._probe():
            self.mode = "tap"
        else:
            self._unwrap()
            self._fall_back()
            self.mode = "handlers"
            log.warning("capture_degraded", mode=self.mode, hint="this CrewAI version moved the tap point")
        return self.mode

    def remove(self) -> None:
        """Stop tapping and leave the bus as it was; a wrapper put over ours keeps working."""
        self._active = False
        self._unwrap()
        for event_class, handler in self._handled.items():
            bus.off(event_class, handler)
        self._handled.clear()
        self._leave_stream()
        self.mode = "off"

    # -- the private point --------------------------------------------------------------------

    def _wrap(self) -> None:
        """Put ourselves around ``_prepare_event`` of the bus instance, whatever is there already."""
        previous = getattr(bus, "_prepare_event", None)
        if previous is None:
            return

        def _prepare_event(source: Any, event: Any) -> None:
            if not self._active:
                previous(source, event)
            elif isinstance(event, ProbeEvent):
                previous(source, event)
                self._probes.discard(event.event_id)
            else:
                self._sink(previous, source, event)

        self._previous, self._wrapper = previous, _prepare_event
        bus._prepare_event = _prepare_event  # type: ignore[method-assign]  # noqa: SLF001

    def _unwrap(self) -> None:
        """Take ourselves off if we are on top; otherwise stay, as a pass-through."""
        if self._wrapper is not None and bus.__dict__.get("_prepare_event") is self._wrapper:
            if getattr(self._previous, "__func__", None) is getattr(type(bus), "_prepare_event", None):
                del bus.__dict__["_prepare_event"]
            else:
                bus._prepare_event = self._previous  # type: ignore[method-assign,assignment]  # noqa: SLF001
        self._wrapper = None

    def _probe(self) -> bool:
        """Whether both ways of emitting reach us."""
        thread = threading.Thread(target=self._emit_probes, name="eventlog-probe")
        thread.start()  # a thread of its own: the caller may be inside an event loop, or in a scope
        thread.join()
        seen = not self._probes
        self._probes.clear()
        return seen

    def _emit_probes(self) -> None:
        """Emit one probe each way."""
        try:
            first, second = ProbeEvent(event_id=str(uuid4())), ProbeEvent(event_id=str(uuid4()))
            self._probes |= {first.event_id, second.event_id}
            bus.emit(self, first)
            asyncio.run(bus.aemit(self, second))
        except Exception as error:
            log.warning("probe_failed", error=repr(error))

    # -- the public points --------------------------------------------------------------------

    def _fall_back(self) -> None:
        """Register on every known class, and on the stream sink of this context."""

        def handler(source: Any, event: Any) -> None:
            self._receive_once(source, event)

        for event_class in _all_subclasses(BaseEvent):
            bus.register_handler(event_class, handler)
            self._handled[event_class] = handler
        try:
            from crewai.events.stream_context import add_stream_sink  # noqa: PLC0415 - may be gone too

            self._sink_token = add_stream_sink(self._receive_once)
        except Exception as error:
            log.warning("stream_sink_unavailable", error=repr(error))

    def _leave_stream(self) -> None:
        """Take the stream sink off; in another context than the one it was added in, it stays and does nothing."""
        if self._sink_token is not None:
            from crewai.events.stream_context import reset_stream_sinks  # noqa: PLC0415

            with suppress(ValueError):
                reset_stream_sinks(self._sink_token)
            self._sink_token = None

    def _receive_once(self, source: Any, event: Any) -> None:
        """Hand over an event that both points may bring."""
        if not self._active or isinstance(event, ProbeEvent) or self._seen.get(event.event_id):
            return
        self._seen.put(event.event_id, value=True)
        self._sink(_prepared, source, event)


def _prepared(_source: Any, _event: Any) -> None:
    """Nothing is left to do: what reaches a handler has its ids."""


def _all_subclasses(cls: type) -> set[type]:
    """Return all classes below ``cls`` that exist now."""
    found: set[type] = set()
    waiting: list[type] = [cls]
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        for sub in below:
            if sub not in found:
                found.add(sub)
                waiting.append(sub)
    return found
