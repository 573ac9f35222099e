"""A value in every form it is likely to stand in texts, and texts and trees without it. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from eventlog.errors import EventFormatError, ForgetError
from eventlog.forgetting.stored import as_json, as_tree
from eventlog.redact import COMMON_WORDS, encoded_forms, marker
from eventlog.replay.state import RunState

MARKER = marker("forgotten")
"""Stands in the place of the value. Resuming and compaction take it for what it is: not the real thing."""
LABEL_MARKER = "forgotten"
"""In labels of paths, where brackets and colons have a meaning."""
VALUE_CHARS_MIN = 4
"""Shorter values stand everywhere."""

_WORDS = (
    "$content $ref $model $dataclass $enum $tuple $set $map $float $int $str $bytes $datetime $date $time $timedelta"
    " $uuid $path $decimal $type $function $error $object $cycle $deep $large $forgotten fields first"
    " system user assistant role content messages tool_calls function arguments output outputs result inputs"
    " running completed failed interrupted paused pending skipped crew flow agent task method version state"
    " call_id execution usage error redacted forgotten"
).split()
"""What a log is built of, beside the names of event types and of the fields of states."""
_ESCAPES = ("\\u", "\\/")


def check_value(value: str, types: list[str]) -> None:
    """Refuse what cannot be a secret: too short, or a word that a log is built of; ``types``: its event types.

    Raises:
        ForgetError: and says why, without the value.
    """
    if len(value) < VALUE_CHARS_MIN:
        raise ForgetError(f"a value of less than {VALUE_CHARS_MIN} characters stands everywhere")
    if not value.strip():
        raise ForgetError("the value is blank")
    words = (*_WORDS, *_field_names(RunState), *types, MARKER)
    if value.lower() in COMMON_WORDS or any(value in word for word in words):
        raise ForgetError("the value is a word that the log itself is built of, or too common to be a secret")


def _field_names(kind: Any) -> set[str]:
    """Return the names of the fields of a struct and of those in it."""
    found: set[str] = set()
    waiting, seen = [msgspec.inspect.type_info(kind)], set[Any]()
    while waiting:
        info: Any = waiting.pop()
        if isinstance(info, msgspec.inspect.StructType) and info.cls not in seen:
            seen.add(info.cls)
            found.update(field.encode_name for field in info.fields)
            waiting += [field.type for field in info.fields]
        waiting += [getattr(info, name) for name in ("item_type", "value_type") if hasattr(info, name)]
        waiting += getattr(info, "types", ())
    return found


class Needle:
    """What is looked for."""

    def __init__(self, value: str) -> None:
        """``value`` passed ``check_value``."""
        self._value = value
        self._bytes = value.encode("utf-8", "surrogatepass")
        self._forms = sorted({value, *encoded_forms(value)}, key=lambda form: (-len(form), form))
        escaped = {as_json(form)[1:-1] for form in self._forms}
        self._raw = sorted({*self._forms, *escaped})
        self.longest = max(map(len, self._raw))

    def __repr__(self) -> str:
        """Nothing of the value: what is printed by accident must not hold it."""
        return "Needle()"

    @property
    def raw_forms(self) -> list[bytes]:
        """How it may stand in the bytes of a file."""
        return [form.encode("utf-8", "surrogatepass") for form in self._raw]

    def is_in(self, text: str) -> bool:
        """Whether a plain text holds it."""
        return any(form in text for form in self._forms)

    def may_be_in(self, raw: str) -> bool:
        """Whether a JSON text is worth decoding; no false negatives."""
        if any(form in raw for form in self._raw) or '"$bytes"' in raw or '"$str"' in raw:
            return True
        return any(escape in raw for escape in _ESCAPES)

    def clean(self, text: str, instead: str = MARKER) -> str:
        """Return a plain text without it; the very same object when it is not there."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, instead)
        return text

    def clean_json(self, raw: str) -> str | None:
        """Return a JSON text without it; ``None`` when it is not there.

        Raises:
            EventFormatError: the text holds no JSON.
        """
        if not self.may_be_in(raw):
            return None
        tree = as_tree(raw)
        try:
            cleaned = self.clean_tree(tree)
        except RecursionError:
            raise EventFormatError("a stored value is nested beyond reason") from None
        return as_json(cleaned) if cleaned != tree else None

    def clean_tree(self, node: Any) -> Any:
        """Return a tree without it: keys as well as values; references stay what they are."""
        if isinstance(node, str):
            return self.clean(node)
        if isinstance(node, list):
            return [self.clean_tree(item) for item in node]
        if isinstance(node, dict):
            return node if _is_reference(node) else self._clean_object(node)
        if isinstance(node, (int, float)) and not isinstance(node, bool) and str(node) == self._value:
            return MARKER
        return node

    def _clean_object(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return an object without it; no two keys become one."""
        out: dict[str, Any] = {}
        for key, value in node.items():
            name = self.clean(key)
            while name in out:
                name += "'"
            out[name] = MARKER if self._is_encoded_in(key, value) else self.clean_tree(value)
        return out

    def _is_encoded_in(self, key: str, value: Any) -> bool:
        """Whether it stands in bytes that are kept as base64."""
        if key not in ("$bytes", "$str") or not isinstance(value, str):
            return False
        try:
            return self._bytes in base64.b64decode(value)
        except (binascii.Error, ValueError):
            return False


def _is_reference(node: dict[str, Any]) -> bool:
    """Whether an object names a content by its hash, where a short value may stand by chance."""
    return isinstance(node.get("$content"), str) and node.keys() <= {"$content", "n", "first"}
