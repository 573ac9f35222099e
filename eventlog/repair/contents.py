"""Which large values are what their hash says, and what stands in for those that are not."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.contents import content_hash
from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.pieces import join_pieces
from eventlog.repair.links import Links
from eventlog.seal import CONTENT, Place
from eventlog.values import collect_refs

GOOD, CHANGED, BAD = "good", "changed", "bad"
PASSES_MAX = 32
"""A text in pieces of texts in pieces…"""
PAGE_ROWS = 200
LOST = msgspec.json.encode({"$lost": "this value could not be saved from the damaged log"}).decode()
"""Body of what stands in for a lost content; nothing can be made of the tag, so it is never served as an answer."""

_HASH_OF = "coalesce((SELECT hash FROM contents WHERE id = {0}), (SELECT hash FROM known_contents WHERE id = {0}))"
_PAGE = (
    f"SELECT c.id, c.hash, c.kind, c.body, c.parent, c.text, {_HASH_OF.format('c.parent')}, {_HASH_OF.format('c.text')}"
    f" FROM contents AS c WHERE c.id > ? AND c.verdict IS NULL ORDER BY c.id LIMIT {PAGE_ROWS}"
)
_PROOF = "SELECT proof FROM tombstones WHERE what = 'content' AND id = ?"
_PIECE = "SELECT kind, body, verdict FROM contents WHERE hash = ?"
_STAND_IN = (
    "INSERT INTO contents (id, hash, kind, parent, text, body, verdict) VALUES (?, ?, ?, NULL, NULL, ?, 'lost')"
    " ON CONFLICT DO UPDATE SET hash = excluded.hash, kind = excluded.kind, text = NULL, body = excluded.body,"
    " verdict = 'lost', parent = iif(excluded.kind = 'message' AND parent IN (SELECT id FROM contents"
    " WHERE verdict IN ('good', 'changed')), parent, NULL)"
)
"""Where a message is lost, the conversation before it is not."""
_INNER = (
    f"SELECT c.id, c.kind, c.body, c.verdict, w.hash, w.seq, {_HASH_OF.format('c.parent')}, {_HASH_OF.format('c.text')}"
    " FROM wanted AS w JOIN contents AS c ON c.hash = w.hash AND c.verdict IN ('good', 'changed', 'lost')"
    f" WHERE w.done IS NULL LIMIT {PAGE_ROWS}"
)
_LOST = (
    "SELECT w.hash, w.seq, w.is_talk, c.id FROM wanted AS w LEFT JOIN contents AS c ON c.hash = w.hash"
    " WHERE c.verdict IS NULL OR c.verdict = 'bad'"
)
_NEXT_ID = (
    "SELECT max(coalesce((SELECT max(id) FROM contents), 0), coalesce((SELECT max(id) FROM known_contents), 0)) + 1"
)
_WANT = "INSERT OR IGNORE INTO wanted (hash, seq, is_talk) VALUES (?, ?, ?)"


class _MissingError(Exception):
    """A piece is not there, or not yet known to be good."""


def judge_contents(links: Links) -> None:
    """Decide about every content that was found."""
    work = links.work
    for _ in range(PASSES_MAX):
        before, after = work.db.total_changes, 0
        while rows := work.db.execute(_PAGE, (after,)).fetchall():
            after = rows[-1][0]
            verdicts = [(verdict, row[0]) for row in rows if (verdict := _verdict(links, row)) is not None]
            work.db.executemany("UPDATE contents SET verdict = ? WHERE id = ?", verdicts)
        if work.db.total_changes == before:
            break
    work.db.execute("UPDATE contents SET verdict = 'bad' WHERE verdict IS NULL")


def _verdict(links: Links, row: Any) -> str | None:
    """Return what a content is; ``None``: that depends on others nobody has decided about."""
    _, name, kind, body, parent, text, parent_hash, text_hash = row
    if not isinstance(name, str) or not isinstance(body, str):
        return BAD
    proof = links.work.one(_PROOF, name)
    if proof is not None:
        return CHANGED if links.chain.proof("tombstone", "content", name, kind, body) == proof else BAD
    if (parent is not None and parent_hash is None) or (text is not None and text_hash is None):
        return BAD
    try:
        plain = links.opened(body, CONTENT, name)
        data = _joined(links, plain) if kind == "pieces" else plain
    except _MissingError:
        return None
    except EventFormatError:
        return BAD
    if data is None:
        return GOOD  # made of what was changed on purpose
    kind = "text" if kind == "pieces" else str(kind)
    return GOOD if content_hash(kind, data, parent_hash, text_hash, links.seal.content_key) == name else BAD


def _joined(links: Links, pieces: bytes) -> bytes | None:
    """Return the text that pieces make up; ``None`` when one was changed on purpose."""
    changed = False

    def piece(name: str) -> str:
        nonlocal changed
        found = links.work.db.execute(_PIECE, (name,)).fetchone()
        if found is None or found[2] not in (GOOD, CHANGED):
            raise _MissingError
        changed = changed or found[2] == CHANGED
        inner: bytes | None = links.opened(found[1], CONTENT, name)
        if found[0] == "pieces":
            inner = _joined(links, inner or b"")
            changed = changed or inner is None
        return (inner or b"").decode()

    text = join_pieces(decode_payload(pieces), piece)
    return None if changed else text.encode()


def want(links: Links, text: str, place: tuple[Place, ...], seq: int | None, *, pieces: bool = False) -> None:
    """Take down what a kept event, state or content refers to; what cannot be read refers to nothing."""
    try:
        tree = decode_payload(links.opened(text, *place))
    except EventFormatError:
        return
    talks = _talks(tree)
    names = collect_refs(tree) | (_parts(tree) if pieces else set())
    links.work.db.executemany(_WANT, [(name, seq, name in talks) for name in names if name.isascii()])


def _talks(tree: Any) -> set[str]:
    """Return the references that are conversations."""
    found: set[str] = set()
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            if "$content" in node and "n" in node:
                found.add(str(node["$content"]))
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return found


def _parts(tree: Any) -> set[str]:
    """Return the texts that pieces are taken from, also those of which only the beginning is taken."""
    pieces = tree if isinstance(tree, list) else []
    return {p["$content"] for p in pieces if isinstance(p, dict) and isinstance(p.get("$content"), str)}


def stand_in(links: Links) -> list[tuple[str, int | None]]:
    """Put something in the place of contents that are wanted and lost; returns their hashes, and who wanted them first.

    What those refer to that are not lost is wanted as well.
    """
    work = links.work
    lost: list[tuple[str, int | None]] = []
    while True:
        _want_inner(links)
        rows = work.db.execute(_LOST).fetchall()
        if not rows:
            return lost
        for name, seq, is_talk, row in rows:
            _put(links, str(name), row, is_talk=bool(is_talk))
            lost.append((str(name), seq))


def _put(links: Links, name: str, row: int | None, *, is_talk: bool) -> None:
    """Put a stand-in in the row a content had, if that is known and free."""
    work = links.work
    known = row if row is not None else work.one("SELECT id FROM known_contents WHERE hash = ?", name)
    if known is None or (row is None and work.one("SELECT 1 FROM contents WHERE id = ?", known)):
        known = work.one(_NEXT_ID)
    is_talk = is_talk or work.one("SELECT kind FROM contents WHERE id = ?", known) == "message"
    body = links.seal.seal_text(LOST, CONTENT, name)
    work.db.execute(_STAND_IN, (known, name, "message" if is_talk else "json", body))


def _want_inner(links: Links) -> None:
    """Take down what contents that are wanted refer to, until nothing new comes."""
    work = links.work
    while rows := work.db.execute(_INNER).fetchall():
        for _, kind, body, verdict, name, seq, parent, text in rows:
            work.db.execute("UPDATE wanted SET done = 1 WHERE hash = ?", (name,))
            if kind != "text" and verdict != "lost":
                want(links, body, (CONTENT, name), seq, pieces=kind == "pieces")
            inner = [(parent, seq, 1), (text, seq, 0)]
            work.db.executemany(_WANT, [item for item in inner if item[0] is not None])
