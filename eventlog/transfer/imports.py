"""Append the runs of a file of lines to a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

import msgspec

from eventlog.append import Appender
from eventlog.capture.secrets import environment_secrets
from eventlog.log import Log
from eventlog.recode import Recoder
from eventlog.record import MAIN_BRANCH, NewEvent, NewExecution
from eventlog.transfer.check import Present, check_file, clean_of, decoded_lines
from eventlog.transfer.lines import EventLine, Header, RunLine, opens_execution, status_after
from eventlog.transfer.settle import Branches


class Imported(msgspec.Struct, frozen=True):
    """What became of one run."""

    run: str | None
    """``None``: events of no run."""
    events: int
    """Events of it in the file."""
    new: int
    """Events that were appended; the others were there."""


def import_file(
    log: Log, path: Path, *, rename: str | None = None, on_event: Callable[[], None] = lambda: None
) -> list[Imported]:
    """Append what a file has and the log has not, each run in one transaction, and return what became of it.

    The whole file is checked first. ``rename`` is the new name of the file's only run. Known
    secrets of this process are taken out as at capture.

    Raises:
        ImportFileError: a line is wrong; nothing was imported.
        RunConflictError: the log has another run of that name; nothing was imported.
        AppendError: the file of the log could not be written; the run that was under way is not in it.
    """
    log.writer.encoder.redactor.learn_all(environment_secrets())
    header = check_file(log, path, rename=rename)
    done: list[Imported] = []
    with path.open("rb") as file:
        lines = decoded_lines(path, file, clean_of(log))
        next(lines)
        for run, group in groupby((line for _, line in lines), key=lambda line: line.run):
            done.append(_import_run(log, _run_named(header, run), rename, _Counted(group, on_event)))
    with_events = {result.run for result in done}
    empty = [line for line in header.runs if (rename or line.run) not in with_events]
    return done + [_import_run(log, line, rename, _Counted((), on_event)) for line in empty]


class _Counted:
    """Counts what passes."""

    def __init__(self, lines: Iterable[EventLine], on_event: Callable[[], None]) -> None:
        """Nothing passed yet."""
        self._lines, self._on_event, self.count = lines, on_event, 0

    def __iter__(self) -> Iterator[EventLine]:
        """Yield each line."""
        for line in self._lines:
            self.count += 1
            self._on_event()
            yield line


def _run_named(header: Header, run: str | None) -> RunLine | None:
    """Return the header's word on a run; ``None`` for the events of none."""
    return next((line for line in header.runs if line.run == run), None)


def _import_run(log: Log, run: RunLine | None, rename: str | None, lines: _Counted) -> Imported:
    """Append the events of one run in one transaction; snapshots are made of it as if it had been captured."""
    name = None if run is None else rename or run.run
    recoder = Recoder(log.writer.encoder.redactor, log.writer.encoder.index)
    present = Present(log.reader, name)
    branches: set[str] = set()

    def append(appender: Appender) -> int:
        return appender.write_all(_noted(branches, _new_events(appender, recoder, present, (name, run), lines)))

    try:
        new: int = log.writer.pipeline.run_exclusively(append)
    except BaseException:
        recoder.index.clear()  # bodies that were to be stored are gone
        raise
    if name is not None:
        for branch in branches:
            log.writer.snapshots.imported(name, branch)
    return Imported(name, lines.count, new)


def _noted(branches: set[str], events: Iterable[NewEvent]) -> Iterator[NewEvent]:
    """Yield events and take note of their branches."""
    for event in events:
        branches.add(event.branch)
        yield event


def _new_events(
    appender: Appender,
    recoder: Recoder,
    present: Present,
    target: tuple[str | None, RunLine | None],
    lines: Iterable[EventLine],
) -> Iterator[NewEvent]:
    """Yield the events a log has not; the run and its branches are made before their first events."""
    name, run = target
    branches: Branches | None = None
    if name is not None and run is not None:
        _make_run(appender, name, run.attribution)
        branches = Branches(appender, recoder, name, run)
    for line in lines:
        if branches is not None:
            branches.before(line)
        if not present.has(line):
            yield _new_event(recoder, line, name)
        if branches is not None:
            branches.after(line)
    if branches is not None:
        branches.finish()


def _make_run(appender: Appender, run: str, attribution: str) -> None:
    """Make a run that nobody has open, unless it is there; part of the transaction under way."""
    now = time.time_ns()
    sql = "INSERT INTO runs (name, created_ns, attribution) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    appender.db.execute(sql, (run, now, attribution))
    sql = "INSERT INTO branches (run, name, created_ns) SELECT id, ?, ? FROM runs WHERE name = ? ON CONFLICT DO NOTHING"
    appender.db.execute(sql, (MAIN_BRANCH, now, run))


def _new_event(recoder: Recoder, line: EventLine, run: str | None) -> NewEvent:
    """Return a line as an event to append, encoded anew."""
    encoded = recoder.encode_again(line.type, line.payload)
    encoded.publish()
    text, path = recoder.text, _labels(recoder, line.path)
    status = status_after(line)
    return NewEvent(
        type=text(line.type), type_class=text(line.type_class), event_id=line.event_id, at_ns=line.at_ns,
        payload=encoded.payload, contents=encoded.contents, flags=encoded.flags | line.flags,
        run=run or "", branch=line.branch,
        parent_event_id=line.parent_event_id, previous_event_id=line.previous_event_id,
        triggered_by_event_id=line.triggered_by_event_id, started_event_id=line.started_event_id,
        emission_sequence=line.emission_sequence, path=path,
        task=None if line.task_id is None else (text(line.task_id), text(line.task_name or "")),
        agent=None if line.agent_id is None else (text(line.agent_id), text(line.agent_role or "")),
        opens=_opened(recoder, line), closes=None if status is None else (path, status),
    )  # fmt: skip


def _opened(recoder: Recoder, line: EventLine) -> NewExecution | None:
    """Return what an event tells the index of executions."""
    facts = line.execution
    if facts is None or not opens_execution(line):
        return None
    parent = _labels(recoder, facts.parent) if facts.parent else None
    return NewExecution(kind=facts.kind, name=recoder.text(facts.name), key=facts.key,
                        inputs_hash=facts.inputs_hash, parent=parent)  # fmt: skip


def _labels(recoder: Recoder, path: str) -> tuple[str, ...]:
    """Return a path as the labels it is made of."""
    return tuple(recoder.text(label) for label in path.split("/")[1:])
