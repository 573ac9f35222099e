"""Encryption at rest: what a text looks like in its column, and what it was before.

::

    passphrase ─ scrypt, salt of the log ─ master ─┬─ values    AES-256-GCM: everything sealed
                                                   ├─ nonces    of names: equal texts are equal, so UNIQUE finds them
                                                   ├─ contents  the keyed hash that names a content
                                                   └─ check     stands in ``meta``: tells a wrong passphrase

    stored = base64url( nonce 12 bytes · ciphertext · tag 16 bytes )

A value is bound to its *place*: what it is, and the seq, hash or name that finds its row. One that was put elsewhere
does not open. No place holds the number of a row, so rows may be copied as they are to a log with the same lock.

A log is sealed or plain from its first moment; the *lock* in its ``meta`` says so. Nothing here costs a plain log
anything: its seal hands everything back as it is.
"""

from __future__ import annotations

import os
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from typing import Any

import msgspec

from eventlog.errors import CipherKeyError, EventFormatError, NotEncryptedError

VARIABLE = "EVENTLOG_CIPHER_KEY"
"""Environment variable that holds the passphrase."""
VERSION = 1
COST = 2**15
"""scrypt's ``n`` of new logs, with ``r=8, p=1``: 32 MiB, a tenth of a second."""
COST_MIN, COST_MAX = 2**14, 2**18
"""What a lock may ask for: a stranger's file shall not take all memory."""
SALT_BYTES, NONCE_BYTES, KEY_BYTES = 16, 12, 32

NAME, PATH = "name", "path"
"""Places of names and labels; those that stand in more than one row."""
EVENT, CONTENT, SNAPSHOT, EXECUTION, BASE = "event", "content", "snapshot", "execution", "base"
"""Places of values. What follows them: seq · hash · projection and seq · field and started_seq · field and seq."""

Place = str | int


class CipherKey:
    """A passphrase that shows itself in no message, log or dump; an empty one means that none was given."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes = b"") -> None:
        """``secret``: the passphrase as bytes."""
        self._secret = secret

    def reveal(self) -> bytes:
        """Return the passphrase."""
        return self._secret

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._secret)

    def __eq__(self, other: object) -> bool:
        """Compare without telling by the time how much is equal."""
        return isinstance(other, CipherKey) and compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        """Return a hash; equal passphrases have the same."""
        return hash(self._secret)

    def __repr__(self) -> str:
        """Show nothing."""
        return "CipherKey(…)" if self._secret else "CipherKey()"

    def __reduce__(self) -> Any:
        """Leave this process in no pickle."""
        raise TypeError("a passphrase is not pickled: give it to the other process in EVENTLOG_CIPHER_KEY")


def cipher_key(given: str | bytes | None, path: str) -> CipherKey:
    """Return the passphrase for a log: the one given, else that of the environment, else none.

    Raises:
        CipherKeyError: it is empty; a log that was to be sealed must not be plain because a variable was not set.
    """
    where = "the key" if given is not None else VARIABLE
    text = os.environ.get(VARIABLE) if given is None else given
    if text is None:
        return CipherKey()
    if not text:
        raise CipherKeyError(path, f"{where} is empty")
    return CipherKey(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))


class Seal:
    """Of a plain log: hands everything back as it is."""

    lock = ""
    """The row of ``meta`` that says how the log is sealed; empty in a plain one."""
    content_key = b""
    """Key of the hashes that name contents."""

    def __bool__(self) -> bool:
        """Whether it keeps anything secret."""
        return bool(self.lock)

    def seal(self, data: bytes, *place: Place) -> bytes:  # noqa: ARG002 - the interface
        """Return what to store for ``data``, which is UTF-8 in both."""
        return data

    def unseal(self, stored: bytes, *place: Place) -> bytes:  # noqa: ARG002 - the interface
        """Return what was sealed for this place.

        Raises:
            EventFormatError: it was changed, moved, or sealed with another key.
        """
        return stored

    def seal_text(self, text: str, *place: Place) -> str:  # noqa: ARG002 - the interface
        """Return what to store for a text; an empty one stays empty."""
        return text

    def unseal_text(self, stored: str, *place: Place) -> str:  # noqa: ARG002 - the interface
        """Return the text that was sealed for this place, by ``seal_text`` or ``seal_name``."""
        return stored

    def seal_name(self, text: str, place: Place) -> str:  # noqa: ARG002 - the interface
        """Return what to store for a name: always the same for the same name, so that it can be looked up."""
        return text


PLAIN = Seal()


class CipherSeal(Seal):
    """Of an encrypted log."""

    def __init__(self, lock: str, master: bytes) -> None:
        """``lock`` goes with the log; ``master`` never leaves the process."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - plain logs need none of it

        self.lock = lock
        self.content_key = _derived(master, b"contents")
        self._nonces = _derived(master, b"nonces")
        self._cipher = AESGCM(_derived(master, b"values"))

    def seal(self, data: bytes, *place: Place) -> bytes:
        """Return what to store for ``data``: another text each time."""
        return self._sealed(os.urandom(NONCE_BYTES), data, _bytes(place))

    def unseal(self, stored: bytes, *place: Place) -> bytes:
        """Return what was sealed for this place."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - loaded by now

        try:
            raw = urlsafe_b64decode(stored)
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bytes(place))
        except (InvalidTag, ValueError) as error:
            where = " ".join(map(str, place))
            raise EventFormatError(f"{where}: the sealed value was changed or belongs elsewhere") from error

    def seal_text(self, text: str, *place: Place) -> str:
        """Return what to store for a text."""
        return self.seal(text.encode(), *place).decode() if text else text

    def unseal_text(self, stored: str, *place: Place) -> str:
        """Return the text that was sealed for this place."""
        return self.unseal(stored.encode(), *place).decode() if stored else stored

    def seal_name(self, text: str, place: Place) -> str:
        """Return what to store for a name; its nonce is a keyed hash of it, so no other text ever has that one."""
        if not text:
            return text
        data, where = text.encode(), _bytes((place,))
        nonce = blake2b(where + b"\0" + data, key=self._nonces, digest_size=NONCE_BYTES).digest()
        return self._sealed(nonce, data, where).decode()

    def _sealed(self, nonce: bytes, data: bytes, place: bytes) -> bytes:
        """Return nonce and ciphertext as text."""
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, data, place))


def _bytes(place: tuple[Place, ...]) -> bytes:
    """Return a place as the cipher binds it."""
    return "\0".join(map(str, place)).encode("utf-8", "surrogatepass")


def seal_of(db: sqlite3.Connection) -> Seal:
    """Return the seal of the log behind a connection that ``storage`` opened."""
    found: Seal = getattr(db, "seal", PLAIN)
    return found


# -- the lock of a log ----------------------------------------------------------------------------


class _Lock(msgspec.Struct):
    """What ``meta`` keeps under ``cipher``."""

    version: int
    cost: int
    salt: str
    check: str


def new_lock(key: CipherKey) -> str:
    """Return the lock of a new log; empty without a passphrase."""
    if not key:
        return ""
    salt = os.urandom(SALT_BYTES)
    check = _derived(_master(key, salt, COST), b"check").hex()
    return msgspec.json.encode(_Lock(VERSION, COST, salt.hex(), check)).decode()


def open_seal(lock: str, key: CipherKey, path: str) -> Seal:
    """Return the seal of a log with this lock.

    Raises:
        CipherKeyError: the log is encrypted, and the key is missing or wrong.
        NotEncryptedError: it is not, and there is a key.
    """
    if not lock:
        if key:
            raise NotEncryptedError(path, "it is not encrypted, and a key was given")
        return PLAIN
    if not key:
        raise CipherKeyError(path, "it is encrypted, and no key was given")
    read = _read_lock(lock, path)
    master = _master(key, bytes.fromhex(read.salt), read.cost)
    if not compare_digest(_derived(master, b"check").hex(), read.check):
        raise CipherKeyError(path, "it is encrypted with another key")
    return CipherSeal(lock, master)


def _read_lock(lock: str, path: str) -> _Lock:
    """Return a lock that this version can open."""
    try:
        read = msgspec.json.decode(lock, type=_Lock)
        bytes.fromhex(read.salt)
    except (msgspec.MsgspecError, ValueError) as error:
        raise CipherKeyError(path, "the row that says how it is encrypted cannot be read") from error
    if read.version != VERSION or not COST_MIN <= read.cost <= COST_MAX or read.cost & (read.cost - 1):
        raise CipherKeyError(path, "it is encrypted in a way this version does not know")
    return read


@lru_cache(maxsize=32)
def _master(key: CipherKey, salt: bytes, cost: int) -> bytes:
    """Return the key from which all others come; slow on purpose, so a process does it once for each log."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt  # noqa: PLC0415 - plain logs need none of it

    return Scrypt(salt=salt, length=KEY_BYTES, n=cost, r=8, p=1).derive(key.reveal())


def _derived(master: bytes, purpose: bytes) -> bytes:
    """Return the key for one purpose."""
    return blake2b(purpose, key=master, digest_size=KEY_BYTES, person=b"eventlog-seal").digest()
