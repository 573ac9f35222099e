"""Folds calls of models and tools into counts. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.record import StoredEvent
from eventlog.replay.folding import Folding, Step, as_text, reading
from eventlog.replay.path import last_segment
from eventlog.replay.state import ModelUse, ToolUse
from eventlog.replay.tokens import Tokens, add, read_usage


class LlmCall(msgspec.Struct):
    """Of ``llm_call_completed``."""

    model: Any = None
    usage: Any = None


class LlmExchange(msgspec.Struct):
    """Of ``eventlog.llm_exchange``."""

    model: Any = None
    usage: Any = None
    completed: Any = None
    failed: Any = None
    """Id of the event by which the model itself told of the answer, or of the failure."""
    error: Any = None


class ToolCall(msgspec.Struct):
    """Of ``tool_usage_finished`` and ``tool_usage_error``."""

    tool_name: Any = None
    failure: Any = None


class ToolExchange(msgspec.Struct):
    """Of ``eventlog.tool_exchange``."""

    tool: Any = None
    finished: Any = None
    error: Any = None


def _llm_completed(work: Folding, _event: StoredEvent, payload: LlmCall) -> None:
    """A model answered."""
    _count_call(work, as_text(payload.model), read_usage(payload.usage))


def _llm_failed(work: Folding, _event: StoredEvent) -> None:
    """A model's call raised."""
    work.state.llm.failed += 1


def _llm_exchanged(work: Folding, event: StoredEvent, payload: LlmExchange) -> None:
    """A model was called; counted here only when the model emitted no event of its own."""
    if payload.completed is not None or payload.failed is not None:
        return
    if payload.error is not None:
        _llm_failed(work, event)
    else:
        _count_call(work, as_text(payload.model), read_usage(payload.usage))


def _count_call(work: Folding, model: str, tokens: Tokens) -> None:
    """Add one answered call to the sums."""
    llm = work.state.llm
    for use in (llm, llm.by_model.setdefault(model, ModelUse())):
        use.calls += 1
        use.prompt_tokens = add(use.prompt_tokens, tokens.prompt)
        use.completion_tokens = add(use.completion_tokens, tokens.completion)
        use.total_tokens = add(use.total_tokens, tokens.total)


def _tool_finished(work: Folding, _event: StoredEvent, payload: ToolCall) -> None:
    """A tool returned; it may have reported that it failed."""
    _count_tool(work, as_text(payload.tool_name), failed=payload.failure is not None)


def _tool_raised(work: Folding, _event: StoredEvent, payload: ToolCall) -> None:
    """A tool raised."""
    _count_tool(work, as_text(payload.tool_name), failed=True)


def _tool_exchanged(work: Folding, event: StoredEvent, payload: ToolExchange) -> None:
    """A tool was run; counted here only outside a tool's scope, whose end CrewAI reports later."""
    if payload.finished is None and not last_segment(event.path).startswith("tool["):
        _count_tool(work, as_text(payload.tool), failed=payload.error is not None)


def _count_tool(work: Folding, name: str, *, failed: bool) -> None:
    """Add one use of a tool."""
    row = work.tools.get(name)
    if row is None:
        row = work.tools[name] = ToolUse(name=name)
        work.state.tools.append(row)
    row.calls += 1
    row.errors += failed


STEPS: dict[str, Step] = {
    "llm_call_completed": reading(LlmCall, _llm_completed),
    "llm_call_failed": _llm_failed,
    "eventlog.llm_exchange": reading(LlmExchange, _llm_exchanged),
    "tool_usage_finished": reading(ToolCall, _tool_finished),
    "tool_usage_error": reading(ToolCall, _tool_raised),
    "eventlog.tool_exchange": reading(ToolExchange, _tool_exchanged),
}
