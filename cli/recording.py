"""The capture of one whole process, until the interpreter exits."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from eventlog.cli.options import Settings
from eventlog.cli.output import note
from eventlog.cli.text import count_of, harmless_json
from eventlog.log import open_log
from eventlog.record import MAIN_BRANCH

if TYPE_CHECKING:
    from eventlog.listener import EventLogListener
    from eventlog.pipeline import Durability
    from eventlog.writer import Status


class Recording:
    """Captures everything from ``start`` on under one run."""

    def __init__(
        self, settings: Settings, run: str, durability: Durability, *, quiet: bool, branch: str = MAIN_BRANCH,
        command: Sequence[str] = (), max_checkpoints: int | None = None,
    ) -> None:  # fmt: skip
        """Open the log. ``command`` is what runs, for who wants to start it again.

        Raises:
            LogOpenError: it cannot be written; nothing was run.
        """
        self._settings, self._run, self._branch, self._quiet = settings, run, branch, quiet
        self._command = list(command)
        self._log = open_log(settings.db, durability=durability, max_checkpoints=max_checkpoints)
        self._listener: EventLogListener | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """Capture from here on. Registered first, our end comes last: after the script's and CrewAI's exit handlers."""
        atexit.register(self._finish)
        from eventlog.listener import EventLogListener

        self._listener = EventLogListener(self._log, run=self._run, branch=self._branch)
        self._on_start()

    def _on_start(self) -> None:
        """Keep the command, once something runs that could be interrupted."""
        from eventlog.capture.commands import note_command
        from eventlog.capture.playing import before_kickoffs

        recorder, reader = self._log.writer.recorder, self._log.reader
        home = recorder.homes.listener_homes[-1]
        before_kickoffs.append(lambda: note_command(recorder, home, reader, self._command))

    def _finish(self) -> None:
        """Close the log and say what is in it; a forked child leaves that to its parent."""
        if os.getpid() != self._pid or self._listener is None:
            return
        mode = self._log.status().capture_mode
        self._on_finish()
        self._listener.close()
        status = self._log.status()
        self._log.close()
        if not self._quiet:
            self._report(status, mode)

    def _on_finish(self) -> None:
        """Do what has to be done before the log is closed."""

    def _report(self, status: Status, mode: str) -> None:
        """Write one line to stderr, and another one if events were lost."""
        lost = status.failed + status.queued
        if self._settings.as_json:
            facts = {"run": self._run, "events": status.committed, "lost": lost, "path": str(self._settings.db)}
            line = msgspec.json.encode({**facts, "capture_mode": mode, **self._facts()}).decode()
            click.echo(harmless_json(line), err=True)
            return
        note(f"{self._sentence(status)} → {self._settings.db}")
        if lost:
            note(f"warning: {count_of(lost, 'event')} lost: {status.last_error or status.degraded}")

    def _sentence(self, status: Status) -> str:
        """Say what was done."""
        return f"recorded run {self._run}: {count_of(status.committed, 'event')}"

    def _facts(self) -> dict[str, Any]:
        """Return more of what was done, for programs."""
        return {}
