"""What a fork changed, for the kickoff that goes on with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Edits(msgspec.Struct):
    """All edits on a lineage that concern one execution, the newest last."""

    inputs: dict[str, Any] = {}
    outputs: dict[str, tuple[int, Any]] = {}
    """Path of a task → seq of the edit, new output."""
    resets: dict[str, int] = {}
    """Path of a task that has to run again → seq of the edit."""

    @property
    def last_seq(self) -> int:
        """Seq of the newest edit; 0 when there is none."""
        return max([0, *(seq for seq, _ in self.outputs.values()), *self.resets.values()])

    def below(self, path: str) -> bool:
        """Whether a task at or below a path was edited or reset."""
        return any(p == path or p.startswith(path + "/") for p in (*self.outputs, *self.resets))


def edits_of(recorded: Iterable[tuple[int, dict[str, Any]]], execution: str) -> Edits:
    """Return the edits in the payloads of ``eventlog.fork_edited`` that concern an execution and what is in it."""
    edits = Edits()
    for seq, payload in recorded:
        if payload.get("execution") == execution:
            edits.inputs.update(payload.get("inputs") or {})
        for path, output in (payload.get("outputs") or {}).items():
            if path.startswith(execution + "/"):
                edits.outputs[path] = (seq, output)
                edits.resets.pop(path, None)
        for path in payload.get("reset") or ():
            if path.startswith(execution + "/"):
                edits.resets[path] = seq
                edits.outputs.pop(path, None)
    return edits
