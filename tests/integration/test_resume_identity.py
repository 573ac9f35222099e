"""What is told apart and what is not: a recorded answer must never be given to another question."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, listen, start
from pydantic import BaseModel, Field, field_validator

import eventlog
from eventlog.testing import Answer, Message, ScriptedLLM, final

DictFlow = Flow[dict]  # type: ignore[type-arg]  # CrewAI does not know dict[str, Any] as a state
ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def crew_of(llm: ScriptedLLM, *texts: str, name: str | None = None) -> Crew:
    """Return a crew of one agent with a task for each text."""
    agent = Agent(role="R", goal="g", backstory="b", llm=llm)
    tasks = [Task(name=text, description=text, expected_output="x", agent=agent) for text in texts]
    return Crew(name=name, agents=[agent], tasks=tasks)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ONE, TWO),
        ("2026-01-15T08:00", "2026-01-16T09:30"),
        ("token-tenant-a-000001", "token-tenant-b-000002"),
    ],
    ids=["ids", "times", "secrets"],
)
def test_inputs_that_differ_anyhow_are_other_inputs(tmp_path: Path, first: str, second: str) -> None:
    """Also in an id, a time, or a secret that is not on disk. Seen to fail with the hash of normalised inputs."""
    llm = ScriptedLLM()
    with eventlog.open(tmp_path / "log.db") as log:
        results = [
            log.run("r").kickoff(crew_of(llm, "Do it for {api_token}"), inputs={"api_token": value})
            for value in (first, second, second)
        ]

    assert len(llm.calls) == 2
    assert results[0].raw != results[1].raw == results[2].raw


def test_a_fork_with_another_id_as_input_asks_anew(tmp_path: Path) -> None:
    """The prompt differs in nothing but the id, and the id is what it is about."""
    first, again = ScriptedLLM(), ScriptedLLM()
    with eventlog.open(tmp_path / "log.db") as log:
        log.run("r").kickoff(crew_of(first, "Ship order {id}"), inputs={"id": ONE})
        log.fork("r", branch="exp", inputs={"id": TWO})
        log.run("r", branch="exp").kickoff(crew_of(again, "Ship order {id}"), inputs={"id": ONE})

    assert len(again.calls) == 1
    assert TWO in str(again.calls[0].messages)


def test_texts_that_differ_in_an_id_are_other_texts(tmp_path: Path) -> None:
    """A crew about one document is not the crew about another."""
    llm = ScriptedLLM()
    with eventlog.open(tmp_path / "log.db") as log:
        results = [log.run("r").kickoff(crew_of(llm, f"Sum up {doc}")).raw for doc in (ONE, TWO)]

    assert results[0] != results[1]


def test_a_flow_is_asked_with_its_state(tmp_path: Path) -> None:
    """A state that was set before the kickoff is as good as inputs; the live state is not overwritten."""

    class State(BaseModel):
        topic: str = ""

    class About(Flow[State]):
        @start()
        def say(self) -> str:
            return f"about {self.state.topic}"

    said = []
    with eventlog.open(tmp_path / "log.db") as log:
        for topic in ("tea", "coffee", "tea"):
            flow = About()
            flow.state.topic = topic
            said.append((log.run("r").kickoff(flow), flow.state.topic))

        assert len(log.executions("r")) == 2
    assert said == [("about tea", "tea"), ("about coffee", "coffee"), ("about tea", "tea")]


def test_two_flows_of_one_name_are_two(tmp_path: Path) -> None:
    """The class counts with its module."""

    def make(module: str) -> type[Any]:
        class Main(DictFlow):
            @start()
            def say(self) -> str:
                return module

        Main.__module__ = module
        Main.__qualname__ = "Main"
        return Main

    first, second = make("pack.first"), make("pack.second")
    with eventlog.open(tmp_path / "log.db") as log:
        said = [log.run("r").kickoff(cls()) for cls in (first, second, first, second)]

    assert said == ["pack.first", "pack.second", "pack.first", "pack.second"]


def test_two_crews_that_share_a_task_do_not_take_each_others_place(tmp_path: Path) -> None:
    """Kicked off in another order, or one of them not at all."""
    names = {"ab": ("fetch", "sum"), "ac": ("fetch", "translate")}
    llms = [ScriptedLLM(), ScriptedLLM()]
    with eventlog.open(tmp_path / "log.db") as log:
        first = log.run("r").kickoff(crew_of(llms[0], *names["ab"], name="ab"))
        run = log.run("r")
        run.kickoff(crew_of(llms[1], *names["ac"], name="ac"))
        again = run.kickoff(crew_of(llms[1], *names["ab"], name="ab"))

    assert again == first
    assert len(llms[1].calls) == 2


def test_a_second_attempt_goes_on_with_the_first(tmp_path: Path) -> None:
    """A loop that tries until it works pays for the finished task once, and there is one execution."""
    failures = iter([True, True, False])

    def flaky(messages: list[Message], tools: list[str]) -> Answer:
        return ConnectionError("down") if next(failures) else final("worked")

    steady, shaky = ScriptedLLM(), ScriptedLLM(script=flaky)
    agents = [
        Agent(role=f"R{i}", goal="g", backstory="b", llm=m, max_retry_limit=0) for i, m in enumerate((steady, shaky))
    ]
    crew = Crew(
        agents=agents, tasks=[Task(description=f"t{i}", expected_output="x", agent=a) for i, a in enumerate(agents)]
    )
    result: Any = None
    with eventlog.open(tmp_path / "log.db") as log, log.run("r") as run:
        while result is None:
            try:
                result = run.kickoff(crew)
            except ConnectionError:
                assert log.state("r").status == "failed"

        assert [e.status for e in log.executions("r")] == ["completed"]
    assert result.raw == "worked"
    assert len(steady.calls) == 1


def test_an_empty_answer_is_asked_for_again(tmp_path: Path) -> None:
    """CrewAI takes nothing said for a failure; served for ever it would be one for ever."""
    broken = ScriptedLLM(script=lambda messages, tools: "")
    with eventlog.open(tmp_path / "log.db") as log:
        with pytest.raises(ValueError, match="empty"):
            log.run("r").kickoff(crew_of(broken, "t"))

        assert log.run("r").kickoff(crew_of(ScriptedLLM(script=lambda m, t: final("fine")), "t")).raw == "fine"


class RateLimitError(Exception):
    """An error of the user's."""


def test_an_error_comes_back_as_what_it_was(tmp_path: Path) -> None:
    """The user's ``except`` must still match when the call is not made again."""
    fails = [True]

    def build() -> tuple[Flow[Any], ScriptedLLM]:
        def limited(messages: list[Message], tools: list[str]) -> Answer:
            return RateLimitError("slow down") if "first" in str(messages) else final("good")

        llm = ScriptedLLM(script=limited)

        class Careful(DictFlow):
            @start()
            def begin(self) -> str:
                try:
                    return str(llm.call("first"))
                except RateLimitError:
                    text = str(llm.call("second"))
                if fails.pop() if fails else False:
                    raise RuntimeError("interrupted")
                return text

        return Careful(), llm

    with eventlog.open(tmp_path / "log.db") as log:
        with pytest.raises(RuntimeError, match="interrupted"):
            log.run("r").kickoff(build()[0])
        flow, llm = build()

        assert log.run("r").kickoff(flow) == "good"
    assert llm.calls == []


class Price(BaseModel):
    """A model whose field has another name outside."""

    amount: float = Field(0.0, alias="unitPrice")


class Share(BaseModel):
    """A model whose validator computes."""

    part: float

    @field_validator("part")
    @classmethod
    def of_hundred(cls, value: float) -> float:
        """Turn percent into a part."""
        return value / 100


@pytest.mark.parametrize(
    ("model", "text"), [(Price, '{"unitPrice": 4.2}'), (Share, '{"part": 50}')], ids=["alias", "validator"]
)
def test_a_model_comes_back_with_the_values_it_had(tmp_path: Path, model: type[BaseModel], text: str) -> None:
    """Validated again it would have others."""
    seen = []
    with eventlog.open(tmp_path / "log.db") as log:
        for _ in range(2):
            crew = crew_of(ScriptedLLM(script=lambda messages, tools: final(text)), "t")
            crew.tasks[0].output_pydantic = model
            seen.append(log.run("r").kickoff(crew).pydantic)

    assert seen[0] == seen[1]


def test_attributes_of_a_flow_are_there_when_it_goes_on(tmp_path: Path) -> None:
    """A method that keeps something on the flow itself runs again, on recorded answers: nothing else knows it."""
    fails = [True]

    class Keeping(DictFlow):
        @start()
        def load(self) -> str:
            self.rows = [1, 2, 3]
            return "loaded"

        @listen(load)
        def use(self) -> int:
            if fails.pop() if fails else False:
                raise RuntimeError("interrupted")
            return len(self.rows)

    with eventlog.open(tmp_path / "log.db") as log:
        with pytest.raises(RuntimeError, match="interrupted"):
            log.run("r").kickoff(Keeping())

        assert log.run("r").kickoff(Keeping()) == 3


def test_an_agent_in_an_event_loop_is_matched_too(tmp_path: Path) -> None:
    """There CrewAI's own ``kickoff`` returns a coroutine, and so does ours."""
    llm = ScriptedLLM()

    async def ask() -> Any:
        agent = Agent(role="R", goal="g", backstory="b", llm=llm)
        with eventlog.open(tmp_path / "log.db") as log:
            return await log.run("r").kickoff(agent, "hello")

    first, again = asyncio.run(ask()), asyncio.run(ask())

    assert again.raw == first.raw
    assert len(llm.calls) == 1


def test_a_plain_kickoff_has_had_its_result(tmp_path: Path) -> None:
    """``run.kickoff`` after a plain one in the same pass is another one, as it would be without a log."""
    llm = ScriptedLLM()
    with eventlog.open(tmp_path / "log.db") as log, log.run("r") as run:
        crew_of(llm, "t").kickoff()
        run.kickoff(crew_of(llm, "t"))

        assert len(log.executions("r")) == 2
    assert len(llm.calls) == 2


def test_a_stream_nobody_read_leaves_nothing_behind(tmp_path: Path) -> None:
    """Later kickoffs of the same object are plain ones, also after the log was closed."""
    crew = crew_of(ScriptedLLM(), "t")
    crew.stream = True
    with eventlog.open(tmp_path / "log.db") as log, log.run("r") as run:
        run.kickoff(crew)
    crew.stream = False
    with eventlog.open(tmp_path / "other.db") as log, log.run("r"):
        result: Any = crew.kickoff()

    assert result.raw
