"""Which recorded execution a kickoff continues. Pure.

The next one of the same identity with equal inputs that nobody has taken yet in this pass over
the run; else one whose definition was edited since, told by its name and the tasks or agents it
shares (without a name, only one that is unfinished: two crews may share a task); else none, and a
new one begins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from eventlog.record import ExecutionInfo, read_ordinal
from eventlog.replay.path import last_segment


class Wanted(msgspec.Struct, frozen=True):
    """What tells a kickoff from others."""

    kind: str
    label: str
    """Of its path, without the ordinal."""
    inputs_hash: str
    name: str
    """What a person called it; empty for nothing."""
    parts: frozenset[str]
    """Keys of its tasks and agents."""


def find_execution(
    wanted: Wanted, recorded: Iterable[ExecutionInfo], taken: Collection[str], parts: dict[str, frozenset[str]]
) -> ExecutionInfo | None:
    """Return the execution to continue. ``parts``: keys of tasks and agents by execution path."""
    free = [e for e in recorded if e.parent is None and e.path not in taken and e.kind == wanted.kind]
    mark = step_of(wanted.label)
    free = [e for e in free if e.inputs_hash == wanted.inputs_hash and step_of(e.path) == mark]
    same = next((e for e in free if split(e.path)[0] == wanted.label and _may_be(wanted, parts.get(e.path))), None)
    if same is not None:
        return same
    alike = [e for e in free if parts.get(e.path, frozenset()) & wanted.parts]
    named = (e for e in alike if wanted.kind == "crew" and wanted.name and e.name == wanted.name)
    unnamed = (e for e in alike if e.status != "completed" and e.name == (wanted.name or "crew"))
    return next(named, None) or next(unnamed, None)


def _may_be(wanted: Wanted, recorded: frozenset[str] | None) -> bool:
    """Whether a flow is of the recorded class: two modules may name theirs alike. ``__main__`` may be any module."""
    if wanted.kind != "flow" or not recorded or not wanted.parts:
        return True
    known = {name for name in recorded | wanted.parts if ":" in name}
    return len(known) == 1 or any(name.startswith("__main__:") for name in known)


def step_of(path: str) -> str:
    """Return the mark of the step that an execution at the top belongs to: ``@ITEM``, or nothing."""
    label = path.lstrip("/").partition("/")[0].rpartition("#")[0] or path
    _, at, mark = label.partition("@")
    return at + mark.partition("+")[0]


def newest_marks(paths: Iterable[str]) -> dict[str, str]:
    """Return the mark that each step had last, by the mark of its first round: ``@ITEM`` → ``@ITEM~2``."""
    found: dict[str, str] = {}
    for mark in filter(None, map(step_of, paths)):
        first, _, number = mark.partition("~")
        if read_ordinal(number) >= read_ordinal(found.get(first, "").partition("~")[2]):
            found[first] = mark
    return found


def bare_label(label: str) -> str:
    """Return a label without what tells its steps and copies apart."""
    return label.partition("+")[0].partition("@")[0]


def split(path: str) -> tuple[str, int]:
    """Return label and ordinal of an execution's path."""
    label, _, ordinal = last_segment(path).rpartition("#")
    return label, read_ordinal(ordinal)
