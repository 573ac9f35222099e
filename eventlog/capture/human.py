"""What people answer: ``eventlog.human_exchange`` for task feedback, ``ask()`` and ``@human_feedback``.

Whoever answers may be a class of the user's, so a provider's method is wrapped when CrewAI is about to ask it.
One that does the whole conversation itself (``handle_feedback`` of its own) shows no answer to record.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from crewai.agents.agent_executor import AgentExecutor
from crewai.core.providers.human_input import SyncHumanInputProvider, get_provider
from crewai.flow.async_feedback.providers import ConsoleProvider
from crewai.flow.flow import Flow
from crewai.flow.runtime import Flow as RuntimeFlow

from eventlog.capture.around import alone, arguments, given_back, lane_of, observed
from eventlog.capture.hub import hub
from eventlog.capture.patches import Patch, is_wrapped
from eventlog.capture.playing import player_here
from eventlog.logger import Logger

log = Logger(__name__)
PROMPTS = ("_prompt_input", "_prompt_input_async")
FEEDBACK = "request_feedback"
asking: ContextVar[bool] = ContextVar("eventlog_asking", default=False)
"""Set while a question is open: a provider that asks through its base class asks once."""


def patches() -> list[Patch]:
    """Wrap the questions, and the moments just before a provider is asked one."""
    flow = next((c for c in (Flow, RuntimeFlow) if "ask" in c.__dict__), RuntimeFlow)
    return [
        *(Patch(SyncHumanInputProvider, name, _recorded("task_feedback")) for name in PROMPTS),
        Patch(AgentExecutor, "_handle_human_feedback", _before_task_feedback),
        Patch(AgentExecutor, "_ahandle_human_feedback", _before_task_feedback),
        Patch(flow, "ask", _recorded("ask")),
        Patch(flow, "_request_human_feedback", _recorded("human_feedback")),
        Patch(flow, "_resolve_feedback_provider", _with_recorded_feedback),
        Patch(ConsoleProvider, FEEDBACK, _recorded("human_feedback")),
    ]


def _before_task_feedback(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the prompts of the provider that is asked now."""

    def handle(*args: Any, **kwargs: Any) -> Any:
        _wrap(get_provider(), PROMPTS, "task_feedback")
        return original(*args, **kwargs)

    return handle


def _with_recorded_feedback(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the provider that a flow is about to ask."""

    def resolve(*args: Any, **kwargs: Any) -> Any:
        provider = original(*args, **kwargs)
        _wrap(provider, (FEEDBACK,), "human_feedback")
        return provider

    return resolve


def _wrap(provider: Any, names: tuple[str, ...], kind: str) -> None:
    """Wrap methods where a provider's class or one of its bases defines them; a second time does nothing."""
    for name in names:
        try:
            owner = next((cls for cls in type(provider).__mro__ if name in cls.__dict__), None)
            if owner is not None and not is_wrapped(owner, name):
                hub.patch(Patch(owner, name, _recorded(kind)))
        except Exception as error:  # an odd class of the user's must still be asked
            log.warning("boundary_unavailable", method=f"{type(provider).__name__}.{name}", error=repr(error))


def reviewed_output(given: dict[str, Any]) -> Any:
    """Return what a person is asked to review: a method's own result, which no event of CrewAI holds."""
    context = given.get("context")
    return {"value": getattr(context, "method_output", None) if context is not None else given.get("output")}


def _recorded(kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Record the question and its answer."""

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def question(*args: Any, **kwargs: Any) -> Any:
            if asking.get():
                return original(*args, **kwargs)
            given = arguments(original, args, kwargs)
            shown = given.get("message") or getattr(given.get("context"), "message", None)
            player = player_here()
            if player is not None:
                served = player.human(lane_of(player), kind, shown, given)
                if served is not None:
                    return given_back(served, original)
            reviewed = {"output": reviewed_output(given)} if kind == "human_feedback" else {}

            def report(answer: Any, error: BaseException | None) -> None:
                fields = {"kind": kind, "message": shown, "answer": {"text": answer}, "error": error, **reviewed}
                hub.each(lambda r: r.append_numbered("eventlog.human_exchange", fields))

            return observed(lambda: alone(asking, lambda: original(*args, **kwargs)), report)

        return question

    return around
