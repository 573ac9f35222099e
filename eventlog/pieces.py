r"""Write a text as pieces of texts that were stored a moment ago. Pure.

A ReAct agent's loop repeats itself: its next message is the model's response, then
``Observation:``, then the tool's output; its thought is the beginning of the response. Such
a text is stored as references and what is new in between::

    [{"$content": HASH}, "\nObservation: ", {"$content": HASH}]
    [{"$content": HASH, "first": 509}]          its first 509 characters

Its name is the hash of the whole text all the same, so nothing depends on how it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

PIECE_CHARS_MIN = 128
"""A shorter piece is not worth its reference."""
HEAD_CHARS = 16
"""A text that begins otherwise than a recent one neither begins with it nor is its beginning."""
JOINED_CHARS_MAX = 64_000_000
"""The codec stores no longer text."""
RECENT_MAX, RECENT_CHARS_MAX = 12, 200_000
"""How many texts are remembered, and how long one may be."""

Recent = tuple[str, str]
"""Hash and text."""


def split_text(text: str, recent: Sequence[Recent]) -> list[Any] | None:
    """Return the pieces of ``text``, or ``None`` when less than half of it is in recent texts.

    Only a text that begins with a recent one, or is its beginning, is looked at further.
    """
    head, candidates = text[:HEAD_CHARS], recent
    for _, known in candidates:
        if known.startswith(head):
            break
    else:
        return None
    first: Recent | None = None
    for name, known in candidates:
        if known.startswith(text) and len(known) > len(text):
            return [{"$content": name, "first": len(text)}]
        if text.startswith(known) and (first is None or len(known) > len(first[1])):
            first = (name, known)
    if first is None or len(first[1]) < PIECE_CHARS_MIN:
        return None
    pieces: list[Any] = [{"$content": first[0]}]
    position = saved = len(first[1])
    while len(text) - position >= PIECE_CHARS_MIN:
        found = _earliest(text, position, candidates)
        if found is None:
            break
        start, name, length = found
        if start > position:
            pieces.append(text[position:start])
        pieces.append({"$content": name})
        position, saved = start + length, saved + length
    if saved * 2 < len(text):
        return None
    return [*pieces, text[position:]] if position < len(text) else pieces


def _earliest(text: str, position: int, candidates: Sequence[Recent]) -> tuple[int, str, int] | None:
    """Return where the first, and there the longest, recent text stands in the rest of ``text``."""
    best: tuple[int, str, int] | None = None
    for name, known in candidates:
        if PIECE_CHARS_MIN <= len(known) <= len(text) - position:
            start = text.find(known, position)
            if start >= 0 and (best is None or (start, -len(known)) < (best[0], -best[2])):
                best = (start, name, len(known))
    return best


def join_pieces(pieces: Any, lookup: Callable[[str], Any]) -> str:
    """Return the text that pieces make up; ``lookup`` returns a stored text and raises ``KeyError`` if it is gone.

    Raises:
        KeyError: the text would be longer than any that is stored.
    """
    out: list[str] = []
    chars = 0
    for piece in pieces if isinstance(pieces, list) else []:
        text = _piece(piece, lookup)
        if text is not None:
            chars += len(text)
            if chars > JOINED_CHARS_MAX:
                raise KeyError(f"more than {JOINED_CHARS_MAX} characters")
            out.append(text)
    return "".join(out)


def _piece(piece: Any, lookup: Callable[[str], Any]) -> str | None:
    """Return the text of one piece; ``None`` for what is none."""
    if isinstance(piece, dict) and isinstance(piece.get("$content"), str):
        text, first = lookup(piece["$content"]), piece.get("first")
        return (text[:first] if isinstance(first, int) else text) if isinstance(text, str) else None
    return piece if isinstance(piece, str) else None
