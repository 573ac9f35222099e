"""Text from a log made fit for a terminal: it may hold anything a model or a stranger wrote. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from eventlog.replay.state import iso_utc

_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # ESC and other control characters: they move the cursor, change colours, titles…
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f"  # direction marks make text read as what it is not
    "\u00ad\u180e\u200b\u2060-\u2065\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible: two names look the same
    "\ud800-\udfff]"  # lone surrogates cannot be written at all
)  # the joiners U+200C and U+200D stay: Persian and emoji are written with them
_HARMFUL_IN_JSON = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def harmless(text: str) -> str:
    r"""Return text in which control characters read as ``\x1b``; line breaks and tabs stay."""
    return _HARMFUL.sub(_escape, text.replace("\r\n", "\n"))


def harmless_json(text: str) -> str:
    """Return the same JSON with the characters escaped that JSON allows and terminals act on."""
    return _HARMFUL_IN_JSON.sub(_escape_in_json, text)


def _escape(found: re.Match[str]) -> str:
    """Return one character as Python writes it."""
    code = ord(found.group())
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _escape_in_json(found: re.Match[str]) -> str:
    """Return one character as JSON writes it: in two halves beyond U+FFFF."""
    data = found.group().encode("utf-16-be").hex()
    return "".join(f"\\u{data[at : at + 4]}" for at in range(0, len(data), 4))


def as_text(value: Any) -> str:
    """Return any JSON value as text: strings as they are, nothing for ``None``, the rest as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def one_line(value: Any, chars_max: int = 80) -> str:
    """Return any JSON value as one short, harmless line."""
    text = as_text(value)
    text = harmless(" ".join(text[: chars_max * 8].split()))
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def moment(at_ns: int | None) -> str:
    """Return a time in UTC, precise enough for ``--to`` to find that very event; empty for none."""
    return "" if at_ns is None else iso_utc(at_ns)


def size(count: int) -> str:
    """Return a number of bytes as people read it."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def seconds(nanoseconds: int) -> str:
    """Return a duration as people read it."""
    value = nanoseconds / 1e9
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def count_of(number: int, thing: str) -> str:
    """Return ``1 event``, ``2 events``."""
    return f"{number} {thing}{'s' * (number != 1)}"
