"""What a script consists of, and how each answer is written in the form an LLM speaks. No CrewAI."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Union

from pydantic import BaseModel

from eventlog.errors import EventLogError

Message = dict[str, Any]
"""Role, content, name, tool_calls and tool_call_id of a message, as plain JSON."""


class ScriptError(EventLogError):
    """The script has an answer that cannot be given to this request."""

    hint = "compare the script with llm.calls, which shows what was asked"


class ScriptExhaustedError(ScriptError):
    """The LLM was called more often than its script has answers."""

    hint = "give the script one answer per call; llm.calls shows what was asked"


@dataclass(frozen=True)
class ToolCall:
    """Ask CrewAI to run a tool; see ``tool_call``."""

    name: str
    args: dict[str, Any]


@dataclass(frozen=True)
class Final:
    """Finish with a text; see ``final``."""

    text: str


def tool_call(name: str, /, **args: Any) -> ToolCall:
    """Return an answer that calls tool ``name``, in the form the LLM speaks: ReAct text or native."""
    return ToolCall(name, args)


def final(text: str) -> Final:
    """Return an answer that finishes the task, in the form the LLM speaks: ReAct text or native."""
    return Final(text)


@dataclass
class Call:
    """One request as the LLM saw it, and what came of it."""

    messages: list[Message]
    """Frozen at the call: CrewAI appends to its own list later."""
    tools: dict[str, dict[str, Any]]
    """Name to JSON schema of the arguments, whether sent natively or written into the prompt."""
    agent: str | None
    """Role of the asking agent."""
    task: str | None
    """Name of the task asked for, else its description."""
    response_model: type[BaseModel] | None
    number: int = 0
    """Place among all calls of the LLM and its copies, from 0."""
    answer: Any = None
    """What the LLM returned, or the exception it raised; ``None`` while it runs."""


Answer = Union[str, dict[str, Any], BaseModel, Final, ToolCall, "list[ToolCall]", BaseException, type[BaseException]]
"""Text exactly as it is, a structured answer, ``final``, ``tool_call`` or several, or what to raise."""

Responder = Callable[[list[Message], list[str]], Answer]
"""Given the messages and the names of the tools, an answer."""

Script = Union["Sequence[Answer | Responder]", Responder]
"""One answer per call in the order of the calls, or one function that answers them all."""


def is_error(answer: object) -> bool:
    """Whether the answer is to be raised."""
    return isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException))


def is_responder(answer: object) -> bool:
    """Whether the answer is a function that gives one; exception classes are callable too."""
    return callable(answer) and not is_error(answer)


def render(answer: Answer, call: Call, *, native: bool, call_id: str) -> Any:
    """Return what an LLM would return to CrewAI for this answer.

    Raises:
        ScriptError: if the answer has no such form.
        pydantic.ValidationError: if it does not fit the response model that was asked for.
    """
    calls = [answer] if isinstance(answer, ToolCall) else answer
    if isinstance(calls, list):
        return native_form(calls, call_id) if native else react_form(calls)
    if call.response_model is not None:
        return structured(calls, call.response_model)
    if isinstance(calls, Final):
        return calls.text if native or call.agent is None else react_final(calls.text)
    if isinstance(calls, (str, BaseModel)):
        return calls
    raise ScriptError(f"{calls!r} is no answer to a request for text")


def native_form(calls: list[ToolCall], call_id: str) -> list[dict[str, Any]]:
    """Return the calls as OpenAI writes them."""
    return [
        {
            "id": f"{call_id}_{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.args)},
        }
        for index, call in enumerate(calls)
    ]


def react_form(calls: list[ToolCall]) -> str:
    """Return the call as the text CrewAI parses; ReAct has room for one."""
    if len(calls) != 1:
        raise ScriptError(f"{len(calls)} tool calls in one answer need native=True")
    return f"Thought: I need {calls[0].name}\nAction: {calls[0].name}\nAction Input: {json.dumps(calls[0].args)}"


def react_final(text: str) -> str:
    """Return the last answer as the text CrewAI parses."""
    return f"Thought: I now can give a great answer\nFinal Answer: {text}"


def structured(answer: Any, model: type[BaseModel]) -> BaseModel:
    """Return the answer as an instance of the model that was asked for."""
    if isinstance(answer, model):
        return answer
    if isinstance(answer, (str, Final)):
        return model.model_validate_json(answer if isinstance(answer, str) else answer.text)
    return model.model_validate(answer)
