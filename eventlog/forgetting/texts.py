"""A value in payloads and large values. Reads only."""

from __future__ import annotations

from typing import Any

from eventlog.forgetting.needle import Needle
from eventlog.forgetting.stored import Query, as_tree, pages
from eventlog.pieces import join_pieces
from eventlog.seal import CONTENT, EVENT, Seal

PIECES_DEPTH_MAX = 32

_EVENTS = (
    "SELECT seq, event_id, parent, previous, triggered, started, payload FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
)
_LINKS = ("event_id", "parent", "previous", "triggered", "started")
_CONTENTS = "SELECT id, hash, kind, body FROM contents WHERE id > ? ORDER BY id LIMIT ?"
_CONTENT = "SELECT kind, body FROM contents WHERE hash = ?"


def find_in_events(query: Query, seal: Seal, needle: Needle) -> dict[int, dict[str, Any]]:
    """Return seq → new columns of the events whose payload, or an id that a user gave, holds the value."""
    found: dict[int, dict[str, Any]] = {}
    for seq, *links, payload in pages(query, _EVENTS):
        new: dict[str, Any] = {
            name: needle.clean(link)
            for name, link in zip(_LINKS, links, strict=True)
            if isinstance(link, str) and needle.is_in(link)
        }
        cleaned = needle.clean_json(seal.unseal_text(payload, EVENT, seq))
        if cleaned is not None:
            new["payload"] = seal.seal_text(cleaned, EVENT, seq)
        if new:
            found[seq] = new
    return found


def find_in_contents(query: Query, seal: Seal, needle: Needle) -> dict[int, tuple[str, str, str, bool]]:
    """Return row → hash, kind, body, and whether the hash still fits, of the large values that hold the value.

    A text in pieces is looked at as a whole, and no longer kept in pieces if one of them changes.
    """
    found: dict[int, tuple[str, str, str, bool]] = {}
    in_pieces = []
    for row, name, kind, stored in pages(query, _CONTENTS):
        body = seal.unseal_text(stored, CONTENT, name)
        if kind == "pieces":
            in_pieces.append((row, name, body))
            continue
        cleaned = needle.clean(body) if kind == "text" else needle.clean_json(body)
        if cleaned is not None and cleaned is not body:
            found[row] = (name, kind, seal.seal_text(cleaned, CONTENT, name), False)
    changed = {name for name, *_ in found.values()}
    for row, name, body in in_pieces:
        whole, uses = _joined(query, seal, body)
        cleaned = needle.clean(whole)
        if cleaned is not whole or uses & changed:
            found[row] = (name, "text", seal.seal_text(cleaned, CONTENT, name), cleaned is whole)
    return found


def _joined(query: Query, seal: Seal, body: str, depth: int = 0) -> tuple[str, set[str]]:
    """Return the text that pieces make up, and the hashes of all that it is made of."""
    uses: set[str] = set()

    def lookup(name: str) -> str:
        rows = query(_CONTENT, (name,)) if depth < PIECES_DEPTH_MAX else []
        uses.add(name)
        if not rows:
            return ""
        text = seal.unseal_text(rows[0][1], CONTENT, name)
        if rows[0][0] == "pieces":
            text, inner = _joined(query, seal, text, depth + 1)
            uses.update(inner)
        return text

    return join_pieces(as_tree(body), lookup), uses
