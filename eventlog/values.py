"""Turns stored trees into what a reader wants: large values filled in, tags made readable. Pure.

Nothing here recurses, and nothing given is changed: a tree from a strange file may be deep, may
refer to itself and may grow without end when resolved. A reference that cannot be resolved, or
should not, is left as it is, which is what it then means: a value that is kept elsewhere.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

REFS_DEPTH_MAX = 32
"""References inside resolved references are followed this far."""
NODES_MAX, CHARS_MAX = 1_000_000, 128_000_000
"""A tree that has grown to so many values or characters is resolved no further."""
LEVELS_MAX = 256
"""References that stand deeper are not followed: what they lead to nests as well."""

Slot = tuple[Any, Any, int, int]
"""A container, the key of a child in it, how many references lead to it, and how deep it is."""


def collect_refs(tree: Any) -> set[str]:
    """Return the hashes of the contents that ``tree`` itself refers to."""
    found: set[str] = set()
    work = [tree]
    while work:
        node = work.pop()
        name = ref_hash(node)
        if name is not None:
            found.add(name)
        elif isinstance(node, dict):
            work.extend(node.values())
        elif isinstance(node, list):
            work.extend(node)
    return found


def resolve(tree: Any, lookup: Callable[[str], Any]) -> Any:
    """Return a copy of ``tree`` with every reference replaced by ``lookup(hash)``, also those inside contents.

    ``lookup`` returns a text, a tree, or for a conversation (``"n"``) its list of messages; it raises
    ``KeyError`` for a content that is gone, whose reference then stays.
    """

    def expand(node: Any, depth: int) -> tuple[Any, int]:
        name = ref_hash(node)
        while name is not None and depth < REFS_DEPTH_MAX:
            try:
                node, depth = lookup(name), depth + 1
            except KeyError:
                break
            name = ref_hash(node)
        return node, depth

    return _rebuild(tree, expand)


def plain(tree: Any) -> Any:
    """Return a copy of ``tree`` for people and programs that do not know the tags; it is JSON and cannot go back.

    References, and tags that stand for what could not be kept (``$bytes``, ``$object``,
    ``$deep``…), stay.
    """

    def expand(node: Any, depth: int) -> tuple[Any, int]:
        while isinstance(node, dict):
            read = _READERS.get(next(iter(node), ""))
            if read is None or (shown := read(node)) is node:
                break
            node = shown
        return node, depth

    return _rebuild(tree, expand)


def ref_hash(node: Any) -> str | None:
    """Return the hash a reference names; ``None`` for anything that is no reference."""
    if isinstance(node, dict) and "$content" in node and node.keys() <= {"$content", "n"}:
        name = node["$content"]
        return name if isinstance(name, str) else None
    return None


def _rebuild(tree: Any, expand: Callable[[Any, int], tuple[Any, int]]) -> Any:
    """Return a copy of ``tree`` in which ``expand`` replaced each node, parents before children."""
    root = [tree]
    work: list[Slot] = [(root, 0, 0, 0)]
    nodes = chars = 0
    while work:
        container, key, depth, level = work.pop()
        node = container[key]
        if nodes < NODES_MAX and chars < CHARS_MAX and level < LEVELS_MAX:
            node, depth = expand(node, depth)
        if isinstance(node, (dict, list)):
            nodes += 1 + len(node)
            node = node.copy()
            keys = node if isinstance(node, dict) else range(len(node))
            work.extend((node, child, depth, level + 1) for child in keys)
        elif isinstance(node, str):
            chars += len(node)
        container[key] = node
    return root[0]


# -- readable forms of tags: each returns its node when the tag is not well formed ---------------


def _inner(name: str, kind: type | tuple[type, ...]) -> Callable[[dict[str, Any]], Any]:
    """Return a reader that shows what stands under ``name``."""
    return lambda node: node[name] if isinstance(node.get(name), kind) else node


def _int(node: dict[str, Any]) -> Any:
    """An integer beyond 64 bits, written in decimal or as ``0x…``."""
    try:
        return int(node["$int"], 0)
    except (TypeError, ValueError):
        return node


def _text(node: dict[str, Any]) -> Any:
    """A text that is not quite Unicode."""
    try:
        return base64.b64decode(node["$str"], validate=True).decode("utf-8", "replace")
    except (TypeError, ValueError, binascii.Error):
        return node


def _map(node: dict[str, Any]) -> Any:
    """A mapping whose keys are not plain strings: a dict when their text tells them apart, else its pairs."""
    pairs = node["$map"]
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == len("kv") for pair in pairs):
        return node
    shown = {key: pair[1] for pair in pairs if (key := _key(pair[0])) is not None and not key.startswith("$")}
    return shown if len(shown) == len(pairs) else pairs


def _key(key: Any) -> str | None:
    """Return a key as text; ``None`` for one that holds other values."""
    if isinstance(key, dict) and key:
        read = _SCALARS.get(next(iter(key)))
        key = key if read is None else read(key)
    return None if isinstance(key, (dict, list)) else str(key)


def _error(node: dict[str, Any]) -> Any:
    """An exception, as a traceback ends."""
    cls, message = node["$error"], node.get("msg", "")
    return f"{_class(cls)}: {message}" if isinstance(cls, str) and isinstance(message, str) else node


def _forgotten(node: dict[str, Any]) -> Any:
    """A payload that was taken out of the log."""
    return f"[forgotten at {node['$forgotten']}]" if isinstance(node["$forgotten"], str) else node


def _ref(node: dict[str, Any]) -> Any:
    """A live object: what it was and the most particular name it had."""
    name = next((node[key] for key in ("role", "name", "model", "key", "id") if isinstance(node.get(key), str)), "")
    return f"{node['$ref']} {name}".rstrip() if isinstance(node["$ref"], str) else node


def _class(qualified: str) -> str:
    """Return the bare name of ``module:Outer.Inner``."""
    return qualified.rpartition(":")[2].rpartition(".")[2]


_SCALARS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$enum": lambda node: node.get("v", node),
    "$float": _inner("$float", str),
    "$int": _int,
    "$str": _text,
    "$error": _error,
    "$ref": _ref,
    "$forgotten": _forgotten,
    "$timedelta": _inner("$timedelta", (int, float)),
    **{name: _inner(name, str) for name in ("$datetime", "$date", "$time", "$uuid", "$path", "$decimal")},
}
"""Tags that may stand for the key of a mapping."""

_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$model": _inner("fields", dict),
    "$dataclass": _inner("fields", dict),
    "$tuple": _inner("$tuple", list),
    "$set": _inner("$set", list),
    "$map": _map,
    **_SCALARS,
}
