"""Run a script or module as ``python`` itself would: argv, path, ``__main__``, exit code, traceback."""

from __future__ import annotations

import builtins
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType

import click

from eventlog.errors import EventLogError

_HERE = Path(__file__).parent


class ProgramNotFoundError(EventLogError):
    """There is no such module."""

    hint = "run it from the folder where python -m finds it"


class Program:
    """What the user wants to run."""

    def __init__(self, target: str, args: Sequence[str], *, as_module: bool) -> None:
        """``target``: a script, a folder or zip file with a ``__main__``, or (``as_module``) a module's name."""
        self.target, self.args, self.as_module = target, list(args), as_module

    def prepare(self) -> None:
        """Set ``sys.argv`` and ``sys.path`` and make sure that the target exists.

        Raises:
            click.UsageError: there is no such file.
            ProgramNotFoundError: there is no such module.
        """
        sys.argv = [self.target, *self.args]
        if not self.as_module and not Path(self.target).exists():
            raise click.UsageError(f"can't open file {self.target!r}: there is no such file")
        if Path(self.target).is_dir() and not self.as_module and not (Path(self.target) / "__main__.py").exists():
            raise click.UsageError(f"can't run folder {self.target!r}: it has no __main__.py")
        if not getattr(sys.flags, "safe_path", False):  # python -P and -I add no folder of their own
            script_folder = os.path.dirname(os.path.realpath(self.target))  # noqa: PTH120 - as python does it
            sys.path[0] = os.getcwd() if self.as_module else script_folder  # noqa: PTH109
        if self.as_module:
            _require_module(self.target)

    def run(self) -> None:
        """Run it to its end. What it raises goes through; our own frames are left out of the traceback."""
        try:
            if self.as_module:
                runpy.run_module(self.target, run_name="__main__", alter_sys=True)
            elif Path(self.target).is_file() and not _is_archive(self.target):
                _run_file(self.target)
            else:
                runpy.run_path(self.target, run_name="__main__")
        except BaseException:
            _hide_our_frames()
            raise


def _require_module(name: str) -> None:
    """Find the module before anything is recorded; like ``python -m``, this imports its parents."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise ProgramNotFoundError(f"No module named {name}: {error}") from error
    if found is None:
        raise ProgramNotFoundError(f"No module named {name}")


def _run_file(path: str) -> None:
    """Run a file as ``__main__``, which it stays for its threads and exit handlers, unlike with ``runpy``."""
    whole = os.path.abspath(path)  # noqa: PTH100 - as python does it
    module = ModuleType("__main__")
    facts = {"__file__": whole, "__builtins__": builtins, "__spec__": None, "__cached__": None}
    vars(module).update(facts, __loader__=SourceFileLoader("__main__", whole))
    sys.modules["__main__"] = module
    code = compile(Path(whole).read_bytes(), whole, "exec", dont_inherit=True)
    exec(code, vars(module))  # noqa: S102 - running the user's program is the point


def _is_archive(path: str) -> bool:
    """Whether a file is a zip of modules, or compiled: for ``runpy`` to run."""
    with Path(path).open("rb") as file:
        head = file.read(4)
    return head[:2] == b"PK" or head == importlib.util.MAGIC_NUMBER


def _hide_our_frames() -> None:
    """Let an uncaught exception be shown the way it is without us, by whatever hook there is."""
    show = sys.excepthook

    def show_trimmed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        show(kind, error.with_traceback(trace), trace)

    sys.excepthook = show_trimmed


def _is_ours(filename: str) -> bool:
    """Whether an outer frame belongs to the command line, the script that installs it, or runpy."""
    return Path(filename).parent == _HERE or Path(filename).name == "eventlog" or "runpy" in filename
