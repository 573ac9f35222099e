"""What to do when the code changed, and with tools that were under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import msgspec

from eventlog.errors import EventLogError
from eventlog.resume.exchanges import OpenTool

OnChange = Literal["adapt", "strict", "lenient"]
"""``adapt``: go live from the first difference, serve what still matches. ``strict``: stop there.
``lenient``: serve by position whatever was asked."""
OnTool = Literal["rerun", "ask", "fail"] | Mapping[str, Any] | Callable[[OpenTool], Any]
"""``rerun`` the tool, ``ask`` on the terminal, ``fail``; or the result: by tool name or path, or from a function."""


class Policy(msgspec.Struct, frozen=True):
    """How a run goes on."""

    on_change: OnChange = "adapt"
    on_tool: Any = "rerun"

    def __post_init__(self) -> None:
        """Refuse what is none of the choices.

        Raises:
            EventLogError: it is none.
        """
        if self.on_change not in get_args(OnChange):
            choices = ", ".join(get_args(OnChange))
            raise EventLogError(f"on_change={self.on_change!r}: choose one of {choices}")
        if isinstance(self.on_tool, str) and self.on_tool not in ("rerun", "ask", "fail"):
            raise EventLogError(f"on_tool={self.on_tool!r}: choose rerun, ask or fail, or supply the result")
