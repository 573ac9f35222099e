"""A feature as a page for people. Pure."""

from __future__ import annotations

from eventlog.cli.output import Block, Facts, Table
from eventlog.cli.text import moment, one_line
from eventlog.ledger.features import Change, FeatureInfo, TestStep

MARKS = {"passed": "✓", "failed": "✗", "untested": "·"}


def feature_page(run: str, info: FeatureInfo) -> list[Block]:
    """Return the page."""
    return [
        Facts([(name, value) for name, value in _facts(run, info) if value]),
        Table("test steps", ("", "test step", "status", "by", "time", "reason"), list(map(_step_row, info.test_steps))),
        Table(
            "history", ("event", "time", "what", "test step", "by", "reason", "status"),
            list(map(_change_row, info.history)), right=("event",),
        ),
    ]  # fmt: skip


def list_row(run: str, info: FeatureInfo) -> tuple[str, ...]:
    """Return a feature as a row of a list."""
    by = info.completed_by or ", ".join(dict.fromkeys(step.by for step in info.test_steps if step.by))
    name, category = one_line(info.name, 40), one_line(info.category, 20)
    return run, name, info.status, passed(info), category, one_line(by, 30), moment(info.updated_at_ns)[:19]


def passed(info: FeatureInfo) -> str:
    """Return how many of the test steps have passed."""
    return f"{len(info.test_steps) - len(info.missing)} of {len(info.test_steps)}"


def _facts(run: str, info: FeatureInfo) -> list[tuple[str, str]]:
    """Return what a person looks for first."""
    completed = (info.completed_by or "", moment(info.completed_at_ns)[:19])
    return [
        ("feature", info.name),
        ("run", run),
        ("status", info.status),
        ("category", info.category or ""),
        ("description", info.description),
        ("passed", passed(info)),
        ("completed", " · ".join(filter(None, completed))),
        ("forced", info.forced or ""),
        ("implemented", info.implemented_by or ""),
        ("defined", moment(info.created_at_ns)[:19]),
        ("updated", moment(info.updated_at_ns)[:19]),
    ]


def _step_row(step: TestStep) -> tuple[str, ...]:
    """Return one test step."""
    at, reason = moment(step.at_ns)[:19], one_line(step.reason, 60)
    return MARKS[step.status], one_line(step.step, 60), step.status, step.by or "", at, reason


def _change_row(change: Change) -> tuple[str, ...]:
    """Return one thing that was said."""
    step, reason = one_line(change.step, 40), one_line(change.reason, 40)
    at = moment(change.at_ns)[:19]
    return str(change.seq), at, change.what, step, change.by or "", reason, change.status
