"""Empty the payload of one event, in the transaction under way."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from eventlog.append import Appender
from eventlog.compaction.marking import Marking
from eventlog.errors import ForgetError
from eventlog.forgetting.stored import Query, as_json
from eventlog.forgetting.tombs import bury_events
from eventlog.record import FLAG_OMITTED
from eventlog.seal import EVENT, Seal

_EVENT = "SELECT run, branch, payload FROM events WHERE seq = ?"
_EMPTY = f"UPDATE events SET payload = ?, flags = flags | {FLAG_OMITTED} WHERE seq = ?"
_FAMILY = "SELECT id, parent, fork_seq, base_seq FROM branches WHERE run = ?"
TAG = "$forgotten"


def is_empty(payload: str) -> bool:
    """Whether a payload was forgotten before."""
    return payload.startswith(f'{{"payload":{{"{TAG}"')


def check_event(query: Query, seal: Seal, seq: int) -> tuple[int, str]:
    """Return the row of the run and the payload of an event.

    Raises:
        ForgetError: a base was made of it, which cannot be folded anew.
    """
    rows = query(_EVENT, (seq,))
    if not rows:
        raise ForgetError(f"event {seq} is gone")
    run, branch, payload = rows[0]
    family = {row: rest for row, *rest in query(_FAMILY, (run,))}
    for row, (_, _, base) in family.items():
        if base and seq <= _reads_up_to(family, row, branch, base):
            why = f"event {seq} lies below a base, at {base}: what it told may be in the state there"
            raise ForgetError(f"{why}; forget the text instead, with --value-stdin")
    return run, seal.unseal_text(payload, EVENT, seq)


def _reads_up_to(family: dict[int, Any], row: int, owner: int, base: int) -> int:
    """Return up to where the base of a branch was made of events of another; 0 if it was not."""
    cursor, current, seen = base, row, set[int]()
    while current != owner:
        parent, fork_seq, _ = family.get(current, (None, 0, 0))
        if parent is None or current in seen:
            return 0
        seen.add(current)
        cursor, current = min(cursor, fork_seq or 0), parent
    return cursor


def contents_of(query: Query, seal: Seal, payload: str) -> list[str]:
    """Return the hashes of all large values that a payload leads to."""
    rows = Marking(seal).reach(query, [payload])
    return [name for row in rows for (name,) in query("SELECT hash FROM contents WHERE id = ?", (row,))]


def empty_event(appender: Appender, seq: int, payload: str) -> None:
    """Put a tag in the place of a payload, and a tombstone beside; one that is empty has its tombstone."""
    if is_empty(payload):
        return
    at_ns = time.time_ns()
    moment = datetime.fromtimestamp(at_ns // 1_000_000_000, timezone.utc).isoformat()
    text = appender.seal.seal_text(as_json({"payload": {TAG: moment}}), EVENT, seq)
    appender.db.execute(_EMPTY, (text, seq))
    bury_events(appender.db, appender.chain, [seq], at_ns)
