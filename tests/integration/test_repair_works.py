"""What a repair saves is a log like any other: it is gone on with, forked, compacted and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventlog
from eventlog.bases import as_base
from eventlog.raw.wal import wal_of
from eventlog.repair.contents import LOST
from eventlog.verifying.verify import Wish, verify_log
from tests.damage import copy_of, edit, editing, flip, page_bytes, pages_of, seqs_on, zero_page
from tests.integration.resuming import RUN, Seen, happened, perform, record_whole
from tests.repairing import Facts, Salvage, facts_in, salvage, wrongs
from tests.scenarios import build, texts
from tests.verifying import query

SHAPES = ("sequential_native", "flow_objects")
APPENDED = 24


def repaired(good: Facts, bad: Path) -> Salvage:
    """Repair beside the damaged log."""
    return salvage(good, bad, bad.with_name("new.db"))


# -- the write-ahead log ------------------------------------------------------------------------------


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A copy of a log that was being written to: most of it stands in its WAL."""
    path = tmp_path / "bad.db"
    with eventlog.open(tmp_path / "live" / "log.db") as log:
        for number in range(APPENDED):
            log.append("some.thing", {"n": number}, run="r")
        log.flush()
        for source, target in ((log.path, path), (wal_of(log.path), wal_of(path))):
            target.write_bytes(source.read_bytes())
    return path


def seen(path: Path) -> Facts:
    """Return what SQLite sees of a log with a WAL, without touching it."""
    copy = path.parent / "copy" / path.name
    copy.parent.mkdir()
    for source, target in ((path, copy), (wal_of(path), wal_of(copy))):
        target.write_bytes(source.read_bytes())
    return facts_in(copy)


def test_what_stands_only_in_the_wal_is_saved(live: Path) -> None:
    """Neither it nor the file is changed: no checkpoint, no index beside it."""
    good = seen(live)
    found = repaired(good, live)

    assert len(good) == APPENDED
    assert wrongs(found, set()) == []
    assert found.new == good


def test_what_stands_behind_a_broken_frame_is_saved_as_well(live: Path) -> None:
    """SQLite sees nothing of it; the chain proves it."""
    good = seen(live)
    flip(wal_of(live), wal_of(live).stat().st_size // 2)
    found = repaired(good, live)

    assert wrongs(found, set()) == []
    assert "what stands behind that was saved as well" in found.report.notes[0]


def test_the_wal_alone_is_enough_while_it_holds_everything(live: Path) -> None:
    """The file was overwritten before its first checkpoint."""
    good = seen(live)
    live.write_bytes(bytes(live.stat().st_size))
    found = repaired(good, live)

    assert wrongs(found, set()) == []
    assert found.new == good


def test_without_its_wal_a_log_is_what_was_checkpointed(tmp_path: Path) -> None:
    """The rest left no trace in the file; what there is holds together."""
    with eventlog.open(tmp_path / "live.db") as log:
        log.append_many([("some.thing", {"n": n}) for n in range(APPENDED)], run="r")
        query(log.path, "PRAGMA wal_checkpoint(FULL)")
        log.append_many([("some.thing", {"n": n}) for n in range(APPENDED)], run="r")
        (tmp_path / "bad.db").write_bytes(log.path.read_bytes())
    good = facts_in(tmp_path / "live.db")
    found = repaired({seq: facts for seq, facts in good.items() if seq <= APPENDED}, tmp_path / "bad.db")

    assert len(good) == 2 * APPENDED
    assert wrongs(found, set()) == []


# -- compacted ----------------------------------------------------------------------------------------


def test_a_base_that_is_lost_leaves_the_events_behind_it(good: Facts, bad: Path) -> None:
    """The branch begins with what is left; the seqs that compaction may have taken are nobody's, and told."""
    found = repaired(good, edit(bad, "DELETE FROM bases"))
    with eventlog.open(found.path, readonly=True) as log:
        state = log.state("old")

    assert wrongs(found, set()) == []
    assert (found.report.ok, [b.base for b in found.report.branches if b.base]) == (False, ["its base is lost"])
    assert found.report.unaccounted > 0
    assert state.cursor == 60


@pytest.mark.parametrize(
    "change",
    ["state = replace(state, '\"event_count\":', '\"event_count\":1')", "state = 'no json'", "keeps_tape = 3"],
)
def test_a_base_that_is_not_what_its_proof_says_is_not_kept(good: Facts, bad: Path, change: str) -> None:
    """A state that may be wrong would give wrong answers for ever."""
    found = repaired(good, edit(bad, f"UPDATE bases SET {change}"))

    assert wrongs(found, set()) == []
    assert query(found.path, "SELECT count(*) FROM bases") == [(0,)]
    assert [b.base for b in found.report.branches if b.base] != []


def test_a_base_whose_retained_event_is_lost_is_kept_and_named(good: Facts, bad: Path) -> None:
    """The state at the cut is still what it was; what was retained is on record as lost."""
    page = pages_of(bad, "events")[0]
    gone = seqs_on(bad, page)
    found = repaired(good, zero_page(bad, page))
    base = as_base(query(found.path, "SELECT * FROM bases")[0])

    assert min(gone) <= base.seq
    assert wrongs(found, gone) == []
    assert "cannot be proven: 1 of the events it retains are lost" in found.report.branches[1].base


def test_a_compacted_log_is_gone_on_with(good: Facts, bad: Path) -> None:
    """The base of its branch serves as before: state, appends, another compaction."""
    found = repaired(good, zero_page(bad, pages_of(bad, "events")[3]))
    with eventlog.open(found.path) as log:
        log.append("old.step", {"n": 61}, run="old")
        before = log.state("old")
        log.compact(0)
        after = log.state("old")

    assert (before, list(verify_log(found.path).findings)) == (after, [])
    assert before.cursor > max(good)


def test_an_archive_is_saved_as_one(tmp_path: Path) -> None:
    """It can still be read only: the seqs that follow are those of its log."""
    with eventlog.open(tmp_path / "log.db") as log:
        log.append_many([("some.thing", {"n": n}) for n in range(30)], run="r")
        log.snapshot("r")
        log.compact(1, archive=tmp_path / "bad.db")
    good = facts_in(tmp_path / "bad.db")
    found = repaired(good, edit(tmp_path / "bad.db", "UPDATE events SET flags = 1 WHERE seq = 7"))

    assert wrongs(found, {7}) == []
    with pytest.raises(eventlog.LogUnwritableError):
        eventlog.open(found.path)


# -- large values -------------------------------------------------------------------------------------


def test_a_lost_text_is_told_and_stood_in_for(good: Facts, bad: Path) -> None:
    """Its event is kept; the tag in its place says that it is lost, and no program takes it for the text."""
    name = query(bad, "SELECT json_extract(payload, '$.text.\"$content\"') FROM events WHERE seq = 50")[0][0]
    seqs = [seq for seq, facts in good.items() if f'"{name}"' in facts[1]]
    found = repaired(good, edit(bad, f"UPDATE contents SET body = 'another text' WHERE hash = '{name}'"))
    with eventlog.open(found.path, readonly=True) as log:
        payload = next(event.payload for event in log.events("old") if event.seq == 50)

    assert wrongs(found, set()) == []
    assert [(v.hash, v.seq, v.events) for v in found.report.values] == [(name, min(seqs), len(seqs))]
    assert (found.report.ok, payload["n"]) == (False, 49)
    assert "$lost" in str(payload["text"])
    assert query(found.path, f"SELECT body FROM contents WHERE hash = '{name}'") == [(LOST,)]


def test_what_was_forgotten_stays_forgotten(good: Facts, bad: Path) -> None:
    """Its tombstones go with it; a value that was changed since is lost."""
    name = query(bad, "SELECT id FROM tombstones WHERE what = 'content'")[0][0]
    whole = repaired(good, bad)
    whole.path.unlink()
    found = repaired(good, edit(bad, f"UPDATE contents SET body = 'back again' WHERE hash = '{name}'"))

    assert wrongs(found, set()) == []
    assert query(found.path, "SELECT count(*) FROM tombstones WHERE what = 'event'") == [(1,)]
    assert name in [value.hash for value in found.report.values]


@pytest.mark.parametrize("kind", ["text", "pieces", "message"])
def test_every_kind_of_large_value_may_be_lost(good: Facts, bad: Path, kind: str) -> None:
    """The others are kept, also those that only lost ones led to: a conversation up to the lost message."""
    with editing(bad) as db:
        ids = [row for (row,) in db.execute("SELECT id FROM contents WHERE kind = ? ORDER BY id", (kind,))]
        db.execute("DELETE FROM contents WHERE id = ?", (ids[len(ids) // 2],))
    found = repaired(good, bad)

    assert wrongs(found, set()) == []
    assert found.report.contents_lost >= 1


# -- branches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM branches WHERE name = 'other'", {"other": "salvaged-3"}),
        ("DELETE FROM runs WHERE name = 'new'", {"new": "salvaged-2"}),
        ("UPDATE branches SET parent = 3 WHERE name = 'other'", {}),
        ("UPDATE branches SET parent = 77, fork_seq = 1 WHERE id = 3", {}),
        ("UPDATE branches SET run = 77 WHERE id = 3", {}),
        ("UPDATE branches SET base_seq = 3 WHERE id = 2", {}),
        ("UPDATE events SET branch = 77 WHERE seq = 90", {}),
        ("UPDATE events SET branch = 3 WHERE seq = 90", {}),
        ("UPDATE events SET branch = 77 WHERE seq IN (90, 94)", {}),
        ("UPDATE events SET run = 77 WHERE seq = 90", {}),
    ],
)
def test_runs_and_branches_are_found_by_their_events(
    good: Facts, bad: Path, statement: str, named: dict[str, str]
) -> None:
    """A row that is gone or wrong costs a name at most, never an event; where a branch began, its chain tells."""
    meant = {
        seq: tuple(named.get(str(fact), fact) if place in (2, 3) else fact for place, fact in enumerate(facts))
        for seq, facts in good.items()
    }
    found = repaired(meant, edit(bad, statement))

    assert wrongs(found, set()) == []


def test_an_event_on_a_branch_that_begins_later_harms_no_other(good: Facts, bad: Path) -> None:
    """The next one is made with its digest, wherever it stands; where even that is gone, it is in no run.

    Seen to fail: what was saved did not hold together, so all of it was refused.
    """
    *_, last = (seq for seq, facts in good.items() if facts[2:4] == ("new", "main") and facts[0] == "new.text")
    edit(bad, f"UPDATE events SET branch = 3, flags = flags + 1 WHERE seq = {last}")
    vouched = repaired(good, bad)
    vouched.path.unlink()
    alone = repaired(good, edit(bad, f"UPDATE events SET digest = zeroblob(20) WHERE seq = {last}"))

    assert wrongs(vouched, {last}) == []
    assert vouched.new[last][2:4] == ("new", "main")
    assert wrongs(alone, {last, last + 2}) == []
    assert alone.new[last][2:4] == ("", "main")


@pytest.mark.parametrize("name", [b"nfw", b"n\xffw"])
def test_a_name_that_its_index_has_otherwise_is_in_doubt(good: Facts, bad: Path, name: bytes) -> None:
    """No digest covers the names of runs; one that is no text any more is known from the index."""
    raw, start = bad.read_bytes(), (pages_of(bad, "runs")[0] - 1) * page_bytes(bad)
    at = raw.index(b"new", start)
    bad.write_bytes(raw[:at] + name + raw[at + 3 :])
    found = repaired(good, bad)

    if name.isascii():
        assert found.report.notes == ["run 'nfw' may be called 'new': its row and its index differ"]
    else:
        assert (wrongs(found, set()), found.report.notes) == ([], [])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A log of three branches that were compacted to different seqs, and went on."""
    with eventlog.open(tmp_path / "bad.db") as log:
        log.append_many([("some.thing", {"n": n}) for n in range(20)], run="r")
        log.fork("r", to=10, branch="early")
        log.fork("r", to=18, branch="late")
        for number in range(8):
            if number == 5:
                log.snapshot("r")
                log.snapshot("r", branch="late", to=25)
                log.compact(1, run="r")
            for branch in ("main", "early", "late"):
                log.append("some.thing", {"n": number}, run="r", branch=branch)
    return tmp_path / "bad.db"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM bases WHERE branch = 1",
        "DELETE FROM bases WHERE branch = 3",
        "DELETE FROM bases",
        "DELETE FROM retained",
        "DELETE FROM branches WHERE id = 3",
        "UPDATE branches SET fork_seq = 12 WHERE id = 2",
    ],
)
def test_compacted_forks_lose_no_event(tree: Path, statement: str) -> None:
    """Seen to fail: a fork that lost its base began behind its own events, and all of it was refused."""
    good = facts_in(tree)
    found = repaired(good, edit(tree, statement))

    assert [f.what for f in verify_log(found.path, Wish(deep=True)).findings] == []
    assert {seq: facts[-1] for seq, facts in found.new.items() if seq in good} == {
        seq: facts[-1] for seq, facts in good.items()
    }


def test_every_event_of_compacted_forks_may_be_lost(tree: Path) -> None:
    """Retained ones, the first behind a base, the last of a branch: it is lost and told, and no other.

    Where compaction took seqs from before it, one of them may have been what it chains to: then it is kept and named.
    """
    good, found = facts_in(tree), []
    whole = tree.with_name("whole.db")
    tree.rename(whole)
    for seq in good:
        bad = edit(copy_of(whole, tree), f"UPDATE events SET flags = flags + 1 WHERE seq = {seq}")
        bad.with_name("new.db").unlink(missing_ok=True)
        done = repaired(good, bad)
        found += [f"{seq}: {line}" for line in wrongs(done)]
        found += [] if done.lost | done.unproven == {seq} else [f"{seq}: {done.lost} lost, {done.unproven} unproven"]

    assert found == []


def test_a_name_that_is_lost_with_its_index_is_told(good: Facts, bad: Path) -> None:
    """Every event is kept, under a name that says what happened."""
    found = repaired(good, edit(bad, "DELETE FROM branches WHERE name = 'other'"))
    again = salvage(found.new, found.path, bad.with_name("newer.db"))

    assert (found.report.ok, found.report.names_lost, found.report.lost) == (False, 1, 0)
    assert {facts[3] for facts in found.new.values()} == {"main", "salvaged-3"}
    assert (again.report.ok, again.report.names_lost) == (True, 0)


# -- going on -----------------------------------------------------------------------------------------


def test_a_repaired_log_can_be_gone_on_with(good: Facts, bad: Path) -> None:
    """Append, fork on both sides of the gap, take a snapshot, compact."""
    page = pages_of(bad, "events")[2]
    gap = min(seqs_on(bad, page))
    found = repaired(good, zero_page(bad, page))
    with eventlog.open(found.path) as log:
        appended = log.append("some.thing", {"n": 1}, run="new")
        log.fork("new", to=gap - 1, branch="before")
        log.fork("new", branch="after")
        log.append("some.thing", {"n": 2}, run="new", branch="before")
        log.append("some.thing", {"n": 3}, run="new", branch="after")
        log.snapshot("new", to=appended)
        log.compact(1)
        report = log.verify(deep=True)

    assert report.findings == []
    assert appended > max(good)


@pytest.fixture(scope="module", params=SHAPES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A crew or flow that ran to its end."""
    return record_whole(request.param, tmp_path_factory.mktemp("whole"))


def test_kickoffs_are_told_again_by_their_events(whole: Seen, tmp_path: Path) -> None:
    """Also those inside others; a crew that is over is over without its index, and nobody is asked again.

    What a flow with a state of its own was asked stands in no event: its kickoff is taken for a new one.
    """
    good = facts_in(whole.file)
    found = repaired(good, edit(copy_of(whole.file, tmp_path / "bad.db"), "DELETE FROM executions"))
    again = build(whole.name)
    with eventlog.open(found.path, readonly=True) as new, eventlog.open(whole.file, readonly=True) as old:
        paths = [[(e.path, e.kind, e.status) for e in log.executions(RUN)] for log in (new, old)]
    resumed = perform(again, found.path)

    assert (wrongs(found, set()), paths[0]) == ([], paths[1])
    assert texts(resumed.result) == texts(whole.result)
    assert not +resumed.touched or whole.name == "flow_objects"


@pytest.mark.parametrize("table", ["events", "contents"])
def test_a_run_is_resumed_from_what_is_left(whole: Seen, tmp_path: Path, table: str) -> None:
    """Whatever page is lost, the result is the same, and nothing that is still on record is asked for again."""
    good = facts_in(whole.file)
    for number, page in enumerate(pages_of(whole.file, table)):
        found = repaired(good, zero_page(copy_of(whole.file, tmp_path / f"{number}" / "bad.db"), page))
        left = [event for event in whole.events if event.seq not in found.lost]
        again = build(whole.name)
        again.world.go_on_after(happened(left))
        resumed = perform(again, found.path)

        assert wrongs(found) == []
        assert texts(resumed.result) == texts(whole.result)
        assert resumed.touched <= whole.touched - happened(left)
        assert (resumed.failed, list(verify_log(found.path).findings)) == (0, [])
