"""Save a damaged log into a new one: the steps, and the report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from eventlog.chain_key import chain_of_environment
from eventlog.errors import EventLogError, LogNotFoundError, NotAnEventLogError
from eventlog.newfile import new_file
from eventlog.repair.bases import judge_bases
from eventlog.repair.chains import ChainJudge, in_order
from eventlog.repair.collect import Collected, collect
from eventlog.repair.complete import complete, doubtful_names, fill_names
from eventlog.repair.contents import judge_contents, stand_in, want
from eventlog.repair.copy import copy_to
from eventlog.repair.executions import tell_again
from eventlog.repair.gaps import find_lost, place_markers
from eventlog.repair.keys import choose_chain, choose_seal
from eventlog.repair.links import Links
from eventlog.repair.report import RepairReport
from eventlog.repair.summary import summarise
from eventlog.repair.work import Work
from eventlog.seal import BASE, EVENT, CipherKey, cipher_key
from eventlog.transactions import translated
from eventlog.verifying.opening import is_marked
from eventlog.verifying.verify import verify_log

Progress = Callable[[str, int], None]
"""Gets what is being done, and how much more of it was done."""


def no_progress(_what: str, _count: int) -> None:
    """Tell nobody."""


class RepairError(EventLogError):
    """Nothing could be saved, or what was saved does not hold together."""

    hint = "the damaged log was left as it is; look for an older copy: eventlog backup makes them"


def repair_log(
    path: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    key: str | bytes | None = None,
    progress: Progress = no_progress,
) -> RepairReport:
    """Save every verifiable event of the log at ``path`` into a new log at ``into``, and return what was lost.

    The damaged file is only read; no program may write to it meanwhile, this one included. The new log keeps seqs,
    digests, runs, branches and forks, holds together, and can be gone on with. ``key``: what the log is encrypted with,
    and so the new one; ``None`` means that of the environment.

    Raises:
        LogNotFoundError, NotAnEventLogError: there is no log that could be repaired.
        ChainKeyError: the chain of the log has a key, and EVENTLOG_KEY is another one or none.
        CipherKeyError: the log is encrypted, and the key is missing or wrong; or it is not, and there is one.
        LogUnwritableError: there is something at ``into``, or no space.
        RepairError: nothing could be saved.
    """
    source, target = Path(path), Path(into)
    if not source.exists():
        raise LogNotFoundError(str(source))
    cipher = cipher_key(key, str(source))
    with translated(source):
        marked = source.is_file() and is_marked(source)
    if not marked:
        raise NotAnEventLogError(str(source), "neither a log nor what is left of one")
    with new_file(target) as part:
        work = Work()
        try:
            report = _repair(source, part, work, cipher, progress)
        finally:
            work.close()
    report.into = str(target)
    if report.verified is not None:
        report.verified.path = str(target)
    return report


def _repair(source: Path, part: Path, work: Work, key: CipherKey, progress: Progress) -> RepairReport:
    """Do one step after the other."""
    now_ns = time.time_ns()
    with translated(source):
        found = collect(source, work, lambda pages: progress("reading pages", pages))
    if not work.one("SELECT count(*) FROM events") and not work.one("SELECT count(*) FROM runs"):
        raise RepairError(f"{source}: none of its rows can be read")
    fill_names(work)
    seal = choose_seal(work, source, key)
    links = Links(work, choose_chain(work, source, chain_of_environment(str(source))), seal)
    keeps_unproven = not links.chain.is_keyed
    complete(links)
    progress("checking large values", 1)
    judge_contents(links)
    bases = judge_bases(links, keeps_unproven=keeps_unproven)
    judge = ChainJudge(links, keeps_unproven=keeps_unproven)
    for branch in in_order(links):
        progress("checking chains", 1)
        judge.judge(branch)
    find_lost(links, judge.breaks)
    place_markers(work, judge.breaks, now_ns)
    values = _want_and_replace(links)
    kickoffs = tell_again(links)
    copy_to(part, links, key, now_ns, lambda: progress("writing events", 1))
    report = summarise(links, bases, values)
    report.path = str(source)
    report.notes += _notes(links, found, kickoffs)
    report.verified = verify_log(part, chain=links.chain, key=key, on_step=lambda: progress("verifying", 1))
    _require_sound(report)
    return report


def _want_and_replace(links: Links) -> list[tuple[str, int | None]]:
    """Find out which large values are needed, and replace those that are lost; returns them."""
    for seq, payload in links.referring():
        want(links, payload, (EVENT, seq), seq)
    for seq, state, projections in links.work.db.execute("SELECT seq, state, projections FROM bases").fetchall():
        want(links, state, (BASE, "state", seq), seq)
        want(links, projections, (BASE, "projections", seq), seq)
    return stand_in(links)


def _notes(links: Links, found: Collected, kickoffs: int) -> list[str]:
    """Return what else a person should know."""
    notes = doubtful_names(links.work)
    if found.missing_pages:
        notes.append(f"the file ends {found.missing_pages} pages early: what stood there is not known")
    if found.wal:
        notes.append(
            f"write-ahead log: {found.wal}; what stands behind that was saved as well, where the chain proves it"
        )
    if kickoffs:
        notes.append(f"{kickoffs} kickoffs were lost to the index and told again by their events")
    if not links.chain.is_keyed and not links.work.one("SELECT 1 FROM events WHERE verdict = 'proven'"):
        notes.append("no event could be proven; if the log was made with a key, set EVENTLOG_KEY")
    return notes


def _require_sound(report: RepairReport) -> None:
    """Refuse to give a name to a log that does not hold together."""
    verified = report.verified
    if verified is not None and not verified.ok:
        first = verified.findings[0]
        raise RepairError(f"{report.path}: what could be saved does not hold together ({first.kind}: {first.what})")
