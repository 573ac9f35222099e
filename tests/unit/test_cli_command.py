"""What stands behind ``--``: the program of a command line."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from eventlog.cli.command import program_of


@pytest.mark.parametrize(
    ("command", "target", "args", "as_module"),
    [
        (["python", "crew.py", "--its", "--args"], "crew.py", ["--its", "--args"], False),
        (["/usr/bin/python3.11", "-u", "crew.py"], "crew.py", [], False),
        (["python", "-m", "my.module", "-m"], "my.module", ["-m"], True),
        (["-m", "my.module"], "my.module", [], True),
        (["crew.py", "python"], "crew.py", ["python"], False),
        (["python"], None, [], False),
        ([], None, [], False),
        (["-m"], None, [], True),
        (["python", "-c", "pass"], None, [], False),
        (["ls"], None, [], False),
    ],
)
def test_a_command_is_a_program_of_python_or_refused(
    command: list[str], target: str | None, args: list[str], *, as_module: bool
) -> None:
    """Whatever runs in this process must be Python; an interpreter in front is only how people write it."""
    if target is None:
        with pytest.raises(click.UsageError):
            program_of(command)
        return
    program = program_of(command)

    assert (program.target, program.args, program.as_module) == (target, args, as_module)


@pytest.mark.parametrize(
    ("head", "fits"),
    [
        ("#!/opt/venv/bin/python\n", True),
        ("#!/bin/sh\n'''exec' /a long/path/python \"$0\" \"$@\"\n", True),
        ("#!/bin/sh\nls\n", False),
    ],
)
def test_a_console_script_is_found_on_the_path(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fits: bool
) -> None:
    """By its first line, as installers write it."""
    script = tmp_path / "my-crew"
    script.write_text(head + "print()\n", "utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    if fits:
        assert program_of(["my-crew", "x"]).target == str(script)
    else:
        with pytest.raises(click.UsageError, match="no Python program"):
            program_of(["my-crew", "x"])
