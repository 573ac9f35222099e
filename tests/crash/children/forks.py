"""Processes that fork while they record."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import eventlog
from eventlog import EventLogListener
from tests.crash.children.witness import emit, watch


def emit_on_both_sides(folder: Path, *, durability: str, children: int = 3, events: int = 60) -> None:
    """Emit and append in the parent and in its children, all at the same time."""
    listener = EventLogListener(folder / "log.db", durability=durability)
    watch(folder)
    work(listener, 1_000_000, 5)
    assert list(listener.log.events())  # a connection for reading is open, too
    pids = []
    for child in range(children):
        pid = os.fork()
        if pid == 0:
            work(listener, (child + 1) * 1000, events)
            assert len(list(listener.log.events())) >= events
            return
        pids.append(pid)
    work(listener, 0, events)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * children


def work(listener: EventLogListener, base: int, events: int) -> None:
    """Emit one half, append the other."""
    for n in range(base, base + events, 2):
        emit(n)
        listener.log.append("test.appended", {"n": n + 1})


def outlive_the_parent(folder: Path) -> None:
    """The parent closes its log while a child goes on; somebody else opens and closes the file in between."""
    log = eventlog.open(folder / "log.db")
    log.append("test.parent", {"n": 0})
    list(log.events())
    go_on, parent_closed = os.pipe()
    pid = os.fork()
    if pid == 0:
        log.append("test.child", {"n": 1})
        os.read(go_on, 1)
        for n in range(2, 10):
            log.append("test.child", {"n": n})
        os._exit(0)  # without closing: an orderly end may save what is in a WAL that nobody else can see
    while len(list(log.events())) < 2:
        time.sleep(0.005)
    log.close()
    if os.fork() == 0:
        with eventlog.open(folder / "log.db") as other:
            assert len(list(other.events())) == 2
            other.append("test.other", {"n": 100})
        os._exit(0)
    os.wait()
    os.write(parent_closed, b".")
    os.wait()


def fork_under_load(folder: Path, *, forks: int) -> None:
    """Fork again and again while other threads emit, read and make snapshots."""
    listener = EventLogListener(folder / "log.db", run="load", snapshot_on=["*"])
    watch(folder)
    stop = threading.Event()

    def load(base: int) -> None:
        n = base
        while not stop.is_set():
            emit(n)
            if n % 10 == 0:
                list(listener.log.events(after=n))
            n += 1

    threads = [threading.Thread(target=load, args=(i * 100_000,)) for i in (1, 2)]
    for thread in threads:
        thread.start()
    for i in range(forks):
        pid = os.fork()
        if pid == 0:
            listener.log.append("test.child", {"n": -1 - i})  # an emit may hang in CrewAI: its bus has locks, too
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
