"""Compact runs: plan, make each base, move it, then clear away what lies below."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from eventlog.append import Appender
from eventlog.compaction.archive import Archive
from eventlog.compaction.collect import collect
from eventlog.compaction.draft import Draft, make_draft
from eventlog.compaction.move import move_base, stage
from eventlog.compaction.plan import BranchPlan, newest_ns, plan_run
from eventlog.compaction.report import BranchCompaction, CompactionReport, count_checkpoints, count_rows
from eventlog.compaction.shrink import bytes_on_disk, empty_wal, free_pages
from eventlog.compaction.sweep import is_unswept, sweep
from eventlog.errors import EventLogError
from eventlog.logger import Logger
from eventlog.pipeline import Pipeline
from eventlog.read import Reader

Progress = Callable[[str, int], None]
"""Gets what is being done, and how much more of it was done."""


def no_progress(_what: str, _count: int) -> None:
    """Tell nobody."""


log = Logger(__name__)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be compacted, and how."""

    max_checkpoints: int
    """Newest checkpoints of each branch that stay reachable."""
    runs: tuple[str, ...]
    older_than_ns: int = 0
    """Only runs whose newest event is at least that old, in nanoseconds."""
    archive: Path | None = None
    keeps_tape: bool = False
    dry_run: bool = False


def compact(pipeline: Pipeline, reader: Reader, wish: Wish, progress: Progress = no_progress) -> CompactionReport:
    """Return what became of the runs. A branch that cannot be cut is left as it is, with the reason.

    Interrupted at any point, the log is whole: what is left to delete is deleted by the next compaction,
    or by whoever opens the log next.

    Raises:
        AppendError: the file cannot be written at the moment.
        LogOpenError: the archive cannot be written.
    """
    events, contents = count_rows(reader)
    report = CompactionReport(path=str(reader.file), dry_run=wish.dry_run, events_before=events,
                              contents_before=contents, bytes_before=bytes_on_disk(reader.file))  # fmt: skip
    plans = [
        plan for run in wish.runs if _is_old(reader, run, wish) for plan in plan_run(reader, run, wish.max_checkpoints)
    ]
    archive = Archive(wish.archive, reader) if wish.archive is not None and plans and not wish.dry_run else None
    try:
        for plan in plans:
            progress("compacting", 1)
            report.branches.append(_cut(pipeline, reader, wish, plan, archive))
    finally:
        if archive is not None:
            report.archive = str(archive.path)
            archive.close()
    if not wish.dry_run:
        clear_away(pipeline, reader, progress)
    report.events_after, report.contents_after = count_rows(reader)
    report.bytes_after = bytes_on_disk(reader.file)
    return report


def clear_away(pipeline: Pipeline, reader: Reader, progress: Progress = no_progress) -> None:
    """Delete what lies below the bases and what nothing refers to any more, and give the space back."""
    if not pipeline.run_exclusively(lambda appender: is_unswept(appender.db)):
        return
    sweep(pipeline, lambda count: progress("deleting events", count))
    collect(pipeline, reader, lambda count: progress("looking for unused contents", count))
    free_pages(pipeline)
    pipeline.run_exclusively(_swept)
    empty_wal(pipeline, reader)


def _swept(appender: Appender) -> None:
    """Take note that nothing is left to delete."""
    appender.db.execute("UPDATE meta SET value = 0 WHERE key = 'unswept'")


def _is_old(reader: Reader, run: str, wish: Wish) -> bool:
    """Whether a run has been quiet for long enough."""
    return not wish.older_than_ns or newest_ns(reader, run) <= time.time_ns() - wish.older_than_ns


def _cut(pipeline: Pipeline, reader: Reader, wish: Wish, plan: BranchPlan, archive: Archive | None) -> BranchCompaction:
    """Give one branch its new base."""
    result = BranchCompaction(run=plan.run, branch=plan.branch, cut=plan.cut, dropped=0, retained=0,
                              checkpoints=count_checkpoints(reader, plan.row, plan.cut))  # fmt: skip
    try:
        chain = pipeline.run_exclusively(lambda appender: appender.chain)
        draft = make_draft(reader, plan, chain, keeps_tape=wish.keeps_tape)
        result.dropped, result.retained = draft.dropped, len(draft.retained)
        if not wish.dry_run:
            _carry_out(pipeline, reader, draft, archive)
    except EventLogError as error:
        log.warning("not_compacted", run=plan.run, branch=plan.branch, error=str(error))
        result.problem = str(error)
    return result


def _carry_out(pipeline: Pipeline, reader: Reader, draft: Draft, archive: Archive | None) -> None:
    """Archive what goes, then move the base."""
    if archive is not None:
        archive.take(draft.plan)
    stage(pipeline, reader, draft)
    pipeline.run_exclusively(lambda appender: move_base(appender, draft))
