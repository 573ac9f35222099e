"""The client of a memory server that is not there: everything is kept in a local log."""

from __future__ import annotations

import os
from typing import Any

from typing_extensions import Self

from eventlog.aegis.features import FeatureMethods
from eventlog.aegis.logs import note_once, shared_log
from eventlog.aegis.memories import MemoryMethods
from eventlog.aegis.sessions import SessionMethods


class AegisClient(SessionMethods, FeatureMethods, MemoryMethods):
    """Sessions, features and memory in one log, under the names that programs for Aegis Memory call."""

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *,
        db: str | os.PathLike[str] | None = None, **ignored: Any,
    ) -> None:  # fmt: skip
        """Open the log at ``db`` (default: ``EVENTLOG_DB``, else ``./eventlog.db``); the rest is not used.

        Clients of one process on one file share it; it is closed when the process ends.

        Raises:
            LogOpenError: one of its kinds: the file cannot be used as a log; it is unchanged.
        """
        log = shared_log(db)
        if base_url or api_key or ignored:
            note_once(f"everything is kept in {log.path}; base_url, api_key and the like are not used")
        super().__init__(log)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    @property
    def is_local(self) -> bool:
        """Whether there is no server: always."""
        return True

    def close(self) -> None:
        """Do nothing: other clients of the process may use the log, and what was appended is committed."""
