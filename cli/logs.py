"""``-v``: what the library logs, on stderr. Only the command line configures logging."""

from __future__ import annotations

import logging
import sys

from eventlog.cli.text import harmless

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FactsFormatter(logging.Formatter):
    """``warning append_degraded cause='disk full' queued=12``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event and its facts in one line."""
        facts = [f"{name}={value!r}" for name, value in vars(record).items() if name not in _PLAIN and name != "level"]
        return harmless(" ".join([record.levelname.lower(), record.name, record.getMessage(), *facts]))


def show_logs(verbose: int) -> None:
    """Send the library's log to stderr: from ``info``, or with ``-vv`` everything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FactsFormatter())
    root = logging.getLogger("eventlog")
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
