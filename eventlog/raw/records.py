"""The values of a row as its bytes hold them. Pure.

::

    record   length of the header · one code for each value · the values
    code     0 NULL · 1-6 integers · 7 a float · 8, 9 the integers 0 and 1 · even: bytes, odd: text
"""

from __future__ import annotations

import struct
from typing import Any

VALUES_MAX = 64
"""No table of ours has so many."""
_INT_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_FIRST_SIZED = 12


class BrokenRecordError(ValueError):
    """The bytes are no row."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, signed as SQLite reads it, and where it ends.

    Raises:
        BrokenRecordError: the bytes end before it does.
    """
    value = 0
    for place in range(at, at + 9):
        if place >= len(data):
            raise BrokenRecordError("a number has no end")
        byte = data[place]
        if place == at + 8:
            value = value << 8 | byte
            return (value - (1 << 64) if value >> 63 else value), place + 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    raise BrokenRecordError("a number has no end")


def read_record(data: bytes) -> tuple[Any, ...]:
    """Return the values of a row; texts as bytes in a ``bytearray``, so that they differ from bytes.

    Raises:
        BrokenRecordError: the bytes are none.
    """
    end, at = read_varint(data, 0)
    if not at <= end <= len(data):
        raise BrokenRecordError("the header is longer than the row")
    codes = []
    while at < end:
        code, at = read_varint(data, at)
        codes.append(code)
    if at != end or len(codes) > VALUES_MAX:
        raise BrokenRecordError("the header does not end where it says")
    values = []
    for code in codes:
        value, at = _read_value(data, at, code)
        values.append(value)
    return tuple(values)


def _read_value(data: bytes, at: int, code: int) -> tuple[Any, int]:
    """Return a value and where it ends."""
    if code in (0, 8, 9):
        return (None, 0, 1)[max(code - 7, 0)], at
    size = _INT_BYTES.get(code) or (8 if code == 7 else (code - _FIRST_SIZED) // 2)
    if code in (10, 11) or code < 0 or at + size > len(data):
        raise BrokenRecordError("a value is longer than the row")
    part = data[at : at + size]
    if code in _INT_BYTES:
        return int.from_bytes(part, "big", signed=True), at + size
    if code == 7:
        return struct.unpack(">d", part)[0], at + size
    return (bytearray(part) if code & 1 else part), at + size
