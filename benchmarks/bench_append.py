"""How many events per second: in each mode, beside ``executemany`` of the same bytes; by threads and by processes."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import eventlog
from benchmarks import bare
from benchmarks.report import Goal, Table
from benchmarks.timing import ROUNDS, Measure, Scale, seconds, sized, take_turns
from eventlog.cli.measuring import plain_table, text
from eventlog.pipeline import Durability
from eventlog.storage import Synchronous

GROUP = 500
TYPE = "bench.page"
MODES: dict[Durability, Synchronous] = {"commit": "NORMAL", "batch": "NORMAL", "fsync": "FULL"}
"""The mode of ours, and how durable what it is compared with has to be."""


def run(folder: Path, scale: Scale) -> list[Table]:
    """Measure two sizes in groups, then crowds of threads and of processes that append one by one."""
    return [
        _groups(folder, scale, 600),
        _groups(folder, scale, 3_000),
        _crowds(folder, scale, "threads", _threads),
        _crowds(folder, scale, "processes", _processes),
    ]


def _groups(folder: Path, scale: Scale, chars: int) -> Table:
    """Measure groups of events, encoding, redaction, contents, chain and index included."""
    payloads = pages(sized(scale, smoke=20, quick=500, full=4_000), chars, seed=1)
    bodies = [msgspec.json.encode(payload).decode() for payload in payloads]
    place = folder / f"groups{chars}"
    place.mkdir()
    variants: dict[str, Measure] = {}
    for mode, synchronous in MODES.items():
        if mode != "batch":  # as durable as commit
            variants[f"executemany, {synchronous}"] = _by_hand(place, bodies, synchronous)
        variants[f"eventlog.append_many, {mode}"] = _ours(place, payloads, mode)
    table = Table(f"One event of {chars / 1000:g} KB in groups of {GROUP}", "µs", take_turns(variants, ROUNDS[scale]))
    share = 1 / table.ratio("eventlog.append_many, batch", "executemany, NORMAL")
    table.goals = [Goal(f"events of {chars / 1000:g} KB per second, `batch` beside executemany", share, 0.3, True)]
    beside = table.ratio("eventlog.append_many, fsync", "executemany, FULL")
    table.notes = [f"fsync beside executemany with FULL: {beside:.1f} x"]
    return table


def pages(count: int, chars: int, seed: int) -> list[dict[str, Any]]:
    """Return payloads with a text of their own."""
    source = random.Random(seed)
    return [{"number": number, "text": text(source, chars)} for number in range(count)]


def _by_hand(folder: Path, bodies: list[str], synchronous: Synchronous) -> Measure:
    """Return what inserts bodies by hand."""

    def measure(number: int) -> list[float]:
        db = plain_table(folder / f"bare{synchronous}{number}.db", synchronous)
        took = seconds(lambda: bare.insert_many(db, bodies, GROUP))
        db.close()
        return [took / len(bodies) * 1e6]

    return measure


def _ours(folder: Path, payloads: list[Any], mode: Durability) -> Measure:
    """Return what appends payloads through the library, until they are in the file."""

    def append_all(log: eventlog.Log) -> None:
        for at in range(0, len(payloads), GROUP):
            log.append_many(((TYPE, payload) for payload in payloads[at : at + GROUP]), run="r")
        log.flush()

    def measure(number: int) -> list[float]:
        with eventlog.open(folder / f"{mode}{number}.db", durability=mode) as log:
            return [seconds(lambda: append_all(log)) / len(payloads) * 1e6]

    return measure


def _crowds(folder: Path, scale: Scale, what: str, work: Callable[[Path, int, int], float]) -> Table:
    """Measure how long an event takes when several append to one log at once, each one by one."""
    count = sized(scale, smoke=8, quick=200, full=1_600)
    place = folder / what
    place.mkdir()

    def measure(crowd: int) -> Measure:
        return lambda number: [work(place / f"{crowd}-{number}.db", crowd, count // crowd) / count * 1e6]

    crowds = sized(scale, smoke=(2,), quick=(1, 2), full=(1, 2, 4))
    variants = {f"{crowd} {what}": measure(crowd) for crowd in crowds}
    rounds = sized(scale, smoke=1, quick=1, full=5)
    return Table(f"One event of 0.6 KB, appended one by one by {what} (commit)", "µs", take_turns(variants, rounds))


def _threads(path: Path, crowd: int, count: int) -> float:
    """Return the seconds that threads of one process take together."""
    with eventlog.open(path) as log:
        threads = [threading.Thread(target=_append, args=(log, number, count)) for number in range(crowd)]

        def work() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return seconds(work)


def _processes(path: Path, crowd: int, count: int) -> float:
    """Return the seconds that processes take together, from the moment all have the log open."""
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(crowd + 1)
    workers = [context.Process(target=_child, args=(str(path), number, count, gate)) for number in range(crowd)]
    for worker in workers:
        worker.start()
    gate.wait()

    def work() -> None:
        gate.wait()

    took = seconds(work)
    for worker in workers:
        worker.join()
    return took


def _child(path: str, number: int, count: int, gate: Any) -> None:
    """Append in a process of its own."""
    with eventlog.open(path) as log:
        gate.wait()
        _append(log, number, count)
        gate.wait()


def _append(log: eventlog.Log, number: int, count: int) -> None:
    """Append pages one by one."""
    for page in pages(count, 600, seed=number):
        log.append(TYPE, page, run=f"r{number}")
