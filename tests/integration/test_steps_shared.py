"""Steps of several workers, one situation at a time: who has an item, and where its kickoffs are recorded."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventlog
from eventlog.ledger import claims
from eventlog.ledger.book import Book
from eventlog.ledger.claims import Claims
from eventlog.ledger.events import StepCompleted, StepMoved, StepStarted, WorkEvent
from eventlog.owner import Owner, _start_time, this_process
from eventlog.run import Run
from tests.integration.pipelines import RUN, Team, done
from tests.verifying import problems


@pytest.fixture
def log(tmp_path: Path) -> Iterator[eventlog.Log]:
    """A log of its own."""
    with eventlog.open(tmp_path / "log.db") as opened:
        yield opened


def occupy(log: eventlog.Log, branch: str = "main") -> None:
    """Let another living process, the first of this machine, work on a branch."""
    here = this_process()
    owner = msgspec.json.encode(Owner(here.host, here.boot, 1, _start_time(1))).decode()
    log.flush()
    with closing(sqlite3.connect(log.path, timeout=5)) as db, db:
        sql = "UPDATE branches SET owner = ?, lease_until_ns = ?, epoch = epoch + 1000 WHERE run > 0 AND name = ?"
        assert db.execute(sql, (owner, 2**62, branch)).rowcount == 1


def test_two_that_look_at_the_same_moment_do_not_both_have_an_item(
    log: eventlog.Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both see it free, both claim it: the first claim in the log counts, and the other one waits for the result.

    Seen to fail without the look at what the claim became.
    """
    meet, bodies, results = threading.Barrier(2), [], []
    hold = Claims.hold

    def hold_together(self: Claims, item: str, claim: str) -> None:
        meet.wait(10)
        hold(self, item, claim)

    def body() -> int:
        monkeypatch.setattr(Claims, "hold", hold)
        bodies.append(threading.get_ident())
        return len(bodies)

    def worker() -> None:
        with log.run(RUN) as run:
            results.append(run.step("a", body))

    log.append("any.thing", run=RUN)
    monkeypatch.setattr(Claims, "hold", hold_together)
    threads = [threading.Thread(target=worker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert (len(bodies), results) == (1, [1, 1])


@pytest.mark.parametrize("own_runs", [False, True])
def test_a_crowd_of_threads_does_each_item_once(log: eventlog.Log, own_runs: bool) -> None:
    """Eight threads, each through all items, on one ``Run`` object or on one each: every thread gets every result."""
    names, bodies = [f"item-{n}" for n in range(12)], []
    shared = log.run(RUN, items=names)

    def body(name: str) -> str:
        bodies.append(name)
        return f"{name} done"

    def worker(_number: int) -> list[str]:
        run = log.run(RUN, items=names) if own_runs else shared
        with run:
            return [run.step(name, body, name) for name in names]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(worker, range(8)))

    assert found == [[f"{name} done" for name in names]] * 8
    assert sorted(bodies) == sorted(names)
    assert log.ledger(RUN).session().completed_items == names


def test_a_result_that_cannot_be_recorded_is_the_callers_all_the_same(
    log: eventlog.Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full when an hour of work is done: the program has the result, and a warning says what is missing."""
    append = Book.append

    def fails(self: Book, event: WorkEvent, event_id: str | None = None) -> int:
        if isinstance(event, StepCompleted):
            raise eventlog.AppendError("no space left")
        return append(self, event, event_id)

    monkeypatch.setattr(Book, "append", fails)
    with log.run(RUN) as run:
        first = run.step("a", lambda: 1)
        monkeypatch.setattr(Book, "append", append)
        second = run.step("a", lambda: 2)

    assert (first, second) == (1, 2)
    assert "step_result_not_recorded" in caplog.text


def test_a_branch_that_cannot_be_announced_is_given_back(log: eventlog.Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file fails between the lease of an item's own branch and the word of it: nobody keeps the branch.

    Seen to fail when only what a kickoff had begun on was given back.
    """
    append = Book.append

    def fails(self: Book, event: WorkEvent, event_id: str | None = None) -> int:
        if isinstance(event, StepMoved):
            raise eventlog.AppendError("no space left")
        return append(self, event, event_id)

    log.append("any.thing", run=RUN)
    occupy(log)
    monkeypatch.setattr(Book, "append", fails)
    with log.run(RUN) as run, pytest.raises(eventlog.AppendError):
        run.step("a", Team().work, "a")
    held = log.reader.query("SELECT name FROM branches WHERE name LIKE 'step-%' AND lease_until_ns IS NOT NULL")

    assert held == []


class Dies(BaseException):
    """The process of a worker ends."""


def interrupted(log: eventlog.Log, branch: str = "main") -> Team:
    """Begin an item, and die with the second of its four calls; returns the team."""
    team = Team(script=["one", Dies(), "two", "three", "four", *["more"] * 9])
    with log.run(RUN, branch=branch) as run, pytest.raises(Dies):
        run.step("a", team.work, "a")
    return team


def go_on(log: eventlog.Log, team: Team, branch: str = "main") -> tuple[Any, int]:
    """Do the item; returns its result and how often the model was asked."""
    before = team.calls
    with log.run(RUN, branch=branch) as run:
        return run.step("a", team.work, "a"), team.calls - before


def test_another_worker_has_a_branch_of_its_own_and_goes_on_there(log: eventlog.Log) -> None:
    """Somebody works on ``main``: the kickoffs of the item stand on a branch of its own, its end on ``main``."""
    log.append("any.thing", run=RUN)
    occupy(log)
    team = interrupted(log)
    own = log.ledger(RUN).session().item("a").branch
    result, asked = go_on(log, team)
    branches = {info.branch for info in log.branches(RUN)}

    assert own.startswith("step-a-")
    assert branches == {"main", own}
    assert (result, asked) == ("four", 3)
    assert log.ledger(RUN).session().completed_items == ["a"]
    assert list(problems(log.path)) == []


def test_what_was_begun_on_the_main_branch_goes_on_on_one_of_its_own(log: eventlog.Log) -> None:
    """A worker died on ``main`` and another took it: what the item asked there is known on the branch it forks."""
    team = interrupted(log)
    occupy(log)
    result, asked = go_on(log, team)

    assert (result, asked) == ("four", 3)
    assert log.ledger(RUN).session().item("a").branch.startswith("step-a-")


def test_what_was_begun_on_a_branch_that_others_have_goes_on_on_a_fork_of_it(log: eventlog.Log) -> None:
    """Also the item's own branch may be somebody's: then the work goes on on a fork of that one.

    Seen to fail when it was forked from ``main``.
    """
    log.append("any.thing", run=RUN)
    occupy(log)
    team = interrupted(log)
    first = log.ledger(RUN).session().item("a").branch
    occupy(log, first)
    result, asked = go_on(log, team)
    second = log.ledger(RUN).session().item("a").branch

    assert (result, asked) == ("four", 3)
    assert second != first
    assert {info.branch: info.parent for info in log.branches(RUN)}[second] == first


def test_a_fork_of_a_session_knows_what_its_items_asked_by_then_and_no_more(log: eventlog.Log) -> None:
    """The item's own branch belongs to the parent, which went on with it: the fork sees it as it was at the fork.

    Seen to fail when the whole of that branch was taken, and when ``main`` was.
    """
    log.append("any.thing", run=RUN)
    occupy(log)
    team = interrupted(log)
    log.fork(RUN, branch="other")
    go_on(log, team)
    before, events = log.ledger(RUN).session(), {info.branch: info.events for info in log.branches(RUN)}
    result, asked = go_on(log, team, "other")
    after, counts = log.ledger(RUN).session(), {info.branch: info.events for info in log.branches(RUN)}

    assert asked == 3
    assert result == "more"
    assert after == before
    assert {name: counts[name] for name in events if name != "other"} == {
        name: count for name, count in events.items() if name != "other"
    }


def claimed_elsewhere(run: Run, item: str, until_ns: int) -> None:
    """Let a worker on another host begin an item."""
    owner = {"host": "elsewhere", "boot": "", "pid": 1, "started": ""}
    run._at_desk().book.append(StepStarted(item=item, claim="theirs", owner=owner, until_ns=until_ns))


def test_a_worker_of_another_host_has_its_item_until_its_claim_expires(log: eventlog.Log) -> None:
    """Nobody can see whether it lives: its time is what counts."""
    with log.run(RUN) as run:
        claimed_elsewhere(run, "a", 2**62)
        claimed_elsewhere(run, "b", 1)
        with pytest.raises(eventlog.StepBusyError, match="process 1 on elsewhere"):
            run.step("a", lambda: 1, wait=False)

        assert run.session().item("a").status == "in_progress"
        assert run.session().item("b").status == "interrupted"
        assert run.step("b", lambda: 2) == 2


def test_an_item_can_be_taken_from_a_worker_that_hangs(log: eventlog.Log) -> None:
    """A person knows better than the clock."""
    with log.run(RUN) as run:
        claimed_elsewhere(run, "a", 2**62)
        run.release("a")

        assert run.step("a", lambda: 1, wait=False) == 1


def test_a_claim_is_renewed_as_long_as_its_worker_works(log: eventlog.Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may take hours: workers of other hosts see that somebody is at it, and then that nobody is."""

    def work() -> None:
        deadline = time.monotonic() + 20
        while len(list(log.events(RUN, types=["eventlog.step_renewed"]))) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    monkeypatch.setattr(claims, "CLAIM_S", 0.3)
    with log.run(RUN) as run:
        run.step("a", work)
        time.sleep(0.5)
    begun, *renewals = (e for e in log.events(RUN, types=["eventlog.step_*"]) if "until_ns" in e.payload)
    ended = next(event.seq for event in log.events(RUN, types=["eventlog.step_completed"]))
    until = [event.payload["until_ns"] for event in (begun, *renewals)]

    assert until == sorted(set(until))
    assert len([event for event in renewals if event.seq > ended]) <= 1  # one may have been under way


def test_a_session_at_a_cursor_below_a_base_is_what_it_was(tmp_path: Path) -> None:
    """Compaction keeps the ledger whole: also how the pipeline stood before what is gone."""
    file = tmp_path / "log.db"
    done(file)
    with eventlog.open(file) as log:
        seqs = [event.seq for event in log.events(RUN, types=["eventlog.step_*"])]
        before = [log.ledger(RUN).session(to=seq) for seq in seqs]
        log.compact(0)

        assert [log.ledger(RUN).session(to=seq) for seq in seqs] == before
