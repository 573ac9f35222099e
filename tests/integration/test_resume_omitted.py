"""Payloads that the user leaves out: headers and exchanges stay, and a run goes on all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventlog
from eventlog.errors import EventLogError
from eventlog.record import FLAG_OMITTED
from tests.scenarios import World, build, texts

OMITTED = ("llm_call_started", "llm_call_completed", "task_completed", "method_execution_finished")


@pytest.mark.parametrize("name", ["sequential_react", "sequential_native", "flow_with_crew", "structured_output"])
def test_a_run_goes_on_without_the_payloads(tmp_path: Path, name: str) -> None:
    """Nothing that is recorded is asked again, though the outputs of tasks and methods are not on disk."""
    first, again = build(name), build(name)
    with eventlog.open(tmp_path / "log.db", omit_payload=OMITTED) as log:
        run = log.run("r")
        whole = run.kickoff(first.subject, inputs=first.inputs)
        seen = {event.type: event for event in log.events("r")}
        log.fork("r", to=seen["eventlog.llm_exchange"].seq, branch="cut")
        result = log.run("r", branch="cut").kickoff(again.subject, inputs=again.inputs)

    assert texts(result) == texts(whole)
    assert again.world.llm_calls == 0
    assert all(seen[kind].payload == {} and seen[kind].flags & FLAG_OMITTED for kind in OMITTED if kind in seen)


def test_tokens_of_omitted_calls_are_counted(tmp_path: Path) -> None:
    """The exchange keeps what the crew's usage is made of."""
    first, again = build("sequential_react"), build("sequential_react", World())
    with eventlog.open(tmp_path / "log.db", omit_payload=OMITTED) as log:
        whole = log.run("r").kickoff(first.subject, inputs=first.inputs)
        last = [event.seq for event in log.events("r", types=["eventlog.tool_exchange"])][-1]
        log.fork("r", to=last, branch="cut")
        result = log.run("r", branch="cut").kickoff(again.subject, inputs=again.inputs)

    assert result.token_usage == whole.token_usage


def test_what_resuming_needs_cannot_be_left_out(tmp_path: Path) -> None:
    """The library's own events are small, and without them nothing could go on."""
    with pytest.raises(EventLogError, match="needed"):
        eventlog.open(tmp_path / "log.db", omit_payload=["eventlog.llm_exchange"])
