"""A timer whose handler emits, again and again, at whatever instruction the main thread happens to be."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

from typing_extensions import Self

import eventlog
from eventlog import EventLogListener
from eventlog.capture.hub import hub
from eventlog.pipeline import is_writing
from tests.crash.children.witness import emit

OURS = str(Path(eventlog.__file__).parent)
TICK_S, RAISING_TICK_S = 0.0004, 0.001
"""From the end of a handler to the next tick: on a busy machine, too, the main thread gets on between two of them."""


class Interrupt(BaseException):
    """What the raising handler raises, besides KeyboardInterrupt and SystemExit."""


class Timer:
    """Emits on each tick; raises now and then, if it may, when it has interrupted our code."""

    def __init__(self, *, raises: bool) -> None:
        """Not ticking yet."""
        self.raises = raises
        self.ids: list[str] = []
        self.inside = self.raised = 0
        self._every = RAISING_TICK_S if raises else TICK_S

    def __enter__(self) -> Self:
        """Tick."""
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, self._every)
        return self

    def __exit__(self, *exc: object) -> None:
        """Tick no more."""
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _tick(self, number: int, frame: Any) -> None:
        self.inside += hub.is_busy() or is_writing()
        self.ids.append(emit(-1 - len(self.ids), fields="tick"))
        signal.setitimer(signal.ITIMER_REAL, self._every)
        here = frame.f_code.co_filename
        if self.raises and here.startswith(OURS) and random.random() < 0.5:
            self.raised += 1
            raise random.choice((Interrupt, KeyboardInterrupt, SystemExit, TimeoutError))("tick")


def emit_all(events: int, ids: list[str]) -> None:
    """Emit that many events; one whose emit was interrupted does not count."""
    n = 0
    while len(ids) < events:
        n += 1
        try:
            ids.append(emit(n))
        except (Interrupt, KeyboardInterrupt, SystemExit, TimeoutError):
            continue


def ticking(folder: Path, *, durability: str, events: int, raises: bool) -> None:
    """Emit while the timer ticks, then say what happened."""
    listener = EventLogListener(folder / "log.db", durability=durability, batch_ms=5, signals=False)
    ids: list[str] = []
    with Timer(raises=raises) as timer:
        emit_all(events, ids)
    last = emit(0)
    assert not hub.is_busy()
    assert not is_writing()
    assert listener.log.flush(5)
    appended = listener.log.append("test.appended")
    pipeline = listener.log.writer.pipeline
    report = {
        "ids": [*ids, *timer.ids, last],
        "ticks": len(timer.ids),
        "inside": timer.inside,
        "raised": timer.raised,
        "in_transaction": pipeline._connected().db.in_transaction,
        "failed": listener.log.status().failed,
        "degraded": listener.log.status().degraded,
        "appended": appended,
    }
    (folder / "report.json").write_text(json.dumps(report))


def appending(folder: Path, *, durability: str, events: int) -> None:
    """Append events of our own, with an expectation, while the timer's handler emits."""
    listener = EventLogListener(folder / "log.db", durability=durability, batch_ms=5, signals=False)
    log = listener.log
    with Timer(raises=False) as timer, log.run("mine"):
        seqs = [log.append("test.appended", {"n": n}) for n in range(events)]
    report = {"ids": timer.ids, "ticks": len(timer.ids), "inside": timer.inside, "seqs": seqs}
    (folder / "report.json").write_text(json.dumps(report))
