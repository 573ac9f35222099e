"""Wherever a run is cut off and compacted, fresh objects finish it as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog.compaction import keep, survey
from eventlog.record import StoredEvent
from eventlog.resume import taping
from tests.integration.compacting import sweep_compacted
from tests.integration.resuming import cuts, record_whole
from tests.integration.test_resume_everywhere import KICKOFFS
from tests.torture import drawn

CHOSEN = (
    "sequential_react sequential_native planning hierarchical async_tasks conditional_skipped flow_linear flow_objects"
    " flow_two_crews remembering cached_tool agent_kickoff task_execute_sync kickoff_for_each"
).split()
"""One shape of each kind; in ``make torture`` other ones each time."""
MOST = 3
"""Cuts for each shape."""

pytestmark = pytest.mark.timeout(900)


@pytest.mark.torture
@pytest.mark.parametrize("name", drawn("compact everywhere", CHOSEN, 10, KICKOFFS))
def test_a_run_compacted_anywhere_is_finished_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    """The promise of resume holds from the base on: what it needs was retained."""
    whole = record_whole(name, tmp_path)

    assert sweep_compacted(whole, tmp_path, cuts(whole, MOST)) == []


# -- the tests can fail ------------------------------------------------------------------------------


def always(answer: Any) -> Callable[..., Any]:
    """Return a function that gives one answer to everything."""
    return lambda *args, **kwargs: answer


def settle_every_task(found: survey.Survey, event: StoredEvent) -> None:
    """Take every completed task for settled, whoever ran it."""
    found._settled.add(event.path)


BUGS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None], str]] = {
    "outcomes are dropped": (
        "twice", lambda patch: patch.setattr(keep, "OUTCOMES", frozenset()), "llm: ",
    ),
    "the tape of what is unfinished is dropped": (
        "sequential_react", lambda patch: patch.setattr(survey.Survey, "settled_around", always("/x")), "llm: ",
    ),
    "a planner's task is taken for settled": (
        "planning", lambda patch: patch.setitem(survey._STEPS, "task_completed", settle_every_task), "llm: ",
    ),
    "tokens of dropped calls are not counted": (
        "sequential_react", lambda patch: patch.setattr(taping, "_put_spent", always(None)), "tokens: ",
    ),
    "tools of settled tasks are dropped": (
        "cached_tool", lambda patch: patch.setattr(keep, "TOOLS", frozenset()), "tool: ",
    ),
}  # fmt: skip
"""Name → shape, the bug, and what must be complained of."""


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_compaction_is_noticed(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bug for each thing that is retained: a comparison that finds nothing wrong with these proves nothing."""
    name, put, complaint = BUGS[bug]
    whole = record_whole(name, tmp_path)
    put(monkeypatch)

    seqs = cuts(whole, 5)
    assert any(f": {complaint}" in line for seq in reversed(seqs) for line in sweep_compacted(whole, tmp_path, [seq]))


def test_another_kickoff_of_a_compacted_crew_finds_what_its_tools_said(tmp_path: Path) -> None:
    """CrewAI keeps results of tools from one kickoff of a crew to the next.

    Seen to fail: when the exchanges of tools of a finished kickoff were dropped.
    """
    whole = record_whole("twice", tmp_path)
    over = next(event.seq for event in whole.events if event.type == "eventlog.execution_result")

    assert sweep_compacted(whole, tmp_path, [over, over + 7]) == []
