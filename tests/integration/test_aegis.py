"""The drop-in client: the methods and shapes that programs for Aegis Memory know, on a local log."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.aegis import AegisAgentMemory, AegisClient, AegisCrewMemory, logs
from eventlog.errors import (
    EventLogError,
    FeatureNotFoundError,
    MemoryNotFoundError,
    SessionNotFoundError,
    TestStepError,
)
from tests.cli_world import environment

SESSION = "audit-2026-01-15"
ITEMS = ["scan", "fix", "verify"]
STEPS = ["no injection", "rate limit"]


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """Close what a test opened."""
    yield
    logs._close_all()
    logs._noted.clear()


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the log of a test is."""
    monkeypatch.setenv("EVENTLOG_DB", str(tmp_path / "log.db"))
    return tmp_path / "log.db"


@pytest.fixture
def client(db: Path) -> AegisClient:
    """A client on it."""
    return AegisClient()


@pytest.fixture
def begun(client: AegisClient) -> AegisClient:
    """A client with a session as the tutorial begins it."""
    client.create_session(session_id=SESSION, agent_id="lead")
    client.update_session(
        session_id=SESSION, completed_items=[], in_progress_item=ITEMS[0], next_items=ITEMS[1:], blocked_items=[],
        summary="Starting", status="in_progress",
    )  # fmt: skip
    return client


@pytest.fixture
def auth(begun: AegisClient) -> AegisClient:
    """A client with a feature of that session."""
    begun.create_feature("auth", "Nobody gets in", session_id=SESSION, category="security", test_steps=STEPS)
    return begun


def count(client: AegisClient) -> int:
    """Return how many events there are."""
    return len(list(client.log.events()))


# -- opening -----------------------------------------------------------------------------------------------


def test_addresses_and_keys_are_accepted_and_noted_once(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However many clients a program makes; who gives neither hears nothing."""
    AegisClient()
    silent = capsys.readouterr().err
    AegisClient(base_url="http://localhost:8741", api_key="k")
    AegisClient("http://localhost:8741", timeout=3.0)
    AegisCrewMemory("k", base_url="http://localhost:8741")

    assert silent == ""
    assert capsys.readouterr().err.count("\n") == 1


def test_clients_of_one_file_share_its_log(db: Path) -> None:
    """By whatever way they name it; another file is another log."""
    clients = [AegisClient(), AegisClient(db=db), AegisClient(db=str(db.parent / "." / "log.db"))]

    assert len({id(client.log) for client in clients}) == 1
    assert AegisClient(db=db.parent / "other.db").log is not clients[0].log


def test_importing_and_using_the_client_does_not_load_crewai(db: Path) -> None:
    """It takes seconds."""
    code = (
        "import sys; from eventlog.aegis import AegisClient, AegisCrewMemory; c = AegisClient(); c.create_session('s');"
        "c.create_feature('f'); AegisCrewMemory().save('x'); c.list_features(); print('crewai' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment(EVENTLOG_DB=str(db)), capture_output=True, text=True, check=True
    )

    assert shown.stdout == "False\n"


# -- sessions -----------------------------------------------------------------------------------------------


def test_a_session_has_the_fields_of_the_original(begun: AegisClient) -> None:
    """As keys, for the tutorial, and as attributes, for its real client."""
    session = begun.get_session(session_id=SESSION)

    assert session.completed_items == session.get("completed_items") == []
    assert {**session, "created_at": "", "updated_at": ""} == {
        "id": SESSION, "session_id": SESSION, "status": "in_progress", "completed_items": [], "completed_count": 0,
        "total_items": 3, "progress_percent": 0.0, "in_progress_item": "scan", "next_items": ["fix", "verify"],
        "blocked_items": [], "summary": "Starting", "last_action": None, "agent_id": "lead", "created_at": "",
        "updated_at": "",
    }  # fmt: skip
    assert session.created_at < session.updated_at
    assert json.loads(json.dumps(session)) == session
    with pytest.raises(AttributeError, match="nonsense"):
        _ = session.nonsense


def test_a_session_that_nobody_began_is_an_error(client: AegisClient) -> None:
    """The tutorial begins one when it gets any exception; a run with features only is none."""
    client.create_feature("auth", session_id=SESSION)

    for ask in (client.get_session, client.update_session):
        with pytest.raises(SessionNotFoundError, match=SESSION):
            ask(SESSION)
    with pytest.raises(EventLogError):
        client.create_session("")


def test_creating_a_session_again_changes_nothing(begun: AegisClient) -> None:
    """A program that is started again does."""
    begun.mark_complete(SESSION, "scan")
    before = count(begun)
    session = begun.create_session(session_id=SESSION, agent_id="another")

    assert (session.completed_items, session.agent_id) == (["scan"], "lead")
    assert count(begun) == before


def test_two_processes_that_create_a_session_append_one_event(
    client: AegisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looked before the other one wrote."""
    seen = iter([False, True, False, True])
    monkeypatch.setattr(client, "_is_session", lambda _: next(seen))
    for agent in ("first", "second"):
        client.create_session(SESSION, agent_id=agent)

    assert count(client) == 1


def test_only_what_is_given_changes(begun: AegisClient) -> None:
    """Each field by itself."""
    before = begun.get_session(SESSION)
    changes: dict[str, Any] = {"summary": "S" * 300, "last_action": "looked", "status": "paused", "total_items": 12}
    for name, value in changes.items():
        after = begun.update_session(SESSION, **{name: value})
        different = {key for key in before if before[key] != after[key]} - {"updated_at"}
        before = after

        assert (different, after[name]) == ({name}, value)
    begun.update_session(SESSION)
    assert begun.get_session(SESSION) == before


def test_items_are_completed_once_and_in_order(begun: AegisClient) -> None:
    """Whatever the order of a set that a program keeps them in; half of the progress is half."""
    begun.update_session(SESSION, completed_items=["fix", "scan"])
    session = begun.mark_complete(SESSION, "fix")

    assert session.completed_items == ["scan", "fix"]
    assert (session.completed_count, session.progress_percent) == (2, 66.7)
    assert begun.mark_complete(SESSION, "verify").status == "completed"


def test_a_list_that_is_too_short_takes_nothing_back(begun: AegisClient) -> None:
    """As in the original, a list of completed items is added: another process may have completed more meanwhile."""
    begun.mark_complete(SESSION, "scan")
    begun.update_session(SESSION, completed_items=["fix"])

    assert begun.update_session(SESSION, completed_items=[]).completed_items == ["scan", "fix"]


def test_one_item_is_in_progress(begun: AegisClient) -> None:
    """The one that was named last; the others wait."""
    session = begun.set_in_progress(SESSION, "verify")

    assert (session.in_progress_item, session.next_items) == ("verify", ["scan", "fix"])
    assert begun.mark_complete(SESSION, "verify").in_progress_item is None


def test_the_next_items_are_those_that_were_named_last(begun: AegisClient) -> None:
    """In their order; what nobody began is dropped when it is not named any more."""
    begun.mark_complete(SESSION, "scan")
    session = begun.update_session(SESSION, next_items=["report", "fix"])

    assert (session.completed_items, session.next_items, session.total_items) == (["scan"], ["report", "fix"], 3)


@pytest.mark.parametrize("given", [["fix"], [{"item": "fix", "reason": ""}], {"fix": ""}, [{"name": "fix"}]], ids=str)
def test_blocked_items_come_in_several_forms(begun: AegisClient, given: Any) -> None:
    """Names, dicts with a reason, or a mapping; an item that is completed after all is blocked no more."""
    session = begun.update_session(SESSION, blocked_items=given)

    assert (session.blocked_items, session.next_items) == ([{"item": "fix", "reason": ""}], ["verify"])
    assert begun.mark_complete(SESSION, "fix").blocked_items == []
    assert begun.update_session(SESSION, blocked_items=[]).next_items == ["verify"]


def test_an_update_is_one_transaction(begun: AegisClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Completed items and the summary that tells of them are both there, or neither is."""
    writes: list[int] = []
    pipeline = type(begun.log.writer.pipeline)
    submit = pipeline.submit

    def noted(self: Any, events: Any, *rest: Any) -> Any:
        writes.append(len(events))
        return submit(self, events, *rest)

    monkeypatch.setattr(pipeline, "submit", noted)
    begun.update_session(SESSION, completed_items=["scan", "fix"], summary="both")

    assert writes == [3]


# -- features ---------------------------------------------------------------------------------------------------


def test_a_feature_has_the_fields_of_the_original(auth: AegisClient) -> None:
    """And some more: what passed, why it was forced, its history."""
    feature = auth.get_feature("auth")

    assert feature.items() >= {
        "id": "auth", "feature_id": "auth", "description": "Nobody gets in", "category": "security",
        "status": "not_started", "passes": False, "test_steps": STEPS, "implemented_by": None, "verified_by": None,
        "session_id": SESSION, "namespace": "default", "passed_steps": [], "failed_steps": [],
    }.items()  # fmt: skip
    assert feature.updated_at == feature.created_at
    assert json.loads(json.dumps(feature)) == feature


def test_creating_a_feature_again_changes_nothing(auth: AegisClient) -> None:
    """A program that is started again does; another definition counts."""
    auth.update_feature("auth", passes=[STEPS[0]])
    before = count(auth)
    auth.create_feature("auth", "Nobody gets in", session_id=SESSION, category="security", test_steps=STEPS)

    assert count(auth) == before
    assert auth.create_feature("auth", session_id=SESSION).description == "Nobody gets in"
    assert count(auth) == before
    assert auth.create_feature("auth", "Other", session_id=SESSION).passed_steps == STEPS[:1]


def test_test_steps_pass_by_name_all_or_none(auth: AegisClient) -> None:
    """``passes`` is a list, as in the tutorial, or a bool, as in the original."""
    some = auth.update_feature("auth", status="in_progress", passes=[STEPS[0]], verified_by="v")
    everything = auth.update_feature("auth", passes=True, verified_by="v")
    nothing = auth.update_feature("auth", passes=False, verified_by="w", failure_reason="regression")

    assert (some.status, some.passes, some.passed_steps) == ("in_progress", False, STEPS[:1])
    assert (everything.status, everything.passes, everything.verified_by) == ("in_progress", True, "v")
    assert (nothing.status, nothing.passes, nothing.failed_steps) == ("failed", False, STEPS)
    assert nothing.failure_reason == "regression"


def test_the_same_verdict_again_appends_nothing(auth: AegisClient) -> None:
    """The tutorial says it at every start."""
    auth.update_feature("auth", status="in_progress", passes=STEPS, verified_by="v")
    before = count(auth)
    auth.update_feature("auth", status="in_progress", passes=STEPS, verified_by="v")

    assert count(auth) == before


def test_completing_is_never_refused_but_says_that_it_was_forced(auth: AegisClient) -> None:
    """The original refuses nothing; what was not verified can still be seen."""
    forced = auth.mark_feature_complete("auth", "v")
    auth.update_feature("auth", passes=True, verified_by="v")
    verified = auth.update_feature("auth", status="complete", verified_by="v")

    assert (forced.status, forced.passes, forced.forced) == ("completed", True, "aegis")
    assert (verified.status, verified.forced, verified.verified_by) == ("completed", None, "v")


def test_a_failed_feature_says_why(auth: AegisClient) -> None:
    """Also one that was complete."""
    auth.mark_feature_complete(feature_id="auth", verified_by="v")
    feature = auth.mark_feature_failed("auth", "the login leaks")

    assert (feature.status, feature.passes, feature.failure_reason) == ("failed", False, "the login leaks")
    assert auth.update_feature("auth", status="in_progress", implemented_by="fixer").implemented_by == "fixer"


def test_a_feature_without_test_steps_passes_as_a_whole(client: AegisClient) -> None:
    """There is nothing else that could."""
    client.create_feature("docs", "Written")

    assert client.update_feature("docs", passes=True, verified_by="v").status == "completed"


def test_features_are_listed_with_their_sums(auth: AegisClient) -> None:
    """A list of dicts, which also has what the original's answer has."""
    auth.create_feature("api", session_id=SESSION)
    auth.create_feature("other", session_id="another")
    auth.mark_feature_complete("auth", "v")
    auth.update_feature("api", status="in_progress")
    found = auth.list_features(session_id=SESSION)

    assert [(f["feature_id"], f["status"]) for f in found] == [("auth", "completed"), ("api", "in_progress")]
    assert (found.total, found.passing, found.failing, found.in_progress) == (2, 1, 0, 1)
    assert found.features == list(found)
    assert [f.feature_id for f in auth.list_features(status="complete")] == ["auth"]
    assert [f.feature_id for f in auth.list_features()] == ["auth", "api", "other"]


def test_a_feature_is_found_in_whatever_session_it_is(auth: AegisClient, db: Path) -> None:
    """Without a session: the one this client created, or else the newest; or that of no session."""
    auth.create_feature("loose")
    other = AegisClient(db=db)
    other.create_feature("auth", "Of another audit", session_id="audit-2026-02")
    third = AegisClient(db=db)

    assert auth.get_feature("auth").session_id == SESSION
    assert third.get_feature("auth").session_id == "audit-2026-02"
    assert third.get_feature("auth", session_id=SESSION).description == "Nobody gets in"
    assert third.get_feature("loose").session_id is None
    assert third.log.ledger("aegis").session().cursor == 0


def test_namespaces_are_kept_apart(client: AegisClient) -> None:
    """The same feature may be in several."""
    client.create_feature("auth", "one")
    client.create_feature("auth", "two", namespace="n")
    fresh = AegisClient()

    assert (fresh.get_feature("auth").description, fresh.get_feature("auth", "n").description) == ("one", "two")
    assert [f.description for f in fresh.list_features(namespace="n")] == ["two"]
    assert fresh.list_features(namespace="nobody") == []


def test_a_feature_of_a_run_is_a_feature_here(client: AegisClient) -> None:
    """Programs of both kinds may share a log."""
    from eventlog.ledger.book import Book
    from eventlog.ledger.feature import Features

    Features(Book(client.log, "r")).feature("auth", test_steps=STEPS).passed(STEPS[0])

    assert client.get_feature("auth").passed_steps == STEPS[:1]


def test_wrong_names_are_errors(auth: AegisClient) -> None:
    """A misspelt test step must not count as verified."""
    with pytest.raises(FeatureNotFoundError, match="nobody"):
        auth.get_feature("nobody")
    with pytest.raises(FeatureNotFoundError, match="auth"):
        auth.update_feature("auth", session_id="another", passes=True)
    with pytest.raises(TestStepError, match="it has: 'no injection', 'rate limit'"):
        auth.update_feature("auth", passes=["no injektion"])


# -- memory --------------------------------------------------------------------------------------------------


def test_agents_of_a_crew_find_what_others_shared(db: Path) -> None:
    """As dicts with content, metadata, score and agent_id."""
    crew = AegisCrewMemory(api_key="k", namespace="audit", default_scope="agent-shared")
    scanner, fixer = AegisAgentMemory(crew_memory=crew, agent_id="scanner"), AegisAgentMemory(crew, "fixer")
    private = AegisAgentMemory(crew, "scanner", scope="agent-private")
    scanner.save(value="SQL injection in the login", metadata={"phase": "scanning"})
    private.save("the login password is hidden")
    [found] = fixer.search(query="login vulnerabilities", limit=5)

    assert found == {
        "content": "SQL injection in the login", "score": found.score, "agent_id": "scanner",
        "metadata": {"source": "crewai", "agent_role": "scanner", "phase": "scanning"},
    }  # fmt: skip
    assert len(scanner.search("login")) == 2
    assert fixer.search("login", include_other_agents=False) == []
    assert [each.agent_id for each in crew.search("login", agent="scanner", limit=1)] == ["scanner"]
    assert len(crew.search("login")) == 1


def test_a_namespace_holds_what_was_saved_in_it(db: Path) -> None:
    """Also what is global: the original searches one namespace at a time."""
    AegisCrewMemory(namespace="one").save("a secret garden")

    assert AegisCrewMemory(namespace="two").search("garden") == []
    assert len(AegisCrewMemory(namespace="one").search("garden")) == 1


def test_a_memory_can_be_read_and_deleted(client: AegisClient) -> None:
    """By its id."""
    saved = client.add("tea is green", agent_id="a", user_id="u", namespace="n", metadata={"k": 1})
    found = client.get(saved.id)

    assert (found.content, found.agent_id, found.user_id, found.namespace) == ("tea is green", "a", "u", "n")
    assert (found.metadata, found.scope) == ({"k": 1}, "agent-shared")
    assert [client.delete(saved.id), client.delete(saved.id)] == [True, False]
    with pytest.raises(MemoryNotFoundError):
        client.get(saved.id)
    assert client.query("tea", namespace="n") == []


def test_queries_choose_by_agent_and_by_user(client: AegisClient) -> None:
    """What is about another user, or was found by another agent, is not in the answer."""
    for agent, user in (("a", "u"), ("b", "u"), ("a", "w")):
        client.add(f"tea of {agent}{user}", agent_id=agent, user_id=user)

    def found(memories: Any) -> set[str]:
        return {memory.content[-2:] for memory in memories}

    assert found(client.query("tea")) == {"au", "bu", "aw"}
    assert found(client.query("tea", user_id="u")) == {"au", "bu"}
    assert found(client.query("tea", agent_id="a", user_id="u", min_score=0.5)) == {"au"}
    assert found(client.query_cross_agent("tea", "c", target_agent_ids=["b"])) == {"bu"}
    assert len(client.query("tea", top_k=2)) == 2
