"""``repair`` of logs that have a key: encrypted ones, and those whose chain is a MAC."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import eventlog
from eventlog import chain_key, seal
from eventlog.repair.repair import repair_log
from eventlog.verifying.verify import Wish, verify_log
from tests.cli_world import Cli
from tests.damage import copy_of, edit, flip, page_bytes, pages_of, seqs_on, zero_page
from tests.integration.resuming import RUN, Seen, happened, perform, record_whole
from tests.integration.sealing import KEY, OTHER_KEY, found_in, on_disk
from tests.repairing import Facts, Salvage, facts_in, fingerprint, salvage, wrongs
from tests.scenarios import build, texts
from tests.verifying import query

FLIPS = 20
CIPHER = seal.cipher_key(KEY, "")
SECRET = "a text nobody shall read"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A crew that ran to its end in an encrypted log, with a compacted run and a fork beside it."""
    seen = record_whole("sequential_native", tmp_path_factory.mktemp("whole"), key=KEY)
    with eventlog.open(seen.file, key=KEY) as log:
        log.append_many([("old.step", {"n": n, "text": f"{n % 7} {SECRET} " * 20}) for n in range(40)], run="old")
        log.snapshot("old", to=log.cursor(None, "old").seq - 20)
        log.append_many([("old.step", {"n": n}) for n in range(9)], run="old")
        log.compact(1)
        log.fork("old", branch="other")
        log.append("old.step", {"n": 9}, run="old", branch="other")
        log.append("old.step", {"text": "and this as well"}, run="old")
        log.forget(value="and this as well")
    return seen


@pytest.fixture(scope="module")
def good(whole: Seen) -> Facts:
    """What is in it, as it is stored."""
    return facts_in(whole.file)


@pytest.fixture
def bad(whole: Seen, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return copy_of(whole.file, tmp_path / "bad.db")


def repaired(good: Facts, bad: Path) -> Salvage:
    """Repair beside the damaged log; what stands for lost events is opened."""
    bad.with_name("new.db").unlink(missing_ok=True)
    found = salvage(good, bad, bad.with_name("new.db"), key=KEY)
    found.new = {
        seq: (facts[0], opened(found.path, seq), *facts[2:]) if good.get(seq) != facts else facts
        for seq, facts in found.new.items()
    }
    return found


def opened(path: Path, seq: int) -> str:
    """Return a payload in clear; as it is stored if it does not open."""
    stored = str(query(path, f"SELECT payload FROM events WHERE seq = {seq}")[0][0])
    lock = query(path, "SELECT value FROM meta WHERE key = 'cipher'")[0][0]
    try:
        return seal.open_seal(lock, CIPHER, "").unseal_text(stored, seal.EVENT, seq)
    except eventlog.EventLogError:
        return stored


# -- with its key -------------------------------------------------------------------------------------


def test_a_whole_log_is_saved_as_it_is(whole: Seen, good: Facts, bad: Path) -> None:
    """Sealed with the same key and lock; nothing is in clear, not even for a moment."""
    found = repaired(good, bad)
    with eventlog.open(whole.file, readonly=True, key=KEY) as old, eventlog.open(found.path, key=KEY) as new:
        assert list(new.events(RUN)) == list(old.events(RUN))
        assert new.executions(RUN) == old.executions(RUN)
        assert new.state("old") == old.state("old")

    assert wrongs(found, set(), key=CIPHER) == []
    assert (found.new, found.report.ok) == (good, True)
    assert query(found.path, "SELECT value FROM meta WHERE key IN ('cipher', 'salt')") == query(
        whole.file, "SELECT value FROM meta WHERE key IN ('cipher', 'salt')"
    )
    assert found_in(on_disk(found.path.parent), [SECRET, "capture_gap"]) <= {("capture_gap", "new.db")}


def test_any_one_page_may_be_gone(whole: Seen, good: Facts, bad: Path) -> None:
    """But that which says how the log is encrypted: without it no key opens anything.

    Seen to fail: without the schema, the record of migrations was taken for names, and events of those names were lost.
    """
    lock = set(pages_of(whole.file, "meta"))
    costs = {page: seqs_on(whole.file, page) for page in pages_of(whole.file, "events")}
    forgotten = {row[0] for row in query(whole.file, "SELECT id FROM tombstones WHERE what = 'event'")}
    costs |= dict.fromkeys(pages_of(whole.file, "tombstones"), forgotten)
    found = []
    for page in range(1, whole.file.stat().st_size // page_bytes(whole.file) + 1):
        if page not in lock:
            done = repaired(good, zero_page(copy_of(whole.file, bad), page))
            found += [f"page {page}: {line}" for line in wrongs(done, costs.get(page, set()), key=CIPHER)]

    assert found == []


def test_a_bit_may_flip_anywhere(whole: Seen, good: Facts, bad: Path) -> None:
    """What was changed does not open: it is never passed on."""
    dice, found = random.Random(3), []
    for _ in range(FLIPS):
        at, bit = dice.randrange(whole.file.stat().st_size), dice.randrange(8)
        done = repaired(good, flip(copy_of(whole.file, bad), at, bit))
        found += [f"byte {at}, bit {bit}: {line}" for line in wrongs(done, key=CIPHER)]

    assert found == []


def test_the_name_of_a_type_comes_from_its_index(whole: Seen, good: Facts, bad: Path) -> None:
    """Which of the two is right, an event of a compacted run tells as well.

    Seen to fail: nothing was found to prove it, and every event of the type was lost.
    """
    raw, start = whole.file.read_bytes(), (pages_of(whole.file, "names")[0] - 1) * page_bytes(whole.file)
    found = []
    for kind in {facts[0] for facts in good.values()}:
        at = raw.index(f"type{kind}".encode(), start)
        done = repaired(good, flip(copy_of(whole.file, bad), at))
        found += [f"{kind}: {line}" for line in wrongs(done, set(), key=CIPHER)]

    assert found == []


def test_a_lost_text_is_stood_in_for_and_told(good: Facts, bad: Path) -> None:
    """What stands there is sealed as the text was."""
    with eventlog.open(bad, readonly=True, key=KEY) as log:
        seq, field = next((e.seq, e.payload["text"]) for e in log.events("old") if SECRET in str(e.payload))
    edit(bad, "UPDATE contents SET body = substr(body, 1, 50) || 'AAAA' || substr(body, 55) WHERE kind = 'text'")
    found = repaired(good, bad)
    with eventlog.open(found.path, readonly=True, key=KEY) as log:
        text = next(e.payload["text"] for e in log.events("old") if e.seq == seq)

    assert wrongs(found, set(), key=CIPHER) == []
    assert (SECRET in str(field), "$lost" in str(text)) == (True, True)
    assert all(value.events for value in found.report.values)


@pytest.mark.parametrize(
    "change", ["DELETE FROM executions", "UPDATE executions SET inputs_hash = 'AAAA' || inputs_hash"]
)
def test_kickoffs_are_told_again_sealed(whole: Seen, good: Facts, bad: Path, change: str) -> None:
    """A run that is over is still over: nobody is asked anything."""
    found = repaired(good, edit(bad, change))
    again = build(whole.name)
    resumed = perform(again, found.path, key=KEY)

    assert wrongs(found, set(), key=CIPHER) == []
    assert "kickoffs were lost to the index" in found.report.notes[0]
    assert texts(resumed.result) == texts(whole.result)
    assert +resumed.touched == +type(resumed.touched)()


def test_a_run_is_resumed_from_what_is_left(whole: Seen, good: Facts, bad: Path) -> None:
    """The new log is used with the same key."""
    found = repaired(good, zero_page(bad, pages_of(bad, "events")[0]))
    left = [event for event in whole.events if event.seq not in found.lost]
    again = build(whole.name)
    again.world.go_on_after(happened(left))
    resumed = perform(again, found.path, key=KEY)

    assert found.report.lost > 0
    assert texts(resumed.result) == texts(whole.result)
    assert verify_log(found.path, Wish(deep=True), key=CIPHER).ok


def test_a_repaired_log_is_verified_without_the_key_as_far_as_it_goes(good: Facts, bad: Path) -> None:
    """What says why seqs are missing is sealed: that is a note, no damage. With the key it is read again, too."""
    found = repaired(good, zero_page(bad, pages_of(bad, "events")[1]))
    without = verify_log(found.path)
    again = repair_log(found.path, bad.with_name("newer.db"), key=KEY)

    assert (without.ok, [n for n in without.notes if "missing; an event that may say why" in n] != []) == (True, True)
    assert (again.ok, again.unaccounted) == (True, 0)


# -- without its key ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "reason"),
    [(None, "no key was given"), (OTHER_KEY, "encrypted with another key"), ("", "the key is empty")],
)
def test_without_its_key_it_is_refused(bad: Path, key: str | None, reason: str) -> None:
    """Nothing could be told from damage; nothing is written."""
    before = fingerprint(bad.parent)
    with pytest.raises(eventlog.CipherKeyError, match=reason):
        repair_log(bad, bad.with_name("new.db"), key=key)

    assert fingerprint(bad.parent) == before


@pytest.mark.parametrize("key", [None, KEY])
def test_without_what_the_key_works_with_it_is_refused(bad: Path, key: str | None) -> None:
    """The salt is lost with its row; a log of nothing but unreadable values would be no help."""
    zero_page(bad, pages_of(bad, "meta")[0])

    with pytest.raises(eventlog.CipherKeyError, match="the row that says how is lost"):
        repair_log(bad, bad.with_name("new.db"), key=key)
    assert not bad.with_name("new.db").exists()


def test_a_plain_log_is_refused_with_a_key(tmp_path: Path) -> None:
    """As everywhere: whoever gives a key expects the log to be encrypted."""
    with eventlog.open(tmp_path / "bad.db") as log:
        log.append("some.thing", {}, run="r")

    with pytest.raises(eventlog.NotEncryptedError):
        repair_log(tmp_path / "bad.db", tmp_path / "new.db", key=KEY)


def test_the_command_line_takes_the_key_from_the_environment(
    bad: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says where to put it."""
    cli, new = Cli(bad, capsys), bad.with_name("new.db")
    refused = cli("repair", "--into", new)
    monkeypatch.setenv(seal.VARIABLE, KEY)
    done = cli("repair", "--into", new)

    assert (refused.code, refused.out) == (1, "")
    assert "it is encrypted, and no key was given" in refused.err
    assert seal.VARIABLE in refused.err
    assert (done.code, cli("verify", "--deep").code) == (0, 0)


# -- a chain that is a MAC ----------------------------------------------------------------------------


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
def keyed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log whose chain has a key, which is set; encrypted as well, or not."""
    monkeypatch.setenv(chain_key.VARIABLE, "secret")
    if request.param is not None:
        monkeypatch.setenv(seal.VARIABLE, request.param)
    with eventlog.open(tmp_path / "bad.db") as log:
        log.append_many([("some.thing", {"n": n, "text": f"{n} " + "so " * 200}) for n in range(40)], run="r")
    return tmp_path / "bad.db"


def test_with_a_keyed_chain_only_what_is_proven_is_kept(keyed: Path) -> None:
    """An event behind a lost one may have been put there by anybody: it is lost as well, and told."""
    good = facts_in(keyed)
    report = repair_log(edit(keyed, "DELETE FROM events WHERE seq = 20"), keyed.with_name("new.db"))
    new, verified = facts_in(keyed.with_name("new.db")), verify_log(keyed.with_name("new.db"), Wish(deep=True))

    assert {seq: facts for seq, facts in good.items() if new.get(seq) != facts}.keys() == {20, 21}
    assert (report.lost, report.unaccounted, report.unproven) == (1, 1, 0)
    assert (verified.ok, verified.keyed, verified.key_checked) == (True, True, True)
    with eventlog.open(keyed.with_name("new.db")) as log:
        assert log.append("some.thing", {}, run="r") == 41


@pytest.mark.parametrize("value", [None, "another"])
def test_without_the_key_of_its_chain_it_is_refused(
    keyed: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """Nothing could be proven."""
    monkeypatch.delenv(chain_key.VARIABLE)
    if value is not None:
        monkeypatch.setenv(chain_key.VARIABLE, value)

    with pytest.raises(eventlog.ChainKeyError, match="EVENTLOG_KEY"):
        repair_log(keyed, keyed.with_name("new.db"))
    assert not keyed.with_name("new.db").exists()


def test_the_row_that_tells_a_wrong_key_may_be_lost(keyed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events prove that the key is right; without it they prove nothing, and a note says what to do."""
    edit(keyed, "DELETE FROM meta WHERE key = 'chain_key'")
    good = facts_in(keyed)
    report = repair_log(keyed, keyed.with_name("new.db"))
    monkeypatch.delenv(chain_key.VARIABLE)
    blind = repair_log(keyed, keyed.with_name("blind.db"))

    assert (report.ok, facts_in(keyed.with_name("new.db"))) == (True, good)
    assert query(keyed.with_name("new.db"), "SELECT count(*) FROM meta WHERE key = 'chain_key'") == [(1,)]
    assert "if the log was made with a key, set EVENTLOG_KEY" in blind.notes[0]
