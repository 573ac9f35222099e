"""``eventlog doctor``: is everything as it should be?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from eventlog.cli.checks import Check, check_capture, check_log, check_versions
from eventlog.cli.options import Settings, examples, shared_options
from eventlog.cli.output import Table, note, show_json, show_page

WRONG = 1


@click.command(epilog=examples("eventlog doctor", "eventlog doctor --db nightly.db --no-probe --json"))
@click.option("--no-probe", is_flag=True, help="Leave out the capture of a test event, which imports CrewAI.")
@shared_options
def doctor(settings: Settings, no_probe: bool) -> int:
    """Check the versions, the log, and (in a log of its own) that capture works.

    Exit code 1 when something is wrong. The log is only read.
    """
    found = list(_all_checks(settings, probe=not no_probe))
    wrong = [check for check in found if check.verdict == "problem"]
    if settings.as_json:
        show_json({"ok": not wrong, "checks": found})
        return WRONG if wrong else 0
    show_page([Table("", ("check", "verdict", "found"), [(c.name, c.verdict, c.found) for c in found])])
    for check in found:
        if check.hint:
            note(f"{check.name}: {check.hint}")
    return WRONG if wrong else 0


def _all_checks(settings: Settings, *, probe: bool) -> Iterator[Check]:
    """Yield the results of every check."""
    parts: list[Callable[[], Iterator[Check]]] = [check_versions, lambda: check_log(settings.db, settings.db_given)]
    if probe:
        parts.append(check_capture)
    for part in parts:
        yield from part()
