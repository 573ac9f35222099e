"""Forget a value or the payload of an event: find, rewrite in one transaction, collect, scrub."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from eventlog.append import Appender
from eventlog.compaction.collect import collect
from eventlog.compaction.shrink import bytes_on_disk
from eventlog.compaction.sweep import unguarded
from eventlog.forgetting.apply import apply_changes, drop_states
from eventlog.forgetting.blank import check_event, contents_of, empty_event, is_empty
from eventlog.forgetting.changes import Changes
from eventlog.forgetting.find import find_changes
from eventlog.forgetting.needle import Needle, check_value
from eventlog.forgetting.report import ForgetReport
from eventlog.forgetting.scrub import overwrite_freed, scrub, search_bytes
from eventlog.forgetting.stale import states_from
from eventlog.forgetting.stored import Query
from eventlog.pipeline import Pipeline
from eventlog.read import Reader

_TYPES = "SELECT name FROM names WHERE kind = 'type' AND (name LIKE 'eventlog.%' OR name NOT LIKE '%.%')"
_LOOKUPS_MAX = 500


def forget_value(reader: Reader, pipeline: Pipeline | None, value: str, learn: Callable[[], object]) -> ForgetReport:
    """Return where a value stood; it is gone from there unless there is no ``pipeline``.

    ``learn`` has this process record it no more.

    Raises:
        ForgetError: it cannot be taken out; nothing was changed.
        AppendError: the file cannot be written at the moment; nothing was changed.
    """
    check_value(value, [name for (name,) in reader.query(_TYPES)])
    needle = Needle(value)
    report = _begin(reader, pipeline)
    if pipeline is None:
        _count(report, find_changes(reader.query, reader.seal, needle))
        return report

    def rewrite(appender: Appender) -> None:
        overwrite_freed(appender.db)
        with unguarded(appender.db):
            changes = find_changes(_query_of(appender), appender.seal, needle)
            apply_changes(appender, changes, time.time_ns())
            appender.begin_collection()
        appender.forget()
        _count(report, changes)

    learn()
    pipeline.run_exclusively(rewrite)
    reader.forget()
    report.unfinished += scrub(pipeline)
    report.unfinished += search_bytes(reader.file, needle, len(value))
    report.bytes_after = bytes_on_disk(reader.file)
    return report


def forget_event(reader: Reader, pipeline: Pipeline | None, seq: int) -> ForgetReport:
    """Return what became of an event; only what would, without a ``pipeline``.

    Raises:
        ForgetError: a base was made of it; nothing was changed.
        AppendError: the file cannot be written at the moment; nothing was changed.
    """
    report = _begin(reader, pipeline)
    report.event = seq
    if pipeline is None:
        run, payload = check_event(reader.query, reader.seal, seq)
        report.events = 0 if is_empty(payload) else 1
        report.contents = len(contents_of(reader.query, reader.seal, payload))
        report.snapshots = len(states_from(reader.query, {run: seq}))
        return report
    used: list[str] = []

    def rewrite(appender: Appender) -> None:
        query = _query_of(appender)
        overwrite_freed(appender.db)
        with unguarded(appender.db):
            run, payload = check_event(query, appender.seal, seq)
            used.extend(contents_of(query, appender.seal, payload))
            states = states_from(query, {run: seq})
            empty_event(appender, seq, payload)
            drop_states(appender.db, states)
            appender.begin_collection()
        report.events, report.snapshots = 1, len(states)

    pipeline.run_exclusively(rewrite)
    reader.forget()
    collect(pipeline, reader)
    report.contents_kept = _still_there(reader, used)
    report.contents = len(used) - report.contents_kept
    report.unfinished += scrub(pipeline)
    report.bytes_after = bytes_on_disk(reader.file)
    return report


def _begin(reader: Reader, pipeline: Pipeline | None) -> ForgetReport:
    """Return a report of nothing."""
    size = bytes_on_disk(reader.file)
    return ForgetReport(path=str(reader.file), dry_run=pipeline is None, bytes_before=size, bytes_after=size)


def _query_of(appender: Appender) -> Query:
    """Return a query that sees the transaction under way."""

    def query(sql: str, args: Sequence[Any]) -> list[Any]:
        return appender.db.execute(sql, args).fetchall()

    return query


def _count(report: ForgetReport, changes: Changes) -> None:
    """Take down how many rows held a value."""
    report.events, report.snapshots = len(changes.touched), len(changes.snapshots)
    report.contents = sum(not fits for *_, fits in changes.contents.values())
    report.names = len(changes.names) + len(changes.paths) + len(changes.executions)
    report.bases, report.documents = len(changes.bases), len(changes.marks)
    report.unfinished = list(changes.fixed)


def _still_there(reader: Reader, hashes: list[str]) -> int:
    """Return how many contents of some were not collected."""
    found = 0
    for start in range(0, len(hashes), _LOOKUPS_MAX):
        chunk = hashes[start : start + _LOOKUPS_MAX]
        sql = f"SELECT count(*) FROM contents WHERE hash IN ({','.join('?' * len(chunk))})"
        found += int(reader.query(sql, chunk)[0][0])
    return found
