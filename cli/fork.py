"""``eventlog fork``: a new branch from any event, perhaps with other inputs or outputs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
import msgspec

from eventlog.cli.opening import Place, find_place
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Facts, Table, show_json, show_page
from eventlog.errors import LogNotFoundError
from eventlog.fork import Fork, make_fork
from eventlog.log import Log, open_log


@click.command(
    epilog=examples(
        "eventlog fork --to 42",
        "eventlog fork nightly --to latest --branch cheaper --input model=small",
        'eventlog fork --to 3f2a91c0 --branch what-if --output research="Oolong costs 3.90."',
        "eventlog fork nightly --from what-if --to 80 --output '#2=@advice.txt'",
    )
)
@click.argument("run", required=False)
@click.option(
    "--to", metavar="ID", required=True, help="Seq, event id, ISO time (UTC) or 'latest'; that event included."
)
@click.option("--branch", metavar="NAME", help="Name of the new branch. [default: fork-1, fork-2, …]")
@click.option("--from", "parent", metavar="BRANCH", help="A branch of RUN to begin on. [default: main]")
@click.option(
    "--input", "inputs", multiple=True, metavar="K=V",
    help='Another value for an input of the last kickoff; JSON (2, true, ["a"]), or else text.',
)  # fmt: skip
@click.option(
    "--output", "outputs", multiple=True, metavar="TASK=TEXT",
    help="Another output of a task: by name, key, #NUMBER, agent or path. TASK=@FILE takes it from a file.",
)  # fmt: skip
@shared_options
def fork(
    settings: Settings, run: str | None, to: str, branch: str | None, parent: str | None,
    inputs: tuple[str, ...], outputs: tuple[str, ...],
) -> None:  # fmt: skip
    """Begin a new branch of RUN (default: the event's own run and branch) at an event.

    Nothing is copied, and the branch it comes from stays as it is. What was derived from an
    edited input or output runs again when the fork is resumed, the rest does not.
    """
    edited = {name: _value(text) for name, text in _pairs(inputs, "--input", "K=V")}
    replaced = {name: _text(text) for name, text in _pairs(outputs, "--output", "TASK=TEXT")}
    if not settings.db.exists():  # opening for writing would make it
        raise LogNotFoundError(str(settings.db))
    with open_log(settings.db) as log:
        place = find_place(log, run, parent, to)
        made = make_fork(
            log.reader, log.writer, place.run, to=place.seq, branch=branch, parent=place.branch,
            inputs=edited, outputs=replaced,
        )  # fmt: skip
        rerun = _names(log, place, made.reset)
    if settings.as_json:
        show_json(_as_json(made))
    else:
        show_page([Facts(_facts(made)), Table("will run again", ("task", "path"), rerun), Facts(_next(settings, made))])


def _pairs(given: tuple[str, ...], option: str, form: str) -> list[tuple[str, str]]:
    """Return names and values of a repeated option; each name once."""
    pairs: list[tuple[str, str]] = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} {text!r}: write {option} {form}")
        if name in dict(pairs):
            raise click.UsageError(f"{option} {name!r} is given twice")
        pairs.append((name, value))
    return pairs


def _value(text: str) -> Any:
    """Return an input: what JSON it is, or else the text itself."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return text
    return text if value is None else value


def _text(text: str) -> str:
    """Return an output: the text itself, or that of a file."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{text[1:]}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise click.UsageError(f"{text[1:]}: {error.strerror or error}; TASK=@FILE takes the text of a file") from error


def _names(log: Log, place: Place, places: list[str]) -> list[tuple[str, str]]:
    """Return the names of tasks with where they run."""
    from eventlog.cli.text import one_line
    from eventlog.replay.task_index import TaskIndex

    tasks = TaskIndex(log.state(place.run, branch=place.branch, to=place.seq).tasks if places else [])
    found = [(tasks.by_place(path), path) for path in places]
    return [(one_line(task.name or task.description, 40) if task else "", path) for task, path in found]


def _facts(made: Fork) -> list[tuple[str, str]]:
    """Return what was made."""
    rows = [
        ("run", made.run),
        ("branch", made.branch),
        ("begins", f"at event {made.seq} of branch {made.parent}"),
        ("inputs", ", ".join(made.inputs)),
        ("outputs", "\n".join(made.outputs)),
    ]
    return [(name, value) for name, value in rows if value]


def _next(settings: Settings, made: Fork) -> list[tuple[str, str]]:
    """Return what to type next."""
    db = ["--db", str(settings.db)] if settings.db_given else []
    look = ["eventlog", "replay", made.run, "--branch", made.branch, *db]
    go_on = ["eventlog", "resume", made.run, "--branch", made.branch, *db, "--"]
    return [("look at it", shlex.join(look)), ("go on", f"{shlex.join(go_on)} COMMAND")]


def _as_json(made: Fork) -> dict[str, Any]:
    """Return an object for programs."""
    return {
        "run": made.run, "branch": made.branch, "parent": made.parent, "fork_seq": made.seq,
        "execution": made.execution or None, "inputs": made.inputs, "outputs": made.outputs, "reset": made.reset,
    }  # fmt: skip
