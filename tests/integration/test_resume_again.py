"""Resuming leaves objects and logs as any kickoff does: it can be interrupted, repeated and followed by others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eventlog
from tests.integration.resuming import RUN, cut, cuts, own, perform, problems, record_whole, resume, upto
from tests.scenarios import Scenario, build, texts

OFTEN = [
    "sequential_react", "sequential_native", "async_tasks", "hierarchical", "kickoff_for_each", "callbacks",
    "flow_with_crew", "flow_and_or", "flow_ask", "flow_objects", "agent_kickoff", "two_crews",
]  # fmt: skip


@pytest.mark.parametrize("name", OFTEN)
def test_a_run_that_is_interrupted_twice_is_finished_like_any_other(name: str, tmp_path: Path) -> None:
    """What was repeated only, and what was new in the second process, must both be on the third one's tape."""
    whole = record_whole(name, tmp_path)
    total = len(whole.events)

    for first in (total // 4, total * 2 // 3):
        again = resume(whole, whole.events[first].seq, tmp_path)
        tail = [event.seq for event in own(again.events) if event.seq > whole.events[first].seq + 1]
        for second in (tail[len(tail) // 5], tail[len(tail) * 4 // 5]):
            thrice = resume(again, second, tmp_path)

            assert problems(whole, upto(again, second), thrice) == [], (first, second)


@pytest.mark.parametrize("name", ["sequential_react", "flow_linear", "agent_kickoff"])
def test_a_finished_run_gives_its_result_without_a_question(name: str, tmp_path: Path) -> None:
    """The script is started once more, by mistake or by a supervisor: nothing runs, the result is the same."""
    whole = record_whole(name, tmp_path)

    again = perform(build(name), whole.file)

    assert texts(again.result) == texts(whole.result)
    assert again.touched == {}
    assert own(again.events)[-1].seq == whole.events[-1].seq


Again = Callable[[Scenario, Any], Any]


def kickoff(scenario: Scenario, topic: str) -> Any:
    """Kick off a crew or flow about another topic."""
    return scenario.subject.kickoff(inputs={"topic": topic})  # type: ignore[union-attr, call-arg]


def kickoff_async(scenario: Scenario, topic: str) -> Any:
    """The same through the asynchronous kickoff."""
    return asyncio.run(scenario.subject.akickoff(inputs={"topic": topic}))  # type: ignore[union-attr, call-arg]


def ask(scenario: Scenario, topic: str) -> Any:
    """Ask an agent another question."""
    return scenario.subject.kickoff(f"What is {topic}?")  # type: ignore[union-attr, arg-type]


LATER: dict[str, Again] = {
    "sequential_react": kickoff,
    "sequential_native": kickoff,
    "akickoff": kickoff_async,
    "callbacks": kickoff,
    "conditional_skipped": kickoff,
    "flow_linear": kickoff,
    "flow_structured_state": kickoff,
    "agent_kickoff": ask,
    "agent_kickoff_native": ask,
}


@pytest.mark.parametrize("name", LATER)
def test_objects_that_were_resumed_can_be_kicked_off_again(name: str, tmp_path: Path) -> None:
    """With other inputs that is a new execution, and outside of a run nobody notices that there ever was one."""
    again = LATER[name]
    untouched = build(name)
    expected = [texts(untouched.start()), texts(again(untouched, "coffee")), texts(again(untouched, "milk"))]
    calls = untouched.world.llm_calls
    whole = record_whole(name, tmp_path)
    at = cuts(whole, 9)

    for seq in (at[3], at[6], at[-1]):
        scenario = build(name)
        with eventlog.open(cut(whole.file, seq, tmp_path / f"{seq}.db")) as log:
            with log.run(RUN) as run, run.directed():
                found = [texts(scenario.start()), texts(again(scenario, "coffee"))]
            paths = [execution.path for execution in log.executions(RUN) if execution.parent is None]
            status = log.state(RUN).status
            failed = log.status().failed
        found.append(texts(again(scenario, "milk")))

        assert found == expected
        assert (len(set(paths)), status, failed) == (2, "completed", 0)
        assert scenario.world.llm_calls == calls - sum(event.type == "llm_call_completed" for event in upto(whole, seq))
