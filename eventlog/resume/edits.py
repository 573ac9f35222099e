"""What a fork changed, for the kickoff that goes on with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


class Edits(msgspec.Struct):
    """All edits on a lineage that concern one execution, the newest last."""

    inputs: dict[str, Any] = {}
    inputs_seq: int = 0
    """Seq of the newest edit of inputs; 0 when there is none."""
    outputs: dict[str, tuple[int, Any]] = {}
    """Path of a task → seq of the edit, new output."""
    resets: dict[str, int] = {}
    """Path of a task that has to run again → seq of the edit."""

    @property
    def last_seq(self) -> int:
        """Seq of the newest edit; 0 when there is none."""
        return self.last_below("")

    def last_below(self, path: str) -> int:
        """Return the seq of the newest edit that concerns a scope: of a task in it, or of the inputs."""
        edited = {**{task: seq for task, (seq, _) in self.outputs.items()}, **self.resets}
        inside = (seq for task, seq in edited.items() if task == path or task.startswith(path + "/"))
        return max([self.inputs_seq, *inside])


def edits_of(recorded: Iterable[tuple[int, dict[str, Any]]], execution: str) -> Edits:
    """Return the edits in the payloads of ``eventlog.fork_edited`` that concern an execution and what is in it."""
    edits = Edits()
    for seq, payload in recorded:
        if payload.get("execution") == execution:
            inputs = payload.get("inputs") or {}
            edits.inputs.update(inputs)
            edits.inputs_seq = seq if inputs else edits.inputs_seq
        for path, output in (payload.get("outputs") or {}).items():
            if path.startswith(execution + "/"):
                edits.outputs[path] = (seq, output)
                edits.resets.pop(path, None)
        for path in payload.get("reset") or ():
            if path.startswith(execution + "/"):
                edits.resets[path] = seq
                edits.outputs.pop(path, None)
    return edits
