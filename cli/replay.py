"""``eventlog replay``: the state at any event, or the events again for listeners."""

from __future__ import annotations

from collections.abc import Callable

import click

from eventlog.cli.opening import find_place, reading
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import show_json, show_page
from eventlog.record import MAIN_BRANCH


@click.command(
    epilog=examples(
        "eventlog replay",
        "eventlog replay nightly --to 42",
        "eventlog replay --to 3f2a91c0 --full",
        "eventlog replay nightly --to 2026-01-15T10:15:00",
        "eventlog replay nightly --play 10 --listeners my_project.listeners",
        "eventlog replay nightly --execute -- python crew.py --its --args",
    )
)
@click.argument("run", required=False)
@click.option("--branch", help=f"A branch of RUN. [default: {MAIN_BRANCH}]")
@click.option("--to", metavar="ID", help="Seq, event id, ISO time (UTC) or 'latest'; that event included.")
@click.option("--full", is_flag=True, help="Show the outputs of tasks in their whole length.")
@click.option(
    "--play", type=click.FloatRange(min=0), metavar="SPEED",
    help="Hand the events to listeners once more, SPEED times as fast as recorded; 0: without waiting.",
)  # fmt: skip
@click.option(
    "--listeners", multiple=True, metavar="MODULE", help="With --play: import this module, which registers listeners."
)
@click.option("--execute", is_flag=True, help="Run COMMAND again from the record of RUN alone, and compare.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@shared_options
def replay(
    settings: Settings, run: str | None, branch: str | None, to: str | None, full: bool,
    play: float | None, listeners: tuple[str, ...], execute: bool, command: tuple[str, ...],
) -> Callable[[], int] | None:  # fmt: skip
    """Show the state of RUN (default: the latest) at an event (default: the newest).

    An event id or seq without RUN finds its own run and branch. Nothing is executed: the
    state is folded from the recorded events. With --play, listeners see those events again,
    in the order and at the pace they were recorded; CrewAI's own listeners are left out.

    With --execute, COMMAND runs (python SCRIPT, -m MODULE), and everything that its crews, flows and
    agents ask is answered from RUN: no model, no tool, no person. What is not on record is refused.
    Each kickoff is compared with the recorded one; exit code 3 if one did something else.
    """
    if listeners and play is None:
        raise click.UsageError("--listeners needs --play")
    if execute:
        from eventlog.cli.execute import execution_of

        _require_whole_run(run, to, play, full=full)
        return execution_of(settings, run or "", branch or MAIN_BRANCH, command)
    if command:
        raise click.UsageError(f"unexpected {command[0]!r}: a command needs --execute")
    with reading(settings) as log:
        place = find_place(log, run, branch, to)
        if play is not None:
            from eventlog.cli.play import play_run

            play_run(log, place, play, listeners, as_json=settings.as_json)
            return None
        state = log.state(place.run, branch=place.branch, to=place.seq)
    if settings.as_json:
        show_json(state)
    else:
        from eventlog.cli.state_page import state_page

        show_page(state_page(state, place, full=full))
    return None


def _require_whole_run(run: str | None, to: str | None, play: float | None, *, full: bool) -> None:
    """Refuse what has no meaning with ``--execute``.

    Raises:
        click.UsageError: there is something.
    """
    if run is None:
        raise click.UsageError("--execute needs a RUN")
    unfit = [name for name, value in (("--to", to), ("--play", play), ("--full", full or None)) if value is not None]
    if unfit:
        raise click.UsageError(f"{unfit[0]} cannot be used with --execute")
