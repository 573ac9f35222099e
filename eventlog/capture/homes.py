"""Which run an event belongs to when its place in the call tree does not tell."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from eventlog.record import MAIN_BRANCH

ORPHANS = frozenset({"default_env", "cc_env", "codex_env", "cursor_env", "flow_created"})
"""Events CrewAI emits just before a kickoff's root event: they belong to the kickoff that follows."""

is_restoring: ContextVar[bool] = ContextVar("eventlog_restoring", default=False)
"""Set while CrewAI makes objects from a checkpoint: their making opens no run."""


class Home:
    """A run and branch that events go to, with what this process knows of them."""

    __slots__ = (
        "agents",
        "attribution",
        "branch",
        "counters",
        "definitions",
        "is_continued",
        "open_roots",
        "plain",
        "reserved",
        "run",
        "unfinished",
    )

    def __init__(self, run: str, branch: str, attribution: str, counters: dict[str, int]) -> None:
        """``counters``: how many scopes of each label stand at the top of the branch already."""
        self.run, self.branch, self.attribution = run, branch, attribution
        self.counters = counters
        self.definitions: set[bytes] = set()
        self.agents: set[str | None] = set()
        """Ids of agents whose definition is on record."""
        self.open_roots = 0
        self.plain: set[str] = set()
        """Paths of kickoffs at the top that nobody directed: the program has had their results."""
        self.is_continued = False
        """A branch on which something restored goes on: it counts more than the run this context is in."""
        self.reserved = False
        """Minted for an orphan: the next root takes it."""
        self.unfinished = False
        """An earlier process left a kickoff undone here."""


class Homes:
    """The open runs of one recorder."""

    def __init__(self, mint: Callable[[str], Home], *, capture_all: bool = False) -> None:
        """``mint(attribution)`` makes a run; ``capture_all`` also takes what belongs to no open run."""
        self._mint = mint
        self.listeners = int(capture_all)
        """How many listeners want everything, also what belongs to no open run."""
        self.listener_homes: list[Home] = []
        """Where listeners that were given a run send everything; the last one counts."""
        self._current: ContextVar[Home | None] = ContextVar("eventlog_home", default=None)
        self._listened: ContextVar[bool] = ContextVar("eventlog_listened", default=False)
        """Set where a listener was made and in what descends from there, but not in raw threads."""
        self._orphaned: ContextVar[Home | None] = ContextVar("eventlog_orphan_home", default=None)
        self._flows: weakref.WeakKeyDictionary[Any, Home] = weakref.WeakKeyDictionary()
        self._expected: dict[int, Home] = {}
        self._named: list[Home] = []
        self._running: dict[str, Home] = {}
        self.runless = Home("", MAIN_BRANCH, "named", {})

    def listen(self) -> None:
        """A listener wants everything from here on."""
        self.listeners += 1
        self._listened.set(True)

    # -- named runs -------------------------------------------------------------------------

    def enter(self, home: Home) -> Any:
        """Make a run the current one of this context; returns the token for ``leave``."""
        self._named.append(home)
        return self._current.set(home)

    def leave(self, home: Home, token: Any) -> None:
        """Undo ``enter``; in a context that is not the one that entered, the variable stays."""
        self._named.remove(home)
        try:
            self._current.reset(token)
        except ValueError:
            self._current.set(None)

    def current(self) -> Home | None:
        """Return the run entered in this context."""
        home = self._current.get()
        return home if home in self._named else None

    def is_open(self, home: Home) -> bool:
        """Whether somebody is inside this run and branch."""
        return home in self._named or home in self.listener_homes

    def has_open_runs(self) -> bool:
        """Whether somebody is inside a run."""
        return bool(self._named) or bool(self.listener_homes)

    # -- any event ----------------------------------------------------------------------------

    def expect(self, source: Any, home: Home) -> None:
        """The next kickoff of ``source`` belongs there."""
        self._expected[id(source)] = home

    def find(self, source: Any, event_type: str, *, is_root: bool) -> Home | None:
        """Return the home of an event without a known parent; ``None`` if it is not for this recorder."""
        if is_root and id(source) in self._expected:
            return self._expected.pop(id(source))
        home = self.current() or (self.listener_homes[-1] if self.listener_homes else None)
        if home is not None:
            return home
        if is_root:
            return self._for_root(source)
        open_runs = self._open_runs()
        if len(open_runs) == 1:
            return open_runs[0]
        if event_type in ORPHANS and self.listeners and not is_restoring.get():
            return self._reserve(source, event_type)
        if not open_runs and len(self._running) == 1:
            return next(iter(self._running.values()))
        return self.runless if self.listeners else None

    def _for_root(self, source: Any) -> Home | None:
        """A kickoff outside every ``log.run``: the sole open run, one reserved by an orphan, or a new one."""
        open_runs = self._open_runs()
        if len(open_runs) == 1:
            return open_runs[0]
        if open_runs:
            return self._mint("guessed")
        if not self.listeners:
            return None
        for home in (self._orphaned.get(), self._reserved_by(source)):
            if home is not None and home.reserved:
                home.reserved = False
                return home
        return self._mint("minted")

    def _open_runs(self) -> list[Home]:
        """Return the named runs an event of this context may belong to though it did not enter them.

        A raw thread has no context that would tell. One that descends from where a listener
        was made stands outside of every run on purpose.
        """
        outside = self.listeners and self._listened.get()
        return [] if outside else list(dict.fromkeys(self._named))

    def _reserve(self, source: Any, event_type: str) -> Home:
        """Mint a run for an orphan and keep it for the kickoff that follows."""
        home = self._orphaned.get()
        if home is None or not home.reserved:
            home = self._mint("minted")
            home.reserved = True
        if event_type == "flow_created":
            try:
                self._flows[source] = home
            except TypeError:  # neither weak nor hashable
                self._orphaned.set(home)
        else:
            self._orphaned.set(home)
        return home

    def _reserved_by(self, source: Any) -> Home | None:
        """Return the run minted when this flow was created."""
        try:
            return self._flows.get(source)
        except TypeError:
            return None

    def root_opened(self, home: Home) -> None:
        """A root execution began in the run."""
        home.open_roots += 1
        self._running[home.run] = home

    def root_closed(self, home: Home) -> bool:
        """A root execution ended; true when nothing runs there any more and nobody will say so: nobody opened it."""
        home.open_roots = max(0, home.open_roots - 1)
        if home.open_roots == 0:
            self._running.pop(home.run, None)
        return home.open_roots == 0 and (home.attribution != "named" or home.is_continued)
