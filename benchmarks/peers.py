"""What else keeps calls of a model: each keeps one pair of events at a time; its name says how durable that is."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from crewai.events.event_bus import crewai_event_bus as bus

import eventlog
from benchmarks import bare, checkpointing
from eventlog.cli.measuring import plain_table
from eventlog.pipeline import Durability
from eventlog.storage import Synchronous

Keep = Callable[[Any, Any], Any]
"""Takes the started and the completed event of a call."""


class Store(msgspec.Struct):
    """An open place for calls."""

    keep: Keep
    """When it returns, the call is kept as durably as the store's name says."""
    skip: Keep | None = None
    """Remembers a call without writing, where each write holds all calls before; else ``None``."""


Peer = Callable[[Path], AbstractContextManager[Store]]
"""Opens a store in a folder; closing it writes what is still to be written."""

COMMIT, BATCH, FSYNC = "eventlog, commit (NORMAL)", "eventlog, batch (NORMAL)", "eventlog, fsync (FULL)"
OURS = (COMMIT, BATCH, FSYNC)
BARE, BARE_FULL = "bare INSERT of the JSON (NORMAL)", "bare INSERT of the JSON (FULL)"
STATE_FILE = "JSON file, rewritten (no fsync)"
SAVER = "LangGraph SqliteSaver (FULL)"
RECORDER, APPLICATION = "eventsourcing recorder (FULL)", "eventsourcing Application (FULL)"
JSON_ALL, JSON_5 = "CrewAI JsonProvider (no fsync)", "CrewAI JsonProvider, newest 5 (no fsync)"
SQLITE_ALL, SQLITE_5 = "CrewAI SqliteProvider (FULL)", "CrewAI SqliteProvider, newest 5 (FULL)"
KEEP_ALL = (JSON_ALL, SQLITE_ALL)
CREWAI = (JSON_ALL, SQLITE_ALL, JSON_5, SQLITE_5)


def installed(*, is_conversation: bool) -> dict[str, Peer]:
    """Return all whose packages are there, by name.

    ``is_conversation``: the messages of a call are the state of those who keep states; else the
    state is all calls so far.
    """
    found: dict[str, Peer] = {
        COMMIT: partial(_ours, "commit"), BATCH: partial(_ours, "batch"), FSYNC: partial(_ours, "fsync"),
        BARE: partial(_bare, "NORMAL"), BARE_FULL: partial(_bare, "FULL"),
        STATE_FILE: partial(_state_file, is_conversation),
    }  # fmt: skip
    if find_spec("langgraph") and find_spec("langgraph.checkpoint.sqlite"):
        found[SAVER] = partial(_saver, is_conversation)
    if find_spec("eventsourcing"):
        found |= {RECORDER: _recorder, APPLICATION: _application}
    found |= {JSON_ALL: partial(_crewai, "json", None), JSON_5: partial(_crewai, "json", 5)}
    if checkpointing.sqlite_module():
        found |= {SQLITE_ALL: partial(_crewai, "sqlite", None), SQLITE_5: partial(_crewai, "sqlite", 5)}
    return found


def missing(found: dict[str, Peer]) -> list[str]:
    """Return a note for each that was left out."""
    reasons = {
        SAVER: "langgraph-checkpoint-sqlite is not installed",
        RECORDER: "eventsourcing is not installed",
        SQLITE_ALL: "it needs SQLite 3.45, and pysqlite3 is not installed",
    }
    return [f"left out: {name}: {reason}" for name, reason in reasons.items() if name not in found]


@contextmanager
def _ours(durability: Durability, folder: Path) -> Generator[Store]:
    """Capture what is emitted, as a user's program would."""

    def keep(started: Any, completed: Any) -> None:
        bus.emit(None, started)
        bus.emit(None, completed)

    with bus.scoped_handlers(), eventlog.open(folder / "events.db", durability=durability) as log, log.run("r"):
        yield Store(keep)


@contextmanager
def _bare(synchronous: Synchronous, folder: Path) -> Generator[Store]:
    """Insert each event's JSON into a table, in a transaction of its own."""
    db = plain_table(folder / "bare.db", synchronous)
    (folder / "bare.settings").unlink()  # it only told the settings

    def keep(*events: Any) -> None:
        for event in events:
            bare.insert(db, event.model_dump_json())

    yield Store(keep)
    db.close()


class State:
    """What those keep who keep states: the messages of the conversation, or of all calls so far."""

    def __init__(self, *, is_conversation: bool) -> None:
        """Begin with none."""
        self.is_conversation = is_conversation
        self.messages: list[dict[str, Any]] = []

    def after(self, _started: Any, completed: Any) -> list[dict[str, Any]]:
        """Return the messages after a call."""
        new = [*completed.messages, {"role": "assistant", "content": completed.response}]
        self.messages = new if self.is_conversation else self.messages + new
        return self.messages

    def store(self, save: Callable[[list[dict[str, Any]]], Any]) -> Store:
        """Return the store that saves the state after each call."""
        skip = None if self.is_conversation else self.after
        return Store(lambda started, completed: save(self.after(started, completed)), skip)


@contextmanager
def _state_file(is_conversation: bool, folder: Path) -> Generator[Store]:
    """Rewrite one file after each call, as tutorials on persisting a crew's state do."""
    path = folder / "state.json"
    yield State(is_conversation=is_conversation).store(
        lambda messages: path.write_bytes(msgspec.json.encode({"messages": messages}))
    )


@contextmanager
def _saver(is_conversation: bool, folder: Path) -> Generator[Store]:
    """Put the state after each call, as a LangGraph graph with one channel does."""
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite import SqliteSaver

    with SqliteSaver.from_conn_string(str(folder / "states.db")) as saver:
        saver.setup()
        place: Any = {"configurable": {"thread_id": "r", "checkpoint_ns": ""}}

        def put(messages: list[dict[str, Any]]) -> None:
            nonlocal place
            version = {"messages": len(messages)}
            values: Any = {"channel_values": {"messages": messages}, "channel_versions": version}
            place = saver.put(place, empty_checkpoint() | values, {"source": "loop", "step": 1, "parents": {}}, {})

        yield State(is_conversation=is_conversation).store(put)


@contextmanager
def _recorder(folder: Path) -> Generator[Store]:
    """Insert each event into the library's table, without its aggregates."""
    from uuid import uuid4

    from eventsourcing.persistence import StoredEvent
    from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

    datastore = SQLiteDatastore(str(folder / "recorded.db"))
    recorder = SQLiteApplicationRecorder(datastore)
    recorder.create_table()
    origin, version = uuid4(), 0

    def keep(*events: Any) -> None:
        nonlocal version
        for event in events:
            version += 1
            body = event.model_dump_json().encode()
            recorder.insert_events([StoredEvent(origin, version, event.type, body)])

    yield Store(keep)
    datastore.close()


@cache
def _aggregate() -> Any:
    """Return the class of a run; the library refuses a second one of that name."""
    from eventsourcing.domain import Aggregate, event

    class Run(Aggregate):
        """One run."""

        @event("Happened")
        def happen(self, body: str) -> None:
            """Note how long the last one was."""
            self.last = len(body)

    return Run


@contextmanager
def _application(folder: Path) -> Generator[Store]:
    """Save an aggregate after each event, as the library's documentation does."""
    from eventsourcing.application import Application

    settings = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "saved.db")}
    application: Any = Application(env=settings)
    run = _aggregate()()

    def keep(*events: Any) -> None:
        for one in events:
            run.happen(one.model_dump_json())
            application.save(run)

    yield Store(keep)
    application.close()


@contextmanager
def _crewai(kind: checkpointing.Kind, newest: int | None, folder: Path) -> Generator[Store]:
    """Let CrewAI write a checkpoint after each call."""
    with checkpointing.checkpoints(kind, newest, folder) as (keep, skip):
        yield Store(keep, skip)


def bytes_in(folder: Path) -> int:
    """Return how many bytes the files in a folder have."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
