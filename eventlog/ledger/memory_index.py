"""A full-text index of memories: in the memory of this process only, so that an encrypted log leaks no word.

SQLite's FTS5 ranks with BM25; words are reduced to their stems (``vulnerabilities`` finds ``vulnerability``), and a
memory is found by any of the words.
"""

from __future__ import annotations

import re
import sqlite3
import weakref
from collections.abc import Iterable

import sqlite_utils

TOKENIZER = "porter unicode61 remove_diacritics 2"
RANK = "bm25(10.0, 3.0)"
"""What a word of the value weighs, and one of the metadata."""
WORDS_MAX = 200
"""Of a query; further ones are not looked for."""
FUNCTION_WORDS = frozenset(
    "a an and are as at be by for from in is it of on or that the this to was were what which who with".split()
)
"""Not looked for beside other words: in a small memory they would weigh as much as those."""

_WORD = re.compile(r"[^\s\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+")
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff])")
"""Characters of scripts that are written without spaces: each is a word."""

Entry = tuple[int, str, str]
"""Row, text of the value, text of the metadata."""


def words_of(query: str) -> list[str]:
    """Return the words to look for; none of a text without letters and digits."""
    found = dict.fromkeys(word for word in _WORD.findall(_clean(query)) if any(map(str.isalnum, word)))
    telling = [word for word in found if word.lower() not in FUNCTION_WORDS]
    return (telling or list(found))[:WORDS_MAX]


def _clean(text: str) -> str:
    """Return a text SQLite can take: without half characters."""
    return text.encode("utf-8", "replace").decode()


def _spaced(text: str) -> str:
    """Return a text in which every word can be told from the next."""
    return _UNSPACED.sub(r" \1 ", _clean(text))


class MemoryIndex:
    """An index by rows; not safe to use from several threads at once."""

    def __init__(self) -> None:
        """It begins empty."""
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, connection.close)
        connection.execute("PRAGMA temp_store = MEMORY")  # what it sorts must not reach the disk either
        db = sqlite_utils.Database(connection)
        self._table = db.table("memories").create({"id": int, "value": str, "metadata": str}, pk="id")
        self._table.enable_fts(["value", "metadata"], create_triggers=True, tokenize=TOKENIZER)
        db.execute("INSERT INTO memories_fts (memories_fts, rank) VALUES ('rank', ?)", [RANK])

    def put(self, entries: Iterable[Entry]) -> None:
        """Take these texts, also in the place of others."""
        rows = [{"id": row, "value": _spaced(text), "metadata": _spaced(more)} for row, text, more in entries]
        if rows:
            self._table.upsert_all(rows, pk="id")

    def remove(self, rows: Iterable[int]) -> None:
        """Find these rows no more."""
        for row in rows:
            self._table.delete_where("id = ?", [row])

    def scores(self, query: str) -> dict[int, float] | None:
        """Return the rows that share a word with a text, each with how well it fits: higher is better.

        ``None``: the text has no words.
        """
        words = words_of(query)
        if not words:
            return None
        match = " OR ".join(f'"{_spaced(word)}"' for word in words)
        return {hit["id"]: -hit["rank"] for hit in self._table.search(match, columns=["id"], include_rank=True)}
