"""An encrypted log does all that a plain one does."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crewai.state.provider.sqlite_provider import SqliteProvider

import eventlog
from eventlog import EncryptedLogError, EventLogProvider
from eventlog.seal import VARIABLE
from tests.cli_world import Cli, environment, finish
from tests.integration.compacting import compacted
from tests.integration.resuming import RUN, cuts, perform, record_whole, sweep
from tests.integration.sealing import KEY, OTHER_KEY, on_disk
from tests.integration.test_cli_resume import PROGRAM
from tests.scenarios import build, texts
from tests.verifying import problems

SHAPES = ("sequential_native", "flow_objects", "remembering")


@pytest.mark.parametrize("name", SHAPES)
def test_a_run_cut_off_is_finished_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    """Capture, state, snapshots and resume: the law of ``test_resume_everywhere``, with a key."""
    whole = record_whole(name, tmp_path, key=KEY)

    assert sweep(whole, tmp_path, cuts(whole, 2), key=KEY) == []
    assert list(problems(whole.file)) == []


def test_the_chain_is_checked_without_the_key_and_shows_a_change(tmp_path: Path) -> None:
    """It covers what is stored; a byte of a payload, a name or a path is enough."""
    path = record_whole("sequential_native", tmp_path, key=KEY).file
    good = list(problems(path))
    found = []
    for change in (
        "UPDATE events SET payload = substr(payload, 1, 40) || 'AAAA' || substr(payload, 45) WHERE seq = 3",
        "UPDATE names SET label = (SELECT label FROM names WHERE kind = 'task' LIMIT 1) WHERE kind = 'agent'",
        "UPDATE paths SET label = (SELECT label FROM paths WHERE id = 1) WHERE id = 2",
    ):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN")
            db.execute("UPDATE meta SET value = 1 WHERE key = 'compacting'")
            db.execute(change)
            db.execute("UPDATE meta SET value = 0 WHERE key = 'compacting'")
            copy = path.with_name("changed.db")
            copy.unlink(missing_ok=True)
            db.execute("COMMIT")
            db.execute("VACUUM INTO ?", (str(copy),))
        found.append(list(problems(copy)) != [])

    assert good == []
    assert found == [True, True, True]


def test_a_fork_with_another_output_goes_on(tmp_path: Path) -> None:
    """What was derived from the edited task runs again, the rest is kept."""
    whole = record_whole("sequential_native", tmp_path, key=KEY)
    first = whole.state.tasks[0]
    with eventlog.open(whole.file, key=KEY) as log:
        log.fork(RUN, branch="other", outputs={"#1": "something else"})
        scenario = build("sequential_native")
        with log.run(RUN, branch="other") as run, run.directed():
            scenario.start()
        state = log.state(RUN, branch="other")

    assert first.output != "something else"
    assert (state.status, state.tasks[0].output) == ("completed", "something else")
    assert 0 < scenario.world.llm_calls < whole.scenario.world.llm_calls


def test_it_is_executed_again_without_a_model(tmp_path: Path) -> None:
    """The tape is read from it, and compared with what is done now."""
    whole = record_whole("sequential_native", tmp_path, key=KEY)
    again = build("sequential_native")
    with eventlog.open(whole.file, key=KEY, readonly=True) as log:
        outcome = log.reexecute(RUN, again.subject, inputs=again.inputs)

    assert outcome
    assert again.world.llm_calls == 0


@pytest.mark.parametrize("archive", [None, "old.db"])
def test_a_compacted_run_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: str | None) -> None:
    """The base is sealed, and an archive holds the rows as they were: the same key reads it."""
    monkeypatch.setenv(VARIABLE, KEY)
    whole = record_whole("sequential_native", tmp_path)
    target = tmp_path / archive if archive else None

    compacted(whole.file, archive=target)

    if target is not None:
        with eventlog.open(target, readonly=True, key=KEY) as log:
            assert [e.payload for e in log.events(RUN)] == [e.payload for e in whole.events]
        assert list(problems(target)) == []


def test_it_is_verified_backed_up_and_cleaned_with_the_key_it_was_opened_with(tmp_path: Path) -> None:
    """No environment is needed; a backup is encrypted as the log is, and a forgotten text is gone from it."""
    with eventlog.open(tmp_path / "x.db", key=KEY) as log:
        log.append("a.note", {"text": "what was said"}, run="r")
        log.append("a.note", {"text": "what shall be forgotten"}, run="r")
        deep = log.verify(deep=True)
        log.backup(tmp_path / "copy.db")
        log.forget(value="what shall be forgotten")
        left = [event.payload["text"] for event in log.events("r")]
        after = log.verify(deep=True)
    with eventlog.open(tmp_path / "copy.db", key=KEY) as copy:
        copied = [event.payload["text"] for event in copy.events("r")]

    assert (deep.ok, after.ok, after.notes) == (
        True,
        True,
        ["1 rows were changed on purpose: forgotten, or replaced by a repair"],
    )
    assert copied == ["what was said", "what shall be forgotten"]
    assert left[0] == "what was said"
    assert "forgotten" not in left[1]


def move(source: Path, old: str | None, target: Path, new: str | None) -> None:
    """Export with one key and import with another, as ``SECURITY.md`` shows it."""
    lines = target.with_suffix(".jsonl")
    keys = [{} if key is None else {VARIABLE: key} for key in (old, new)]
    exported = finish("export", "--all", "-o", lines, "--db", source, env=environment(**keys[0]))
    imported = finish("import", lines, "--db", target, env=environment(**keys[1]))

    assert (exported.code, imported.code) == (0, 0), exported.err + imported.err


@pytest.mark.parametrize(("old", "new"), [(KEY, OTHER_KEY), (None, KEY), (KEY, None)])
def test_export_and_import_move_a_log_to_another_key(tmp_path: Path, old: str | None, new: str | None) -> None:
    """Rotation, encryption and decryption: the same events, the same state, and a finished run is still finished."""
    whole = record_whole("sequential_react", tmp_path, key=old)
    target = tmp_path / "moved.db"
    move(whole.file, old, target, new)
    again = build("sequential_react")
    with eventlog.open(target, key=new) as log:
        events, state = list(log.events(RUN)), log.state(RUN)
    resumed = perform(again, target, key=new)

    assert [(e.event_id, e.type, e.path, e.payload) for e in events] == [
        (e.event_id, e.type, e.path, e.payload) for e in whole.events
    ]
    assert state == whole.state
    assert texts(resumed.result) == texts(whole.result)
    assert again.world.llm_calls == 0
    with pytest.raises(eventlog.CipherKeyError):
        eventlog.open(target, key=old)


def test_a_text_is_found_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """In payloads, long texts, conversations and roles; by reading, without an index anybody else could read."""
    monkeypatch.setenv(VARIABLE, KEY)
    with eventlog.open(tmp_path / "x.db") as log:
        log.append("a.note", {"text": "a Needle in it"}, run="r")
        log.append("a.note", {"deep": [{"text": "straw " * 100 + "needle"}]}, run="r")
        log.append("a.note", {"messages": [{"role": "user", "content": "needle " * 60}], "n": 1}, run="r")
        log.append("a.note", {"text": "straw"}, run="r")
    found = Cli(tmp_path / "x.db", capsys)("log", "r", "--grep", "needle", "--json")
    none = Cli(tmp_path / "x.db", capsys)("log", "r", "--grep", "nothing of the kind")

    assert [json.loads(line)["seq"] for line in found.out.splitlines()] == [1, 2, 3]
    assert (none.code, none.out) == (0, "")
    assert "no events match" in none.err
    assert not any(b"eedle" in data for data in on_disk(tmp_path).values())


def test_a_program_recorded_and_resumed_by_the_command_line_inherits_the_key(tmp_path: Path) -> None:
    """``record``, a kill, ``resume``, ``replay --execute``: each in a process of its own."""
    (tmp_path / "crew.py").write_text(PROGRAM)
    env = environment(EVENTLOG_DB=str(tmp_path / "x.db"), **{VARIABLE: KEY})
    died = finish("record", "--run", "r", "crew.py", "tea", cwd=tmp_path, env={**env, "DIE_AT": "2"})
    done = finish("resume", "r", "--", "crew.py", "tea", cwd=tmp_path, env=env)
    again = finish("replay", "r", "--execute", "--", "crew.py", "tea", cwd=tmp_path, env=env)

    assert died.code == -9
    assert (done.code, "CALLS 2" in done.out) == (0, True), done.err
    assert again.code == 0, again.err
    assert not any(b"RESULT" in data or b"Look up." in data for data in on_disk(tmp_path, "x.db*").values())


# -- CrewAI's own checkpoints -------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """An encrypted log with a checkpoint in it."""
    whole = record_whole("sequential_native", tmp_path, key=KEY)
    with eventlog.open(whole.file, key=KEY) as log:
        log.snapshot(RUN)
    return whole.file


def test_it_has_neither_of_the_readable_views(sealed: Path) -> None:
    """SQL cannot open a sealed value; what would show nothing but that is not there."""
    with closing(sqlite3.connect(sealed)) as db:
        views = db.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()

        assert views == []
        for view in ("event_json", "checkpoints"):
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                db.execute(f"SELECT * FROM {view}")


def test_our_provider_refuses_it_and_says_why(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To write to, with or without a log that is open; to prune; to restore from, where no key is needed to tell."""
    provider = EventLogProvider()
    monkeypatch.setenv(VARIABLE, KEY)
    with eventlog.open(sealed) as log:
        for call in (
            lambda: provider.checkpoint('{"a": 1}', str(sealed)),
            lambda: EventLogProvider(log).checkpoint('{"a": 1}', "anywhere"),
            lambda: provider.prune(str(sealed), 1),
        ):
            with pytest.raises(EncryptedLogError, match="cannot open an encrypted log"):
                call()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(EncryptedLogError) as caught:
        provider.from_checkpoint(f"{sealed}#20260101T000000_00000001")
    assert "run.kickoff" in caught.value.hint


def test_export_as_a_checkpoint_is_refused_with_the_reason(sealed: Path) -> None:
    """By the command line, exit code 1; no file is made."""
    target = sealed.with_name("c.json")
    said = finish(
        "export", "--format", "crewai-checkpoint", "-o", target, "--db", sealed, RUN, env=environment(**{VARIABLE: KEY})
    )

    assert said.code == 1
    assert "it is encrypted" in said.err
    assert not target.exists()


def test_crewais_own_provider_cannot_write_to_it_in_clear(sealed: Path) -> None:
    """Where there is no view of that name it would make a table ``checkpoints`` and put prompts into it."""
    before = on_disk(sealed.parent, sealed.name)

    with pytest.raises(sqlite3.OperationalError):
        SqliteProvider().checkpoint('{"prompt": "in clear"}', str(sealed))
    assert on_disk(sealed.parent, sealed.name) == before
    eventlog.open(sealed, key=KEY).close()
