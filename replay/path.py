"""Logical paths: which execution an event belongs to, and what lies below what. Pure.

::

    /flow:Audit#0/method[collect]#0/crew:3f2a#0/task[9c1b]#0/agent_execution#0/llm#2
    └── execution ┘                └ execution ┘

Only executions are written ``kind:KEY#n``; every other scope looks different.
"""

from __future__ import annotations

import re

SEGMENTS_MAX = 128
"""CrewAI nests at most 100 scopes; the ancestors of a longer (hostile) path are not followed further."""

_KINDS = ("crew", "flow", "agent", "task")
_EXECUTION = re.compile(rf"(?:.*/)?(?:{'|'.join(_KINDS)}):[^/]*", re.DOTALL)
_TASK = re.compile(r"(.*)/task\[([^/\]]*)\]#([0-9]{1,9})", re.DOTALL)
_ENCLOSING = {kind: re.compile(rf"(?:.*/)?{kind}:[^/]*", re.DOTALL) for kind in _KINDS}


def execution_of(path: str) -> str:
    """Return the path of the innermost execution that ``path`` lies in; empty when there is none."""
    found = _EXECUTION.match(path)
    return found.group() if found else ""


def task_place(execution: str, key: str, number: int) -> str:
    """Return where a crew runs a task: the ``number``-th (from 0) of those with its key."""
    return f"{execution}/task[{short_key(key)}]#{number}"


def split_task_place(place: str) -> tuple[str, str, int] | None:
    """Return the execution, short key and number in the place of a crew's task; ``None`` for any other path."""
    found = _TASK.fullmatch(place)
    return (found[1], found[2], int(found[3])) if found else None


def short_key(key: str) -> str:
    """Return a task's key as it stands in a path."""
    return re.sub(r"[/\[\]#]", "_", key[:8]) or "?"


def enclosing(path: str, kind: str) -> str:
    """Return the path of the innermost execution of one kind; empty when there is none."""
    found = _ENCLOSING[kind].match(path)
    return found.group() if found else ""


def kind_of(execution: str) -> str:
    """Return ``crew``, ``flow``, ``agent`` or ``task``: the kind an execution's path names."""
    return last_segment(execution).partition(":")[0]


def above(path: str) -> str:
    """Return the path of the enclosing scope."""
    return path.rpartition("/")[0]


def last_segment(path: str) -> str:
    """Return the scope's own part of its path."""
    return path.rpartition("/")[2]


def is_internal(path: str) -> bool:
    """Whether the scope is a flow that CrewAI runs for its own purposes."""
    return last_segment(path).startswith("internal[")


def inside_internal(path: str) -> bool:
    """Whether an internal flow stands between the scope and its execution."""
    return "/internal[" in path[len(execution_of(path)) :]


def self_and_above(path: str) -> list[str]:
    """Return every prefix of ``path`` that is a scope, outermost first, the path itself last."""
    prefixes: list[str] = []
    end = path.find("/", 1)
    while end > 0 and len(prefixes) < SEGMENTS_MAX:
        prefixes.append(path[:end])
        end = path.find("/", end + 1)
    prefixes.append(path)
    return prefixes
