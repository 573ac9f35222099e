"""The memory of a log: forks, cursors, processes, compaction, encryption, redaction, forgetting."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import eventlog
from eventlog import Log, Memory, MemoryNotFoundError, MemoryScopeError, MemoryValueError, Redaction
from eventlog.ledger import memory_shelf
from eventlog.ledger.memories import read_told
from eventlog.ledger.memory_shelf import shelf_of
from eventlog.record import StoredEvent
from eventlog.writer import instead
from tests.cli_world import environment
from tests.integration.sealing import KEY, found_in, on_disk

FINDING = "SQL injection vulnerability in auth module"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """An empty log."""
    with eventlog.open(tmp_path / "x.db") as log:
        yield log


@pytest.fixture
def memory(log: Log) -> Memory:
    """The memory of a run."""
    return Memory(log, "audit")


def found(memory: Memory, query: str = "", **options: Any) -> list[Any]:
    """Return the values a search finds, the best first."""
    return [match.value for match in memory.search(query, **options)]


def places(log: Log) -> list[tuple[str | None, str, str]]:
    """Return where the events of the memory stand, and what they are."""
    return [
        (it.run, it.branch, it.type.removeprefix("eventlog.memory_")) for it in log.events(types=["eventlog.memory_*"])
    ]


# -- saving and searching -----------------------------------------------------------------------------


def test_a_finding_is_found_by_what_it_shares_with_a_sentence(memory: Memory) -> None:
    """The example of the tutorial, in a log that another process could have written."""
    memory.save(FINDING, metadata={"severity": "critical"}, agent="scanner")
    memory.save("Passwords are stored in plain text", metadata={"severity": "high"}, agent="scanner")
    [match] = memory.search("vulnerabilities in auth")

    assert (match.value, match.agent, match.scope) == (FINDING, "scanner", "agent-shared")
    assert (match.namespace, match.run, match.metadata) == ("audit", "audit", {"severity": "critical"})
    assert match.score > 0
    assert found(memory, "critical") == [FINDING]


def test_a_search_without_words_finds_the_newest_first(memory: Memory) -> None:
    """Also what only holds signs; a correction makes a memory new."""
    first, *_ = [memory.save(text) for text in ("one", "two", "three")]
    memory.correct(first, "uno")

    assert found(memory, "") == found(memory, "?!") == found(memory, "🔥") == ["uno", "three", "two"]
    assert found(memory, "", limit=1) == ["uno"]
    assert found(memory, "", limit=0) == []
    assert found(memory, "nothing like that") == []


def test_equal_scores_come_newest_first(memory: Memory) -> None:
    """The order must not depend on the weather."""
    for number in range(5):
        memory.save({"tea": number})

    assert found(memory, "tea") == [{"tea": number} for number in (4, 3, 2, 1, 0)]


def test_metadata_keeps_what_is_equal(memory: Memory) -> None:
    """Of every given field; ``true`` is not 1."""
    memory.save("a", metadata={"n": 1, "at": (1, 2)})
    memory.save("b", metadata={"n": True})

    assert found(memory, metadata={"n": 1}) == ["a"]
    assert found(memory, metadata={"n": True}) == ["b"]
    assert found(memory, metadata={"n": 1, "at": (1, 2)}) == ["a"]
    assert found(memory, metadata={"n": 1, "other": 1}) == []


def test_any_json_value_and_a_large_one_come_back(memory: Memory) -> None:
    """Texts of 256 characters and more are kept elsewhere in the log: whatever field they stand in."""
    value = {"file": "auth.py", "lines": [1, 2], "why": "so " * 200, "none": None}
    name = memory.save(value, metadata={"note": "long " * 100}, agent="an agent with a name " * 20)
    memory.delete(memory.save("other"), reason="because " * 100)

    assert memory.get(name).value == value
    assert memory.get(name).metadata == {"note": "long " * 100}
    assert found(memory, "auth.py") == [value]
    assert len(memory.all()) == 1


@pytest.mark.parametrize("value", [None, "", " \n", [], {}, ()])
def test_nothing_is_not_remembered(memory: Memory, log: Log, value: Any) -> None:
    """It would only be in the way."""
    with pytest.raises(MemoryValueError):
        memory.save(value)

    assert places(log) == []


@pytest.mark.parametrize("options", [{"scope": "everybody"}, {"scope": "agent-private"}])
def test_a_scope_that_nobody_understands_is_refused(memory: Memory, log: Log, options: dict[str, Any]) -> None:
    """Who may see it must be clear before it is saved."""
    with pytest.raises(MemoryScopeError):
        memory.save("x", **options)
    with pytest.raises(MemoryScopeError):
        memory.search("x", scope="everybody")

    assert places(log) == []


def test_a_memory_id_is_saved_once(memory: Memory, log: Log) -> None:
    """Also by another run of the namespace, and after it was deleted; other namespaces have ids of their own."""
    assert memory.save("first", memory_id="m") == "m"
    memory.save("second", memory_id="m")
    Memory(log, "later", namespace="audit").save("third", memory_id="m")
    memory.in_namespace("other").save("theirs", memory_id="m")

    assert found(memory) == ["first"]
    assert found(memory.in_namespace("other")) == ["theirs"]
    assert len(places(log)) == 2
    memory.delete("m")
    memory.save("again", memory_id="m")
    assert found(memory) == []


def test_what_is_corrected_is_found_by_its_new_words_only(memory: Memory) -> None:
    """And its history says who said what."""
    name = memory.save(FINDING, agent="scanner")
    assert found(memory, "injection") == [FINDING]
    memory.correct(name, "A false alarm", by="reviewer")

    assert found(memory, "injection") == []
    assert found(memory, "alarms") == ["A false alarm"]
    history = memory.history(name)
    assert [(it.action, it.by, it.value) for it in history] == [
        ("saved", "scanner", FINDING), ("corrected", "reviewer", "A false alarm")
    ]  # fmt: skip
    assert history[0].at_ns < history[1].at_ns


def test_what_is_deleted_is_found_no_more(memory: Memory) -> None:
    """Its history is still there: deleting is an event, too."""
    name = memory.save(FINDING)
    assert found(memory, "auth") == [FINDING]
    memory.delete(name, reason="fixed", by="reviewer")

    assert found(memory, "auth") == memory.all() == []
    assert [(it.action, it.by, it.reason) for it in memory.history(name)][1:] == [("deleted", "reviewer", "fixed")]
    for use in (memory.get, memory.delete, lambda it: memory.correct(it, "x")):
        with pytest.raises(MemoryNotFoundError):
            use(name)


@pytest.mark.parametrize("scope", ["agent-private", "agent-shared"])
def test_nobody_changes_what_they_may_not_see(memory: Memory, log: Log, scope: str) -> None:
    """Neither from another namespace nor, if it is private, another agent; and the error does not tell them apart."""
    name = memory.save(FINDING, scope=scope, agent="scanner")
    other = memory.in_namespace("other")
    uses: list[Callable[[], Any]] = [lambda: other.delete(name, by="scanner"), lambda: other.history(name)]
    if scope == "agent-private":
        uses += [lambda: memory.correct(name, "x", by="reviewer"), lambda: memory.delete(name)]
    for use in uses:
        with pytest.raises(MemoryNotFoundError):
            use()

    memory.correct(name, "It is worse", by="scanner")
    assert found(memory, agent="scanner") == ["It is worse"]
    assert len(places(log)) == 2


def test_a_memory_outside_every_run_reaches_all_of_its_namespace(log: Log) -> None:
    """What ``log.memory("security-audit")`` gives."""
    Memory(log, namespace="security-audit").save(FINDING)
    with pytest.raises(MemoryScopeError):
        Memory(log).save("x")

    assert places(log) == [(None, "main", "saved")]
    assert found(Memory(log, "nightly", namespace="security-audit"), "auth") == [FINDING]
    assert found(Memory(log, "nightly"), "auth") == []
    assert found(Memory(log), "auth") == [FINDING]


# -- branches and cursors -----------------------------------------------------------------------------


def test_a_fork_sees_its_parent_up_to_the_fork_and_the_parent_nothing_of_it(log: Log, memory: Memory) -> None:
    """Branches are what-ifs."""
    name = memory.save("before")
    log.fork("audit", branch="b")
    memory.save("after")
    fork = Memory(log, "audit", "b")
    fork.save("of the fork", memory_id="m")
    fork.correct(name, "corrected")
    Memory(log, "other", namespace="audit").save("of another run")

    assert set(found(fork)) == {"corrected", "of the fork", "of another run"}
    assert set(found(memory)) == {"before", "after", "of another run"}
    assert set(found(Memory(log, "other", namespace="audit"))) == {"before", "after", "of another run"}
    assert found(fork, "corrected") == ["corrected"]
    assert found(memory, "corrected") == []


def test_a_fork_saves_under_an_id_that_its_parent_used_after_the_fork(log: Log, memory: Memory) -> None:
    """A run has each event id once; the same place of a fork is another one."""
    memory.save("tea")
    log.fork("audit", branch="b")
    memory.save("the parent's", memory_id="m")
    fork = Memory(log, "audit", "b")
    fork.save("the fork's", memory_id="m")

    assert fork.get("m").value == "the fork's"
    assert memory.get("m").value == "the parent's"


def test_a_branch_must_be_there(log: Log, memory: Memory) -> None:
    """A typo must not look like an empty memory."""
    memory.save("tea")
    for other in (Memory(log, "audit", "no"), Memory(log, "nobody", "no")):
        with pytest.raises(eventlog.BranchNotFoundError):
            other.search("tea")
        with pytest.raises(eventlog.EventLogError):
            other.save("x")

    assert found(Memory(log, "nobody")) == []


def test_a_cursor_shows_what_was_remembered_then(log: Log, memory: Memory) -> None:
    """Whatever it is written as; the index of now is not asked."""
    name = memory.save("a leak in auth")
    log.append("own.note", {}, run="audit", event_id="the-note")
    seq = [event.seq for event in log.events("audit")][-1]
    Memory(log, "other", namespace="audit").save("a leak in billing")
    memory.correct(name, "no leak at all")
    times = [event.at_ns for event in log.events()]

    assert found(memory, "leak") == ["no leak at all", "a leak in billing"]
    for cursor in (seq, str(seq), "the-note"):
        assert found(memory, "leak", to=cursor) == ["a leak in auth"]
    assert found(memory, "leak", to=seq + 1) == ["a leak in billing", "a leak in auth"]
    assert found(memory, "leak", to="latest") == found(memory, "leak", to="2999-01-01")
    assert found(memory, "leak", to="1999-01-01") == found(memory, "leak", to=0) == []
    assert memory.get(name, to=seq).value == "a leak in auth"
    assert times == sorted(times)
    for cursor in (9999, "99", "no-such-event", -1):
        with pytest.raises(eventlog.CursorNotFoundError):
            memory.search("leak", to=cursor)


# -- processes and threads ----------------------------------------------------------------------------

OTHER = """
import sys, eventlog
with eventlog.open(sys.argv[1]) as log:
    eventlog.Memory(log, "elsewhere", namespace="audit").save(sys.argv[2])
"""


def test_what_another_process_saves_is_found_at_the_next_search(log: Log, memory: Memory) -> None:
    """Though this one has an index of what was there before."""
    memory.save(FINDING)
    assert found(memory, "tokens") == []
    subprocess.run([sys.executable, "-c", OTHER, str(log.path), "Tokens never expire"], env=environment(), check=True)

    assert found(memory, "token") == ["Tokens never expire"]


def test_each_event_is_read_once(log: Log, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often one searches, and through however many objects."""
    read: list[int] = []

    def counted(header: StoredEvent, *more: Any) -> Any:
        read.append(header.seq)
        return read_told(header, *more)

    monkeypatch.setattr(memory_shelf, "read_told", counted)
    for number in range(5):
        memory.save(f"finding {number}")
        log.append("own.note", {}, run="audit")
        assert len(found(Memory(log, "audit"), "finding", limit=99)) == number + 1

    assert len(read) == 5


def test_several_threads_may_save_and_search(memory: Memory) -> None:
    """SQLite's connections belong to a thread, unless one takes care."""
    errors: list[Exception] = []

    def work(worker: int) -> None:
        try:
            for number in range(10):
                memory.save(f"finding {worker} {number}")
                assert f"finding {worker} {number}" in found(memory, f"finding {worker}", limit=99)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert len(found(memory, "finding", limit=99)) == 40


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # that is what this is about
def test_a_forked_process_has_a_memory_of_its_own(log: Log, memory: Memory) -> None:
    """The thread that held the lock of the index is not there."""
    memory.save(FINDING)
    found(memory, "auth")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with shelf_of(log)._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if found(memory, "auth") == [FINDING] and memory.save("child") else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()

    assert os.waitstatus_to_exitcode(status) == 0
    assert found(memory, "child") == ["child"]


def test_what_is_executed_again_appends_to_no_log_that_is_kept(log: Log, memory: Memory, tmp_path: Path) -> None:
    """As with ``log.append``."""
    with eventlog.open(tmp_path / "scratch.db") as scratch:
        token = instead.set(scratch.writer)
        memory.save("again")
        instead.reset(token)

        assert places(log) == []
        assert places(scratch) == [("audit", "main", "saved")]


def test_a_copy_of_a_crew_has_the_same_memory(memory: Memory) -> None:
    """What holds a memory may be copied; a log cannot be."""
    assert copy.deepcopy({"memory": memory})["memory"] is memory


def test_a_log_that_is_only_read_can_be_searched(log: Log, memory: Memory) -> None:
    """And nothing else."""
    memory.save(FINDING)
    with eventlog.open(log.path, readonly=True) as reader:
        assert found(Memory(reader, "audit"), "auth") == [FINDING]
        with pytest.raises(eventlog.LogUnwritableError):
            Memory(reader, "audit").save("x")


# -- what happens to a log ----------------------------------------------------------------------------


def answers(log: Log) -> list[Any]:
    """Return what is found in several ways, at several moments."""
    memories = [Memory(log, "audit"), Memory(log, "audit", "b"), Memory(log, "other", namespace="audit")]
    return [
        memory.search(query, agent="scanner", to=to)
        for memory in memories for query in ("auth vulnerability", "") for to in (None, 3, 5)
    ]  # fmt: skip


def test_compaction_changes_no_answer(log: Log, memory: Memory) -> None:
    """Neither of a branch nor of its fork, nor at an earlier cursor, nor in a process that begins afterwards."""
    name = memory.save(FINDING, agent="scanner")
    memory.save("private vulnerability " * 30, scope="agent-private", agent="scanner")
    for _ in range(20):
        log.append("own.note", {"text": "auth"}, run="audit")
    log.fork("audit", branch="b")
    memory.correct(name, "No vulnerability in auth")
    Memory(log, "audit", "b").delete(name)
    Memory(log, "other", namespace="audit").save("auth of another run")
    before = answers(log)
    report = log.compact(0)

    assert answers(log) == before
    assert any(before)
    assert report.events_after < report.events_before
    with eventlog.open(log.path, readonly=True) as later:
        assert answers(later) == before


def test_the_words_of_a_memory_do_not_stand_in_an_encrypted_log(tmp_path: Path) -> None:
    """Neither the value nor the metadata nor who found it; nor those that were searched."""
    words = ["quillfinding", "quillfact", "quillagent", "quillquery", "quillid", "quillreason"]
    with eventlog.open(tmp_path / "x.db", key=KEY) as log:
        memory = Memory(log, "audit", embedder=lambda texts: [[1.0, 2.0]] * len(texts))
        name = memory.save("quillfinding " * 50, metadata={"k": "quillfact"}, agent="quillagent", memory_id="quillid")
        memory.save({"quillfinding": ["quillfact"]}, scope="global")
        assert len(found(memory, "quillfinding quillquery")) == 2
        opened = on_disk(tmp_path)
        memory.delete(name, reason="quillreason")
    with eventlog.open(tmp_path / "x.db", key=KEY, readonly=True) as log:
        assert len(found(Memory(log, "audit"), "quillfinding")) == 1

    assert found_in(opened, words) == found_in(on_disk(tmp_path), words) == set()


def test_a_secret_is_not_on_the_disk_nor_told_to_the_embedder(tmp_path: Path) -> None:
    """Wherever in a memory it stands; what it was saved under can still be named."""
    secret, told = "hunter2-hunter2", list[str]()

    def embed(texts: list[str]) -> list[list[float]]:
        told.extend(texts)
        return [[1.0]] * len(texts)

    with eventlog.open(tmp_path / "x.db", redaction=Redaction(values=(secret,))) as log:
        memory = Memory(log, "audit", embedder=embed)
        name = memory.save(
            f"the password is {secret}", metadata={secret: secret}, agent=f"a {secret}", memory_id=f"id-{secret}",
        )  # fmt: skip
        memory.save({"login": {"password": "canary-pass"}}, agent=f"a {secret}", scope="agent-private")

        assert memory.get(name).value.startswith("the password is [redacted")
        assert len(found(memory, "password", agent=f"a {secret}")) == 2
        assert not any(secret in text or "canary-pass" in text for text in told)
    assert found_in(on_disk(tmp_path), [secret, "canary-pass"]) == set()


@pytest.mark.parametrize("where", ["value", "large", "metadata"])
def test_what_is_forgotten_is_found_no_more(log: Log, memory: Memory, where: str) -> None:
    """In this process, whose index knew it, and in another one that has the log open."""
    texts = {"value": "the code is swordfish", "large": "swordfish " * 100, "metadata": "the code"}
    memory.save(texts[where], metadata={"k": "swordfish"} if where == "metadata" else None)
    memory.save("something else")
    with eventlog.open(log.path, readonly=True) as other:
        assert len(found(memory, "swordfish")) == len(found(Memory(other, "audit"), "swordfish")) == 1
        log.forget(value="swordfish")

        assert found(memory, "swordfish") == found(Memory(other, "audit"), "swordfish") == []
        assert len(found(memory)) == len(found(Memory(other, "audit"))) == 2


def test_a_memory_whose_event_is_forgotten_is_gone(log: Log, memory: Memory) -> None:
    """The event stays, and says nothing."""
    memory.save(FINDING)
    assert found(memory, "auth") == [FINDING]
    [event] = log.events("audit")
    log.forget(event=event.seq)

    assert found(memory, "auth") == found(memory) == []


def test_what_is_known_of_a_log_ends_with_it(tmp_path: Path) -> None:
    """A process that opens many logs must not keep them all."""
    with eventlog.open(tmp_path / "x.db") as log:
        Memory(log, "audit").save(FINDING)
        assert shelf_of(log) is shelf_of(log)
        shelf = shelf_of(log)
    del log

    assert sys.getrefcount(shelf) <= 3
