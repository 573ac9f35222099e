"""An observer of a live crew that knows nothing of the log: what it sees, the log must say.

It looks at the live objects (tasks, flows, LLMs, the counted world) just before and just after each event
of CrewAI's bus, around the public ``emit`` and ``aemit``. While nothing runs beside, both looks see the same and
a state must agree exactly; while threads run beside, it must lie between the two.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from crewai import Crew, Task
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.flow.flow import Flow
from pydantic import BaseModel

from eventlog.testing import ScriptedLLM
from tests.scenarios import World

PROBE = "eventlog_probe"


class WatchedLLM(ScriptedLLM):
    """Counts the calls that are over: answered, told of, nothing left to do."""

    def _respond(self, request: Any, call: Any) -> Any:
        try:
            return super()._respond(request, call)
        finally:
            call.is_over = True


class LiveTask(msgspec.Struct, frozen=True):
    """What a live task shows."""

    id: str = ""
    began: bool = False
    ended: bool = False
    output: str | None = None

    @property
    def status(self) -> str:
        """What the task is; a live task does not know that it was skipped."""
        if not self.began:
            return "pending"
        if not self.ended:
            return "running"
        return "failed" if self.output is None else "completed"


TOLD = {"task_started": "running", "task_completed": "completed", "task_failed": "failed"}


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The live objects at one moment."""

    answered: int
    """Calls that LLMs answered."""
    over: int
    """Of these, how many returned to CrewAI."""
    failed: int
    tokens: int
    """As the LLM objects counted them; copies of LLMs count apart and are missing."""
    tool_runs: int
    tasks: dict[str, list[LiveTask]]
    """Tasks of each crew (or the bare task), by the id of the event that started it."""
    told: dict[str, str]
    """Status of the tasks whose last event was emitted, by id: from then on everybody may know it."""
    flow_state: dict[str, Any] | None
    """Of the outermost flow."""


class Seen(msgspec.Struct, frozen=True):
    """One event of the bus, and a look at the world on both sides of it."""

    event_id: str
    type: str
    thread: int
    before: Look
    after: Look


class Oracle:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[Seen] = []
        self.roots: dict[str, Crew | Task] = {}
        """Crews and bare tasks by the id of the event that started them."""
        self.flow: Flow[Any] | None = None
        self._told: dict[str, str] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at every event that is emitted inside."""
        emit, aemit = bus.emit, bus.aemit

        def watched_emit(source: Any, event: Any) -> Any:
            before = self.look()
            result = emit(source, event)
            self._note(source, event, before)
            return result

        async def watched_aemit(source: Any, event: Any) -> None:
            before = self.look()
            await aemit(source, event)
            self._note(source, event, before)

        bus.emit, bus.aemit = watched_emit, watched_aemit  # type: ignore[method-assign]
        try:
            yield
        finally:
            del bus.emit, bus.aemit  # what stands in the class is in the way no more

    def _note(self, source: Any, event: Any, before: Look) -> None:
        """Keep one event."""
        if event.type == PROBE:
            return
        bare_task = event.type == "task_started" and not isinstance(getattr(source.agent, "crew", None), Crew)
        if event.type == "crew_kickoff_started" or bare_task:
            self.roots[event.event_id] = source
        if event.type == "flow_started" and self.flow is None and not type(source).is_crewai_internal:
            self.flow = source
        if event.type in TOLD:
            self._told[str(source.id)] = TOLD[event.type]
        with self._lock:
            self.seen.append(Seen(event.event_id, event.type, threading.get_ident(), before, self.look()))

    def look(self) -> Look:
        """Look at the live objects."""
        calls = [call for llm in self.world.llms for call in llm.calls]
        failed = sum(isinstance(call.answer, BaseException) for call in calls)
        return Look(
            answered=sum(call.answer is not None for call in calls) - failed,
            over=sum(getattr(call, "is_over", False) for call in calls),
            failed=failed,
            tokens=sum(llm.get_token_usage_summary().total_tokens for llm in self.world.llms),
            tool_runs=len(self.world.tool_runs),
            tasks={started: _look_at_tasks(source) for started, source in list(self.roots.items())},
            told=dict(self._told),
            flow_state=None if self.flow is None else _stable(self.flow),
        )


def _look_at_tasks(source: Crew | Task) -> list[LiveTask]:
    """Return what the tasks of a crew show; a task shows itself."""
    tasks = source.tasks if isinstance(source, Crew) else [source]
    return [
        LiveTask(
            str(task.id),
            task.start_time is not None,
            task.end_time is not None,
            task.output.raw if task.output else None,
        )
        for task in tasks
    ]


def _plain_state(flow: Flow[Any]) -> dict[str, Any]:
    """Return a copy of a flow's state as JSON has it."""
    state = flow.state
    fields = state.model_dump(mode="json") if isinstance(state, BaseModel) else dict(state)
    copied: dict[str, Any] = json.loads(json.dumps(fields))
    return copied


def _stable(flow: Flow[Any]) -> dict[str, Any]:
    """Return the state of a flow that other threads may be changing."""
    while True:
        try:
            return _plain_state(flow)
        except RuntimeError:  # changed size during iteration
            continue
