"""What is settled at a cut: finished, and such that nobody will run it again. Pure but for large values.

A finished task or method is not run again when a run goes on, unless its result cannot be made again in another
process (``resume/revive.py``): then its code runs, on recorded answers. Compaction sees no live objects, so it takes
a scope for settled only if any process can make its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.record import EXECUTION_RESULT, FLAG_OMITTED, FLAG_PLACEHOLDER, FLAG_REDACTED, RESUMED, StoredEvent
from eventlog.replay.path import above, last_segment, self_and_above, short_key, split_task_place
from eventlog.values import resolve

SAVES = ("remember", "aremember", "remember_many", "aremember_many")
"""Operations of a memory that save, perhaps later."""
_UNSURE = FLAG_OMITTED | FLAG_PLACEHOLDER | FLAG_REDACTED
_PLAIN_TAGS = frozenset(
    ("$content $tuple $set $map $float $int $str $bytes $datetime $date $time $timedelta $uuid $path $decimal").split()
)
"""Tags of values that need no class of the user's."""
_OURS = ("crewai.", "crewai_core.")
"""Modules whose classes every process has."""


class Survey:
    """Which executions are done and which scopes are settled, as far as the events so far tell."""

    def __init__(self, lookup: Callable[[str], Any]) -> None:
        """``lookup`` returns a content."""
        self._lookup = lookup
        self._settled: set[str] = set()
        self._results: set[str] = set()
        self._tasks: dict[str, set[str]] = {}
        self._attributes: dict[str, set[str] | None] = {}
        self._told: Counter[str] = Counter()
        self._saved: Counter[str] = Counter()

    def add(self, event: StoredEvent) -> None:
        """Take the next event."""
        step = _STEPS.get(event.type)
        if step is not None:
            step(self, event)

    def has_result(self, execution: str) -> bool:
        """Whether the result of an execution is on record, and any process can make it again."""
        return execution in self._results

    def settled_around(self, path: str) -> str | None:
        """Return the outermost settled scope that a path lies in, or is."""
        return next((place for place in self_and_above(path) if place in self._settled), None)

    def finish(self) -> None:
        """Take back what has a memory that was told more than it saved: it is told again."""
        for lane, count in self._told.items():
            if count > self._saved[lane]:
                self._settled.difference_update(self_and_above(lane))

    # -- steps ------------------------------------------------------------------------------------

    def _started(self, event: StoredEvent) -> None:
        """What starts, perhaps again, is not over."""
        self._settled.discard(event.path)

    def _task_completed(self, event: StoredEvent) -> None:
        """A task has its output; one that its crew does not list (a planner's) is not kept, but runs on the tape."""
        split = split_task_place(event.path)
        if split is None or split[1] not in self._tasks.get(split[0], ()):
            return
        self._settle(event, lambda payload: _is_plain(self._whole(payload.get("output"))))

    def _method_finished(self, event: StoredEvent) -> None:
        """A method returned; one that sets attributes of its flow runs again."""
        setters = self._attributes.get(above(event.path))
        name = last_segment(event.path).partition("]")[0].removeprefix("method[")
        if setters is None or name in setters:
            self._settled.discard(event.path)
            return
        self._settle(event, lambda p: _is_plain(self._whole(p.get("result"))) and _is_plain(self._state(p)))

    def _result(self, event: StoredEvent) -> None:
        """A kickoff returned."""
        if self._is_sure(event, lambda payload: _is_plain(self._whole(payload.get("result")))):
            self._results.add(event.path)

    def _resumed(self, event: StoredEvent) -> None:
        """A finished execution goes on: its result was not what was asked for any more."""
        self._results.discard(event.path)

    def _edited(self, event: StoredEvent) -> None:
        """A fork begins with other values: what used them runs again."""
        payload = payload_of(event)
        for place in (*(payload.get("reset") or ()), *(payload.get("outputs") or ())):
            self._settled.difference_update(self_and_above(str(place)))
            self._results.difference_update(self_and_above(str(place)))
        self._results.difference_update(self_and_above(str(payload.get("execution"))))

    def _defined(self, event: StoredEvent) -> None:
        """A crew says which tasks it has, a flow which of its methods set attributes; older logs do not know."""
        payload = payload_of(event)
        lines, names = payload.get("tasks"), payload.get("attributes")
        if isinstance(lines, list):
            keys = {short_key(str(line.get("key"))) for line in lines if isinstance(line, dict)}
            self._tasks.setdefault(event.path, set()).update(keys)
        if isinstance(names, list):
            self._attributes[event.path] = set(map(str, names))

    def _remembered(self, event: StoredEvent) -> None:
        """A memory was told something."""
        self._told[event.path] += payload_of(event).get("operation") in SAVES

    def _memory_saved(self, event: StoredEvent) -> None:
        """A memory saved, or gave up."""
        self._saved[above(event.path)] += 1

    # -- helpers ----------------------------------------------------------------------------------

    def _settle(self, event: StoredEvent, is_plain: Callable[[dict[str, Any]], bool]) -> None:
        """Take a scope for settled if its result can be made again."""
        if self._is_sure(event, is_plain):
            self._settled.add(event.path)
        else:
            self._settled.discard(event.path)

    def _is_sure(self, event: StoredEvent, is_plain: Callable[[dict[str, Any]], bool]) -> bool:
        """Whether what an event tells can be made again from it."""
        return not event.flags & _UNSURE and is_plain(payload_of(event))

    def _whole(self, tree: Any) -> Any:
        """Return a tree with every text in place; the box of a result is opened."""
        whole = resolve(tree, self._lookup)
        return whole["value"] if isinstance(whole, dict) and whole.keys() == {"value"} else whole

    def _state(self, payload: dict[str, Any]) -> Any:
        """Return the fields of a flow's state: its own class is the live flow's."""
        state = self._whole(payload.get("state"))
        return state.get("fields") if isinstance(state, dict) and "$model" in state else state


def payload_of(event: StoredEvent) -> dict[str, Any]:
    """Return the payload; empty when it cannot be read."""
    try:
        tree = decode_payload(event.payload)
    except EventFormatError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _is_plain(tree: Any) -> bool:
    """Whether a tree needs no class of the user's, and redaction took nothing from it."""
    work = [tree]
    while work:
        node = work.pop()
        if isinstance(node, str) and "[redacted:" in node:
            return False
        if isinstance(node, dict):
            if not _is_plain_tag(node):
                return False
            work.extend(node.values())
        elif isinstance(node, list):
            work.extend(node)
    return True


def _is_plain_tag(node: dict[str, Any]) -> bool:
    """Whether an object is none of a class that only some process may have."""
    tag = next(iter(node), "")
    if not tag.startswith("$") or tag in _PLAIN_TAGS:
        return True
    return tag in ("$model", "$enum") and str(node[tag]).startswith(_OURS)


def survey(events: Iterable[StoredEvent], lookup: Callable[[str], Any]) -> Survey:
    """Return what is settled after ``events``."""
    found = Survey(lookup)
    for event in events:
        found.add(event)
    found.finish()
    return found


_STEPS: dict[str, Callable[[Survey, StoredEvent], None]] = {
    "task_started": Survey._started,  # noqa: SLF001 - its own table
    "method_execution_started": Survey._started,  # noqa: SLF001
    "method_execution_failed": Survey._started,  # noqa: SLF001
    "method_execution_paused": Survey._started,  # noqa: SLF001
    "task_completed": Survey._task_completed,  # noqa: SLF001
    "method_execution_finished": Survey._method_finished,  # noqa: SLF001
    EXECUTION_RESULT: Survey._result,  # noqa: SLF001
    RESUMED: Survey._resumed,  # noqa: SLF001
    "eventlog.fork_edited": Survey._edited,  # noqa: SLF001
    "eventlog.definition": Survey._defined,  # noqa: SLF001
    "eventlog.memory_exchange": Survey._remembered,  # noqa: SLF001
    "memory_save_completed": Survey._memory_saved,  # noqa: SLF001
    "memory_save_failed": Survey._memory_saved,  # noqa: SLF001
}
