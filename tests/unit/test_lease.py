"""Who may work on a branch of a run, as seen from one process; others are rows made by hand or forked children."""

from __future__ import annotations

import os
import pickle
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

import eventlog
from eventlog import lease as lease_module
from eventlog.errors import LeaseLostError, RunBusyError
from eventlog.owner import this_process
from eventlog.record import NewEvent, NewExecution
from tests.verifying import problems

RUN = "nightly"
ELSEWHERE = msgspec.structs.replace(this_process(), host="another-host", pid=7)
DEAD = msgspec.structs.replace(this_process(), pid=2**22 + 1, started="1")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[eventlog.Log]:
    """Yield a new log."""
    with eventlog.open(tmp_path / "log.db") as log:
        yield log


def change(log: eventlog.Log, sql: str, *args: object) -> None:
    """Do what another process would do to the file."""
    with closing(sqlite3.connect(log.path, timeout=5)) as db, db:
        db.execute(sql, args)


def row(log: eventlog.Log, branch: str = "main") -> Any:
    """Return owner, epoch and end of the lease of a branch."""
    sql = "SELECT owner, epoch, lease_until_ns FROM branches WHERE id = ?"
    return log.reader.query(sql, (log.reader.branch_id(RUN, branch),))[0]


def be_taken_by(log: eventlog.Log, owner: object, branch: str = "main", *, ends_in_s: float = 30) -> None:
    """Let another process take a branch, whatever stands against it."""
    until = time.time_ns() + int(ends_in_s * 1e9)
    text = msgspec.json.encode(owner).decode()
    change(log, "UPDATE runs SET epoch = epoch + 1 WHERE name = ?", RUN)
    sql = (
        "UPDATE branches SET owner = ?, lease_until_ns = ?, epoch = (SELECT epoch FROM runs WHERE id = run)"
        " WHERE name = ? AND run > 0"
    )
    change(log, sql, text, until, branch)


def begin(log: eventlog.Log, branch: str = "main") -> None:
    """Let a kickoff begin that does not end."""
    made = NewExecution(kind="crew", name="crew", key="k", inputs_hash="", parent=None)
    event = NewEvent(
        type="crew_kickoff_started", event_id=str(uuid4()), at_ns=time.time_ns(), payload=b"{}", run=RUN,
        branch=branch, path=(f"crew:{branch}#0",), opens=made,
    )  # fmt: skip
    log.writer.pipeline.submit([event])


def standing(log: eventlog.Log) -> tuple[str, ...]:
    """Return the status of the run and that of each branch, as the lists say it and as the states do."""
    listed = {info.branch: info.status for info in log.branches(RUN)}

    assert listed == {branch: log.state(RUN, branch=branch).status for branch in listed}
    return log.runs()[0].status, *listed.values()


def notes(log: eventlog.Log, branch: str) -> list[int]:
    """Return the numbers of the events that a branch has of its own."""
    return [event.payload["n"] for event in log.events(RUN, branch) if event.branch == branch]


def test_taking_a_new_run_makes_it(log: eventlog.Log) -> None:
    """The run of a kickoff that comes first."""
    lease = log.writer.take_lease(RUN)
    owner, epoch, until = row(log)

    assert (lease.run, lease.epoch, lease.is_lost) == (RUN, 1, False)
    assert (msgspec.json.decode(owner, type=eventlog.owner.Owner), epoch) == (this_process(), 1)
    assert 0 < until - time.time_ns() <= lease_module.LEASE_S * 1e9
    lease.check()


def test_one_process_may_take_it_several_times(log: eventlog.Log) -> None:
    """Kickoffs inside kickoffs; the last one that gives it back counts."""
    first, second = log.writer.take_lease(RUN), log.writer.take_lease(RUN)
    log.writer.give_back(first)
    held = row(log)[2]
    log.writer.give_back(second)

    assert first is second
    assert held is not None
    assert row(log)[2] is None
    assert log.writer.take_lease(RUN).epoch == 2


@pytest.mark.parametrize(("owner", "ends_in_s"), [(ELSEWHERE, -1), (DEAD, 30)])
def test_a_lease_that_no_longer_counts_is_free(log: eventlog.Log, owner: object, ends_in_s: float) -> None:
    """A dead process of this host at once; one of another host when its time is over."""
    log.writer.give_back(log.writer.take_lease(RUN))
    be_taken_by(log, owner, ends_in_s=ends_in_s)

    assert log.writer.take_lease(RUN).epoch == 3


def test_a_remote_owner_within_its_time_is_named(log: eventlog.Log) -> None:
    """Nobody can see from here whether it lives. The error holds what a person needs to find it."""
    log.writer.give_back(log.writer.take_lease(RUN))
    be_taken_by(log, ELSEWHERE)

    with pytest.raises(RunBusyError, match="process 7 on another-host") as caught:
        log.writer.take_lease(RUN)
    assert caught.value.run == RUN
    assert "--takeover" in caught.value.hint
    assert log.writer.take_lease(RUN, takeover=True).epoch == 3


def test_a_lost_branch_is_named(log: eventlog.Log) -> None:
    """Whoever works on several must know which one is busy; ``main`` goes without saying."""
    log.writer.take_lease(RUN)
    log.fork(RUN, branch="child")
    lease = log.writer.take_lease(RUN, "child")
    be_taken_by(log, ELSEWHERE, "child")
    log.append("test.note", {"n": 1}, run=RUN, branch="child")

    with pytest.raises(LeaseLostError, match=r"branch 'child' of run 'nightly' was taken over .* 'stale/2'"):
        lease.check()
    with pytest.raises(RunBusyError, match="branch 'child' of run 'nightly' is being worked on by") as caught:
        log.writer.take_lease(RUN, "child")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.run, again.branch, str(again)) == (RUN, "child", str(caught.value))


def test_each_branch_has_a_lease_of_its_own(log: eventlog.Log) -> None:
    """One process may have several at once; no two of a run have the same epoch, so no two stale branches a name."""
    main = log.writer.take_lease(RUN)
    log.fork(RUN, branch="child")
    first, second = log.writer.take_lease(RUN, "child"), log.writer.take_lease(RUN, "child")
    log.writer.give_back(main)

    assert first is second
    assert (main.epoch, first.epoch) == (1, 2)
    assert (row(log)[1:], row(log, "child")[1]) == ((1, None), 2)
    assert row(log, "child")[2] is not None
    assert log.writer.take_lease(RUN).epoch == 3


def test_another_branchs_owner_disturbs_nobody(log: eventlog.Log) -> None:
    """Parent and child grow side by side. Seen to fail: when the run's epoch is compared instead of the branch's."""
    main = log.writer.take_lease(RUN)
    log.fork(RUN, branch="child")
    be_taken_by(log, ELSEWHERE, "child")
    log.append("test.note", {"n": 1}, run=RUN)

    main.check()
    assert (notes(log, "main"), len(log.branches(RUN))) == ([1], 2)
    with pytest.raises(RunBusyError, match="'child'"):
        log.writer.take_lease(RUN, "child")
    assert log.writer.take_lease(RUN, "child", takeover=True).epoch == 3
    main.check()


def test_only_the_lost_branchs_events_are_diverted(log: eventlog.Log) -> None:
    """The leases of the other branches hold on, and so do those of other runs."""
    main, other = log.writer.take_lease(RUN), log.writer.take_lease("another run")
    log.fork(RUN, branch="child")
    log.fork(RUN, branch="free")
    child = log.writer.take_lease(RUN, "child")
    be_taken_by(log, ELSEWHERE, "child")
    for n, branch in enumerate(("main", "child", "free", "child"), start=1):
        log.append("test.note", {"n": n}, run=RUN, branch=branch)
    log.append("test.note", {"n": 5}, run="another run")

    assert [lease.is_lost for lease in (main, other, child)] == [False, False, True]
    assert [notes(log, b) for b in ("main", "child", "free")] == [[1], [], [3]]
    assert notes(log, f"stale/{child.epoch}") == [2, 4]
    assert [(b.branch, b.parent) for b in log.branches(RUN)][3:] == [(f"stale/{child.epoch}", "child")]
    assert list(problems(log.path)) == []


def test_a_living_owner_keeps_its_run_when_another_opens_it(log: eventlog.Log) -> None:
    """``log.run`` says who has a run open; it must not hide who works on it."""
    log.writer.give_back(log.writer.take_lease(RUN))
    be_taken_by(log, ELSEWHERE)
    before = row(log)
    with log.run(RUN):
        inside = row(log)

    assert inside == before
    assert row(log) == before


def test_leaving_a_run_waits_for_its_lease(log: eventlog.Log) -> None:
    """A kickoff in a thread may outlast the block it began in."""
    with log.run(RUN):
        lease = log.writer.take_lease(RUN)
    between = row(log)[0]
    log.writer.give_back(lease)

    assert between is not None
    assert row(log)[0] is None


def test_closing_the_log_gives_everything_back(tmp_path: Path) -> None:
    """Another process need not wait for this one to end."""
    with eventlog.open(tmp_path / "log.db") as log:
        log.writer.take_lease(RUN)
    with eventlog.open(tmp_path / "log.db", readonly=True) as log:
        assert row(log) == (None, 1, None)


@pytest.mark.parametrize("durability", ["commit", "fsync", "batch"])
def test_events_of_a_stale_process_go_to_a_branch_of_their_own(tmp_path: Path, durability: Any) -> None:
    """Nothing is lost, and the new owner's branch is not disturbed. Seen to fail: without the look at the epoch."""
    with eventlog.open(tmp_path / "log.db", durability=durability, batch_ms=1) as log:
        lease = log.writer.take_lease(RUN)
        log.append("test.note", {"n": 1}, run=RUN)
        be_taken_by(log, ELSEWHERE)
        log.append("test.note", {"n": 2}, run=RUN)
        log.append_many([("test.note", {"n": 3}), ("test.note", {"n": 4})], run=RUN)
        (main, stale) = log.branches(RUN)

        assert lease.is_lost
        with pytest.raises(LeaseLostError, match="stale/1"):
            lease.check()
        assert (main.branch, notes(log, "main")) == ("main", [1])
        assert (stale.branch, stale.parent, stale.fork_seq, notes(log, "stale/1")) == ("stale/1", "main", 1, [2, 3, 4])
        assert log.append("test.other", {}, run="another run") > 0
        assert [e.branch for e in log.events("another run")] == ["main"]
    assert list(problems(tmp_path / "log.db")) == []


def test_what_the_new_owner_wrote_first_is_not_the_stale_branchs_past(log: eventlog.Log) -> None:
    """It begins where this process last looked, not at the head it finds."""
    log.writer.take_lease(RUN)
    log.append("test.note", {"n": 1}, run=RUN)
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            log.writer.take_lease(RUN, takeover=True)
            log.append("test.note", {"n": 10}, run=RUN)
        os._exit(0)
    os.waitpid(pid, 0)
    log.append("test.note", {"n": 2}, run=RUN)

    assert notes(log, "main") == [1, 10]
    assert [e.payload["n"] for e in log.events(RUN, "stale/1")] == [1, 2]


def test_after_taking_it_again_events_go_to_the_branch_they_are_meant_for(log: eventlog.Log) -> None:
    """With a new epoch the process is no longer stale."""
    log.writer.give_back(log.writer.take_lease(RUN))
    lost = log.writer.take_lease(RUN)
    be_taken_by(log, DEAD)
    log.append("test.note", {"n": 1}, run=RUN)
    log.writer.give_back(lost)
    again = log.writer.take_lease(RUN)
    log.append("test.note", {"n": 2}, run=RUN)

    assert (lost.epoch, again.epoch) == (2, 4)
    assert (notes(log, "stale/2"), notes(log, "main")) == ([1], [2])


def test_the_timer_renews_and_notices(log: eventlog.Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """No event is needed for either: a model call may last longer than a lease."""
    monkeypatch.setattr(lease_module, "LEASE_S", 0.15)
    lease = log.writer.take_lease(RUN)
    first = row(log)[2]
    deadline = time.monotonic() + 5
    while row(log)[2] == first and time.monotonic() < deadline:
        time.sleep(0.01)
    renewed = row(log)[2]
    be_taken_by(log, ELSEWHERE)
    while not lease.is_lost and time.monotonic() < deadline:
        time.sleep(0.01)

    assert renewed > first
    assert lease.is_lost
    assert row(log)[1] == 2


def test_a_timer_that_finds_the_file_locked_disturbs_nobody(log: eventlog.Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits a moment only, and tries again."""
    monkeypatch.setattr(lease_module, "LEASE_S", 0.15)
    monkeypatch.setattr(lease_module, "RETRY_S", 0.01)
    lease = log.writer.take_lease(RUN)
    with closing(sqlite3.connect(log.path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(0.4)
        db.execute("ROLLBACK")
    deadline = time.monotonic() + 5
    while row(log)[2] < time.time_ns() and time.monotonic() < deadline:
        time.sleep(0.01)

    assert row(log)[2] >= time.time_ns()
    assert not lease.is_lost
    assert log.status().degraded is None


def test_a_forked_child_has_no_lease_of_its_parents(log: eventlog.Log) -> None:
    """Otherwise two processes would believe to be the one."""
    lease = log.writer.take_lease(RUN)
    log.append("test.note", {"n": 1}, run=RUN)
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException):
            assert lease.is_lost
            try:
                log.writer.take_lease(RUN)
            except RunBusyError as error:
                code = 0 if str(os.getppid()) in str(error) else 2
            log.writer.give_back(lease)
        os._exit(code)

    assert os.waitpid(pid, 0)[1] == 0
    assert not lease.is_lost
    assert row(log)[2] is not None


# -- who is said to work ---------------------------------------------------------------------


def test_a_run_is_running_while_anybody_works_on_any_of_its_branches(log: eventlog.Log) -> None:
    """Each branch by its own owner; the run by all of them. Seen to fail: when the run has one owner only."""
    with log.run(RUN):
        begin(log)
        log.fork(RUN, branch="child")
        nobody = standing(log)
        be_taken_by(log, ELSEWHERE, "child")
        begin(log, "child")
        both = standing(log)
    child = standing(log)
    with log.run(RUN):
        be_taken_by(log, DEAD, "child")
        main = standing(log)

    assert nobody == ("running", "running", "interrupted")
    assert both == ("running", "running", "running")
    assert child == ("running", "interrupted", "running")
    assert main == ("running", "running", "interrupted")
    assert standing(log) == ("interrupted", "interrupted", "interrupted")


def test_one_process_may_have_several_branches_open(log: eventlog.Log) -> None:
    """Leaving one leaves the other open, with a lease and without."""
    with log.run(RUN):
        begin(log)
        log.fork(RUN, branch="child")
        with log.run(RUN, branch="child"):
            lease = log.writer.take_lease(RUN, "child")
            inside = standing(log)
            log.writer.give_back(lease)
            given_back = standing(log)
        outside = standing(log)

    assert inside == given_back == ("running", "running", "running")
    assert outside == ("running", "running", "interrupted")


@pytest.mark.parametrize(("ends_in_s", "expected"), [(30, "running"), (-1, "interrupted")])
def test_a_remote_owner_counts_until_its_lease_expires(log: eventlog.Log, ends_in_s: float, expected: str) -> None:
    """Nobody can see from here whether it lives; but it would have renewed its lease."""
    begin(log)
    be_taken_by(log, ELSEWHERE, ends_in_s=ends_in_s)

    assert standing(log) == (expected, expected)


def test_a_local_owner_counts_as_long_as_it_lives(log: eventlog.Log) -> None:
    """It may have been stopped for longer than a lease."""
    begin(log)
    be_taken_by(log, this_process(), ends_in_s=-1)

    assert standing(log) == ("running", "running")


def test_a_finished_branch_does_not_hide_that_another_goes_on(log: eventlog.Log) -> None:
    """The last kickoff may have ended on the child while the parent's still runs."""
    with log.run(RUN):
        begin(log)
        log.fork(RUN, branch="child")
        begin(log, "child")
        end = NewEvent(
            type="crew_kickoff_completed", event_id=str(uuid4()), at_ns=time.time_ns(), payload=b"{}", run=RUN,
            branch="child", path=("crew:child#0",), closes=(("crew:child#0",), "completed"),
        )  # fmt: skip
        log.writer.pipeline.submit([end])

        assert (log.runs()[0].status, log.branches(RUN)[1].status) == ("running", "completed")
    assert log.runs()[0].status == "completed"
