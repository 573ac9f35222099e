"""CrewAI's automatic and manual checkpoints, written into a log.

``CheckpointConfig(location="runs.db", provider=EventLogProvider())`` is the whole migration. CrewAI accepts no
other kind of provider than its own and subclasses of them, hence the base class.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crewai.state.provider.sqlite_provider import SqliteProvider, _make_id
from pydantic import PrivateAttr

from eventlog.errors import EncryptedLogError, LogNotFoundError
from eventlog.log import Log, open_log
from eventlog.storage import is_sealed
from eventlog.transactions import transaction

if TYPE_CHECKING:
    from eventlog.append import Appender

_INSERT = (
    "INSERT INTO checkpoint_marks (name, created_at, parent_id, branch_name, trigger, data) VALUES (?, ?, ?, ?, ?, ?)"
)
_PRUNE = (
    "DELETE FROM checkpoint_marks WHERE data IS NOT NULL AND branch_name = ? AND id NOT IN"
    " (SELECT id FROM checkpoint_marks WHERE data IS NOT NULL AND branch_name = ? ORDER BY id DESC LIMIT ?)"
)


class EventLogProvider(SqliteProvider):
    """Keeps CrewAI's checkpoints in a log, without secrets; on every SQLite that logs work on.

    ``location`` is the path of the log, made if it is not there. With an open ``log`` that one is used.
    """

    _log: Log | None = PrivateAttr(default=None)

    def __init__(self, log: Log | None = None, **fields: Any) -> None:
        """``log``: write to this open log, whatever the location says."""
        super().__init__(**fields)
        self._log = log

    def checkpoint(self, data: str, location: str, *, parent_id: str | None = None, branch: str = "main") -> str:
        """Store CrewAI's document and return ``PATH#ID``; it is committed then.

        Raises:
            EncryptedLogError: the log is encrypted, and CrewAI could not read it back.
            LogOpenError, AppendError: it could not be stored.
        """
        name, stamp = _make_id()
        document = json.loads(data)
        with self._opened(location) as log:
            clean = without_secrets(log.writer.encoder.inline(document, reserved="\0"))
            row = (name, stamp, parent_id, branch, document.get("trigger"), json.dumps(clean))
            self._write(log, _INSERT, row)
            return f"{log.path}#{name}"

    async def acheckpoint(
        self, data: str, location: str, *, parent_id: str | None = None, branch: str = "main"
    ) -> str:  # fmt: skip
        """``checkpoint`` without blocking the event loop."""
        return await asyncio.to_thread(self.checkpoint, data, location, parent_id=parent_id, branch=branch)

    def prune(self, location: str, max_keep: int, *, branch: str = "main") -> int:
        """Delete all but the newest checkpoints that CrewAI wrote on a branch; return how many went.

        The log's own are left alone: they cost next to nothing.
        """
        with self._opened(location) as log:
            return self._write(log, _PRUNE, (branch, branch, max_keep))

    def from_checkpoint(self, location: str) -> str:
        """Return the document of ``PATH#ID``, of CrewAI's checkpoints and of the log's own.

        Raises:
            LogNotFoundError: there is no such log.
            EncryptedLogError: it is encrypted.
            ValueError: it has no such checkpoint.
        """
        path = location.rsplit("#", 1)[0]
        if not Path(path).exists():
            raise LogNotFoundError(path)
        if is_sealed(Path(path)):
            raise EncryptedLogError(path)
        return super().from_checkpoint(location)

    async def afrom_checkpoint(self, location: str) -> str:
        """``from_checkpoint`` without blocking the event loop."""
        return await asyncio.to_thread(self.from_checkpoint, location)

    @contextmanager
    def _opened(self, location: str) -> Generator[Log]:
        """Yield the log to write to.

        Raises:
            EncryptedLogError: it is encrypted.
        """
        with nullcontext(self._log) if self._log is not None else open_log(location) as log:
            if log.reader.seal:
                raise EncryptedLogError(str(log.path))
            yield log

    @staticmethod
    def _write(log: Log, sql: str, row: tuple[Any, ...]) -> int:
        """Run a statement between the appends and return how many rows it touched."""

        def job(appender: Appender) -> int:
            with transaction(appender.db):
                return appender.db.execute(sql, row).rowcount

        return int(log.writer.pipeline.run_exclusively(job))


def without_secrets(tree: Any) -> Any:
    """Leave out what redaction emptied: a model without a key takes it from the environment again."""
    if isinstance(tree, list):
        return [without_secrets(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kept = {k: v for k, v in tree.items() if not (isinstance(v, str) and v.startswith("[redacted:") and v[-1] == "]")}
    return {k: without_secrets(v) for k, v in kept.items()}
