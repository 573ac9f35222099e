"""Which methods of a flow set attributes of the flow itself: those are in no event. Pure."""

from __future__ import annotations

import dis
import inspect
from functools import lru_cache
from itertools import pairwise
from typing import Any


@lru_cache(maxsize=512)
def sets_attributes(cls: Any, name: str) -> bool:
    """Whether a method sets attributes of the flow itself, which are in no event: it has to run again."""
    method = getattr(cls, name, None)
    code = getattr(inspect.unwrap(getattr(method, "_meth", method)), "__code__", None)  # type: ignore[arg-type]
    if code is None or not code.co_varnames:
        return False
    steps = list(dis.get_instructions(code))
    own = code.co_varnames[0]
    return any(
        step.opname == "STORE_ATTR" and before.opname.startswith("LOAD_FAST") and before.argval == own
        for before, step in pairwise(steps)
    )
