"""What the methods return: dicts whose fields are attributes as well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from eventlog.ledger.features import COMPLETED, FeatureInfo
from eventlog.ledger.session import Session
from eventlog.replay.state import iso_utc

DEFAULT_NAMESPACE = "default"


class Answer(dict[str, Any]):
    """A dict; ``answer.status`` is ``answer["status"]``."""

    def __getattr__(self, name: str) -> Any:
        """Return a field."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class FeatureList(list[Answer]):
    """Features, and how many of them are how far."""

    @property
    def features(self) -> list[Answer]:
        """The features as a plain list."""
        return list(self)

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self)

    @property
    def passing(self) -> int:
        """How many are verified."""
        return sum(feature["passes"] for feature in self)

    @property
    def failing(self) -> int:
        """How many have failed."""
        return self._having("failed")

    @property
    def in_progress(self) -> int:
        """How many are being worked on."""
        return self._having("in_progress")

    def _having(self, status: str) -> int:
        return sum(feature["status"] == status for feature in self)


def session_answer(found: Session) -> Answer:
    """Return a session."""
    done, total = len(found.completed_items), found.total_items
    return Answer(
        id=found.run,
        session_id=found.run,
        status=found.status,
        completed_items=found.completed_items,
        completed_count=done,
        total_items=total,
        progress_percent=round(100 * done / total, 1) if total else 0.0,
        in_progress_item=found.in_progress_item,
        next_items=found.next_items,
        blocked_items=[{"item": name, "reason": found.item(name).blocked or ""} for name in found.blocked_items],
        summary=found.summary,
        last_action=found.last_action,
        agent_id=found.agent,
        created_at=_iso(found.created_at_ns),
        updated_at=_iso(found.updated_at_ns),
    )


def feature_answer(found: FeatureInfo, session_id: str | None) -> Answer:
    """Return a feature of a session, or of none."""
    return Answer(
        id=found.name,
        feature_id=found.name,
        description=found.description,
        category=found.category,
        status=found.status,
        passes=passes(found),
        test_steps=[step.step for step in found.test_steps],
        passed_steps=[step.step for step in found.test_steps if step.status == "passed"],
        failed_steps=[step.step for step in found.test_steps if step.status == "failed"],
        implemented_by=found.implemented_by,
        verified_by=_verifier(found),
        failure_reason=_failure(found),
        forced=found.forced,
        session_id=session_id,
        namespace=found.namespace or DEFAULT_NAMESPACE,
        history=msgspec.to_builtins(found.history),
        created_at=_iso(found.created_at_ns),
        updated_at=_iso(found.updated_at_ns),
    )


def passes(found: FeatureInfo) -> bool:
    """Whether a feature is verified: completed, or all that is to be tested has passed."""
    return found.status == COMPLETED or (bool(found.test_steps) and not found.missing and found.status != "failed")


def _verifier(found: FeatureInfo) -> str | None:
    """Return who completed a feature, or who saw a test step pass last."""
    tried = [(step.at_ns or 0, step.by) for step in found.test_steps if step.status == "passed" and step.by]
    return found.completed_by or (max(tried)[1] if tried else None)


def _failure(found: FeatureInfo) -> str | None:
    """Return why a feature that failed has."""
    if found.status != "failed":
        return None
    return next((change.reason for change in reversed(found.history) if change.reason), None)


def blocked(items: Any) -> dict[str, str]:
    """Return blocked items with their reasons; they come as names, as dicts, or as a mapping."""
    if isinstance(items, dict):
        return {str(item): str(reason or "") for item, reason in items.items()}
    return dict(_blocked_pairs(items))


def _blocked_pairs(items: Iterable[Any]) -> Iterable[tuple[str, str]]:
    """Yield name and reason of each blocked item."""
    for item in items:
        if not isinstance(item, dict):
            yield str(item), ""
            continue
        named = [item[key] for key in ("item", "name", "id") if key in item]
        yield str(named[0] if named else item), str(item.get("reason") or "")


def _iso(at_ns: int | None) -> str | None:
    return None if at_ns is None else iso_utc(at_ns)
