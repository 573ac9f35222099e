"""Steps of processes that are really killed: each is done, none twice, and nothing that is known is asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

import eventlog
from eventlog.errors import EventLogError
from tests.crash.conftest import ROOT, Nursery
from tests.torture import dice, rounds
from tests.verifying import problems

RUN = "r"
ITEMS = [f"item-{n}" for n in range(6)]


def touches(folder: Path) -> Counter[str]:
    """Return how often each thing was done, over all processes."""
    return Counter((folder / "touches").read_text().splitlines())


def session_of(folder: Path) -> eventlog.Session:
    """Return how far the items are."""
    with eventlog.open(folder / "log.db", readonly=True) as log:
        return log.ledger(RUN).session()


@pytest.mark.torture
@pytest.mark.timeout(300)
def test_a_pipeline_killed_at_every_step_ends_as_if_it_had_not_been(nursery: Nursery, tmp_path: Path) -> None:
    """It is just started again, each time; a kill costs at most the call that was under way.

    Seen to fail: results of steps not recorded; kickoffs of a step not found again (the mark left out of the label).
    """
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert nursery.run("steps", "pipeline", whole, items=ITEMS) == 0
    deaths = 0

    for number in range(len(touches(whole))):
        kill_at = 1 + dice(f"steps/{number}").randint(0, 1)
        code = nursery.run("steps", "pipeline", killed, items=ITEMS, kill_at=kill_at)
        deaths += code == -signal.SIGKILL
        if code == 0:
            break
    assert nursery.run("steps", "pipeline", killed, items=ITEMS) == 0

    assert json.loads((killed / "results.json").read_text()) == json.loads((whole / "results.json").read_text())
    assert deaths >= len(ITEMS)
    assert touches(killed).total() <= touches(whole).total() + deaths
    assert touches(killed).keys() == touches(whole).keys()
    assert session_of(killed).completed_items == ITEMS
    assert session_of(killed).run_count == deaths + 2
    assert list(problems(killed / "log.db")) == []


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(rounds(1, 6)))
def test_workers_share_items_and_each_is_done_once(nursery: Nursery, tmp_path: Path, seed: int) -> None:
    """Three processes, six items, at the same time: no item twice, none left.

    Seen to fail: a claim that is taken without a look whether it was the first.
    """
    delay = dice(f"workers/{seed}").uniform(0.02, 0.1)
    assert nursery.run("steps", "workers", tmp_path, count=3, items=ITEMS, delay=delay) == 0
    found = touches(tmp_path)

    assert {f"body {item}": found[f"body {item}"] for item in ITEMS} == {f"body {item}": 1 for item in ITEMS}
    assert found.total() == 3 * len(ITEMS)
    assert session_of(tmp_path).completed_items == ITEMS
    assert list(problems(tmp_path / "log.db")) == []


@pytest.mark.timeout(300)
def test_workers_take_what_is_ready_and_wait_for_what_will_be(nursery: Nursery, tmp_path: Path) -> None:
    """Two scans, a merge of both, a report of the merge: three workers do each once, in an order that is allowed.

    Seen to fail when an item is taken before what it depends on is done.
    """
    plan = {"scan-a": [], "scan-b": [], "merge": ["scan-a", "scan-b"], "report": ["merge"]}
    assert nursery.run("steps", "workers", tmp_path, count=3, items=plan, delay=0.05) == 0
    bodies = [line for line in (tmp_path / "touches").read_text().splitlines() if line.startswith("body")]

    assert sorted(bodies[:2]) == ["body scan-a", "body scan-b"]
    assert bodies[2:] == ["body merge", "body report"]
    assert session_of(tmp_path).completed_items == list(plan)


@pytest.mark.timeout(300)
def test_processes_that_run_the_same_program_all_get_every_result(nursery: Nursery, tmp_path: Path) -> None:
    """Whoever comes second waits for the first one's result, and gets that."""
    items = ITEMS[:4]
    assert nursery.run("steps", "everybody_in_order", tmp_path, count=3, items=items, delay=0.05) == 0
    results = [json.loads((tmp_path / f"results-{n}.json").read_text()) for n in range(3)]

    assert results[0] == results[1] == results[2]
    assert touches(tmp_path).total() == 3 * len(items)


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(rounds(2, 8)))
def test_what_a_dead_worker_had_begun_another_one_ends(nursery: Nursery, tmp_path: Path, seed: int) -> None:
    """Two of three workers are killed; those that come later go on in the middle of their items, on any branch.

    Seen to fail: a dead worker's claim that holds; a step that begins anew instead of forking where it was recorded.
    """
    rng = dice(f"dead workers/{seed}")
    kills = {str(number): rng.randint(2, 6) for number in rng.sample(range(3), 2)}
    nursery.run("steps", "workers", tmp_path, count=3, items=ITEMS, delay=0.05, kills=kills)
    for _ in range(2):
        assert nursery.run("steps", "workers", tmp_path, count=2, items=ITEMS, delay=0.02) == 0
    found = touches(tmp_path)
    calls = [count for what, count in found.items() if what.startswith("llm")]

    assert session_of(tmp_path).completed_items == ITEMS
    assert len(calls) == 2 * len(ITEMS)
    assert sum(calls) <= 2 * len(ITEMS) + len(kills)
    assert list(problems(tmp_path / "log.db")) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(rounds(2, 10)))
def test_a_forked_child_does_steps_of_its_own(nursery: Nursery, tmp_path: Path, seed: int) -> None:
    """It inherits folds and claims in whatever state threads had them: it begins anew, and takes nobody's item."""
    assert nursery.run("steps", "forking", tmp_path) == 0
    names = [f"{who}-{n}" for who in ("child", "thread-0", "thread-1") for n in range(5)]

    assert touches(tmp_path) == {f"body {name}": 1 for name in [*names, "shared"]}
    assert sorted(session_of(tmp_path).completed_items) == sorted([*names, "shared", "outer"])


HANGING = """
import os
import signal
import sys
from pathlib import Path

import eventlog
from tests.crash.children import steps


def body(item, delay):
    text = steps._body(item, delay)
    steps.witness.note("stops")
    os.kill(os.getpid(), signal.SIGSTOP)
    return text


folder = Path(sys.argv[1])
steps._begin(folder, 0)
with eventlog.open(folder / "log.db") as log, log.run("r", items=["a"]) as run:
    print(run.step("a", body, "a", 0.0))
"""


def wait_for(folder: Path, line: str) -> None:
    """Wait until somebody noted something."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError, EventLogError):
            if touches(folder)[line]:
                return
        time.sleep(0.02)
    pytest.fail(f"{line} never came")


@pytest.mark.timeout(180)
def test_a_worker_that_hangs_loses_its_item_when_somebody_says_so(nursery: Nursery, tmp_path: Path) -> None:
    """It is stopped, a person releases its item, another one does it; when it wakes up it gets that result."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_for(tmp_path, "stops")
        os.waitpid(child.pid, os.WUNTRACED)
        with eventlog.open(tmp_path / "log.db") as log:
            log.ledger(RUN).release("a")
        assert nursery.run("steps", "worker", tmp_path, items=["a"]) == 0
        output = session_of(tmp_path).item("a").output
        os.kill(child.pid, signal.SIGCONT)
        out, _ = child.communicate(timeout=60)
    finally:
        child.kill()

    assert out.splitlines()[-1] == output == session_of(tmp_path).item("a").output
    assert touches(tmp_path)["body a"] == 2
    assert list(problems(tmp_path / "log.db")) == []
