"""Large values are kept once, under the hash of what they hold; conversations are chains.

::

    text      hash = H("t" + utf8)                    body = the text
    pieces    hash = H("t" + utf8)                    body = JSON: what the text is made of (pieces.py)
    json      hash = H("j" + json)                    body = a JSON value
    message   hash = H("m" + parent hash + text hash + json)
              body = one message; parent = the messages before it; text = its ``content``, if long

In a sealed log ``H`` is keyed, and the bodies are sealed on their way into the table.

A conversation is named by its last message, so the k-th call of a conversation costs what
is new in it. The known prefix is found by comparing the messages themselves (equal strings
are mostly the same objects, which Python compares by identity), before any hashing.

Pure: this module holds caches, never a database. A value enters the caches only when the
event that carries it was queued (``publish``), so no later event can refer to a body that
was not stored. Stored bodies that nothing refers to may be collected (``compaction/collect.py``),
also by another process: so an event names what it took for stored (``Known``), with the bodies
at hand, and they are written again if there was a collection since.
"""

from __future__ import annotations

import itertools
from binascii import b2a_base64
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import msgspec

from eventlog.pieces import RECENT_MAX, Recent

_epochs = itertools.count(1)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

HASH_BYTES = 18
"""144 bits: 24 characters of base64 without padding."""

PART_BYTES = 2047
"""hashlib lets other threads run while it hashes more than this at once, which may take them milliseconds."""
UNINTERRUPTED_MAX = 65_536
"""Longer texts are hashed at once: then the other threads may as well run."""

TEXT_CHARS_MIN = 256
"""Strings at least this long are kept as contents; a reference costs about 40 bytes."""

CACHE_CHARS_MAX = 4_000_000
"""Characters of text one generation of a cache may hold alive."""


def content_hash(
    kind: str, data: bytes, parent: str | None = None, text: str | None = None, key: bytes = b""
) -> str:  # fmt: skip
    """Return the name of a content: 24 characters. With ``key``, whoever has it not cannot tell what is named."""
    digest = blake2b(f"{kind[0]}{parent or ''}|{text or ''}|".encode(), digest_size=HASH_BYTES, key=key)
    if len(data) > UNINTERRUPTED_MAX:
        digest.update(data)
    else:
        for start in range(0, len(data), PART_BYTES):
            digest.update(data[start : start + PART_BYTES])
    return b2a_base64(digest.digest(), newline=False).decode()


class NewContent(msgspec.Struct, frozen=True, gc=False):
    """A body that goes to the ``contents`` table unless it is there already."""

    hash: str
    kind: str
    """``text``, ``pieces``, ``json`` or ``message``."""
    body: str
    parent: str | None = None
    """Hash of the message before this one."""
    text: str | None = None
    """Hash of the message's ``content``, which is then not in the body."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """Contents that an event took for stored."""

    epoch: int
    """The index's epoch when it did."""
    contents: Sequence[NewContent]
    body = ""
    """It brings nothing, unless it has to."""

    def bodies(self) -> Iterator[NewContent]:
        """Yield what to write if it was collected since, in order."""
        yield from self.contents


class KnownTalk(msgspec.Struct, frozen=True, gc=False):
    """The beginning of a conversation that an event took for stored."""

    epoch: int
    nodes: list[Node]
    count: int
    """How many of the nodes it refers to: the list may grow later."""
    body = ""

    def bodies(self) -> Iterator[NewContent]:
        """Yield what to write if it was collected since, in order."""
        for node in self.nodes[: self.count]:
            yield from node.contents


Mention = NewContent | Known | KnownTalk
"""What an event says of a content it refers to."""


class Cache(Generic[K, V]):
    """A bounded dict of two generations: what was not used for a whole generation goes.

    No lock: each step is one dict operation, and losing a race costs a second encoding.
    """

    def __init__(self, cost_max: int) -> None:
        """``cost_max`` bounds one generation, in the unit ``put`` counts."""
        self._cost_max = cost_max
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._cost = 0

    def get(self, key: K) -> V | None:
        """Return the value, or ``None``."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self._young[key] = value
        return value

    def put(self, key: K, value: V, cost: int = 1) -> None:
        """Remember; when the generation is full, the older one is dropped."""
        if self._cost + cost > self._cost_max:
            self._old, self._young, self._cost = self._young, {}, 0
        self._young[key] = value
        self._cost += cost


class Node(msgspec.Struct, frozen=True, gc=False):
    """A conversation up to one of its messages."""

    hash: str
    flags: int
    """``FLAG_*`` of all messages so far."""
    chars: int
    """Length of all messages so far, roughly."""
    contents: tuple[NewContent, ...] = ()
    """The last message's body and the texts in it, in the order in which they are written."""


class Conversation(msgspec.Struct, frozen=True):
    """A known conversation: private copies of its messages to compare with, and their nodes."""

    messages: list[Any]
    nodes: list[Node]


class ContentIndex:
    """What is known to be stored: texts by value, conversations by their first two messages."""

    def __init__(self, key: bytes = b"") -> None:
        """Start empty; ``clear()`` returns here. ``key``: of the hashes, in a sealed log (``seal.py``)."""
        self.key = key
        self.texts: Cache[str, tuple[NewContent, int]] = Cache(CACHE_CHARS_MAX)
        """Text → its content, whole, and the flags of its redaction."""
        self.conversations: Cache[Hashable, Conversation] = Cache(CACHE_CHARS_MAX)
        self.requests: Cache[Hashable, tuple[list[Any], list[bytes]]] = Cache(CACHE_CHARS_MAX)
        """Messages of requests, with the chained hash up to each (see ``requests.py``)."""
        self.recent: deque[Recent] = deque(maxlen=RECENT_MAX)
        """Texts stored last: new ones are often made of them."""
        self.epoch = 0

    def clear(self) -> int:
        """Forget everything: stored bodies may be gone, or cleaned with fewer known secrets. Returns the new epoch.

        An encoding that begins meanwhile gets an epoch of its own, older than the one that is returned.
        """
        self.epoch = next(_epochs)
        self.texts.clear()
        self.conversations.clear()
        self.requests.clear()
        self.recent.clear()
        self.epoch = epoch = next(_epochs)
        return epoch
