"""The same events for everybody: matched pairs of model calls whose text does not repeat."""

from __future__ import annotations

import random
from typing import Any

from eventlog.cli.disk import call_events
from eventlog.cli.measuring import text


def flat_pairs(count: int, chars: int, seed: int) -> list[Any]:
    """Return ``count`` pairs of started and completed events, each with one message of that many characters."""
    source, out = random.Random(seed), []
    for number in range(count):
        messages = [{"role": "user", "content": text(source, chars)}]
        out += call_events(messages, text(source, chars // 4), f"{seed}-{number}")
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
        out += call_events(messages, answer, f"{seed}-{number}")
        messages.append({"role": "assistant", "content": answer})
    return out


def as_json(events: list[Any]) -> list[str]:
    """Return what a plain dump of events stores."""
    return [event.model_dump_json() for event in events]
