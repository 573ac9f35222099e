"""The scopes at work, found by event or by path without a scan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eventlog.replay.path import self_and_above
from eventlog.replay.state import OpenScope


class OpenScopes:
    """Open scopes in the order they opened; closing one closes all below it."""

    def __init__(self, scopes: Iterable[OpenScope]) -> None:
        """Index the scopes of a state."""
        self._scopes: dict[str, OpenScope] = {}
        self._below: dict[str, dict[str, None]] = {}
        for scope in scopes:
            self.open(scope)

    def open(self, scope: OpenScope) -> None:
        """Add a scope; one with the same event id is replaced."""
        event_id = scope.event_id
        if event_id in self._scopes:
            self.close(event_id)
        self._scopes[event_id] = scope
        for path in self_and_above(scope.path):
            self._below.setdefault(path, {})[event_id] = None

    def get(self, event_id: str | None) -> OpenScope | None:
        """Return the scope that this event opened, if it is still open."""
        return self._scopes.get(event_id) if event_id else None

    def close(self, event_id: str) -> OpenScope | None:
        """Remove one scope and return it."""
        scope = self._scopes.pop(event_id, None)
        if scope is not None:
            for path in self_and_above(scope.path):
                below = self._below[path]
                del below[event_id]
                if not below:
                    del self._below[path]
        return scope

    def close_under(self, path: str) -> list[OpenScope]:
        """Remove the scope at ``path`` and all below it and return them; nothing lies below an empty path."""
        ids = list(self._below.get(path, ())) if path else []
        return [scope for event_id in ids if (scope := self.close(event_id)) is not None]

    def at(self, path: str, scope_type: str) -> OpenScope | None:
        """Return the newest scope of one type that stands exactly at ``path``."""
        return next(
            (scope for scope in self._newest_first(path) if scope.path == path and scope.type == scope_type), None
        )

    def newest(self, path: str, scope_type: str, name: str) -> OpenScope | None:
        """Return the newest scope of one type and name at or below ``path``."""
        return next((s for s in self._newest_first(path) if s.type == scope_type and s.name == name), None)

    def rows(self) -> list[OpenScope]:
        """Return the open scopes, oldest first."""
        return list(self._scopes.values())

    def _newest_first(self, path: str) -> Iterator[OpenScope]:
        """Yield the scopes at and below ``path``."""
        return (self._scopes[event_id] for event_id in reversed(self._below.get(path, {})))
