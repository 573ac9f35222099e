"""Write the logs of the present format: ``python -m tests.golden.generate v1``, once per format, by hand.

What is there is never written again: a log is worth keeping because it was written by the code of its time.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import pathlib
import shutil
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import msgspec

import eventlog
from eventlog import lease, owner
from eventlog.ledger import steps
from eventlog.ledger.progress import Claim
from eventlog.schema import FORMAT
from tests.golden.expectations import FOLDER, observe
from tests.golden.programs import LEAF, PROGRAMS, STEPS, World, go_on, pipeline

RUN = "golden"
DEAD = 9
"""Exit code of a process that is to die."""
NOWHERE = owner.Owner(host="golden.invalid", boot="golden", pid=1, started="1")
"""Who wrote the logs: to everybody a process of another host, which counts until its lease is over."""
STORAGE = Path("/tmp/golden/crewai")  # a flow records where its state is kept: the same for everybody
LONG_AGO_NS = 1_577_836_800_000_000_000
"""When each lease is over, whatever the clock says where the logs are read."""


# -- what is written -----------------------------------------------------------------------------------


def record(file: Path, program: str, *, branch: str = "main", world: World | None = None) -> str:
    """Run a program in a log, or go on with it, and answer what it waits for; returns the text of its result."""
    made = PROGRAMS[program](world or World())
    with eventlog.open(file) as log, log.run(RUN, branch=branch) as run:
        result = go_on(run, made)
    return str(getattr(result, "raw", result))


def whole(program: str) -> Callable[[Path], object]:
    """Run a program to its end."""
    return lambda file: record(file, program)


def in_child(work: Callable[[], object]) -> int:
    """Do something in a process of its own, silently, and return its exit code.

    Nothing may have been emitted before: CrewAI's bus has threads and locks that no fork survives.
    """
    pid = os.fork()
    if pid == 0:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
            work()
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(program: str, at_call: int) -> Callable[[Path], object]:
    """Run a program whose process is gone when its model is asked that question."""

    def die(call: int) -> None:
        if call == at_call:
            os._exit(DEAD)

    def write_until_then(file: Path) -> None:
        code = in_child(lambda: record(file, program, world=World(die)))
        if code != DEAD:
            raise SystemExit(f"{program} did not die at model call {at_call}: {code}")

    return write_until_then


def resumed(file: Path) -> None:
    """Kill a crew twice, then let it end."""
    killed("crew", 3)(file)
    killed("crew", 3)(file)
    record(file, "crew")


def waiting(file: Path) -> None:
    """Run a flow until it waits for a person."""
    made = PROGRAMS["review"](World())
    with eventlog.open(file) as log:
        log.run(RUN).kickoff(made.entity)


def forked(file: Path) -> None:
    """Finish a crew, fork it with another output of its first task, go on with that, and fork it with other inputs."""
    record(file, "crew")
    with eventlog.open(file) as log:
        log.fork(RUN, branch="blue", outputs={"step 0": "Tea is blue."})
    record(file, "crew", branch="blue")
    with eventlog.open(file) as log:
        log.fork(RUN, branch="coffee", parent="blue", inputs={"topic": "coffee"})


VALUES: dict[str, Any] = {
    "text": "Grüße, 茶, 🍵, \u2028",
    "large": LEAF * 200,
    "numbers": [0, -1, 2**53, 2**63 - 1, 2**64, -(2**70), 1.5, 1e300, float("inf"), None, True],
    "sets": {3, 1, 2},
    "tuple": (1, ("a", None)),
    "bytes": b"\x00\xff tea",
    "when": datetime.datetime(2026, 1, 15, 8, 30, tzinfo=datetime.timezone.utc),
    "day": datetime.date(2026, 1, 15),
    "long": datetime.timedelta(hours=1.5),
    "id": uuid.UUID("8f14e45f-ceea-467f-9575-1c2d3e4f5a6b"),
    "price": decimal.Decimal("4.20"),
    "path": pathlib.PurePosixPath("tea/oolong"),
    "keys": {1: "one", "$set": "a key like a tag", "": "empty"},
    "error": ValueError("no tea"),
    "class": World,
    "password": "hunter22-and-more",
    "said": "the password is hunter22-and-more, and sk-" + "a1b2c3d4e5f6" * 3,
}
"""Every kind of value, a large one, and secrets."""


def notes(file: Path) -> None:
    """Append events of the user's own: of a run, of its two branches, and of none."""
    with eventlog.open(file) as log:
        log.append("note.values", VALUES, run=RUN)
        log.append("note.again", {"large": VALUES["large"]}, run=RUN, event_id="order-17")
        log.append_many([("note.many", {"n": n}) for n in range(3)], run=RUN)
        log.fork(RUN, branch="other", to=2)
        log.append("note.other", {"n": 1}, run=RUN, branch="other")
        log.append("note.empty", run=RUN, branch="other")
        log.append("note.nobody", {"n": 4})


def pipeline_in(file: Path, world: World | None = None) -> list[str]:
    """Do the steps of the pipeline in a log; returns their results."""
    with eventlog.open(file) as log, log.run(RUN, items=STEPS) as run:
        return pipeline(run, world or World())


def pipeline_killed(file: Path) -> None:
    """Do a pipeline until its process is gone in the middle of its second step; then people say something about it."""

    def die(call: int) -> None:
        if call == 4:
            os._exit(DEAD)

    if in_child(lambda: pipeline_in(file, World(die))) != DEAD:
        raise SystemExit("the pipeline did not die")
    with eventlog.open(file) as log:
        ledger = log.ledger(RUN)
        ledger.note("its process is gone")
        ledger.block("report", "until somebody has read it")
        ledger.unblock("report")


WRITERS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "agent": (whole("agent"), "agent"),
    "crew": (whole("crew"), "crew"),
    "crew_killed": (killed("crew", 5), "crew"),
    "crew_resumed": (resumed, "crew"),
    "flow": (whole("flow"), "flow"),
    "flow_killed": (killed("flow", 3), "flow"),
    "forked": (forked, "crew"),
    "notes": (notes, None),
    "pipeline": (pipeline_in, None),
    "pipeline_killed": (pipeline_killed, None),
    "review": (whole("review"), "review"),
    "review_waiting": (waiting, "review"),
}
"""Name of a log → what writes it, and the program it is of."""


# -- what is expected ----------------------------------------------------------------------------------


def outcome(program: str, branch: str, file: Path) -> dict[str, Any]:
    """Return what comes of going on with a branch of a copy of a log, and how much of the world that takes."""
    world = World()
    text = record(file, program, branch=branch, world=world)
    return {"text": text, "calls": world.calls, "tool_runs": len(world.tool_runs), "questions": len(world.questions)}


def outcomes(file: Path, program: str, branches: list[str]) -> dict[str, Any]:
    """Return what comes of each branch; of the main one that must be what comes of a program nobody interrupts."""
    expected = outcome(program, "main", file.with_name("whole.db"))
    found = {name: outcome(program, name, Path(shutil.copy(file, file.with_name("copy.db")))) for name in branches}
    if found["main"]["text"] != expected["text"]:
        raise SystemExit(f"{file.stem} ends with {found['main']['text']!r} instead of {expected['text']!r}")
    return found


def expectation(file: Path, program: str | None) -> dict[str, Any]:
    """Return all that must stay true of a log."""
    with eventlog.open(file, readonly=True) as log:
        said = observe(log)
    ends = outcomes(file, program, list(said["heads"][RUN])) if program else {}
    if file.stem.startswith("pipeline"):
        world = World()
        texts = pipeline_in(Path(shutil.copy(file, file.with_name("copy.db"))), world)
        ends = {"pipeline": {"texts": texts, "calls": world.calls, "tool_runs": len(world.tool_runs)}}
    made_with = {name: version_of(name) for name in ("crewai-eventlog", "crewai")}
    return {"made_with": made_with, "program": program, "outcomes": ends, **said}


def close(file: Path) -> None:
    """Have everything in the file itself, and nothing beside it, as an orderly end leaves it."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def write(name: str, target: Path) -> None:
    """Write one log and its expectation."""
    writer, program = WRITERS[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["CREWAI_STORAGE_DIR"] = str(STORAGE)
        file = folder / f"{name}.db"
        writer(file)
        close(file)
        text = json.dumps(expectation(file, program), indent=1, ensure_ascii=False)
        target.mkdir(exist_ok=True)
        (target / f"{name}.json").write_text(text + "\n", "utf-8")
        shutil.copy(file, target / f"{name}.db")


def main(version: str) -> None:
    """Write what is not there yet."""
    if version != f"v{FORMAT}":
        raise SystemExit(f"this code writes v{FORMAT}; {version} can only be written by the code of its time")
    owner._this_process = lambda _pid: NOWHERE  # type: ignore[assignment]
    lease._until_ns = lambda: LONG_AGO_NS
    steps.new_claim = lambda: Claim(uuid.uuid4().hex, msgspec.json.encode(NOWHERE).decode(), LONG_AGO_NS)  # type: ignore[attr-defined]  # it is imported there
    missing = [name for name in WRITERS if not (FOLDER / version / f"{name}.db").exists()]
    failed = [name for name in missing if in_child(lambda name=name: write(name, FOLDER / version)) != 0]  # type: ignore[misc]
    shutil.rmtree(STORAGE.parent, ignore_errors=True)
    if failed:
        raise SystemExit(f"not written: {', '.join(failed)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
