"""Decides what a kickoff at the top of a run means: a new execution, an unfinished or a finished one."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from crewai.flow.async_feedback import HumanFeedbackPending

from eventlog.capture.beginnings import note_state
from eventlog.capture.commands import command_line, note_command
from eventlog.capture.definitions import definition_of_entity
from eventlog.capture.keys import stable_key
from eventlog.capture.playing import Claim, claims, playing, within
from eventlog.capture.scopes import execution_label, in_for_each
from eventlog.errors import EventLogError
from eventlog.lineage import SEQ_MAX
from eventlog.logger import Logger
from eventlog.nesting import decode_payload
from eventlog.record import RESUMED, ExecutionInfo
from eventlog.references import kind_of, read_fact
from eventlog.resume.definitions import execution_changed
from eventlog.resume.edits import edits_of
from eventlog.resume.flows import begin_again
from eventlog.resume.identity import Wanted, find_execution, split, step_of
from eventlog.resume.player import Tally, TapePlayer
from eventlog.resume.policy import Policy
from eventlog.resume.results import recorded_result
from eventlog.resume.revive import UnrevivableError
from eventlog.resume.tape import Tape
from eventlog.resume.taping import read_tape

if TYPE_CHECKING:
    from eventlog.capture.homes import Home
    from eventlog.capture.kickoffs import Kickoff
    from eventlog.capture.recorder import Recorder
    from eventlog.lease import Lease
    from eventlog.read import Reader
    from eventlog.writer import Writer

log = Logger(__name__)


class RunDirector:
    """Decides for one pass over a run: each recorded execution is taken once."""

    def __init__(self, writer: Writer, policy: Policy, *, takeover: bool = False) -> None:
        """``takeover``: take the branch from a living process that has it."""
        self.writer, self._policy, self._takeover = writer, policy, takeover
        self.home: Home
        self.reader: Reader
        self.holds = False
        """Whether the run is kept from other processes until ``leave``."""
        self._held: Lease | None = None
        self._taken: set[str] = set()
        self._parts: dict[str, frozenset[str]] = {}
        self._parts_seq = 0
        """Keys of what each path was made of, up to a seq."""
        self._lock = threading.RLock()
        self.tally = Tally()
        """What all kickoffs of this pass took from the tape and asked the world."""
        self.paused: Kickoff | None = None
        """The flow that waits for a person."""
        self.command: list[str] | None = command_line()
        """The command line of this process, until it is on record."""
        self.feedback: str | None = None
        """What that person says."""

    def enter(self, home: Home, reader: Reader) -> None:
        """Direct the kickoffs of this run and branch."""
        self.home, self.reader = home, reader

    def count_with(self, others: Iterable[Any]) -> None:
        """Add what is asked to the count of whoever directs the whole program on the same log."""
        for other in others:
            if isinstance(other, RunDirector) and other.writer is self.writer:
                self.tally, self.command = other.tally, None  # the command is on record as it was typed

    def twin(self, home: Home) -> RunDirector:
        """Return who decides likewise on another branch of the run."""
        other = RunDirector(self.writer, self._policy, takeover=self._takeover)
        other.enter(home, self.reader)
        other.tally, other.command = self.tally, None
        return other

    def is_open(self) -> bool:
        """Whether the run is still open in this process."""
        return self.recorder.homes.is_open(self.home)

    # -- one kickoff --------------------------------------------------------------------------------

    def direct(self, kickoff: Kickoff) -> Any:
        """Return the result of the kickoff; for an asynchronous one an awaitable of it.

        Raises:
            RunBusyError: another process works on the branch.
            DivergedError: the code changed, and the policy says to stop.
        """
        inside = self.recorder.homes.current()
        if inside is not None and inside is not self.home:
            return kickoff.call()  # of a run that the program opened itself
        self._note_command()
        return self._direct_later(kickoff) if kickoff.is_async else self._direct_now(kickoff)

    def _note_command(self) -> None:
        """Keep the command line that runs here, for who wants to start it again."""
        if self.command is None:
            return
        argv, self.command = self.command, None
        note_command(self.recorder, self.home, self.reader, argv)

    def _direct_now(self, kickoff: Kickoff) -> Any:
        """Direct a synchronous kickoff."""
        part = _Part(self, kickoff)
        try:
            if part.is_finished():
                return part.result
            with within(claims, part.claim), within(playing, part.player):
                part.begin()
                return self._note_pause(kickoff, kickoff.call(), part.player.tape.path)
        except BaseException:
            self.release_place(part.player.tape.path)
            part.player.go_on()
            raise
        finally:
            part.close()

    async def _direct_later(self, kickoff: Kickoff) -> Any:
        """Direct an asynchronous kickoff."""
        part = _Part(self, kickoff)
        try:
            if part.is_finished():
                return part.result
            with within(claims, part.claim), within(playing, part.player):
                part.begin()
                return self._note_pause(kickoff, await kickoff.call(), part.player.tape.path)
        except BaseException:
            self.release_place(part.player.tape.path)
            part.player.go_on()
            raise
        finally:
            part.close()

    def _note_pause(self, kickoff: Kickoff, result: Any, path: str) -> Any:
        """Remember a flow that waits for a person: ``run.resume(feedback=…)`` goes on with it."""
        self.paused = kickoff if isinstance(result, HumanFeedbackPending) else None
        if self.paused is not None:
            self.release_place(path)
        return result

    # -- places -------------------------------------------------------------------------------------

    def take_place(self, kickoff: Kickoff) -> tuple[Claim, ExecutionInfo | None]:
        """Return the place of a kickoff and, unless it is new, what is recorded there; nobody else gets it."""
        recorder = self.recorder
        label = self.label_of(kickoff.entity) + kickoff.step
        inputs = kickoff.hash_for(recorder)
        label = f"{label}+{inputs[:6]}" if kickoff.kind == "crew" and in_for_each.get() else label
        with self._lock, self.writer.active_lock:
            recorded = self.reader.executions(self._branch)
            taken = self._taken | self.writer.active_paths(self.home) | self.home.plain
            wanted = Wanted(kickoff.kind, label, inputs, _name(kickoff.entity), _parts(kickoff.entity))
            found = find_execution(wanted, recorded, taken, self._recorded_parts(recorded, kickoff.kind))
            if found is not None:
                label, ordinal = split(found.path)
            else:
                known = [split(e.path)[1] for e in recorded if e.parent is None and split(e.path)[0] == label]
                ordinal = max([self.home.counters.get(label, -1), *known]) + 1
                self.home.counters[label] = ordinal
            path = f"/{label}#{ordinal}"
            self._taken.add(path)
            self.writer.active.add((self.home.run, self.home.branch, path))
        return Claim(self.home, kickoff.kind, label, ordinal), found

    def label_of(self, entity: Any) -> str:
        """Return the label of the place that a crew, flow, agent or task takes, without its ordinal.

        Raises:
            EventLogError: it is nothing that can be kicked off.
        """
        return execution_label(kind_of(entity) or "?", self.recorder.encoder.text(_key(entity)))

    def release_place(self, path: str) -> None:
        """A kickoff did not come to its end: the next one like it, also of this pass, goes on with it."""
        with self._lock:
            self._taken.discard(path)

    def release_step(self, mark: str) -> None:
        """An attempt of a step is over: the next one, also of this pass, goes on with its kickoffs."""
        with self._lock:
            self._taken = {path for path in self._taken if step_of(path) != mark}

    def leave_place(self, path: str) -> None:
        """Nothing runs at a place any more."""
        with self.writer.active_lock:
            self.writer.active.discard((self.home.run, self.home.branch, path))

    def _recorded_parts(self, recorded: list[ExecutionInfo], kind: str) -> dict[str, frozenset[str]]:
        """Return the keys of tasks and agents of recorded executions of a kind."""
        roots = {e.path for e in recorded if e.parent is None and e.kind == kind}
        for event in self.reader.stored(self._branch, self._parts_seq, types=["eventlog.definition"], kept=True):
            self._parts_seq = event.seq
            self._parts[event.path] = _keys_of(decode_payload(event.payload))
        return {path: self._parts[path] for path in roots if path in self._parts}

    def open_tape(self, claim: Claim, found: ExecutionInfo | None) -> Tape:
        """Return what is recorded of an execution."""
        path = f"/{claim.label}#{claim.ordinal}"
        if found is None:
            return Tape(None, path)
        return read_tape(self.reader, self._branch, path, found.started_seq - 1, SEQ_MAX)

    @property
    def recorder(self) -> Recorder:
        """The recorder of this log."""
        return self.writer.recorder

    @property
    def _branch(self) -> int:
        """Row of the branch."""
        return self.reader.branch_id(self.home.run, self.home.branch)

    def take_lease(self) -> Lease:
        """Return the right to work on the run, which stays ours between the kickoffs of a ``with`` block.

        Raises:
            RunBusyError: another process has it.
        """
        with self._lock:
            if self.holds and self._held is None:
                self._held = self.writer.take_lease(self.home.run, self.home.branch, takeover=self._takeover)
        return self.writer.take_lease(self.home.run, self.home.branch, takeover=self._takeover)

    def leave(self) -> None:
        """Let other processes have the run."""
        with self._lock:
            if self._held is not None:
                self.writer.give_back(self._held)
                self._held = None

    def player_for(self, kickoff: Kickoff, tape: Tape, lease: Lease) -> TapePlayer:
        """Return the player of a kickoff; a fork's edits change what it is asked."""
        edits = edits_of(tape.edits, tape.path)
        player = TapePlayer(
            self.recorder, tape, self._policy, kickoff, lease=lease, edits=edits, feedback=self.feedback
        )
        if kickoff.kind == "flow":
            begin_again(player, kickoff.entity)
        if edits.inputs:
            values = {k: player.revived(v, lenient=True) for k, v in edits.inputs.items()}
            kickoff.replace("inputs", {**(kickoff.given.get("inputs") or {}), **values})
        return player

    def give_back(self, lease: Lease, tally: Tally) -> None:
        """A kickoff is over."""
        self.writer.give_back(lease)
        with self._lock:
            for name in tally.__struct_fields__:
                setattr(self.tally, name, getattr(self.tally, name) + getattr(tally, name))


class _Part:
    """One kickoff while it is directed."""

    def __init__(self, director: RunDirector, kickoff: Kickoff) -> None:
        """Take lease and place and read the tape."""
        self._director, self._kickoff = director, kickoff
        self._lease = director.take_lease()
        try:
            self.claim, self._found = director.take_place(kickoff)
            self.player = director.player_for(kickoff, director.open_tape(self.claim, self._found), self._lease)
        except BaseException:
            director.give_back(self._lease, Tally())
            raise
        self.result: Any = None

    def is_finished(self) -> bool:
        """Whether the result is on record and still holds; then it is here."""
        player, found = self.player, self._found
        if found is None or found.status != "completed" or player.tape.result is None:
            return False
        if player.edits.last_seq > player.tape.result[0] or self._is_changed():
            return False
        try:
            self.result = recorded_result(player, self._kickoff)
        except UnrevivableError as error:
            log.warning("result_made_again", execution=player.tape.path, reason=str(error))
            return False
        return True

    def _is_changed(self) -> bool:
        """Whether the code was edited since; ``lenient`` does not mind."""
        player, kickoff = self.player, self._kickoff
        fields = definition_of_entity(kickoff.entity)
        if fields is None or player.policy.on_change == "lenient":
            return False
        player.take_definition(player.tape.path, fields)
        if not execution_changed(player, player.tape.path):
            return False
        player.changed(player.tape.path, player.tape.path)
        return True

    def begin(self) -> None:
        """Say in the log that an earlier process's work is continued, and from where."""
        tape = self.player.tape
        if tape.is_empty:
            return
        fields = {
            "execution": tape.path,
            "on_change": self.player.policy.on_change,
            "finished_tasks": len(tape.tasks),
            "finished_methods": len(tape.methods),
            "recorded_calls": sum(len(calls) for kind in (tape.llm, tape.spent) for calls in kind.values()),
            "in_flight": [msgspec.to_builtins(use) for use in tape.open_tools()],
        }
        claim = self.claim
        path = (f"{claim.label}#{claim.ordinal}",)
        self.player.recorder.guarded(lambda r: r.append_at(claim.home, path, RESUMED, fields))
        log.info("resuming", run=claim.home.run, execution=tape.path, finished_tasks=len(tape.tasks))

    def close(self) -> None:
        """Give everything back."""
        if self._kickoff.kind == "flow":
            note_state(self._kickoff.entity, self._kickoff.began)
        self._kickoff.live_calls = self.player.tally.llm_live + self.player.tally.tools_live
        self._director.leave_place(self.player.tape.path)
        self._director.give_back(self._lease, self.player.tally)


def _key(entity: Any) -> str:
    """Return the key of what is kicked off.

    Raises:
        EventLogError: it is nothing that can be.
    """
    kind = kind_of(entity)
    if kind not in ("crew", "flow", "agent", "task"):
        raise EventLogError(f"{type(entity).__name__} is no crew, flow, agent or task")
    return type(entity).__qualname__ if kind == "flow" else stable_key(entity) or "unknown"


def _name(entity: Any) -> str:
    """Return the name a person gave something, an agent's role; empty for what CrewAI names itself."""
    name = read_fact(entity, "role" if kind_of(entity) == "agent" else "name") or ""
    return "" if name == "crew" else name


def _parts(entity: Any) -> frozenset[str]:
    """Return the keys of the tasks and agents something is made of."""
    fields = definition_of_entity(entity)
    return _keys_of(fields) if fields is not None else frozenset()


def _keys_of(definition: dict[str, Any]) -> frozenset[str]:
    """Return the keys of a definition's tasks, and the roles of its agents where it has none."""
    if "class" in definition:
        return frozenset(
            {str(definition["class"]).replace("__main__:", ":").rpartition(":")[2], str(definition["class"])}
        )
    tasks = {str(line.get("key")) for line in definition.get("tasks") or ()}
    return frozenset(tasks or {str(line.get("role")) for line in definition.get("agents") or ()})
