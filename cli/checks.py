"""What ``eventlog doctor`` looks at. Nothing here raises: what goes wrong is a finding."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import stat
import sys
from collections import deque
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec

from eventlog import __version__
from eventlog.chain_key import META as CHAIN_KEY
from eventlog.cli.subjects import subject_of
from eventlog.cli.text import count_of
from eventlog.errors import EventLogError
from eventlog.log import Log, open_log
from eventlog.storage import SQLITE_MIN

Verdict = Literal["ok", "warning", "problem"]

CREWAI_TESTED = re.compile(r"1\.15\.(3\d|[4-9]\d|\d{3,})")
"""Versions whose bus and boundaries capture is written for: ``crewai>=1.15.30,<1.16``."""
PYTHON_MIN, PYTHON_END = (3, 10), (3, 14)
NETWORK_FILE_SYSTEMS = frozenset("nfs nfs4 cifs smb smb3 smbfs afs ceph glusterfs fuse.sshfs fuse.s3fs 9p".split())
ERRORS_SHOWN = 3
ERROR_TYPES = ("*_failed", "*_error", "eventlog.execution_aborted")


class Check(msgspec.Struct, frozen=True):
    """One finding."""

    name: str
    verdict: Verdict
    found: str
    hint: str = ""


def check_versions() -> Iterator[Check]:
    """Yield what is installed."""
    good = PYTHON_MIN <= sys.version_info[:2] < PYTHON_END
    yield Check("python", "ok" if good else "problem", platform.python_version(), "" if good else "use 3.10 to 3.13")
    good = sqlite3.sqlite_version_info >= SQLITE_MIN
    yield Check(
        "sqlite", "ok" if good else "problem", sqlite3.sqlite_version, "" if good else "3.38 or newer is needed"
    )
    yield Check("eventlog", "ok", __version__)
    try:
        crewai = version("crewai")
    except PackageNotFoundError:
        yield Check("crewai", "problem", "not installed", "pip install 'crewai>=1.15.30,<1.16'")
        return
    good = CREWAI_TESTED.match(crewai) is not None
    yield Check("crewai", "ok" if good else "problem", crewai, "" if good else "crewai>=1.15.30,<1.16 is supported")


def check_log(path: Path, given: bool) -> Iterator[Check]:
    """Yield what is to say about the file; it is only read."""
    if not path.exists() and not given:
        yield Check(
            "log", "ok", f"there is no {path} yet", "record something: eventlog record SCRIPT, or eventlog demo"
        )
        return
    try:
        with open_log(path, readonly=True) as log:
            yield Check("log", "ok", f"{path}, format {_pragma(log, 'user_version')}")
            yield from _file_checks(log)
            yield from _damage(log)
            yield from _history(log)
    except EventLogError as error:
        yield Check("log", "problem", str(error), error.hint)
    except (sqlite3.Error, OSError) as error:
        yield Check("log", "problem", f"{path}: {error}", "copy it and its -wal neighbour somewhere safe")


def check_capture() -> Iterator[Check]:
    """Yield whether an event is captured here and now."""
    try:
        from eventlog.cli.probe import probe_capture

        result = probe_capture()
    except Exception as error:
        yield Check("capture", "problem", f"{type(error).__name__}: {error}", "CrewAI or the library is broken here")
        return
    if not result.captured:
        yield Check("capture", "problem", f"a test event was lost ({result.last_error or 'no error was told'})")
    elif result.capture_mode != "tap":
        hint = "this CrewAI moved the tap point; events CrewAI does not hand to handlers are missed"
        yield Check("capture", "problem", f"mode {result.capture_mode}", hint)
    else:
        yield Check("capture", "ok", "mode tap: a test event was captured and read back")


def _pragma(log: Log, name: str) -> str:
    """Return a setting of the file."""
    return str(log.reader.query(f"PRAGMA {name}")[0][0])


def _file_checks(log: Log) -> Iterator[Check]:
    """Yield how the file is kept."""
    if log.reader.seal:
        yield Check("encryption", "ok", "AES-256-GCM: payloads, large values, states, names of tasks, roles, paths")
    mode = _pragma(log, "journal_mode")
    hint = "" if mode == "wal" else "open it for writing once on a local disk"
    yield Check("journal", "ok" if mode == "wal" else "problem", mode, hint)
    bits = stat.S_IMODE(log.path.stat().st_mode)
    private = not bits & 0o077
    hint = "" if private else f"prompts are private: chmod 600 {log.path}"
    yield Check("permissions", "ok" if private else "problem", f"{bits:04o}", hint)
    keyed = bool(log.reader.query("SELECT 1 FROM meta WHERE key = ?", (CHAIN_KEY,)))
    yield Check("chain", "ok", "with a key: writing needs EVENTLOG_KEY" if keyed else "without a key")
    kind = file_system_of(log.path)
    if kind in NETWORK_FILE_SYSTEMS:
        yield Check("file system", "problem", kind, "WAL needs one host: move the log to a local disk")


def file_system_of(path: Path) -> str:
    """Return the kind of file system a file is on; empty where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    place, best = os.path.realpath(path), ("", "")
    for line in lines:
        fields = line.split()
        if len(fields) > 2:
            mount = fields[1].replace("\\040", " ").rstrip("/")
            if (place + "/").startswith(mount + "/") and len(mount) >= len(best[0]):
                best = (mount, fields[2])
    return best[1]


def _damage(log: Log) -> Iterator[Check]:
    """Yield whether SQLite finds the file sound."""
    first = str(log.reader.query("PRAGMA quick_check(1)")[0][0])
    hint = "" if first == "ok" else "copy it and its -wal neighbour somewhere safe before anything else touches it"
    yield Check("soundness", "ok" if first == "ok" else "problem", first, hint)


def _history(log: Log) -> Iterator[Check]:
    """Yield what the runs tell of trouble."""
    runs = log.runs()
    gone = [run.run for run in runs if run.status == "interrupted"]
    events = sum(run.events for run in runs)
    yield Check("runs", "ok", f"{count_of(len(runs), 'run')}, {count_of(events, 'event')}")
    if gone:
        found = f"{', '.join(gone[-ERRORS_SHOWN:])}{' and others' * (len(gone) > ERRORS_SHOWN)}"
        yield Check("interrupted", "warning", found, "did not end, and their process is gone; see: eventlog replay RUN")
    gaps = list(log.reader.stored(None, types=["eventlog.capture_gap"]))
    if gaps:
        places = ", ".join(f"seq {gap.seq}" for gap in gaps[-ERRORS_SHOWN:])
        yield Check("gaps", "problem", f"events were lost {count_of(len(gaps), 'time')}, last at {places}",
                    "the file could not be written then; see: eventlog show SEQ")  # fmt: skip
    else:
        yield Check("gaps", "ok", "none: no event was lost")
    for event in deque(log.reader.stored(None, types=ERROR_TYPES), maxlen=ERRORS_SHOWN):
        subject = subject_of(event, log.reader.content)
        yield Check("last errors", "warning", f"seq {event.seq} of run {event.run}: {event.type} {subject}")
