"""A JSON tree as indented text that a person can read. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventlog.cli.text import as_text, harmless

DEPTH_MAX = 24
"""Deeper values are shown as JSON in one line."""


def tree_lines(tree: Any, indent: int = 0, depth: int = 0) -> Iterator[str]:
    """Yield the lines of a tree: names with their values, texts of several lines as blocks below."""
    pad = " " * indent
    if isinstance(tree, dict) and depth < DEPTH_MAX:
        for name, value in tree.items():
            yield from _entry(f"{pad}{harmless(str(name))}:", value, indent, depth)
    elif isinstance(tree, list) and depth < DEPTH_MAX:
        for value in tree:
            yield from _item(pad, value, indent, depth)
    else:
        yield from (f"{pad}{line}" for line in _scalar(tree).split("\n"))


def _entry(name: str, value: Any, indent: int, depth: int) -> Iterator[str]:
    """Yield one name and its value."""
    if _is_short(value):
        yield f"{name} {_scalar(value)}"
    else:
        yield name
        yield from tree_lines(value, indent + 2, depth + 1)


def _item(pad: str, value: Any, indent: int, depth: int) -> Iterator[str]:
    """Yield one element of a list; a message begins with who said it."""
    if isinstance(value, dict) and isinstance(value.get("role"), str) and "content" in value:
        rest = {k: v for k, v in value.items() if k not in ("role", "content")}
        yield f"{pad}- [{harmless(value['role'])}]"
        yield from tree_lines(value["content"], indent + 4, depth + 1)
        yield from tree_lines(rest, indent + 4, depth + 1)
    elif _is_short(value):
        yield f"{pad}- {_scalar(value)}"
    else:
        yield f"{pad}-"
        yield from tree_lines(value, indent + 4, depth + 1)


def _is_short(value: Any) -> bool:
    """Whether a value stands on the line of its name."""
    return not value if isinstance(value, (dict, list)) else "\n" not in _scalar(value)


def _scalar(value: Any) -> str:
    """Return a value without structure as text."""
    return "null" if value is None else harmless(as_text(value))
