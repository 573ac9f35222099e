"""Opening a file that is not what it should be: the right error, and not a byte of it changed."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog import errors, storage
from eventlog.pipeline import Durability
from eventlog.storage import PAGE_BYTES

ERRORS: dict[str, tuple[type[errors.LogOpenError], type[errors.LogOpenError] | None]] = {
    "newer": (errors.FormatTooNewError, errors.FormatTooNewError),
    "foreign": (errors.NotAnEventLogError, errors.NotAnEventLogError),
    "foreign with our number": (errors.NotAnEventLogError, errors.NotAnEventLogError),
    "text": (errors.NotAnEventLogError, errors.NotAnEventLogError),
    "trigger added": (errors.NotAnEventLogError, None),
    "view added": (errors.NotAnEventLogError, None),
    "view replaced": (errors.NotAnEventLogError, errors.NotAnEventLogError),
    "trigger dropped": (errors.NotAnEventLogError, errors.NotAnEventLogError),
    "truncated": (errors.LogDamagedError, errors.LogDamagedError),
}
"""What opening for writing and for reading says; nothing: it can be read."""


def change(path: Path, *statements: str) -> None:
    """Do something to a file with plain SQLite, and leave no WAL."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def shorten(path: Path) -> None:
    """Take the end of the file away."""
    os.truncate(path, path.stat().st_size // 2)


def replace_by_foreign(path: Path, *more: str) -> None:
    """Put another program's database there."""
    path.unlink()
    change(path, "CREATE TABLE accounts (owner TEXT)", "INSERT INTO accounts VALUES ('me')", *more)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "newer": lambda path: change(path, "PRAGMA user_version = 99"),
    "foreign": replace_by_foreign,
    "foreign with our number": lambda path: replace_by_foreign(
        path, f"PRAGMA application_id = {0x45564C47}", "PRAGMA user_version = 1"
    ),
    "text": lambda path: path.write_text("Dear diary, " * 1000),
    "trigger added": lambda path: change(
        path, "CREATE TRIGGER spy AFTER INSERT ON events BEGIN UPDATE meta SET value = 7; END"
    ),
    "view added": lambda path: change(path, "CREATE VIEW spy AS SELECT * FROM events"),
    "view replaced": lambda path: change(
        path, "DROP VIEW event_json", "CREATE VIEW event_json AS SELECT load_extension('x') AS payload"
    ),
    "trigger dropped": lambda path: change(path, "DROP TRIGGER events_never_change"),
    "truncated": shorten,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed log with some events."""
    path = tmp_path / "log.db"
    with eventlog.open(path) as log:
        log.append_many([("test.event", {"n": n, "text": "x" * 200}) for n in range(200)])
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_wrong_file_is_refused_and_left_alone(path: Path, kind: str) -> None:
    """The error says what the matter is, and the remedy; nobody's data is touched."""
    DAMAGE[kind](path)
    before = contents(path.parent)
    for_writing, for_reading = ERRORS[kind]

    with pytest.raises(for_writing) as caught:
        eventlog.open(path)
    assert str(path) in str(caught.value)
    assert type(caught.value) is for_writing
    assert caught.value.hint
    assert contents(path.parent) == before

    if for_reading is not None:
        with pytest.raises(for_reading):
            list(eventlog.open(path, readonly=True).events())
    assert path.read_bytes() == before[path.name]


def test_an_unknown_trigger_does_not_keep_anybody_from_reading(path: Path) -> None:
    """Reading runs no trigger."""
    DAMAGE["trigger added"](path)

    with eventlog.open(path, readonly=True) as log:
        assert len(list(log.events())) == 200


def test_a_folder_is_no_log(tmp_path: Path) -> None:
    """SQLite would only say that it is unable to open it."""
    with pytest.raises(errors.LogUnwritableError, match="directory"):
        eventlog.open(tmp_path)
    with pytest.raises(errors.LogOpenError):
        eventlog.open(tmp_path, readonly=True)

    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_becomes_a_log_for_writers_only(tmp_path: Path) -> None:
    """``mktemp`` makes such files; a reader does not turn one into a log."""
    path = tmp_path / "log.db"
    path.touch()

    with pytest.raises(errors.NotAnEventLogError, match="empty"):
        eventlog.open(path, readonly=True)
    assert path.read_bytes() == b""
    with eventlog.open(path) as log:
        assert log.append("test.event") == 1


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    """A typing error must not leave an empty log behind."""
    with pytest.raises(errors.LogNotFoundError):
        eventlog.open(tmp_path / "log.db", readonly=True)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not hold for root")
def test_a_place_without_permission_is_told(path: Path) -> None:
    """A read-only folder: no writing, but reading."""
    path.parent.chmod(0o500)
    try:
        with pytest.raises(errors.LogUnwritableError):
            eventlog.open(path.parent / "new.db")
        with eventlog.open(path, readonly=True) as log:
            assert len(list(log.events())) == 200
    finally:
        path.parent.chmod(0o700)


def test_permissions_are_looked_at_before_anything_is_tried(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for root, whom the system allows everything."""
    before = contents(path.parent)
    monkeypatch.setattr(os, "access", lambda *args, **options: False)

    with pytest.raises(errors.LogUnwritableError, match="Permission"):
        eventlog.open(path)
    assert contents(path.parent) == before


@pytest.mark.parametrize(("durability", "synchronous"), [("commit", 1), ("batch", 1), ("fsync", 2)])
def test_the_settings_that_durability_rests_on(tmp_path: Path, durability: Durability, synchronous: int) -> None:
    """A kill does not show a wrong ``synchronous``, the page cache survives it; so they are pinned here."""
    path = tmp_path / "log.db"
    with eventlog.open(path, durability=durability) as log:
        log.append("test.event")
        db = log.writer.pipeline._connected().db
        found = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode", "synchronous", "auto_vacuum", "application_id", "page_size", "trusted_schema",
                "wal_autocheckpoint", "busy_timeout", "cell_size_check",
            )
        }  # fmt: skip
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}

    assert found == {
        "journal_mode": "wal",
        "synchronous": synchronous,
        "auto_vacuum": 2,
        "application_id": 0x45564C47,
        "page_size": PAGE_BYTES,
        "trusted_schema": 0,
        "wal_autocheckpoint": 1000,
        "busy_timeout": 5000,
        "cell_size_check": 1,
    }
    assert modes == {"log.db": 0o600, "log.db-wal": 0o600, "log.db-shm": 0o600}


def test_opening_a_log_twice_in_one_process_keeps_its_locks(path: Path) -> None:
    """POSIX drops all locks of a process on a file when it closes any descriptor of it.

    Seen to fail: when opening looked at an existing file by opening and closing it (another process then
    removed the WAL we were writing to, and every later event was lost).
    """
    import subprocess
    import sys

    reader = eventlog.open(path, readonly=True)
    with eventlog.open(path) as log:
        log.append("test.event")
        script = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT 1 FROM events'); db.close()"
        )
        subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=30)
        log.append("test.event")

        assert (path.parent / "log.db-wal").exists()
    reader.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (202,)


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A file that could not be made is not there; the limit on file size stands for the disk."""
    script = """
import resource, signal, sys
import eventlog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    eventlog.open(sys.argv[1])
except eventlog.LogUnwritableError as error:
    print("told", error.hint)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x.db")], check=True, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.startswith("told check permissions and free space")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_another_process_makes_meanwhile_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was empty when we began to look, and is a log before we have seen all."""
    path = tmp_path / "log.db"
    made: list[str] = []
    look = storage._recognise

    def look_while_it_is_made(db: sqlite3.Connection, *args: Any, **options: Any) -> int:
        def make(statement: str) -> None:
            if "user_version" in statement and not made:
                made.append(statement)
                program = f"import eventlog; eventlog.open({str(path)!r}).close()"
                started = subprocess.Popen([sys.executable, "-c", program])
                with suppress(subprocess.TimeoutExpired):  # where it waits for us
                    started.wait(timeout=4)
                makers.append(started)

        db.set_trace_callback(make)
        try:
            return look(db, *args, **options)
        finally:
            db.set_trace_callback(None)

    makers: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(storage, "_recognise", look_while_it_is_made)
    with eventlog.open(path) as log:
        log.append("user.note", {"n": 1}, run="r")
        assert log.verify().ok

    assert [maker.wait(timeout=30) for maker in makers] == [0]
