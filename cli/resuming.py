"""A recording that goes on with a run: the program's plain kickoffs are directed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventlog.capture.playing import program_director
from eventlog.cli.recording import Recording
from eventlog.cli.text import count_of
from eventlog.resume.director import RunDirector
from eventlog.resume.policy import Policy
from eventlog.run import resumed_branches

if TYPE_CHECKING:
    from eventlog.lease import Lease
    from eventlog.writer import Status


class Resuming(Recording):
    """Captures a process and lets its kickoffs go on with the run."""

    def __init__(self, *args: Any, on_change: Any, on_tool: str, takeover: bool, **options: Any) -> None:
        """Open the log and take the run.

        Raises:
            LogOpenError: the log cannot be written; nothing was run.
            RunBusyError: another process works on the run; nothing was run.
        """
        super().__init__(*args, **options)
        writer = self._log.writer
        self._director = RunDirector(writer, Policy(on_change=on_change, on_tool=on_tool))
        self._director.command = None
        self._place = (str(self._log.path.resolve()), self._run)
        self._lease: Lease = writer.take_lease(self._run, self._branch, takeover=takeover)

    def _on_start(self) -> None:
        """Direct the program's kickoffs from here on."""
        super()._on_start()
        self._director.enter(self._log.writer.recorder.homes.listener_homes[-1], self._log.reader)
        program_director.append(self._director)
        resumed_branches[self._place] = self._branch

    def _on_finish(self) -> None:
        """Give the run back."""
        program_director.remove(self._director)
        resumed_branches.pop(self._place, None)
        self._log.writer.give_back(self._lease)

    def _sentence(self, status: Status) -> str:  # noqa: ARG002 - how many events it took is no news here
        """Say what was taken from the log, and what was asked anew."""
        tally = self._director.tally
        saved = (
            f"{count_of(tally.llm_served, 'model call')} and {count_of(tally.tools_served, 'tool use')} from the log"
        )
        kept = f"{count_of(tally.tasks_kept, 'finished task')} kept"
        return f"resumed run {self._run}: {kept}, {saved}, {count_of(tally.llm_live, 'model call')} made"

    def _facts(self) -> dict[str, Any]:
        """Return the same for programs."""
        tally = self._director.tally
        return {name: getattr(tally, name) for name in tally.__struct_fields__}
