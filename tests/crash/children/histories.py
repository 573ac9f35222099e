"""Writers, readers and a compactor at one log, all at the same time; each notes what it did and what came back."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

import eventlog
from eventlog.compaction import archive
from eventlog.errors import CompactedError, NotFoundError, RunBusyError
from eventlog.lease import Lease, Leases
from eventlog.pipeline import Durability
from tests.crash.children import killing
from tests.crash.history import Append, Done, Grant, Read

RUN = "r"
SHARED = "main"
LEASED = ("left", "middle", "right")
MODES: tuple[Durability, ...] = ("commit", "batch", "fsync")
TEXT = "what all of them saw " * 20
BEGINNING = 5
"""Events of the shared branch before the others begin; each inherits some of them."""


class Notes:
    """What a process did."""

    def __init__(self, folder: Path, name: str) -> None:
        """Nothing yet; they go to a file when the process is done."""
        self._path, self._done = folder / f"{name}.history", list[Done]()

    def take(self, kind: Callable[..., Done], do: Callable[[], Any], name: Callable[[Any], dict[str, Any]]) -> Any:
        """Do something and note it, with what ``name`` makes of its result."""
        began = time.monotonic_ns()
        result = do()
        self._done.append(kind(began=began, ended=time.monotonic_ns(), **name(result)))
        return result

    def write(self) -> None:
        """Leave them for the test."""
        self._path.write_bytes(msgspec.json.encode(self._done))


def play(folder: Path, *, seed: str, writers: int, readers: int, steps: int, bug: str | None = None) -> None:
    """Have them all work until the writers have done their steps."""
    if bug is not None:
        BUGS[bug]()
    killing.fork_and_wait(lambda: begin(folder))
    crew = [killing.fork(lambda n=n: Writer(folder, seed, n, writers).work(steps)) for n in range(writers)]  # type: ignore[misc]
    others = [killing.fork(lambda n=n: read(folder, seed, n)) for n in range(readers)]  # type: ignore[misc]
    others.append(killing.fork(lambda: compact(folder, seed)))
    codes = [os.waitpid(pid, 0)[1] for pid in crew]
    (folder / "stop").touch()
    codes += [os.waitpid(pid, 0)[1] for pid in others]
    os._exit(any(codes))


def begin(folder: Path) -> None:
    """Make the branches."""
    notes = Notes(folder, "beginning")
    with eventlog.open(folder / "log.db") as log:
        for n in range(BEGINNING):
            _append(log, notes, name_of(0, n), SHARED, 0)
        for n, branch in enumerate(LEASED):
            log.fork(RUN, to=n + 2, branch=branch)
    notes.write()


def name_of(writer: int, number: int) -> str:
    """Return the id of an event: it looks like CrewAI's, those of a user's own making are never compacted."""
    return f"{writer:08x}-0000-4000-8000-{number:012x}"


def _append(log: eventlog.Log, notes: Notes, name: str, branch: str, epoch: int) -> None:
    """Append an event and note it."""
    notes.take(
        Append,
        lambda: log.append("test.noted", {"text": TEXT}, run=RUN, branch=branch, event_id=name),
        lambda seq: {"id": name, "branch": branch, "epoch": epoch, "seq": seq},
    )


class Writer:
    """Appends to what is everybody's and to what it has a lease of, and takes that from others."""

    def __init__(self, folder: Path, seed: str, number: int, writers: int) -> None:
        """What it does depends on the seed, what comes of it on the others."""
        self._folder, self._number, self._writers = folder, number, writers
        self._dice, self._notes = random.Random(f"{seed}/{number}"), Notes(folder, f"writer-{number}")
        self._held: dict[str, Lease] = {}

    def work(self, steps: int) -> None:
        """Do so many steps; before them each takes every branch, so all but one have lost it."""
        with eventlog.open(self._folder / "log.db", durability=MODES[self._number % len(MODES)]) as log:
            for branch in LEASED:
                self._take(log, branch, takeover=True)
            self._wait_for_all()
            for step, branch in enumerate(LEASED):
                _append(log, self._notes, name_of(self._number + 1, step), branch, self._held[branch].epoch)
            for step in range(steps):
                self._step(log, name_of(self._number + 1, step + len(LEASED)))
                time.sleep(self._dice.random() / 500)
        self._notes.write()

    def _wait_for_all(self) -> None:
        """Return when every writer is here."""
        (self._folder / f"writer-{self._number}.ready").touch()
        deadline = time.monotonic() + 60
        while len(list(self._folder.glob("*.ready"))) < self._writers:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def _step(self, log: eventlog.Log, name: str) -> None:
        """Do one of the things a writer does; who lost a branch does not look, and goes on."""
        chance = self._dice.random()
        branch = self._dice.choice(sorted(self._held) or LEASED)
        if chance < 0.3 or (chance < 0.85 and not self._held):
            _append(log, self._notes, name, SHARED, 0)
        elif chance < 0.85:
            _append(log, self._notes, name, branch, self._held[branch].epoch)
        elif chance < 0.97:
            self._take(log, self._dice.choice(LEASED), takeover=self._dice.random() < 0.7)
        elif branch in self._held:
            log.writer.give_back(self._held.pop(branch))

    def _take(self, log: eventlog.Log, branch: str, *, takeover: bool) -> None:
        """Take a branch, from its owner if need be; what one has already is not taken again."""
        if branch in self._held and not self._held[branch].is_lost:
            return
        try:
            self._held[branch] = self._notes.take(
                Grant,
                lambda: log.writer.take_lease(RUN, branch, takeover=takeover),
                lambda lease: {"branch": branch, "epoch": lease.epoch},
            )
        except RunBusyError:
            assert not takeover


def read(folder: Path, seed: str, number: int) -> None:
    """Read branches until told to stop, and once more then."""
    dice, notes, goes_on = random.Random(f"{seed}/reader {number}"), Notes(folder, f"reader-{number}"), True
    with eventlog.open(folder / "log.db", readonly=True) as log:
        while goes_on:
            goes_on = not (folder / "stop").exists()
            names = [info.branch for info in log.branches(RUN)]
            for branch in [dice.choice(names)] if goes_on else names:
                _read(log, notes, number, branch)
            time.sleep(dice.random() / 100)
    notes.write()


def _read(log: eventlog.Log, notes: Notes, number: int, branch: str) -> None:
    """Read a branch; when its base moves meanwhile, that is no answer."""

    def look() -> dict[str, Any]:
        events = [(event.seq, event.event_id) for event in log.events(RUN, branch)]
        try:
            state = log.state(RUN, branch=branch, to=events[-1][0] if events else None)
        except CompactedError:
            return {"events": events, "at": events[-1][0], "count": None}
        return {"events": events, "at": state.cursor, "count": state.event_count}

    try:
        notes.take(partial(Read, reader=number, branch=branch), look, lambda seen: seen)
    except CompactedError:
        return


def compact(folder: Path, seed: str) -> None:
    """Mark and compact branches until told to stop, and once more then."""
    dice, goes_on = random.Random(f"{seed}/compactor"), True
    with eventlog.open(folder / "log.db") as log:
        while goes_on:
            goes_on = not (folder / "stop").exists()
            for info in log.branches(RUN):
                try:
                    log.snapshot(RUN, branch=info.branch)
                except NotFoundError:  # somebody forked, and has not appended yet
                    continue
            log.compact(1 + dice.randrange(3), archive=folder / "old.db")
            time.sleep(dice.random() / 50)


# -- what to do wrong --------------------------------------------------------------------------------------


def _verify_nothing() -> None:
    Leases.verify = lambda *_: None  # type: ignore[method-assign]


def _archive_nothing() -> None:
    archive.Archive.take = lambda *_: None  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    "a lease is looked at when it is taken only": _verify_nothing,
    "what is compacted is not archived": _archive_nothing,
}
