"""Processes that do one thing after the other to a log, each acknowledged when it returned, until they are killed.

What is done is numbered, and to do it again has the effect of having done it once: so the test can kill at any
instant, have the thing that was under way done again, and compare with a log on which all went well.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlite_utils import Database

import eventlog
from eventlog import append as appending
from eventlog import backup as backing_up
from eventlog import log as logs
from eventlog import storage
from eventlog.errors import BranchExistsError, LogUnwritableError
from eventlog.forgetting import forget as forgetting
from eventlog.pipeline import Durability, Pipeline
from eventlog.transfer.imports import import_file
from tests.crash.children import killing

RUN, BESIDE = "r", "beside"
GOLDEN = Path(__file__).parents[2] / "golden"
OLD_LOGS = sorted((GOLDEN / "v1").glob("*.db"))
TEXT = "what was read on page {n} " * 12
SECRET = "the-word-of-{n:03}-passed"

Do = Callable[[int], object]
"""Do the thing with that number."""


def prepare() -> None:
    """Load what takes its time before the fork."""
    import_module("sqlite_utils.migrations")
    import_module("tests.crash.children.witness")


def text(n: int) -> str:
    """Return a long text: every other event has one of its own, the others share one."""
    return TEXT.format(n=n if n % 2 else "?")


def size(n: int) -> int:
    """Return how many events the batch with that number has."""
    return 1 + n * 7 % 40


# -- what is done ------------------------------------------------------------------------------------------


@contextmanager
def one(folder: Path, *, durability: Durability = "commit") -> Generator[Do]:
    """Append an event."""
    with eventlog.open(folder / "log.db", durability=durability) as log:
        yield lambda n: log.append("test.noted", {"n": n, "text": text(n)}, run=RUN, event_id=f"note-{n}")


@contextmanager
def many(folder: Path) -> Generator[Do]:
    """Append some events at once."""
    with eventlog.open(folder / "log.db") as log:
        known = {event.payload["n"] for event in log.events() if event.run == RUN}
        yield (
            lambda n: (
                None
                if n in known
                else log.append_many(
                    [("test.noted", {"n": n, "of": size(n), "text": text(i)}) for i in range(size(n))], run=RUN
                )
            )
        )


@contextmanager
def flushed(folder: Path, *, batch_ms: float = 20) -> Generator[Do]:
    """Emit some events that are written later, and have them written."""
    from tests.crash.children.witness import emit

    with eventlog.open(folder / "log.db", durability="batch", batch_ms=batch_ms) as log, log.run(RUN):
        known = {event.payload["n"] for event in log.events() if event.type == "test_counted"}

        def do(n: int) -> None:
            for event in range(1000 * n, 1000 * n + size(n)):
                if event not in known:
                    emit(event)
            assert log.flush()

        yield do


@contextmanager
def forks(folder: Path) -> Generator[Do]:
    """Fork a finished crew: as it was, with another output of its first task, with other inputs."""
    edits: list[dict[str, Any]] = [{}, {"outputs": {"#1": "Edited."}}, {"inputs": {"topic": "edited"}}]
    with eventlog.open(folder / "log.db") as log:

        def do(n: int) -> None:
            with suppress(BranchExistsError):
                log.fork("golden", branch=f"b{n}", to=40 + n % 20, **edits[n % 3])

        yield do


@contextmanager
def snapshots(folder: Path) -> Generator[Do]:
    """Append an event to a crew's run and store the state at it."""
    with eventlog.open(folder / "log.db") as log:

        def do(n: int) -> None:
            seq = log.append("test.noted", {"n": n}, run="golden", event_id=f"note-{n}")
            log.snapshot("golden", to=seq)

        yield do


@contextmanager
def imports(folder: Path) -> Generator[Do]:
    """Import a run under another name."""
    with eventlog.open(folder / "log.db") as log:
        yield lambda n: import_file(log, folder.parent / "export.jsonl", rename=f"r{n}")


@contextmanager
def backups(folder: Path) -> Generator[Do]:
    """Append an event and make a copy of the log."""
    with eventlog.open(folder / "log.db") as log:

        def do(n: int) -> None:
            log.append("test.noted", {"n": n}, run=RUN, event_id=f"note-{n}")
            with suppress(LogUnwritableError):  # it is there already
                log.backup(folder / f"b{n}.db")

        yield do


@contextmanager
def forgets(folder: Path) -> Generator[Do]:
    """Forget a word; there are so many, then there is nothing left to forget."""
    with eventlog.open(folder / "log.db") as log:
        yield lambda n: log.forget(value=SECRET.format(n=n))


def migrations(folder: Path) -> AbstractContextManager[Do]:
    """Open a copy of a log of format 1 for writing."""

    def do(n: int) -> None:
        path = folder / f"log{n}.db"
        if not path.exists():
            shutil.copyfile(OLD_LOGS[n % len(OLD_LOGS)], folder / "copy")
            (folder / "copy").rename(path)
        eventlog.open(path).close()

    return nullcontext(do)


CASES: dict[str, Callable[..., AbstractContextManager[Do]]] = {
    "commit": partial(one, durability="commit"),
    "fsync": partial(one, durability="fsync"),
    "many": many,
    "flushed": flushed,
    "forks": forks,
    "snapshots": snapshots,
    "imports": imports,
    "backups": backups,
    "forgets": forgets,
    "migrations": migrations,
}


# -- until when --------------------------------------------------------------------------------------------


def kill(
    folder: Path,
    *,
    case: str,
    kills_s: list[float],
    point: tuple[str, str, int] | None = None,
    bug: str | None = None,
    beside: bool = False,
) -> None:
    """Do a case in ``folder``/0, /1… in a process each, killed so long after it began, or after its log was open.

    ``point``: module, function, and the how manieth time that it is entered; where to die instead.
    ``beside``: another process appends to the same log and is not killed.
    """
    for number, kill_s in enumerate(kills_s):
        work = partial(_endlessly, folder / str(number), case, point, bug, bool(number % 2))
        neighbour = killing.fork(partial(_append_beside, folder / str(number))) if beside else None
        code, _ = killing.run(work, None if point is not None else kill_s)
        (folder / str(number) / "code").write_text(str(code))
        (folder / str(number) / "stop").touch()
        if neighbour is not None:
            os.waitpid(neighbour, 0)
    killing.leave()


def _endlessly(
    folder: Path, case: str, point: tuple[str, str, int] | None, bug: str | None, is_open: bool, begin: killing.Begin
) -> None:
    """Do a case again and again; it begins when its log is open, or before that."""
    if bug is not None:
        BUGS[bug]()
    if point is not None:
        module, name, nth = point
        killing.die_instead(import_module(module), name, nth)
    witness = os.open(folder / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if not is_open:
        begin()
    with CASES[case](folder) as do:
        if is_open:
            begin()
        for n in count():
            do(n)
            os.write(witness, f"{n}\n".encode())


def _append_beside(folder: Path) -> None:
    """Append to another run until told to stop."""
    witness = os.open(folder / "beside", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with eventlog.open(folder / "log.db") as log:
        for n in count():
            if (folder / "stop").exists():
                return
            log.append("test.noted", {"n": n, "text": text(n)}, run=BESIDE)
            os.write(witness, f"{n}\n".encode())
            time.sleep(0.001)


def again(folder: Path, *, case: str, numbers: list[int]) -> None:
    """Do in ``folder``/0, /1… what was under way when it was killed."""
    for number, n in enumerate(numbers):
        with CASES[case](folder / str(number)) as do:
            do(n)
    killing.leave()


def undisturbed(folder: Path, *, case: str, last: int) -> None:
    """Do everything up to a number."""
    with CASES[case](folder) as do:
        for n in range(last + 1):
            do(n)
    killing.leave()


# -- what to do wrong --------------------------------------------------------------------------------------


@contextmanager
def _no_transaction(_db: Any) -> Iterator[None]:
    """Commit each statement by itself."""
    yield


def _put(owner: Any, **wrong: Any) -> None:
    """Put wrong functions in the place of right ones."""
    for name, function in wrong.items():
        setattr(owner, name, function)


def _split_migration() -> None:
    _put(storage, transaction=_no_transaction)
    _put(Database, atomic=_no_transaction)


def _acknowledge_first() -> None:
    submit = Pipeline.submit
    pile: list[Any] = []

    def wrong(self: Pipeline, events: Any, _expected_seq: Any = None) -> list[int]:
        pile.extend(events)
        if len(pile) == 50:
            submit(self, pile)
            pile.clear()
        return [0] * len(events)

    _put(Pipeline, submit=wrong)


def _name_the_copy_first() -> None:
    connect = SimpleNamespace(connect=lambda part: part.touch() or sqlite3.connect(part))
    _put(backing_up, new_file=nullcontext, sqlite3=connect)


BUGS: dict[str, Callable[[], None]] = {
    "acknowledged before it is stored": _acknowledge_first,
    "batches are split": lambda: _put(appending, transaction=_no_transaction),
    "flush waits for nothing": lambda: _put(logs.Log, flush=lambda *_: True),
    "forks are split": lambda: _put(appending, transaction=_no_transaction),
    "snapshots are not stored": lambda: _put(appending.Appender, write_snapshot=lambda *_: None),
    "imports are split": lambda: _put(appending, transaction=_no_transaction),
    "a copy has its name before it is complete": _name_the_copy_first,
    "what was forgotten stays in free pages": lambda: _put(forgetting, scrub=lambda *_: []),
    "a migration is split": _split_migration,
}
