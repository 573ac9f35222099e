"""Token counts of one LLM call, whatever the provider calls them. Pure.

Source: ``crewai.types.usage_metrics.UsageMetrics.from_provider_dict``, so that our sums equal CrewAI's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

COUNT_MAX = 2**53
"""Counts and sums stop here: what every JSON reader keeps exact."""

_CACHE_KEYS = ("cache_read_input_tokens", "cache_creation_input_tokens")


class Tokens(NamedTuple):
    """What one call cost."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """Return both together; a provider's own total is ignored, as CrewAI does."""
        return add(self.prompt, self.completion)


def read_usage(usage: Any) -> Tokens:
    """Return the tokens of an event's ``usage``; zero for what is missing or no number."""
    if not isinstance(usage, dict):
        return Tokens()
    completion = _first(usage, "completion_tokens", "candidates_token_count", "output_tokens")
    return Tokens(_prompt_tokens(usage), completion)


def add(total: int, count: int) -> int:
    """Return the sum, at most ``COUNT_MAX``."""
    return min(total + count, COUNT_MAX)


def _prompt_tokens(usage: dict[str, Any]) -> int:
    """Tokens of the prompt; raw Anthropic usage counts those of the cache apart."""
    if "input_tokens" in usage and any(key in usage for key in _CACHE_KEYS):
        return min(sum(_count(usage.get(key)) for key in ("input_tokens", *_CACHE_KEYS)), COUNT_MAX)
    return _first(usage, "prompt_tokens", "prompt_token_count", "input_tokens")


def _first(usage: dict[str, Any], *keys: str) -> int:
    """Return the first count that is not zero."""
    return next((count for key in keys if (count := _count(usage.get(key)))), 0)


def _count(value: Any) -> int:
    """Return a count between 0 and ``COUNT_MAX``."""
    try:
        return min(max(int(value), 0), COUNT_MAX)
    except (TypeError, ValueError, OverflowError):
        return 0
