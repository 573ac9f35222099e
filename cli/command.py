"""What a person wrote behind ``--``: the command line of a Python program, to be run in this process."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from eventlog.cli.program import Program

_PYTHON = re.compile(r"(?:python|pypy)(?:[0-9][0-9.]*)?(?:\.exe)?|py(?:\.exe)?", re.IGNORECASE)
_HARMLESS = frozenset(("-u", "-B", "-q"))
"""Options of the interpreter that change nothing a program does."""
HEAD_BYTES = 256


def program_of(command: Sequence[str]) -> Program:
    """Return the program in ``[python] SCRIPT [ARGS]``, ``[python] -m MODULE [ARGS]`` or ``CONSOLE_SCRIPT [ARGS]``.

    Raises:
        click.UsageError: it is no Python program, or none is named.
    """
    words = list(command)
    if words and _PYTHON.fullmatch(Path(words[0]).name):
        words = _after_interpreter(words)
    if not words:
        raise click.UsageError("name the program behind --, e.g. -- python crew.py")
    if words[0] == "-m":
        if len(words) == 1:
            raise click.UsageError("-m needs the name of a module")
        return Program(words[1], words[2:], as_module=True)
    return Program(_script(words[0]), words[1:], as_module=False)


def _after_interpreter(words: list[str]) -> list[str]:
    """Return what an interpreter is told to run.

    Raises:
        click.UsageError: an option that cannot be had in this process.
    """
    rest = words[1:]
    while rest and rest[0] in _HARMLESS:
        rest = rest[1:]
    if rest and rest[0].startswith("-") and rest[0] != "-m":
        raise click.UsageError(f"{words[0]} {rest[0]}: give a script, or -m and a module; it runs in this Python")
    return rest


def _script(name: str) -> str:
    """Return the file of a script: as named, or found on PATH where that is written in Python.

    Raises:
        click.UsageError: a program of another kind.
    """
    if Path(name).exists():
        if Path(name).is_file() and _is_binary(Path(name)):
            raise click.UsageError(f"{name!r} is no Python program: only those can be run in this process")
        return name
    found = shutil.which(name) if Path(name).name == name else None
    if found is None:
        return name  # ``Program.prepare`` says that it is not there
    if not _is_python(Path(found)):
        raise click.UsageError(f"{found!r} is no Python program: only those can be run in this process")
    return found


def _is_binary(path: Path) -> bool:
    """Whether a file is neither text nor an archive or compiled module that Python runs."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return b"\0" in head and head[:2] != b"PK" and head[:4] != importlib.util.MAGIC_NUMBER


def _is_python(path: Path) -> bool:
    """Whether a file is a script for Python: by its first line, as installers write it."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    first, _, second = head.partition(b"\n")
    if not first.startswith(b"#!"):
        return path.suffix in (".py", ".pyz")
    return b"python" in first or (first.startswith(b"#!/bin/sh") and b"python" in second)
