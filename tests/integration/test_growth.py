"""The file grows with what is new, not with what is repeated; memory does not grow with events."""

from __future__ import annotations

import random
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crewai import Crew, Task
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent, LLMCallType
from crewai.tools import BaseTool, tool

import eventlog
from eventlog.testing import ScriptedLLM, final, tool_call
from tests.scenarios import World

BYTES_PER_EVENT = 600


def text(source: random.Random, chars: int) -> str:
    """Return text that compresses and repeats like none."""
    return "".join(source.choices(string.ascii_letters + "     ", k=chars))


def record_growing_loop(path: Path, calls: int) -> tuple[int, int]:
    """Emit a conversation that grows by 2 KB per call; returns unique characters and events."""
    source, unique, messages = random.Random(calls), 0, []
    with eventlog.open(path, snapshot_on=()) as log, log.run("loop"):
        for number in range(calls):
            asked, answered = text(source, 1400), text(source, 600)
            unique += 2000
            messages.append({"role": "user", "content": asked})
            told = {"model": "m", "call_id": str(number)}
            bus.emit(None, LLMCallStartedEvent(messages=[dict(m) for m in messages], **told))
            bus.emit(
                None,
                LLMCallCompletedEvent(
                    messages=[dict(m) for m in messages], response=answered, call_type=LLMCallType.LLM_CALL, **told
                ),
            )
            messages.append({"role": "assistant", "content": answered})
        events = log.status().committed
    return unique, events


@pytest.mark.slow
def test_a_growing_conversation_makes_a_file_of_its_unique_text_and_600_bytes_per_event(tmp_path: Path) -> None:
    """1,000 calls whose raw events are 2 GB; and twice the calls make at most 2.1 times the file."""
    record_growing_loop(tmp_path / "half.db", 500)
    unique, events = record_growing_loop(tmp_path / "whole.db", 1000)
    half, whole = ((tmp_path / name).stat().st_size for name in ("half.db", "whole.db"))

    assert events == 2000
    assert whole <= 1.1 * unique + BYTES_PER_EVENT * events
    assert whole <= 2.1 * half


class LoopingLLM(ScriptedLLM):
    """Thinks at length, calls the tool again and again, then answers."""

    rounds: int = 100

    def _next_answer(self, call: Any) -> Any:
        if len(self.calls) > self.rounds:
            return final("done")
        thought = text(random.Random(len(self.calls)), 500)
        return tool_call("search", q=f"q{len(self.calls)}", thought=thought)


def searching_tool(seed: int) -> BaseTool:
    """Return a tool that finds something new each time."""
    source = random.Random(seed)

    @tool("search")
    def search(q: str, thought: str = "") -> str:
        """Search."""
        return text(source, 1400)

    return search


def distinct_strings(value: Any) -> Iterator[str]:
    """Yield all strings in a payload."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from distinct_strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from distinct_strings(item)


@pytest.mark.slow
@pytest.mark.parametrize("native", [False, True], ids=["react", "native"])
def test_a_real_agent_loop_grows_by_what_is_new_in_each_step(tmp_path: Path, native: bool) -> None:
    """Between 100 and 200 steps of a real agent, the file grows by its new text and 600 bytes per new event."""
    sizes, texts, events = [], [], []
    for rounds in (100, 200):
        world = World(LoopingLLM)
        llm = world.llm(native=native, rounds=rounds)
        agent = world.agent(llm=llm, tools=[searching_tool(rounds)], max_iter=rounds + 5)
        path = tmp_path / f"{rounds}.db"
        with eventlog.open(path, snapshot_on=()) as log:
            with log.run("loop"):
                Crew(agents=[agent], tasks=[Task(description="d", expected_output="e", agent=agent)]).kickoff()
            texts.append(sum(map(len, {s for e in log.events("loop") for s in distinct_strings(e.payload)})))
            events.append(log.status().committed)
        sizes.append(path.stat().st_size)

    assert world.llm_calls == 201
    assert sizes[1] - sizes[0] <= 1.1 * (texts[1] - texts[0]) + BYTES_PER_EVENT * (events[1] - events[0])


MEMORY_SCRIPT = """
import resource, sys
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallType, LLMCallStartedEvent

def emit(count):
    for i in range(count):
        messages = [{"role": "user", "content": f"question {i} " * 20}]
        told = {"model": "m", "call_id": str(i)}
        bus.emit(None, LLMCallStartedEvent(messages=messages, **told))
        bus.emit(None, LLMCallCompletedEvent(messages=messages, response=f"answer {i} " * 20,
                                             call_type=LLMCallType.LLM_CALL, **told))
        if i % 500 == 499:
            bus.flush()  # CrewAI's own handlers wait in a queue without bounds

def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize() // 1024

path, count = sys.argv[1], int(sys.argv[2])
if path:
    import eventlog
    log = eventlog.open(path, durability="batch")
    run = log.run("r").__enter__()
emit(2000)
before = rss()
emit(count)
if path:
    log.flush()
print(rss() - before)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_thousand_captured_events_do_not_grow_memory(tmp_path: Path) -> None:
    """Bounded caches, full by then, and a bounded queue: at most 60 MiB more than the same program without us."""
    grown = [
        int(
            subprocess.run(
                [sys.executable, "-c", MEMORY_SCRIPT, path, "50000"],
                check=True,
                capture_output=True,
                text=True,
                timeout=300,
            ).stdout
        )
        for path in (str(tmp_path / "x.db"), "")
    ]

    assert grown[0] - grown[1] <= 60 * 1024
