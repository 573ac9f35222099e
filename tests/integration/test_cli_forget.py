"""``eventlog forget``, as a person and as a program use it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import eventlog
from tests import verifying
from tests.cli_world import Cli, finish

SECRET = "Quiet-Otter-4711/Zx"


@pytest.fixture
def eventlog_cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Command lines against a log with the value in one of two events."""
    with eventlog.open(tmp_path / "log.db") as log:
        log.append("my.text", {"text": f"see {SECRET}"}, run="r")
        log.append("my.text", {"text": "nothing"}, run="r")
    return Cli(tmp_path / "log.db", capsys)


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Put bytes on stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_value_comes_by_stdin_and_is_never_shown(
    end: str, eventlog_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line break at its end is the shell's; what is left untouched is said."""
    give(monkeypatch, (SECRET + end).encode())
    done = eventlog_cli("forget", "--value-stdin")
    shown = eventlog_cli("show", "1")

    assert (done.code, SECRET in done.out + done.err, "backups" in done.err) == (0, False, True)
    assert "see [redacted:forgotten]" in shown.out
    assert SECRET.encode() not in eventlog_cli.db.read_bytes()


def test_a_dry_run_counts_for_a_program(eventlog_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON on stdout, the bytes as they were."""
    before = eventlog_cli.db.read_bytes()
    give(monkeypatch, SECRET.encode())
    dry = eventlog_cli("forget", "--value-stdin", "--dry-run", "--json")

    assert (dry.code, json.loads(dry.out)["events"], "nothing was changed" in dry.err) == (0, 1, True)
    assert eventlog_cli.db.read_bytes() == before


def test_an_event_is_emptied(eventlog_cli: Cli) -> None:
    """By seq or id; what is shown says that, and when."""
    done = eventlog_cli("forget", "--event", "1")
    shown = eventlog_cli("show", "1")

    assert (done.code, "[forgotten at 20" in shown.out) == (0, True)
    assert list(verifying.problems(eventlog_cli.db)) == []


def test_from_a_terminal_it_is_asked_for_without_being_shown(
    eventlog_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that is typed must not stay on the screen."""
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda _self: True})())
    monkeypatch.setattr("getpass.getpass", lambda _prompt: SECRET)

    assert eventlog_cli("forget", "--value-stdin").code == 0
    assert SECRET.encode() not in eventlog_cli.db.read_bytes()


@pytest.mark.parametrize(
    ("args", "given", "code", "said"),
    [
        (("forget",), b"", 2, "one of them"),
        (("forget", "--value-stdin", "--event", "1"), b"", 2, "one of them"),
        (("forget", "--value-stdin"), b"abc\n", 1, "less than 4 characters"),
        (("forget", "--value-stdin"), b"my.text\xff", 1, "no UTF-8"),
        (("forget", "--value-stdin"), b"password\n", 1, "too common"),
        (("forget", "--event", "77"), b"", 1, "no event '77'"),
    ],
)
def test_bad_input_is_told_in_a_line(
    args: tuple[str, ...], given: bytes, code: int, said: str, eventlog_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is changed, no traceback."""
    before = eventlog_cli.db.read_bytes()
    give(monkeypatch, given)
    shown = eventlog_cli(*args)

    assert (shown.code, said in shown.err, "Traceback" in shown.err) == (code, True, False)
    assert eventlog_cli.db.read_bytes() == before


def test_what_cannot_be_done_is_an_exit_code(eventlog_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a run stays; whoever asked must learn that, by its row and not by its name."""
    with eventlog.open(eventlog_cli.db) as log:
        log.append("my.text", {}, run=f"run {SECRET}")
    give(monkeypatch, SECRET.encode())
    shown = eventlog_cli("forget", "--value-stdin")

    assert (shown.code, "cannot be renamed" in shown.err, SECRET in shown.err) == (1, True, False)


def test_a_log_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A typo in a path must not look like success; in a process of its own, as a script runs it."""
    shown = finish("forget", "--event", "1", "--db", tmp_path / "none.db")

    assert (shown.code, "there is no such log" in shown.err, list(tmp_path.iterdir())) == (1, True, [])
