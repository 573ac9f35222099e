"""Which id of an earlier process stands for which one of this process. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Ids:
    """Pairs of ids, each with one other, found while requests are matched."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._now: dict[bytes, bytes] = {}
        self._then: dict[bytes, bytes] = {}
        self.fixed: set[bytes] = set()
        """Ids and times that mean something: they stand for nothing but themselves."""

    def fix(self, tokens: Iterable[bytes]) -> None:
        """Take down what a kickoff was given, or what its definition names."""
        self.fixed.update(tokens)

    def may_be(
        self, then: Sequence[bytes], now: Sequence[bytes], moments_then: Sequence[bytes], moments_now: Sequence[bytes]
    ) -> bool:
        """Whether a request with these ids and times may be the recorded one with those; if so, they are paired."""
        if len(then) != len(now) or len(moments_then) != len(moments_now):
            return True  # the recorded messages are flattened: the name of the request has to do
        if any(a != b and (a in self.fixed or b in self.fixed) for a, b in zip(moments_then, moments_now, strict=True)):
            return False
        pairs = list(zip(then, now, strict=True))
        if any(a != b and (a in self.fixed or b in self.fixed) for a, b in pairs):
            return False
        if any(self._now.get(a, b) != b or self._then.get(b, a) != a for a, b in pairs):
            return False
        for a, b in pairs:
            self._now[a], self._then[b] = b, a
        return True
