"""Check an import file before anything of it is imported: every line, and that the log can take it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from eventlog.log import Log
from eventlog.nesting import nests_too_deep
from eventlog.read import Reader
from eventlog.transfer.check_bases import BasesCheck, RunConflictError, header_problem, is_here, own_ids
from eventlog.transfer.lines import DEPTH_MAX, FORMAT, VERSION, VERSION_OF_BASES, EventLine, Header, ImportFileError
from eventlog.values import collect_refs

LINE_BYTES_MAX = 512 << 20
"""Longer lines are refused before they fill the memory: what is exported of one event is less."""


def check_file(log: Log | None, path: Path, *, rename: str | None = None) -> Header:
    """Return the header of a file whose every line can be imported into the log (``None``: one that is not there yet).

    Raises:
        ImportFileError, RunConflictError: it cannot.
    """
    if path.exists() and not path.is_file():
        raise ImportFileError(str(path), 1, "not a regular file: it is read twice, first to check it")
    with path.open("rb") as file:
        lines = decoded_lines(path, file, clean_of(log))
        _, first = next(lines)
        header: Header = first
        wrong = header_problem(header)
        if wrong:
            raise ImportFileError(str(path), 1, wrong)
        if rename is not None and len(header.runs) != 1:
            raise ImportFileError(str(path), 1, f"--as needs a file with one run, this one has {len(header.runs)}")
        check, number = _Check(log, header, rename), 1
        for number, line in lines:
            problem = check.problem(line)
            if problem:
                raise ImportFileError(str(path), number, problem)
        if problem := check.end_problem():
            raise ImportFileError(str(path), number, problem)
    return header


class _Check:
    """What must hold from line to line."""

    def __init__(self, log: Log | None, header: Header, rename: str | None) -> None:
        """``header`` names the runs and branches that may come."""
        self._log, self._rename = log, rename
        self._branches = {(run.run, b.branch): b for run in header.runs for b in run.branches}
        self._bases = {run.run: BasesCheck(run) for run in header.runs}
        self._no_bases = BasesCheck(None)
        self._seen: set[int] = set()
        self._runs: list[str | None] = []
        self._present: Present | None = None
        if log is not None:
            for (run, _), branch in self._branches.items():
                is_here(log.reader.query, rename or run, branch)

    def problem(self, line: EventLine) -> str:
        """Return what is wrong with a line; nothing when it is right.

        Raises:
            RunConflictError: the log has other events under that name.
        """
        if line.run is not None and (line.run, line.branch) not in self._branches:
            return f"branch {line.run}/{line.branch} is not in the header"
        if collect_refs(line.payload):
            return "its payload refers to contents by hash: an export has them in place"
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
        wrong = self._bases.get(line.run or "", self._no_bases).problem(line)
        self._seen.add(mark)
        if not wrong and self._present is not None:
            self._present.has(line)
        return wrong

    def end_problem(self) -> str:
        """Return what is missing at the end of the file."""
        return next((wrong for check in self._bases.values() if (wrong := check.end_problem())), "")


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
        ids = self._ids.setdefault(line.branch, own_ids(self._reader.query, self._run, line.branch))
        found = next(ids, None)
        if found is not None and found != line.event_id:
            raise RunConflictError(self._run)
        return found is not None


def clean_of(log: Log | None) -> Callable[[str], str]:
    """Return what takes secrets out of a name."""
    return str if log is None else log.writer.encoder.text


def _clean_names(header: Header, clean: Callable[[str], str]) -> dict[str | None, str]:
    """Take secrets out of the names of runs and branches; returns the names that changed, with what they became."""
    known = {name: clean(name) for run in header.runs for name in (run.run, *(b.branch for b in run.branches))}
    changed: dict[str | None, str] = {name: other for name, other in known.items() if name != other}
    for run in header.runs if changed else ():
        run.run = changed.get(run.run, run.run)
        for branch in run.branches:
            branch.branch = changed.get(branch.branch, branch.branch)
            branch.parent = changed.get(branch.parent, branch.parent)
    return changed


def _rename(line: EventLine, changed: dict[str | None, str]) -> None:
    """Let a line speak of its run and branches as the header does."""
    line.run, line.branch = changed.get(line.run, line.run), changed.get(line.branch, line.branch)
    line.retained_for = [changed.get(name, name) for name in line.retained_for]


def decoded_lines(path: Path, file: BinaryIO, clean: Callable[[str], str]) -> Iterator[tuple[int, Any]]:
    """Yield line numbers with the header, then the events; names of runs and branches went through ``clean``, once.

    Once, because an import learns secrets as it goes: a run must not change its name on the way.

    Raises:
        ImportFileError: a line cannot be read.
    """
    kinds: list[Any] = [msgspec.json.Decoder(Header), msgspec.json.Decoder(EventLine)]
    number, changed = 0, dict[str | None, str]()
    for number, text in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX + 1), b""), 1):
        try:
            if len(text) > LINE_BYTES_MAX:
                raise ImportFileError(str(path), number, f"longer than {LINE_BYTES_MAX} bytes")
            if nests_too_deep(text, DEPTH_MAX):
                raise ImportFileError(str(path), number, f"nests deeper than {DEPTH_MAX}")
            line = kinds[number > 1].decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ImportFileError(str(path), number, str(error)) from error
        if number == 1 and (line.format != FORMAT or line.version not in (VERSION, VERSION_OF_BASES)):
            known = f"{FORMAT} version {VERSION} or {VERSION_OF_BASES}"
            raise ImportFileError(str(path), 1, f"{line.format} version {line.version}, not {known}")
        if number == 1:
            changed = _clean_names(line, clean)
        elif changed:
            _rename(line, changed)
        yield number, line
    if number == 0:
        raise ImportFileError(str(path), 1, "the file is empty")
