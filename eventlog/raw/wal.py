"""The write-ahead log beside a database: which pages its transactions left there, and which transactions are lost.

SQLite goes by the checksums, each of which continues the one before: behind the first frame that does not fit
it sees nothing, and says nothing. Frames of the same generation that stand behind it were transactions.

::

    header 32   magic · version · page size · generation · salt 2x4 · checksum 2x4
    frame       page · size of the database if it commits · salt 2x4 · checksum 2x4 · the page
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path
from typing import BinaryIO

import msgspec

HEADER, FRAME = struct.Struct(">8I"), struct.Struct(">6I")
MAGIC = 0x377F0682
"""The last bit says in which order the bytes of a word are added up."""
MASK = 0xFFFFFFFF

Sums = tuple[int, int]


class Wal(msgspec.Struct):
    """What a write-ahead log holds."""

    page_bytes: int = 0
    pages: int = 0
    """Size of the database after the last transaction; 0: there is none here."""
    places: dict[int, int] = {}
    """Page → where its newest committed version stands in the file."""
    lost: int = 0
    """Transactions behind a broken frame: SQLite does not see them."""
    broken: str = ""
    """What is wrong; empty when nothing is."""


def wal_of(path: Path) -> Path:
    """Return where the write-ahead log of a database is."""
    return path.with_name(path.name + "-wal")


def read_wal(path: Path) -> Wal:
    """Return what the write-ahead log of the database at ``path`` holds; nothing when there is none.

    Raises:
        OSError: it cannot be read.
    """
    where = wal_of(path)
    if not where.exists() or where.stat().st_size <= HEADER.size:
        return Wal()
    with where.open("rb") as file:
        return _Scan(file).result()


class _Scan:
    """One pass over the frames."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header."""
        self._file = file
        head = file.read(HEADER.size)
        magic, _, page_bytes, _, *rest = HEADER.unpack(head)
        self._salt, self._little = (rest[0], rest[1]), magic & 1 == 0
        self._sums: Sums = (rest[2], rest[3])
        self.wal = Wal(page_bytes=page_bytes if page_bytes != 1 else 65_536)
        if magic & ~1 != MAGIC or self._added((0, 0), head[:24]) != self._sums:
            self.wal.broken = "its first bytes are not those of a write-ahead log"

    def result(self) -> Wal:
        """Return what the valid frames hold, and how much stands behind them."""
        if self.wal.broken:
            return self.wal
        fresh: dict[int, int] = {}
        before: Sums | None = self._sums
        offset, number, is_whole = HEADER.size, 0, True
        while frame := self._frame(offset):
            number += 1
            page, size, salt, sums, data = frame
            own = salt == self._salt
            fits = own and before is not None and self._added(self._added(before, data[:8]), data[24:]) == sums
            if is_whole and fits:
                fresh[page] = offset + FRAME.size
                if size:
                    self.wal.places.update(fresh)
                    self.wal.pages, fresh = size, {}
            else:
                self._behind(number, is_first=is_whole, was_written=own and size > 0 and (fits or before is None))
                is_whole = False
            before = sums if own else None
            offset += len(data)
        if not self.wal.lost:
            self.wal.broken = ""
        return self.wal

    def _behind(self, number: int, *, is_first: bool, was_written: bool) -> None:
        """Count what can only be there if a transaction was committed; the end of a torn write is none."""
        if is_first:
            self.wal.broken = f"frame {number} is broken, and SQLite sees nothing behind it"
        elif was_written:
            self.wal.lost += 1

    def _frame(self, offset: int) -> tuple[int, int, Sums, Sums, bytes] | None:
        """Return a frame with its bytes; nothing at the end of the file."""
        self._file.seek(offset)
        data = self._file.read(FRAME.size + self.wal.page_bytes)
        if len(data) < FRAME.size + self.wal.page_bytes:
            return None
        page, size, salt1, salt2, sum1, sum2 = FRAME.unpack_from(data)
        return page, size, (salt1, salt2), (sum1, sum2), data

    def _added(self, sums: Sums, data: bytes) -> Sums:
        """Return the checksum of data that continues another."""
        words = array("I", data)
        if self._little != (sys.byteorder == "little"):
            words.byteswap()
        first, second = sums
        for even, odd in zip(words[::2], words[1::2], strict=True):
            first = (first + even + second) & MASK
            second = (second + odd + first) & MASK
        return first, second
