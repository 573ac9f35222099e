"""The log that clients without a server share: one per file and process, closed when the process ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from pathlib import Path

from eventlog.log import DEFAULT_PATH, Log, open_log
from eventlog.writer import redirected

_logs: dict[str, Log] = {}
_lock = threading.RLock()
_noted: list[str] = []
"""What was said already."""


class OnLog:
    """Base of what a client offers: each part has the log."""

    def __init__(self, log: Log) -> None:
        """Nothing is read or written before it is asked for."""
        self.log = log


def shared_log(db: str | os.PathLike[str] | None) -> Log:
    """Return the log at ``db`` (default: ``EVENTLOG_DB``, else ``./eventlog.db``), made if it is not there.

    Raises:
        LogOpenError: one of its kinds: the file cannot be used as a log; it is unchanged.
    """
    path = redirected(Path(db if db is not None else os.environ.get("EVENTLOG_DB", DEFAULT_PATH)))
    with _lock:
        key = str(path.resolve())
        if key not in _logs:
            _logs[key] = open_log(path)
        return _logs[key]


def note_once(text: str) -> None:
    """Tell a person on stderr, the first time in this process only."""
    with _lock:
        if _noted:
            return
        _noted.append(text)
    if sys.stderr is not None:
        sys.stderr.write(f"eventlog.aegis: {text}\n")


def _close_all() -> None:
    """Close the logs; what was appended is committed long since."""
    while _logs:
        _logs.popitem()[1].close()


def _after_fork_in_child() -> None:
    """The thread that held the lock may not exist here."""
    global _lock
    _lock = threading.RLock()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
