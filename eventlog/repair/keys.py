"""The keys of a damaged log: what its chain was made with, and what it is encrypted with."""

from __future__ import annotations

from pathlib import Path

from eventlog.chain import Chain
from eventlog.chain_key import META, PLAIN_CHAIN, VARIABLE, fits
from eventlog.errors import ChainKeyError, CipherKeyError
from eventlog.repair.links import Links
from eventlog.repair.work import Work
from eventlog.seal import CipherKey, Seal, open_seal

_LOCK = "SELECT value FROM meta WHERE key = 'cipher'"
_LOOKS_SEALED = (
    "SELECT EXISTS (SELECT 1 FROM events WHERE length(payload) > 40 AND payload NOT GLOB '*[^A-Za-z0-9_=-]*')"
    " AND NOT EXISTS (SELECT 1 FROM events WHERE payload LIKE '{%')"
)
"""A payload is the JSON of an object, or sealed."""


def choose_seal(work: Work, path: Path, key: CipherKey) -> Seal:
    """Return what opens the values of the log.

    Raises:
        CipherKeyError: it is encrypted, and the key is missing or wrong, or what the key works with is lost.
        NotEncryptedError: it is not, and there is a key.
    """
    lock = work.one(_LOCK)
    if lock is None and work.one(_LOOKS_SEALED):
        raise CipherKeyError(str(path), "it is encrypted, and the row that says how is lost: no key opens it without")
    return open_seal(str(lock or ""), key, str(path))


def choose_chain(work: Work, path: Path, given: Chain) -> Chain:
    """Return the chain of the log: with the key that is given, if it has one.

    Raises:
        ChainKeyError: it has another key, or the key is not given: nothing could be proven.
    """
    if work.one("SELECT 1 FROM meta WHERE key = ?", META) is None:
        chains = [chain for chain in (PLAIN_CHAIN, given) if Links(work, chain).prove_any("1")]
        return chains[0] if chains else PLAIN_CHAIN
    if not given.is_keyed:
        raise ChainKeyError(str(path), f"its chain was made with a key, and {VARIABLE} is not set")
    if not fits(work.db, given) and not Links(work, given).prove_any("1"):
        raise ChainKeyError(str(path), f"{VARIABLE} is not the key its chain was made with")
    return given
