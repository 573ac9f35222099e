"""What stops a resumed or re-executed kickoff, and how a difference is told.

These errors are of the kind that CrewAI lets through every retry loop (``HookAborted``).
"""

from __future__ import annotations

from typing import Any

import msgspec
from crewai.hooks.dispatch import HookAborted

from eventlog.errors import EventLogError, LeaseLostError

SHOWN_BEFORE, SHOWN_AFTER = 30, 60


class Divergence(msgspec.Struct, frozen=True):
    """The first place where a kickoff did something else than what is recorded."""

    where: str
    """Logical path of the scope."""
    what: str
    """``llm``, ``tool``, ``human``, ``memory``, ``definition``, ``events`` or ``output``."""
    at: str
    """Path into the value, e.g. ``messages[1].content``."""
    expected: Any
    """What is recorded there."""
    actual: Any
    """What came instead."""

    def __str__(self) -> str:
        """Say where, then what was recorded, then what came."""
        return f"{self.where} ({self.what}) {self.at}: recorded {self.expected!r}, now {self.actual!r}".replace(
            "  ", " "
        )


class DivergedError(HookAborted, EventLogError):
    """The code does something else than what is recorded, and the policy says to stop."""

    hint = 'to go on live from here: on_change="adapt"; to look at both: eventlog diff'

    def __init__(self, divergence: Divergence) -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        HookAborted.__init__(self, str(divergence), source="eventlog")
        self.args = (divergence,)
        self.divergence = divergence

    def __str__(self) -> str:
        """Say where, expected and actual."""
        return str(self.divergence)


class ToolInFlightError(HookAborted, EventLogError):
    """A tool was under way when the process died, and the policy says not to run it again."""

    hint = 'run it again with on_tool="rerun", or supply its result: on_tool={"TOOL": result}'

    def __init__(self, tool: str, path: str, reason: str = "it was under way when its process ended") -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        HookAborted.__init__(self, f"tool {tool} at {path}: {reason}", source="eventlog")
        self.args = (tool, path, reason)
        self.tool, self.path, self.reason = tool, path, reason

    def __str__(self) -> str:
        """Say which tool, where, and why it is in doubt."""
        return f"tool {self.tool} at {self.path}: {self.reason}"


class RunTakenOverError(HookAborted, LeaseLostError):
    """Another process took the branch over while this one was stopped; its kickoff ends at the next boundary."""

    hint = "the other process goes on with it; what this one still recorded is on the branch stale/<epoch>"

    def __init__(self, run: str, epoch: int, branch: str = "main") -> None:
        """Keep the facts a handler needs; ``args`` holds them so pickling works."""
        what = f"run {run!r}" if branch == "main" else f"branch {branch!r} of run {run!r}"
        LeaseLostError.__init__(self, run, epoch, branch)
        self.reason, self.source = f"{what} was taken over by another process", "eventlog"
        self.args = (run, epoch, branch)
        self.run, self.epoch, self.branch = run, epoch, branch

    def __str__(self) -> str:
        """Say which run and branch."""
        return str(self.reason)


def first_difference(expected: Any, actual: Any, at: str = "") -> tuple[str, Any, Any] | None:
    """Return where two trees begin to differ and what stands there; ``None`` for equal ones. Texts are cut to it."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        keys = [*expected, *(k for k in actual if k not in expected)]
        parts = [(f"{at}.{k}".lstrip("."), expected.get(k), actual.get(k)) for k in keys]
        return next((d for name, a, b in parts if (d := first_difference(a, b, name))), None)
    if isinstance(expected, list) and isinstance(actual, list):
        for index, (a, b) in enumerate(zip(expected, actual)):  # noqa: B905 - the lengths are compared below
            if difference := first_difference(a, b, f"{at}[{index}]"):
                return difference
        return None if len(expected) == len(actual) else (f"{at}.length", len(expected), len(actual))
    if isinstance(expected, str) and isinstance(actual, str) and expected != actual:
        return _text_difference(expected, actual, at)
    return None if expected == actual else (at, expected, actual)


def _text_difference(expected: str, actual: str, at: str) -> tuple[str, str, str]:
    """Return two texts around the place where they begin to differ."""
    pairs = enumerate(zip(expected, actual))  # noqa: B905 - one may be longer
    place = next((i for i, (a, b) in pairs if a != b), min(len(expected), len(actual)))
    window = slice(max(0, place - SHOWN_BEFORE), place + SHOWN_AFTER)
    return f"{at}@{place}", expected[window], actual[window]
