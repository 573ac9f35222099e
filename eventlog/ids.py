"""Event ids, as they are stored and as they are shown. Pure."""

from __future__ import annotations

from typing import Any


def stored_id(event_id: str | None) -> Any:
    """Return an id as it is stored: the 16 bytes of a canonical UUID, other text as it is."""
    if event_id is None or len(event_id) != 36:
        return event_id
    digits = event_id.replace("-", "")
    if len(digits) != 32 or not event_id[8] == event_id[13] == event_id[18] == event_id[23] == "-":
        return event_id
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        return event_id
    return raw if raw.hex() == digits else event_id


def shown_id(stored: Any) -> Any:
    """Return a stored id as text; the inverse of ``stored_id``."""
    if isinstance(stored, bytes) and len(stored) == 16:
        digits = stored.hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return stored
