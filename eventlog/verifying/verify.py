"""Check a log: one pass over everything, and the report."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from eventlog.chain import Chain
from eventlog.chain_key import PLAIN_CHAIN, VARIABLE, chain_of_environment, fits, stored_check
from eventlog.digests import COLUMNS, BrokenRowError, Row, digest_after, facts_of
from eventlog.errors import ChainKeyError, EventLogError, RunNotFoundError
from eventlog.read import Reader
from eventlog.schema import read_lock, stored_objects
from eventlog.seal import PLAIN, CipherKey, Seal, cipher_key, open_seal
from eventlog.verifying.anchors import Anchors
from eventlog.verifying.contents import ContentCheck
from eventlog.verifying.events import EventCheck
from eventlog.verifying.heads import Entry, check_head, head_of, parse_head
from eventlog.verifying.opening import open_for_check
from eventlog.verifying.report import NOWHERE, Findings, VerifyReport
from eventlog.verifying.snapshots import SnapshotCheck
from eventlog.verifying.structure import StructureCheck
from eventlog.verifying.subject import Branch, Subject

TRIES_MAX = 3
"""A compaction at the same time takes away what was being looked at: then everything is looked at again."""
FILE_LINES_MAX = 20
_MOVED = "SELECT total(base_seq), (SELECT value FROM meta WHERE key = 'collections') FROM branches"
_FIRST = f"SELECT {COLUMNS} FROM events ORDER BY seq LIMIT 1"


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be checked, and how."""

    deep: bool = False
    """Also fold every stored state again, decode every payload, and let SQLite compare its indexes."""
    head: str | None = None
    """What ``VerifyReport.head`` was once, kept elsewhere."""
    run: str | None = None
    """Only this run."""


WHOLE = Wish()


def verify_log(
    path: Path,
    wish: Wish = WHOLE,
    *,
    chain: Chain | None = None,
    key: CipherKey | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> VerifyReport:
    """Return what a check of the log at ``path`` found; the file is only read. ``chain``: instead of EVENTLOG_KEY's.

    ``key``: what it is encrypted with; ``None`` means that of the environment.

    Raises:
        LogNotFoundError, NotAnEventLogError, FormatTooNewError: there is no log that could be damaged.
        ChainKeyError: EVENTLOG_KEY is another key than the one it was made with.
        RunNotFoundError, HeadFormatError: what is to be checked is not there.
    """
    entries = parse_head(wish.head) if wish.head is not None else []
    chain = chain_of_environment(str(path)) if chain is None else chain
    key = cipher_key(None, str(path)) if key is None else key
    for _ in range(TRIES_MAX - 1):
        report, moved = _check(path, wish, (chain, key), entries, on_step)
        if report.ok or not moved:
            return report
    return _check(path, wish, (chain, key), entries, on_step)[0]


def _check(
    path: Path, wish: Wish, keys: tuple[Chain, CipherKey], entries: list[Entry], on_step: Callable[[], None]
) -> tuple[VerifyReport, bool]:
    """Return one report, and whether a compaction was at work meanwhile."""
    findings = Findings()
    report = VerifyReport(path=str(path), deep=wish.deep, run=wish.run)
    db = open_for_check(path, findings)
    if db is None:
        return _finished(report, findings, None), False
    with closing(db):
        before = _moved(db)
        _ask_sqlite(db, findings, deep=wish.deep)
        usable = _usable_chain(db, str(path), keys[0], report, findings)
        subject = Subject(db, usable, findings, on_step, _usable_seal(db, str(path), keys[1], findings))
        _Pass(subject, wish, report, keys[1]).check(path, entries)
        return _finished(report, findings, subject), before != _moved(db)


class _Pass:
    """One pass over a log."""

    def __init__(self, subject: Subject, wish: Wish, report: VerifyReport, key: CipherKey) -> None:
        """What it finds goes to the subject's findings and into the report."""
        self._subject, self._wish, self._report, self._key = subject, wish, report, key
        self._contents = ContentCheck(subject)
        self._events = EventCheck(subject, self._contents, deep=wish.deep)

    def check(self, path: Path, entries: list[Entry]) -> None:
        """Check events first: what they do not reach is an orphan."""
        branches = self._branches()
        if self._wish.run is None:
            self._events.check_all()
        for branch in branches if self._wish.run is not None else ():
            self._events.check_branch(branch.row)
        self._beside(path, branches)
        self._report.events = self._events.count
        self._report.head = head_of(self._subject, self._events.heads)
        if self._wish.head is not None:
            check_head(self._subject, entries)

    def _branches(self) -> list[Branch]:
        """Return the branches to check.

        Raises:
            RunNotFoundError: there is no such run.
        """
        wanted, subject = self._wish.run, self._subject
        if wanted is None:
            return list(subject.branches.values())
        row = next((row for row, name in subject.runs.items() if row and name == wanted), None)
        if row is None:
            raise RunNotFoundError(wanted)
        return [branch for branch in subject.branches.values() if branch.run == row]

    def _beside(self, path: Path, branches: list[Branch]) -> None:
        """Check what stands beside the events."""
        structure = StructureCheck(self._subject, self._contents)
        for branch in branches:
            structure.check_branch(branch)
        reader = self._reader(path) if self._wish.deep else None
        try:
            snapshots = SnapshotCheck(self._subject, self._contents, reader)
            for branch in branches:
                snapshots.check_branch(branch)
        finally:
            if reader is not None:
                reader.close()
        self._report.snapshots, self._report.contents = snapshots.count, self._contents.count
        if self._wish.run is None:
            structure.check_rest()
            self._contents.check_rest()

    def _reader(self, path: Path) -> Reader | None:
        """Return what folds events again."""
        try:
            return Reader(path, self._key)
        except EventLogError as error:
            self._subject.findings.note(f"stored states were not folded again: {error}")
            return None


def _ask_sqlite(db: sqlite3.Connection, findings: Findings, *, deep: bool) -> None:
    """Take down what SQLite itself says about the file."""
    try:
        for (line,) in db.execute(f"PRAGMA {'integrity_check' if deep else 'quick_check'}({FILE_LINES_MAX})"):
            if line != "ok":
                findings.add("file", f"SQLite: {' '.join(str(line).split())}")
    except sqlite3.Error as error:
        findings.add("file", f"SQLite cannot check it: {error}")


def _moved(db: sqlite3.Connection) -> object:
    """Return what changes with every compaction."""
    try:
        return db.execute(_MOVED).fetchone()
    except sqlite3.Error:
        return None


# -- the keys ---------------------------------------------------------------------------------------


def _usable_seal(db: sqlite3.Connection, path: str, key: CipherKey, findings: Findings) -> Seal | None:
    """Return what opens the values; ``None`` when the log is encrypted and the key is not here.

    Raises:
        CipherKeyError: it is encrypted with another key.
        NotEncryptedError: it is not, and there is a key.
    """
    try:
        lock = read_lock(db, stored_objects(db))
    except sqlite3.Error as error:
        findings.add("file", f"whether it is encrypted cannot be read: {error}")
        return PLAIN
    if lock and not key:
        findings.note(
            "it is encrypted, and its key is not here: the chains were checked, what is sealed was not opened"
        )
        return None
    return open_seal(lock, key, path)


def _usable_chain(
    db: sqlite3.Connection, path: str, chain: Chain, report: VerifyReport, findings: Findings
) -> Chain | None:
    """Return what computes the digests of a log; ``None`` when they have a key that is not here.

    Raises:
        ChainKeyError: the key is another one.
    """
    try:
        report.keyed = stored_check(db) is not None
        report.key_checked = report.keyed and chain.is_keyed
        if not report.keyed:
            if chain.is_keyed and db.execute("SELECT 1 FROM events LIMIT 1").fetchone():
                what = f"its chain has no key, and {VARIABLE} is set: it was made without one, or somebody replaced it"
                findings.add("key", what, readable=f"unset {VARIABLE} to check it as it is")
            return PLAIN_CHAIN
        if not chain.is_keyed or fits(db, chain):
            return chain if chain.is_keyed else None
    except sqlite3.Error as error:
        findings.add("page", f"whether its chain has a key cannot be read: {error}")
        return chain if chain.is_keyed else PLAIN_CHAIN
    if not _proves_first(db, chain):
        raise ChainKeyError(path, f"{VARIABLE} is not the key its chain was made with")
    findings.add("key", "the row of meta that tells a wrong key is damaged; the events prove that the key is right")
    return chain


def _proves_first(db: sqlite3.Connection, chain: Chain) -> bool:
    """Whether the first event there is was made with this key."""
    subject = Subject(db, chain, Findings(), lambda: None)
    try:
        found = db.execute(_FIRST).fetchone()
        row = Row._make(found) if found is not None else None
        previous = Anchors(subject).of(row.branch) if row is not None else None
        if row is None or not isinstance(previous, bytes):
            return False
        return bool(digest_after(chain, previous, row, facts_of(row, subject.interned)) == row.digest)
    except (sqlite3.Error, BrokenRowError):
        return False


# -- the report ---------------------------------------------------------------------------------------


def _finished(report: VerifyReport, findings: Findings, subject: Subject | None) -> VerifyReport:
    """Return the report with what was found."""
    report.findings, report.more, report.ok = findings.in_order(), findings.more, findings.ok
    report.first_bad_seq = min(findings.first_bad.values(), default=None)
    report.notes = findings.notes
    if subject is None:
        report.readable = [finding.readable for finding in report.findings if finding.readable]
    elif not report.ok:
        report.readable = _readable(findings, subject)
    return report


def _readable(findings: Findings, subject: Subject) -> list[str]:
    """Return what is sound all the same."""
    everywhere = findings.first_bad.get(NOWHERE)
    damaged = {place: seq for place, seq in findings.first_bad.items() if place != NOWHERE}
    if everywhere is not None:
        damaged = {place: seq for place, seq in damaged.items() if seq < everywhere}
    lines = [f"{place}: what stands before seq {seq}" for place, seq in sorted(damaged.items(), key=lambda d: d[1])]
    others = len([row for row in subject.branches if row and subject.place(row) not in damaged])
    if everywhere is not None:
        lines.append(f"everything else: what stands before seq {everywhere}")
    elif others and damaged:
        lines.append(f"{others} other branch{'es hold' if others > 1 else ' holds'} together")
    return lines
