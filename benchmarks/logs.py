"""Long logs for those who read: copies of the events of a crew that was really recorded, appended in groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

import eventlog
from benchmarks.crews import small_crew
from eventlog.record import ExecutionInfo, NewEvent, NewExecution, StoredEvent
from eventlog.submit import submit_events

RUN, RECORDED = "r", "recorded"
"""The run that is long, and the short one whose events are copied; both are in the file, as their long texts are."""
GROUP, CATCH_UP = 500, 20_000
ROUND_OF = "eventlog.token_count"
"""Begins a round of the agent: it asks the model, uses a tool, asks again."""
HEADER = (
    "type", "at_ns", "payload", "emission_sequence", "parent_event_id", "previous_event_id", "triggered_by_event_id",
    "started_event_id", "flags",
)  # fmt: skip
LINKS = ("parent_event_id", "previous_event_id", "triggered_by_event_id", "started_event_id")


class Sample(msgspec.Struct, frozen=True):
    """The events of a recorded kickoff, cut where a round of its agent begins and ends."""

    before: list[StoredEvent]
    one_round: list[StoredEvent]
    after: list[StoredEvent]
    execution: ExecutionInfo


def build(path: Path, events: int, *, kickoff_events: int | None = None) -> Path:
    """Make a log in which run ``r`` has so many events, with the states that the library stores by itself on the way.

    It is one kickoff whose agent goes round and round; or, with ``kickoff_events``, one kickoff of that length after
    another.
    """
    with eventlog.open(path, durability="batch") as log:
        with log.run(RECORDED):
            small_crew().kickoff()
        source = _endless(_sample(log), kickoff_events or events + GROUP)
        made = islice(source, events)
        for number in range(0, events, GROUP):
            group = list(islice(made, GROUP))
            submit_events(log.writer, [(event, _publish_nothing) for event in group])
            if number % CATCH_UP == 0:
                log.writer.snapshots.catch_up()
        log.writer.snapshots.catch_up()
    return path


def _publish_nothing() -> None:
    """The contents of a copy are known already."""


def _sample(log: eventlog.Log) -> Sample:
    """Return the recorded kickoff in parts."""
    events = [event for event in log.reader.stored(log.reader.branch_id(RECORDED, "main")) if event.path]
    begin, end, *_ = (at for at, event in enumerate(events) if event.type == ROUND_OF)
    last = max(at for at, event in enumerate(events) if event.type == ROUND_OF)
    return Sample(events[:begin], events[begin:end], events[last:], log.executions(RECORDED)[0])


def _endless(sample: Sample, kickoff_events: int) -> Iterator[NewEvent]:
    """Yield kickoffs of so many events, one after the other."""
    rounds = max(1, (kickoff_events - len(sample.before) - len(sample.after)) // len(sample.one_round))
    for kickoff in count():
        copies = _Copies(sample.execution, kickoff)
        parts = chain([sample.before], [sample.one_round] * rounds, [sample.after])
        for number, part in enumerate(parts):
            yield from copies.of(part, number)


class _Copies:
    """Copies events with ids and paths of their own, linked as the originals are."""

    def __init__(self, execution: ExecutionInfo, kickoff: int) -> None:
        """``kickoff``: the how manieth of the run it becomes."""
        self._execution, self._kickoff = execution, kickoff
        self._ids: dict[str | None, str] = {}

    def of(self, events: Sequence[StoredEvent], number: int) -> Iterator[NewEvent]:
        """Yield copies; ``number`` tells the calls of one round from those of another."""
        for event in events:
            self._ids[event.event_id] = made = str(uuid4())
            fields: dict[str, Any] = {name: getattr(event, name) for name in HEADER}
            fields |= {name: self._ids.get(fields[name]) for name in LINKS}
            path = self._path(event.path, number)
            yield NewEvent(
                event_id=made, run=RUN, path=path, task=_pair(event.task_id, event.task_name),
                agent=_pair(event.agent_id, event.agent_role), opens=self._opened(event),
                closes=(path[:1], "completed") if event.type == "crew_kickoff_completed" else None, **fields,
            )  # fmt: skip

    def _path(self, path: str, number: int) -> tuple[str, ...]:
        """Return a path as labels, of another kickoff and another round."""
        labels = [re.sub(r"^(llm|tool\[.*\])#\d+$", rf"\1#{number}", label) for label in path[1:].split("/")]
        labels[0] = re.sub(r"#\d+$", f"#{self._kickoff}", labels[0])
        return tuple(labels)

    def _opened(self, event: StoredEvent) -> NewExecution | None:
        """Return what the first event of a kickoff tells the index."""
        info = self._execution
        if event.type != "crew_kickoff_started":
            return None
        return NewExecution(kind=info.kind, name=info.name, key=info.key, inputs_hash=info.inputs_hash, parent=None)


def _pair(known: str | None, name: str | None) -> tuple[str, str] | None:
    """Return id and name of a task or agent."""
    return None if known is None else (known, name or "")
