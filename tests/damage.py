"""Damage to the file of a log: through plain SQLite, as somebody would do it by hand, and to its bytes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import eventlog
from eventlog.bases import base_proof, read_base, read_retained
from eventlog.chain import Chain
from eventlog.digests import COLUMNS, Interned, Row, facts_of, tombstone_of
from tests import forging
from tests.scenarios import build

HISTORY = 60
"""Events of the run that is compacted."""


def copy_of(source: Path, target: Path) -> Path:
    """Return a copy of a closed log."""
    target.parent.mkdir(exist_ok=True)
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    return Path(shutil.copy(source, target))


@contextmanager
def editing(path: Path) -> Generator[sqlite3.Connection]:
    """Change rows as somebody with plain SQLite would: the triggers are taken away and put back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        yield db
        for _, sql in triggers:
            db.execute(sql)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def edit(path: Path, *statements: str) -> Path:
    """Run statements on the file behind the back of the log."""
    with editing(path) as db:
        for statement in statements:
            db.execute(statement)
    return path


def rechain(path: Path, chain: Chain) -> None:
    """Compute the digests of a log anew, as somebody would who wants to hide a change."""
    with editing(path) as db:
        forging.rechain(db, chain)


def grown_log(path: Path, *, forgetful: bool = True) -> Path:
    """Return a log that has something of everything: forks, contents of every kind, a base, what was forgotten."""
    with eventlog.open(path) as log:
        for number in range(HISTORY):
            log.append("old.step", {"n": number, "text": f"{number % 7} " + "long ago " * 60}, run="old")
        log.snapshot("old", to=HISTORY - 20)
        log.compact(1, keep_tape=True)
        with log.run("new"):
            build("sequential_react").start()
        for number in range(20):
            log.append("new.text", {"long": f"{number} " + "so " * 200 + "and on" * (number % 2)}, run="new")
            log.append("new.text", {"long": f"{number} " + "so " * 200 + "and on" * 9}, run="new")
        log.fork("new", to=None, branch="other")
        for number in range(5):
            log.append("other.step", {"n": number}, run="new", branch="other")
            log.append("new.step", {"n": number}, run="new")
        log.append("no.run", {"n": 1})
        log.snapshot("new")
    if forgetful:
        forget(path)
    return path


def forget(path: Path) -> None:
    """Take the text out of one event and of one content, with the proofs that this was done on purpose."""
    with editing(path) as db:
        seq = db.execute("SELECT max(seq) FROM events WHERE branch = (SELECT id FROM branches WHERE name = 'other')")
        row = (*seq.fetchone(),)[0]
        db.execute('UPDATE events SET payload = \'{"n":"[forgotten]"}\' WHERE seq = ?', (row,))
        event = Row._make(db.execute(f"SELECT {COLUMNS} FROM events WHERE seq = ?", (row,)).fetchone())
        proof = tombstone_of(Chain(), event, facts_of(event, Interned(db)))
        db.execute("INSERT INTO tombstones VALUES ('event', ?, 1, ?)", (row, proof))
        name = db.execute("SELECT hash FROM contents WHERE kind = 'text' ORDER BY id DESC LIMIT 1").fetchone()[0]
        db.execute("UPDATE contents SET body = '[forgotten]' WHERE hash = ?", (name,))
        proof = Chain().proof("tombstone", "content", name, "text", "[forgotten]")
        db.execute("INSERT INTO tombstones VALUES ('content', ?, 1, ?)", (name, proof))


def prove_again(path: Path) -> None:
    """Compute the proofs of all bases anew, without a key."""
    with editing(path) as db:
        for (branch,) in db.execute("SELECT branch FROM bases").fetchall():
            base: Any = read_base(db, branch)
            proof = base_proof(Chain(), base, read_retained(db, base))
            db.execute("UPDATE bases SET proof = ? WHERE branch = ?", (proof, branch))


def prove_states_again(path: Path) -> None:
    """Compute the proofs of all stored states anew, without a key."""
    with editing(path) as db:
        forging.prove_states(db, Chain())


def page_bytes(path: Path) -> int:
    """Return the size of a page of the file."""
    return int.from_bytes(path.read_bytes()[16:18], "big")


def zero_page(path: Path, page: int) -> Path:
    """Overwrite a page (from 1) with zeros."""
    size = page_bytes(path)
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
    return path


def pages_of(path: Path, table: str) -> list[int]:
    """Return the leaf pages of a table or index, in the order of its keys."""
    with closing(sqlite3.connect(path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    data, size = path.read_bytes(), page_bytes(path)
    return list(_leaves(data, size, root))


def _leaves(data: bytes, size: int, page: int) -> Generator[int]:
    """Yield the leaves below a page of a tree."""
    start = (page - 1) * size
    if data[start] in (0x0D, 0x0A):
        yield page
        return
    count = int.from_bytes(data[start + 3 : start + 5], "big")
    for cell in range(count):
        where = start + int.from_bytes(data[start + 12 + 2 * cell : start + 14 + 2 * cell], "big")
        yield from _leaves(data, size, int.from_bytes(data[where : where + 4], "big"))
    yield from _leaves(data, size, int.from_bytes(data[start + 8 : start + 12], "big"))


def seqs_on(path: Path, page: int) -> set[int]:
    """Return the seqs of the events on a leaf: leaves have them in order, and each says how many it has."""
    with closing(sqlite3.connect(path)) as db:
        seqs = [seq for (seq,) in db.execute("SELECT seq FROM events ORDER BY seq")]
    data, size = path.read_bytes(), page_bytes(path)
    for leaf in pages_of(path, "events"):
        count = int.from_bytes(data[(leaf - 1) * size + 3 : (leaf - 1) * size + 5], "big")
        if leaf == page:
            return set(seqs[:count])
        seqs = seqs[count:]
    raise LookupError(page)


def flip(path: Path, at: int, bit: int = 0) -> Path:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
    return path
