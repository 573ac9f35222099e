"""Which events at or below a cut are retained, and what is left of the others. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from eventlog.bases import Spent
from eventlog.compaction.survey import Survey, payload_of
from eventlog.ids import stored_id
from eventlog.record import COMMAND, EXECUTION_RESULT, FLAG_REPLAYED, OWN_PREFIX, RESUMED, WORK_TYPES, StoredEvent
from eventlog.replay.path import above, self_and_above

OUTCOMES = frozenset(
    (
        "crew_kickoff_started flow_started flow_finished lite_agent_execution_started task_started task_completed"
        " method_execution_started method_execution_finished eventlog.definition eventlog.fork_edited"
        " eventlog.task_skipped"
    ).split()
) | {EXECUTION_RESULT, RESUMED, COMMAND}
"""What was run, with what, and what came of it: kept however long ago."""

TOOLS = frozenset(("tool_usage_started", "tool_usage_finished", "tool_usage_error", "eventlog.tool_exchange"))
"""Kept of what is settled: a later task, or another kickoff of the same crew, may ask a tool the same."""


ASKED = frozenset(("eventlog.llm_exchange", "eventlog.token_count", "eventlog.memory_exchange"))
"""What a settled scope asked itself: nobody will ask it again."""


class Keeper:
    """Decides about one event after the other."""

    def __init__(self, survey: Survey, finished: Collection[str], cut: int, *, keeps_tape: bool) -> None:
        """``finished``: paths of the executions at the top that ended well."""
        self._survey, self._cut, self._keeps_tape = survey, cut, keeps_tape
        self._done = {path for path in finished if survey.has_result(path)}
        self._answers: dict[str, StoredEvent] = {}
        self.spent: list[Spent] = []

    def keeps(self, event: StoredEvent) -> bool:
        """Whether an event is retained; of a model call that is not, the tokens are taken down."""
        if self._is_needed(event):
            return True
        if not event.flags & FLAG_REPLAYED:
            self._count(event)
        return False

    def finish(self) -> None:
        """Take down the calls whose process died before it stored the exchange."""
        for event in self._answers.values():
            self._spend(event, above(event.path), _usage_of(payload_of(event)), is_told=True)
        self._answers.clear()

    def _is_needed(self, event: StoredEvent) -> bool:
        """Whether an answer that was promised needs the event."""
        if event.type in OUTCOMES or event.type in WORK_TYPES or event.seq == self._cut or _has_users_id(event):
            return True
        if not event.path:
            return False
        if self._keeps_tape:
            return True
        if self_and_above(event.path)[0] in self._done:
            return event.type in TOOLS and not event.flags & FLAG_REPLAYED
        settled = self._survey.settled_around(event.path)
        if settled is not None and (settled != event.path or event.type in ASKED):
            return event.type in TOOLS and not event.flags & FLAG_REPLAYED
        return not event.flags & FLAG_REPLAYED or event.type == "llm_call_started"

    def _count(self, event: StoredEvent) -> None:
        """Take down what a call cost, once its exchange has come."""
        if event.type == "llm_call_completed":
            self._answers[event.event_id] = event
        elif event.type == "eventlog.llm_exchange":
            fields = payload_of(event)
            answer = self._answers.pop(str(fields.get("completed")), None)
            if fields.get("error") is None:
                usage = (_usage_of(payload_of(answer)) if answer is not None else {}) or _usage_of(fields)
                self._spend(answer or event, event.path, usage, is_told=answer is not None, seq=event.seq)

    def _spend(
        self, who: StoredEvent, lane: str, usage: dict[str, Any], *, is_told: bool, seq: int | None = None
    ) -> None:
        """Take down one call; a silent model's agent is unknown, as it is on the tape."""
        agent = (who.agent_id, who.agent_role) if is_told else (None, None)
        self.spent.append(Spent(lane, seq or who.seq, *agent, usage, is_told))


def _has_users_id(event: StoredEvent) -> bool:
    """Whether an event is the user's own, under an id the user gave: appended again, it must be known."""
    is_own = "." in event.type and not event.type.startswith(OWN_PREFIX)
    return is_own and not isinstance(stored_id(event.event_id), bytes)


def _usage_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the tokens that an answer or an exchange tells."""
    usage = fields.get("usage")
    return usage if isinstance(usage, dict) else {}
