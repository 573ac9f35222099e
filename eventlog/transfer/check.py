"""Check an import file before anything of it is imported: every line, and that the log can take it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from eventlog.errors import EventLogError, NotFoundError
from eventlog.log import Log
from eventlog.nesting import nests_too_deep
from eventlog.read import Reader
from eventlog.transfer.lines import DEPTH_MAX, FORMAT, VERSION, EventLine, Header, ImportFileError


class RunConflictError(EventLogError):
    """The log has a run of that name with other events."""

    hint = "nothing was imported; give it another name: eventlog import FILE --as NAME"

    def __init__(self, run: str) -> None:
        """Keep the run."""
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        """Say which run."""
        return f"this log has another run {self.run!r}, with other events"


def check_file(log: Log | None, path: Path, *, rename: str | None = None) -> Header:
    """Return the header of a file whose every line can be imported into the log (``None``: one that is not there yet).

    Raises:
        ImportFileError, RunConflictError: it cannot.
    """
    with path.open("rb") as file:
        lines = decoded_lines(path, file)
        _, first = next(lines)
        header: Header = first
        if rename is not None and len(header.runs) != 1:
            raise ImportFileError(str(path), 1, f"--as needs a file with one run, this one has {len(header.runs)}")
        check = _Check(log, header, rename)
        for number, line in lines:
            problem = check.problem(line)
            if problem:
                raise ImportFileError(str(path), number, problem)
    return header


class _Check:
    """What must hold from line to line."""

    def __init__(self, log: Log | None, header: Header, rename: str | None) -> None:
        """``header`` names the runs and branches that may come."""
        self._log, self._rename = log, rename
        self._branches = {(run.run, b.branch): b for run in header.runs for b in run.branches}
        self._seen: set[int] = set()
        self._runs: list[str | None] = []
        self._present: Present | None = None

    def problem(self, line: EventLine) -> str:
        """Return what is wrong with a line; nothing when it is right.

        Raises:
            RunConflictError: the log has other events under that name.
        """
        if line.run is not None and (line.run, line.branch) not in self._branches:
            return f"branch {line.run}/{line.branch} is not in the header"
        mark = hash((line.run, line.event_id))
        if mark in self._seen:
            return f"event {line.event_id} a second time"
        if not self._runs or self._runs[-1] != line.run:
            if line.run in self._runs:
                return f"run {line.run!r} a second time: the events of a run follow each other"
            self._runs.append(line.run)
            name = line.run and (self._rename or line.run)
            self._present = Present(self._log.reader, name) if self._log is not None else None
        fork = self._branches[line.run, line.branch].fork_event_id if line.run is not None else None
        if fork is not None and hash((line.run, fork)) not in self._seen:
            return f"branch {line.branch!r} begins before the event it was forked at"
        self._seen.add(mark)
        if self._present is not None:
            self._present.has(line)
        return ""


class Present:
    """What a log has of a run: it must be the beginning of what is imported, or the whole of it."""

    def __init__(self, reader: Reader, run: str | None) -> None:
        """Nothing is read before it is asked for."""
        self._reader, self._run = reader, run
        self._ids: dict[str, Iterator[str]] = {}

    def has(self, line: EventLine) -> bool:
        """Whether the next event of its branch is there already; that of no run is told when it is inserted.

        Raises:
            RunConflictError: another one is there.
        """
        if self._run is None:
            return False
        found = next(self._ids.setdefault(line.branch, self._branch_ids(line.branch)), None)
        if found is not None and found != line.event_id:
            raise RunConflictError(self._run)
        return found is not None

    def _branch_ids(self, branch: str) -> Iterator[str]:
        """Yield the ids of a branch's own events."""
        try:
            info = next(b for b in self._reader.branches(self._run or "") if b.branch == branch)
        except (NotFoundError, StopIteration):
            return
        row = self._reader.branch_id(info.run, branch)
        yield from (event.event_id for event in self._reader.stored(row, after=info.fork_seq or 0))


def decoded_lines(path: Path, file: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    """Yield line numbers with the header, then the events.

    Raises:
        ImportFileError: a line cannot be read.
    """
    kinds: list[Any] = [msgspec.json.Decoder(Header), msgspec.json.Decoder(EventLine)]
    number = 0
    for number, text in enumerate(file, 1):
        try:
            if nests_too_deep(text, DEPTH_MAX):
                raise ImportFileError(str(path), number, f"nests deeper than {DEPTH_MAX}")
            line = kinds[number > 1].decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ImportFileError(str(path), number, str(error)) from error
        if number == 1 and (line.format, line.version) != (FORMAT, VERSION):
            raise ImportFileError(str(path), 1, f"{line.format} version {line.version}, not {FORMAT} version {VERSION}")
        yield number, line
    if number == 0:
        raise ImportFileError(str(path), 1, "the file is empty")
