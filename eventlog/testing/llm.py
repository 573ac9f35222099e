"""``ScriptedLLM``: a real ``crewai.BaseLLM`` without a network."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from crewai import BaseLLM
from crewai.events.types.llm_events import LLMCallType
from crewai.hooks.dispatch import HookAborted
from crewai.llms.base_llm import LLMCallBlockedError, llm_call_context
from pydantic import BaseModel, Field, PrivateAttr, model_validator

from eventlog.testing.answers import Call, ScriptExhaustedError, is_error, is_responder, render
from eventlog.testing.echo import digest, echo, freeze
from eventlog.testing.session import Request, Session

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
"""Tokens every call claims to have used, unless told otherwise."""

CONTEXT_WINDOW_TOKENS = 1_000_000
"""Large enough that CrewAI never summarises a conversation behind a test's back."""


class ScriptedLLM(BaseLLM):
    """A CrewAI LLM that answers from a script; any number of threads may call it.

    >>> from crewai import Agent, Crew, Task
    >>> from crewai.tools import tool
    >>> from eventlog.testing import ScriptedLLM, final, tool_call
    >>> @tool
    ... def lookup(q: str) -> str:
    ...     "Look up a fact."
    ...     return f"{q} is green"
    >>> llm = ScriptedLLM(script=[tool_call("lookup", q="tea"), final("Tea is green.")])
    >>> agent = Agent(role="Taster", goal="Taste", backstory="Old", llm=llm, tools=[lookup])
    >>> task = Task(description="What colour is tea?", expected_output="A sentence", agent=agent)
    >>> Crew(agents=[agent], tasks=[task]).kickoff().raw
    'Tea is green.'
    >>> [call.agent for call in llm.calls]
    ['Taster', 'Taster']

    Without a script it echoes: its answer is a digest of every message it saw, so equal outputs mean equal
    prompts. The answers of a list are given in the order of the calls: where agents work at the same time,
    give each its own LLM, a function as script, or no script.
    """

    model: str = "scripted"
    script: Any = Field(default=None, exclude=True, repr=False)
    """A ``Script``; ``None`` echoes."""
    native: bool = False
    """Speak native function calling instead of ReAct text."""
    tool_rounds: int = 0
    """When echoing: call the first tool this many times per task before answering."""
    chunks: int = 4
    """Pieces a text is streamed in when streaming is on (``stream=True``, or ``Crew(stream=True)``)."""
    delay: float = 0.0
    """Seconds each call takes."""
    usage: dict[str, int] = USAGE
    """Tokens each call claims to have used; empty: none are reported."""
    silent: bool = False
    """Emit no events, as many LLMs written by users do."""
    _session: Session = PrivateAttr(default_factory=Session)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_options(cls, data: dict[str, Any]) -> dict[str, Any]:
        """A typo must not vanish in ``additional_params``, where ``BaseLLM`` puts what it does not know."""
        unknown = set(data) - set(cls.model_fields) - {"stop_sequences"}
        if unknown:
            raise ValueError(f"ScriptedLLM has no option {', '.join(sorted(unknown))}")
        return {"model": "scripted", **data}  # the base class asks for one before it looks at defaults

    @property
    def calls(self) -> list[Call]:
        """All calls so far, those of copies included, in the order they began."""
        with self._session.lock:
            return list(self._session.calls)

    @property
    def token_counts(self) -> int:
        """How often CrewAI asked for a token count: a boundary no event tells of."""
        return self._session.token_counts

    def call(
        self,
        messages: Any,
        tools: list[dict[str, Any]] | None = None,
        callbacks: list[Any] | None = None,
        available_functions: dict[str, Any] | None = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """Return the next answer after ``delay`` seconds, or raise what the script says."""
        request = Request(messages, tools, callbacks, available_functions, from_task, from_agent, response_model)
        with self._exchange(request) as call:
            time.sleep(self.delay)
            return self._respond(request, call)

    async def acall(
        self,
        messages: Any,
        tools: list[dict[str, Any]] | None = None,
        callbacks: list[Any] | None = None,
        available_functions: dict[str, Any] | None = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """Do what ``call`` does, leaving the event loop free meanwhile."""
        request = Request(messages, tools, callbacks, available_functions, from_task, from_agent, response_model)
        with self._exchange(request) as call:
            await asyncio.sleep(self.delay)
            return self._respond(request, call)

    def supports_function_calling(self) -> bool:
        """Whether CrewAI may send tools natively."""
        return self.native

    def supports_stop_words(self) -> bool:
        """No: answers are given as the script says."""
        return False

    def get_context_window_size(self) -> int:
        """Return a size no test reaches."""
        return CONTEXT_WINDOW_TOKENS

    def get_input_tokens_count(self, messages: Any, tools: Any = None, response_model: Any = None) -> int:  # noqa: ARG002
        """Return a quarter of the characters, as the base class does, without its warning."""
        with self._session.lock:
            self._session.token_counts += 1
        return (sum(len(str(message.get("content"))) for message in freeze(messages)) + 3) // 4

    @contextmanager
    def _exchange(self, request: Request) -> Generator[Call]:
        """Emit what a provider emits around a request: started, and failed or denied if the block raises."""
        with llm_call_context():
            if not self.silent:
                self._emit_call_started_event(
                    messages=request.messages,
                    tools=request.tools,
                    callbacks=request.callbacks,
                    available_functions=request.available_functions,
                    **request.origin,
                )
            try:
                messages = self._format_messages(request.messages)
                self._invoke_before_llm_call_hooks(messages, request.from_agent)
                with self._session.recording(request.as_call(messages)) as call:
                    yield call
            except Exception as error:
                self._report(error, request)
                raise

    def _report(self, error: Exception, request: Request) -> None:
        """Emit the event a provider emits for this error; an exit or interrupt is nobody's event."""
        if self.silent:
            return
        if isinstance(error, (HookAborted, LLMCallBlockedError)):
            self._emit_call_denied_event(error, **request.origin)
        else:
            self._emit_call_failed_event(str(error), **request.origin)

    def _respond(self, request: Request, call: Call) -> Any:
        """Answer, count tokens, stream, emit: what a provider does when the reply is there."""
        reply = call.answer = self._reply(call)
        with self._session.lock:  # the base class adds up without one
            self._track_token_usage_internal(self.usage)
        if not self.silent:
            self._stream(reply, request)
            if isinstance(reply, list) and request.available_functions:
                return self._run_tool(reply[0]["function"], request)
            self._emit_call_completed_event(
                response=reply,
                call_type=LLMCallType.TOOL_CALL if isinstance(reply, list) else LLMCallType.LLM_CALL,
                messages=request.messages,
                usage=self.usage or None,
                **request.origin,
            )
        messages: Any = call.messages
        return self._invoke_after_llm_call_hooks(messages, reply, request.from_agent)

    def _reply(self, call: Call) -> Any:
        """Return the reply the script has for this call, or raise what it says."""
        answer = self._next_answer(call)
        if is_error(answer):
            raise answer
        return render(answer, call, native=self.native, call_id=f"call_{digest(call.messages)}")

    def _next_answer(self, call: Call) -> Any:
        """Return the entry of the script for this call; a function among them is asked."""
        if self.script is None:
            return echo(call, self.tool_rounds)
        answer = self.script
        if not callable(answer):
            if call.number >= len(answer):
                raise ScriptExhaustedError(f"call {call.number + 1} of a script with {len(answer)} answers")
            answer = answer[call.number]
        return answer(call.messages, list(call.tools)) if is_responder(answer) else answer

    def _stream(self, reply: Any, request: Request) -> None:
        """Emit the pieces of a reply if CrewAI or the user asked for streaming."""
        if not self._effective_stream():
            return
        if isinstance(reply, str):
            size = max(1, -(-len(reply) // self.chunks))
            for start in range(0, len(reply), size):
                piece = reply[start : start + size]
                self._emit_stream_chunk_event(piece, call_type=LLMCallType.LLM_CALL, **request.origin)
        elif isinstance(reply, list):
            for index, call in enumerate(reply):
                part = {**call, "index": index}
                self._emit_stream_chunk_event("", tool_call=part, call_type=LLMCallType.TOOL_CALL, **request.origin)

    def _run_tool(self, function: dict[str, str], request: Request) -> str | None:
        """Run the tool ourselves, as providers do when a direct call hands them the functions."""
        functions = request.available_functions or {}
        return self._handle_tool_execution(
            function["name"], json.loads(function["arguments"]), functions, **request.origin
        )
