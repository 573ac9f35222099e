"""``eventlog demo``: a crew is recorded, killed in the middle of a task, looked at, and resumed."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import show_json
from eventlog.errors import EventLogError
from eventlog.log import open_log

RUN = "tea-market"
KILL_IN_TASK = 2
"""The crew dies in this one of its three tasks, while its LLM thinks."""
PATIENCE_S = 120.0
THOUGHTFUL = {"DEMO_SECONDS_TO_COMPARE": "600"}
"""The LLM does not go on before it is killed, however slow the machine."""
OFFLINE = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
}


class DemoError(EventLogError):
    """The demonstration did not get as far as it should."""

    hint = "see what is wrong: eventlog doctor"


class Demo:
    """The folder of one demonstration, and what happens in it."""

    def __init__(self, folder: Path, *, quiet: bool) -> None:
        """``quiet``: nothing is told on the way."""
        self.folder, self._quiet = folder, quiet
        self.db = folder / "eventlog.db"
        self.script = folder / "tea_market.py"

    def tell(self, text: str) -> None:
        """Say something to the person who watches."""
        if not self._quiet:
            click.echo(text)

    def run(self, *args: str) -> None:
        """Show a command line, then run it as a person would."""
        if self._quiet:
            return
        line = shlex.join([command_name(), *args, "--db", str(self.db)])
        click.echo(click.style(f"\n$ {line}", bold=True) if sys.stdout.isatty() else f"\n$ {line}")
        subprocess.run([*_EVENTLOG, *args, "--db", str(self.db)], check=False, env={**os.environ, **OFFLINE})  # noqa: S603

    def record_and_kill(self) -> int:
        """Record the crew in a process of its own, kill that in the middle of a task, and return the exit code."""
        options = ["--db", str(self.db), "--run", RUN, str(self.script)]
        self.tell("\n$ " + shlex.join([command_name(), "record", *options]))
        environment = {**os.environ, **OFFLINE, **THOUGHTFUL, "CREWAI_STORAGE_DIR": str(self.folder / "crewai")}
        with (self.folder / "output.txt").open("wb") as output:
            child = subprocess.Popen(  # noqa: S603
                [*_EVENTLOG, "record", *options], stdout=output, stderr=output, env=environment, cwd=self.folder
            )
            try:
                self._wait_for_the_moment(child)
            finally:
                child.kill()
                child.wait()
        return child.returncode

    def _wait_for_the_moment(self, child: subprocess.Popen[bytes]) -> None:
        """Watch the log until the LLM thinks about a task in the middle.

        Raises:
            DemoError: the crew ended before, or never came so far.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_in_the_middle():
            if child.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"the crew did not come as far as it should; its output is in {self.folder}/output.txt")
            time.sleep(0.1)

    def _is_in_the_middle(self) -> bool:
        """Whether a tool has answered in the task, and the LLM was asked again."""
        if not self.db.exists():
            return False
        try:
            with open_log(self.db, readonly=True) as log:
                types = [event.type for event in log.reader.stored(None)]
        except EventLogError:  # the other process is just making the file
            return False
        return types.count("task_started") == KILL_IN_TASK and types[-1] == "llm_call_started" and _since_task(types)

    def resume(self) -> None:
        """Start the program again in resume mode, in a process of its own.

        Raises:
            DemoError: it did not come to its end.
        """
        options = ["resume", RUN, "--db", str(self.db), "--", "python", str(self.script)]
        self.tell("\n$ " + shlex.join([command_name(), *options]))
        environment = {**os.environ, **OFFLINE, "CREWAI_STORAGE_DIR": str(self.folder / "crewai")}
        with (self.folder / "resumed.txt").open("w+b") as output:
            done = subprocess.run(  # noqa: S603
                [*_EVENTLOG, *options], stdout=output, stderr=output, env=environment, cwd=self.folder, check=False
            )
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
        if done.returncode:
            raise DemoError(f"the crew did not come to its end; its output is in {self.folder}/resumed.txt")
        self.tell("\n".join(line for line in lines if line.startswith(("Tea market", "resumed run"))))

    def model_calls(self) -> int:
        """Return how many answers of the LLM are in the log."""
        with open_log(self.db, readonly=True) as log:
            return log.state(RUN).llm.calls

    def moments(self) -> dict[str, str]:
        """Return three events worth a look: id → what had just happened."""
        with open_log(self.db, readonly=True) as log:
            events = list(log.reader.stored(None))
        tool = next(e for e in events if e.type == "tool_usage_finished")
        task = next(e for e in events if e.type == "task_completed")
        return {
            _short(tool.event_id): "a tool has answered, the first task is under way",
            _short(task.event_id): "the first task is done",
            str(events[-1].seq): "the last thing that happened: the LLM was asked, and the process was killed",
        }


_EVENTLOG = [sys.executable, "-m", "eventlog.cli"]


def command_name() -> str:
    """Return how a person starts this command: its name, or its path where the shell would not find it."""
    beside = Path(sys.executable).with_name("eventlog")
    return "eventlog" if shutil.which("eventlog") or not beside.exists() else str(beside)


def _short(event_id: str) -> str:
    """Return the beginning of an id that nobody takes for a seq."""
    return event_id if event_id[:8].isdigit() else event_id[:8]


def _since_task(types: list[str]) -> bool:
    """Whether a tool was used in the newest task."""
    newest = len(types) - types[::-1].index("task_started")
    return "tool_usage_finished" in types[newest:]


@click.command(epilog=examples("eventlog demo", "eventlog demo --dir ./tea"))
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False),
    help="Where to put the files. [default: a new temporary folder]",
)  # fmt: skip
@shared_options
def demo(settings: Settings, folder: Path | None) -> None:
    """Record a crew, kill it in the middle of a task, look at it, resume it: no key, no network, under a minute.

    The LLM is scripted. The folder stays, to go on with. --db is not used: the log is in that folder.
    """
    place = (folder or Path(tempfile.mkdtemp(prefix="eventlog-demo-"))).resolve()
    place.mkdir(parents=True, exist_ok=True)
    show = Demo(place, quiet=settings.as_json)
    if show.db.exists():
        raise DemoError(f"{show.db} is there already: choose another --dir")
    shutil.copyfile(Path(__file__).with_name("demo_crew.py"), show.script)
    code = _first_act(show)
    moments = show.moments()
    _second_act(show, moments)
    saved, made = _third_act(show)
    if settings.as_json:
        facts = {"dir": str(place), "db": str(show.db), "run": RUN, "killed_by": -code, "ids": list(moments)}
        show_json({**facts, "llm_calls_saved": saved, "llm_calls_made": made})


def _first_act(show: Demo) -> int:
    """Record and kill."""
    show.tell(f"A crew of three tasks inside a flow; its LLM is scripted, its code is in\n{show.script}")
    show.tell(f"It is recorded, and in task {KILL_IN_TASK} its process is killed (SIGKILL).")
    code = show.record_and_kill()
    show.tell(f"killed: signal {-code} ({signal.Signals(-code).name}); nothing could be cleaned up or saved")
    return code


def _second_act(show: Demo, moments: dict[str, str]) -> None:
    """Look at what is left."""
    show.tell("\nWhat is left on the disk:")
    show.run("runs")
    show.run("log", RUN, "--tail", "6")
    for event_id, meaning in moments.items():
        show.tell(f"\nThe state when {meaning}:")
        show.run("replay", "--to", event_id)


def _third_act(show: Demo) -> tuple[int, int]:
    """Start the same program again and let it go on; return the model calls saved and made."""
    show.tell("\nThe same program, started again, goes on in the middle of its task:")
    saved = show.model_calls()
    show.resume()
    made = show.model_calls() - saved
    show.tell(f"\nLLM calls: {saved} saved (their answers were in the log), {made} made.")
    show.run("runs")
    _tell_more(show)
    return saved, made


def _tell_more(show: Demo) -> None:
    """Say what else can be tried."""
    first, name = next(iter(show.moments())), command_name()
    show.tell(
        "\nTry it yourself:\n"
        f"  cd {shlex.quote(str(show.folder))}\n"
        f"  {name} show {first}                      one event, whole\n"
        f"  {name} log {RUN} --type 'llm_*'      what the LLM was asked\n"
        f"  {name} stats {RUN} --by task         tokens and time\n"
        f"  {name} record --run whole {show.script.name}    the same crew to its end\n"
        f"  {name} diff {RUN} whole              where the two differ\n"
        f"  {name} fork --to {first} --branch other    another line of history from there\n"
        "\nThe folder stays until you delete it."
    )
