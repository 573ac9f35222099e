"""``repair``: what a damaged log still holds, what of it is lost, and that the damaged file stays as it is.

Seen to fail: an event whose digest does not fit was kept as proven; the damaged file was opened ``r+b``; the report
left out events that stood on a page that is gone; no event accounted for seqs that no index knows.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import eventlog
from eventlog.verifying.verify import Wish, verify_log
from tests.damage import copy_of, edit, editing, flip, page_bytes, pages_of, seqs_on, zero_page
from tests.repairing import Facts, Salvage, facts_in, salvage, wrongs
from tests.verifying import query

FLIPS = 30
GOLDEN = Path(__file__).parents[1] / "golden"
LINEAGES = (("old", "main"), ("new", "main"), ("new", "other"))


def again(grown: Path, bad: Path) -> Path:
    """Return a fresh copy, and take the former repair away."""
    bad.with_name("new.db").unlink(missing_ok=True)
    return copy_of(grown, bad)


def repaired(good: Facts, bad: Path) -> Salvage:
    """Repair beside the damaged log."""
    return salvage(good, bad, bad.with_name("new.db"))


def states(path: Path, upto: int) -> list[object]:
    """Return what the log folds to at cursors of all lineages, up to a seq."""
    with eventlog.open(path, readonly=True) as log:
        return [
            (run, branch, seq, log.state(run, branch=branch, to=seq))
            for run, branch in LINEAGES
            for seq in [event.seq for event in log.events(run, branch=branch)][::7]
            if seq <= upto
        ]


# -- nothing is damaged -------------------------------------------------------------------------------


def test_of_a_whole_log_nothing_is_lost(good: Facts, grown: Path, bad: Path) -> None:
    """Repairing for no reason must cost nothing: events, large values, states, kickoffs, branches, checkpoints."""
    found = repaired(good, bad)
    with eventlog.open(grown, readonly=True) as old, eventlog.open(found.path, readonly=True) as new:
        for run, branch in LINEAGES:
            assert list(new.events(run, branch=branch)) == list(old.events(run, branch=branch))
            assert new.executions(run, branch=branch) == old.executions(run, branch=branch)
            assert new.state(run, branch=branch) == old.state(run, branch=branch)
        assert (new.runs(), new.branches("new")) == (old.runs(), old.branches("new"))

    assert wrongs(found, set()) == []
    assert found.new == good
    assert (found.report.ok, found.markers, found.report.values) == (True, {}, [])
    assert states(found.path, 10**6) == states(grown, 10**6)
    assert verify_log(found.path).head == verify_log(grown).head


def test_a_repaired_log_can_be_repaired_and_is_the_same(good: Facts, bad: Path) -> None:
    """What stands for lost events is an event like others."""
    page = pages_of(bad, "events")[1]
    first = repaired(good, zero_page(bad, page))
    second = salvage(first.new, first.path, bad.with_name("newer.db"))

    assert first.report.lost > 0
    assert (second.new, second.report.ok) == (first.new, True)
    assert wrongs(second) == []


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_files_of_every_format_are_saved_whole(tmp_path: Path, version: str) -> None:
    """The new log has the newest format; the events are what they were."""
    for number, path in enumerate(sorted(GOLDEN.glob(f"{version}/*.db"))):
        bad = copy_of(path, tmp_path / f"{number}" / "bad.db")
        found = repaired(facts_in(bad), bad)

        assert wrongs(found, set()) == []
        assert found.new == found.good


# -- pages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4))
def test_a_zeroed_page_of_events_costs_its_events_and_no_other(
    good: Facts, grown: Path, bad: Path, number: int
) -> None:
    """Those behind it are kept, in their places; the report and the new log name exactly those on it."""
    page = pages_of(bad, "events")[number]
    gone = seqs_on(bad, page)
    found = repaired(good, zero_page(bad, page))

    assert wrongs(found, gone) == []
    assert (found.told, found.report.ok, found.report.unaccounted) == (gone, False, 0)
    assert states(found.path, min(gone) - 1) == states(grown, min(gone) - 1)


def test_any_one_page_may_be_gone(good: Facts, grown: Path, bad: Path) -> None:
    """Whatever it was: only a page of events costs events, and one of large values large values."""
    costs = {page: seqs_on(grown, page) for page in pages_of(grown, "events")}
    forgotten = {row[0] for row in query(grown, "SELECT id FROM tombstones WHERE what = 'event'")}
    costs |= dict.fromkeys(pages_of(grown, "tombstones"), forgotten)  # without them it is another text than recorded
    found = []
    for page in range(1, grown.stat().st_size // page_bytes(grown) + 1):
        done = repaired(good, zero_page(again(grown, bad), page))
        found += [f"page {page}: {line}" for line in wrongs(done, costs.get(page, set()))]

    assert found == []


@pytest.mark.parametrize("table", ["meta", "names", "paths", "runs", "branches", "executions", "events_by_branch"])
def test_what_stands_around_events_is_known_twice(good: Facts, bad: Path, table: str) -> None:
    """Names, paths, runs, branches from their indexes, kickoffs from the events that begin and end them."""
    found = repaired(good, zero_page(bad, pages_of(bad, table)[0]))

    assert wrongs(found, set()) == []
    assert found.new == good


def test_a_bit_may_flip_anywhere(good: Facts, grown: Path, bad: Path) -> None:
    """It costs one event or one large value at most what it hits; nothing wrong is passed on as what was recorded."""
    dice, found = random.Random(7), []
    for _ in range(FLIPS):
        at, bit = dice.randrange(grown.stat().st_size), dice.randrange(8)
        done = repaired(good, flip(again(grown, bad), at, bit))
        found += [f"byte {at}, bit {bit}: {line}" for line in wrongs(done)]
        found += [f"byte {at}, bit {bit}: costs {sorted(done.lost)}"] if len(done.lost) > 1 else []

    assert found == []


@pytest.mark.parametrize("pages", [1, 2, 5, 10, 20])
def test_a_copy_that_ran_out_of_space_is_saved_as_far_as_it_goes(good: Facts, bad: Path, pages: int) -> None:
    """The pages that are missing are named as well."""
    size = page_bytes(bad)
    first = bad.stat().st_size // size - pages + 1
    gone = {seq for page in pages_of(bad, "events") if page >= first for seq in seqs_on(bad, page)}
    with bad.open("r+b") as file:
        file.truncate((first - 1) * size)

    found = repaired(good, bad)

    assert wrongs(found, gone) == []
    assert f"the file ends {pages} pages early" in found.report.notes[0]


def test_two_pages_of_events_are_two_stretches(good: Facts, bad: Path) -> None:
    """Each is told by itself."""
    pages = pages_of(bad, "events")
    gone = seqs_on(bad, pages[1]) | seqs_on(bad, pages[3])
    for page in (pages[1], pages[3]):
        zero_page(bad, page)

    found = repaired(good, bad)

    assert wrongs(found, gone) == []


# -- rows ---------------------------------------------------------------------------------------------

MIDDLE = 90
"""An event in the middle of the crew's run."""


@pytest.mark.parametrize(
    "change",
    [
        "payload = '{}'", "payload = 'no json'", "at_ns = 7", "flags = flags + 1", "emission = 4711",
        "event_id = 'another'", "type = 7777", "path = 7777", "parent = 3", "seq = 500",
    ],
)  # fmt: skip
def test_a_changed_event_is_lost_and_vouched_for_by_the_next(good: Facts, bad: Path, change: str) -> None:
    """It is not what its digest says; the digest itself stays, so that nothing behind it is in doubt."""
    digest = good[MIDDLE][-1]
    found = repaired(good, edit(bad, f"UPDATE events SET {change} WHERE seq = {MIDDLE}"))
    marker = found.new[MIDDLE]

    assert wrongs(found, {MIDDLE}) == []
    assert marker[0] == "eventlog.capture_gap"
    assert found.unproven == set() or change == "seq = 500"
    assert marker[-1] == digest or change == "seq = 500"


def test_a_digest_that_was_changed_costs_nothing(good: Facts, bad: Path) -> None:
    """The next event proves what it was."""
    found = repaired(good, edit(bad, f"UPDATE events SET digest = zeroblob(20) WHERE seq = {MIDDLE}"))

    assert wrongs(found, set()) == []
    assert found.new == good


def test_a_row_that_was_taken_out_is_missed(good: Facts, bad: Path) -> None:
    """Also by its indexes: that a seq is not there shows it. The event behind it is kept, and named as unproven."""
    found = repaired(good, edit(bad, f"DELETE FROM events WHERE seq = {MIDDLE}"))

    assert wrongs(found) == []
    assert found.lost == {MIDDLE}
    assert (found.report.unaccounted, found.unproven) == (1, {MIDDLE + 1})


def test_two_payloads_that_were_exchanged_are_both_lost(good: Facts, bad: Path) -> None:
    """Each is whole, and in the wrong place."""
    first, second = good[MIDDLE][1], good[MIDDLE + 4][1]
    with editing(bad) as db:
        put = "UPDATE events SET payload = ? WHERE seq = ?"
        db.executemany(put, [(second, MIDDLE), (first, MIDDLE + 4)])

    assert first != second
    assert wrongs(repaired(good, bad), {MIDDLE, MIDDLE + 4}) == []


def test_a_cut_tail_shows_only_against_a_head(good: Facts, grown: Path, bad: Path) -> None:
    """Nothing in the file tells of it; the new log holds together, and a head kept elsewhere says more."""
    head = verify_log(grown).head
    found = repaired(good, edit(bad, "DELETE FROM events WHERE seq > 160"))

    assert found.new == {seq: facts for seq, facts in good.items() if seq <= 160}
    assert verify_log(found.path).ok
    assert not verify_log(found.path, Wish(head=head)).ok


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE names SET label = 'somebody else' WHERE id = (SELECT agent FROM events WHERE agent > 0)",
        "UPDATE names SET kind = 'agent', name = name || '!' WHERE kind = 'task'",
        "UPDATE paths SET label = 'elsewhere' WHERE id = 2",
        "DELETE FROM names WHERE kind = 'type'",
        "DELETE FROM executions",
        "DELETE FROM meta WHERE key = 'last_seq'",
        "DELETE FROM snapshots",
        "UPDATE snapshots SET state = 'no json'",
    ],
)
def test_rows_beside_the_events_do_no_harm(good: Facts, bad: Path, statement: str) -> None:
    """Nothing that they say wrongly is passed on: what they were proves events, or is lost with them."""
    found = repaired(good, edit(bad, statement))

    assert wrongs(found) == []
