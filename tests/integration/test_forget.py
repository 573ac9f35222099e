"""Forgetting: the value is nowhere in the bytes, the chain holds, and everything goes on as before."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, start
from crewai.tools import tool

import eventlog
from eventlog import ForgetError
from eventlog.chain import Chain
from eventlog.errors import AppendError
from eventlog.forgetting.tombs import bury_events
from eventlog.replay import snapshots
from eventlog.testing import ScriptedLLM, final
from tests import verifying
from tests.cli_world import environment

SECRET = 'Quiet"Otter-4711/Zx'
"""Not shaped like a credential, so redaction lets it through; a quote is escaped in JSON, once or twice."""
OTHER = "Loud-Heron-1174-Yw"
MARKER = "[redacted:forgotten]"
FORMS = {form.encode() for form in (SECRET, json.dumps(SECRET)[1:-1], json.dumps(json.dumps(SECRET))[3:-3])}
LONG = "a long text, kept once. " * 20

DictFlow = Flow[dict]  # type: ignore[type-arg]  # CrewAI does not know dict[str, Any] as a state


class Leaky:
    """A crew with the value in prompt, role, tool result, output and in a conversation that is kept in pieces."""

    def __init__(self, secret: str = SECRET, script: list[Any] | None = None) -> None:
        """Build the crew as a script does at every start."""
        self.runs: list[str] = []

        @tool("vault")
        def vault(q: str) -> str:
            """Ask the vault."""
            self.runs.append(q)
            return f"{LONG} it is {secret}"

        thought = f"Thought: {LONG}\nAction: vault\nAction Input: {json.dumps({'q': secret})}"
        self.script = [thought, final(f"the answer is {secret}"), final("done")] if script is None else script
        self.llm = ScriptedLLM(script=self.script)
        keeper = Agent(role=f"Keeper of {secret}", goal="g", backstory="b", llm=self.llm, tools=[vault])
        writer = Agent(role="Writer", goal="g", backstory="b", llm=self.llm)
        first = Task(name="open", description="Open {what}.", expected_output="x", agent=keeper)
        second = Task(name="write", description="Write it down.", expected_output="x", agent=writer)
        self.crew = Crew(agents=[keeper, writer], tasks=[first, second])


class Remembers(DictFlow):
    """A flow with the value in its state."""

    @start()
    def keep(self) -> str:
        """Put it there."""
        self.state["found"] = {SECRET: [f"see {SECRET}"]}
        return "kept"


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with a crew and a flow that hold the value, a run that does not, and a checkpoint with its state."""
    path = tmp_path_factory.mktemp("leaky") / "log.db"
    with eventlog.open(path) as log:
        log.run("crew").kickoff(Leaky().crew, inputs={"what": SECRET})
        log.run("flow").kickoff(Remembers())
        log.run("other").kickoff(Leaky(OTHER).crew, inputs={"what": OTHER})
        log.append("my.note", {"note": f"see {SECRET}"}, run="crew", event_id=f"note {SECRET}")
        log.snapshot("crew")
    return path


@pytest.fixture
def file(leaky: Path, tmp_path: Path) -> Path:
    """A copy of it for this test alone."""
    return Path(shutil.copy(leaky, tmp_path / "log.db"))


def traces(path: Path) -> set[str]:
    """Return the files of a log in whose bytes the value stands; read by another process, for the sake of the locks."""
    names = [name for name in (path, Path(f"{path}-wal")) if name.exists()]
    code = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    data = {
        n.name: subprocess.run([sys.executable, "-c", code, n], check=True, capture_output=True).stdout for n in names
    }
    return {name for name, found in data.items() if any(form in found for form in FORMS)}


def rows_of(path: Path, run: str) -> list[Any]:
    """Return the stored events of a run."""
    sql = f"SELECT e.* FROM events AS e JOIN runs AS r ON r.id = e.run WHERE r.name = '{run}' ORDER BY seq"
    return verifying.query(path, sql)


def test_a_value_is_gone_from_every_place_and_the_chain_holds(file: Path) -> None:
    """In prompt, role, tool result, output, flow state, event id, pieces, checkpoint: the bytes held it and do not.

    Seeded: without snapshots, without names, without the joined text of pieces, without VACUUM: all caught.
    """
    before, other = traces(file), rows_of(file, "other")
    with eventlog.open(file) as log:
        report = log.forget(value=SECRET)
        while_open = traces(file)
        state, flow = log.state("crew"), log.state("flow")
        events = "\n".join(repr(event) for event in log.events("crew"))

    assert before == {"log.db"}
    assert (report.unfinished, while_open, traces(file), list(verifying.problems(file))) == ([], set(), set(), [])
    assert min(report.events, report.contents, report.names, report.snapshots) > 0
    assert state.tasks[0].output == f"the answer is {MARKER}"
    assert state.tasks[0].agent == f"Keeper of {MARKER}"
    assert flow.flow_state["found"] == {MARKER: [f"see {MARKER}"]}
    assert f"note {MARKER}" in events
    assert rows_of(file, "other") == other


def test_rows_without_it_keep_their_digest_and_need_no_tombstone(file: Path) -> None:
    """Only what differs has a tombstone; all digests are what they were."""
    digests = verifying.query(file, "SELECT seq, digest FROM events ORDER BY seq")
    with eventlog.open(file) as log:
        report = log.forget(value=SECRET)
    buried = verifying.tombstones(file, "event")

    assert verifying.query(file, "SELECT seq, digest FROM events ORDER BY seq") == digests
    assert len(buried) == report.events < len(digests)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE events SET payload = '{{}}' WHERE seq = {event}", "seq {event}: it was changed"),
        ("UPDATE events SET flags = 0 WHERE seq = {event}", "seq {event}: it was changed"),
        ("UPDATE contents SET body = 'x' WHERE hash = '{content}'", "content {content} was changed"),
        ("UPDATE names SET label = 'x' WHERE label LIKE 'Keeper of [%'", "it was changed"),
    ],
    ids=["payload", "flags", "content", "name"],
)
def test_an_edit_of_a_forgotten_row_is_found(sql: str, found: str, file: Path) -> None:
    """A tombstone allows one change, not any."""
    with eventlog.open(file) as log:
        log.forget(value=SECRET)
    facts = {
        "event": max(verifying.tombstones(file, "event")),
        "content": verifying.query(
            file, "SELECT hash FROM tombstones JOIN contents ON hash = tombstones.id WHERE kind = 'text'"
        )[0][0],
    }
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = 1 WHERE key = 'compacting'")
        db.execute(sql.format(**facts))

    assert any(found.format(**facts) in problem and "again since" in problem for problem in verifying.problems(file))


def test_a_value_in_a_base_is_forgotten_with_a_new_proof(file: Path) -> None:
    """The state of a compacted branch cannot be folded anew, so it is rewritten. Seeded: the former proof; caught."""
    with eventlog.open(file) as log:
        log.compact(1)
        held = traces(file)
        report = log.forget(value=SECRET)
        state = log.state("crew")

        assert log.compact(0).ok
        assert log.state("crew") == state
    assert (held != set(), report.bases > 0, report.unfinished) == (True, True, [])
    assert state.tasks[0].output == f"the answer is {MARKER}"
    assert (traces(file), list(verifying.problems(file))) == (set(), [])


def test_a_value_that_spans_pieces_is_found_in_the_whole_text(tmp_path: Path) -> None:
    """The second text is stored as the first one and the rest: neither piece holds the value."""
    path, beginning = tmp_path / "log.db", LONG + SECRET[:8]
    with eventlog.open(path) as log:
        log.append("my.text", {"text": beginning}, run="r")
        log.append("my.text", {"text": f"{beginning}{SECRET[8:]} and more"}, run="r")
        kinds = [row[0] for row in log.reader.query("SELECT kind FROM contents ORDER BY id")]
        report = log.forget(value=SECRET)
        texts = [event.payload["text"] for event in log.events("r")]

    assert kinds == ["text", "pieces"]
    assert (report.contents, texts) == (1, [beginning, f"{LONG}{MARKER} and more"])
    assert list(verifying.problems(path)) == []


def test_pieces_of_a_changed_text_stay_the_text_they_were(tmp_path: Path) -> None:
    """The beginning of a text is named by its length, which a shorter or longer marker would move."""
    path, text = tmp_path / "log.db", f"{SECRET} {LONG}"
    with eventlog.open(path) as log:
        log.append("my.text", {"text": text}, run="r")
        log.append("my.text", {"text": text[:300]}, run="r")
        log.forget(value=SECRET)
        texts = [event.payload["text"] for event in log.events("r")]

    assert texts == [f"{MARKER} {LONG}", text[:300].replace(SECRET, MARKER)]
    assert list(verifying.problems(path)) == []


def test_what_earlier_deletions_left_in_free_pages_is_gone(file: Path) -> None:
    """SQLite need not overwrite what it frees. Seeded: no VACUUM; caught."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("CREATE TABLE once (text)")
        db.execute("INSERT INTO once VALUES (?)", (f"{SECRET} {LONG}" * 1000,))
        db.execute("DROP TABLE once")
    with eventlog.open(file) as log:
        report = log.forget(value=SECRET)

    assert (report.unfinished, traces(file)) == ([], set())


def test_a_run_goes_on_and_asks_again_what_was_forgotten(tmp_path: Path) -> None:
    """A marker is never served as if it were the real result; the rest of the tape still is."""
    path, again = tmp_path / "log.db", Leaky()
    stopped = Leaky(script=[again.script[0], KeyboardInterrupt()])
    with eventlog.open(path) as log:
        with pytest.raises(KeyboardInterrupt):
            log.run("r").kickoff(stopped.crew, inputs={"what": "it"})
        log.forget(value=SECRET)
    with eventlog.open(path) as log:
        result = log.run("r").kickoff(again.crew, inputs={"what": "it"})

        assert (result.raw, result.tasks_output[0].raw) == ("done", f"the answer is {SECRET}")
        assert (stopped.runs, again.runs) == ([SECRET], [SECRET])
        assert log.state("r").status == "completed"
    assert list(verifying.problems(path)) == []


def test_a_fork_of_a_forgotten_run_works(file: Path) -> None:
    """A branch begins with what is left; code that differs from what the log still knows runs again."""
    with eventlog.open(file) as log:
        log.forget(value=SECRET)
        log.fork("crew", branch="exp", outputs={"open": "Nothing."})
        program = Leaky("harmless", [final("open again"), final("from nothing")])
        log.run("crew", branch="exp").kickoff(program.crew, inputs={"what": "it"})

        assert log.state("crew", branch="exp").status == "completed"
        assert MARKER in repr(log.state("crew"))
    assert (traces(file), list(verifying.problems(file))) == (set(), [])


def test_a_dry_run_counts_and_changes_no_byte(file: Path) -> None:
    """The same counts as the real thing, from a log that is only read."""
    before = file.read_bytes()
    with eventlog.open(file, readonly=True) as log:
        dry = log.forget(value=SECRET, dry_run=True)
        event = log.forget(event=3, dry_run=True)
    after = file.read_bytes()
    with eventlog.open(file) as log:
        real = log.forget(value=SECRET)

    assert after == before
    assert (event.events, event.dry_run, dry.dry_run) == (1, True, True)
    facts = ("events", "contents", "names", "bases", "documents", "snapshots")
    assert [getattr(dry, name) for name in facts] == [getattr(real, name) for name in facts]


def test_a_state_in_memory_does_not_bring_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fold that makes snapshots had the value. Seeded: it is not told of the change; caught."""
    monkeypatch.setattr(snapshots, "CACHE_EVENTS_MIN", 1)
    monkeypatch.setattr(snapshots, "CACHE_BYTES_FACTOR", 0)
    path = tmp_path / "log.db"
    with eventlog.open(path, snapshot_on=("my.mark",)) as log:
        log.run("r").kickoff(Leaky().crew, inputs={"what": SECRET})
        log.append("my.mark", {}, run="r")
        log.writer.snapshots.catch_up()
        log.forget(value=SECRET)
        log.append("my.mark", {}, run="r")
        log.writer.snapshots.catch_up()
        stored = log.reader.query("SELECT state FROM snapshots WHERE state <> '' ORDER BY seq DESC LIMIT 1")

    assert MARKER in stored[0][0]
    assert traces(path) == set()


CHILD = """
import sys, eventlog
path, text, short, told = sys.argv[1:]
with eventlog.open(path, redaction=eventlog.Redaction(values=(told,) if told else ())) as log:
    log.append("my.text", {"text": text}, run="r")
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(3):
        log.append("my.text", {"text": text}, run="r")
    log.append("my.text", {"text": text + " and more"}, run="r")
    log.append("my.text", {"text": short}, run="r")
"""


@pytest.mark.parametrize("told", ["", SECRET], ids=["knows nothing", "told"])
def test_another_process_that_has_it_in_memory_cannot_bring_a_large_value_back(told: str, tmp_path: Path) -> None:
    """It refers to the content by hash, which stays forgotten. What it records anew, short texts, is its own affair."""
    path, text = tmp_path / "log.db", LONG + SECRET
    with eventlog.open(path) as log:
        log.append("my.text", {"text": text}, run="first")
    args = [sys.executable, "-c", CHILD, str(path), text, f"short {SECRET}", told]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(args, env=environment(), **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with eventlog.open(path) as log:
            held = traces(path)
            report = log.forget(value=SECRET)
        left = traces(path)
        child.communicate("go\n", timeout=60)
    with eventlog.open(path) as log:
        texts = [event.payload["text"] for event in log.events("r")]
        again = log.forget(value=SECRET)

    assert (child.returncode, held != set(), report.unfinished, left) == (0, True, [], set())
    assert all(SECRET not in text for text in texts[:4])
    assert again.events == (0 if told else 1)
    assert (again.unfinished, traces(path)) == ([], set())


def test_a_reader_in_the_way_is_told_and_a_second_time_finishes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are clean at once; the WAL cannot be truncated while somebody reads the former state."""
    monkeypatch.setattr("eventlog.transactions.BUSY_S", 0.2)
    with eventlog.open(file) as log, closing(sqlite3.connect(file, isolation_level=None)) as beside:
        log.append("my.text", {"text": SECRET}, run="other")
        beside.execute("BEGIN")
        beside.execute("SELECT count(*) FROM events").fetchone()
        first = log.forget(value=SECRET)
        beside.execute("COMMIT")
        second = log.forget(value=SECRET)

    assert [("again" in text, SECRET in text) for text in first.unfinished[:1]] == [(True, False)]
    assert (second.found, second.unfinished, traces(file)) == (0, [], set())


def test_a_writer_in_the_way_leaves_everything_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows change in one transaction, or none."""
    monkeypatch.setattr("eventlog.transactions.BUSY_S", 0.2)
    before = rows_of(file, "crew")
    with eventlog.open(file) as log, closing(sqlite3.connect(file, isolation_level=None)) as beside:
        beside.execute("BEGIN IMMEDIATE")
        with pytest.raises(AppendError, match="locked"):
            log.forget(value=SECRET)
        beside.execute("COMMIT")

    assert rows_of(file, "crew") == before


def test_an_event_is_emptied_and_what_only_it_referred_to_is_gone(file: Path) -> None:
    """Header and place stay; a text that another event has, too, stays, and is counted."""
    with eventlog.open(file) as log:
        own = log.append("my.text", {"text": f"{LONG} mine", "more": f"{LONG} ours"}, run="r")
        log.append("my.text", {"text": f"{LONG} ours"}, run="r")
        report = log.forget(event=own)
        event, other = log.events("r")

    assert (report.contents, report.contents_kept, report.unfinished) == (1, 1, [])
    assert (event.seq, event.type, list(event.payload["payload"])) == (own, "my.text", ["$forgotten"])
    assert other.payload == {"text": f"{LONG} ours"}
    assert b"mine" not in file.read_bytes()
    assert list(verifying.problems(file)) == []


def test_states_are_folded_anew_without_a_forgotten_event(file: Path) -> None:
    """A stored state tells what the event told; the checkpoint stays, its state goes."""
    with eventlog.open(file) as log:
        event = next(e for e in log.events("crew", types=["task_completed"]))
        report = log.forget(event=event.event_id)
        again = log.forget(event=event.seq)
        task = log.state("crew").tasks[0]

        assert (task.status, task.output) == ("completed", None)
        assert (report.snapshots, again.unfinished) == (1, [])
        assert log.reader.query("SELECT count(*) FROM snapshots WHERE kind = 'checkpoint' AND seq > ?", (event.seq,))
    assert list(verifying.problems(file)) == []


def test_a_forgotten_result_is_made_again_not_served_empty(file: Path) -> None:
    """Of a finished run only the result is forgotten: its tasks still know theirs, and nobody is asked."""
    with eventlog.open(file) as log:
        result = next(e for e in log.events("crew", types=["eventlog.execution_result"]))
        log.forget(event=result.seq)
        program = Leaky(script=[])

        assert log.run("crew").kickoff(program.crew, inputs={"what": SECRET}).raw == "done"


def test_an_event_below_a_base_is_refused_with_the_remedy(file: Path) -> None:
    """The state at the base holds what it told and cannot be folded anew."""
    with eventlog.open(file) as log:
        log.compact(0)
        seq = log.reader.query("SELECT min(seq) FROM retained")[0][0]
        before = rows_of(file, "crew")
        with pytest.raises(ForgetError, match="--value-stdin"):
            log.forget(event=seq)

    assert rows_of(file, "crew") == before


@pytest.mark.parametrize("value", ["abc", "    ", "completed", "tasks", "task_comp", "password", "$content"])
def test_what_cannot_be_a_secret_is_refused(value: str, file: Path) -> None:
    """The log itself is built of such words; the message does not repeat them."""
    before = rows_of(file, "crew")
    with eventlog.open(file) as log, pytest.raises(ForgetError) as caught:
        log.forget(value=value)

    assert rows_of(file, "crew") == before
    assert value not in str(caught.value) or not value.strip()


def test_the_name_of_a_run_is_told_and_the_rest_is_forgotten(file: Path) -> None:
    """Runs are found by their names; what holds the value is named by its row."""
    with eventlog.open(file) as log:
        log.append("my.text", {"text": SECRET}, run=f"run {SECRET}")
        report = log.forget(value=SECRET)

    assert any("the name of a run holds it" in problem for problem in report.unfinished)
    assert any("log.db still holds its bytes" in problem for problem in report.unfinished)
    assert SECRET not in repr(report)
    assert report.events > 0


def test_a_sealed_log_forgets_as_well(tmp_path: Path) -> None:
    """Rows are opened, cleaned and sealed again for their places, names included."""
    path = tmp_path / "log.db"
    with eventlog.open(path, key="a passphrase") as log:
        log.run("r").kickoff(Leaky().crew, inputs={"what": SECRET})
        log.snapshot("r")
        log.compact(1)
        log.append("my.text", {"text": SECRET, "long": LONG + SECRET}, run="r", event_id=f"note {SECRET}")
        log.run("again").kickoff(Leaky().crew, inputs={"what": SECRET})
        report = log.forget(value=SECRET)
        event = log.append("my.text", {"text": "x"}, run="r")
        emptied = log.forget(event=event)
        state = log.state("r")
        texts = repr([*log.events("r"), *log.events("again")])
        findings = log.verify(deep=True).findings

    assert (report.unfinished, emptied.unfinished, findings) == ([], [], [])
    assert min(report.events, report.contents, report.names, report.bases) > 0
    assert state.tasks[0].agent == f"Keeper of {MARKER}"
    assert SECRET not in texts + repr(state)
    assert f"{LONG}{MARKER}" in texts


def test_with_a_key_nobody_else_can_make_a_tombstone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What forgetting writes is proven with the key of the chain; a tombstone that was made without it is tampering."""
    monkeypatch.setenv("EVENTLOG_KEY", "a key of the chain, kept elsewhere")
    path = tmp_path / "log.db"
    with eventlog.open(path) as log:
        log.append("my.text", {"text": SECRET}, run="r")
        seq = log.append("my.text", {"text": "paid"}, run="r")
        log.forget(value=SECRET)
        honest = log.verify(deep=True).findings
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = 1 WHERE key = 'compacting'")
        db.execute("UPDATE events SET payload = replace(payload, 'paid', 'owed') WHERE seq = ?", (seq,))
        bury_events(db, Chain(), [seq], 0)
        db.execute("UPDATE meta SET value = 0 WHERE key = 'compacting'")

    assert honest == []
    assert [f"seq {seq}: it was changed" in problem for problem in verifying.problems(path)] == [True]


def test_either_a_value_or_an_event(file: Path) -> None:
    """Both or neither is a mistake."""
    with eventlog.open(file) as log:
        for wrong in ({}, {"value": SECRET, "event": 1}):
            with pytest.raises(ForgetError, match="one of them"):
                log.forget(**wrong)  # type: ignore[arg-type]
