"""What the log holds of one execution: its exchanges, finished tasks and methods, and what was under way.

Everything is filed under the logical path of the scope it happened in (its *lane*), which is
the same in every process. Large values stay references until they are needed.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from eventlog.errors import LogDamagedError
from eventlog.logger import Logger
from eventlog.nesting import decode_payload
from eventlog.read import Reader
from eventlog.record import StoredEvent
from eventlog.replay.path import above
from eventlog.resume.exchanges import SAVES, Exchange, Finished, OpenTool
from eventlog.resume.marks import Marks
from eventlog.values import resolve

log = Logger(__name__)


class Tape:
    """The record of the execution at ``path``."""

    def __init__(self, reader: Reader | None, path: str) -> None:
        """``reader`` resolves references; none for an execution that has not happened yet."""
        self._reader, self.path = reader, path
        self.llm: dict[str, list[Exchange]] = defaultdict(list)
        self.spent: dict[str, list[Exchange]] = defaultdict(list)
        """Calls of models whose events were compacted: they count, nobody needs their answers any more."""
        self.counts: dict[str, deque[int]] = defaultdict(deque)
        self.tools: dict[str, list[Exchange]] = defaultdict(list)
        self.human: dict[str, list[Exchange]] = defaultdict(list)
        self.memory: dict[str, list[Exchange]] = defaultdict(list)
        self.tasks: dict[str, Finished] = {}
        self.methods: dict[str, Finished] = {}
        self.skipped: dict[str, int] = defaultdict(int)
        """Execution path + task key → how often the task was skipped."""
        self.started: dict[str, StoredEvent] = {}
        """Path → the event that opened the newest scope there."""
        self.last_seq: dict[str, int] = defaultdict(int)
        """Path → seq of the last event in that very scope."""
        self.tool_ends: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.busy_tools: set[str] = set()
        """Paths of uses of tools that asked models themselves."""
        self.definitions: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        self.agent_keys: dict[str, str] = {}
        """CrewAI's id of an agent, new in every process → its key."""
        self.edits: list[tuple[int, dict[str, Any]]] = []
        self.result: tuple[int, dict[str, Any]] | None = None
        self.last_state: Any = None
        """The state a flow ended with."""
        self.saved: dict[str, int] = defaultdict(int)
        """Lane → how many of the saves that its memory began in the background came to an end."""
        self.paused: set[str] = set()
        self.rejected: dict[str, list[int]] = defaultdict(list)
        """Path of a task → where its guardrail refused the last answer before the task failed, each time."""
        self.marks = Marks(self.value)

    # -- reading what is on it ------------------------------------------------------------------

    def value(self, tree: Any) -> Any:
        """Return a tree with every reference filled in; one to what is damaged stays, and is never served."""
        return tree if self._reader is None else resolve(tree, partial(_content, self._reader))

    def below(self, path: str, kind: dict[str, list[Exchange]]) -> Iterator[Exchange]:
        """Yield the exchanges of one kind that happened in a scope and below it."""
        for lane, exchanges in kind.items():
            if lane == path or lane.startswith(path + "/"):
                yield from exchanges

    def was_open(self, path: str) -> bool:
        """Whether a use of a tool began and nobody knows what came of it.

        CrewAI says that a tool finished even when it was left by SystemExit; then nothing of the agent's follows.
        """
        event = self.started.get(path)
        if event is None or event.type != "tool_usage_started" or any(not e.failed for e in self.tools[path]):
            return False
        ends = self.tool_ends[path]
        return not ends or (not ends[-1].get("from_cache") and self.last_seq[above(path)] < event.seq)

    def is_unsaved(self, path: str) -> bool:
        """Whether a memory was told something in a scope or below it that it had not saved yet."""
        told = Counter(e.lane for e in self.below(path, self.memory) if e.fields.get("operation") in SAVES)
        return any(count > self.saved[lane] for lane, count in told.items())

    def open_tools(self) -> list[OpenTool]:
        """Return the uses of tools that may or may not have happened."""
        found = []
        for path, event in self.started.items():
            if self.was_open(path):
                fields = decode_payload(event.payload)
                found.append(OpenTool(path, str(fields.get("tool_name")), self.value(fields.get("tool_args"))))
        return found

    def arguments(self, path: str) -> tuple[str, Any] | None:
        """Return name and arguments of the use of a tool at ``path``, as CrewAI's events name them."""
        event = self.started.get(path)
        if event is None or event.type != "tool_usage_started":
            return None
        fields = decode_payload(event.payload)
        return str(fields.get("tool_name")), fields.get("tool_args")

    def first_method(self, path: str) -> dict[str, Any] | None:
        """Return the payload of the first method that a flow started."""
        found = [e for p, e in self.started.items() if e.type == "method_execution_started" and above(p) == path]
        return decode_payload(found[0].payload) if found else None

    def definition(self, path: str, at: int | None = None) -> dict[str, Any] | None:
        """Return the payload of the newest definition of an execution, or of the one that held at a seq."""
        known = [payload for seq, payload in self.definitions[path] if at is None or seq < at]
        return known[-1] if known else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on it."""
        return not self.started


def _content(reader: Reader, name: str) -> Any:
    """Return a content.

    Raises:
        KeyError: it is missing or damaged.
    """
    try:
        return reader.content(name)
    except LogDamagedError as error:
        log.warning("content_not_served", content=name, error=str(error))
        raise KeyError(name) from error
