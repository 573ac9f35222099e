"""A crew that works on while its log's disk fails, and writers whose every single write fails once."""

from __future__ import annotations

import errno
import json
import os
import resource
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crewai import Agent, Crew, Task
from crewai.events.event_bus import crewai_event_bus as bus

import eventlog
from eventlog import EventLogListener, Log, pipeline
from eventlog.errors import AppendError, LogOpenError
from eventlog.testing import ScriptedLLM, final
from tests.crash import shim
from tests.crash.children.witness import watch

RUN = "r"
TASKS = 6
SECRET = {"api_key": "sk-0123456789abcdef"}
BEGINS, ENDS = 2, 5
"""The model calls between whose answers the disk fails."""


# -- faults: each begins when it is entered and ends when it is left --------------------------------


@contextmanager
def calls_fail(log: Log, *, error: str, calls: int = shim.ALL) -> Iterator[None]:
    """The system says no to every call of some kinds."""
    shim.fail(getattr(errno, error), calls)
    yield
    assert shim.heal() > 0


@contextmanager
def no_more_pages(log: Log) -> Iterator[None]:
    """The database has its largest size."""

    def limit(pages: int) -> None:
        log.writer.pipeline.run_exclusively(lambda appender: appender.db.execute(f"PRAGMA max_page_count = {pages}"))

    limit(1)  # SQLite makes that the present size
    yield
    limit(1_000_000)


@contextmanager
def no_longer_files(log: Log) -> Iterator[None]:
    """The process may make no file longer than the log's WAL is (``ulimit -f``)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{log.path}-wal").stat().st_size, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_space(log: Log) -> Iterator[None]:
    """The small disk that the log is on is full."""
    filler = log.path.with_name("filler")
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    yield
    filler.unlink()


FAULTS: dict[str, Callable[..., Any]] = {
    made.__name__: made for made in (calls_fail, no_more_pages, no_longer_files, no_space)
}


# -- cases ------------------------------------------------------------------------------------------


def crew(
    folder: Path, *, fault: str, durability: Any, disk: str = "", queue_bytes: int = pipeline.QUEUE_BYTES_MAX,
    wait_s: float = 0.005, **options: Any,
) -> None:  # fmt: skip
    """Run a crew without a log, then with one whose disk fails in the middle; report both results and what was said."""
    waits = timed_emits()
    expected = str(kick_off(lambda call: None))
    pipeline.QUEUE_BYTES_MAX, pipeline.DEGRADED_WAIT_S = queue_bytes, wait_s
    listener = EventLogListener(Path(disk or folder) / "log.db", run=RUN, durability=durability, batch_ms=5)
    watch(folder)
    failing = FAULTS[fault](listener.log, **options)
    during: list[Any] = []

    def on_call(call: int) -> None:
        if call == BEGINS:
            listener.log.flush()
            failing.__enter__()
        elif BEGINS < call <= ENDS:
            during.append([listener.log.status().degraded, listener.log.status().queued])
        if call == ENDS:
            failing.__exit__(None, None, None)
            wait_until(lambda: listener.log.status().degraded is None)

    waits.clear()
    result = str(kick_off(on_call))
    longest = max(waits)
    listener.log.flush()
    say(folder, listener.log, expected=expected, result=result, during=during, longest=longest)
    os._exit(0)  # as if killed: everything has to be there


def requests(folder: Path, *, error: str) -> None:
    """Run a crew whose inputs hold a secret in a run of its own, thrice; the disk fails while the last two do so."""
    pipeline.DEGRADED_WAIT_S = 0.005
    expected = str(kick_off(lambda call: None, **SECRET))
    log = eventlog.open(folder / "log.db")
    watch(folder)
    results, waits = [], []
    for name in ("before", "first", "second"):
        if name == "first":
            shim.fail(getattr(errno, error), shim.ALL)
        began = time.monotonic()
        with log.run(name):
            entered = time.monotonic()
            results.append(str(kick_off(lambda call: None, **SECRET)))
            left = time.monotonic()
        waits += [entered - began, time.monotonic() - left]
    during = [log.status().degraded, log.status().queued]
    assert shim.heal() > 0
    wait_until(lambda: log.status().degraded is None)
    say(folder, log, expected=expected, results=results, during=during, longest=max(waits))
    log.close()


def each_write_fails_once(folder: Path, *, error: str, calls: int, durability: Any, rounds: int) -> None:
    """Let the first call of an append fail, of the next the second, and so on; report which appends were refused.

    In every other round the trouble is over after one call, and the append must not fail.
    """
    pipeline.RETRY_S = 0.01
    log = eventlog.open(folder / "log.db", durability=durability)
    log.append("test.first", {"n": 0})
    accepted, refused, skip = [0], [], 0
    for n in range(1, rounds):
        pipeline.RETRY_BUSY_MS = 5000 if n % 2 else 20  # how long an append waits for the next attempt
        shim.fail(getattr(errno, error), calls, skip=skip, left=1 if n % 2 else -1)
        try:
            log.append_many([("test.pair", {"n": 2 * n, "text": f"{n} " * 3000}), ("test.pair", {"n": 2 * n + 1})])
            accepted += [2 * n, 2 * n + 1]
        except AppendError:
            refused += [2 * n, 2 * n + 1]
        skip = skip + 1 - n % 2 if shim.heal() else 0
        pipeline.RETRY_BUSY_MS = 5000
        log.append("test.after", {"n": -n})  # works at once
    say(folder, log, accepted=accepted, refused=refused)
    os._exit(0)  # as if killed: what is in the log now is what recovery finds


def opening_fails(folder: Path, *, error: str, exists: bool, first: int, stride: int) -> None:
    """Let one call fail while a log is opened and appended to, at the next attempt a later one, until none is left."""
    said: list[Any] = []
    for skip in range(first, 1000, stride):
        path = folder / f"{skip}" / "log.db"
        path.parent.mkdir()
        if exists:
            with eventlog.open(path) as log:
                log.append("test.first", {"n": 0})
        before = sorted(path.parent.iterdir())
        shim.fail(getattr(errno, error), shim.ALL, skip=skip, left=1)
        outcome, appended = attempt(path)
        hits = shim.heal()
        said.append([outcome, appended, before == sorted(path.parent.iterdir()), contents_of(path)])
        if not hits:
            break
    (folder / "report.json").write_text(json.dumps(said))


def attempt(path: Path) -> tuple[str, bool]:
    """Return how opening ends, and whether an append does."""
    appended = False
    try:
        log = eventlog.open(path)
    except LogOpenError as error:
        return f"{type(error).__name__}: {error}", False
    with suppress(AppendError):
        log.append("test.second", {"n": 1})
        appended = True
    log.close()
    return "opened", appended


def contents_of(path: Path) -> list[int]:
    """Return the numbers in a log, which is opened as if nothing had been."""
    with eventlog.open(path) as log:
        return [event.payload["n"] for event in log.events()]


# -- helpers ----------------------------------------------------------------------------------------


def kick_off(on_call: Callable[[int], None], **inputs: Any) -> Any:
    """Run six tasks, each of whose answers follows from its prompt; return all outputs."""
    calls = 0

    def answer(messages: Any, tools: Any) -> Any:
        nonlocal calls
        calls += 1
        on_call(calls)
        return final(f"answer {zlib.crc32(str(messages).encode())}")

    agent = Agent(role="Worker", goal="g", backstory="b", llm=ScriptedLLM(script=answer))
    tasks = [Task(name=f"t{n}", description=f"Do {n}", expected_output="x", agent=agent) for n in range(TASKS)]
    Crew(name="unmoved", agents=[agent], tasks=tasks).kickoff(inputs=inputs)
    return [task.output.raw for task in tasks if task.output is not None]


def timed_emits() -> list[float]:
    """Return a list to which every ``emit`` from now on adds how long it took."""
    waits: list[float] = []
    original = bus.emit

    def emit(source: Any, event: Any) -> Any:
        before = time.monotonic()
        try:
            return original(source, event)
        finally:
            waits.append(time.monotonic() - before)

    bus.emit = emit  # type: ignore[method-assign]
    return waits


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Return when it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def say(folder: Path, log: Log, **facts: Any) -> None:
    """Leave what happened for the test."""
    status = log.status()
    after = {name: getattr(status, name) for name in ("degraded", "failed", "queued", "last_error")}
    (folder / "report.json").write_text(json.dumps({**facts, **after}))
