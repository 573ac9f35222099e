"""Programs that are measured as processes of their own: ``python -m benchmarks.children NAME ARGUMENT…``.

What they found they write as JSON to a file; CrewAI's panels go wherever stdout leads. The log is imported by those
that use it only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BARE = "without"
"""Given as the path of the log: none."""


def run_child(name: str, out: Path, *args: object) -> Any:
    """Run one of these programs and return what it found; ``None`` when it was killed before."""
    out.unlink(missing_ok=True)
    line = [sys.executable, "-m", "benchmarks.children", name, str(out), *map(str, args)]
    ended = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if ended.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(ended.stderr.decode()[-2_000:])
    return json.loads(out.read_text()) if out.exists() else None


def first_call(out: Path, db: str, tasks: str, rounds: str, end_at: str) -> None:
    """Kick a crew off, write when the model was asked first and how often; be killed at a call, if one is given."""
    from benchmarks.crews import small_crew

    asked: list[float] = []

    def on_call() -> None:
        asked.append(time.monotonic())
        if len(asked) == int(end_at):
            out.write_text(json.dumps({"first": asked[0], "calls": len(asked)}))
            os.kill(os.getpid(), signal.SIGKILL)

    crew = small_crew(int(rounds), int(tasks), on_call)
    if db == BARE:
        crew.kickoff()
    else:
        import eventlog

        with eventlog.open(db) as log, log.run("r") as run:
            run.kickoff(crew)
    out.write_text(json.dumps({"first": asked[0] if asked else None, "calls": len(asked)}))


def kickoffs(out: Path, db: str, count: str, every: str) -> None:
    """Kick a new crew off again and again, and write the MB of this process on the way."""
    from benchmarks.crews import small_crew

    found = []
    with _recorded(db, "commit"):
        for number in range(1, int(count) + 1):
            small_crew().kickoff()
            if number % int(every) == 0:
                found.append((number, resident_mb()))
    out.write_text(json.dumps(found))


def emits(out: Path, db: str, count: str) -> None:
    """Emit events, none of which is kept here, and write by how many MB this process grew."""
    from crewai.events.event_bus import crewai_event_bus as bus

    from benchmarks.data import flat_pairs

    with _recorded(db, "batch"), bus.scoped_handlers():
        for event in flat_pairs(50, 3_000, seed=0):  # what is loaded with the first events is no growth
            bus.emit(None, event)
        before = resident_mb()
        for seed in range(1, int(count) // 100 + 1):
            for event in flat_pairs(50, 3_000, seed):
                bus.emit(None, event)
        out.write_text(json.dumps([before, resident_mb()]))


@contextmanager
def _recorded(db: str, durability: Any) -> Iterator[None]:
    """Record what happens inside, or not."""
    if db == BARE:
        yield
        return
    import eventlog

    with eventlog.open(db, durability=durability) as log, log.run("r"):
        yield


def resident_mb() -> float:
    """Return how much memory of this process is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


PROGRAMS: dict[str, Callable[..., None]] = {"first_call": first_call, "kickoffs": kickoffs, "emits": emits}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
