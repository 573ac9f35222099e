"""The same events for everybody: matched pairs of model calls whose text does not repeat."""

from __future__ import annotations

import random
from typing import Any

from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent, LLMCallType

from benchmarks.texts import text


def flat_pairs(count: int, chars: int, seed: int) -> list[Any]:
    """Return ``count`` pairs of started and completed events, each with one message of that many characters."""
    source, out = random.Random(seed), []
    for number in range(count):
        messages = [{"role": "user", "content": text(source, chars)}]
        out += pair(messages, text(source, chars // 4), f"{seed}-{number}")
    return out


def growing_pairs(count: int, chars: int, seed: int, *, restart: int = 0) -> list[Any]:
    """Return pairs of one conversation that grows by ``chars`` per call; ``restart``: a new one after so many."""
    source, out = random.Random(seed), []
    messages: list[Any] = []
    for number in range(count):
        if restart and number % restart == 0:
            messages = []
        answer = text(source, chars // 3)
        messages.append({"role": "user", "content": text(source, chars - len(answer))})
        out += pair(messages, answer, f"{seed}-{number}")
        messages.append({"role": "assistant", "content": answer})
    return out


def pair(messages: list[Any], answer: str, call_id: str) -> list[Any]:
    """Return the two events of one call; as in CrewAI, each has its own list and dicts of the same texts."""
    copies = [[dict(m) for m in messages] for _ in range(2)]
    kind = LLMCallType.LLM_CALL
    return [
        LLMCallStartedEvent(messages=copies[0], model="m", call_id=call_id),
        LLMCallCompletedEvent(messages=copies[1], response=answer, call_type=kind, model="m", call_id=call_id),
    ]


def as_json(events: list[Any]) -> list[str]:
    """Return what a plain dump of events stores."""
    return [event.model_dump_json() for event in events]
