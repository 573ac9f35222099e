"""Compares what is recorded of an execution with what it did when it was executed again. Pure.

Both are trees of scopes. The events of one scope are compared in order; scopes of the same name
next to each other may have changed places, as they do when they run at the same time. What is
new in every process (ids, times, addresses, durations) does not count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from eventlog.nesting import decode_payload
from eventlog.record import FLAG_OMITTED, StoredEvent
from eventlog.requests import normalise
from eventlog.resume.divergence import first_difference
from eventlog.resume.marks import SHARED
from eventlog.values import ref_hash, resolve

_DURATION = re.compile(r"(?:_ms|_seconds|duration|_time)$")
HEADER = ("type", "task_name", "agent_role")
TOKENS = frozenset(("token_usage", "usage_metrics"))
"""Sums over everything a model was asked meanwhile, also by others; those of each call are compared."""


class Scope:
    """One scope of an execution: what it tells itself, and the scopes inside of it."""

    def __init__(self, path: str) -> None:
        """Nothing is told yet."""
        self.path = path
        self.events: list[StoredEvent] = []
        self.inner: dict[str, Scope] = {}

    @property
    def name(self) -> str:
        """The scope's own part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def kind(self) -> str:
        """What of the name is no key and no number: ``task``, ``llm``, ``crew``."""
        return re.split(r"[\[:#]", self.name)[0]

    @property
    def label(self) -> str:
        """The name without its number."""
        return self.name.rpartition("#")[0]

    @property
    def first(self) -> StoredEvent | None:
        """What the scope tells first."""
        if self.events:
            return self.events[0]
        return next((event for scope in self.inner.values() if (event := scope.first)), None)


class Difference(msgspec.Struct, frozen=True):
    """The first place where two executions tell different things."""

    path: str
    event: str
    """Type of the event."""
    at: str
    """Path into its payload; empty when one of the two does not tell the event at all."""
    expected: Any
    actual: Any
    seq: int
    """Of the recorded event, or of the one that is nearest."""


def tree_of(events: Iterable[StoredEvent], root: str) -> Scope:
    """Return the scopes that events below ``root`` come from."""
    top = Scope(root)
    for event in events:
        scope = top
        for name in event.path[len(root) + 1 :].split("/") if event.path != root else ():
            scope = scope.inner.setdefault(name, Scope(f"{scope.path}/{name}"))
        scope.events.append(event)
    return top


class Side:
    """One of the two: knows how to fill in what its events refer to."""

    def __init__(self, events: list[StoredEvent], root: str, lookup: Callable[[str], Any], omitted: set[str]) -> None:
        """Of the types in ``omitted`` only the type counts."""
        self.tree, self._lookup, self._omitted = tree_of(events, root), lookup, omitted
        self.is_exact = True
        """References to long texts are compared as they are: quick, and enough unless there is an id in one."""
        self._contents: dict[str, str] = {}
        self._messages: dict[int, tuple[Any, bytes]] = {}
        self._scopes: dict[str, bytes] = {}

    def look_closer(self) -> None:
        """Compare what references stand for."""
        self.is_exact = False
        self._scopes.clear()

    def of_scope(self, scope: Scope) -> bytes:
        """Return what tells a scope, with all that is in it, from others."""
        known = self._scopes.get(scope.path)
        if known is None:
            groups: dict[str, list[bytes]] = {}
            for inner in scope.inner.values():
                groups.setdefault(inner.label, []).append(self.of_scope(inner))
            parts = [self.of_event(event) for event in scope.events]
            for label in sorted(groups):
                parts += [label.encode(), *sorted(groups[label])]
            known = self._scopes[scope.path] = _hash(b"|".join(parts))
        return known

    def of_event(self, event: StoredEvent) -> bytes:
        """Return what tells an event from others."""
        head = _bytes(_header(event))
        if event.type in self._omitted:
            return _hash(head)
        tree = decode_payload(event.payload)
        return _hash(head + _bytes(settled(_own(event.type, tree if self.is_exact else self._with_digests(tree)))))

    def payload(self, event: StoredEvent) -> Any:
        """Return the whole payload of an event, without what is new in every process."""
        return settled(_own(event.type, resolve(decode_payload(event.payload), self._lookup)))

    def _with_digests(self, node: Any) -> Any:
        """Return a tree whose references name what they stand for."""
        name = ref_hash(node)
        if name is not None:
            return {"$content": self._digest(name)}
        if isinstance(node, dict):
            return {key: self._with_digests(value) for key, value in node.items()}
        return [self._with_digests(item) for item in node] if isinstance(node, list) else node

    def _digest(self, name: str) -> str:
        """Return what tells a content from others; each message of a conversation is looked at once."""
        known = self._contents.get(name)
        if known is None:
            try:
                value = self._lookup(name)
            except KeyError:
                return name
            parts = [self._of_message(item) for item in value] if isinstance(value, list) else [self._of(value)]
            known = self._contents[name] = _hash(b"|".join(parts)).hex()
        return known

    def _of_message(self, message: Any) -> bytes:
        """Return what tells a message from others; the reader gives the same object for the same message."""
        known = self._messages.get(id(message))
        if known is None or known[0] is not message:
            known = self._messages[id(message)] = (message, self._of(message))
        return known[1]

    def _of(self, value: Any) -> bytes:
        """Return what tells a value from others."""
        return _hash(_bytes(settled(self._with_digests(value))))


def omitted_types(events: Iterable[StoredEvent]) -> set[str]:
    """Return the types whose payload was not recorded."""
    return {event.type for event in events if event.flags & FLAG_OMITTED}


def compare(recorded: Side, now: Side) -> Difference | None:
    """Return the first difference; ``None`` when both tell the same."""
    for closer in (False, True):
        if closer:
            recorded.look_closer()
            now.look_closer()
        if recorded.of_scope(recorded.tree) == now.of_scope(now.tree):
            return None
    found = list(_differences(recorded, now, recorded.tree, now.tree))
    return min(found, key=lambda difference: difference.seq)


def _differences(recorded: Side, now: Side, left: Scope, right: Scope) -> Iterator[Difference]:
    """Yield the first difference of the scope itself and those of the scopes in it."""
    for index in range(max(len(left.events), len(right.events))):
        then = left.events[index] if index < len(left.events) else None
        event = right.events[index] if index < len(right.events) else None
        if then is None or event is None or recorded.of_event(then) != now.of_event(event):
            yield _of_events(recorded, now, left, (then, event))
            break
    matched = _matched(recorded, now, left, right)
    for one, other in matched:
        if one is not None and other is not None:
            yield from _differences(recorded, now, one, other)
        else:
            yield _missing(recorded, now, left, (one, other))


def _matched(recorded: Side, now: Side, left: Scope, right: Scope) -> Iterator[tuple[Scope | None, Scope | None]]:
    """Yield the scopes that are not alike: those of one name, then those of one kind, then each alone."""
    rest = list(right.inner.values())
    unlike = []
    for scope in left.inner.values():
        digest = recorded.of_scope(scope)
        twin = next((other for other in rest if other.label == scope.label and now.of_scope(other) == digest), None)
        if twin is None:
            unlike.append(scope)
        else:
            rest.remove(twin)
    for attribute in ("name", "kind"):
        for scope in list(unlike):
            twin = next((other for other in rest if getattr(other, attribute) == getattr(scope, attribute)), None)
            if twin is not None and (attribute == "name" or scope.kind != "task"):
                unlike.remove(scope)
                rest.remove(twin)
                yield scope, twin
    yield from ((scope, None) for scope in unlike)
    yield from ((None, scope) for scope in rest)


def _of_events(
    recorded: Side, now: Side, scope: Scope, pair: tuple[StoredEvent | None, StoredEvent | None]
) -> Difference:
    """Return where two events of a scope differ."""
    then, event = pair
    some = then or event
    if some is None:
        raise ValueError("one of the two is there")
    seq = then.seq if then is not None else max([e.seq for e in scope.events], default=0) + 1
    if then is None or event is None or then.type != event.type:
        return Difference(scope.path, some.type, "", _told(recorded, then), _told(now, event), seq)
    old, new = _told(recorded, then), _told(now, event)
    at, expected, actual = first_difference(old, new) or ("", old, new)
    return Difference(scope.path, then.type, at, expected, actual, seq)


def _missing(recorded: Side, now: Side, parent: Scope, pair: tuple[Scope | None, Scope | None]) -> Difference:
    """Return that a scope is told by one of the two only."""
    one, other = pair
    then, event = one.first if one else None, other.first if other else None
    some, scope = then or event, one or other
    last = max([e.seq for e in parent.events], default=0)
    return Difference(
        scope.path if scope else parent.path, some.type if some else "", "", _told(recorded, then), _told(now, event),
        then.seq if then is not None else last,
    )  # fmt: skip


def _told(side: Side, event: StoredEvent | None) -> Any:
    """Return what an event tells, or nothing."""
    return None if event is None else {**_header(event), **side.payload(event)}


def _header(event: StoredEvent) -> dict[str, Any]:
    """Return what of a header is the same in two equal runs."""
    return {name: settled(value) for name in HEADER if (value := getattr(event, name)) is not None}


def _own(event_type: str, tree: Any) -> Any:
    """Return a payload without what others change that run at the same time."""
    shared = next((name for prefix, name in SHARED.items() if event_type.startswith(prefix)), None)
    return {k: v for k, v in tree.items() if k != shared} if isinstance(tree, dict) else {"$": tree}


def settled(tree: Any) -> Any:
    """Return a tree without what is new in every process."""
    if isinstance(tree, str):
        return normalise(tree.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    if isinstance(tree, dict):
        return {settled(key): settled(value) for key, value in tree.items() if not _is_own(key, value)}
    return [settled(item) for item in tree] if isinstance(tree, list) else tree


def _is_own(key: str, value: Any) -> bool:
    """Whether a field is new in every process."""
    return key in TOKENS or (isinstance(value, (int, float)) and _DURATION.search(key) is not None)


def _bytes(tree: Any) -> bytes:
    """Return a tree as bytes."""
    return json.dumps(tree, sort_keys=True, default=str).encode("utf-8", "replace")


def _hash(data: bytes) -> bytes:
    """Return a short hash. Shorter than an id: ``normalise`` must not take it for one."""
    return blake2b(data, digest_size=12).digest()
