"""Sessions: how far a pipeline is. A session is the run of that name."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from eventlog.aegis.answers import Answer, blocked, session_answer
from eventlog.aegis.logs import OnLog
from eventlog.errors import EventLogError, SessionNotFoundError
from eventlog.ledger.book import Book
from eventlog.ledger.events import SessionOpened, SessionUpdated, StepCompleted, WorkEvent
from eventlog.ledger.ledger import Ledger
from eventlog.log import Log

_OPENED_ID = "aegis-session-opened"
"""Two processes that create a session at the same time append one event."""


class SessionMethods(OnLog):
    """What a client says about sessions, and asks."""

    def __init__(self, log: Log) -> None:
        """Nothing is read or written before it is asked for."""
        super().__init__(log)
        self._ledgers: dict[str, Ledger] = {}
        self._ledgers_lock = threading.RLock()

    def create_session(
        self, session_id: str, *, agent_id: str | None = None, user_id: str | None = None, namespace: str = "default"
    ) -> Answer:
        """Return a session, begun if there is none of that name; one that is there stays as it is.

        ``user_id`` and ``namespace`` are not kept: a log has its sessions by name.

        Raises:
            AppendError: it could not be stored; nothing of it is in the log.
        """
        _ = user_id, namespace
        if not self._is_session(session_id):
            self._book(session_id).append(SessionOpened(agent=agent_id), _OPENED_ID)
        return self.get_session(session_id)

    def get_session(self, session_id: str) -> Answer:
        """Return how far a session is.

        Raises:
            SessionNotFoundError: there is none; ``create_session`` begins it.
        """
        if not self._is_session(session_id):
            raise SessionNotFoundError(session_id)
        return session_answer(self._ledger(session_id).session())

    def update_session(
        self, session_id: str, *, completed_items: Sequence[str] | None = None, in_progress_item: str | None = None,
        next_items: Sequence[str] | None = None, blocked_items: Any = None, summary: str | None = None,
        last_action: str | None = None, status: str | None = None, total_items: int | None = None,
    ) -> Answer:  # fmt: skip
        """Return a session after what is given has changed; the rest stays, and all of it is one transaction.

        ``completed_items`` are completed from now on; those that are completed already stay so, whether named or not:
        a list that another process has made longer meanwhile takes nothing back. ``eventlog session invalidate`` does.

        Raises:
            SessionNotFoundError: there is none.
            AppendError: it could not be stored; nothing of it is in the log.
        """
        done = set(self.get_session(session_id)["completed_items"])
        book = self._book(session_id)
        new = [item for item in dict.fromkeys(completed_items or ()) if book.clean(item) not in done]
        told = SessionUpdated(
            summary=summary, status=_status(status), last_action=last_action, in_progress_item=in_progress_item,
            next_items=None if next_items is None else list(next_items), total_items=total_items,
            blocked_items=None if blocked_items is None else blocked(blocked_items),
        )  # fmt: skip
        events: list[WorkEvent] = [StepCompleted(item=item) for item in new]
        book.append_all([*events, *([told] if told != SessionUpdated() else [])])
        return self.get_session(session_id)

    def set_in_progress(self, session_id: str, item: str) -> Answer:
        """Return a session in which this item is the one in progress.

        Raises:
            SessionNotFoundError: there is none.
            AppendError: it could not be stored; nothing of it is in the log.
        """
        return self.update_session(session_id, in_progress_item=item)

    def mark_complete(self, session_id: str, item: str) -> Answer:
        """Return a session in which this item is completed; when it returns, no crash undoes that.

        Raises:
            SessionNotFoundError: there is none.
            AppendError: it could not be stored; nothing of it is in the log.
        """
        return self.update_session(session_id, completed_items=[item])

    def _is_session(self, session_id: str) -> bool:
        """Whether somebody began a session of that name."""
        return self._ledger(session_id).session().cursor > 0

    def _book(self, session_id: str) -> Book:
        """Return where the events of a session stand."""
        return Book(self.log, self._run(session_id))

    def _ledger(self, session_id: str) -> Ledger:
        """Return what keeps the state of a session."""
        run = self._run(session_id)
        with self._ledgers_lock:
            if run not in self._ledgers:
                self._ledgers[run] = self.log.ledger(run)
            return self._ledgers[run]

    def _run(self, session_id: str) -> str:
        """Return the run of a session."""
        if not session_id:
            raise EventLogError("a session needs a session_id")
        return self.log.clean_name(session_id)


def _status(status: str | None) -> str | None:
    """Return a status in our words."""
    return "completed" if status == "complete" else status
