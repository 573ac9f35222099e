"""What crossed the border to the world is in the log once: every LLM call, tool run, token count and answer.

The world counts what really happened (``tests.scenarios.World``); the log must have the same, and all that is
needed to answer the same request again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.record import Event
from eventlog.values import plain
from tests.integration.recording import Recorded, record
from tests.scenarios import NAMES

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "successful_requests": 1}


@pytest.fixture(scope="module")
def recorded_so_far() -> Iterator[dict[Any, Recorded]]:
    """Each scenario runs once for all tests here."""
    made: dict[Any, Recorded] = {}
    yield made
    for recorded in made.values():
        recorded.log.close()


def once(key: tuple[str, bool], made: dict[Any, Recorded], folder: Path) -> Recorded:
    """Return the recording of a scenario with LLMs that emit events, or with silent ones."""
    if key not in made:
        folder.mkdir(exist_ok=True)
        made[key] = record(key[0], folder, **({"silent": True} if key[1] else {}))
    return made[key]


@pytest.fixture(params=NAMES)
def recorded(request: pytest.FixtureRequest, recorded_so_far: dict[Any, Recorded], tmp_path: Path) -> Recorded:
    """A scenario with LLMs that tell what they do."""
    return once((request.param, False), recorded_so_far, tmp_path)


@pytest.fixture(params=NAMES)
def silent(request: pytest.FixtureRequest, recorded_so_far: dict[Any, Recorded], tmp_path: Path) -> Recorded:
    """The same scenario with LLMs that emit no event, as many that users write."""
    return once((request.param, True), recorded_so_far, tmp_path)


@pytest.fixture
def quiet(recorded: Recorded, recorded_so_far: dict[Any, Recorded], tmp_path: Path) -> Recorded:
    """The scenario of ``recorded`` with LLMs that emit no event."""
    return once((recorded.scenario.name, True), recorded_so_far, tmp_path / "quiet")


def exchanges(recorded: Recorded, kind: str) -> list[Event]:
    """Return all exchanges of one kind."""
    return [event for event in recorded.events if event.type == f"eventlog.{kind}"]


def calls(recorded: Recorded) -> list[Any]:
    """Return what the LLMs of the world were really asked."""
    return [call for llm in recorded.scenario.world.llms for call in llm.calls]


def test_every_call_of_an_llm_is_one_exchange_that_points_at_its_event(recorded: Recorded) -> None:
    """The response is in the event already; it is not stored twice, and not of another call."""
    events = {event.event_id: event for event in recorded.events}
    pointers = [e.payload.get("completed") or e.payload.get("failed") for e in exchanges(recorded, "llm_exchange")]

    assert len(pointers) == len(set(pointers)) == recorded.scenario.llm_calls
    assert all(events[str(p)].type in ("llm_call_completed", "llm_call_failed") for p in pointers)


def test_an_exchange_lies_where_its_call_was_made(recorded: Recorded) -> None:
    """The tape is read by place: the scope around the call, not the call itself."""
    events = {event.event_id: event for event in recorded.events}
    for exchange in exchanges(recorded, "llm_exchange"):
        ended = events[str(exchange.payload.get("completed") or exchange.payload["failed"])]

        assert exchange.path == ended.path.rpartition("/")[0]
        assert exchange.seq > ended.seq


def test_the_answers_of_the_llms_are_all_there(recorded: Recorded) -> None:
    """Each can be given again: from the exchange, or from the event it points at."""
    events = {event.event_id: event for event in recorded.events}
    answers: Counter[str] = Counter()
    for exchange in exchanges(recorded, "llm_exchange"):
        if exchange.payload.get("error") is None:
            told = events[str(exchange.payload["completed"])].payload["response"]
            answers[_as_text(exchange.payload["response"]["value"] if "response" in exchange.payload else told)] += 1

    wanted = (call.answer for call in calls(recorded) if not isinstance(call.answer, BaseException))
    assert answers == Counter(map(_as_text, wanted))


def _as_text(answer: Any) -> str:
    """Return an answer in a form that the recorded and the live one share."""
    return str(answer.model_dump() if hasattr(answer, "model_dump") else plain(answer))


def test_a_silent_llm_is_recorded_whole(silent: Recorded) -> None:
    """Nothing else tells of the call: the exchange has question, answer and tokens."""
    found = exchanges(silent, "llm_exchange")
    asked = Counter(str(call.messages) for call in calls(silent))

    assert not [event for event in silent.events if event.type.startswith("llm_call")]
    assert len(found) == silent.scenario.llm_calls
    assert Counter(str(_as_asked(e.payload["messages"])) for e in found) == asked
    for exchange in found:
        failed = exchange.payload.get("error") is not None
        assert failed or exchange.payload["response"]["value"] is not None
        assert failed or exchange.payload["usage"] == USAGE


def _as_asked(messages: list[Any]) -> list[Any]:
    """Return messages as the scripted LLM keeps them."""
    keys = ("role", "content", "name", "tool_calls", "tool_call_id")
    return [{key: message[key] for key in keys if key in message} for message in messages]


def test_the_state_counts_silent_calls_like_others(recorded: Recorded, quiet: Recorded) -> None:
    """Calls and tokens are the same whether the LLM tells of them or not."""
    assert quiet.log.state("r").llm == recorded.log.state("r").llm


def test_requests_do_not_change_their_name_with_what_the_llm_tells(recorded: Recorded, quiet: Recorded) -> None:
    """A log of a silent LLM can answer one that emits events, and the other way round."""
    names = [Counter(e.payload["request"] for e in exchanges(r, "llm_exchange")) for r in (recorded, quiet)]

    assert names[0] == names[1]


def test_every_real_run_of_a_tool_is_one_exchange(recorded: Recorded) -> None:
    """With its arguments and what the function itself returned."""
    found = [e.payload for e in exchanges(recorded, "tool_exchange") if e.payload["tool"] == "lookup"]

    assert Counter(p["args"]["q"] for p in found) == Counter(recorded.scenario.world.tool_runs)
    assert all(p["result"]["value"] == f"fact about {p['args']['q']}" for p in found)


def test_every_token_count_of_a_provider_is_recorded(recorded: Recorded) -> None:
    """For many providers it is a request over the network, and no event tells of it."""
    assert len(exchanges(recorded, "token_count")) == recorded.scenario.world.token_counts


def test_every_question_to_a_person_is_recorded_with_its_answer(recorded: Recorded) -> None:
    """Also the empty answer that accepts, which no event holds; nobody is asked twice after a restart."""
    answers = [e.payload["answer"]["text"] for e in exchanges(recorded, "human_exchange")]
    wanted = {"human_input": ["Make it shorter", ""], "flow_ask": ["tea", "green"]}

    assert len(answers) == recorded.scenario.questions
    assert answers == wanted.get(recorded.scenario.name, [])


def test_a_task_that_is_skipped_is_told_of(recorded: Recorded) -> None:
    """No event of CrewAI names it."""
    skipped = [event.payload["key"] for event in exchanges(recorded, "task_skipped")]
    states = [task.key for task in recorded.log.state("r").tasks if task.status == "skipped"]

    assert skipped == states
    assert len(skipped) == (recorded.scenario.name == "conditional_skipped")
