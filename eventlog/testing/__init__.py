"""An LLM for tests: offline, deterministic, and to CrewAI as real as any other.

``ScriptedLLM`` answers from a script, or, without one, echoes a digest of all it was asked:
equal outputs then mean equal prompts, which is what a test of replay wants to know.

This package imports CrewAI; ``import eventlog`` imports neither.
"""

from eventlog.testing.answers import (
    Answer,
    Call,
    Final,
    Message,
    Responder,
    Script,
    ScriptError,
    ScriptExhaustedError,
    ToolCall,
    final,
    tool_call,
)
from eventlog.testing.echo import digest
from eventlog.testing.llm import USAGE, ScriptedLLM

__all__ = [
    "USAGE",
    "Answer",
    "Call",
    "Final",
    "Message",
    "Responder",
    "Script",
    "ScriptError",
    "ScriptExhaustedError",
    "ScriptedLLM",
    "ToolCall",
    "digest",
    "final",
    "tool_call",
]
