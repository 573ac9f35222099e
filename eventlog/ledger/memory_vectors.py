"""Vectors of memories: made by a function of the user's, kept in the events, compared with numpy.

What such a function does wrong costs the ranking by meaning, never a memory: it is logged, and words still find it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from eventlog.logger import Logger

Embed = Callable[[list[str]], Sequence[Sequence[float]]]
"""Texts → one vector for each, all of one length."""

BATCH_MAX = 128
"""Texts an embedder gets at once."""
FUSION_K = 60
"""Of reciprocal rank fusion: how much less the first places count than one might think."""

K = TypeVar("K", bound=Hashable)
log = Logger(__name__)


class Embedder:
    """A function of the user's, with a name."""

    def __init__(self, function: Embed) -> None:
        """Its ``name``, else its qualified name, tells its vectors from those of others."""
        self._function = function
        kind = type(function)
        self.name = str(getattr(function, "name", None) or getattr(function, "__qualname__", kind.__qualname__))

    def embed(self, texts: Sequence[str]) -> list[Any] | None:
        """Return a vector for each text; ``None`` when it raised, or gave something else. Raises no ``Exception``."""
        try:
            return [
                row for at in range(0, len(texts), BATCH_MAX) for row in self._rows(list(texts[at : at + BATCH_MAX]))
            ]
        except Exception as error:
            log.warning("memory_not_embedded", embedder=self.name, texts=len(texts), error=repr(error))
            return None

    def _rows(self, texts: list[str]) -> Any:
        """Return the rows of a matrix.

        Raises:
            ValueError: there is not one for each text, or they hold something else than finite numbers.
        """
        import numpy  # noqa: PLC0415 - only with an embedder

        with numpy.errstate(all="ignore"):
            made = numpy.asarray(self._function(texts), dtype="<f4")
        if made.ndim != len(("text", "dimension")) or len(made) != len(texts) or not made.shape[1]:
            raise ValueError(f"{len(texts)} texts gave the shape {made.shape}")
        if not numpy.isfinite(made).all():
            raise ValueError("a vector holds NaN or infinity")
        return made


def pack(vector: Any) -> str:
    """Return a vector as events hold it: 32-bit floats, little-endian, in base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def unpack(text: Any) -> Any:
    """Return a vector from an event; ``None`` if it is none."""
    import numpy  # noqa: PLC0415 - only with an embedder

    try:
        found = numpy.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (TypeError, ValueError, binascii.Error):
        return None
    return found if len(found) and numpy.isfinite(found).all() else None


def by_likeness(query: Any, vectors: Mapping[K, Any]) -> dict[K, float]:
    """Return how like a query each vector of its length is: the cosine of their angle."""
    import numpy  # noqa: PLC0415 - only with an embedder

    wanted = _unit(query, numpy)
    return {key: float(wanted @ _unit(it, numpy)) for key, it in vectors.items() if it.shape == query.shape}


def _unit(vector: Any, numpy: Any) -> Any:
    """Return a vector of length one in its direction; that of zeros stays as it is."""
    exact = vector.astype(numpy.float64)
    length = float(numpy.linalg.norm(exact))
    return exact / length if length else exact


def fused(rankings: Iterable[Sequence[K]]) -> dict[K, float]:
    """Return one score for each of what several rankings hold, best first: reciprocal rank fusion."""
    scores: dict[K, float] = {}
    for ranking in rankings:
        for place, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1 / (FUSION_K + place)
    return scores
