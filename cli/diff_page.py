"""Two states side by side: their tasks, their tokens, their events. Pure."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import msgspec

from eventlog.cli.output import Block, Table
from eventlog.cli.text import one_line
from eventlog.replay.state import RunState, TaskState
from eventlog.replay.task_index import TaskIndex

_TOKENS = ("calls", "failed", "prompt_tokens", "completion_tokens", "total_tokens")
EXCERPT_CHARS = 50


class TaskPair(msgspec.Struct, frozen=True):
    """A task on both sides; ``None`` where it is not."""

    path: str
    name: str
    left: str | None
    """Status."""
    right: str | None
    output_differs: bool
    left_output: Any = None
    right_output: Any = None


def task_pairs(left: RunState, right: RunState) -> list[TaskPair]:
    """Return the tasks of two states; those at the same place are the same task."""
    sides = [{index.place_of(t): t for t in s.tasks} for s in (left, right) for index in (TaskIndex(s.tasks),)]
    places = list(dict.fromkeys(place for side in sides for place in side))
    pairs = [(place, sides[0].get(place), sides[1].get(place)) for place in places]
    if not any(a and b for _, a, b in pairs) and left.tasks and right.tasks:  # other crews: by position
        pairs = [(str(n), a, b) for n, (a, b) in enumerate(zip_longest(left.tasks, right.tasks), 1)]
    return [_pair(*pair) for pair in pairs]


def _pair(place: str, left: TaskState | None, right: TaskState | None) -> TaskPair:
    """Return one task of both sides."""
    named: Any = left or right
    outputs = [task.output if task else None for task in (left, right)]
    return TaskPair(
        place, one_line(named.name or named.description, 40), left.status if left else None,
        right.status if right else None, outputs[0] != outputs[1], *outputs,
    )  # fmt: skip


def counts(left: RunState, right: RunState) -> list[tuple[str, int, int]]:
    """Return what can be counted on both sides: events, model calls and tokens, tool calls."""
    rows = [("events", left.event_count, right.event_count)]
    rows += [(f"llm {name}", getattr(left.llm, name), getattr(right.llm, name)) for name in _TOKENS]
    tools = [sum(tool.calls for tool in state.tools) for state in (left, right)]
    return [*rows, ("tool calls", tools[0], tools[1])]


def side_by_side(left: RunState, right: RunState) -> list[Block]:
    """Return the tables for people."""
    pairs = task_pairs(left, right)
    tasks = [
        (p.name, p.left or "(none)", p.right or "(none)", "differs" if p.output_differs else "same") for p in pairs
    ]
    outputs = [
        (p.name, one_line(p.left_output, EXCERPT_CHARS), one_line(p.right_output, EXCERPT_CHARS))
        for p in pairs if p.output_differs
    ]  # fmt: skip
    numbers = [(n, str(a), str(b), f"{b - a:+d}" if a != b else "") for n, a, b in counts(left, right) if a or b]
    return [
        Table("tasks", ("task", "A", "B", "output"), tasks),
        Table("outputs", ("task", "A", "B"), outputs),
        Table("counts", ("", "A", "B", "B-A"), numbers, right=("A", "B", "B-A")),
    ]
