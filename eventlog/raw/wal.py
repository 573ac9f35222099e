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
PAGE_SIZES = frozenset(2**n for n in range(9, 17))

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
    behind: dict[int, int] = {}
    """Page → where its newest version among those stands."""
    pages_behind: int = 0
    """Size of the database after them."""
    broken: str = ""
    """What is wrong; empty when nothing is."""


def wal_of(path: Path) -> Path:
    """Return where the write-ahead log of a database is."""
    return path.with_name(path.name + "-wal")


def read_wal(path: Path, page_bytes: int = 0) -> Wal:
    """Return what the write-ahead log of the database at ``path`` holds; nothing when there is none.

    ``page_bytes``: of the database, if its own header cannot tell.

    Raises:
        OSError: it cannot be read.
    """
    where = wal_of(path)
    if not where.exists() or where.stat().st_size <= HEADER.size:
        return Wal()
    with where.open("rb") as file:
        return _Scan(file, page_bytes).result()


class _Scan:
    """One pass over the frames."""

    def __init__(self, file: BinaryIO, page_bytes: int) -> None:
        """Read the header; without a good one everything is behind the break."""
        self._file = file
        head = file.read(HEADER.size)
        magic, _, own_bytes, _, *rest = HEADER.unpack(head)
        self._salt, self._little = (rest[0], rest[1]), magic & 1 == 0
        self._sums: Sums = (rest[2], rest[3])
        own_bytes = 65_536 if own_bytes == 1 else own_bytes
        self.wal = Wal(page_bytes=own_bytes if own_bytes in PAGE_SIZES else page_bytes)
        self._is_whole = magic & ~1 == MAGIC and self._added((0, 0), head[:24]) == self._sums
        if not self._is_whole:
            self.wal.broken = "its first bytes are not those of a write-ahead log"
            self._guess()

    def _guess(self) -> None:
        """Take from the first frame what the header does not tell."""
        self._little = sys.byteorder == "little"  # as SQLite writes it
        frame = self._frame(HEADER.size) if self.wal.page_bytes else None
        if frame is not None:
            self._salt = frame[2]

    def result(self) -> Wal:
        """Return what the valid frames hold, and what stands behind them."""
        fresh: dict[int, int] = {}
        before: Sums | None = self._sums if self._is_whole else None
        offset, number = HEADER.size, 0
        while self.wal.page_bytes and (frame := self._frame(offset)):
            number += 1
            page, size, salt, sums, data = frame
            own = salt == self._salt
            fits = own and before is not None and self._added(self._added(before, data[:8]), data[24:]) == sums
            if self._is_whole and not fits:
                self.wal.broken = f"frame {number} is broken, and SQLite sees nothing behind it"
                self._is_whole, fresh = False, {}
            if fits or (own and before is None and page):
                fresh[page] = offset + FRAME.size
                if size:
                    self._commit(fresh, size)
                    fresh = {}
            before = sums if own else None
            offset += len(data)
        if not self.wal.lost and self.wal.broken.startswith("frame"):
            self.wal.broken = ""  # the end of a torn write, or of an older generation
        return self.wal

    def _commit(self, fresh: dict[int, int], size: int) -> None:
        """Take down the pages of a transaction."""
        if self._is_whole:
            self.wal.places.update(fresh)
            self.wal.pages = size
        else:
            self.wal.lost += 1
            self.wal.behind.update(fresh)
            self.wal.pages_behind = size

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
