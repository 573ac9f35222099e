"""``eventlog replay RUN --execute -- COMMAND``: the program once more, answered from the log alone, and compared."""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventlog import writer
from eventlog.cli.command import program_of
from eventlog.cli.options import Settings
from eventlog.cli.output import Block, Facts, Prose, Table, show_json, show_page
from eventlog.cli.text import as_text, count_of, one_line
from eventlog.log import Log, open_log

if TYPE_CHECKING:
    from eventlog.cli.program import Program
    from eventlog.resume.outcome import Reexecution
    from eventlog.resume.reexecute import RunReexecutor

EQUAL, FAILED, DIVERGED = 0, 1, 3


def execution_of(settings: Settings, run: str, branch: str, command: Sequence[str]) -> Callable[[], int]:
    """Return what runs the command and returns the exit code.

    Raises:
        click.UsageError: the command is no Python program.
        NotFoundError: no such run or branch.
        LogOpenError: the log cannot be read.
    """
    program = program_of(command)
    log = open_log(settings.db, readonly=True)
    log.executions(run, branch=branch)
    program.prepare()
    return partial(_execute, settings, log, (run, branch), program)


class _Executing:
    """The second life of a program. Until the interpreter is gone, exit handlers and threads included."""

    def __init__(self, settings: Settings, log: Log, lineage: tuple[str, str]) -> None:
        """Shut the world out. Registered first, our end comes last."""
        from eventlog.resume.reexecute import reexecution

        self._settings, self._lineage, self._pid = settings, lineage, os.getpid()
        self._ended: BaseException | None = None
        self._stack = ExitStack()
        atexit.register(self._finish)
        self._stack.callback(log.close)
        self._stack.enter_context(_copies())
        self._again = self._stack.enter_context(reexecution(log.reader, *lineage, log.redaction, everywhere=True))
        self._stack.enter_context(_own_stdout(settings.as_json))

    def run(self, program: Program) -> None:
        """Run the program."""
        self._ended = _run(program)

    def _finish(self) -> None:
        """Say what came of it; the exit code can only be changed the hard way now."""
        if os.getpid() != self._pid:
            return
        again, code = self._again, _code(self._again, self._ended)
        outcome = _document(self._lineage, again, self._ended) if self._settings.as_json else _page(again, self._ended)
        self._stack.close()
        show_json(outcome) if isinstance(outcome, dict) else show_page(outcome)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if code != EQUAL:
            os._exit(code)


def _execute(settings: Settings, log: Log, lineage: tuple[str, str], program: Program) -> int:
    """Run the program; what came of it is said when the interpreter ends."""
    _Executing(settings, log, lineage).run(program)
    return EQUAL


def _run(program: Program) -> BaseException | None:
    """Return what the program ended with; the traceback of its own errors is shown as always."""
    ended: BaseException | None = None
    try:
        program.run()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # its own exit included
        ended = error
        if not isinstance(error, SystemExit) and not _is_ours(error):
            sys.excepthook(type(error), error, error.__traceback__)
    return ended


def _is_ours(error: BaseException) -> bool:
    """Whether an error tells of a divergence: the report says more."""
    from eventlog.resume.divergence import DivergedError

    return isinstance(error, DivergedError)


def _code(again: RunReexecutor, ended: BaseException | None) -> int:
    """Return the exit code: an error of the program's own counts most, unless a kickoff ended with it then, too."""
    broke = ended is not None and not isinstance(ended, SystemExit) and not _is_ours(ended)
    if broke and not any(result.error is ended for result in again.results) and all(again.outcomes):
        return FAILED
    return EQUAL if again.ok else DIVERGED


# -- the program's surroundings ------------------------------------------------------------------------


@contextmanager
def _own_stdout(as_json: bool) -> Generator[None]:
    """With ``--json``, what the program writes to stdout goes to stderr: stdout holds one JSON document."""
    if not as_json:
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


@contextmanager
def _copies() -> Iterator[None]:
    """Let the program have copies of the logs that it opens itself: no log is changed by executing it again."""
    folder = Path(tempfile.mkdtemp(prefix="eventlog-"))
    known: dict[Path, Path] = {}

    def copy_of(path: Path) -> Path:
        real = path.resolve()
        if real not in known:
            known[real] = folder / f"{len(known)}-{path.name}"
            if real.exists():
                _copy(real, known[real])
        return known[real]

    writer.redirections.append(copy_of)
    try:
        yield
    finally:
        writer.redirections.clear()
        shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a database with what is in its WAL."""
    uri = f"{source.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    target.chmod(0o600)


# -- the report ----------------------------------------------------------------------------------------


def _document(lineage: tuple[str, str], again: RunReexecutor, ended: BaseException | None) -> dict[str, Any]:
    """Return the report for programs."""
    names = ("execution", "diverged_at", "at", "expected", "actual", "changed", "events", "served")
    return {
        "run": lineage[0],
        "branch": lineage[1],
        "equal": again.ok,
        "executions": [{"equal": r.ok, **{n: getattr(r, n) for n in names}} for r in again.outcomes],
        "missing": [e.path for e in again.missing],
        "served": again.served,
        "live_calls": 0,
        "program_error": None if ended is None else f"{type(ended).__name__}: {ended}",
    }


def _page(again: RunReexecutor, ended: BaseException | None) -> list[Block]:
    """Return the report for people."""
    outcomes = again.outcomes
    rows = [(r.execution or "(no kickoff)", "equal" if r else "different", str(r.events)) for r in outcomes]
    rows += [(e.path, "did not come", "0") for e in again.missing]
    blocks: list[Block] = [Table("executed again", ("execution", "outcome", "events"), rows, right=("events",))]
    blocks += [block for result in outcomes if not result for block in _difference(result)]
    served = again.served
    answered = f"{count_of(served.llm, 'model call')}, {count_of(served.token_counts, 'token count')}"
    answered += f", {count_of(served.tools, 'tool use')}, {count_of(served.human, 'human answer')}"
    facts = [("from the log", f"{answered}, {count_of(served.memory, 'memory operation')}"), ("live calls", "0")]
    if ended is not None:
        facts.append(("the program ended with", one_line(f"{type(ended).__name__}: {ended}", 120)))
    return [*blocks, Facts(facts)]


def _difference(result: Reexecution) -> list[Block]:
    """Return where an execution first did something else, and what."""
    facts = [("first difference", one_line(result.diverged_at, 200)), ("there", one_line(result.at, 200))]
    if result.changed:
        facts.append(("definition", one_line(result.changed, 200)))
    return [
        Facts([fact for fact in facts if fact[1]]),
        Prose("recorded", _text(result.expected)),
        Prose("now", _text(result.actual)),
    ]


def _text(value: Any) -> str:
    """Return a side of a difference."""
    return "(nothing)" if value is None else as_text(value) or "(empty)"
