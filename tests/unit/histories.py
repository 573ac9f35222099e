"""Histories written by hand: what CrewAI 1.15.30 emits, with the payload fields the fold reads."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.record import StoredEvent
from eventlog.replay.fold import fold_events
from eventlog.replay.state import RunState

CREW = "/crew:k#0"
FLOW = "/flow:Audit#0"


class History:
    """A list of events in the making; a started scope is closed by the path it was opened with."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []

    def add(self, event_type: str, path: str = "", *, closes: str | None = None, **fields: Any) -> StoredEvent:
        """Append an event; ``closes`` is the id it names as its start, other fields are header or payload."""
        seq = len(self.events) + 1
        header: dict[str, Any] = {
            name: fields.pop(name) for name in ("task_id", "task_name", "agent_role", "at_ns") if name in fields
        }
        payload = fields.pop("raw", None) or msgspec.json.encode({k: v for k, v in fields.items() if v is not None})
        facts: dict[str, Any] = {"seq": seq, "event_id": f"e{seq}", "at_ns": seq * 1_000_000_000, **header}
        event = StoredEvent(
            type=event_type, run="r", branch="main", path=path, started_event_id=closes, payload=payload, **facts
        )
        self.events.append(event)
        return event

    def define(self, *tasks: tuple[str, str], path: str = CREW) -> None:
        """Append a definition: pairs of id and key."""
        rows = [
            {"id": i, "key": k, "name": f"name-{k}", "description": f"do {k}", "agent": f"{{x}} {k}"} for i, k in tasks
        ]
        self.add("eventlog.definition", path, kind="crew", tasks=rows)

    def run_task(self, task_id: str, key: str, output: Any = "done", path: str = CREW) -> None:
        """Append a task that succeeds at once."""
        place = f"{path}/task[{key}]#0"
        start = self.add("task_started", place, task_id=task_id, task=task_ref(task_id, key))
        self.add("task_completed", place, closes=start.event_id, task_id=task_id, output=task_output(output))

    def state(self) -> RunState:
        """Return the fold of all."""
        return fold_events(self.events, run="r", branch="main")


def task_ref(task_id: str, key: str) -> dict[str, str]:
    """Return how a payload refers to a live task."""
    return {"$ref": "task", "cls": "crewai.task:Task", "id": task_id, "key": key}


def task_output(raw: Any, agent: str = "Writer") -> dict[str, Any]:
    """Return a ``TaskOutput`` as the codec writes it."""
    return {
        "$model": "crewai.tasks.task_output:TaskOutput",
        "fields": {"raw": raw, "description": "did", "agent": agent},
    }


def finished_crew() -> History:
    """Return a crew of two tasks that went well, an LLM call in each."""
    history = History()
    kickoff = history.add("crew_kickoff_started", CREW, crew_name="c", inputs={"topic": "x"})
    history.define(("t1", "a"), ("t2", "b"))
    for task_id, key in (("t1", "a"), ("t2", "b")):
        place = f"{CREW}/task[{key}]#0"
        start = history.add("task_started", place, task_id=task_id, task=task_ref(task_id, key))
        worker = history.add(
            "agent_execution_started",
            f"{place}/agent_execution#0",
            agent={"$ref": "agent", "role": "Writer"},
            task=task_ref(task_id, key),
        )
        call = history.add("llm_call_started", f"{place}/agent_execution#0/llm#0", model="m")
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        history.add("llm_call_completed", call.path, closes=call.event_id, model="m", usage=usage)
        history.add("agent_execution_completed", worker.path, closes=worker.event_id, output="done")
        history.add("task_completed", place, closes=start.event_id, task_id=task_id, output=task_output(f"out {key}"))
    history.add("crew_kickoff_completed", CREW, closes=kickoff.event_id, crew_name="c")
    return history
