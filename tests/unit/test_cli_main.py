"""The command line as a whole: errors, exit codes, options of every command."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import eventlog
from eventlog.cli import main
from eventlog.cli.program import Program
from eventlog.cli.recording import Recording
from eventlog.errors import RunNotFoundError


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes ``eventlog runs`` raise an error."""

    def arrange(error: BaseException) -> None:
        @click.command()
        def runs() -> None:
            raise error

        monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: runs)

    return arrange


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RunNotFoundError("x\x1b[31m"), 1, "Error: no run 'x\\x1b[31m' in this log"),
        (sqlite3.OperationalError("disk I/O error"), 1, "Error: SQLite: disk I/O error"),
        (PermissionError(13, "Permission denied", "a.db"), 1, "Error: a.db: Permission denied"),
        (ZeroDivisionError("a bug"), 1, "Error: ZeroDivisionError: a bug"),
        (click.UsageError("wrong"), 2, "Error: wrong"),
        (KeyboardInterrupt(), 130, ""),
        (RecursionError("too deep"), 1, "Error: RecursionError: too deep"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_is_one_line_and_an_exit_code(
    raising: Any, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    """Never a traceback; an interrupt says nothing."""
    raising(error)

    assert main.run(["runs"]) == code
    assert capsys.readouterr().err.split("\n")[0] == line


def test_a_bug_shows_its_traceback_to_whoever_asks(
    raising: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hint says."""
    raising(ZeroDivisionError("a bug"))
    monkeypatch.setenv("EVENTLOG_DEBUG", "1")

    main.run(["runs"])

    assert "Traceback" in capsys.readouterr().err


def test_without_arguments_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody who types only the name wants to know what there is."""
    assert main.run([]) == 0
    assert "replay" in capsys.readouterr().out


def test_completion_offers_every_command() -> None:
    """Tab works: names without odd characters, all of them listed."""
    names = main.group.list_commands(click.Context(main.group))

    assert names == list(main.COMMANDS)
    assert all(name.replace("-", "").isalpha() for name in names)


@pytest.mark.parametrize("name", list(main.COMMANDS))
def test_every_command_has_the_shared_options(name: str) -> None:
    """``--db`` (also from ``EVENTLOG_DB``), ``--json`` and ``-v``; of a group, each of its commands."""
    command = main.group.get_command(click.Context(main.group), name)
    assert command is not None
    commands = command.commands.values() if isinstance(command, click.Group) else [command]
    options = [{option for param in it.params for option in param.opts} for it in commands]

    assert options
    assert all({"--db", "--json", "-v"} <= found for found in options)


def test_the_log_may_be_named_by_the_environment(tmp_path: Path) -> None:
    """``EVENTLOG_DB`` is what the library reads too; an option goes before it."""
    eventlog.open(tmp_path / "a.db").close()
    runner = CliRunner(env={"EVENTLOG_DB": str(tmp_path / "a.db")})

    named = runner.invoke(main.group, ["runs"])
    other = runner.invoke(main.group, ["runs", "--db", str(tmp_path / "b.db")])

    assert "a.db: no runs yet" in named.stderr
    assert isinstance(other.exception, eventlog.LogNotFoundError)


@pytest.fixture
def quiet_logger() -> Iterator[None]:
    """Undo what ``-v`` configures."""
    root = logging.getLogger("eventlog")
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    root.setLevel(level)


@pytest.mark.usefixtures("quiet_logger")
def test_verbose_shows_the_librarys_log_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its facts; stdout stays clean for programs."""
    with eventlog.open(tmp_path / "a.db") as log:
        log.append("some.event", {}, run="r")
    main.run(["runs", "-v", "--json", "--db", str(tmp_path / "a.db")])
    from eventlog.logger import Logger

    Logger("eventlog.test").warning("something_happened", count=3, where="here")
    captured = capsys.readouterr()

    assert captured.out.startswith("[")
    assert captured.err == "warning eventlog.test something_happened count=3 where='here'\n"


@pytest.fixture
def untouched_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what running a program changes."""
    import sys

    for name in ("argv", "path", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.mark.usefixtures("untouched_interpreter")
@pytest.mark.parametrize("kind", ["file", "folder", "module"])
def test_a_program_finds_itself_as_under_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A script, a folder with a ``__main__``, or a module: its name, its arguments, its neighbours."""
    folder = tmp_path / "program_kind"
    folder.mkdir()
    (folder / "__init__.py").write_text("", "utf-8")
    (folder / "neighbour_of_main.py").write_text("value = 7", "utf-8")
    start = "import neighbour_of_main as n" if kind != "module" else "from program_kind import neighbour_of_main as n"
    (folder / "__main__.py").write_text(f"import sys\n{start}\nprint(__name__, sys.argv[1:], n.value)", "utf-8")
    monkeypatch.chdir(tmp_path)
    target = {"file": str(folder / "__main__.py"), "folder": str(folder), "module": "program_kind"}[kind]

    program = Program(target, ["--x", "1"], as_module=kind == "module")
    program.prepare()
    program.run()

    assert capsys.readouterr().out == "__main__ ['--x', '1'] 7\n"


def test_a_recording_says_what_was_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run with holes must not look whole."""
    from eventlog.cli.options import Settings

    recording = Recording(Settings(tmp_path / "a.db", as_json=False, db_given=True), "r", "commit", quiet=False)
    status = recording._log.status()
    changes = {"committed": 1, "failed": 2, "last_error": "disk full"}
    recording._report(
        eventlog.Status(**{**{n: getattr(status, n) for n in status.__struct_fields__}, **changes}), "tap"
    )
    recording._log.close()

    assert capsys.readouterr().err.splitlines() == [
        f"recorded run r: 1 event → {tmp_path}/a.db",
        "warning: 2 events lost: disk full",
    ]
