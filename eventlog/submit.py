"""Make events that CrewAI does not emit, and append them; when this returns they are committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from eventlog.errors import AppendError
from eventlog.record import MAIN_BRANCH, OWN_PREFIX, NewEvent
from eventlog.writer import Writer

Composed = tuple[NewEvent, Callable[[], None]]
"""An event, and what to call once it is committed."""


def require_users_type(event_type: str) -> None:
    """Return if an event of the user's may be called that.

    Raises:
        AppendError: it may not.
    """
    if "." not in event_type or event_type.startswith(OWN_PREFIX):
        raise AppendError(f"event type {event_type!r}: use a name with a dot that does not begin with {OWN_PREFIX!r}")


def compose_event(
    to: Writer,
    event_type: str,
    payload: Mapping[str, Any],
    run: str | None,
    branch: str = MAIN_BRANCH,
    event_id: str | None = None,
) -> Composed:
    """Return an encoded event.

    Raises:
        AppendError: the payload is no mapping.
    """
    given: object = payload
    if not isinstance(given, Mapping):
        raise AppendError(f"the payload of {event_type!r} must be a mapping, not {type(given).__name__}")
    encoder = to.encoder
    encoded = encoder.encode(payload)
    event = NewEvent(
        type=encoder.text(event_type), event_id=event_id or str(uuid4()), at_ns=time.time_ns(),
        payload=encoded.payload, contents=encoded.contents, flags=encoded.flags, run=run or "", branch=branch,
    )  # fmt: skip
    return event, encoded.publish


def submit_events(to: Writer, composed: Sequence[Composed], expected_seq: int | None = None) -> list[int]:
    """Append events in one transaction and return their seqs, after the commit.

    Raises:
        AppendError: nothing of them is in the log.
    """
    if not composed:
        return []
    seqs = to.pipeline.submit([event for event, _ in composed], expected_seq)
    for event, publish in composed:
        publish()
        to.appended(event)
    return seqs
