"""``ScriptedLLM`` behaves as CrewAI expects of an LLM, and as a test wants it."""

from __future__ import annotations

import asyncio
import copy
import doctest
import enum
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
from crewai import Agent, Crew, Task
from crewai.events.stream_context import add_stream_sink, reset_stream_sinks
from crewai.hooks import LLMCallHookContext, register_before_llm_call_hook, unregister_before_llm_call_hook
from crewai.tools import BaseTool, tool
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import eventlog.testing.llm
from eventlog.testing import (
    USAGE,
    Answer,
    Message,
    ScriptedLLM,
    ScriptError,
    ScriptExhaustedError,
    digest,
    final,
    tool_call,
)


class Point(BaseModel):
    """Something to ask an LLM for."""

    x: int
    label: str


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """Every event that is emitted in the context of the test, in order."""
    seen: list[Any] = []
    token = add_stream_sink(lambda source, event: seen.append(event))
    yield seen
    reset_stream_sinks(token)


def lookup_tool(runs: list[str]) -> BaseTool:
    """Return a tool that notes what it was asked."""

    @tool("lookup")
    def lookup(q: str) -> str:
        """Look up a fact."""
        runs.append(q)
        return f"fact about {q}"

    return lookup


def work(llm: ScriptedLLM, *tools: BaseTool) -> str:
    """Return what an agent with that LLM makes of a task."""
    agent = Agent(role="Writer", goal="Write", backstory="An expert.", llm=llm, tools=list(tools))
    return Task(description="Write about tea", expected_output="A text", agent=agent).execute_sync().raw


def types(events: list[Any]) -> list[str]:
    """Return the types of the LLM's events."""
    return [event.type for event in events if event.type.startswith("llm_")]


def test_the_example_in_the_docstring_runs() -> None:
    """Users copy it."""
    result = doctest.testmod(eventlog.testing.llm)

    assert (result.failed, result.attempted > 0) == (0, True)


def test_importing_the_library_does_not_import_crewai(pytestconfig: pytest.Config) -> None:
    """CrewAI takes seconds to import; whoever only reads a log must not pay for it."""
    code = "import sys, eventlog, eventlog.errors; sys.exit('crewai' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=pytestconfig.rootpath, check=False).returncode == 0


@pytest.mark.parametrize("native", [False, True])
def test_tool_calls_and_the_final_answer_drive_the_agent_loop(native: bool) -> None:
    """One script serves both ways in which CrewAI calls tools."""
    runs: list[str] = []
    llm = ScriptedLLM(script=[tool_call("lookup", q="tea"), tool_call("lookup", q="cup"), final("done")], native=native)

    assert work(llm, lookup_tool(runs)) == "done"
    assert runs == ["tea", "cup"]
    assert [list(call.tools) for call in llm.calls] == [["lookup"]] * 3


def test_several_tools_can_be_called_in_one_native_answer() -> None:
    """CrewAI runs them in threads; that path needs a test LLM that reaches it."""
    runs: list[str] = []
    llm = ScriptedLLM(script=[[tool_call("lookup", q=q) for q in "abc"], final("done")], native=True)

    assert work(llm, lookup_tool(runs)) == "done"
    assert sorted(runs) == ["a", "b", "c"]


def test_several_tool_calls_need_native_form() -> None:
    """ReAct text has room for one; dropping the others silently would make a test lie."""
    llm = ScriptedLLM(script=[[tool_call("a"), tool_call("b")]])

    with pytest.raises(ScriptError, match="native=True"):
        llm.call("hello")


def test_a_text_is_given_exactly_as_it_is() -> None:
    """So that malformed answers of an LLM can be tested too."""
    assert ScriptedLLM(script=["Thought: hm"]).call("hello") == "Thought: hm"


def test_a_direct_call_gets_the_plain_text_of_a_final_answer() -> None:
    """Only agents expect the ReAct form."""
    assert ScriptedLLM(script=[final("tea")]).call("hello") == "tea"


@pytest.mark.parametrize("error", [ConnectionError("network down"), ConnectionError, KeyboardInterrupt, SystemExit(3)])
def test_an_exception_in_the_script_is_raised(error: Any) -> None:
    """Failures and interrupts are what a durable log is tested with."""
    llm = ScriptedLLM(script=[error])

    with pytest.raises(error if isinstance(error, type) else type(error)) as caught:
        llm.call("hello")

    assert llm.calls[0].answer is caught.value


def test_a_failure_emits_the_failed_event_and_an_interrupt_none(events: list[Any]) -> None:
    """Like real providers: a ``BaseException`` leaves no terminal event behind."""
    llm = ScriptedLLM(script=[ConnectionError("network down"), KeyboardInterrupt])

    for _ in range(2):
        with pytest.raises((ConnectionError, KeyboardInterrupt)):
            llm.call("hello")

    assert types(events) == ["llm_call_started", "llm_call_failed", "llm_call_started"]
    assert events[1].error == "network down"


def test_a_call_after_the_last_answer_says_so() -> None:
    """Repeating the last answer would hide a call too many."""
    llm = ScriptedLLM(script=[final("one")])
    llm.call("hello")

    with pytest.raises(ScriptExhaustedError, match="call 2 of a script with 1 answers"):
        llm.call("hello")


def test_a_function_as_script_answers_every_call() -> None:
    """It sees the messages and the names of the tools, in both forms of tool calling."""

    def answer(messages: list[Message], tools: list[str]) -> Answer:
        return final(f"{tools} {len(messages) > 0}")

    assert work(ScriptedLLM(script=answer), lookup_tool([])) == "['lookup'] True"
    assert work(ScriptedLLM(script=answer, native=True), lookup_tool([])) == "['lookup'] True"


def test_a_function_inside_a_list_answers_its_call() -> None:
    """Most answers of a script are fixed; one may depend on what was asked."""
    llm = ScriptedLLM(script=["one", lambda messages, tools: messages[-1]["content"].upper()])

    assert [llm.call("hello"), llm.call("again")] == ["one", "AGAIN"]


@pytest.mark.parametrize(
    "answer", [Point(x=1, label="a"), {"x": 1, "label": "a"}, '{"x": 1, "label": "a"}', final('{"x": 1, "label": "a"}')]
)
def test_a_structured_answer_is_an_instance_of_the_model(answer: Any) -> None:
    """That is what CrewAI's providers return when they are given a response model."""
    assert ScriptedLLM(script=[answer]).call("hello", response_model=Point) == Point(x=1, label="a")


def test_a_structured_answer_that_does_not_fit_fails_as_a_real_one_would() -> None:
    """The error surfaces in the call, with an event."""
    with pytest.raises(ValidationError):
        ScriptedLLM(script=[{"x": "no number"}]).call("hello", response_model=Point)


def test_a_mapping_answers_only_a_request_for_a_structure() -> None:
    """CrewAI would take its text for the answer."""
    with pytest.raises(ScriptError, match="no answer to a request for text"):
        ScriptedLLM(script=[{"x": 1}]).call("hello")


messages = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text()}))


@given(messages, messages)
def test_echoes_are_equal_exactly_if_the_prompts_are(one: list[Message], other: list[Message]) -> None:
    """The law every test of replay rests on."""
    llm = ScriptedLLM()

    assert (llm.call(one) == llm.call(other)) == (one == other)


def test_an_echo_ignores_marks_that_no_llm_sees() -> None:
    """CrewAI keeps cache marks in the messages; they are not part of the prompt."""
    message = {"role": "user", "content": "hello"}

    assert ScriptedLLM().call([message]) == ScriptedLLM().call([{**message, "cache_breakpoint": True}])


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_an_echo_calls_the_first_tool_as_often_as_it_is_told(rounds: int, native: bool) -> None:
    """Each time with other arguments: CrewAI refuses to run the same call twice."""
    runs: list[str] = []

    work(ScriptedLLM(tool_rounds=rounds, native=native), lookup_tool(runs))

    assert runs == [f"q{i}" for i in range(rounds)]


class Colour(enum.Enum):
    """One of two."""

    RED = "red"
    GREEN = "green"


class Everything(BaseModel):
    """One field of every kind that ``sample`` knows."""

    text: str
    number: int
    ratio: float
    flag: bool
    colour: Colour
    word: Literal["yes"]
    maybe: int | None
    points: list[Point]
    table: dict[str, int]
    anything: Any
    none: None


def test_an_echo_fills_any_response_model() -> None:
    """Planners and converters of CrewAI ask for nested structures."""
    answer = ScriptedLLM().call("hello", response_model=Everything)

    assert isinstance(answer, Everything)
    assert answer.text == answer.points[0].label == digest([{"role": "user", "content": "hello"}])


def test_a_call_emits_what_a_provider_emits(events: list[Any]) -> None:
    """Started and completed, with response and usage, in one call."""
    ScriptedLLM(script=[final("tea")]).call("hello")

    assert types(events) == ["llm_call_started", "llm_call_completed"]
    assert (events[1].response, events[1].usage) == ("tea", USAGE)
    assert events[0].call_id == events[1].call_id


def test_a_silent_llm_emits_nothing(events: list[Any]) -> None:
    """Many LLMs written by users emit no events; a log must cope with them."""
    llm = ScriptedLLM(script=["tea", ConnectionError], silent=True, stream=True)

    llm.call("hello")
    with pytest.raises(ConnectionError):
        llm.call("hello")

    assert events == []
    assert len(llm.calls) == 2


def test_a_stream_is_the_answer_in_pieces(events: list[Any]) -> None:
    """Joined they give the response, and none is emitted unless streaming is on."""
    ScriptedLLM(script=["a text of some length"], stream=True, chunks=3).call("hello")
    pieces = [event.chunk for event in events if event.type == "llm_stream_chunk"]
    ScriptedLLM(script=["a text of some length"]).call("hello")

    assert len(pieces) == 3
    assert "".join(pieces) == "a text of some length"
    assert types(events)[-2:] == ["llm_call_started", "llm_call_completed"]


def test_tool_calls_are_streamed_as_tool_calls(events: list[Any]) -> None:
    """One piece each, as the providers of CrewAI do it at the end of a call."""
    llm = ScriptedLLM(script=[[tool_call("lookup", q="a"), tool_call("lookup", q="b")]], native=True, stream=True)

    llm.call("hello")

    assert [event.tool_call.index for event in events if event.type == "llm_stream_chunk"] == [0, 1]


def test_a_direct_call_with_functions_runs_the_tool(events: list[Any]) -> None:
    """Providers do so, and the tool's events come from the LLM."""
    llm = ScriptedLLM(script=[tool_call("add", a=1, b=2)], native=True)

    result = llm.call("hello", available_functions={"add": lambda a, b: a + b})

    assert result == "3"
    assert [event.type for event in events] == [
        "llm_call_started",
        "tool_usage_started",
        "tool_usage_finished",
        "llm_call_completed",
    ]


def test_usage_adds_up() -> None:
    """CrewAI reports the sum with the result of a crew."""
    llm = ScriptedLLM(tool_rounds=1, usage={"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3})
    agent = Agent(role="Writer", goal="Write", backstory="An expert.", llm=llm, tools=[lookup_tool([])])
    task = Task(description="Write", expected_output="A text", agent=agent)

    output: Any = Crew(agents=[agent], tasks=[task]).kickoff()

    assert output.token_usage.total_tokens == 6


def test_token_counts_are_counted() -> None:
    """CrewAI asks for one before each call of an agent, and no event tells."""
    llm = ScriptedLLM()

    work(llm)

    assert llm.token_counts > 0
    assert llm.get_input_tokens_count("12345") == 2


def test_acall_answers_like_call_and_leaves_the_loop_free() -> None:
    """Else ``akickoff`` of several crews would run them one after the other."""
    llm, order = ScriptedLLM(delay=0.05), []

    async def ask() -> Any:
        answer = await llm.acall("hello")
        order.append("answered")
        return answer

    async def work_meanwhile() -> None:
        order.append("meanwhile")

    async def both() -> Any:
        return (await asyncio.gather(ask(), work_meanwhile()))[0]

    assert asyncio.run(both()) == ScriptedLLM().call("hello")
    assert order == ["meanwhile", "answered"]


def test_threads_share_a_script_without_losing_an_answer() -> None:
    """Each answer is given once, and the tokens of all calls are counted."""
    llm = ScriptedLLM(script=[str(i) for i in range(400)])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: llm.call("hello"), range(400)))

    assert sorted(answers, key=int) == [str(i) for i in range(400)]
    assert llm.get_token_usage_summary().total_tokens == 400 * USAGE["total_tokens"]
    assert [call.number for call in llm.calls] == list(range(400))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda llm: llm.model_copy()])
def test_copies_share_script_and_calls(duplicate: Any) -> None:
    """CrewAI copies agents and their LLMs for ``kickoff_for_each``; the test holds the original."""
    llm = ScriptedLLM(script=["one", "two"])

    answers = [duplicate(llm).call("hello"), llm.call("hello")]

    assert answers == ["one", "two"]
    assert len(llm.calls) == 2


def test_recorded_messages_are_frozen() -> None:
    """CrewAI appends to the list it has handed over."""
    llm, conversation = ScriptedLLM(), [{"role": "user", "content": "hello"}]
    llm.call(conversation)

    conversation.append({"role": "user", "content": "more"})

    assert llm.calls[0].messages == [{"role": "user", "content": "hello"}]


def test_a_hook_can_deny_a_direct_call(events: list[Any]) -> None:
    """Hooks run inside the provider's call there; the event names the decision."""

    def deny(context: LLMCallHookContext) -> bool:
        return False

    llm = ScriptedLLM()
    register_before_llm_call_hook(deny)
    try:
        with pytest.raises(ValueError, match="blocked"):
            llm.call("hello")
    finally:
        unregister_before_llm_call_hook(deny)

    assert types(events) == ["llm_call_started", "llm_call_failed"]
    assert "denied" in events[-1].error
    assert llm.calls == []


def test_an_unknown_option_is_refused() -> None:
    """``BaseLLM`` would keep a typo as a parameter for the provider, and the test would test nothing."""
    with pytest.raises(ValidationError, match="no option tool_round"):
        ScriptedLLM(tool_round=2)
