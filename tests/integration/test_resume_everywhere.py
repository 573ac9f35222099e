"""Wherever a run is cut off, fresh objects finish it as if nothing had happened, and ask nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog.capture.playing import MISSING
from eventlog.resume import director, flows, models, player, tasks, tools, usage
from eventlog.resume.player import TapePlayer
from tests.integration.resuming import RUN, cuts, record_whole, resume, sweep, upto
from tests.scenarios import SHAPES, build, texts
from tests.torture import drawn

KICKOFFS = [name for name in SHAPES if not name.startswith("llm_")]
"""Shapes that are kicked off; an LLM asked directly is not resumed."""
MOST = 5
"""Cuts for each shape; in ``make torture`` other ones each time."""

pytestmark = pytest.mark.timeout(900)


@pytest.mark.torture
@pytest.mark.parametrize("name", drawn("resume everywhere", KICKOFFS, 12, KICKOFFS))
def test_a_run_cut_off_anywhere_is_finished_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    """The promise of resume: same result, same state, and every model, tool and person is asked once."""
    whole = record_whole(name, tmp_path)

    assert sweep(whole, tmp_path, cuts(whole, MOST)) == []


def test_a_second_kickoff_of_the_same_objects_is_not_taken_for_an_edit(tmp_path: Path) -> None:
    """What a finished kickoff leaves in its objects is no edit of the program, also not under ``strict``."""
    whole = record_whole("twice", tmp_path)
    scenario = build("twice")

    with eventlog.open(whole.file) as log, log.run(RUN, on_change="strict") as run, run.directed():
        assert texts(scenario.start()) == texts(whole.result)
    assert scenario.world.llm_calls == 0


@pytest.mark.parametrize("name", ["sequential_native", "async_tasks", "flow_objects"])
def test_a_batched_log_is_resumed_as_well(name: str, tmp_path: Path) -> None:
    """Durability decides how much is lost, not what is made of the rest."""
    whole = record_whole(name, tmp_path, durability="batch")

    assert sweep(whole, tmp_path, cuts(whole, MOST // 2), durability="batch") == []


def test_a_crew_whose_memory_was_lost_still_ends(tmp_path: Path) -> None:
    """What was recalled before the cut comes from the log, what is recalled later from an empty store."""
    whole = record_whole("remembering", tmp_path)
    last_recall = max(e.seq for e in whole.events if e.payload.get("operation") == "recall")

    for seq in cuts(whole, MOST):
        resumed = resume(whole, seq, tmp_path, keeps_memory=False)
        assert resumed.error is None
        assert resumed.state.status == "completed"
        assert (texts(resumed.result) == texts(whole.result)) or seq < last_recall
        assert resumed.touched["tool"] == whole.touched["tool"] - sum(
            event.type == "eventlog.tool_exchange" for event in upto(whole, seq)
        )


# -- the tests can fail ------------------------------------------------------------------------------


def nothing(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


def always(answer: Any) -> Callable[..., Any]:
    """Return a function that gives one answer to everything."""
    return lambda *args, **kwargs: answer


BUGS: dict[str, tuple[str, Any, str, Any, str]] = {
    "models are asked again": ("sequential_react", TapePlayer, "llm", always(MISSING), "llm: "),
    "tools run again": ("sequential_native", TapePlayer, "tool", always(None), "tool: "),
    "people are asked again": ("flow_ask", TapePlayer, "human", always(None), "question: "),
    "finished tasks run again": ("callbacks", TapePlayer, "task", always(MISSING), "callback "),
    "a finished method's changes are lost": ("flow_linear", flows, "_apply", nothing, "state of the flow: "),
    "tokens of kept tasks are not counted": ("sequential_react", usage, "count_tokens", nothing, "tokens: "),
    "tokens of served calls are not counted": ("agent_kickoff", models, "count_tokens", nothing, "tokens: "),
    "repeated events count twice": ("sequential_react", TapePlayer, "is_replayed", always(False), "event "),
    "new events do not count": ("sequential_react", TapePlayer, "is_replayed", always(True), "event "),
    "a skip is decided again": ("conditional_skipped", TapePlayer, "condition", always(None), "event "),
    "an unfinished execution is begun anew": ("flow_cyclic", director, "find_execution", always(None), "llm: "),
    "a limited tool may be used more often": ("limited_tool_native", tools, "_claim_use", nothing, "tool: "),
    "uses of tools are forgotten": ("twice", tasks, "count_tools", nothing, "texts: "),
    "what was not saved yet is forgotten": ("remembering", player, "SAVES", (), "save: "),
    "the cache of tools is empty": ("cached_tool", tasks, "_fill_cache", nothing, "tool: "),
}
"""Name → shape, where the bug is put, and what must be complained of."""


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_the_product_is_noticed(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bug for each guarantee: a comparison that finds nothing wrong with these would prove nothing."""
    name, where, attribute, wrong, complaint = BUGS[bug]
    whole = record_whole(name, tmp_path)
    monkeypatch.setattr(where, attribute, wrong)

    seqs = cuts(whole, MOST)
    assert any(f": {complaint}" in line for seq in reversed(seqs) for line in sweep(whole, tmp_path, [seq]))
