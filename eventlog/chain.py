"""The chain of digests that binds each event to the one before it on its branch. Pure.

::

    digest = H(previous digest, seq, event id, type, time, links, task, agent, path, flags, payload)

The payload names its contents by hash, so the chain covers them too. Everything is hashed as it stands in the
tables: in a sealed log (``seal.py``) the payload, the task's name, the agent's role and the labels of the path are
the sealed ones, so that the chain can be checked without the key that opens them. Without a key ``H`` finds accidental
damage; with one it is a MAC, and whoever has not the key can change nothing unseen.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

DIGEST_BYTES = 20

_pack = msgspec.msgpack.encode


class Chain:
    """Makes the digests of one log."""

    def __init__(self, key: bytes = b"") -> None:
        """``key``: at most 64 bytes; none makes plain hashes."""
        self._key = key

    @property
    def is_keyed(self) -> bool:
        """Whether its digests are a MAC."""
        return bool(self._key)

    def check_of(self, salt: str) -> str:
        """Return what tells the key from others; it stands in the log and does not give the key away."""
        return self.proof("chain key", salt).hex()

    def digest(self, previous: bytes, seq: int, facts: tuple[Any, ...], path: str, flags: int, payload: bytes) -> bytes:
        """Return the digest of an event after ``previous``; ``facts`` as they are stored, names instead of their rows.

        ``facts``: event id, type, at_ns, the four links, emission, task (id, name), agent (id, role).
        """
        return self._hash(previous + _pack((seq, facts, path, flags)) + payload)

    def proof(self, *parts: Any) -> bytes:
        """Return the digest of what stands beside the chain: a base, a tombstone."""
        return self._hash(_pack(("proof", *parts)))

    def snapshot_proof(self, digest: bytes, seq: int, projection: str, version: int, state: str) -> bytes:
        """Return the proof of a state as it is stored, after the event with that digest."""
        return self.proof("snapshot", digest, seq, projection, version, state)

    def _hash(self, data: bytes) -> bytes:
        """Return ``H``."""
        return blake2b(data, digest_size=DIGEST_BYTES, key=self._key).digest()
