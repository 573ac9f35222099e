"""The same events for everybody: matched pairs of model calls with text that does not repeat."""

from __future__ import annotations

import random
import string
from typing import Any

from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent, LLMCallType


def text(source: random.Random, chars: int) -> str:
    """Return text that repeats like none."""
    return "".join(source.choices(string.ascii_letters + "      ", k=chars))


def flat_pairs(count: int, chars: int, seed: int) -> list[Any]:
    """Return ``count`` pairs of started and completed events of about ``chars`` each."""
    source, out = random.Random(seed), []
    for number in range(count):
        messages = [{"role": "user", "content": text(source, chars)}]
        out += pair(messages, text(source, chars // 4), f"{seed}-{number}")
    return out


def growing_pairs(count: int, chars: int, seed: int) -> list[Any]:
    """Return pairs of one conversation that grows by ``chars`` per call."""
    source, messages, out = random.Random(seed), [], []
    for number in range(count):
        answer = text(source, chars // 3)
        messages.append({"role": "user", "content": text(source, chars - len(answer))})
        out += pair(messages, answer, f"{seed}-{number}")
        messages.append({"role": "assistant", "content": answer})
    return out


def pair(messages: list[Any], answer: str, call_id: str) -> list[Any]:
    """Return the two events of one call."""
    copies = [[dict(m) for m in messages] for _ in range(2)]
    kind = LLMCallType.LLM_CALL
    return [
        LLMCallStartedEvent(messages=copies[0], model="m", call_id=call_id),
        LLMCallCompletedEvent(messages=copies[1], response=answer, call_type=kind, model="m", call_id=call_id),
    ]
