"""What events refer to, by its hash: each content is looked at once, with the first event that leads to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from eventlog.contents import Cache, content_hash
from eventlog.digests import as_stored
from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.pieces import join_pieces
from eventlog.seal import CONTENT
from eventlog.values import collect_refs
from eventlog.verifying.report import NOWHERE, Place
from eventlog.verifying.subject import Subject

LOOKUPS_MAX = 100
"""Bodies may be large: so many at once."""
KNOWN_MAX = 50_000
NESTED_MAX = 32
"""A text in pieces of texts in pieces…; ours go two deep."""
BITS_MAX = 1 << 27
"""Rows beyond are marked one by one: a made-up id shall not take all memory."""

_COLUMNS = "c.id, c.hash, c.kind, c.parent, c.text, c.body, up.hash, long.hash"
_JOINED = "contents AS c LEFT JOIN contents AS up ON up.id = c.parent LEFT JOIN contents AS long ON long.id = c.text"
_FROM = f"SELECT {_COLUMNS} FROM {_JOINED}"
_PIECE = "SELECT kind, body FROM contents WHERE hash = ?"
_IS_CHANGED = "SELECT proof FROM tombstones WHERE what = 'content' AND id = ?"

Wanted = dict[str, tuple[int | None, Place]]
"""Hash → the event that leads to it first."""


class Marks:
    """A set of row ids that takes one bit for each."""

    def __init__(self) -> None:
        """Nothing is marked."""
        self._bits = bytearray()
        self._far: set[int] = set()
        self.count = 0

    def add(self, row: int) -> bool:
        """Mark a row; false if it was."""
        if row in self:
            return False
        self.count += 1
        if not 0 <= row < BITS_MAX:
            self._far.add(row)
            return True
        if row >> 3 >= len(self._bits):
            self._bits.extend(bytes((row >> 3) + 1 - len(self._bits) + 4096))
        self._bits[row >> 3] |= 1 << (row & 7)
        return True

    def __contains__(self, row: int) -> bool:
        """Whether a row is marked."""
        if not 0 <= row < BITS_MAX:
            return row in self._far
        return row >> 3 < len(self._bits) and bool(self._bits[row >> 3] >> (row & 7) & 1)


class ContentCheck:
    """Follows references and compares what they lead to with its hash."""

    def __init__(self, subject: Subject) -> None:
        """``subject``: the log under check."""
        self._subject, self._db, self._findings = subject, subject.db, subject.findings
        self._wanted: Wanted = {}
        self._known: Cache[str, bool] = Cache(KNOWN_MAX)
        self.marks = Marks()

    @property
    def count(self) -> int:
        """How many were looked at."""
        return self.marks.count

    def want(self, hashes: Iterable[str], seq: int | None, place: Place) -> None:
        """Look at contents with the next ``settle``."""
        for name in hashes:
            if name not in self._wanted and not self._known.get(name):
                self._wanted[name] = (seq, place)

    def settle(self) -> None:
        """Look at everything that is wanted, and at all that leads to."""
        while self._wanted:
            chunk = dict(list(self._wanted.items())[:LOOKUPS_MAX])
            for name in chunk:
                del self._wanted[name]
                self._known.put(name, value=True)
            self._look(chunk)

    def _look(self, chunk: Wanted) -> None:
        """Look at some contents."""
        names = [name for name in chunk if name.isascii()]  # others are no hashes
        try:
            rows = self._db.execute(f"{_FROM} WHERE c.hash IN ({','.join('?' * len(names))})", names).fetchall()
        except sqlite3.Error:
            rows = self._one_by_one(chunk)
        for row in rows:
            if row[1] in chunk:
                self._check(row, *chunk.pop(row[1]))
        for name, (seq, place) in chunk.items():
            self._findings.add("content", f"content {name} is missing", seq=seq, place=place, readable=_ELSE)

    def _one_by_one(self, chunk: Wanted) -> list[Any]:
        """Return the rows that can be read."""
        rows = []
        for name, (seq, place) in [item for item in chunk.items() if item[0].isascii()]:
            try:
                rows += self._db.execute(f"{_FROM} WHERE c.hash = ?", (name,)).fetchall()
            except sqlite3.Error as error:
                del chunk[name]
                what = f"content {name} cannot be read: {error}"
                self._findings.add("content", what, seq=seq, place=place, readable=_ELSE)
        return rows

    def _check(self, row: Any, seq: int | None, place: Place) -> None:
        """Compare a content with its hash, and want what it refers to."""
        if not self.marks.add(row[0]):
            return
        try:
            self._require(row, seq, place)
        except (EventFormatError, sqlite3.Error, AttributeError, LookupError, TypeError, ValueError) as error:
            self._findings.add("content", f"content {row[1]} {error}", seq=seq, place=place, readable=_ELSE)

    def _require(self, row: Any, seq: int | None, place: Place) -> None:
        """Compare one row with its hash.

        Raises:
            EventFormatError: it is not what its hash says.
        """
        _, name, kind, parent, text, body, parent_hash, text_hash = row
        if kind not in ("text", "pieces", "json", "message"):
            raise EventFormatError(f"is of no kind we know: {kind!r}")
        if (parent is not None and parent_hash is None) or (text is not None and text_hash is None):
            raise EventFormatError("belongs to another one that is missing")
        self.want([n for n in (parent_hash, text_hash) if n is not None], seq, place)
        plain = self._subject.opened(body, CONTENT, name)
        if plain is not None and kind != "text":
            self.want([*collect_refs(decode_payload(plain)), *_first_refs(decode_payload(plain))], seq, place)
        proof = self._db.execute(_IS_CHANGED, (name,)).fetchone()
        if proof is not None:
            chain = self._subject.chain
            if chain is not None and chain.proof("tombstone", "content", name, kind, body) != proof[0]:
                raise EventFormatError("was changed on purpose once, and again since")
            return
        data = self._joined(plain) if plain is not None and kind == "pieces" else plain
        is_text = kind in ("text", "pieces")
        if data is not None and self._hash("text" if is_text else kind, data, parent_hash, text_hash) != name:
            raise EventFormatError("is not what its hash says")

    def _hash(self, kind: str, data: bytes, parent: str | None, text: str | None) -> str:
        """Return the name of a content; in a sealed log a keyed hash."""
        seal = self._subject.seal
        return content_hash(kind, data, parent, text, seal.content_key if seal is not None else b"")

    def _joined(self, pieces: bytes, depth: int = 0) -> bytes | None:
        """Return the text that pieces make up; ``None`` when one of them was changed on purpose.

        Raises:
            EventFormatError: a piece is missing, or they go round in circles.
        """
        changed = False

        def piece(name: str) -> str:
            nonlocal changed
            found = self._db.execute(_PIECE, (name,)).fetchone()
            if found is None or depth > NESTED_MAX:
                raise EventFormatError(f"is made of {name}, which is missing")
            changed = changed or self._db.execute(_IS_CHANGED, (name,)).fetchone() is not None
            plain = self._subject.opened(found[1], CONTENT, name) or b""
            inner = self._joined(plain, depth + 1) if found[0] == "pieces" else plain
            changed = changed or inner is None
            return (inner or b"").decode("utf-8", "surrogateescape")

        text = join_pieces(decode_payload(pieces), piece)
        return None if changed else as_stored(text)

    # -- the rest -----------------------------------------------------------------------------------

    def check_rest(self) -> None:
        """Look at what no event, snapshot or base refers to: that is no damage, unless it is not what its hash says."""
        orphans = 0
        for row in self._subject.rows(_COLUMNS, _JOINED, "c.id", LOOKUPS_MAX):
            if row[0] not in self.marks:
                orphans += 1
                self._check(row, None, NOWHERE)
                self._wanted.clear()  # what only it refers to is met by itself
        if orphans:
            self._findings.note(f"{orphans} contents are referred to by nothing")


def _first_refs(tree: Any) -> list[str]:
    """Return the texts of which only the beginning is a piece: no plain references."""
    pieces = tree if isinstance(tree, list) else []
    return [p["$content"] for p in pieces if isinstance(p, dict) and isinstance(p.get("$content"), str)]


_ELSE = "all events; what this content held is not what was recorded"
