"""Several processes and threads at one file, and a stranger that holds its lock."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import eventlog
from eventlog import EventLogListener, Log, errors, pipeline, transactions
from tests.crash.children.witness import emit, watch


def crowd(folder: Path, *, processes: int, threads: int, events: int, durabilities: list[str]) -> None:
    """Have all of them make the file, emit and append at the same time; each thread has its own numbers."""
    pids = []
    start, go = os.pipe()
    for number in range(processes):
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.read(start, 1)  # ends when the parent closes its side
            work(folder, number * 1_000_000, threads, events, durabilities[number % len(durabilities)])
            return
        pids.append(pid)
    os.close(go)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * processes


def work(folder: Path, base: int, threads: int, events: int, durability: str) -> None:
    """Be one process of the crowd."""
    listener = EventLogListener(folder / "log.db", durability=durability)
    failed: list[BaseException] = []

    def emit_and_append(first: int) -> None:
        try:
            for n in range(first, first + events, 3):
                emit(n)
                listener.log.append("test.appended", {"n": n + 1}, run=f"run{first}")
                listener.log.append_many([("test.appended", {"n": n + 2})])
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=emit_and_append, args=(base + i * 1000,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    listener.log.flush()
    status = listener.log.status()
    assert (failed, status.failed, status.degraded, status.last_error) == ([], 0, None, None)
    listener.close()


@contextmanager
def stranger(path: Path) -> Iterator[tuple[int, int]]:
    """Fork a process that takes the file's lock when told to, and gives it back when told to."""
    orders, order = os.pipe()
    answers, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(orders, 1)
        db = sqlite3.connect(path, isolation_level=None, timeout=10)
        db.execute("BEGIN IMMEDIATE")
        os.write(answer, b".")
        os.read(orders, 1)
        db.execute("ROLLBACK")
        os._exit(0)
    yield order, answers
    assert os.waitpid(pid, 0)[1] == 0


def locked_out(folder: Path, *, busy_s: float, hold_s: float) -> None:
    """Emit every 20 ms while a stranger holds the lock, and until it works again; report how that went."""
    transactions.BUSY_S = busy_s
    with stranger(folder / "log.db") as (order, answers):
        listener = EventLogListener(folder / "log.db", run="r")
        watch(folder)
        emit(0)
        os.write(order, b".")
        os.read(answers, 1)
        waits, n = emit_for(hold_s, listener.log)
        during = listener.log.status()
        refused = append_once(listener.log)
        os.write(order, b".")
        released = time.monotonic()
        while listener.log.status().degraded and time.monotonic() < released + 5:
            time.sleep(0.01)
        recovered_s = time.monotonic() - released
        emit(n)
        after = listener.log.status()
    report = {
        "waits": waits,
        "emitted": n + 1,
        "refused": refused,
        "during": during.degraded,
        "queued": during.queued,
        "recovered_s": recovered_s,
        "after": after.degraded,
        "failed": after.failed,
        "queued_after": after.queued,
    }
    (folder / "report.json").write_text(json.dumps(report))


def requests(folder: Path, *, busy_s: float) -> None:
    """Enter a run, emit and leave it, again and again while a stranger holds the lock; report how long it all took."""
    transactions.BUSY_S, pipeline.DEGRADED_WAIT_S = busy_s, 0.005
    waits: list[float] = []
    with stranger(folder / "log.db") as (order, answers):
        log = eventlog.open(folder / "log.db")
        with log.run("before"):
            emit(0)
        os.write(order, b".")
        os.read(answers, 1)
        watch(folder)
        for n in range(1, 9):
            began = time.monotonic()
            with log.run(f"request{n}"):
                emit(n)
            waits.append(time.monotonic() - began)
        during = log.status()
        os.write(order, b".")
        while log.status().degraded:
            time.sleep(0.01)
        assert log.flush()
    report = {"waits": waits, "during": during.degraded, "queued": during.queued, "failed": log.status().failed}
    (folder / "report.json").write_text(json.dumps(report))
    log.close()


def emit_for(seconds: float, log: Log) -> tuple[list[float], int]:
    """Emit until the time is over; returns how long each emit took, and the next number."""
    waits: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        before = time.monotonic()
        emit(len(waits) + 1)
        waits.append(time.monotonic() - before)
        time.sleep(0.02)
    return waits, len(waits) + 1


def append_once(log: Log) -> str:
    """Return what an append, which has to wait for its commit, says while that is impossible."""
    try:
        log.append("test.impossible")
    except errors.AppendError as error:
        return type(error).__name__
    return "appended"


def overflow(folder: Path) -> None:
    """Emit more than the queue holds while a stranger holds the lock; report what was lost."""
    transactions.BUSY_S, pipeline.QUEUE_BYTES_MAX, pipeline.DEGRADED_WAIT_S = 0.1, 20_000, 0.001
    with stranger(folder / "log.db") as (order, answers):
        listener = EventLogListener(folder / "log.db", run="r")
        emit(0)
        os.write(order, b".")
        os.read(answers, 1)
        for n in range(1, 201):
            emit(n)
        during = listener.log.status()
        os.write(order, b".")
        deadline = time.monotonic() + 5
        while listener.log.status().degraded and time.monotonic() < deadline:
            time.sleep(0.01)
        emit(201)
        after = listener.log.status()
    report = {"failed": during.failed, "queued": during.queued, "after": after.degraded, "failed_after": after.failed}
    (folder / "report.json").write_text(json.dumps(report))
