"""Write a log's runs as lines."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from eventlog.log import Log
from eventlog.read import SEQ_MAX, Reader, Segment
from eventlog.record import MAIN_BRANCH, BranchInfo, Event, ExecutionInfo, StoredEvent
from eventlog.transfer.lines import (
    FORMAT,
    VERSION,
    BranchLine,
    EventLine,
    ExecutionLine,
    Header,
    RunLine,
    opens_execution,
)

BATCH_EVENTS = 50
_INHERITED = "SELECT path FROM executions WHERE branch = ? AND started_seq <= ?"


def export_lines(
    log: Log, runs: Iterable[str] | None, *, branch: str | None = None, to: str | int | None = None
) -> Iterator[bytes]:
    """Yield the lines of an export: of all there is (``None``), of runs, or of one run's lineage up to a cursor.

    Memory stays constant.

    Raises:
        NotFoundError: no such run, branch or cursor; before the first line.
    """
    reader = log.reader
    names = [info.run for info in log.runs()] if runs is None else list(runs)
    parts = {run: _segments(log, run, branch, to) for run in names}
    header = Header(FORMAT, VERSION, [_run_line(log, run, segments) for run, segments in parts.items()])
    encode = msgspec.json.Encoder().encode
    yield encode(header) + b"\n"
    if runs is None:
        parts[""] = [(0, 0, SEQ_MAX)]
    for segments in parts.values():
        for line in _event_lines(reader, segments):
            yield encode(line) + b"\n"


def _segments(log: Log, run: str, branch: str | None, to: str | int | None) -> list[Segment]:
    """Return the stretches of branches to export: of every branch, or of one lineage."""
    reader = log.reader
    if branch is not None or to is not None:
        cursor = log.cursor(to, run, branch or MAIN_BRANCH)
        return reader.lineage(reader.branch_id(run, cursor.branch), cursor.seq)
    return [(reader.branch_id(run, b.branch), b.fork_seq or 0, SEQ_MAX) for b in log.branches(run)]


def _run_line(log: Log, run: str, segments: list[Segment]) -> RunLine:
    """Return a run and its branches for the header."""
    reader = log.reader
    chosen = {reader.branch_name(row)[1] for row, _, _ in segments}
    attribution = next(info.attribution for info in log.runs() if info.run == run)
    lines = [_branch_line(reader, info) for info in log.branches(run) if info.branch in chosen]
    return RunLine(run, attribution, lines)


def _branch_line(reader: Reader, info: BranchInfo) -> BranchLine:
    """Return a branch for the header."""
    if info.parent is None:
        return BranchLine(info.branch)
    fork_seq = info.fork_seq or 0
    fork_event = _fork_event(reader, info.run, info.parent, fork_seq)
    return BranchLine(info.branch, info.parent, fork_event, _reopened(reader, info, fork_seq))


def _reopened(reader: Reader, info: BranchInfo, fork_seq: int) -> list[str]:
    """Return what had ended on the parent and has a row of its own on the branch all the same."""
    row, parent = (reader.branch_id(info.run, name) for name in (info.branch, info.parent or ""))
    own = {reader.path(path) for (path,) in reader.query(_INHERITED, (row, fork_seq))}
    ended = [e.path for e in reader.executions(parent, fork_seq) if e.status != "running"]
    return [path for path in ended if path in own]


def _fork_event(reader: Reader, run: str, parent: str, fork_seq: int) -> str | None:
    """Return the id of the last event a branch inherits."""
    row = reader.branch_id(run, parent)
    seq = reader.head(row, fork_seq)
    event = reader.at(seq)
    return None if event is None else event.event_id


def _event_lines(reader: Reader, segments: list[Segment]) -> Iterator[EventLine]:
    """Yield the events of several branches of a run in the order of the log."""
    streams = [reader.stored(row, after=low, to=high) for row, low, high in segments]
    executions = {
        (reader.branch_name(row)[1], info.path): info for row, _, _ in segments for info in reader.executions(row)
    }
    merged = heapq.merge(*streams, key=lambda event: event.seq)
    while batch := list(islice(merged, BATCH_EVENTS)):
        classes = _type_classes(reader, batch)
        for event in reader.decoded(batch):
            yield _event_line(event, classes[event.seq], executions)


def _type_classes(reader: Reader, batch: list[StoredEvent]) -> dict[int, str]:
    """Return seq → the class each event was an instance of."""
    marks = ",".join("?" * len(batch))
    sql = f"SELECT e.seq, n.label FROM events AS e JOIN names AS n ON n.id = e.type WHERE e.seq IN ({marks})"
    return dict(reader.query(sql, [event.seq for event in batch]))


def _event_line(event: Event, type_class: str, executions: dict[tuple[str, str], ExecutionInfo]) -> EventLine:
    """Return one event as a line."""
    header = {name: getattr(event, name) for name in event.__struct_fields__}
    line = EventLine(**header, type_class=type_class)
    found = executions.get((event.branch, event.path)) if opens_execution(line) else None
    if found is not None:
        line.execution = ExecutionLine(found.kind, found.name, found.key, found.inputs_hash, found.parent)
    return line
