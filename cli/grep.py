"""Search the texts of events, in encrypted logs too: each is read, nothing is indexed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from eventlog.contents import Cache
from eventlog.errors import EventFormatError
from eventlog.nesting import decode_payload
from eventlog.record import StoredEvent
from eventlog.values import REFS_DEPTH_MAX, ref_hash

REFS_MAX = 100_000
"""How many large values are remembered to hold the text or not."""


class Grep:
    """Tells the events that hold a text: in their payload, a large value or a conversation, or in their header."""

    def __init__(self, text: str, fill: Callable[[str], Any]) -> None:
        """``fill`` returns the content behind a reference, or raises ``KeyError`` if it is gone. Case is ignored."""
        self._text, self._fill = text.casefold(), fill
        self._known: Cache[str, tuple[bool]] = Cache(REFS_MAX)

    def matching(self, events: Iterable[StoredEvent]) -> Iterator[StoredEvent]:
        """Yield the events that hold the text."""
        return filter(self.holds, events)

    def holds(self, event: StoredEvent) -> bool:
        """Whether an event holds the text."""
        if any(self._text in (part or "").casefold() for part in (event.type, event.task_name, event.agent_role)):
            return True
        try:
            return self._in_tree(decode_payload(event.payload))
        except EventFormatError:  # it is shown all the same, without a subject
            return False

    def _in_tree(self, tree: Any, depth: int = 0) -> bool:
        """Whether a value holds it; like everything that reads trees, without recursion into a tree."""
        work = [tree]
        while work:
            node = work.pop()
            if isinstance(node, str):
                if self._text in node.casefold():
                    return True
            elif (name := ref_hash(node)) is not None:
                if depth < REFS_DEPTH_MAX and self._in_content(name, depth + 1):
                    return True
            elif isinstance(node, dict):
                work += [*node, *node.values()]
            elif isinstance(node, list):
                work += node
            elif self._text == str(node).casefold():
                return True
        return False

    def _in_content(self, name: str, depth: int) -> bool:
        """Whether a large value holds it; each is looked at once."""
        known = self._known.get(name)
        if known is None:
            self._known.put(name, (False,))  # what refers to itself ends here
            try:
                known = (self._in_tree(self._fill(name), depth),)
            except KeyError:
                known = (False,)
            self._known.put(name, known)
        return known[0]
