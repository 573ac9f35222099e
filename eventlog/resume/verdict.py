"""Whether an execution did the same again, and where it first did not."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.nesting import decode_payload
from eventlog.read import Reader
from eventlog.record import EXECUTION_RESULT, OWN_PREFIX, StoredEvent
from eventlog.replay.path import split_task_place
from eventlog.resume.closed import ClosedPlayer
from eventlog.resume.compare import Scope, Side, compare, omitted_types, settled
from eventlog.resume.divergence import DivergedError, Divergence, first_difference
from eventlog.resume.history import outside_of_answers
from eventlog.resume.models import recorded_request
from eventlog.resume.recorded import Recorded
from eventlog.values import resolve

EVENT_OF = {"llm": "llm_call_started", "tool": "tool_usage_started"}


class Verdict(msgspec.Struct, kw_only=True):
    """What is found by comparing."""

    diverged_at: str | None = None
    at: str = ""
    expected: Any = None
    actual: Any = None
    events: int = 0


def judge(recorded: Recorded, now: list[StoredEvent], reader: Reader, player: ClosedPlayer) -> Verdict:
    """Return where what happened now first differs from what is recorded. ``reader`` knows what ``now`` refers to."""
    then = recorded.events()
    said = [event for event in now if not event.type.startswith(OWN_PREFIX)]
    omitted = omitted_types(then)
    sides = (
        Side(then, recorded.tape.path, recorded.reader.content, omitted),
        Side(outside_of_answers(said, recorded.busy), recorded.tape.path, reader.content, omitted),
    )
    if isinstance(player.stopped, DivergedError):
        return _of_question(recorded, sides, player, player.stopped.divergence)
    difference = compare(*sides)
    if difference is not None:
        return Verdict(
            diverged_at=f"{difference.path} {difference.event}", at=difference.at, expected=difference.expected,
            actual=difference.actual, events=len(then),
        )  # fmt: skip
    return _of_output(recorded, now, reader, len(then))


def _of_output(recorded: Recorded, now: list[StoredEvent], reader: Reader, events: int) -> Verdict:
    """Return whether the kickoff returned what it had returned."""
    path = recorded.tape.path
    found = recorded.tape.result[1] if recorded.tape.result is not None else {}
    new: dict[str, Any] = next(
        (decode_payload(e.payload) for e in now if e.type == EXECUTION_RESULT and e.path == path), {}
    )
    then = settled(resolve(found.get("result"), recorded.reader.content))
    actual = settled(resolve(new.get("result"), reader.content))
    difference = first_difference(then, actual)
    if difference is None:
        return Verdict(events=events)
    at, expected, came = difference
    return Verdict(diverged_at=f"{path} {EXECUTION_RESULT}", at=at, expected=expected, actual=came, events=events)


def _of_question(recorded: Recorded, sides: tuple[Side, Side], player: ClosedPlayer, found: Divergence) -> Verdict:
    """Return where a kickoff asked what is not on record, beside what it should have asked."""
    where = Verdict(
        diverged_at=f"{found.where} {EVENT_OF.get(found.what, found.what)}", at=found.at, expected=found.expected,
        actual=found.actual, events=len(recorded.events()),
    )  # fmt: skip
    twin = _Twin(recorded, sides, player)
    lane = twin.of(found.where)
    if twin.skipped is not None:
        where.diverged_at, where.at, where.actual = f"{twin.skipped.path} task_started", "", None
        where.expected = twin.told()
    elif lane is not None and lane != found.where and found.what == "llm" and found.expected is None:
        asked = next(iter(recorded.tape.llm.get(lane, ())), None)
        then = recorded_request(player, asked) if asked is not None else None
        where.at, where.expected, where.actual = first_difference(then, found.actual) or ("", then, found.actual)
    return where


class _Twin:
    """Finds the recorded scope that stands where a new one stands now: a task whose text was edited has another key."""

    def __init__(self, recorded: Recorded, sides: tuple[Side, Side], player: ClosedPlayer) -> None:
        """``skipped``: a recorded task that did not come though a later one did."""
        self._recorded, self._sides, self._player = recorded, sides, player
        self.skipped: Scope | None = None

    def of(self, lane: str) -> str | None:
        """Return the path that the scope at ``lane`` has on record; ``None`` if nothing stands there."""
        then, now = self._sides[0].tree, self._sides[1].tree
        for name in lane[len(now.path) + 1 :].split("/") if lane != now.path else ():
            found = then.inner.get(name) or self._replaced(then, now, name)
            if found is None:
                return None
            self.skipped = self._skipped_before(then, now, found)
            if self.skipped is not None:
                return None
            then, now = found, now.inner.get(name) or Scope(f"{now.path}/{name}")
        return then.path

    def told(self) -> Any:
        """Return what is recorded of the task that did not come."""
        event = self.skipped.first if self.skipped is not None else None
        return None if event is None else {"task_name": event.task_name, **self._sides[0].payload(event)}

    def _replaced(self, then: Scope, now: Scope, name: str) -> Scope | None:
        """Return the first recorded scope of the same kind that did not come, and will not."""
        kind = Scope(f"{now.path}/{name}").kind
        free = (s for s in then.inner.values() if s.kind == kind and s.name not in now.inner)
        return next((scope for scope in free if not self._may_come(scope)), None)

    def _skipped_before(self, then: Scope, now: Scope, found: Scope) -> Scope | None:
        """Return a recorded task before ``found`` that did not come, and will not."""
        for scope in then.inner.values():
            if scope is found:
                return None
            if scope.kind == "task" and scope.name not in now.inner and not self._may_come(scope):
                return scope
        return None

    def _may_come(self, scope: Scope) -> bool:
        """Whether a recorded task is one that the live crew still has."""
        split = split_task_place(scope.path)
        live = self._player.live_definitions.get(split[0]) if split else None
        lines = (live or {}).get("tasks")
        if split is None or not isinstance(lines, list):
            return False
        return sum(str(line.get("key"))[:8] == split[1] for line in lines) > split[2]
