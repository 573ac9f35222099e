"""``eventlog repair --into NEW``: what a person and a program see, what is refused, and what a kill leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import eventlog
from eventlog.repair.repair import repair_log
from tests.cli_world import Cli, environment, finish
from tests.damage import edit, page_bytes, zero_page
from tests.repairing import fingerprint

LOSSES = 3
EVENTS = 30

DIES = """
import os, signal, sys
from eventlog.repair.repair import repair_log

repair_log("small.db", "new.db", progress=lambda what, _: what == sys.argv[1] and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture
def small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line on a log of some events, in a folder of its own."""
    cli = Cli(tmp_path / "logs" / "small.db", capsys)
    with eventlog.open(cli.db) as log:
        log.append_many([("some.thing", {"n": n, "text": f"{n} " + "so " * 200}) for n in range(EVENTS)], run="r")
    return cli


@pytest.fixture
def new(small: Cli) -> Path:
    """Where the new log goes."""
    return small.db.with_name("new.db")


def test_nothing_lost_is_exit_code_0(small: Cli, new: Path) -> None:
    """And says so; what was saved holds together."""
    result = small("repair", "--into", new)

    assert result.code == 0
    assert f"{EVENTS} events" in result.out
    assert "nothing" in result.out
    assert f"the damaged log was left as it is: {small.db}" in result.err
    assert eventlog.open(new, readonly=True).verify(deep=True).ok


def test_losses_have_an_exit_code_of_their_own_and_are_listed(small: Cli, new: Path) -> None:
    """By run, branch and seq, with the large values that went; a program reads the same from ``--json``."""
    name = json.loads(eventlog.open(small.db, readonly=True).reader.query("SELECT payload FROM events")[4][0])["text"]
    edit(
        small.db,
        "UPDATE events SET flags = 1 WHERE seq IN (9, 11, 20)",
        "DELETE FROM events WHERE seq = 25",
        f"UPDATE contents SET body = 'x' WHERE hash = '{name['$content']}'",
    )
    result = small("repair", "--into", new)
    new.unlink()
    report = json.loads(small("repair", "--into", new, "--json").out)

    assert result.code == LOSSES
    assert "3 events, 1 missing seqs that nobody knows, 1 large value, the proof of 1 event" in result.out
    assert "9, 11, 20" in result.out
    assert "kept, though nothing proves it: 26" in result.out
    assert name["$content"] in result.out
    assert (report["ok"], report["lost"], report["unaccounted"], report["unproven"]) == (False, 3, 1, 1)
    assert report["branches"][-1]["seqs"] == [[9, 9], [11, 11], [20, 20]]
    assert report["into"] == str(new)


def test_a_lost_base_is_said(small: Cli, new: Path) -> None:
    """The state it held is gone with it."""
    with eventlog.open(small.db) as log:
        log.snapshot("r")
        log.compact(0)
    edit(small.db, "DELETE FROM bases")

    result = small("repair", "--into", new)

    assert result.code == LOSSES
    assert "the proof of a base" in result.out
    assert "its base is lost" in result.out


def test_lost_names_are_counted(small: Cli, new: Path) -> None:
    """The run is there, under another name."""
    edit(small.db, "DELETE FROM runs WHERE id > 0")

    result = small("repair", "--into", new)

    assert (result.code, "1 name" in result.out, "salvaged-1" in result.out) == (LOSSES, True, True)


def test_a_log_that_sqlite_refuses_is_saved(small: Cli, new: Path) -> None:
    """``verify`` names the command; its first page holds no event."""
    zero_page(small.db, 1)
    with pytest.raises(eventlog.LogOpenError):
        eventlog.open(small.db, readonly=True)

    assert small("repair", "--into", new).code == 0
    assert small("verify").code == LOSSES


# -- refused ------------------------------------------------------------------------------------------


def taken(new: Path) -> None:
    """Somebody's file."""
    new.write_text("mine")


def linked_to_the_log(new: Path) -> None:
    """Another name of the damaged log."""
    new.symlink_to(new.with_name("small.db"))


def linked_to_nothing(new: Path) -> None:
    """What is written there would appear elsewhere."""
    new.symlink_to(new.with_name("elsewhere.db"))


def a_folder(new: Path) -> None:
    """Not a file at all."""
    new.mkdir()


@pytest.mark.parametrize("make", [taken, linked_to_the_log, linked_to_nothing, a_folder])
def test_a_name_that_is_taken_is_refused(small: Cli, new: Path, make: Callable[[Path], None]) -> None:
    """Exit code 1, one line with the remedy, and not a byte is written."""
    make(new)
    before = fingerprint(new.parent)
    result = small("repair", "--into", new)

    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[0] == f"Error: {new}: there is such a file already"
    assert result.err.splitlines()[1].startswith("Hint: ")
    assert fingerprint(new.parent) == before


def test_the_damaged_log_is_not_repaired_into_itself(small: Cli) -> None:
    """By its own name, and by another path to it."""
    before = fingerprint(small.db.parent)

    assert small("repair", "--into", small.db).code == 1
    assert small("repair", "--into", small.db.parent / ".." / "logs" / "small.db").code == 1
    assert fingerprint(small.db.parent) == before


def test_no_folder_is_made_for_it(small: Cli, tmp_path: Path) -> None:
    """A mistyped path must not go unseen."""
    result = small("repair", "--into", tmp_path / "nowhere" / "new.db")

    assert (result.code, "there is no such folder" in result.err) == (1, True)
    assert not (tmp_path / "nowhere").exists()


def test_into_is_asked_for(small: Cli) -> None:
    """Exit code 2: nothing was looked at."""
    result = small("repair")

    assert (result.code, result.out) == (2, "")
    assert "--into" in result.err


@pytest.mark.parametrize("kind", ["none", "empty", "letter", "folder", "strange"])
def test_what_is_no_log_is_refused(small: Cli, new: Path, kind: str) -> None:
    """Exit code 1, as ``verify`` has it: nothing is lost, and there is nothing to save."""
    small.db = new.with_name(kind)
    if kind == "empty":
        small.db.touch()
    elif kind == "letter":
        small.db.write_text("Dear log, how are you?\n" * 900)
    elif kind == "folder":
        small.db.mkdir()
    elif kind == "strange":
        edit(small.db, "CREATE TABLE events (seq INTEGER)")
    result = small("repair", "--into", new)

    assert (result.code, result.out) == (1, "")
    assert ("there is no such log" if kind == "none" else "neither a log nor what is left of one") in result.err
    assert "Traceback" not in result.err
    assert not new.exists()


def test_a_log_of_which_nothing_is_left_is_refused(small: Cli, new: Path) -> None:
    """Its first page says what it was, and that is all there is."""
    with small.db.open("r+b") as file:
        file.truncate(page_bytes(small.db))
    result = small("repair", "--into", new)

    assert (result.code, result.out) == (1, "")
    assert "none of its rows can be read" in result.err
    assert "look for an older copy" in result.err
    assert not new.exists()


# -- stopped ------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_repair_that_is_stopped(small: Cli, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any step: no new log, no half of one, no work file."""
    monkeypatch.setattr(tempfile, "tempdir", str(new.parent))
    steps: list[str] = []

    def stop(what: str, _count: int) -> None:
        if what not in steps:
            steps.append(what)
            raise KeyboardInterrupt

    before, left = sorted(new.parent.iterdir()), list[list[Path]]()
    while not new.exists():
        try:
            repair_log(small.db, new, progress=stop)
        except KeyboardInterrupt:
            left.append(sorted(new.parent.iterdir()))

    assert steps == ["reading pages", "checking large values", "checking chains", "writing events", "verifying"]
    assert left == [before] * len(steps)
    assert sorted(new.parent.iterdir()) == sorted([*before, new])


@pytest.mark.parametrize("step", ["writing events", "verifying"])
def test_a_killed_repair_leaves_no_half_of_a_new_log(small: Cli, new: Path, step: str) -> None:
    """What it wrote has another name; the same command does it all again."""
    before = small.db.read_bytes()
    env = environment(TMPDIR=str(new.parent))
    died = subprocess.run([sys.executable, "-c", DIES, step], cwd=new.parent, env=env, check=False)

    assert died.returncode == -9
    assert not new.exists()
    assert small.db.read_bytes() == before
    assert small("repair", "--into", new).code == 0


def test_it_is_a_command_of_its_own_process(small: Cli, new: Path) -> None:
    """Nothing of the process that wrote the log is needed."""
    done = finish("repair", "--into", new, "--db", small.db, "--json", env=environment())

    assert (done.code, json.loads(done.out)["events"]) == (0, EVENTS)
