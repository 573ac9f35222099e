"""Write any cursor as a checkpoint file of CrewAI's ``JsonProvider``."""

from __future__ import annotations

import sqlite3
import time

from eventlog.checkpoints import AT_CURSOR
from eventlog.errors import EncryptedLogError, EventLogError
from eventlog.log import Log
from eventlog.storage import open_reader
from eventlog.transactions import translated

SECONDS_MAX = 60.0
"""A document takes a fraction of a second; rows that refer to themselves would take for ever."""


class NoCheckpointError(EventLogError):
    """CrewAI could restore nothing there."""

    hint = "choose a cursor after the start of a crew, flow or agent: eventlog log RUN"


def checkpoint_document(log: Log, run: str, branch: str, seq: int) -> str:
    """Return the JSON that ``Crew.from_checkpoint`` and the others restore from, for any cursor of a lineage.

    Raises:
        NoCheckpointError: no crew, flow or agent was kicked off there yet.
        EncryptedLogError: the log is encrypted.
    """
    if log.reader.seal:
        raise EncryptedLogError(str(log.path))
    row = log.reader.branch_id(run, branch)
    with translated(log.path):
        db = open_reader(log.path, log.key)  # refuses a file whose views are not ours
        try:
            db.execute("PRAGMA trusted_schema = ON")  # older SQLite does not trust a view with its own JSON functions
            _stop_after(db, SECONDS_MAX)
            found = db.execute(AT_CURSOR, (row, seq)).fetchone()
        finally:
            db.close()
    if found is None or found[0] is None:
        raise NoCheckpointError(f"{run}/{branch}@{seq}: no crew, flow or agent runs there")
    return str(found[0])


def _stop_after(db: sqlite3.Connection, seconds: float) -> None:
    """Have SQLite give up what takes longer."""
    deadline = time.monotonic() + seconds
    db.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
