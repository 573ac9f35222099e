"""Open a log for a command, without the right to write, and find what a person points at."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import msgspec

from eventlog.cli.options import Settings
from eventlog.cursors import Cursor, find_event
from eventlog.errors import BranchNotFoundError, CursorNotFoundError, NotFoundError, RunNotFoundError
from eventlog.lineage import SEQ_MAX
from eventlog.log import Log, open_log
from eventlog.read import Reader
from eventlog.record import MAIN_BRANCH


class PlaceNotFoundError(NotFoundError):
    """Neither a run nor an event has that name."""

    what = "run or event"
    hint = (
        "write RUN, RUN@CURSOR, RUN/BRANCH, RUN/BRANCH@CURSOR, a seq or an event id; see: eventlog runs, eventlog log"
    )


class Place(msgspec.Struct, frozen=True):
    """A position on a lineage, and where that lineage ends."""

    run: str
    branch: str
    seq: int
    head: int


@contextmanager
def reading(settings: Settings) -> Generator[Log]:
    """Open the log that the options name; its bytes stay as they are.

    Raises:
        LogOpenError: there is none, or it cannot be read.
    """
    with open_log(settings.db, readonly=True) as log:
        yield log


def find_place(log: Log, run: str | None, branch: str | None, to: str | None) -> Place:
    """Return what RUN, ``--branch`` and ``--to`` mean together.

    Without RUN an event id or seq brings its own run and branch; anything else means the latest run.

    Raises:
        NotFoundError, AmbiguousCursorError: they mean nothing, or too much.
    """
    if run is None and branch is None and to is not None and _names_an_event(to):
        found = find_event(log.reader, to)
        if found.run is None:
            raise CursorNotFoundError(f"{to}: it belongs to no run,")
    else:
        found = log.cursor(to, run or log.latest_run(), branch or MAIN_BRANCH)
    return _place(log.reader, found)


def parse_place(log: Log, text: str) -> Place:
    """Return what ``RUN@CURSOR``, ``RUN/BRANCH``, ``RUN/BRANCH@CURSOR``, ``RUN``, or a bare event id or seq means.

    Raises:
        NotFoundError, AmbiguousCursorError: it means nothing, or too much.
    """
    try:
        return _place(log.reader, log.cursor(None, text))  # first: a run's own name may hold an @
    except RunNotFoundError:  # then the @ stands before a cursor, if there is one
        pass
    where, at, to = text.rpartition("@")
    if at:
        return _place(log.reader, _on_branch(log, where, to))
    if "/" in text:
        try:
            return _place(log.reader, _on_branch(log, text, None))
        except RunNotFoundError:  # an event id of the user's may hold a slash, too
            pass
    try:
        return find_place(log, None, None, text)
    except CursorNotFoundError as error:
        raise PlaceNotFoundError(text) from error


def _on_branch(log: Log, where: str, to: str | None) -> Cursor:
    """Return a cursor on ``RUN`` or ``RUN/BRANCH``; names of runs, and of branches of ours, may hold a slash."""
    try:
        return log.cursor(to, where)
    except RunNotFoundError as error:
        missing: NotFoundError = error
        for end in (at for at, sign in enumerate(where) if sign == "/"):
            try:
                return log.cursor(to, where[:end], where[end + 1 :])
            except RunNotFoundError:
                continue
            except BranchNotFoundError as unknown:
                missing = unknown
        raise missing from None


def _place(reader: Reader, cursor: Cursor) -> Place:
    """Return a cursor with the end of its lineage."""
    run = cursor.run or ""
    return Place(run, cursor.branch, cursor.seq, reader.head(reader.branch_id(run, cursor.branch), SEQ_MAX))


def _names_an_event(text: str) -> bool:
    """Whether a cursor is a seq or an event id, not ``latest`` or a time."""
    return text != "latest" and not (len(text) >= len("2026-01-01") and text[4:5] == "-" and text[:4].isdigit())
