"""structlog over the standard library's ``eventlog`` logger; silent until somebody configures logging.

A bare ``structlog.get_logger()`` prints to stdout, which corrupts JSON output; and structlog
is imported only when there is something to say, which keeps the command line quick.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

ROOT = logging.getLogger("eventlog")
ROOT.addHandler(logging.NullHandler())


@cache
def _structlog(name: str) -> Any:
    """Return the structlog logger that writes to the standard library's logger ``name``."""
    import structlog  # noqa: PLC0415 - loaded with the first message

    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


class Logger:
    """Events in snake_case, facts as keywords: ``log.warning("append_degraded", cause=…)``. Never raises."""

    def __init__(self, name: str) -> None:
        """``name`` is the module's."""
        self._name = name

    def _write(self, level: int, event: str, facts: dict[str, Any]) -> None:
        """Hand over to structlog if somebody listens at that level."""
        try:
            if logging.getLogger(self._name).isEnabledFor(level):
                _structlog(self._name).log(level, event, **facts)
        except Exception:  # a broken log handler must not break the user's crew
            ROOT.disabled = ROOT.disabled

    def debug(self, event: str, **facts: Any) -> None:
        """Detail for the one who debugs."""
        self._write(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: Any) -> None:
        """Something a person may want to know."""
        self._write(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Something went wrong and was dealt with."""
        self._write(logging.WARNING, event, facts)
