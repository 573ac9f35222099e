"""The key of a definition, the same in every process.

CrewAI's keys are hashes of the texts a person wrote. A text that holds a time or an address
in memory (CrewAI's planner writes a task that shows the tools with theirs) has another key in every
process; such a text is hashed without them. All other keys are CrewAI's own.
"""

from __future__ import annotations

from hashlib import md5
from typing import Any

from eventlog.references import kind_of, read_fact
from eventlog.requests import without_moments

TEXTS = {"task": ("description", "expected_output"), "agent": ("role", "goal", "backstory")}
"""What CrewAI makes its keys of: the texts before inputs are filled in."""


def stable_key(obj: Any) -> str | None:
    """Return the key of a crew, agent or task; ``None`` for what has none."""
    key = read_fact(obj, "key")
    kind = kind_of(obj)
    if key is None or kind not in ("crew", "agent", "task"):
        return key
    if kind == "crew":
        return _crew_key(obj, key)
    texts = "|".join(_text(obj, name) for name in TEXTS[kind]).encode("utf-8", "replace")
    calm = without_moments(texts)
    return key if calm == texts else _hash(calm)


def _crew_key(crew: Any, key: str) -> str:
    """Return the key of a crew: made of those of its agents and tasks, as CrewAI does it."""
    try:
        parts = [*crew.agents, *crew.tasks]
    except (AttributeError, TypeError):
        return key
    own = [stable_key(part) or "" for part in parts]
    return key if own == [read_fact(part, "key") or "" for part in parts] else _hash("|".join(own).encode())


def _text(obj: Any, name: str) -> str:
    """Return a text as it was before inputs were filled in."""
    return str(getattr(obj, f"_original_{name}", None) or getattr(obj, name, "") or "")


def _hash(data: bytes) -> str:
    """Return a key that looks like CrewAI's."""
    return md5(data, usedforsecurity=False).hexdigest()
