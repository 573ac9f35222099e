"""Find secrets in text and put a marker in their place. Pure: known values are handed in.

Three nets: key names (of mappings, and ``"password": …`` or ``api_key=…`` inside texts), known
values in every form they are likely to travel in, and shapes of well-known credentials. One scan over the bytes
decides whether a text needs a closer look; only then do the regular expressions run.

What it cannot see: a secret split over two strings, as stream chunks do or ``["--password", …]``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

import msgspec
from ahocorasick_rs import BytesAhoCorasick, Implementation

MARKER = "[redacted:"
"""How the text begins that stands for a secret."""
VALUE_CHARS_MIN = 8
"""Shorter known values would redact ordinary text."""
DFA_BYTES_MAX = 10_000
"""Of all needles. To make the quickest automaton takes milliseconds and megabytes; for more, a slower one will do."""

SECRET_KEY = re.compile(
    r"api[_-]?key|access[_-]?key|secret|passw(?:or)?d|passphrase|authorization|bearer|credential|cookie"
    r"|private[_-]?key|(?:access|refresh|auth|session|id|platform|bot|api)[_-]?token$|(?:^|[_-])token$",
    re.IGNORECASE,
)
"""Names of mapping keys, fields and environment variables that hold secrets."""

COMMON_WORDS = frozenset(
    "password username anonymous disabled required optional undefined localhost 127.0.0.1 placeholder changeme "
    "false true none null default example testing development production".split()
)
"""Values that stand under secret keys and say nothing."""


class Pattern:
    """A shape of credential: needles that make it possible, and the expression that proves it."""

    def __init__(
        self, name: str, needles: Iterable[str], expression: str, group: int = 0, folded: Iterable[str] = ()
    ) -> None:
        """``group`` is what gets replaced, the rest of the match stays readable; ``folded`` needles ignore case.

        Without any needle every text is searched.
        """
        self.name, self.needles, self.folded, self.group = name, tuple(needles), tuple(folded), group
        self.regex = re.compile(expression, re.DOTALL)
        self.anywhere = not self.needles and not self.folded

    def is_possible(self, text: str, lower: str) -> bool:
        """Whether ``text`` (``lower``: in lower case) holds one of the needles."""
        return self.anywhere or any(n in text for n in self.needles) or any(n in lower for n in self.folded)

    def clean(self, text: str) -> str:
        """Return ``text`` with every match of the group replaced by the marker."""
        return self.regex.sub(self._mark, text)

    def _mark(self, match: re.Match[str]) -> str:
        """Keep what surrounds the group."""
        whole, start = match.group(0), match.start()
        left, right = match.span(self.group)
        return whole[: left - start] + marker(self.name) + whole[right - start :]


_NAMES = (
    r"(?:api|access|private|secret)[_-]?key|secret|passw(?:or)?d|passphrase"
    r"|(?:access|refresh|auth|session|bot)[_-]?token"
)
_NAME_NEEDLES = (
    *("api_key", "apikey", "api-key", "access_key", "accesskey", "access-key", "private_key", "privatekey"),
    *("secret", "passw", "passphrase", "access_token", "accesstoken", "refresh_token", "refreshtoken"),
    *("auth_token", "authtoken", "session_token", "bot_token"),
)

PATTERNS = (
    Pattern("private-key", ("-----BEGIN ",), r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*KEY-----|\Z)"),
    Pattern("jwt", ("eyJ",), r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"),
    Pattern(
        "authorization",
        ("uthorization", "UTHORIZATION"),
        r"(?i)authorization[\"'\\]*\s*[:=]\s*[\"'\\]*(?:(?:bearer|basic|token|digest)\s+)?([\w.~+/=:-]{8,})",
        1,
    ),
    Pattern("bearer", ("earer ", "EARER "), r"(?i)\bbearer\s+([\w.~+/=-]{12,})", 1),
    Pattern("api-key", ("sk-",), r"(?<![A-Za-z0-9])sk-[\w-]{16,}"),
    Pattern("aws-key", ("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    Pattern(
        "github-token", ("ghp_", "gho_", "ghs_", "ghu_", "github_pat_"), r"\b(?:gh[posu]_\w{20,}|github_pat_\w{20,})"
    ),
    Pattern("slack-token", ("xoxb-", "xoxp-", "xoxa-", "xoxs-"), r"\bxox[bpas]-[\w-]{10,}"),
    Pattern("hub-token", ("hf_", "glpat-", "npm_"), r"\b(?:hf_\w{20,}|glpat-[\w-]{16,}|npm_\w{30,})"),
    Pattern("service-key", ("AIza", "k_live_", "k_test_"), r"\b(?:AIza[\w-]{30,}|[rs]k_(?:live|test)_\w{16,})"),
    Pattern("userinfo", ("://", ":\\/\\/"), r":(?:\\?/){2}([^/\s:@\"'\\]+:[^/\s@\"'\\]+)@", 1),
    Pattern(  # "password": "…" in JSON, Python or YAML, however deeply quoted, and password=… anywhere
        "key",
        (),
        rf"(?i)(?:{_NAMES})(?:[\"'\\]+\s*:\s*[\"'\\]*|[\"'\\]*\s*=\s*[\"'\\]*)([^\s\"'\\,;&<>(){{}}\[\]]{{6,}})",
        1,
        folded=_NAME_NEEDLES,
    ),
    Pattern(  # password: hunter2-… without quotes: only what does not look like a word
        "key",
        (),
        rf"(?i)(?:{_NAMES}):\s*(?=[^\s,;]*[\d_/+=~-])([^\s\"'\\,;&<>(){{}}\[\]]{{8,}})",
        1,
        folded=_NAME_NEEDLES,
    ),
)
"""Credentials that are recognised by their shape."""


def marker(name: str) -> str:
    """What stands in the place of a secret: the same secret kind always reads the same."""
    return f"{MARKER}{name}]"


def encoded_forms(value: str) -> set[str]:
    """Return ``value`` as it looks raw, JSON-escaped once and twice, URL-escaped and in base64.

    Base64 depends on the position in the encoded text, hence three alignments; the first
    and last characters, which also carry neighbouring bits, are left out.
    """
    forms = {value, quote(value, safe=""), quote_plus(value)}
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        forms |= {once, json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
    raw = value.encode("utf-8", "surrogatepass")
    for shift, head in ((0, 0), (1, 2), (2, 3)):
        size = shift + len(raw)
        text = base64.b64encode(b"\0" * shift + raw).decode()
        body = text[head : size * 8 // 6]
        forms |= {body, body.replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= VALUE_CHARS_MIN}


class Redaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a log's user decides about redaction."""

    enabled: bool = True
    """Off: texts go to the disk as they are."""
    values: tuple[str, ...] = ()
    """Secrets to look for, besides those found in live objects, the environment and under secret keys."""
    patterns: tuple[tuple[str, str], ...] = ()
    """More shapes of secrets: (name, regular expression); each text is then searched for them."""
    allow: tuple[str, ...] = ()
    """Texts and key names that are never redacted."""

    def redactor(self) -> Redactor:
        """Return the redactor that does so."""
        if not self.enabled:
            return NoRedactor()
        return Redactor(self.values, (Pattern(name, (), regex) for name, regex in self.patterns), self.allow)


class Redactor:
    """Cleans text of secrets; knows values, key names and patterns.

    ``epoch`` grows whenever a value is learned: caches of cleaned text are stale then.
    """

    def __init__(self, values: Iterable[str] = (), patterns: Iterable[Pattern] = (), allow: Iterable[str] = ()) -> None:
        """``patterns`` are added to the built-in ones; texts in ``allow`` are never redacted."""
        self.epoch = 0
        self._patterns = (*PATTERNS, *patterns)
        self._allow = frozenset(allow)
        self._values: set[str] = set()
        self._forms: list[str] = []
        self._keys: dict[str, bool] = {}
        self._build()
        self.learn_all(values)

    def learn_all(self, values: Iterable[str]) -> bool:
        """Remember secrets to look for; true if one of them is new."""
        fresh = {v for v in values if self._worth_knowing(v)} - self._values
        if fresh:
            self._values |= fresh
            self.epoch += 1
            self._build()
        return bool(fresh)

    def _worth_knowing(self, value: str) -> bool:
        """Short values and common words would redact ordinary text."""
        return len(value) >= VALUE_CHARS_MIN and value.lower() not in COMMON_WORDS and value not in self._allow

    def _build(self) -> None:
        """One automaton for everything, in lower case; longest forms are replaced first."""
        self._forms = sorted({f for v in self._values for f in encoded_forms(v)}, key=lambda f: (-len(f), f))
        exact = {f.encode("utf-8", "surrogatepass") for f in self._forms}
        exact |= {n.encode() for p in self._patterns for n in p.needles}
        folded = {n.encode() for p in self._patterns for n in p.folded}
        needles = sorted(folded | {n.lower() for n in exact})
        self._exact, self._folded = exact, {number for number, needle in enumerate(needles) if needle in folded}
        self._always = any(p.anywhere for p in self._patterns)
        kind = Implementation.DFA if sum(map(len, needles)) <= DFA_BYTES_MAX else Implementation.ContiguousNFA
        self._scan = BytesAhoCorasick(needles, implementation=kind).find_matches_as_indexes

    def suspicious(self, data: bytes) -> bool:
        """Whether ``data`` needs a closer look; no false negatives.

        One scan, whatever the case of the letters, tells nearly always that nothing is there.
        """
        if self._always:
            return True
        found = self._scan(data.lower(), overlapping=True)
        return bool(found) and any(n in self._folded or data[start:end] in self._exact for n, start, end in found)

    def is_secret_key(self, key: str) -> bool:
        """Whether values under ``key`` are secrets by name."""
        known = self._keys.get(key)
        if known is None:
            if len(self._keys) > 10_000:
                self._keys.clear()
            known = self._keys[key] = len(key) < 200 and SECRET_KEY.search(key) is not None and key not in self._allow
        return known

    def clean(self, text: str) -> str:
        """Return ``text`` without secrets; the very same object when there was none."""
        if text in self._allow:
            return text
        out = text
        for form in self._forms:
            if form in out:
                out = out.replace(form, marker("value"))
        lower = out.lower()
        for pattern in self._patterns:
            if pattern.is_possible(out, lower):
                out = pattern.clean(out)
        return text if out == text else out


class NoRedactor(Redactor):
    """Leaves every text alone."""

    def learn_all(self, values: Iterable[str]) -> bool:  # noqa: ARG002 - the interface
        """Nothing is worth knowing."""
        return False

    def suspicious(self, data: bytes) -> bool:  # noqa: ARG002 - the interface
        """Nothing is."""
        return False

    def is_secret_key(self, key: str) -> bool:  # noqa: ARG002 - the interface
        """No key is."""
        return False

    def clean(self, text: str) -> str:
        """Return the text as it is."""
        return text
