"""State that no event of CrewAI carries is in the log when something happens beside it."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.core.providers.human_input import SyncHumanInputProvider, reset_provider, set_provider
from crewai.flow.flow import listen, start
from crewai.flow.human_feedback import human_feedback
from crewai.llms.base_llm import BaseLLM

import eventlog
from eventlog.record import Event
from tests.integration.oracle import WatchedLLM
from tests.scenarios import World
from tests.scenarios.crews import TOPIC, step
from tests.scenarios.flows import DictFlow


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """An empty log."""
    with eventlog.open(tmp_path / "log.db") as opened:
        yield opened


def of_type(log: eventlog.Log, *types: str) -> list[Event]:
    """Return the events of these types."""
    return list(log.events("r", types=types))


def small_crew(world: World) -> Crew:
    """Return a crew of one task."""
    agent = world.agent()
    return Crew(name="inner", agents=[agent], tasks=[step(agent)])


def test_a_change_inside_a_method_is_known_before_a_nested_crew_starts(log: eventlog.Log) -> None:
    """Killed inside the crew, the flow would otherwise resume from the state before the method."""
    world = World()

    class Changing(DictFlow):
        @start()
        def work(self) -> str:
            self.state["step"], self.state["gone"] = 1, True
            small_crew(world).kickoff(TOPIC)
            self.state["step"] = 2
            del self.state["gone"]
            small_crew(world).kickoff(TOPIC)
            return "done"

    with log.run("r"):
        Changing().kickoff()
    seen = [log.state("r", to=e.seq).flow_state for e in of_type(log, "crew_kickoff_started")]

    assert [state["step"] for state in seen] == [1, 2]
    assert ["gone" in state for state in seen] == [True, False]


def test_a_change_is_known_when_a_person_is_asked(log: eventlog.Log) -> None:
    """People take hours: this is where a process dies."""
    world = World()

    class Asking(DictFlow):
        @start()
        def talk(self) -> str:
            self.state["draft"] = "tea"
            return str(self.ask("Good?"))

    with log.run("r"):
        Asking(input_provider=world.person("yes")).kickoff()
    asked = of_type(log, "flow_input_requested")[0]

    assert log.state("r", to=asked.seq).flow_state["draft"] == "tea"


def test_a_change_is_known_when_a_method_fails(log: eventlog.Log) -> None:
    """The failing event carries no state."""

    class Failing(DictFlow):
        @start()
        def work(self) -> None:
            self.state["reached"] = "half"
            raise ValueError("no")

    with log.run("r"), pytest.raises(ValueError, match="no"):
        Failing().kickoff()
    state = log.state("r")

    assert (state.status, state.methods[0].status) == ("failed", "failed")
    assert state.flow_state["reached"] == "half"


def test_a_flow_inside_a_flow_leaves_the_outer_state_alone(log: eventlog.Log) -> None:
    """The state shown is the outermost flow's, at every cursor; each flow has its own methods."""
    llm = WatchedLLM()

    class Inner(DictFlow):
        @start()
        def work(self) -> str:
            self.state["inner"] = 1
            return str(llm.call("Hello"))

    class Outer(DictFlow):
        @start()
        def begin(self) -> str:
            self.state["outer"] = 1
            return str(Inner().kickoff())

        @listen(begin)
        def work(self, text: str) -> str:
            self.state["outer"] = 2
            return text

    with log.run("r"):
        Outer().kickoff()
    inside = [e for e in log.events("r") if e.path.count("/flow:") == 2]
    states = [log.state("r", to=e.seq).flow_state for e in inside]

    assert len(inside) > 5
    assert all(state["outer"] == 1 and "inner" not in state for state in states)
    assert log.state("r").flow_state["outer"] == 2
    assert [(m.name, m.runs) for m in log.state("r").methods] == [("begin", 1), ("work", 1), ("work", 1)]


def test_the_plan_of_a_planning_agent_is_sampled_before_its_next_call(log: eventlog.Log) -> None:
    """Its to-dos and observations are only in the live executor."""
    world = World()
    agent = world.agent(llm=world.llm(tool_rounds=1), tools=[world.lookup()], planning=True)
    with log.run("r"):
        Crew(agents=[agent], tasks=[step(agent)]).kickoff(TOPIC)
    plan = of_type(log, "agent_reasoning_completed")[0].payload["plan"]
    sample = of_type(log, "eventlog.executor")[0]
    calls = [e for e in of_type(log, "llm_call_started") if "agent_reasoning" not in e.path]

    assert sample.payload["plan"] == plan
    assert sample.seq < calls[0].seq
    assert calls[0].path.startswith(sample.path)


class Console(SyncHumanInputProvider):
    """A provider of the user's that asks through CrewAI's own prompt."""

    def _prompt_input(self, crew: Any) -> str:  # type: ignore[override]
        return str(super()._prompt_input(crew)).strip()


def test_a_provider_that_asks_through_its_base_class_asks_once(
    log: eventlog.Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two exchanges of one question would be served as two answers."""
    monkeypatch.setattr(builtins, "input", lambda *_: " ")
    agent = World().agent()
    task: Task = step(agent, human_input=True)
    token = set_provider(Console())
    try:
        with log.run("r"):
            Crew(agents=[agent], tasks=[task]).kickoff(TOPIC)
    finally:
        reset_provider(token)

    assert [e.payload["answer"]["text"] for e in of_type(log, "eventlog.human_exchange")] == [""]


class Reviewer:
    """Gives feedback to methods of flows."""

    def request_feedback(self, context: Any, flow: Any) -> str:
        """Return what a person said."""
        return f"about {context.method_output}: fine"


@pytest.mark.parametrize("provider", [None, Reviewer()])
def test_feedback_to_a_method_is_recorded_whoever_asked_for_it(
    log: eventlog.Log, monkeypatch: pytest.MonkeyPatch, provider: Any
) -> None:
    """CrewAI emits no event for a provider of the user's."""
    monkeypatch.setattr(builtins, "input", lambda *_: "about draft: fine")

    class Reviewed(DictFlow):
        @start()
        @human_feedback(message="Good?", provider=provider)
        def write(self) -> str:
            return "draft"

    with log.run("r"):
        Reviewed().kickoff()
        Reviewed().kickoff()
    found = [(e.payload["message"], e.payload["answer"]["text"]) for e in of_type(log, "eventlog.human_exchange")]

    assert found == [("Good?", "about draft: fine")] * 2


class Plain(BaseLLM):
    """An LLM that leaves the counting of tokens to the base class."""

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        """Answer."""
        return "yes"


def test_tokens_counted_from_the_text_alone_are_not_recorded(log: eventlog.Log) -> None:
    """The base class asks nobody; only a provider's own count is a request to the world."""
    llm, counting = Plain(model="plain"), WatchedLLM()
    with log.run("r"):
        llm.get_input_tokens_count([{"role": "user", "content": "Hello"}])
        counting.get_input_tokens_count([{"role": "user", "content": "Hello"}])
        llm.call("Hello")

    assert [e.payload for e in of_type(log, "eventlog.token_count")] == [{"n": 0, "model": "scripted", "tokens": 2}]
    assert [e.payload["model"] for e in of_type(log, "eventlog.llm_exchange")] == ["plain"]


def test_an_agent_without_a_crew_is_sampled_like_one_in_a_crew(log: eventlog.Log) -> None:
    """``Agent.kickoff`` keeps its executor to itself; it is found as the source of its flow."""
    world = World()
    agent: Agent = world.agent(llm=world.llm(tool_rounds=1), tools=[world.lookup()], planning=True)
    with log.run("r"):
        agent.kickoff("What is tea?")

    assert of_type(log, "eventlog.executor")[0].payload["plan"]
