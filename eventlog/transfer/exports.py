"""Write a log's runs as lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from eventlog.errors import CompactedError
from eventlog.lineage import SEQ_MAX
from eventlog.log import Log
from eventlog.read import Reader
from eventlog.record import MAIN_BRANCH, BranchInfo, Event, ExecutionInfo, StoredEvent
from eventlog.transfer.lines import (
    FORMAT,
    VERSION,
    VERSION_OF_BASES,
    BranchLine,
    EventLine,
    ExecutionLine,
    Header,
    RunLine,
    opens_execution,
)
from eventlog.transfer.parts import Part, base_line, events_of, part_of, refuse_moved

BATCH_EVENTS = 50
_INHERITED = "SELECT path FROM executions WHERE branch = ? AND started_seq <= ?"


def export_lines(
    log: Log, runs: Iterable[str] | None, *, branch: str | None = None, to: str | int | None = None
) -> Iterator[bytes]:
    """Yield the lines of an export: of all there is (``None``), of runs, or of one run's lineage up to a cursor.

    Memory stays constant.

    Raises:
        NotFoundError: no such run, branch or cursor; before the first line.
        CompactedError: the cursor lies before the base; before the first line.
        BaseMovedError: a compaction moved a base meanwhile; what was yielded is not complete, begin again.
    """
    reader = log.reader
    names = [info.run for info in log.runs()] if runs is None else list(runs)
    parts = {run: _chosen(log, run, branch, to) for run in names}
    is_based = any(part.bases for part in parts.values())
    header = Header(FORMAT, VERSION_OF_BASES if is_based else VERSION, [_run_line(log, *p) for p in parts.items()])
    encode = msgspec.json.Encoder().encode
    yield encode(header) + b"\n"
    if runs is None:
        parts[""] = Part([(0, 0, SEQ_MAX)])
    for part in parts.values():
        for line in _event_lines(reader, part):
            yield encode(line) + b"\n"
        refuse_moved(reader, part)


def _chosen(log: Log, run: str, branch: str | None, to: str | int | None) -> Part:
    """Return what of a run to export: every branch, or one lineage."""
    reader = log.reader
    if branch is not None or to is not None:
        cursor = log.cursor(to, run, branch or MAIN_BRANCH)
        return part_of(reader, reader.lineage(reader.branch_id(run, cursor.branch), cursor.seq))
    return part_of(reader, [(reader.branch_id(run, b.branch), b.fork_seq or 0, SEQ_MAX) for b in log.branches(run)])


def _run_line(log: Log, run: str, part: Part) -> RunLine:
    """Return a run and its branches for the header."""
    reader = log.reader
    attribution = next(info.attribution for info in log.runs() if info.run == run)
    lines = [_branch_line(reader, info, part) for info in log.branches(run) if info.branch in part.names]
    return RunLine(run, attribution, lines)


def _branch_line(reader: Reader, info: BranchInfo, part: Part) -> BranchLine:
    """Return a branch for the header."""
    line = BranchLine(info.branch)
    if info.parent in part.names:
        fork_seq = info.fork_seq or 0
        line.parent, line.fork_event_id = info.parent, _fork_event(reader, info.run, info.parent or "", fork_seq)
        line.reopened = _reopened(reader, info, fork_seq)
    base = part.bases.get(info.branch)
    if base is not None:
        line.base, line.fork_seq = base_line(reader, base), None if line.parent is None else info.fork_seq
    return line


def _reopened(reader: Reader, info: BranchInfo, fork_seq: int) -> list[str]:
    """Return what had ended on the parent and has a row of its own on the branch all the same."""
    row, parent = (reader.branch_id(info.run, name) for name in (info.branch, info.parent or ""))
    own = {reader.path(path) for (path,) in reader.query(_INHERITED, (row, fork_seq))}
    ended = [e.path for e in reader.executions(parent, fork_seq) if e.status != "running"]
    return [path for path in ended if path in own]


def _fork_event(reader: Reader, run: str, parent: str, fork_seq: int) -> str | None:
    """Return the id of the last event a branch inherits; ``None`` when that is gone."""
    row = reader.branch_id(run, parent)
    try:
        event = reader.at(reader.head(row, fork_seq))
    except CompactedError:
        event = None  # the branch has a base of its own
    return None if event is None else event.event_id


def _event_lines(reader: Reader, part: Part) -> Iterator[EventLine]:
    """Yield the events of several branches of a run in the order of the log."""
    rows = [row for row, _, _ in part.segments]
    executions = {(reader.branch_name(row)[1], info.path): info for row in rows for info in reader.executions(row)}
    merged = events_of(reader, part)
    while batch := list(islice(merged, BATCH_EVENTS)):
        classes = _type_classes(reader, [event for event, _ in batch])
        events = reader.decoded([event for event, _ in batch])
        for event, (_, retained_for) in zip(events, batch, strict=True):
            line = _event_line(event, classes[event.seq], retained_for)
            if line.run is not None and line.branch not in part.names:
                line.branch = retained_for[0]  # of an ancestor that is not exported
            yield _with_execution(line, executions)


def _type_classes(reader: Reader, batch: list[StoredEvent]) -> dict[int, str]:
    """Return seq → the class each event was an instance of."""
    marks = ",".join("?" * len(batch))
    sql = f"SELECT e.seq, n.label FROM events AS e JOIN names AS n ON n.id = e.type WHERE e.seq IN ({marks})"
    return dict(reader.query(sql, [event.seq for event in batch]))


def _event_line(event: Event, type_class: str, retained_for: list[str]) -> EventLine:
    """Return one event as a line."""
    header = {name: getattr(event, name) for name in event.__struct_fields__}
    return EventLine(**header, type_class=type_class, retained_for=retained_for)


def _with_execution(line: EventLine, executions: dict[tuple[str, str], ExecutionInfo]) -> EventLine:
    """Return a line with what the index keeps of the execution that it opens."""
    found = executions.get((line.branch, line.path)) if opens_execution(line) else None
    if found is not None:
        line.execution = ExecutionLine(found.kind, found.name, found.key, found.inputs_hash, found.parent)
    return line
