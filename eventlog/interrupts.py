"""What signal handlers do to code that must not be left half done.

A handler runs between any two bytecodes of the main thread. It may raise there, and it may
call the very code it interrupted. So a step that must complete is written such that it can be
repeated, and ``complete`` repeats it; and a handler that would end the process can put that off
(``postpone``) until the step it interrupted is over (``settle``).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import CodeType
from typing import Any

INTERRUPTS_MAX = 1000
"""How many exceptions of signal handlers one step outlives."""

_postponed: list[tuple[int, Callable[[], None]]] = []


def complete(step: Callable[[], None], failed: Callable[[Exception], None]) -> None:
    """Repeat ``step`` until no signal handler interrupts it, then raise what the first one raised.

    An error of the step itself goes to ``failed`` and ends the attempts.
    """
    interrupt: BaseException | None = None
    for _ in range(INTERRUPTS_MAX):
        try:
            step()
            break
        except BaseException as error:
            if isinstance(error, Exception) and not raised_by_handler(error):
                failed(error)
                break
            interrupt = interrupt or error
    else:
        failed(RuntimeError(f"interrupted {INTERRUPTS_MAX} times"))
    if interrupt is not None:
        raise interrupt


def raised_by_handler(error: BaseException) -> bool:
    """Whether an error came out of a signal handler: a ``TimeoutError`` of the user's alarm is not ours to keep."""
    codes = {_code(signal.getsignal(number)) for number in signal.valid_signals()}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _code(handler: Any) -> CodeType | None:
    """Return the code of a handler written in Python: a function, a method, or an object that is called."""
    for function in (handler, getattr(handler, "__func__", None), vars(type(handler)).get("__call__")):
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None


def postpone(action: Callable[[], None]) -> None:
    """Leave an action to the frame of this thread that is interrupted; it calls ``settle``."""
    _postponed.append((threading.get_ident(), action))


def settle() -> None:
    """Do what was postponed in this thread. An action that finds it too early postpones itself again."""
    if not _postponed:
        return
    me = threading.get_ident()
    for entry in [e for e in _postponed if e[0] == me]:
        _postponed.remove(entry)
        entry[1]()
