"""What a session is: how far a pipeline has come. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from eventlog.errors import ItemNotFoundError

ItemStatus = Literal["pending", "in_progress", "interrupted", "completed", "stale", "failed", "blocked"]
"""``interrupted``: under way, and its worker is gone. ``stale``: completed, and to be done again."""


class Item(msgspec.Struct, kw_only=True):
    """One step of a pipeline."""

    name: str
    status: ItemStatus = "pending"
    attempts: int = 0
    """How often it was begun."""
    round: int = 0
    """How often it had to begin from nothing: with other inputs, after an invalidation, or because it refused what its
    kickoffs had returned."""
    started_at_ns: int | None = None
    """When it was begun last."""
    completed_at_ns: int | None = None
    """When it was completed last."""
    output: Any = None
    """What it returned, readable; large values filled in."""
    result_hash: str = ""
    unkept: str | None = None
    """Why its result will not come back: it is done again whenever the program starts."""
    inputs_hash: str = ""
    """Of what it was begun with last: its arguments and the results of what it depends on."""
    depends_on: list[str] = []
    error: str | None = None
    """What it failed with last, unless it is completed since."""
    reason: str | None = None
    """Why it was invalidated."""
    blocked: str | None = None
    """Why nobody is to begin it; one that is completed is blocked from being done again."""
    worker: str | None = None
    """Who has it in progress."""
    branch: str = ""
    """Where its kickoffs are recorded, if not on the branch of the session."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something to remember about the whole."""

    seq: int
    at_ns: int
    text: str


class Session(msgspec.Struct, kw_only=True):
    """How far a pipeline has come, at a cursor."""

    run: str
    branch: str
    cursor: int
    """Seq of the last event that this tells of; 0: none."""
    status: str
    """``new``, ``in_progress``, ``interrupted`` (nobody works on what was begun), ``failed``, ``blocked`` or
    ``completed``; or what ``update`` said."""
    items: list[Item] = []
    completed_items: list[str] = []
    in_progress_items: list[str] = []
    next_items: list[str] = []
    """What nobody has begun, or what failed or is stale, in order."""
    blocked_items: list[str] = []
    failed_items: list[str] = []
    stale_items: list[str] = []
    summary: str | None = None
    notes: list[Note] = []
    last_action: str | None = None
    total_items: int = 0
    """How many there are; more than ``items`` when somebody said so."""
    run_count: int = 0
    """How often somebody began or went on with it."""
    agent: str | None = None
    created_at_ns: int | None = None
    updated_at_ns: int | None = None

    @property
    def in_progress_item(self) -> str | None:
        """The first item in progress."""
        return next(iter(self.in_progress_items), None)

    def item(self, name: str) -> Item:
        """Return one item.

        Raises:
            ItemNotFoundError: there is none of that name.
        """
        found = next((item for item in self.items if item.name == name), None)
        if found is None:
            raise ItemNotFoundError(name, self.run, [item.name for item in self.items])
        return found

    def __contains__(self, name: str) -> bool:
        """Whether there is an item of that name."""
        return any(item.name == name for item in self.items)
