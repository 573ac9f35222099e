"""The key of a log's chain: it comes from the environment and stays there; the log keeps only what tells a wrong one.

::

    EVENTLOG_KEY ─ blake2b, person "eventlog-chain" ─ 32 bytes ─ Chain(key)
    meta.chain_key = Chain(key).check_of(salt)

A log has a key from its first event on, or none: a chain that changed its key in the middle would prove nothing.
"""

from __future__ import annotations

import os
import sqlite3
from hashlib import blake2b
from hmac import compare_digest

from eventlog.chain import Chain
from eventlog.errors import ChainKeyError

VARIABLE = "EVENTLOG_KEY"
"""Environment variable that holds the key: any text, best a long random one."""
META = "chain_key"
"""Key of ``meta`` under which a keyed log keeps its check."""
KEY_BYTES = 32
PLAIN_CHAIN = Chain()

_BEGUN = "SELECT EXISTS (SELECT 1 FROM events) OR EXISTS (SELECT 1 FROM meta WHERE key = 'last_seq' AND value > 0)"


def chain_of_environment(path: str) -> Chain:
    """Return the chain of the key in the environment; a plain one when there is none. ``path`` is for the message.

    Raises:
        ChainKeyError: the variable is empty: a log meant to be keyed must not be plain because nothing came through.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return PLAIN_CHAIN
    if not text:
        raise ChainKeyError(path, f"{VARIABLE} is set and empty")
    return Chain(chain_key(text))


def chain_key(text: str) -> bytes:
    """Return the key that a text stands for."""
    data = text.encode("utf-8", "surrogateescape")
    return blake2b(data, digest_size=KEY_BYTES, person=b"eventlog-chain").digest()


def stored_check(db: sqlite3.Connection) -> str | None:
    """Return the check of a log's key; ``None`` when its chain has none."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (META,)).fetchone()
    return None if row is None else str(row[0])


def store_check(db: sqlite3.Connection, chain: Chain) -> None:
    """Note in the transaction under way that the chain has this key."""
    db.execute("INSERT INTO meta VALUES (?, ?)", (META, chain.check_of(_salt(db))))


def fits(db: sqlite3.Connection, chain: Chain) -> bool:
    """Whether a chain has the key that the log's check was made with."""
    known = stored_check(db)
    return known is not None and compare_digest(known.encode(), chain.check_of(_salt(db)).encode())


def require_key(db: sqlite3.Connection, chain: Chain) -> None:
    """Return if events may be appended with this chain.

    Raises:
        ChainKeyError: the log's chain has another key or none, or has one and this has not.
    """
    reason = ""
    if stored_check(db) is None:
        if chain.is_keyed and db.execute(_BEGUN).fetchone()[0]:
            reason = f"its chain was made without a key, and {VARIABLE} is set"
    elif not chain.is_keyed:
        reason = f"its chain was made with a key, and {VARIABLE} is not set"
    elif not fits(db, chain):
        reason = f"{VARIABLE} is not the key its chain was made with"
    if reason:
        raise ChainKeyError(str(db.execute("PRAGMA database_list").fetchone()[2]), reason)


def _salt(db: sqlite3.Connection) -> str:
    """Return the log's own salt: the same key has another check in every log."""
    row = db.execute("SELECT value FROM meta WHERE key = 'salt'").fetchone()
    return str(row[0]) if row else ""
