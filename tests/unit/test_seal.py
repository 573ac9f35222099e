"""What a sealed value is: opened by its key, at its place, and by nothing else."""

from __future__ import annotations

import base64
import pickle
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import CipherKeyError, EventFormatError, NotEncryptedError
from eventlog.seal import COST, PLAIN, VARIABLE, CipherKey, Seal, cipher_key, new_lock, open_seal

KEY, OTHER = CipherKey(b"a long passphrase"), CipherKey(b"another passphrase")
LOCK = new_lock(KEY)
SEAL = open_seal(LOCK, KEY, "x.db")
places = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 2**62)), min_size=1, max_size=3)


@given(st.text(st.characters(exclude_categories=["Cs"])), places)
def test_a_text_comes_back_as_it_was(text: str, place: list[str | int]) -> None:
    """Any text at any place; what is stored is text without it."""
    stored = SEAL.seal_text(text, *place)

    assert SEAL.unseal_text(stored, *place) == text
    assert stored.isascii()
    assert len(text) < 4 or text not in stored


@given(st.binary(), places, places)
def test_a_value_opens_at_its_place_only(data: bytes, here: list[str | int], there: list[str | int]) -> None:
    """Whoever moves a sealed payload under another event has destroyed it, not said something else."""
    stored = SEAL.seal(data, *here)
    if "\0".join(map(str, here)) == "\0".join(map(str, there)):
        assert SEAL.unseal(stored, *there) == data
        return

    with pytest.raises(EventFormatError, match="changed or belongs elsewhere"):
        SEAL.unseal(stored, *there)


@pytest.mark.parametrize("at", [0, 5, 20, -3])
def test_a_changed_bit_is_told(at: int) -> None:
    """In the nonce, the ciphertext or the tag."""
    raw = bytearray(base64.urlsafe_b64decode(SEAL.seal(b"twenty bytes of text", "event", 1)))
    raw[at] ^= 1

    with pytest.raises(EventFormatError):
        SEAL.unseal(base64.urlsafe_b64encode(raw), "event", 1)


@pytest.mark.parametrize("stored", [b"", b"x", b"plain text", "ü".encode(), b"AAAA" * 9])
def test_what_was_never_sealed_does_not_open(stored: bytes) -> None:
    """A stranger's row is an error of ours, not one of a library."""
    with pytest.raises(EventFormatError):
        SEAL.unseal(stored, "event", 1)


def test_equal_names_are_stored_alike_and_equal_values_are_not() -> None:
    """Names are looked up by what is stored; of two payloads nobody shall see that they are equal."""
    names = {SEAL.seal_name("Researcher", "name") for _ in range(3)}
    values = {SEAL.seal_text("Researcher", "event", 1) for _ in range(3)}

    assert (len(names), len(values)) == (1, 3)
    assert SEAL.seal_name("Researcher", "path") not in names
    assert SEAL.unseal_text(names.pop(), "name") == "Researcher"


def test_every_log_has_keys_of_its_own() -> None:
    """The same passphrase and the same text: nothing can be compared between two logs."""
    again = open_seal(new_lock(KEY), KEY, "y.db")

    assert again.content_key != SEAL.content_key
    assert again.seal_name("Researcher", "name") != SEAL.seal_name("Researcher", "name")


@pytest.mark.parametrize(
    ("lock", "key", "error", "says"),
    [
        (LOCK, OTHER, CipherKeyError, "another key"),
        (LOCK, CipherKey(), CipherKeyError, "no key was given"),
        ("", KEY, NotEncryptedError, "not encrypted, and a key was given"),
        ("{", KEY, CipherKeyError, "cannot be read"),
        ('{"version":1,"cost":32768,"salt":"zz","check":""}', KEY, CipherKeyError, "cannot be read"),
        ('{"version":2,"cost":32768,"salt":"00","check":""}', KEY, CipherKeyError, "does not know"),
        ('{"version":1,"cost":33000,"salt":"00","check":""}', KEY, CipherKeyError, "does not know"),
        ('{"version":1,"cost":2,"salt":"00","check":""}', KEY, CipherKeyError, "does not know"),
    ],
)
def test_a_lock_that_does_not_open_says_why(lock: str, key: CipherKey, error: type[Exception], says: str) -> None:
    """A wrong key and a missing one are the most common mistakes with encrypted files."""
    with pytest.raises(error, match=says) as caught:
        open_seal(lock, key, "x.db")

    assert str(caught.value).startswith("x.db: ")


def test_a_strangers_lock_cannot_take_all_memory() -> None:
    """Scrypt's cost is memory: a file that asks for a terabyte is refused before any is taken."""
    lock = msgspec.json.encode({"version": 1, "cost": 2**32, "salt": "00" * 16, "check": "00"}).decode()
    began = time.monotonic()

    with pytest.raises(CipherKeyError, match="does not know"):
        open_seal(lock, KEY, "x.db")
    assert time.monotonic() - began < 1


def test_a_plain_log_pays_nothing() -> None:
    """Its seal hands back the very same objects, and counts as none."""
    data, text = b"payload", "text"

    assert PLAIN.seal(data, "event", 1) is data
    assert PLAIN.unseal(data, "event", 1) is data
    assert PLAIN.seal_text(text) is PLAIN.unseal_text(text) is PLAIN.seal_name(text, "name") is text
    assert not PLAIN
    assert isinstance(PLAIN, Seal)
    assert new_lock(CipherKey()) == ""
    assert open_seal("", CipherKey(), "x.db") is PLAIN


def test_a_passphrase_shows_itself_to_nobody() -> None:
    """Options and logs are printed, errors are logged, objects are pickled."""
    assert "passphrase" not in f"{KEY!r} {KEY} {vars(SEAL)} {LOCK}"
    assert (KEY == OTHER, CipherKey(KEY.reveal()) == KEY, bool(CipherKey())) == (False, True, False)
    assert hash(KEY) == hash(CipherKey(KEY.reveal()))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEY)


@pytest.mark.parametrize(
    ("given_key", "environment", "found"),
    [(None, None, b""), (None, "env", b"env"), ("given", "env", b"given"), (b"\xff\0", None, b"\xff\0")],
)
def test_the_key_given_goes_before_the_environments(
    monkeypatch: pytest.MonkeyPatch, given_key: str | bytes | None, environment: str | None, found: bytes
) -> None:
    """A program that names its key is not surprised by a variable."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if environment is not None:
        monkeypatch.setenv(VARIABLE, environment)

    assert cipher_key(given_key, "x.db").reveal() == found


@pytest.mark.parametrize("given_key", [None, "", b""])
def test_an_empty_key_is_refused(monkeypatch: pytest.MonkeyPatch, given_key: str | bytes | None) -> None:
    """``EVENTLOG_CIPHER_KEY=$(cat missing)`` must not make a plain log."""
    monkeypatch.setenv(VARIABLE, "")

    with pytest.raises(CipherKeyError, match="is empty"):
        cipher_key(given_key, "x.db")


def test_new_logs_are_locked_at_full_cost() -> None:
    """32 MiB for each guess of a passphrase."""
    assert msgspec.json.decode(LOCK)["cost"] == COST == 2**15
