"""What payloads refer to by hash: texts, JSON values, conversations; checked, joined and kept in memory for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from eventlog.contents import Cache
from eventlog.handle import Handle
from eventlog.nesting import decode_payload
from eventlog.pieces import join_pieces
from eventlog.seal import CONTENT
from eventlog.soundness import Soundness
from eventlog.values import collect_refs

PIECES_DEPTH_MAX = 16
"""Texts in pieces whose pieces are in pieces; ours hold few."""
MESSAGES_MAX, TEXT_CHARS_MAX = 50_000, 16_000_000
LOOKUPS_MAX = 500

_CONTENTS = "SELECT hash, kind, body FROM contents WHERE hash IN ({marks}) AND kind <> 'message'"
_CHAIN = (
    "WITH RECURSIVE up (hash, parent, text, body) AS ("
    " SELECT hash, parent, text, body FROM contents WHERE hash = ? AND kind = 'message'"
    " UNION ALL SELECT c.hash, c.parent, c.text, c.body FROM up JOIN contents AS c ON c.id = up.parent)"
    " SELECT up.hash, up.body, text.hash FROM up LEFT JOIN contents AS text ON text.id = up.text"
)


class Texts:
    """The contents of one log."""

    def __init__(self, handle: Handle, soundness: Soundness) -> None:
        """``soundness``: compares each with its hash."""
        self._handle, self._soundness = handle, soundness
        self._texts: Cache[str, Any] = Cache(TEXT_CHARS_MAX)
        self._chains: Cache[str, list[Any]] = Cache(MESSAGES_MAX)

    def forget(self) -> None:
        """Read everything anew: rows were rewritten."""
        self._texts.clear()
        self._chains.clear()

    def content(self, name: str, depth: int = 0) -> Any:
        """Return what a content holds: a text, a JSON tree, or the messages of a conversation.

        ``depth``: how many texts in pieces it is a piece of.

        Raises:
            KeyError: it is not there, or it can be no such thing.
            LogDamagedError: it is not what was recorded.
        """
        if depth > PIECES_DEPTH_MAX:
            raise KeyError(name)
        known = self._known(name)
        if known is None:
            self.load({name}, depth)
            known = self._texts.get(name)
        if known is None:
            known = self._conversation(name)
        return known

    def load(self, names: Iterable[str], depth: int = 0) -> None:
        """Fetch texts and JSON values; conversations are walked when they are needed.

        A text whose pieces are not there, or that holds itself, stays unknown.
        """
        for some in chunks(sorted(name for name in names if self._known(name) is None), LOOKUPS_MAX):
            marks = ",".join("?" * len(some))
            for name, kind, stored in self._handle.query(_CONTENTS.format(marks=marks), some):
                with suppress(KeyError):
                    self._take(name, kind, stored, depth)

    def _known(self, name: str) -> Any:
        """Return a content that is in memory."""
        known = self._texts.get(name)
        return self._chains.get(name) if known is None else known

    def _take(self, name: str, kind: str, stored: str, depth: int) -> None:
        """Open, join and check a content, and keep it in memory.

        Raises:
            KeyError: a piece of it is not there.
        """
        body = data = self._handle.db.seal.unseal_text(self._soundness.require_text(stored, name), CONTENT, name)
        value: Any = body
        pieces: list[str] = []
        if kind != "text":
            value = decode_payload(body.encode())
        if kind == "pieces":
            pieces = _names_in(value)
            value = data = join_pieces(value, partial(self.content, depth=depth + 1))
        self._soundness.require_content(name, kind, stored, _as_bytes(data), pieces=pieces)
        self._texts.put(name, value, len(body))

    def _conversation(self, name: str) -> list[Any]:
        """Return the messages of a conversation, from the longest beginning that is known.

        Raises:
            KeyError: there is none, or its messages come before themselves.
        """
        rows: dict[str, tuple[str, str | None]] = {}
        known, before = list[Any](), None
        with self._handle.steps(_CHAIN, (name,)) as steps:
            for step, stored, text in steps:
                known = self._chains.get(step) or []
                if known:
                    before = step
                    break
                if step in rows:
                    raise KeyError(name)
                rows[step] = (stored, text)
        if not rows and not known:
            raise KeyError(name)
        tail = list[Any]()
        for step, (stored, text) in reversed(rows.items()):
            tail.append(self._message(step, stored, text, before))
            before = step
        self.load(collect_refs(tail))
        messages = [*known, *tail]
        self._chains.put(name, messages, len(messages))
        return messages

    def _message(self, name: str, stored: str, text: str | None, before: str | None) -> Any:
        """Return one message after another."""
        data = self._handle.db.seal.unseal(self._soundness.require_text(stored, name).encode(), CONTENT, name)
        self._soundness.require_content(name, "message", stored, data, parent=before, text=text)
        message = decode_payload(data)
        return {**message, "content": {"$content": text}} if text else message


def _names_in(pieces: Any) -> list[str]:
    """Return the texts that others are made of, whole or in part."""
    found = [p.get("$content") for p in pieces if isinstance(p, dict)] if isinstance(pieces, list) else []
    return [name for name in found if isinstance(name, str)]


def _as_bytes(text: str) -> bytes:
    """Return the bytes of a text, as its hash was made of."""
    return text.encode("utf-8", "surrogateescape")


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield slices small enough for SQLite's limit of parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
