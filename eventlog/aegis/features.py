"""Features: what was to be delivered. Those of a session stand in its run, others in the run ``aegis``."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from eventlog.aegis.answers import DEFAULT_NAMESPACE, Answer, FeatureList, feature_answer
from eventlog.aegis.logs import OnLog
from eventlog.errors import FeatureNotFoundError
from eventlog.ledger.book import Book
from eventlog.ledger.events import with_texts
from eventlog.ledger.feature import Feature, Features
from eventlog.ledger.features import COMPLETED, FEATURE_TYPES, FeatureInfo, FeatureStates, apply
from eventlog.lineage import steadily
from eventlog.log import Log
from eventlog.record import MAIN_BRANCH

RUN = "aegis"
"""Where everything stands that belongs to no session."""
REASON = "aegis"
"""Why a feature is completed though a test step has not passed: these methods know no refusal."""


class AllFeatures:
    """The features of all runs of a log, each event folded once: whoever names a feature need not name its session."""

    def __init__(self, log: Log) -> None:
        """Nothing is read yet."""
        self._log, self._seq = log, 0
        self._states: dict[str, FeatureStates] = {}
        self._lock = threading.RLock()

    def found(self, namespace: str) -> list[tuple[str, FeatureInfo]]:
        """Return the features of a namespace with their runs, in the order they were defined first."""
        with self._lock:
            steadily(self._catch_up)
            pairs = [(run, info) for run, state in self._states.items() for info in state.features.values()]
        here = [pair for pair in pairs if (pair[1].namespace or DEFAULT_NAMESPACE) == namespace]
        return sorted(here, key=lambda pair: pair[1].history[0].seq)

    def _catch_up(self) -> None:
        """Fold what came since."""
        reader = self._log.reader
        for event in reader.stored(None, after=self._seq, types=FEATURE_TYPES, kept=True):
            if event.run and event.branch == MAIN_BRANCH:
                apply(self._states.setdefault(event.run, FeatureStates()), with_texts(event, reader.content))
            self._seq = event.seq


class FeatureMethods(OnLog):
    """What a client says about features, and asks."""

    def __init__(self, log: Log) -> None:
        """Nothing is read or written before it is asked for."""
        super().__init__(log)
        self._all = AllFeatures(log)
        self._homes: dict[tuple[str, str], str] = {}
        """Feature and namespace → the run in which this client has it."""
        self._by_run: dict[str, Features] = {}

    def create_feature(
        self, feature_id: str, description: str | None = None, *, session_id: str | None = None,
        namespace: str = DEFAULT_NAMESPACE, category: str | None = None, test_steps: Iterable[str] | None = None,
    ) -> Answer:  # fmt: skip
        """Return a feature, defined as given; what is not given stays, and the same again changes nothing.

        Raises:
            AppendError: it could not be stored; nothing of it is in the log.
        """
        run = self._run_of(session_id, namespace)
        self._homes[feature_id, namespace] = run
        kept = None if namespace == DEFAULT_NAMESPACE else namespace
        features = self._of(run)
        text = "" if description is None and feature_id not in features else description
        features.feature(feature_id, text, category, test_steps, namespace=kept)
        return self._answer(run, feature_id)

    def get_feature(
        self, feature_id: str, namespace: str = DEFAULT_NAMESPACE, *, session_id: str | None = None
    ) -> Answer:
        """Return a feature.

        Without ``session_id`` it is the one this client created, or else the newest of that name.

        Raises:
            FeatureNotFoundError: there is none.
        """
        return self._answer(self._home(feature_id, namespace, session_id), feature_id)

    def update_feature(
        self, feature_id: str, *, namespace: str = DEFAULT_NAMESPACE, session_id: str | None = None,
        status: str | None = None, passes: bool | Iterable[str] | None = None, implemented_by: str | None = None,
        verified_by: str | None = None, implementation_notes: str | None = None, failure_reason: str | None = None,
    ) -> Answer:  # fmt: skip
        """Return a feature after what is given has changed.

        ``passes`` names the test steps that have passed; ``True`` means all of them, ``False`` that none has.
        Completing it is never refused: ``forced`` then tells that a test step had not passed.

        Raises:
            FeatureNotFoundError: there is none.
            TestStepError: it has no such test step.
            AppendError: something could not be stored.
        """
        run = self._home(feature_id, namespace, session_id)
        feature = self._of(run).feature(feature_id)
        is_done = status in (COMPLETED, "complete") or (passes is True and not feature.info.test_steps)
        if passes is not None:
            _verify(feature, passes, verified_by, failure_reason)
        said = None if is_done or status == feature.info.status else status
        reason = failure_reason or implementation_notes
        if said or implemented_by or reason:
            feature.update(status=said, by=verified_by, implemented_by=implemented_by, reason=reason)
        if is_done:
            feature.complete(by=verified_by, force=REASON)
        return self._answer(run, feature_id)

    def mark_feature_complete(
        self, feature_id: str, verified_by: str | None = None, *, namespace: str = DEFAULT_NAMESPACE,
        session_id: str | None = None, notes: str | None = None,
    ) -> Answer:  # fmt: skip
        """Return a feature that is completed; ``forced`` tells when a test step had not passed.

        Raises:
            FeatureNotFoundError: there is none.
            AppendError: it could not be stored.
        """
        return self.update_feature(
            feature_id, namespace=namespace, session_id=session_id, status=COMPLETED, verified_by=verified_by,
            implementation_notes=notes,
        )  # fmt: skip

    def mark_feature_failed(
        self, feature_id: str, reason: str | None = None, *, namespace: str = DEFAULT_NAMESPACE,
        session_id: str | None = None,
    ) -> Answer:  # fmt: skip
        """Return a feature that has failed; what is known of its test steps stays.

        Raises:
            FeatureNotFoundError: there is none.
            AppendError: it could not be stored.
        """
        return self.update_feature(
            feature_id, namespace=namespace, session_id=session_id, status="failed", failure_reason=reason
        )

    def list_features(
        self, *, namespace: str = DEFAULT_NAMESPACE, session_id: str | None = None, status: str | None = None
    ) -> FeatureList:
        """Return the features of a session (``None``: of all) and a status, in the order they were created."""
        run = None if session_id is None else self.log.clean_name(session_id)
        wanted = COMPLETED if status == "complete" else status
        return FeatureList(
            feature_answer(info, _session_of(where))
            for where, info in self._all.found(namespace)
            if run in (None, where) and wanted in (None, info.status)
        )

    def _answer(self, run: str, feature_id: str) -> Answer:
        """Return a feature as it stands now."""
        return feature_answer(self._of(run).info(feature_id), _session_of(run))

    def _home(self, feature_id: str, namespace: str, session_id: str | None) -> str:
        """Return the run that a feature is meant to be in."""
        if session_id is not None:
            return self._run_of(session_id, namespace)
        known = self._homes.get((feature_id, namespace))
        return known or next(self._runs_with(feature_id, namespace), None) or _missing(feature_id)

    def _runs_with(self, feature_id: str, namespace: str) -> Iterator[str]:
        """Yield the runs that have a feature of that name, newest first."""
        name = self.log.clean_name(feature_id)
        return (run for run, info in reversed(self._all.found(namespace)) if info.name == name)

    def _run_of(self, session_id: str | None, namespace: str) -> str:
        """Return the run of a session, or that of what belongs to none."""
        if session_id:
            return self.log.clean_name(session_id)
        return RUN if namespace == DEFAULT_NAMESPACE else self.log.clean_name(f"{RUN}/{namespace}")

    def _of(self, run: str) -> Features:
        """Return the features of a run."""
        return self._by_run.setdefault(run, Features(Book(self.log, run)))


def _verify(feature: Feature, passes: bool | Iterable[str], by: str | None, reason: str | None) -> None:
    """Record which test steps have passed; what is on record from the same person already is not said again."""
    info = feature.info
    if passes is False:
        for step in info.test_steps:
            feature.failed(step.step, by=by, reason=reason)
        return
    names = [step.step for step in info.test_steps] if passes is True else _names(passes)
    said = {step.step for step in info.test_steps if step.status == "passed" and by in (None, step.by)}
    for name in names:
        if name not in said:
            feature.passed(name, by=by)


def _names(passes: bool | Iterable[str]) -> list[str]:
    """Return the test steps that are named; one alone may be a text."""
    return [passes] if isinstance(passes, str) else list(passes) if not isinstance(passes, bool) else []


def _session_of(run: str) -> str | None:
    """Return the session that a run is, if it is one."""
    return None if run == RUN or run.startswith(f"{RUN}/") else run


def _missing(feature_id: str) -> str:
    raise FeatureNotFoundError(feature_id)
