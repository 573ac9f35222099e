"""Several writers, readers and a compactor at one log: all they saw fits one order of events.

Seen to fail, and kept below as tests: on histories that are wrong (``WRONG``), and (``SEEDED``) when a lease is looked
at only when it is taken, and when what is compacted is not archived.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventlog.ids import shown_id
from tests.crash.conftest import Nursery
from tests.crash.history import Append, Branch, Done, Grant, Read, Stored, impossible
from tests.torture import SEED, rounds
from tests.verifying import problems, query

_EVENTS = (
    "SELECT e.seq, e.event_id, b.name FROM events AS e JOIN branches AS b ON b.id = e.branch"
    " JOIN names AS n ON n.id = e.type WHERE n.name = 'test.noted' ORDER BY e.seq"
)
_BRANCHES = (
    "SELECT b.name, coalesce(up.name, ''), coalesce(b.fork_seq, 0) FROM branches AS b"
    " LEFT JOIN branches AS up ON up.id = b.parent WHERE b.run > 0"
)

pytestmark = pytest.mark.timeout(rounds(120, 600))


def history_of(folder: Path) -> list[Done]:
    """Return what all processes did."""
    decode = msgspec.json.Decoder(list[Append | Grant | Read]).decode
    return [done for path in sorted(folder.glob("*.history")) for done in decode(path.read_bytes())]


def stored_in(folder: Path) -> tuple[list[Stored], list[Branch]]:
    """Return what log and archive hold in the end."""
    old = query(folder / "old.db", _EVENTS) if (folder / "old.db").exists() else []
    gone = {row[0] for row in old}
    rows = [*old, *(row for row in query(folder / "log.db", _EVENTS) if row not in old)]
    stored = [Stored(seq=seq, id=shown_id(name), branch=branch, archived=seq in gone) for seq, name, branch in rows]
    return stored, [Branch(name=n, parent=up, fork_seq=seq) for n, up, seq in query(folder / "log.db", _BRANCHES)]


def play(nursery: Nursery, folder: Path, seed: str, **options: Any) -> list[str]:
    """Have everybody work; returns what cannot have happened."""
    sizes = {"writers": 3, "readers": 2, "steps": 120}
    assert nursery.run("histories", "play", folder, seed=seed, timeout=300, **{**sizes, **options}) == 0
    return list(impossible(history_of(folder), *stored_in(folder)))


@pytest.mark.torture
@pytest.mark.parametrize("number", range(rounds(3, 20)))
def test_what_everybody_saw_fits_one_order(number: int, nursery: Nursery, tmp_path: Path) -> None:
    """Branches are taken from each other, stale owners go on writing, bases move under the readers."""
    found = play(nursery, tmp_path, f"{SEED}/{number}")
    history = history_of(tmp_path)
    stored, branches = stored_in(tmp_path)

    assert found == []
    assert list(problems(tmp_path / "log.db")) == []
    assert len(query(tmp_path / "log.db", "SELECT seq FROM events")) < len(stored)
    assert any(branch.name.startswith("stale/") for branch in branches)
    assert any(event.archived for event in stored)
    assert {Append, Grant, Read} == {type(done) for done in history}


SEEDED = {
    "a lease is looked at when it is taken only": "which another had by then",
    "what is compacted is not archived": "is lost",
}
"""Bug → what must be complained of."""


@pytest.mark.parametrize("bug", SEEDED)
def test_a_bug_is_noticed(bug: str, nursery: Nursery, tmp_path: Path) -> None:
    """A check that finds nothing wrong with these proves nothing."""
    found = play(nursery, tmp_path, SEED, bug=bug, steps=20)

    assert any(SEEDED[bug] in line for line in found), found


# -- the checker -------------------------------------------------------------------------------------------

BRANCHES = [Branch(name="main"), Branch(name="own", parent="main", fork_seq=2),
            Branch(name="stale/1", parent="own", fork_seq=4)]  # fmt: skip
FIRST, SECOND, LAST = (
    Read(reader=0, branch="own", events=[(1, "a"), (2, "b")], at=2, count=2, began=45, ended=48),
    Read(reader=0, branch="own", events=[(2, "b"), (4, "d"), (5, "e")], at=5, count=4, began=110, ended=115),
    Read(reader=0, branch="own", events=[(4, "d"), (5, "e")], at=5, count=4, began=140, ended=145),
)
OLD, NEW = Grant(branch="own", epoch=1, began=30, ended=40), Grant(branch="own", epoch=2, began=80, ended=90)
A, B, C, D, E, F = (
    Append(id="a", branch="main", seq=1, began=0, ended=10),
    Append(id="b", branch="main", seq=2, began=5, ended=20),
    Append(id="c", branch="main", seq=3, began=50, ended=60),
    Append(id="d", branch="own", epoch=1, seq=4, began=70, ended=75),
    Append(id="e", branch="own", epoch=2, seq=5, began=95, ended=100),
    Append(id="f", branch="own", epoch=1, seq=6, began=120, ended=130),
)
HISTORY: list[Done] = [A, B, FIRST, C, D, OLD, NEW, E, SECOND, F, LAST]
STORED = [
    Stored(seq=1, id="a", branch="main", archived=True),
    Stored(seq=2, id="b", branch="main", archived=True),
    Stored(seq=3, id="c", branch="main"),
    Stored(seq=4, id="d", branch="own"),
    Stored(seq=5, id="e", branch="own"),
    Stored(seq=6, id="f", branch="stale/1"),
]


def swapped(one: Any, **facts: Any) -> tuple[list[Done], list[Stored]]:
    """Return history and log with one entry that says something else."""
    other = msgspec.structs.replace(one, **facts)
    return [other if one is done else done for done in HISTORY], [other if one is row else row for row in STORED]


WRONG: dict[str, tuple[tuple[list[Done], list[Stored]], str]] = {
    "an acknowledged append is lost": ((HISTORY, STORED[:2] + STORED[3:]), "c was acknowledged and is lost"),
    "an event is there twice": ((HISTORY, [*STORED, Stored(seq=7, id="c", branch="main")]), "stored 2 times"),
    "it is on two branches": ((HISTORY, [*STORED, Stored(seq=4, id="d", branch="stale/1")]), "stored 2 times"),
    "two events have one seq": (swapped(STORED[3], seq=3), "seq 3 is used 2 times"),
    "nobody appended it": ((HISTORY, [*STORED, Stored(seq=7, id="x", branch="main")]), "x is stored at 7"),
    "it stands elsewhere": (swapped(C, seq=9), "c is stored at 3"),
    "a later one comes before": (swapped(D, began=101, ended=102), "d (seq 4) began"),
    "an epoch is given twice": (swapped(NEW, epoch=1), "epoch 1 was given twice"),
    "epochs go down": (swapped(OLD, began=95, ended=99), "epoch 2 was given before 1"),
    "a stale owner writes on the branch": (swapped(STORED[5], branch="own"), "which another had by then"),
    "a stale owner is in between": (swapped(F, epoch=0), "f of epoch 0 for own is on stale/1"),
    "an owner is taken for stale": (swapped(STORED[3], branch="stale/1"), "but nobody else had own"),
    "it is nobody's stale branch": (swapped(STORED[5], branch="main"), "for own is on main"),
    "a read is in another order": (swapped(SECOND, events=[(2, "b"), (5, "e"), (4, "d")]), "not the events"),
    "a read has a gap": (swapped(SECOND, events=[(2, "b"), (5, "e")]), "not the events"),
    "a read has one twice": (swapped(SECOND, events=[(2, "b"), (4, "d"), (4, "d"), (5, "e")]), "not the events"),
    "a read shows another branch's": (swapped(SECOND, events=[(3, "c"), (4, "d"), (5, "e")]), "not the events"),
    "a read ends too early": (swapped(SECOND, events=[(2, "b"), (4, "d")], at=4, count=3), "event is missing"),
    "a read shows nothing": (swapped(LAST, events=[]), "nothing before was compacted"),
    "a read begins too late": (swapped(STORED[1], archived=False), "nothing before was compacted"),
    "a state counts otherwise": (swapped(LAST, count=3), "counts 3 events, there are 4"),
    "what was seen is another later": (swapped(FIRST, events=[(1, "a"), (2, "c")]), "what was there before"),
}
"""What is wrong → history and log, and what must be complained of."""


def test_a_right_history_is_possible() -> None:
    """Nobody believes a checker that always complains."""
    assert list(impossible(HISTORY, STORED, BRANCHES)) == []


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_history_is_impossible(case: str) -> None:
    """Each by one entry that is missing, too much, or another."""
    (history, stored), complaint = WRONG[case]
    found = list(impossible(history, stored, BRANCHES))

    assert any(complaint in line for line in found), found
