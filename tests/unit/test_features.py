"""Features: defined, verified, completed; refused as long as a test step has not passed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import eventlog
from eventlog.errors import (
    CursorNotFoundError,
    FeatureIncompleteError,
    FeatureNotFoundError,
    LogUnwritableError,
    TestStepError,
)
from eventlog.ledger.book import Book
from eventlog.ledger.events import FeatureCompleted, FeatureUpdated, FeatureVerified
from eventlog.ledger.feature import Feature, Features
from eventlog.ledger.features import FeatureInfo, FeatureStates
from eventlog.log import Log

RUN = "audit"
STEPS = ["no injection", "rate limit"]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """An empty log."""
    with eventlog.open(tmp_path / "log.db") as log:
        yield log


@pytest.fixture
def features(log: Log) -> Features:
    """The features of a run in it."""
    return Features(Book(log, RUN))


@pytest.fixture
def auth(features: Features) -> Feature:
    """A feature with two test steps."""
    return features.feature("auth", "Nobody gets in", category="security", test_steps=STEPS)


def count(log: Log) -> int:
    """Return how many events there are."""
    return len(list(log.events()))


def verdicts(info: FeatureInfo) -> list[str]:
    """Return what is known of each test step."""
    return [step.status for step in info.test_steps]


# -- definitions ----------------------------------------------------------------------------------------


def test_a_new_feature_is_not_started(auth: Feature) -> None:
    """Everything is untested, and it is known when it was defined."""
    info = auth.info

    assert (info.description, info.category, info.status) == ("Nobody gets in", "security", "not_started")
    assert [step.step for step in info.test_steps] == STEPS
    assert [change.what for change in info.history] == ["defined"]
    assert info.created_at_ns == info.updated_at_ns != 0


def test_the_same_definition_again_appends_nothing(log: Log, features: Features, auth: Feature) -> None:
    """A program that is started again says it again; also another handle, and a part of it."""
    before = count(log)
    features.feature("auth", "Nobody gets in", category="security", test_steps=STEPS)
    Features(Book(log, RUN)).feature("auth", test_steps=[*STEPS, STEPS[0]])
    features.feature("auth")

    assert count(log) == before


def test_two_processes_that_define_the_same_append_one_event(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each looked before the other one wrote."""
    first, second = Features(Book(log, RUN)), Features(Book(log, RUN))
    monkeypatch.setattr(second._states, "look", lambda view: view(FeatureStates()))
    for features in (first, second):
        features.feature("auth", "Nobody gets in", test_steps=STEPS)

    assert count(log) == 1


def test_a_feature_can_be_defined_as_it_once_was(features: Features, auth: Feature) -> None:
    """The first definition is no reason to ignore the third."""
    features.feature("auth", "Another")
    features.feature("auth", "Nobody gets in")

    assert auth.info.description == "Nobody gets in"
    assert [change.what for change in auth.info.history] == ["defined", "redefined", "redefined"]


def test_without_a_definition_it_must_be_there(features: Features) -> None:
    """A misspelt name must not become a feature that nobody tests."""
    with pytest.raises(FeatureNotFoundError, match="'auht'"):
        features.feature("auht")


def test_a_changed_definition_keeps_what_was_verified_and_drops_what_is_gone(auth: Feature, features: Features) -> None:
    """A verdict belongs to its test step."""
    auth.passed(STEPS[0], by="v")
    auth.failed(STEPS[1], by="v", reason="429 never comes")
    features.feature("auth", test_steps=["logging", STEPS[0]])

    assert [(step.step, step.status) for step in auth.info.test_steps] == [
        ("logging", "untested"), (STEPS[0], "passed"),
    ]  # fmt: skip
    assert auth.info.status == "in_progress"


def test_a_new_test_step_reopens_a_completed_feature(auth: Feature, features: Features) -> None:
    """Whoever completed it did not know of that step; fewer steps, or another text, change nothing."""
    for step in STEPS:
        auth.passed(step)
    auth.complete(by="lead")
    features.feature("auth", "Another text", test_steps=STEPS[:1])
    kept = auth.info
    features.feature("auth", test_steps=["logging", STEPS[0]])

    assert (kept.status, kept.completed_by) == ("completed", "lead")
    assert (auth.info.status, auth.info.completed_by, auth.info.missing) == ("in_progress", None, ["logging"])


def test_a_long_definition_is_read_back_whole(features: Features) -> None:
    """Long texts are stored apart from their events."""
    step = "s" * 5000
    feature = features.feature("n" * 400, "d" * 100_000, test_steps=[step])
    feature.passed(step, by="b" * 300)

    assert (feature.info.description, feature.info.test_steps[0].by) == ("d" * 100_000, "b" * 300)
    assert feature.info.missing == []


def test_a_name_with_a_secret_is_found_again(features: Features, log: Log) -> None:
    """What is stored is redacted; whoever names it the same way means the same."""
    secret = "token sk-proj-" + "a1B2c3D4e5F6" * 4
    feature = features.feature(secret, test_steps=[secret])
    features.feature(secret, test_steps=[secret]).passed(secret)
    feature.complete()

    assert "a1B2c3D4" not in feature.info.name
    assert features.info(secret).status == "completed"
    assert count(log) == 3


# -- verification --------------------------------------------------------------------------------------


def test_who_verified_what_and_when_is_on_record(auth: Feature) -> None:
    """The verdicts, and their history."""
    auth.failed(STEPS[0], by="ann", reason="quote")
    auth.passed(STEPS[0], by="bob")
    [first, *_], history = auth.info.test_steps, auth.info.history

    assert (first.status, first.by, first.reason) == ("passed", "bob", None)
    assert [(c.what, c.step, c.by, c.reason, c.status) for c in history[1:]] == [
        ("failed", STEPS[0], "ann", "quote", "failed"), ("passed", STEPS[0], "bob", None, "in_progress"),
    ]  # fmt: skip
    assert first.at_ns == history[-1].at_ns == auth.info.updated_at_ns


def test_an_unknown_test_step_is_one_clear_error(auth: Feature, log: Log) -> None:
    """It lists those there are, and nothing is appended."""
    before = count(log)

    with pytest.raises(TestStepError, match="no test step 'no injektion'; it has: 'no injection', 'rate limit'"):
        auth.passed("no injektion")
    assert count(log) == before


def test_completing_is_refused_while_a_test_step_has_not_passed(auth: Feature, log: Log) -> None:
    """No premature completion; the error names what is missing."""
    auth.passed(STEPS[0])
    before = count(log)

    with pytest.raises(FeatureIncompleteError, match="'rate limit'") as caught:
        auth.complete(by="lead")
    with pytest.raises(FeatureIncompleteError):
        auth.update(status="completed", by="lead")
    assert caught.value.missing == ["rate limit"]
    assert (count(log), auth.info.status) == (before, "in_progress")


def test_a_completed_feature_says_by_whom(auth: Feature, log: Log) -> None:
    """Completing it again appends nothing."""
    for step in STEPS:
        auth.passed(step, by="v")
    auth.complete(by="lead")
    before = count(log)
    auth.complete(by="other")

    assert (auth.info.status, auth.info.completed_by, auth.info.forced) == ("completed", "lead", None)
    assert auth.info.completed_at_ns == auth.info.updated_at_ns
    assert count(log) == before


def test_a_forced_completion_says_why(auth: Feature) -> None:
    """And loses that mark when it is completed properly."""
    auth.complete(by="lead", force="deadline")
    forced = auth.info
    for step in STEPS:
        auth.passed(step)
    auth.complete(by="v", force="not needed")

    assert (forced.status, forced.forced, forced.missing) == ("completed", "deadline", STEPS)
    assert (auth.info.forced, auth.info.completed_by) == (None, "v")


@pytest.mark.parametrize("force", [None, "hurry"])
def test_a_failure_after_completion_reopens(auth: Feature, force: str | None) -> None:
    """What does not hold any more is not delivered."""
    for step in STEPS[: 1 if force else 2]:
        auth.passed(step)
    auth.complete(force=force)
    auth.failed(STEPS[0], by="v", reason="regression")

    info = auth.info
    assert (info.status, info.completed_by, info.completed_at_ns, info.forced) == ("failed", None, None, None)


def test_a_status_holds_until_a_test_step_is_tried(auth: Feature) -> None:
    """What people say about a feature, and what is known of it."""
    auth.update(status="waiting for review", by="lead", implemented_by="fixer")
    said = auth.info
    auth.passed(STEPS[0])

    assert (said.status, said.implemented_by) == ("waiting for review", "fixer")
    assert (auth.info.status, auth.info.implemented_by) == ("in_progress", "fixer")


def test_a_feature_without_test_steps_can_be_completed(features: Features) -> None:
    """Nothing is left to verify."""
    feature = features.feature("docs", "Written")
    feature.complete(by="lead")

    assert feature.info.status == "completed"


@pytest.mark.parametrize(
    "event", [FeatureCompleted(feature="auth"), FeatureUpdated(feature="auth", status="completed")]
)
def test_a_completion_that_came_too_late_is_refused_by_the_fold(
    log: Log, auth: Feature, event: FeatureCompleted
) -> None:
    """Somebody saw a test step fail while another process completed the feature."""
    Book(log, RUN).append(event)

    assert (auth.info.status, auth.info.history[-1].what) == ("not_started", "refused")


def test_what_is_said_of_nothing_known_changes_nothing(log: Log, auth: Feature) -> None:
    """A test step that was defined away meanwhile, and a feature that was forgotten."""
    book = Book(log, RUN)
    book.append(FeatureVerified(feature="auth", step="gone", passed=False))
    book.append(FeatureVerified(feature="nobody", step="gone", passed=True))

    assert (auth.info.status, auth.info.history[-1].step) == ("not_started", "gone")
    assert [info.name for info in Features(book).features()] == ["auth"]


# -- reading --------------------------------------------------------------------------------------------


def test_features_are_filtered_and_in_order(features: Features, auth: Feature) -> None:
    """By status and by category."""
    features.feature("docs", category="text").complete()
    features.feature("api", category="security")

    def names(**wanted: str) -> list[str]:
        return [info.name for info in features.features(**wanted)]

    assert names() == ["auth", "docs", "api"]
    assert names(category="security") == ["auth", "api"]
    assert names(status="completed") == ["docs"]
    assert names(status="completed", category="security") == []


def test_features_are_there_at_any_cursor(features: Features, auth: Feature) -> None:
    """As they stood then."""
    auth.passed(STEPS[0])
    seq = auth.info.history[-1].seq
    auth.failed(STEPS[1])

    assert verdicts(features.info("auth", to=seq)) == ["passed", "untested"]
    assert [info.status for info in features.features(to=seq - 1)] == ["not_started"]
    assert features.features(status="failed", to=seq) == []
    with pytest.raises(CursorNotFoundError):
        features.features(to="9999")


def test_what_was_returned_does_not_change(auth: Feature) -> None:
    """A reader may keep it."""
    before = auth.info
    copy = msgspec.json.encode(before)
    auth.passed(STEPS[0])
    auth.info.test_steps.clear()

    assert msgspec.json.encode(before) == copy
    assert len(auth.info.test_steps) == 2


def test_a_feature_can_be_stored_as_json_and_read_back(auth: Feature) -> None:
    """The command line and other programs read it so."""
    auth.failed(STEPS[0], by="v", reason="r")

    assert msgspec.json.decode(msgspec.json.encode(auth.info), type=FeatureInfo) == auth.info


def test_a_fork_goes_its_own_way(log: Log, features: Features, auth: Feature) -> None:
    """It begins with its parent's verdicts, and the parent never sees those of the fork."""
    auth.passed(STEPS[0])
    log.fork(RUN, branch="b")
    on_fork = Features(Book(log, RUN, "b")).feature("auth", test_steps=["other"])
    features.feature("auth", test_steps=["other"])
    on_fork.passed("other")
    on_fork.complete()

    assert (on_fork.info.status, on_fork.info.test_steps[0].status) == ("completed", "passed")
    assert (auth.info.status, verdicts(auth.info)) == ("not_started", ["untested"])


def test_features_survive_compaction_and_reopening(log: Log, auth: Feature) -> None:
    """They are what a pipeline goes on with."""
    auth.passed(STEPS[0], by="v" * 300)
    log.append_many([("own.event", {"n": n}) for n in range(20)], run=RUN)
    before, events = auth.info, count(log)
    log.compact(0)
    assert count(log) < events
    with eventlog.open(log.path, readonly=True) as other:
        again = Features(Book(other, RUN))

        assert again.info("auth") == before
        assert again.feature("auth").name == "auth"
        with pytest.raises(LogUnwritableError):
            again.feature("auth").passed(STEPS[1])


def test_a_verdict_that_is_said_again_is_one(tmp_path: Path) -> None:
    """A program that is started again says it again: when it was verified stays true."""
    with eventlog.open(tmp_path / "log.db") as log:
        feature = Features(Book(log, "r")).feature("f", test_steps=["a"])
        feature.passed("a", by="ann")
        at = feature.info.step("a")
        feature.passed("a", by="ann")

        assert feature.info.step("a") == at
        feature.passed("a", by="bob")
        assert [change.by for change in feature.info.history] == [None, "ann", "bob"]
