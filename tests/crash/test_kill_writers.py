"""Whatever a process does to a log, killed at any instant: what was acknowledged is there, and nothing by half.

Each case does one thing after another, each acknowledged when it returned. As the log was left it holds everything
acknowledged, at most the thing under way beside it, complete, and ``verify --deep`` finds nothing. That thing done
again, the log is as one on which all went well.

Seen to fail, and kept below as a test (``SEEDED``): when an append returns before its commit, when a batch, an import,
a fork or a migration is more than one transaction, when ``flush`` does not wait, when a snapshot is not stored, when
a backup has its name before it is complete, when what was forgotten is left in free pages.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog
from eventlog.schema import FORMAT
from eventlog.transfer.exports import export_lines
from tests.crash.children.writers import BESIDE, GOLDEN, OLD_LOGS, RUN, SECRET, size
from tests.crash.conftest import Nursery
from tests.golden.expectations import cursors_of, differences, expected, observe
from tests.torture import SEED, dice, rounds
from tests.verifying import problems

LATEST_S = 0.1
"""When a process is killed at the latest: until then each case does many things."""
KILLS = {
    "commit": 10, "fsync": 6, "many": 10, "crowded commit": 8, "crowded many": 8, "flushed": 8, "forks": 8,
    "snapshots": 8, "imports": 8, "large imports": 6, "backups": 8, "forgets": 8, "migrations": 8,
}  # fmt: skip
"""Of each case; under torture five times as many. *Crowded*: another process appends meanwhile."""
SECRETS = 60
LARGE = 1000

_FLEETING = re.compile(
    rb'\b1[0-9]{18}\b|"updated_at":"[^"]*"|"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"'
)
"""Times and ids: they differ from log to log."""
_PLACE = re.compile(rb'"seq":[0-9]+')
_MADE = "SELECT seq, state FROM snapshots WHERE trigger = 'manual' AND kind = 'checkpoint' ORDER BY seq"

pytestmark = pytest.mark.timeout(rounds(120, 600))


def plain(value: Any) -> bytes:
    """Return a value as JSON without what differs from log to log."""
    return _FLEETING.sub(b"_", msgspec.json.encode(value))


# -- what a log says of each thing that was done, in order -------------------------------------------------


def noted(folder: Path) -> list[Any]:
    """Return the events."""
    with eventlog.open(folder / "log.db", readonly=True) as log:
        return [event.payload for event in log.events() if event.run == RUN]


def batches(folder: Path) -> list[Any]:
    """Return the events of each batch."""
    found: dict[int, list[Any]] = {}
    for payload in noted(folder):
        found.setdefault(payload["n"], []).append(payload)
    return list(found.values())


def flushes(folder: Path) -> list[Any]:
    """Return the events before each flush; those before the last one may be there in part, in order."""
    with eventlog.open(folder / "log.db", readonly=True) as log:
        found: dict[int, list[int]] = {}
        for event in log.events():
            if event.type == "test_counted":
                found.setdefault(event.payload["n"] // 1000, []).append(event.payload["n"] % 1000)
    last = list(found.values())[-1:]
    if last and len(last[0]) < size(len(found) - 1) and last[0] == list(range(len(last[0]))):
        found.popitem()
    return list(found.values())


def forked(folder: Path) -> list[Any]:
    """Return each fork: where it begins, its edits, what is unfinished on it, its state."""
    with eventlog.open(folder / "log.db", readonly=True) as log:
        return [
            plain(
                [
                    info.fork_seq,
                    [(event.type, event.payload) for event in log.events("golden", info.branch, after=64)],
                    log.executions("golden", branch=info.branch),
                    log.state("golden", branch=info.branch),
                ]
            )
            for info in log.branches("golden")[1:]
        ]


def snapped(folder: Path) -> list[Any]:
    """Return each state that was stored."""
    return [(seq, _FLEETING.sub(b"_", state.encode())) for seq, state in look(folder / "log.db", _MADE)]


def imported(folder: Path) -> list[Any]:
    """Return each run as it would be exported."""
    with eventlog.open(folder / "log.db", readonly=True) as log:
        return [
            _PLACE.sub(b"", b"".join(export_lines(log, [info.run])).replace(f'"{info.run}"'.encode(), b"_"))
            for info in log.runs()
        ]


def copied(folder: Path) -> list[Any]:
    """Return what is in each copy, and what is wrong with it."""
    paths = sorted(folder.glob("b*.db"), key=lambda path: int(path.stem[1:]))
    ids = "SELECT event_id FROM events WHERE run = (SELECT id FROM runs WHERE name = 'r') ORDER BY seq"
    return [(list(problems(path)), look(path, ids)) if is_made(path) else "nothing in it" for path in paths]


def forgotten(folder: Path) -> list[Any]:
    """Return the events whose words are nowhere any more; the others must have theirs."""
    stored = b"".join(path.read_bytes() for path in folder.glob("log.db*"))
    texts = [payload["text"] for payload in noted(folder)]
    words = [SECRET.format(n=n) for n in range(SECRETS)]
    first = next((n for n, word in enumerate(words) if word.encode() in stored), SECRETS)
    lost = [word for word, text in zip(words[first + 1 :], texts[first + 1 :], strict=True) if word not in text]
    return texts[:first] + lost


def migrated(folder: Path) -> list[Any]:
    """Return how each log that is of the present format differs from what it was."""
    paths = sorted(folder.glob("log*.db"), key=lambda path: int(path.stem[3:]))
    return [_changes(path) for path in paths if look(path, "PRAGMA user_version") == [(FORMAT,)]]


def _changes(path: Path) -> list[str]:
    """Return in what a log is not what it was when it was written."""
    before = expected("v1", OLD_LOGS[int(path.stem[3:]) % len(OLD_LOGS)].stem)
    with eventlog.open(path, readonly=True) as log:
        now = observe(log, cursors_of(before))
    return list(differences({key: before[key] for key in now if key in before}, now))


SAYS: dict[str, Callable[[Path], list[Any]]] = {
    "commit": noted, "fsync": noted, "many": batches, "flushed": flushes, "forks": forked, "snapshots": snapped,
    "imports": imported, "backups": copied, "forgets": forgotten, "migrations": migrated,
}  # fmt: skip


# -- what the log is at first ------------------------------------------------------------------------------


def nothing(_folder: Path, _copies: list[Path]) -> None:
    """Have the first opener make it."""


def a_crew(_folder: Path, copies: list[Path]) -> None:
    """A crew that has finished."""
    for made in copies:
        shutil.copyfile(GOLDEN / f"v{FORMAT}" / "crew.db", made / "log.db")


def words(folder: Path, copies: list[Path]) -> None:
    """Events with a word each, in their payload and in a content of their own."""
    with eventlog.open(folder / "words.db") as log:
        texts = [f"{SECRET.format(n=n)} was said. {'And more. ' * (80 * (n % 2))}" for n in range(SECRETS)]
        log.append_many([("test.noted", {"n": n, "text": text}) for n, text in enumerate(texts)], run=RUN)
    for made in copies:
        shutil.copyfile(folder / "words.db", made / "log.db")


def an_export(folder: Path, _copies: list[Path]) -> None:
    """An export of a crew and its fork."""
    _export(GOLDEN / f"v{FORMAT}" / "forked.db", folder)


def a_large_export(folder: Path, _copies: list[Path]) -> None:
    """An export of many events: their import takes as long as the process lives."""
    with eventlog.open(folder / "large.db") as log:
        log.append_many([("test.noted", {"n": n, "text": f"page {n} " * 30}) for n in range(LARGE)], run=RUN)
    _export(folder / "large.db", folder)


def _export(path: Path, folder: Path) -> None:
    with eventlog.open(path, readonly=True) as log:
        (folder / "export.jsonl").write_bytes(b"".join(export_lines(log, [log.latest_run()])))


FIRST: dict[str, Callable[[Path, list[Path]], None]] = {
    "forks": a_crew, "snapshots": a_crew, "imports": an_export, "large imports": a_large_export, "forgets": words,
}  # fmt: skip


# -- what must hold after a kill ---------------------------------------------------------------------------


def acknowledged(folder: Path) -> int:
    """Return how many things returned before the kill."""
    path = folder / "witness"
    return len(path.read_text().split()) if path.exists() else 0


def lost_beside(folder: Path) -> Iterator[str]:
    """Yield what of the process that was not killed is not there as it was acknowledged."""
    if (folder / "beside").exists():
        with eventlog.open(folder / "log.db", readonly=True) as log:
            found = [event.payload["n"] for event in log.events() if event.run == BESIDE]
        if found != [int(n) for n in (folder / "beside").read_text().split()]:
            yield f"beside: {len(found)} are there"


def is_made(path: Path) -> bool:
    """Whether a file is a log yet."""
    try:
        return path.exists() and look(path, "SELECT 1 FROM sqlite_master WHERE name = 'events'") != []
    except sqlite3.OperationalError:  # while it is made it is no WAL yet: there is something to roll back
        return False


def look(path: Path, sql: str) -> list[Any]:
    """Return all rows, and leave the file and its WAL as they are."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def wrong(folder: Path, case: str, whole: list[Any], *, least: int, most: int) -> Iterator[str]:
    """Yield what is wrong with a log: it is to be what ``whole`` was after so many things."""
    paths = [path for path in folder.glob("log*.db") if is_made(path)]
    found = SAYS[case](folder) if paths else []
    yield from (f"{path.name}: {line}" for path in paths for line in problems(path))
    yield from lost_beside(folder)
    if not least <= len(found) <= most:
        yield f"{acknowledged(folder)} were acknowledged, {len(found)} are there"
    yield from (f"{n} is another" for n, (ours, theirs) in enumerate(zip(found, whole, strict=False)) if ours != theirs)


def play(nursery: Nursery, folder: Path, case: str, kills_s: list[float], **options: Any) -> tuple[list[Path], Path]:
    """Kill a case so often, and do it once undisturbed; returns the folders, that of the latter last."""
    folders = [folder / str(n) for n in range(len(kills_s))]
    whole = folder / "whole"
    for made in (*folders, whole):
        made.mkdir()
    FIRST.get(case, nothing)(folder, [*folders, whole])
    name = case.rpartition(" ")[2]

    assert nursery.run("writers", "kill", folder, case=name, kills_s=kills_s, timeout=600, **options) == 0
    assert {(made / "code").read_text() for made in folders} == {"-9"}, (folder / "stderr").read_text()
    last = max(acknowledged(made) for made in folders)
    assert nursery.run("writers", "undisturbed", whole, case=name, last=last, timeout=600) == 0
    return folders, whole


@pytest.mark.torture
@pytest.mark.parametrize("case", KILLS)
def test_what_was_acknowledged_is_there_and_the_rest_can_be_done_again(
    case: str, nursery: Nursery, tmp_path: Path
) -> None:
    """At random instants: while the file is made, while it is opened, between two commits, in the middle of one."""
    kills = rounds(KILLS[case], 5 * KILLS[case])
    rng = dice(f"kill/{case}")
    moments = [LATEST_S * (n + rng.random()) / kills for n in range(kills)]
    folders, undisturbed = play(nursery, tmp_path, case, moments, beside=case.startswith("crowded"))
    name = case.rpartition(" ")[2]
    whole = SAYS[name](undisturbed)
    done = [acknowledged(folder) for folder in folders]

    left = [list(wrong(path, name, whole, least=n, most=n + 1)) for path, n in zip(folders, done, strict=True)]
    assert nursery.run("writers", "again", tmp_path, case=name, numbers=done, timeout=600) == 0
    after = [list(wrong(path, name, whole, least=n + 1, most=n + 1)) for path, n in zip(folders, done, strict=True)]
    found = {
        f"seed {SEED}, kill at {moments[n]:.4f} s after {done[n]}": (left[n], after[n])
        for n in range(kills)
        if left[n] or after[n]
    }

    assert found == {}
    assert list(wrong(undisturbed, name, whole, least=max(done) + 1, most=max(done) + 1)) == []


SEEDED: dict[str, tuple[str, tuple[str, str, int], str]] = {
    "acknowledged before it is stored": ("commit", ("os", "write", 9), "acknowledged"),
    "batches are split": ("many", ("eventlog.append", "Appender._insert_at", 300), "is another"),
    "flush waits for nothing": ("flushed", ("os", "write", 9), "acknowledged"),
    "forks are split": ("forks", ("eventlog.append", "Appender._insert_at", 2), "is another"),
    "snapshots are not stored": ("snapshots", ("eventlog.append", "Appender.write", 9), "acknowledged"),
    "imports are split": ("imports", ("eventlog.append", "Appender._insert_at", 30), "is another"),
    "a copy has its name before it is complete": ("backups", ("eventlog.backup", "stored_check", 1), "is another"),
    "what was forgotten stays in free pages": ("forgets", ("eventlog.log", "forget_value", 9), "acknowledged"),
    "a migration is split": ("migrations", ("eventlog.schema", "_renew_views_and_triggers", 4), "differs"),
}
"""Bug → case, where it dies (module, function, the how manieth call of it), and what must be complained of."""


@pytest.mark.parametrize("bug", SEEDED)
def test_a_bug_is_noticed(bug: str, nursery: Nursery, tmp_path: Path) -> None:
    """A check that finds nothing wrong with these proves nothing."""
    case, point, complaint = SEEDED[bug]
    (folder,), undisturbed = play(nursery, tmp_path, case, [0.0], point=point, bug=bug)
    done = acknowledged(folder)
    found = list(wrong(folder, case, SAYS[case](undisturbed), least=done, most=done + 1))

    assert any(complaint in line for line in found), found
