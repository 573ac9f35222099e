"""``eventlog replay``: the state at any event, or the events again for listeners."""

from __future__ import annotations

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
@shared_options
def replay(
    settings: Settings, run: str | None, branch: str | None, to: str | None, full: bool,
    play: float | None, listeners: tuple[str, ...],
) -> None:  # fmt: skip
    """Show the state of RUN (default: the latest) at an event (default: the newest).

    An event id or seq without RUN finds its own run and branch. Nothing is executed: the
    state is folded from the recorded events. With --play, listeners see those events again,
    in the order and at the pace they were recorded; CrewAI's own listeners are left out.
    """
    if listeners and play is None:
        raise click.UsageError("--listeners needs --play")
    with reading(settings) as log:
        place = find_place(log, run, branch, to)
        if play is not None:
            from eventlog.cli.play import play_run

            play_run(log, place, play, listeners, as_json=settings.as_json)
            return
        state = log.state(place.run, branch=place.branch, to=place.seq)
    if settings.as_json:
        show_json(state)
    else:
        from eventlog.cli.state_page import state_page

        show_page(state_page(state, place, full=full))
