"""What is recorded of an execution, as one process without interruptions would have told it. Pure.

An interrupted execution is told in stretches, one for each process. The last says everything
again that it came through (flagged as replayed) and leaves out what was finished: tasks it
kept, and what lies inside finished methods and uses of tools. Those are told by an earlier
stretch. What only an earlier one tells and nobody kept was given up: a call that was under
way, a failure that was tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from eventlog.record import OWN_PREFIX, RESUMED, StoredEvent
from eventlog.replay.path import last_segment, self_and_above
from eventlog.resume.failures import drop_last_failures
from eventlog.resume.tape import Tape

Events = list[StoredEvent]

MEMORY = ("memory_query", "memory_save", "internal[RecallFlow]", "internal[EncodingFlow]")
"""Scopes inside operations of the memory, which are answered as wholes."""
HUMAN = frozenset(
    {"flow_input_requested", "flow_input_received", "human_feedback_requested", "human_feedback_received"}
)
"""What is told while a person is asked."""
PROCESS = frozenset(
    {"default_env", "cc_env", "codex_env", "cursor_env", "SIGTERM", "SIGINT", "SIGHUP", "SIGTSTP", "SIGCONT"}
)
"""What is told of the process, wherever it is at that moment."""


def stretches(events: Iterable[StoredEvent], path: str) -> list[Events]:
    """Return the events of the bus in an execution, one list for each process that worked on it."""
    found: list[Events] = [[]]
    for event in events:
        if event.type == RESUMED and event.path == path:
            found.append([])
        elif not event.type.startswith(OWN_PREFIX) and is_below(event.path, path):
            found[-1].append(event)
    return [part for part in found if part]


def told_once(parts: list[Events], is_kept: Callable[[str], bool]) -> Events:
    """Return what the stretches tell together, in order. ``is_kept``: whether an earlier one's task still counts."""
    if len(parts) < 2:
        return parts[0] if parts else []
    earlier, last = parts[:-1], parts[-1]
    paths = {event.path for event in last}
    inner = {place for path in paths for place in self_and_above(path)[:-1]}
    tops: dict[str, None] = {}
    for event in (event for part in earlier for event in part):
        top = _kept_top(event.path, paths, inner, is_kept)
        if top is not None:
            tops[top] = None
    kept = [event for top in tops for event in _inside(earlier, top, is_kept, whole=top not in paths)]
    return sorted([*kept, *last], key=lambda event: event.seq)


def _kept_top(path: str, paths: set[str], inner: set[str], is_kept: Callable[[str], bool]) -> str | None:
    """Return the outermost scope around ``path`` that the last stretch did not go into again."""
    for place in self_and_above(path):
        name = last_segment(place)
        if place not in inner and place not in paths:
            return place if name.startswith("task[") and is_kept(place) else None
        if place not in inner and place != path and name.startswith(("method[", "tool[")):
            return place
    return None


def _inside(parts: list[Events], top: str, is_kept: Callable[[str], bool], *, whole: bool) -> Events:
    """Return what stretches tell of a scope; without ``whole`` of what is in it only."""
    below = [[event for event in part if is_below(event.path, top)] for part in parts]
    events = told_once([part for part in below if part], is_kept)
    return events if whole else [event for event in events if event.path != top]


def is_below(path: str, place: str) -> bool:
    """Whether a path is a scope's or lies inside of it."""
    return path == place or path.startswith(place + "/")


def busy_tools(events: Iterable[StoredEvent]) -> set[str]:
    """Return the uses of tools in which something opened a scope: they are run again, what they ask is served."""
    found: set[str] = set()
    for event in events:
        if "/tool[" in event.path:
            places = self_and_above(event.path)[:-1]
            found.update(place for place in places if last_segment(place).startswith("tool["))
    return found


def outside_of_answers(events: Iterable[StoredEvent], busy: Collection[str]) -> Events:
    """Return the events of the code itself: not those out of what is answered as a whole, or of the process."""
    return [event for event in events if not _is_inside_an_answer(event, busy)]


def _is_inside_an_answer(event: StoredEvent, busy: Collection[str]) -> bool:
    """Whether an event is told by a memory, a question or a tool while it is asked."""
    if event.type in HUMAN or event.type in PROCESS:
        return True
    if any(part.startswith(MEMORY) for part in event.path.split("/")):
        return True
    is_tool = last_segment(event.path).startswith("tool[")
    return is_tool and event.path not in busy and not event.type.startswith("tool_usage")


def drop_given_up(tape: Tape, resumptions: Iterable[int]) -> None:
    """Take failures off the tape that a later process tried again: it was asked as if they had not been."""
    for seq in resumptions:
        drop_last_failures(tape, before=seq)
        for kind in (tape.human, tape.memory):
            for lane, exchanges in kind.items():
                kind[lane] = [e for e in exchanges if not e.failed or e.seq > seq]
