"""Pages for a terminal, with rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from eventlog.cli.output import Block, Facts, Prose, Table
from eventlog.cli.text import harmless

COLOURS = {
    "completed": "green", "ok": "green", "equal": "green", "running": "cyan", "paused": "yellow",
    "interrupted": "yellow", "in_progress": "cyan",
    "stale": "yellow", "blocked": "yellow", "warning": "yellow", "skipped": "dim", "pending": "dim",
    "failed": "red", "problem": "red", "different": "red", "changed": "yellow", "added": "green", "removed": "red",
}  # fmt: skip
"""A cell that is such a word gets its colour."""


def print_blocks(blocks: Iterable[Block]) -> None:
    """Print a page to stdout."""
    console = Console(highlight=False)
    for block in blocks:
        console.print(_rendered(block))


def _rendered(block: Block) -> Any:
    """Return what rich prints for one block."""
    if isinstance(block, Facts):
        return Panel(_facts(block), box=box.ROUNDED, expand=False, padding=(0, 1))
    if isinstance(block, Prose):
        return Panel(Text(harmless(block.text)), title=Text(harmless(block.title)), title_align="left", box=box.ROUNDED)
    return _table(block)


def _facts(block: Facts) -> RichTable:
    """Return names and values without lines between."""
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in block.rows:
        grid.add_row(Text(harmless(name)), _cell(value))
    return grid


def _table(block: Table) -> RichTable:
    """Return a table; recorded text is never read as markup."""
    table = RichTable(box=box.SIMPLE_HEAD, title=block.title or None, title_justify="left", title_style="bold")
    for column in block.columns:
        table.add_column(column, justify="right" if column in block.right else "left", overflow="fold")
    for row in block.rows:
        table.add_row(*(_cell(cell) for cell in row))
    return table


def _cell(value: str) -> Text:
    """Return a cell; a word that is a status is coloured."""
    return Text(harmless(value), style=COLOURS.get(value, ""))
