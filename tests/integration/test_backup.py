"""``eventlog backup``: a copy of one moment, made while others write, verified, complete or not there."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventlog
from eventlog import backup
from eventlog.backup import make_backup
from eventlog.chain_key import VARIABLE
from eventlog.errors import LogDamagedError, LogUnwritableError
from eventlog.verifying.verify import Wish, verify_log
from tests.cli_world import Cli, environment
from tests.damage import edit, pages_of, zero_page
from tests.verifying import numbers, query

STEPS_MAX = 200
WRITER = """
import eventlog, sys
with eventlog.open(sys.argv[1]) as log:
    n = 0
    while True:
        log.append("some.thing", {"n": n, "text": f"{n} " + "words " * 300}, run="r")
        n += 1
        if n == 200: print("filled", flush=True)
"""


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """A log with some pages."""
    with eventlog.open(tmp_path / "log.db") as log:
        log.append_many([("some.thing", {"n": n, "text": f"{n} " + "words " * 300}) for n in range(100)], run="r")
    return tmp_path / "log.db"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Path]:
    """A log that another process appends to without end."""
    path = tmp_path / "log.db"
    child = subprocess.Popen([sys.executable, "-c", WRITER, path], env=environment(), stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "filled\n"
    yield path
    child.kill()
    child.wait(timeout=30)
    child.stdout.close()


def newest(path: Path) -> int:
    """Return the greatest seq that is committed."""
    return int(query(path, "SELECT max(seq) FROM events")[0][0])


def names(folder: Path) -> set[str]:
    """Return what is in a folder, without what SQLite puts beside the log."""
    return {path.name for path in folder.iterdir()} - {"log.db-wal", "log.db-shm"}


def test_a_backup_is_of_one_moment_while_another_process_writes(
    writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two steps the writer commits; the copy neither mixes moments nor begins again without end.

    Seen to fail: without the reading transaction around the steps.
    """
    monkeypatch.setattr(backup, "STEP_PAGES", 20)
    before, steps = newest(writer), list[int]()

    def on_step(what: str, count: int) -> None:
        if what != "copying":
            return
        steps.append(count)
        assert len(steps) < STEPS_MAX, "it begins again and again"
        seen, deadline = newest(writer), time.monotonic() + 20
        while newest(writer) == seen and time.monotonic() < deadline:
            time.sleep(0.001)

    made = make_backup(writer, tmp_path / "copy.db", on_step)
    later = newest(writer)
    copied = numbers(tmp_path / "copy.db")

    assert len(steps) > 3
    assert made.verified.ok
    assert before <= len(copied) < later
    assert copied == list(range(len(copied)))


def test_a_backup_is_private_and_a_log_like_any_other(log_path: Path, tmp_path: Path) -> None:
    """Same events, same head, and it can be gone on with."""
    made = make_backup(log_path, tmp_path / "copy.db")

    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    assert made.path == str(tmp_path / "copy.db")
    assert made.bytes == (tmp_path / "copy.db").stat().st_size
    assert made.verified.head == verify_log(log_path).head
    with eventlog.open(tmp_path / "copy.db") as log:
        assert log.append("some.thing", {"n": 100}, run="r") == 101
    assert names(tmp_path) == {"log.db", "copy.db"}
    assert verify_log(tmp_path / "copy.db", Wish(head=made.verified.head, deep=True)).ok


def test_an_open_log_backs_up_what_was_captured_so_far(tmp_path: Path) -> None:
    """Also what a batch has not written yet."""
    with eventlog.open(tmp_path / "log.db", durability="batch", batch_ms=5_000) as log:
        log.append("some.thing", {"n": 1}, run="r")
        log.backup(tmp_path / "copy.db")
        log.append("some.thing", {"n": 2}, run="r")

    assert numbers(tmp_path / "copy.db") == [1]


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder"])
def test_nothing_is_overwritten(log_path: Path, tmp_path: Path, kind: str) -> None:
    """Not even what a link leads to."""
    target, other = tmp_path / "copy.db", tmp_path / "other"
    if kind == "file":
        target.write_text("precious")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(other)
        if kind == "link":
            other.write_text("precious")
    before = names(tmp_path)

    with pytest.raises(LogUnwritableError, match="there is such a file already"):
        make_backup(log_path, target)

    assert names(tmp_path) == before
    assert kind not in ("file", "link") or target.read_text() == "precious"


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(log_path: Path, tmp_path: Path) -> None:
    """Somebody else was quicker. Seen to fail: with a rename."""
    target = tmp_path / "copy.db"

    def on_step(_what: str, _count: int) -> None:
        target.write_text("precious")

    with pytest.raises(LogUnwritableError, match="already"):
        make_backup(log_path, target, on_step)

    assert target.read_text() == "precious"
    assert names(tmp_path) == {"log.db", "copy.db"}


@pytest.mark.parametrize("when", ["copying", "verifying"])
def test_an_interrupt_leaves_nothing_behind(log_path: Path, tmp_path: Path, when: str) -> None:
    """Half a backup looks like a whole one."""

    def on_step(what: str, _count: int) -> None:
        if what == when:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_backup(log_path, tmp_path / "copy.db", on_step)

    assert names(tmp_path) == {"log.db"}


@pytest.mark.parametrize("damage", ["row", "page"])
def test_no_backup_is_kept_of_a_damaged_log(log_path: Path, tmp_path: Path, damage: str) -> None:
    """It would take the place of a good one."""
    if damage == "row":
        edit(log_path, "UPDATE events SET flags = 1 WHERE seq = 7")
    else:
        zero_page(log_path, pages_of(log_path, "events")[0])

    with pytest.raises(LogDamagedError):
        make_backup(log_path, tmp_path / "copy.db")

    assert names(tmp_path) == {"log.db"}


def test_a_keyed_log_is_backed_up_without_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes the backups need not be able to write the log; and the copy has the key of the log."""
    monkeypatch.setenv(VARIABLE, "k")
    with eventlog.open(tmp_path / "log.db") as log:
        log.append("some.thing", {"n": 1}, run="r")
    monkeypatch.delenv(VARIABLE)

    assert not make_backup(tmp_path / "log.db", tmp_path / "copy.db").verified.key_checked
    monkeypatch.setenv(VARIABLE, "k")
    assert verify_log(tmp_path / "copy.db").key_checked


def test_the_command_says_what_it_made(cli: Cli, tmp_path: Path) -> None:
    """For people, and for programs."""
    shown = cli("backup", tmp_path / "a.db")
    told = json.loads(cli("backup", tmp_path / "b.db", "--json").out)

    assert shown.code == 0
    assert "the copy holds together" in shown.out
    assert verify_log(cli.db).head in shown.out
    assert told["path"] == str(tmp_path / "b.db")
    assert told["bytes"] == (tmp_path / "b.db").stat().st_size
    assert told["verified"]["ok"]


def test_the_command_has_its_exit_codes(cli: Cli, tmp_path: Path) -> None:
    """1: it could not be made; 3: the log is damaged."""
    assert cli("backup", cli.db).code == 1
    assert cli("backup", tmp_path / "no" / "a.db").code == 1
    edit(cli.db, "UPDATE events SET flags = 1 WHERE seq = 7")

    result = cli("backup", tmp_path / "a.db")

    assert (result.code, result.out) == (3, "")
    assert "no backup was kept" in result.err
    assert not (tmp_path / "a.db").exists()
