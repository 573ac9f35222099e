"""The key of a log's chain: who has it may append, everybody may read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import eventlog
from eventlog.chain import Chain
from eventlog.chain_key import VARIABLE, chain_key
from tests.cli_world import environment
from tests.verifying import query


def append(path: Path, number: int = 1) -> None:
    """Append one event."""
    with eventlog.open(path) as log:
        log.append("some.thing", {"n": number}, run="r")


@pytest.fixture
def keyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log that was made with a key, which is still set."""
    monkeypatch.setenv(VARIABLE, "a key nobody knows")
    append(tmp_path / "log.db")
    return tmp_path / "log.db"


def test_a_log_made_with_a_key_has_a_keyed_chain(keyed: Path) -> None:
    """Whoever has not the key cannot compute a digest; a first digest of plain hashes would be one anybody can."""
    (digest,) = query(keyed, "SELECT digest FROM events")[0]
    row = query(keyed, "SELECT e.event_id, n.name, e.at_ns, e.flags, e.payload FROM events e JOIN names n ON n.id=type")
    event_id, kind, at_ns, flags, payload = row[0]
    facts = (event_id, kind, at_ns, None, None, None, None, None, None, None)
    made = [
        chain.digest(b"", 1, facts, "", flags, payload.encode())
        for chain in (Chain(chain_key("a key nobody knows")), Chain())
    ]

    assert made[0] == digest
    assert made[1] != digest


@pytest.mark.parametrize(
    ("key", "told"), [(None, "is not set"), ("another", "is not the key"), ("", "is set and empty")]
)
def test_nothing_is_appended_without_the_right_key(
    keyed: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, told: str
) -> None:
    """A chain that changed its key in the middle would prove nothing. The file stays as it was."""
    before = keyed.read_bytes()
    if key is None:
        monkeypatch.delenv(VARIABLE)
    else:
        monkeypatch.setenv(VARIABLE, key)

    with pytest.raises(eventlog.ChainKeyError, match=told):
        append(keyed, 2)

    assert keyed.read_bytes() == before


def test_a_log_made_without_a_key_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first events would stay unprotected, and nobody could tell which."""
    append(tmp_path / "log.db")
    before = (tmp_path / "log.db").read_bytes()
    monkeypatch.setenv(VARIABLE, "k")

    with pytest.raises(eventlog.ChainKeyError, match="made without a key"):
        append(tmp_path / "log.db", 2)

    assert (tmp_path / "log.db").read_bytes() == before


def test_a_log_without_events_takes_the_key_it_is_first_opened_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has been chained yet."""
    eventlog.open(tmp_path / "log.db").close()
    monkeypatch.setenv(VARIABLE, "k")
    append(tmp_path / "log.db")
    monkeypatch.delenv(VARIABLE)

    with pytest.raises(eventlog.ChainKeyError):
        append(tmp_path / "log.db", 2)


def test_two_processes_do_not_begin_one_chain_with_two_keys(tmp_path: Path) -> None:
    """The log may get its key between our opening and our first event.

    Seen to fail: without the check in ``_catch_up``.
    """
    path = tmp_path / "log.db"
    with eventlog.open(path) as log:
        code = f"import eventlog; eventlog.open({str(path)!r}).close()"
        subprocess.run([sys.executable, "-c", code], check=True, env=environment(**{VARIABLE: "k"}), timeout=60)

        with pytest.raises(eventlog.AppendError, match="made with a key"):
            log.append("some.thing", {}, run="r")

    assert query(path, "SELECT count(*) FROM events") == [(0,)]


def test_reading_needs_no_key(keyed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain is not encryption."""
    monkeypatch.delenv(VARIABLE)

    with eventlog.open(keyed, readonly=True) as log:
        assert [event.payload for event in log.events("r")] == [{"n": 1}]
        assert log.state("r").event_count == 1


def test_the_same_key_has_another_check_in_every_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sees two files must not see that their keys are the same, nor the key."""
    monkeypatch.setenv(VARIABLE, "k")
    append(tmp_path / "a.db")
    append(tmp_path / "b.db")
    checks = {query(tmp_path / name, "SELECT value FROM meta WHERE key='chain_key'")[0] for name in ("a.db", "b.db")}

    assert len(checks) == 2
