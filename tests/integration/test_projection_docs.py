"""The example of a projection in the documentation is what users copy: it runs here, on a real run."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from crewai import Crew

import eventlog
from eventlog.replay import projection
from eventlog.replay.projection import registered_projections
from tests.scenarios import World
from tests.scenarios.crews import TOPIC, step

PROMPT, COMPLETION = 10, 5
"""Tokens of each call of a scripted LLM."""


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the example registers must not replace another test's."""
    monkeypatch.setattr(projection, "_registered", {})


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """A log of a crew of two agents, of which one calls its LLM twice."""
    world = World()
    writer = world.agent("Writer", llm=world.llm(tool_rounds=1), tools=[world.lookup()])
    editor = world.agent("Editor")
    with eventlog.open(tmp_path / "log.db") as opened:
        with opened.run("my-run"):
            Crew(agents=[writer, editor], tasks=[step(writer, 0), step(editor, 1)]).kickoff(TOPIC)
        yield opened


def run_example(log: eventlog.Log) -> dict[str, Any]:
    """Run the example as it stands in the documentation and return what it defines."""
    text = (projection.__doc__ or "").partition("::\n")[2].partition("\nThe state is JSON")[0]
    names: dict[str, Any] = {"log": log}
    exec(compile(textwrap.dedent(text), "the documentation", "exec"), names)
    names["PRICES"]["scripted"] = (1, 100)
    return names


def test_the_documented_projection_tells_the_cost_of_each_agent(log: eventlog.Log) -> None:
    """Copied as it is, it works and says what the docstring promises."""
    made = run_example(log)["cost_per_agent"]

    assert registered_projections()["cost_per_agent"] is made
    assert log.project(made, "my-run") == {
        "Writer": 2 * (PROMPT + 100 * COMPLETION),
        "Editor": PROMPT + 100 * COMPLETION,
    }


def test_a_projection_at_any_cursor_is_the_fold_up_to_there(log: eventlog.Log) -> None:
    """Costs only ever grow, and change with the events that the step looks at."""
    made = run_example(log)["cost_per_agent"]
    events = list(log.events("my-run"))
    totals = [(event.type, sum(log.project(made, "my-run", to=event.seq).values())) for event in events]
    changes = [kind for (kind, total), (_, before) in zip(totals[1:], totals, strict=False) if total != before]

    assert [total for _, total in totals] == sorted(total for _, total in totals)
    assert changes == ["llm_call_completed"] * 3


def test_a_projection_and_the_state_agree_on_what_was_used(log: eventlog.Log) -> None:
    """Both read the same events in the same way."""

    def tokens(used: dict[str, int], event: eventlog.Event) -> dict[str, int]:
        if event.type == "llm_call_completed":
            used["total"] = used.get("total", 0) + event.payload["usage"]["total_tokens"]
        return used

    made = eventlog.Projection(name="tokens", version=1, initial=dict, step=tokens)

    assert log.project(made, "my-run") == {"total": log.state("my-run").llm.total_tokens}
