"""Redaction: secrets by key name, by known value in every form, by shape."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.codec import Encoder
from eventlog.record import FLAG_REDACTED
from eventlog.redact import Redaction, Redactor, encoded_forms, marker

SECRET = 'p@ss/w"rd+ü\\42'

FORMS = {
    "raw": SECRET,
    "json": json.dumps(SECRET)[1:-1],
    "json-utf8": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "json-twice": json.dumps(json.dumps(SECRET))[2:-2],
    "url": quote(SECRET, safe=""),
    **{f"base64-{n}": base64.b64encode(b"x" * n + SECRET.encode() + b"tail").decode() for n in range(3)},
    "base64url": base64.urlsafe_b64encode(b"x" + SECRET.encode() + b"t").decode(),
}

SHAPES = {
    "authorization": "Authorization: Basic dXNlcjpwYXNzd29yZA==",
    "bearer": "the header was 'Bearer abcdefghijkl0123456789'",
    "openai": "key sk-proj-abcdefghijklmnop1234 was used",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    "pem-cut": "-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA",
    "userinfo": "postgres://admin:hunter22@db.example/x",
    "github": "ghp_0123456789abcdefghijABCDEFGHIJ",
    "slack": "xoxb-0123456789-abcdefghij",
    "hub": "hf_abcdefghijABCDEFGHIJ0123",
    "json": '{"user": "bob", "password": "hunter22"}',
    "json-in-json": json.dumps(json.dumps({"db_password": "hunter22"})),
    "repr": repr({"api_key": "hunter22"}),
    "assignment": "run with --api_key=hunter22 now",
    "yaml": "db_password: hunter22-long",
    "header": "X-Api-Key: hunter22-long",
}

HARMLESS = [
    "task-123 and risk-based work",
    "https://example.com/a?b=c",
    "the token count is 42",
    "a bearer of news",
    "the password: something you know",
    "prompt_tokens: 12, max_tokens=400",
    "It is a secret to everybody.",
    "a secret: friendship",
    "false",
    "mailto:someone@example.com",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_known_value_is_found_in_every_form_it_travels_in(form: str) -> None:
    """Credentials are copied into JSON, URLs and headers."""
    redactor = Redactor([SECRET])
    text = f"before {FORMS[form]} after"
    cleaned = redactor.clean(text)

    assert redactor.suspicious(text.encode())
    assert FORMS[form] not in cleaned
    assert marker("value") in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40),
    st.binary(max_size=5),
    st.binary(max_size=5),
)
def test_no_base64_of_a_text_around_the_secret_escapes_the_scan(secret: str, before: bytes, after: bytes) -> None:
    """Whatever stands around a secret, its base64 holds one of the forms that are looked for."""
    text = base64.b64encode(before + secret.encode() + after).decode()

    assert any(form in text for form in encoded_forms(secret))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_credential_is_recognised_by_its_shape(shape: str) -> None:
    """Nobody told us the value."""
    redactor = Redactor()

    assert redactor.suspicious(SHAPES[shape].encode())
    assert "[redacted:" in redactor.clean(SHAPES[shape])
    assert "hunter22" not in redactor.clean(SHAPES[shape])


@pytest.mark.parametrize("text", HARMLESS)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """A redactor that hides too much makes a log useless; the very same object comes back."""
    assert Redactor([SECRET]).clean(text) is text


@pytest.mark.parametrize("value", ["false", "True", "short", "localhost", "undefined"])
def test_common_words_and_short_values_are_no_secrets(value: str) -> None:
    """Otherwise every 'false' of a prompt would go."""
    redactor = Redactor([value])

    assert redactor.clean(f"it is {value}!") == f"it is {value}!"


@pytest.mark.parametrize(
    "key",
    ["api_key", "apiKey", "OPENAI_API_KEY", "password", "Authorization", "access_token", "client_secret", "token"],
)
def test_values_under_secret_keys_are_replaced_and_learned(key: str) -> None:
    """What stands under such a key is also looked for elsewhere, even in strings that came before it."""
    encoder = Encoder(Redactor())
    result = encoder.encode({"note": "use tok-77-abcdef now", "args": {key: "tok-77-abcdef"}})

    assert b"tok-77-abcdef" not in result.payload
    assert result.flags & FLAG_REDACTED
    assert json.loads(result.payload)["args"][key] == marker("key")


@pytest.mark.parametrize("key", ["prompt_tokens", "max_tokens", "total_tokens", "keyboard", "monkey", "author"])
def test_keys_that_only_look_secret_are_left_alone(key: str) -> None:
    """Token counts are no tokens."""
    assert json.loads(Encoder(Redactor()).encode({key: 12345}).payload) == {key: 12345}


def test_everything_below_a_secret_key_is_hidden_whatever_its_shape() -> None:
    """Credentials come as dicts and lists too."""
    payload = (
        Encoder(Redactor())
        .encode({"credentials": {"user": "bob-the-user", "pin": [987654321, "s3cr3t-s3cr3t"]}})
        .payload
    )

    assert b"bob" not in payload
    assert b"987654321" not in payload
    assert b"s3cr3t" not in payload


def test_secrets_in_mapping_keys_long_texts_messages_and_bytes_are_found() -> None:
    """Every way into a payload passes the scan."""
    encoder = Encoder(Redactor([SECRET]))
    result = encoder.encode(
        {
            SECRET: 1,
            "long": "x" * 300 + SECRET,
            "messages": [{"role": "user", "content": SECRET}, {"role": "user", "content": "y" * 300 + SECRET}],
            "raw": b"\x00\xff" + SECRET.encode(),
            "error": ValueError(f"bad {SECRET}"),
        }
    )
    written = result.payload.decode() + "".join(c.body for c in result.contents)

    assert not any(form in written for form in encoded_forms(SECRET))
    assert result.flags & FLAG_REDACTED


def test_a_reused_redacted_text_flags_every_event_that_refers_to_it() -> None:
    """A tape must never serve what redaction changed, also the second time."""
    encoder = Encoder(Redactor([SECRET]))
    encoder.encode({"t": "x" * 300 + SECRET}).publish()

    assert encoder.encode({"t": "x" * 300 + SECRET}).flags & FLAG_REDACTED
    assert not encoder.encode({"t": "x" * 300}).flags & FLAG_REDACTED


def test_user_patterns_allow_list_and_off_switch_are_obeyed() -> None:
    """Redaction is the user's to adjust."""
    custom = Redaction(patterns=(("ticket", r"TICKET-\d+"),), allow=("sk-this-one-is-public-0000",)).redactor()

    assert custom.clean("see TICKET-42") == "see [redacted:ticket]"
    assert custom.suspicious(b"see TICKET-42")
    assert custom.clean("sk-this-one-is-public-0000") == "sk-this-one-is-public-0000"
    assert Encoder(Redaction(enabled=False).redactor()).encode({"api_key": SECRET}).flags == 0


def test_the_marker_is_stable() -> None:
    """The same input always reads the same: hashes of requests are taken after redaction."""
    assert (
        Redactor([SECRET]).clean(SECRET) == Redactor([SECRET, "another-secret-1"]).clean(SECRET) == "[redacted:value]"
    )


@pytest.mark.parametrize(
    ("text", "is_suspicious"),
    [
        ("a trip through Asia", False),  # AKIA and ASIA are capitals
        ("ASIA1234567890ABCDEF", True),
        ("PASSWORD", True),
        ("Slovakia", False),
        ("nothing", False),
    ],
)
def test_only_what_is_spelt_like_a_secret_is_suspicious(text: str, is_suspicious: bool) -> None:
    """The scan knows no case; what it finds is compared as it stands."""
    assert Redactor().suspicious(text.encode()) is is_suspicious


@pytest.mark.parametrize("known", [1, 500], ids=["few", "many"])
def test_a_secret_behind_something_harmless_is_found(known: int) -> None:
    """``Asia`` is no secret, and hides none that begins inside of it; whichever automaton there is."""
    values = ["siamese-cat", *(f"a-long-value-that-is-number-{n}" for n in range(known))]
    redactor = Redactor(values)

    assert redactor.suspicious(b"Asiamese-cat")
    assert redactor.clean("Asiamese-cat") == "A" + marker("value")
    assert not redactor.suspicious(b"Siamese-Cats in Asia")
