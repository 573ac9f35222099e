"""Who may open an encrypted log, and what the others are told."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import eventlog
from eventlog.errors import CipherKeyError, NotEncryptedError
from eventlog.seal import VARIABLE
from tests.cli_world import Cli
from tests.integration.hostile import tamper
from tests.integration.sealing import KEY, OTHER_KEY, on_disk


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """An encrypted log with an event in it."""
    with eventlog.open(tmp_path / "x.db", key=KEY) as log:
        log.append("a.note", {"text": "what was said"}, run="r")
    return tmp_path / "x.db"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A log without a key."""
    with eventlog.open(tmp_path / "plain.db") as log:
        log.append("a.note", {"text": "what was said"}, run="r")
    return tmp_path / "plain.db"


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize(
    ("key", "says"), [(None, "no key was given"), (OTHER_KEY, "encrypted with another key"), ("", "the key is empty")]
)
def test_a_wrong_key_is_told_and_changes_nothing(sealed: Path, key: str | None, says: str, readonly: bool) -> None:
    """The error says what to do."""
    before = on_disk(sealed.parent, "x.db")

    with pytest.raises(CipherKeyError, match=says) as caught:
        eventlog.open(sealed, key=key, readonly=readonly)
    assert VARIABLE in caught.value.hint
    assert on_disk(sealed.parent, "x.db") == before


@pytest.mark.parametrize("readonly", [True, False])
def test_a_key_for_a_plain_log_is_refused_with_the_way_to_encrypt_it(plain: Path, readonly: bool) -> None:
    """Else a program with a key would go on writing in clear."""
    before = on_disk(plain.parent, "plain.db")

    with pytest.raises(NotEncryptedError, match="not encrypted") as caught:
        eventlog.open(plain, key=KEY, readonly=readonly)
    assert "eventlog export" in caught.value.hint
    assert "eventlog import" in caught.value.hint
    assert on_disk(plain.parent, "plain.db") == before


def test_a_lock_taken_out_of_the_file_does_not_make_it_plain(sealed: Path) -> None:
    """Whoever may write the file cannot have the next process write in clear: key or no key, it is refused."""
    with closing(sqlite3.connect(sealed)) as db, db:
        db.execute("DELETE FROM meta WHERE key = 'cipher'")

    with pytest.raises(eventlog.NotAnEventLogError):
        eventlog.open(sealed)
    with pytest.raises(eventlog.NotAnEventLogError):
        eventlog.open(sealed, key=KEY)


def test_the_environment_gives_the_key_as_well(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Library and command line; a variable taken away later changes nothing for a log that is open."""
    monkeypatch.setenv(VARIABLE, KEY)
    with eventlog.open(sealed) as log:
        monkeypatch.delenv(VARIABLE)
        log.append("a.note", {"text": "more"}, run="r")
        log.snapshot("r")

        assert [event.payload["text"] for event in log.events("r")] == ["what was said", "more"]


def test_the_command_line_opens_it_with_the_environments_key(
    sealed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it every command ends with a line, a hint and exit code 1."""
    cli = Cli(sealed, capsys)
    none = cli("stats")
    monkeypatch.setenv(VARIABLE, OTHER_KEY)
    bad = cli("log", "r")
    monkeypatch.setenv(VARIABLE, KEY)
    good, doctor = cli("log", "r", "--json"), cli("doctor", "--json")

    assert json.loads(good.out)["payload"] == {"text": "what was said"}
    assert (bad.code, none.code) == (1, 1)
    assert "encrypted with another key" in bad.err
    assert f"no key was given\nHint: give the key it was made with: {VARIABLE}" in none.err
    assert next(c for c in json.loads(doctor.out)["checks"] if c["name"] == "encryption")["verdict"] == "ok"


def test_a_process_keeps_to_one_key(sealed: Path) -> None:
    """A second opener in the same process shares the writer; it must have the key too."""
    with eventlog.open(sealed, key=KEY):
        for key in (OTHER_KEY, None):
            with pytest.raises(CipherKeyError, match="open with another key"):
                eventlog.open(sealed, key=key)
        eventlog.open(sealed, key=KEY.encode()).close()


def test_a_forked_child_writes_encrypted_too(sealed: Path) -> None:
    """The child opens a connection of its own, with the key its parent was given."""
    with eventlog.open(sealed, key=KEY) as log:
        pid = os.fork()
        if pid == 0:
            log.append("a.note", {"text": "of the child"}, run="r")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

        assert [event.payload["text"] for event in log.events("r")] == ["what was said", "of the child"]


def test_the_key_is_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in the file, a repr, an error, a log line; and redacted where somebody prints it into a prompt."""
    caplog.set_level(logging.DEBUG)
    with eventlog.open(tmp_path / "x.db", key=KEY) as log:
        log.append("a.note", {"text": f"the key is {KEY}, keep it"}, run="r")
        shown = [repr(log), repr(log.writer.options), str(log.status()), repr(vars(log)), repr(vars(log.reader))]
        said = [event.payload["text"] for event in log.events("r")]
    for wrong in (None, OTHER_KEY):
        with pytest.raises(CipherKeyError) as caught:
            eventlog.open(tmp_path / "x.db", key=wrong)
        shown += [repr(caught.value), str(caught.value), caught.value.hint]

    assert said == ["the key is [redacted:value], keep it"]
    assert [text for text in (*shown, caplog.text, *capfd.readouterr()) if KEY in text or OTHER_KEY in text] == []
    assert not any(KEY.encode() in data for data in on_disk(tmp_path).values())


def test_a_plain_log_loads_no_cryptography(plain: Path) -> None:
    """Whoever encrypts nothing waits for nothing."""
    code = f"import eventlog, sys; eventlog.open({str(plain)!r}).close(); print('cryptography' in sys.modules)"

    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout

    assert shown.strip() == "False"


def test_a_moved_payload_does_not_open(sealed: Path) -> None:
    """Nobody without the key can let one event say what another one said, whatever digests are forged."""
    with eventlog.open(sealed, key=KEY) as log:
        log.append("a.note", {"text": "second"}, run="r")
    tamper(sealed, "UPDATE events SET payload = (SELECT payload FROM events WHERE seq = 1) WHERE seq = 2")

    with eventlog.open(sealed, key=KEY, readonly=True) as log:
        with pytest.raises(eventlog.EventFormatError, match="event 2"):
            list(log.events("r"))
        assert [event.payload["text"] for event in log.events("r", to=1)] == ["what was said"]
