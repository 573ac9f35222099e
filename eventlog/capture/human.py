"""What people answer: ``eventlog.human_exchange`` for task feedback, ``ask()`` and ``@human_feedback``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crewai.core.providers.human_input import SyncHumanInputProvider
from crewai.flow.async_feedback.providers import ConsoleProvider
from crewai.flow.flow import Flow
from crewai.flow.runtime import Flow as RuntimeFlow

from eventlog.capture.around import arguments, observed
from eventlog.capture.hub import hub
from eventlog.capture.patches import Patch


def patches() -> list[Patch]:
    """Wrap the questions."""
    asks = next((c for c in (Flow, RuntimeFlow) if "ask" in c.__dict__), RuntimeFlow)
    return [
        Patch(SyncHumanInputProvider, "_prompt_input", _recorded("task_feedback")),
        Patch(SyncHumanInputProvider, "_prompt_input_async", _recorded("task_feedback")),
        Patch(asks, "ask", _recorded("ask")),
        Patch(ConsoleProvider, "request_feedback", _recorded("human_feedback")),
    ]


def _recorded(kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Record the question and its answer."""

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def question(*args: Any, **kwargs: Any) -> Any:
            given = arguments(original, args, kwargs)
            shown = given.get("message") or getattr(given.get("context"), "message", None)

            def report(answer: Any, error: BaseException | None) -> None:
                fields = {"kind": kind, "message": shown, "answer": {"text": answer}, "error": error}
                hub.each(lambda r: r.append_numbered("eventlog.human_exchange", fields))

            return observed(lambda: original(*args, **kwargs), report)

        return question

    return around
