"""What of CrewAI's own checkpoint format is ours: entities without secrets, and live objects by name.

A checkpoint names ``eventlog.native.LiveTool`` as the class of a function tool; CrewAI imports that
name and gets the tool this process already has, or a clear error. Nothing is made from the file.
"""

from __future__ import annotations

from eventlog.native.live import LiveLLM, LiveObjectMissingError, LiveTool, register

__all__ = ["LiveLLM", "LiveObjectMissingError", "LiveTool", "register"]
