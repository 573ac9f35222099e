"""A flow that waits for a person outlives its process; the answer comes later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crewai.flow.async_feedback import HumanFeedbackPending
from crewai.flow.flow import Flow, listen, start
from crewai.flow.human_feedback import human_feedback

import eventlog
from eventlog.errors import EventLogError
from eventlog.testing import Answer, Message, ScriptedLLM, final

DictFlow = Flow[dict]  # type: ignore[type-arg]  # CrewAI does not know dict[str, Any] as a state


class Mailbox:
    """Sends the question away and does not wait."""

    def __init__(self) -> None:
        """Nothing was sent."""
        self.sent: list[str] = []

    def request_feedback(self, context: Any, flow: Any) -> str:
        """Send it."""
        self.sent.append(str(context.method_output))
        raise HumanFeedbackPending(context=context)


def answers(messages: list[Message], tools: list[str]) -> Answer:
    """Write the draft, or read the feedback as approval."""
    return final("The draft") if "draft" in str(messages[-1]["content"]) else "approved"


def review(llm: ScriptedLLM, mailbox: Mailbox) -> Flow[Any]:
    """Return a flow whose first method is reviewed."""

    class Review(DictFlow):
        @start()
        @human_feedback(message="Ok?", emit=["approved", "rejected"], llm=llm, provider=mailbox)
        def write(self) -> str:
            self.state["drafts"] = self.state.get("drafts", 0) + 1
            return str(llm.call("Write a draft"))

        @listen("approved")
        def publish(self, _result: Any) -> str:
            feedback: Any = self.last_human_feedback
            return f"{feedback.output}, {feedback.feedback}, {self.state['drafts']}"

        @listen("rejected")
        def drop(self, _result: Any) -> str:
            return "dropped"

    return Review()


Make = Callable[[], tuple[Flow[Any], ScriptedLLM, Mailbox]]


@pytest.fixture
def make() -> Make:
    """Build the flow as a new process would."""

    def build() -> tuple[Flow[Any], ScriptedLLM, Mailbox]:
        llm, mailbox = ScriptedLLM(script=answers), Mailbox()
        return review(llm, mailbox), llm, mailbox

    return build


def paused(path: Path, make: Make) -> None:
    """Record the flow up to its question."""
    flow, _, mailbox = make()
    with eventlog.open(path) as log:
        waiting = log.run("r").kickoff(flow)

        assert isinstance(waiting, HumanFeedbackPending)
        assert mailbox.sent == ["The draft"]
        assert log.state("r").status == "paused"


def test_the_answer_comes_in_another_process(tmp_path: Path, make: Make) -> None:
    """The draft is not written again and nobody is asked again: the feedback arrives as if it had been given then."""
    paused(tmp_path / "log.db", make)
    flow, llm, mailbox = make()

    with eventlog.open(tmp_path / "log.db") as log:
        result = log.run("r").resume(flow, feedback="I love it")

        assert result == "The draft, I love it, 1"
        assert mailbox.sent == []
        assert not [c for c in llm.calls if "draft" in str(c.messages[-1]["content"])]
        assert log.state("r").status == "completed"


def test_a_kickoff_of_a_waiting_flow_goes_on_waiting(tmp_path: Path, make: Make) -> None:
    """The script started again asks nobody twice, and the run that kicked the flow off can answer without naming it."""
    paused(tmp_path / "log.db", make)
    flow, _, mailbox = make()

    with eventlog.open(tmp_path / "log.db") as log, log.run("r") as run:
        assert isinstance(run.kickoff(flow), HumanFeedbackPending)
        assert mailbox.sent == []
        assert run.resume(feedback="Fine") == "The draft, Fine, 1"


def test_an_answered_flow_is_finished(tmp_path: Path, make: Make) -> None:
    """After the answer the script gets the recorded result, and an interrupted continuation asks nobody again."""
    paused(tmp_path / "log.db", make)
    with eventlog.open(tmp_path / "log.db") as log:
        log.run("r").resume(make()[0], feedback="Fine")
    flow, llm, mailbox = make()

    with eventlog.open(tmp_path / "log.db") as log:
        assert log.run("r").kickoff(flow) == "The draft, Fine, 1"
        assert (llm.calls, mailbox.sent) == ([], [])
        assert flow.state["drafts"] == 1


def test_feedback_for_nobody_is_refused(tmp_path: Path, make: Make) -> None:
    """An answer that no flow waits for must not vanish."""
    with eventlog.open(tmp_path / "log.db") as log:
        with pytest.raises(EventLogError, match="waits"):
            log.run("r").resume(feedback="Fine")
        with pytest.raises(EventLogError, match="waits"), log.run("r") as run:
            run.resume(make()[0], feedback="Fine")
