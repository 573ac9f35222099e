"""Files that somebody made to do harm: a real log, then changed by whoever may write any byte of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import eventlog
from eventlog.chain import Chain
from tests.forging import excuse_contents, prove_states, rechain


def make_log(path: Path, payloads: Iterable[dict[str, Any]] = ({"text": "harmless"},), run: str = "r") -> Path:
    """Make a log with an event for each payload."""
    with eventlog.open(path, snapshot_on=()) as log:
        for payload in payloads:
            log.append("a.note", payload, run=run)
    return path


def tamper(path: Path, *statements: str | tuple[str, tuple[Any, ...]]) -> Path:
    """Change a log as its triggers forbid it; a statement may come with its values.

    The chain has no key: whoever changes a log can forge its digests, and nobody can tell from them.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("UPDATE meta SET value = 1 WHERE key = 'compacting'")
        for statement in statements:
            sql, args = statement if isinstance(statement, tuple) else (statement, ())
            db.execute(sql, args)
        for forge in (rechain, excuse_contents, prove_states):
            forge(db, Chain())
        db.execute("UPDATE meta SET value = 0 WHERE key = 'compacting'")
        db.execute("COMMIT")
    return path


def put_payload(path: Path, payload: str, seq: int = 1) -> Path:
    """Let an event have any text for a payload."""
    return tamper(path, ("UPDATE events SET payload = ? WHERE seq = ?", (payload, seq)))


def put_content(path: Path, name: str, kind: str, body: str, parent: str | None = None) -> Path:
    """Put anything among the contents."""
    sql = "INSERT INTO contents (hash, kind, parent, body) VALUES (?, ?, (SELECT id FROM contents WHERE hash = ?), ?)"
    return tamper(path, (sql, (name, kind, parent, body)))
