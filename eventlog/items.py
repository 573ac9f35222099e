"""What waits in the queue of the pipeline: events, encoded or still to be encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from eventlog.record import MAIN_BRANCH, NewEvent

EVENT_BYTES = 600
"""About what an event takes in memory beside its payload and contents."""

Made = tuple[Sequence[NewEvent], Callable[[], None]]
"""Encoded events, and what to call once they are in the queue."""


class Item(msgspec.Struct):
    """Events that go into the same transaction."""

    events: Sequence[NewEvent]
    size: int
    make: Callable[[], Made] | None = None
    """Set while they are to be encoded: what does it."""
    home: tuple[str, str] = ("", MAIN_BRANCH)
    """Run and branch of what is to be encoded."""
    is_captured: bool = True
    """Nobody waits for it: when it cannot be stored, that is counted."""
    expected_seq: int | None = None
    done: bool = False
    seqs: list[int] = []
    error: Exception | None = None
    winner: dict[int, Made] = {}
    """What ``make`` made first; ``setdefault`` lets one thread win, without a lock that a signal handler might need."""

    def encode(self) -> None:
        """Encode what is to be encoded. Two threads may do so at once: what the first one made counts."""
        make = self.make
        if make is None:
            return
        made = make()
        if self.winner.setdefault(0, made) is made:
            self.events, self.make = made[0], None
            made[1]()
        else:
            self.events, self.make = self.winner[0][0], None

    def count(self) -> int:
        """Return how many events it holds."""
        return 1 if self.make is not None else len(self.events)

    def place(self) -> tuple[str, str]:
        """Return run and branch of its events."""
        return (self.events[0].run, self.events[0].branch) if self.events else self.home


def size_of(events: Sequence[NewEvent]) -> int:
    """Return roughly the memory events hold, in bytes."""
    size = 0
    for event in events:
        size += EVENT_BYTES + len(event.payload)
        for content in event.contents:
            size += len(content.body)
    return size
