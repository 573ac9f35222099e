"""Bits that flip, sectors that are lost, writes that are torn: a log answers as before, or says that it is damaged.

Damage of every kind on pages of every class, of the file and of its WAL. What is asked: the state at many cursors,
from stored states and from events, and every event with its payload. A wrong answer is a failure, an error of ours
is none, and neither is an end that comes early: a prefix is what SQLite promises of a WAL that was cut. The empty
prefix is one, too: the rows of runs and branches have no digest, and without them a log looks as if it had none.

Seen to fail: without the digests of events, of contents and of stored states, and without the proofs of bases.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog
from eventlog import EventLogError
from eventlog.raw.pages import RawFile
from tests.damage import grown_log, page_bytes
from tests.torture import dice, rounds

pytestmark = [pytest.mark.timeout(600), pytest.mark.torture]

DAMAGES = rounds(100, 2_500)
CURSORS = 4
"""Of each branch, in each round."""
SECTOR = 512
FRAME_HEAD, WAL_HEAD = 24, 32

Answers = dict[tuple[Any, ...], bytes]
"""Run, branch and cursor → the state; run, branch, "events" and place → the event."""


# -- a log, and what it answers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed log with something of everything, but for tombstones: those do not prove what came before them."""
    return grown_log(tmp_path_factory.mktemp("whole") / "log.db", forgetful=False)


@pytest.fixture(scope="module")
def walled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as a kill leaves it: the newest events stand in the WAL alone."""
    folder = tmp_path_factory.mktemp("walled")
    with eventlog.open(grown_log(folder / "live.db", forgetful=False)) as log:
        for number in range(40):
            log.append("late.step", {"n": number, "text": f"{number % 3} " + "late " * 100}, run="new")
        log.snapshot("new")
        log.flush()
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"live.db{suffix}", folder / f"log.db{suffix}")
    return folder / "log.db"


def places(path: Path) -> list[tuple[str, str, list[int]]]:
    """Return run, branch and seqs of every branch of a log."""
    with eventlog.open(path, readonly=True) as log:
        found = []
        for run in ("old", "new"):
            for info in log.branches(run):
                base = log.reader.base(log.reader.branch_id(run, info.branch))
                seqs = [event.seq for event in log.events(run, info.branch)]
                found.append((run, info.branch, seqs if base is None else [base.seq, *seqs]))
    return found


def answers(path: Path, asked: list[tuple[str, str, list[int]]]) -> Answers:
    """Return what a log says; what it refuses to say is missing."""
    found: Answers = {}
    try:
        log = eventlog.open(path, readonly=True)
    except EventLogError:
        return found
    with log:
        for run, branch, seqs in asked:
            for seq in seqs:
                try:
                    state = log.state(run, branch=branch, to=seq)
                except EventLogError:
                    continue
                if state.cursor:  # it stands before seq if that is lost; its status tells whether more follows
                    found[run, branch, state.cursor] = msgspec.json.encode(msgspec.structs.replace(state, status=""))
            for number, event in enumerate(_events(log, run, branch)):
                found[run, branch, "events", number] = msgspec.msgpack.encode(event)
    return found


def _events(log: eventlog.Log, run: str, branch: str) -> Iterator[Any]:
    """Yield events up to the first that is refused."""
    try:
        yield from log.events(run, branch)
    except EventLogError:
        return


# -- damage -----------------------------------------------------------------------------------------------


def flip_bit(data: bytearray, start: int, size: int, dice: random.Random) -> None:
    """Change one bit of a page."""
    data[start + dice.randrange(size)] ^= 1 << dice.randrange(8)


def flip_used_bit(data: bytearray, start: int, size: int, dice: random.Random) -> None:
    """Change one bit of what is not zero."""
    used = [at for at in range(start, start + size) if data[at]] or [start]
    data[dice.choice(used)] ^= 1 << dice.randrange(8)


def lose_sector(data: bytearray, start: int, size: int, dice: random.Random) -> None:
    """A sector reads as zeros."""
    at = start + dice.randrange(max(1, size // SECTOR)) * SECTOR
    data[at : at + SECTOR] = bytes(len(data[at : at + SECTOR]))


def tear(data: bytearray, start: int, size: int, dice: random.Random) -> None:
    """Only the beginning of a page was written over what another one held."""
    other = dice.randrange(len(data) // size) * size
    keep = dice.randrange(size // SECTOR) * SECTOR
    data[start + keep : start + size] = data[other + keep : other + size]


def misplace(data: bytearray, start: int, size: int, dice: random.Random) -> None:
    """A write went to the wrong place."""
    other = dice.randrange(len(data) // size) * size
    data[start : start + size] = data[other : other + size]


def cut(data: bytearray, start: int, size: int, dice: random.Random) -> None:
    """The file ends in the middle of a page."""
    del data[start + dice.randrange(size) :]


Damage = Callable[[bytearray, int, int, random.Random], None]
DAMAGE: tuple[Damage, ...] = (flip_bit, flip_used_bit, flip_used_bit, lose_sector, tear, misplace, cut)


def classes(path: Path) -> dict[str, list[int]]:
    """Return class → pages: the header, and of each table and index the inner pages, leaves and the rest."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        roots = dict(db.execute("SELECT rootpage, name FROM sqlite_master WHERE rootpage > 0"))
    raw = RawFile(path)
    owners = raw.owners({**roots, 1: "schema"})
    kinds = {0x0D: "leaf", 0x0A: "leaf", 0x05: "inner", 0x02: "inner"}
    found: dict[str, list[int]] = {}
    for page in range(1, raw.pages + 1):
        kind = kinds.get(raw.page(page)[100 if page == 1 else 0], "other")
        found.setdefault(f"{owners.get(page, 'map')} {kind}", []).append(page)
    raw.close()
    return found


def wrong(found: Answers, original: Answers) -> dict[tuple[Any, ...], bytes]:
    """Return the answers that are not what they were."""
    return {place: answer for place, answer in found.items() if original.get(place) != answer}


def some(asked: list[tuple[str, str, list[int]]], dice: random.Random) -> list[tuple[str, str, list[int]]]:
    """Return a few of the cursors."""
    return [(run, branch, dice.sample(seqs, min(CURSORS, len(seqs)))) for run, branch, seqs in asked]


def go_on(path: Path) -> None:
    """Append as a program would that knows nothing of the damage; it is told, or it works."""
    try:
        with eventlog.open(path) as log:
            log.append("after.damage", {"text": "it goes on"}, run="damaged")
    except EventLogError:  # it was told
        pass


# -- the tests --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(5))
def test_a_damaged_file_gives_no_wrong_answer(part: int, whole: Path, tmp_path: Path) -> None:
    """Before and after somebody appends to it."""
    rolled = dice(f"file {part}")
    asked, intact, known = places(whole), whole.read_bytes(), classes(whole)
    original, size, path = answers(whole, asked), page_bytes(whole), tmp_path / "log.db"
    found: dict[str, Any] = {}
    for number in range(DAMAGES // 5):
        kind, damage = rolled.choice(sorted(known)), rolled.choice(DAMAGE)
        page, data = rolled.choice(known[kind]), bytearray(intact)
        damage(data, (page - 1) * size, size, rolled)
        for name in tmp_path.iterdir():
            name.unlink()
        path.write_bytes(data)
        what = f"{number}: {damage.__name__} on page {page}, {kind}"
        if bad := wrong(answers(path, some(asked, rolled)), original):
            found[what] = bad
        go_on(path)
        if bad := wrong(answers(path, some(asked, rolled)), original):
            found[f"{what}, after an append"] = bad

    assert len(known) > 20
    assert found == {}


def test_a_damaged_wal_gives_a_prefix_or_an_error(walled: Path, tmp_path: Path) -> None:
    """Frames are checked by SQLite: from the first that is wrong on, nothing counts."""
    rolled = dice("wal")
    copied = tmp_path / "log.db"
    asked, intact = places(_copy(walled, copied)), Path(f"{walled}-wal").read_bytes()
    original, size = answers(_copy(walled, copied), asked), page_bytes(walled) + FRAME_HEAD
    found: dict[str, Any] = {}
    shorter = 0
    for number in range(DAMAGES // 5):
        damage, data = rolled.choice(DAMAGE), bytearray(intact)
        frame = rolled.randrange((len(intact) - WAL_HEAD) // size)
        damage(data, WAL_HEAD + frame * size if rolled.random() < 0.95 else 0, size, rolled)
        _copy(walled, copied)
        Path(f"{copied}-wal").write_bytes(data)
        got = answers(copied, some(asked, rolled))
        shorter += len(got) < len(original)
        if bad := wrong(got, original):
            found[f"{number}: {damage.__name__} on frame {frame}"] = bad
        go_on(copied)
        if bad := wrong(answers(copied, some(asked, rolled)), original):
            found[f"{number}: {damage.__name__} on frame {frame}, after an append"] = bad

    assert found == {}
    assert shorter > DAMAGES // 10


def _copy(source: Path, target: Path) -> Path:
    """Copy a log with its WAL over what is there."""
    for suffix in ("-shm", "-journal"):
        Path(f"{target}{suffix}").unlink(missing_ok=True)
    for suffix in ("", "-wal"):
        shutil.copy(f"{source}{suffix}", f"{target}{suffix}")
    return target
