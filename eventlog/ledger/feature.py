"""Features of one branch of a run: defined, verified and completed; each of it an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from eventlog.errors import FeatureIncompleteError, FeatureNotFoundError, TestStepError
from eventlog.ledger import events as ev
from eventlog.ledger.book import Book, Follower
from eventlog.ledger.features import (
    COMPLETED,
    FEATURE_TYPES,
    FeatureInfo,
    FeatureStates,
    apply,
    chosen,
    copy_of,
    is_defined_as,
)

V = TypeVar("V")


class Features:
    """What is to be delivered on one branch of a run."""

    def __init__(self, book: Book) -> None:
        """Nothing is appended before a feature is defined."""
        self._book = book
        self._states = Follower(book, FEATURE_TYPES, FeatureStates, apply)

    def feature(
        self, name: str, description: str | None = None, category: str | None = None,
        test_steps: Iterable[str] | None = None, *, namespace: str | None = None,
    ) -> Feature:  # fmt: skip
        """Return a feature, defined as given; what is not given stays as it is.

        The same definition again appends nothing. A changed one keeps the verdicts of test steps that are still
        there, and reopens a completed feature that got a new one.

        Raises:
            FeatureNotFoundError: nothing of a definition was given, and there is none.
            AppendError: it could not be stored; nothing of it is in the log.
        """
        given = (description, category, test_steps, namespace)
        if all(part is None for part in given):
            return Feature(self, self.info(name).name)
        name = self.stored(name)
        was, after = self._states.look(lambda states: _known(states, name))
        told = self._definition(was or FeatureInfo(name=name), *given)
        if was is None or not is_defined_as(was, told):
            self.append(told, self._definition_id(told, after))
        return Feature(self, name)

    def features(
        self, status: str | None = None, category: str | None = None, to: str | int | None = None
    ) -> list[FeatureInfo]:
        """Return the features of a status and a category (``None``: of any) at a cursor, as they were defined.

        Raises:
            NotFoundError, AmbiguousCursorError: the cursor means nothing, or too much.
        """
        return self._look(to, lambda states: chosen(states, status, category))

    def info(self, name: str, to: str | int | None = None) -> FeatureInfo:
        """Return one feature at a cursor.

        Raises:
            FeatureNotFoundError: nobody defined it.
            NotFoundError, AmbiguousCursorError: the cursor means nothing, or too much.
        """
        found = self._look(to, lambda states: _known(states, self.stored(name))[0])
        if found is None:
            raise FeatureNotFoundError(name)
        return found

    def __contains__(self, name: str) -> bool:
        """Whether a feature of that name is defined."""
        return self._look(None, lambda states: self.stored(name) in states.features)

    def append(self, event: ev.WorkEvent, event_id: str | None = None) -> None:
        """Append an event of a feature; it is committed when this returns."""
        self._book.append(event, event_id)

    def stored(self, text: str) -> str:
        """Return a name as it is stored: without secrets."""
        return self._book.clean(text)

    def _look(self, to: str | int | None, view: Callable[[FeatureStates], V]) -> V:
        """Return what ``view`` sees of the state at a cursor; without one, now."""
        return self._states.look(view) if to is None else view(self._states.at(self._book.cursor(to)))

    def _definition(
        self, was: FeatureInfo, description: str | None, category: str | None, test_steps: Iterable[str] | None,
        namespace: str | None,
    ) -> ev.FeatureDefined:  # fmt: skip
        """Return a definition in which what is not given is as it was."""
        steps = [step.step for step in was.test_steps] if test_steps is None else map(self.stored, test_steps)
        return ev.FeatureDefined(
            feature=was.name,
            description=was.description if description is None else self.stored(description),
            category=was.category if category is None else self.stored(category),
            test_steps=list(dict.fromkeys(steps)),
            namespace=was.namespace if namespace is None else self.stored(namespace),
        )

    def _definition_id(self, told: ev.FeatureDefined, after: int) -> str:
        """Return an event id: two that define the same after the same definition append one event."""
        said: list[Any] = [self._book.branch, after, told]
        return "feature-" + blake2b(msgspec.json.encode(said), digest_size=16).hexdigest()


def _known(states: FeatureStates, name: str) -> tuple[FeatureInfo | None, int]:
    """Return a feature, as it stands, and where it was defined last; nothing and 0 when nobody has."""
    found = states.features.get(name)
    return (None, 0) if found is None else (copy_of(found), states.defined_seq.get(name, 0))


class Feature:
    """One feature: what was verified of it is appended here."""

    def __init__(self, features: Features, name: str) -> None:
        """Use ``Features.feature``."""
        self._features, self.name = features, name

    @property
    def info(self) -> FeatureInfo:
        """The feature as it stands now."""
        return self._features.info(self.name)

    def passed(self, step: str, by: str | None = None) -> None:
        """Record that a test step holds.

        Raises:
            TestStepError: the feature has no such test step.
            AppendError: it could not be stored.
        """
        self._verify(step, passed=True, by=by, reason=None)

    def failed(self, step: str, by: str | None = None, reason: str | None = None) -> None:
        """Record that a test step does not hold; a feature that was completed is so no more.

        Raises:
            TestStepError: the feature has no such test step.
            AppendError: it could not be stored.
        """
        self._verify(step, passed=False, by=by, reason=reason)

    def complete(self, by: str | None = None, force: str | None = None) -> None:
        """Record that the feature is delivered; one that is completed already stays as it is.

        ``force`` says why a test step that has not passed does not matter.

        Raises:
            FeatureIncompleteError: a test step has not passed, and nobody says why that does not matter.
            AppendError: it could not be stored.
        """
        info = self.info
        if info.missing and not force:
            raise FeatureIncompleteError(self.name, info.missing)
        if info.status == COMPLETED and (info.forced is None or info.missing):
            return
        self._features.append(ev.FeatureCompleted(feature=self.name, by=by, forced=force if info.missing else None))
        now = self.info
        if now.missing and now.status != COMPLETED:  # another process was quicker
            raise FeatureIncompleteError(self.name, now.missing)

    def update(
        self, *, status: str | None = None, by: str | None = None, implemented_by: str | None = None,
        reason: str | None = None,
    ) -> None:  # fmt: skip
        """Record what is said about the feature; the status holds until a test step is tried or it is completed.

        Raises:
            FeatureIncompleteError: the status says completed, and a test step has not passed.
            AppendError: it could not be stored.
        """
        missing = self.info.missing
        if status == COMPLETED and missing:
            raise FeatureIncompleteError(self.name, missing)
        self._features.append(
            ev.FeatureUpdated(feature=self.name, status=status, by=by, reason=reason, implemented_by=implemented_by)
        )

    def _verify(self, step: str, *, passed: bool, by: str | None, reason: str | None) -> None:
        """Append a verdict on one test step."""
        stored, info = self._features.stored(step), self.info
        known = info.step(stored)
        if known is None:
            raise TestStepError(self.name, step, [each.step for each in info.test_steps])
        if (known.status, known.by, known.reason) == ("passed" if passed else "failed", by, reason):
            return  # a program that is started again says it again
        self._features.append(ev.FeatureVerified(feature=self.name, step=stored, passed=passed, by=by, reason=reason))
