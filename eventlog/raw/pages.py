"""The pages of a database as its last transaction left them, and the rows on them. A page that is gone hides no other.

A tree is not descended to find its rows: every page says itself what it is, so a lost root loses only itself. The
trees are followed to learn which table a page belongs to, from their roots down, and up by what an ``auto_vacuum``
database writes down about each page.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from eventlog.raw.records import BrokenRecordError, read_record, read_varint
from eventlog.raw.wal import PAGE_SIZES, read_wal, wal_of

PAGE_BYTES_USUAL = 8192
"""Of our files; for one whose header does not tell."""
TABLE_LEAF, INDEX_LEAF, TABLE_INNER, INDEX_INNER = 0x0D, 0x0A, 0x05, 0x02
ROOT, FREE = 1, 2
"""What the map of an ``auto_vacuum`` database says of a page."""
_ENTRY = struct.Struct(">BI")
_ENTRIES_BYTES = 5
_LOCK_AT = 1 << 30
"""The page with this byte is never used."""
DEPTH_MAX = 40


class RawRow(msgspec.Struct, frozen=True):
    """A row as it stands on a page."""

    page: int
    is_index: bool
    """Of an index, or of a table that is one (WITHOUT ROWID)."""
    rowid: int
    """0 in an index."""
    values: tuple[Any, ...] | None
    """``None``: the row cannot be read."""


class RawFile:
    """A database file and its write-ahead log. Neither is ever written."""

    def __init__(self, path: Path) -> None:
        """Read how large the pages are and how many there are.

        Raises:
            OSError: it cannot be read.
        """
        self._file = _Bytes(path)
        head = self._file[0:100]
        size = int.from_bytes(head[16:18], "big") if head[:16] == b"SQLite format 3\0" else 0
        size = 65_536 if size == 1 else size
        wal = read_wal(path, size if size in PAGE_SIZES else PAGE_BYTES_USUAL)
        self.page_bytes = next(n for n in (size, wal.page_bytes, PAGE_BYTES_USUAL) if n in PAGE_SIZES)
        self._wal = _Bytes(wal_of(path)) if wal.places or wal.behind else None
        self._places = {**wal.places, **wal.behind}
        self.wal_broken = wal.broken
        first = self.page(1)
        self.has_header = first[:16] == b"SQLite format 3\0"
        self._usable = self.page_bytes - (first[20] if self.has_header else 0)
        stored = -(-len(self._file) // self.page_bytes)
        said = wal.pages_behind or wal.pages or (int.from_bytes(first[28:32], "big") if self.has_header else 0)
        self.pages = said or stored
        self.missing = max(0, self.pages - stored) if not self._places else 0
        """Pages behind the end of the file."""
        self._has_map = not self.has_header or first[52:56] != bytes(4)
        self._free = set(self._free_pages())

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._wal is not None:
            self._wal.close()

    def page(self, number: int) -> bytes:
        """Return a page in its newest version; zeros for what is missing."""
        place = self._places.get(number)
        if place is not None and self._wal is not None:
            return self._wal[place : place + self.page_bytes]
        start = (number - 1) * self.page_bytes
        return self._file[start : start + self.page_bytes].ljust(self.page_bytes, b"\0")

    # -- what pages are ---------------------------------------------------------------------------

    def _is_map(self, number: int) -> bool:
        """Whether a page is one of those that say what the others are."""
        return self._has_map and self._map_of(number) == number

    def _map_of(self, number: int) -> int:
        """Return the page that says what another is."""
        each = self._usable // _ENTRIES_BYTES + 1
        found = (number - 2) // each * each + 2
        return found + (found == _LOCK_AT // self.page_bytes + 1)

    def _mapped(self, number: int) -> tuple[int, int]:
        """Return kind and parent of a page; 0 and 0 where nothing is known."""
        if not self._has_map or number < 2 or self._is_map(number):
            return 0, 0
        at = (number - self._map_of(number) - 1) * _ENTRIES_BYTES
        data = self.page(self._map_of(number))
        return _ENTRY.unpack_from(data, at) if 0 <= at <= self._usable - _ENTRIES_BYTES else (0, 0)

    def _free_pages(self) -> Iterator[int]:
        """Yield pages that hold nothing any more: by the map, and by the list of free pages."""
        yield from (number for number in range(2, self.pages + 1) if self._mapped(number)[0] == FREE)
        first = self.page(1)
        trunk = int.from_bytes(first[32:36], "big") if self.has_header else 0
        seen: set[int] = set()
        while 1 < trunk <= self.pages and trunk not in seen:
            seen.add(trunk)
            yield trunk
            data = self.page(trunk)
            count = min(int.from_bytes(data[4:8], "big"), self._usable // 4 - 2)
            yield from (int.from_bytes(data[8 + 4 * i : 12 + 4 * i], "big") for i in range(count))
            trunk = int.from_bytes(data[:4], "big")

    def owners(self, roots: dict[int, str]) -> dict[int, str]:
        """Return page → name of the table or index it belongs to, as far as that can be found out."""
        found: dict[int, str] = {}
        for root, name in roots.items():
            work = [(root, 0)]
            while work:
                number, depth = work.pop()
                if 1 <= number <= self.pages and number not in found and depth < DEPTH_MAX:
                    found[number] = name
                    work += [(child, depth + 1) for child in self._children(number)]
        for number in range(2, self.pages + 1):
            if number not in found:
                top = self._climb(number, roots)
                if top is not None:
                    found[number] = top
        return found

    def _climb(self, number: int, roots: dict[int, str]) -> str | None:
        """Return the name of the tree a page belongs to, by what the map says of its parents."""
        for _ in range(DEPTH_MAX):
            if number in roots:
                return roots[number]
            kind, parent = self._mapped(number)
            if kind != 5 or not parent:  # 5: an inner or leaf page of a tree
                return None
            number = parent
        return None

    def _children(self, number: int) -> list[int]:
        """Return the pages below an inner page."""
        data, start = self.page(number), 100 if number == 1 else 0
        if data[start] not in (TABLE_INNER, INDEX_INNER):
            return []
        cells = [data[at : at + 4] for at in self._cells(data, start)]
        return [int.from_bytes(cell, "big") for cell in [*cells, data[start + 8 : start + 12]] if len(cell) == 4]

    # -- rows ---------------------------------------------------------------------------------------

    def rows(self) -> Iterator[RawRow]:
        """Yield every row on every page that is in use."""
        for number in range(1, self.pages + 1):
            if number not in self._free and not self._is_map(number):
                yield from self._page_rows(number)

    def _page_rows(self, number: int) -> Iterator[RawRow]:
        """Yield the rows on a page."""
        data, start = self.page(number), 100 if number == 1 else 0
        kind = data[start]
        if kind not in (TABLE_LEAF, INDEX_LEAF, INDEX_INNER):
            return
        for at in self._cells(data, start):
            row = self._row(number, data, at + 4 * (kind == INDEX_INNER), is_index=kind != TABLE_LEAF)
            if row is not None:
                yield row

    def _cells(self, data: bytes, start: int) -> list[int]:
        """Return where the cells of a page begin."""
        head = start + (12 if data[start] in (TABLE_INNER, INDEX_INNER) else 8)
        count = min(int.from_bytes(data[start + 3 : start + 5], "big"), (self._usable - head) // 2)
        places = (int.from_bytes(data[head + 2 * i : head + 2 * i + 2], "big") for i in range(count))
        return [at for at in places if head + 2 * count <= at < self._usable]

    def _row(self, number: int, data: bytes, at: int, *, is_index: bool) -> RawRow | None:
        """Return the row of a cell; nothing where not even its key can be read."""
        try:
            size, at = read_varint(data, at)
            rowid = 0
            if not is_index:
                rowid, at = read_varint(data, at)
        except BrokenRecordError:
            return None
        try:
            values = read_record(self._payload(data, at, size, is_index=is_index))
        except BrokenRecordError:
            return None if is_index else RawRow(number, is_index, rowid, None)
        return RawRow(number, is_index, rowid, values)

    def _payload(self, data: bytes, at: int, size: int, *, is_index: bool) -> bytes:
        """Return the bytes of a row, with those on other pages.

        Raises:
            BrokenRecordError: some of them are missing.
        """
        usable = self._usable
        most = (usable - 12) * 64 // 255 - 23 if is_index else usable - 35
        least = (usable - 12) * 32 // 255 - 23
        here = size
        if size > most:
            here = least + (size - least) % (usable - 4)
            here = here if here <= most else least
        if not 0 <= size <= self.pages * self.page_bytes or at + here > usable:
            raise BrokenRecordError("a row is longer than the file")
        parts, left = [data[at : at + here]], size - here
        following = int.from_bytes(data[at + here : at + here + 4], "big") if left else 0
        while left > 0:
            if not 1 < following <= self.pages:
                raise BrokenRecordError("a row goes on nowhere")
            more = self.page(following)
            parts.append(more[4 : 4 + min(left, usable - 4)])
            left -= usable - 4
            following = int.from_bytes(more[:4], "big")
        return b"".join(parts)


class _Bytes:
    """The bytes of a file."""

    def __init__(self, path: Path) -> None:
        """An empty file, or none, has none."""
        size = path.stat().st_size if path.exists() else 0
        self._map: mmap.mmap | None = None
        if size:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, part: slice) -> bytes:
        """Return some of them."""
        return b"" if self._map is None else self._map[part]

    def __len__(self) -> int:
        """Return how many there are."""
        return 0 if self._map is None else len(self._map)

    def close(self) -> None:
        """Let the file go."""
        if self._map is not None:
            self._map.close()
