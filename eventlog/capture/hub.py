"""One tap and one set of wrapped methods per process, shared by all recorders."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog import interrupts
from eventlog.capture.playing import reexecutor
from eventlog.logger import Logger

if TYPE_CHECKING:
    from eventlog.capture.patches import Patch
    from eventlog.capture.recorder import Recorder, Work
    from eventlog.capture.tap import Tap

log = Logger(__name__)

in_boundary: ContextVar[bool] = ContextVar("eventlog_in_boundary", default=False)
"""Set while a recorded call runs: calls it makes through the same class are part of it."""


class Emission(msgspec.Struct):
    """One event on its way to the recorders."""

    event: Any
    works: list[tuple[Recorder, Work]]
    context: Context | None = None
    """Set when it came while another emission was under way: the context it came in."""


class Turn(threading.local):
    """What this thread is delivering. Events that come meanwhile (of a signal handler, mostly) wait in the queue."""

    is_busy = False
    preparing: Emission | None = None
    """An event that CrewAI is giving its ids."""

    def __init__(self) -> None:
        """One queue per thread."""
        self.queue: deque[Emission] = deque()


class Hub:
    """Installs the tap with the first recorder and takes everything off with the last."""

    def __init__(self) -> None:
        """Nothing is installed until somebody records."""
        self.recorders: tuple[Recorder, ...] = ()
        self._lock = threading.RLock()
        self._tap: Tap | None = None
        self._patches: list[Patch] = []
        self._observe: Callable[[Any], None] = lambda _event: None
        self._work: Callable[..., Work]
        self._last_event_id: Callable[[], str | None] = lambda: None
        self._turn = Turn()

    @property
    def mode(self) -> str:
        """How events are captured: ``off``, ``tap`` or ``handlers``."""
        return self._tap.mode if self._tap else "off"

    def add(self, recorder: Recorder) -> None:
        """Start delivering events to a recorder."""
        with self._lock:
            if recorder in self.recorders:
                return
            self.recorders = (*self.recorders, recorder)
            if self._tap is None:
                self._install()

    def discard(self, recorder: Recorder) -> None:
        """Stop delivering events to a recorder."""
        with self._lock:
            self.recorders = tuple(r for r in self.recorders if r is not recorder)
            if not self.recorders and self._tap is not None:
                self._uninstall()

    def _install(self) -> None:
        """Tap the bus and wrap the boundaries."""
        from crewai.events.event_context import get_last_event_id  # noqa: PLC0415 - CrewAI only when needed

        from eventlog.capture import boundaries  # noqa: PLC0415
        from eventlog.capture.recorder import Work  # noqa: PLC0415
        from eventlog.capture.tap import Tap  # noqa: PLC0415

        self._observe, self._work, self._last_event_id = boundaries.observe, Work, get_last_event_id
        self._tap = Tap(self.emit)
        self._tap.install()
        self._patches = boundaries.all_patches()
        for patch in self._patches:
            self.patch(patch)

    def patch(self, patch: Patch) -> None:
        """Wrap one method; what this CrewAI version does not have is left alone, and said."""
        try:
            patch.install()
        except Exception as error:
            log.warning("boundary_unavailable", method=f"{patch.cls.__name__}.{patch.name}", error=repr(error))
        if patch not in self._patches:
            self._patches.append(patch)

    def _uninstall(self) -> None:
        """Leave CrewAI as it was."""
        if self._tap is not None:
            self._tap.remove()
        for patch in reversed(self._patches):
            patch.remove()
        self._tap, self._patches = None, []

    # -- emissions ------------------------------------------------------------------------------

    def emit(self, prepare: Callable[[Any, Any], None], source: Any, event: Any) -> None:
        """Let CrewAI prepare an event, then hand it to every recorder, in the order of its emission sequence.

        An event that a signal handler emits while this thread is in here is encoded at once and
        delivered after the one it interrupted. Raises only what ``prepare`` and signal handlers raise.
        """
        turn = self._turn
        self._hand_on(turn)
        emission = self._emission(source, event)
        if turn.is_busy:
            prepare(source, event)
            self._freeze(emission)
            turn.queue.append(emission)
            return
        turn.is_busy, turn.preparing = True, emission
        try:
            try:
                prepare(source, event)
                if turn.preparing is emission:
                    self._enqueue(turn.queue, emission)
                    turn.preparing = None
            finally:
                turn.is_busy, turn.preparing = True, None
                self._deliver(turn.queue)
        finally:
            turn.is_busy = False
            interrupts.settle()

    def _hand_on(self, turn: Turn) -> None:
        """Let a stream sink, which runs inside ``prepare``, have a turn: the event it was given goes first."""
        outer = turn.preparing
        if outer is not None and outer.event.event_id == self._last_event_id():  # it has all its ids
            self._enqueue(turn.queue, outer)
            turn.preparing = None
            turn.is_busy = False

    def _emission(self, source: Any, event: Any) -> Emission:
        """Return the work every recorder has with an event."""
        return Emission(event, [(recorder, self._work(source, event)) for recorder in self.recorders_here()])

    def recorders_here(self) -> tuple[Recorder, ...]:
        """Return who captures in this context: what is executed again concerns its own recorder only."""
        again = reexecutor()
        if again is None:
            return self.recorders
        return tuple(recorder for recorder in self.recorders if recorder is again.recorder)

    def _freeze(self, emission: Emission) -> None:
        """Keep what an event that has to wait holds now, and the context it came in."""
        emission.context = copy_context()
        for recorder, work in emission.works:
            recorder.freeze(work)

    @staticmethod
    def _enqueue(queue: deque[Emission], emission: Emission) -> None:
        """Put an event before those that signal handlers emitted after it was given its sequence number."""
        number, position = emission.event.emission_sequence or 0, len(queue)
        while position and (queue[position - 1].event.emission_sequence or 0) > number:
            position -= 1
        queue.insert(position, emission)

    def _deliver(self, queue: deque[Emission]) -> None:
        """Empty the queue; what signal handlers raise meanwhile comes out when it is empty."""

        def deliver_all() -> None:
            while queue:
                context = queue[0].context
                if context is None:
                    self._capture(queue[0])
                else:
                    context.copy().run(self._capture, queue[0])
                queue.popleft()

        def skip(error: Exception) -> None:
            log.warning("delivery_failed", error=repr(error))
            queue.popleft()

        interrupts.complete(deliver_all, skip)

    def _capture(self, emission: Emission) -> None:
        """Let every recorder store an event, in the context it was emitted in."""
        self._observe(emission.event)
        for recorder, work in emission.works:
            recorder.capture(work)

    def is_busy(self) -> bool:
        """Whether this thread is delivering: only a signal handler can see that."""
        return self._turn.is_busy

    def each(self, act: Callable[[Recorder], None]) -> None:
        """Let every recorder do something on its own account; its errors are its own."""
        turn, recorders = self._turn, self.recorders_here()
        if turn.is_busy or not recorders:
            for recorder in recorders:
                recorder.guarded(act)
            return
        turn.is_busy = True
        try:
            for recorder in recorders:
                recorder.guarded(act)
        finally:
            try:
                self._deliver(turn.queue)
            finally:
                turn.is_busy = False
                interrupts.settle()

    def after_fork_in_child(self) -> None:
        """The locks of other threads are gone with those threads."""
        self._lock = threading.RLock()
        for recorder in self.recorders:
            recorder.after_fork_in_child()


hub = Hub()
"""The one hub of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=hub.after_fork_in_child)
