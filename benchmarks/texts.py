"""Text for everybody: it reads like prose and code, and repeats like none."""

from __future__ import annotations

import random
from functools import cache
from pydoc_data.topics import topics


@cache
def words() -> list[str]:
    """Return the words of Python's own documentation: English, some code, found wherever Python is."""
    return " ".join(topics[name] for name in sorted(topics)).split()


def text(source: random.Random, chars: int) -> str:
    """Return that much text."""
    return " ".join(source.choices(words(), k=chars // 4 + 8))[:chars]
