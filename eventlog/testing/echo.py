"""What an LLM without a script answers: made from the request alone, so that equal answers mean equal requests."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from eventlog.testing.answers import Answer, Call, Final, Message, ToolCall

MESSAGE_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")
"""What of a message an LLM sees; CrewAI keeps marks of its own beside it."""

TOOL_IN_PROMPT = re.compile(r"^Tool Name: (\S+)\nTool Arguments: (?=\{)", re.MULTILINE)
"""How CrewAI introduces a tool to an LLM without native function calling; its JSON schema follows."""


def freeze(messages: Any) -> list[Message]:
    """Return the messages as plain JSON that nobody else holds."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    seen = [{key: message[key] for key in MESSAGE_KEYS if key in message} for message in messages]
    frozen: list[Message] = json.loads(json.dumps(seen, default=str))
    return frozen


def offered_tools(messages: list[Message], tools: list[dict[str, Any]] | None) -> dict[str, dict[str, Any]]:
    """Return name and argument schema of every tool, from the request or, in ReAct, from the prompt."""
    if tools:
        return {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in tools}
    prompts = [str(message.get("content")) for message in messages if message["role"] in {"system", "user"}]
    return {
        match[1]: json.JSONDecoder().raw_decode(prompt, match.end())[0]
        for prompt in prompts
        for match in TOOL_IN_PROMPT.finditer(prompt)
    }


def digest(messages: list[Message]) -> str:
    """Return ten hex digits that differ when any message differs."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:10]


def tool_results(messages: list[Message]) -> int:
    """Return how many tools have answered so far, natively or as an observation in ReAct."""
    return sum(
        message["role"] == "tool"
        or (message["role"] == "assistant" and "\nObservation:" in str(message.get("content")))
        for message in messages
    )


def echo(call: Call, tool_rounds: int) -> Answer:
    """Return a call of the first tool until it has answered ``tool_rounds`` times, then the digest."""
    done, seen = tool_results(call.messages), digest(call.messages)
    if call.response_model is not None:
        filled: dict[str, Any] = sample(call.response_model.model_json_schema(), seen, 1)
        return filled
    if call.tools and done < tool_rounds:
        name, schema = next(iter(call.tools.items()))
        return ToolCall(name, sample({"type": "object", **schema}, f"q{done}", done))
    return Final(f"{call.agent or 'llm'} saw {seen}")


def sample(schema: dict[str, Any], text: str, number: int, defs: dict[str, Any] | None = None) -> Any:
    """Return a value the JSON schema allows, of the given text and number where it leaves a choice."""
    defs = defs if defs is not None else schema.get("$defs", {})
    if "$ref" in schema:
        return sample(defs[schema["$ref"].rsplit("/", 1)[-1]], text, number, defs)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    for choice in schema.get("anyOf", schema.get("allOf", []))[:1]:
        return sample(choice, text, number, defs)
    if schema.get("type") == "object":
        fields = schema.get("properties", {})
        return {name: sample(field, text, number, defs) for name, field in fields.items()}
    if schema.get("type") == "array":
        return [sample(schema.get("items", {}), text, number, defs)]
    return {"integer": number, "number": float(number), "boolean": bool(number), "null": None}.get(
        schema.get("type", "string"), text
    )
