"""CrewAI's own checkpoints, at their best: the source is the crew, and each is waited for."""

from __future__ import annotations

import contextvars
import io
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from crewai import Agent, Crew, Task
from crewai.events.event_bus import crewai_event_bus as bus
from crewai.events.types.checkpoint_events import CheckpointCompletedEvent, CheckpointStartedEvent
from crewai.events.types.llm_events import LLMCallCompletedEvent
from crewai.state import runtime
from crewai.state.checkpoint_config import CheckpointConfig
from crewai.state.provider import sqlite_provider
from crewai.state.provider.json_provider import JsonProvider
from crewai.tools import BaseTool
from pydantic import PrivateAttr

from eventlog.testing import ScriptedLLM

Kind = Literal["json", "sqlite"]
Act = Callable[[Any, Any], Any]
JSONB = (3, 45)
"""The version of SQLite that the provider needs."""


def sqlite_module() -> Any:
    """Return a module whose SQLite is new enough for the provider, or ``None``."""
    if sqlite3.sqlite_version_info >= JSONB:
        return sqlite3
    return import_module("pysqlite3.dbapi2") if find_spec("pysqlite3") else None


@contextmanager
def checkpoints(kind: Kind, newest: int | None, folder: Path) -> Generator[tuple[Act, Act]]:
    """Yield what emits a call and waits for its checkpoint, and what only records both.

    ``newest``: prune to that many after each.

    Raises:
        RuntimeError: on leaving, if a checkpoint was not written; CrewAI itself would only log it.
    """
    location = str(folder / ("checkpoints.db" if kind == "sqlite" else "checkpoints"))
    provider = sqlite_provider.SqliteProvider() if kind == "sqlite" else JsonProvider()
    subject, written, wanted = crew(rounds=1), [], 0
    state = runtime.RuntimeState(root=[subject])
    state._provider = provider  # noqa: SLF001 - as CrewAI does when it restores one

    def write(_source: Any, _event: Any, current: Any) -> None:
        written.append(current.checkpoint(location))
        if newest:
            provider.prune(location, newest)

    def keep(started: Any, completed: Any) -> None:
        nonlocal wanted
        wanted += 1
        bus.emit(subject, started)
        done = bus.emit(subject, completed)
        if done is not None:
            done.result()

    with mock.patch.object(sqlite_provider, "sqlite3", sqlite_module() or sqlite3), bus.scoped_handlers():
        bus.set_runtime_state(state)
        bus.register_handler(LLMCallCompletedEvent, write)
        try:
            yield keep, lambda started, completed: _record(bus, write, subject, state, (started, completed))
        finally:
            bus.flush()
            bus.reset_runtime_state()
    if len(written) != wanted:
        raise RuntimeError(f"CrewAI wrote {len(written)} of {wanted} checkpoints")


def _record(events: Any, write: Any, subject: Any, state: Any, pair: tuple[Any, Any]) -> None:
    """Put into CrewAI's record what a call and its checkpoint would have left there."""
    events.off(LLMCallCompletedEvent, write)
    for event in pair:
        events.emit(subject, event)
    facts: Any = {"location": "l" * 60, "provider": "JsonProvider", "branch": "main", "parent_id": "p" * 24}

    def announce() -> None:
        events.emit(state, CheckpointStartedEvent(**facts))
        events.emit(state, CheckpointCompletedEvent(**facts, checkpoint_id="c" * 24, duration_ms=1.0))

    contextvars.copy_context().run(announce)  # the handler runs in a copy, too
    events.register_handler(LLMCallCompletedEvent, write)


class Archive(BaseTool):
    """A tool that answers with a text; a function under ``@tool`` could not be checkpointed at all."""

    name: str = "archive"
    description: str = "Look into the archive."
    texts: tuple[str, ...] = ()

    _asked: int = PrivateAttr(default=0)

    def _run(self, q: str) -> str:
        """Return the next text, or the question if there are none."""
        self._asked += 1
        return self.texts[(self._asked - 1) % len(self.texts)] if self.texts else q


def crew(*, rounds: int, tasks: int = 1, texts: tuple[str, ...] = (), config: CheckpointConfig | None = None) -> Crew:
    """Return a crew that runs offline; each of its tasks asks its tool ``rounds`` times."""
    llm = ScriptedLLM(tool_rounds=rounds)
    agent = Agent(
        role="Archivist", goal="Know", backstory="Old", llm=llm, tools=[Archive(texts=texts)], max_iter=rounds + 5
    )
    jobs = [Task(description=f"Find out {n}", expected_output="A sentence", agent=agent) for n in range(tasks)]
    return Crew(agents=[agent], tasks=jobs, checkpoint=config, cache=False)


def kickoff(subject: Crew) -> Any:
    """Run a crew without its panels on the terminal; returns when its events are handled."""
    with redirect_stdout(io.StringIO()):
        result = subject.kickoff()
        bus.flush()
    return result
