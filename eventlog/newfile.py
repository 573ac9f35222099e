"""Make a file that is complete or not there: private, under another name until it is on the disk, over no other."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp

from eventlog.errors import LogUnwritableError
from eventlog.transactions import translated

BESIDE = ("-journal", "-wal", "-shm")
"""What SQLite puts beside a database."""


@contextmanager
def new_file(target: Path) -> Generator[Path]:
    """Give a private file beside ``target`` to write to; what is in it when the block ends becomes ``target``.

    When the block raises, whatever it raises, nothing is left.

    Raises:
        LogUnwritableError: there is something of that name, or no such folder, or no space.
    """
    _require_free(target)
    with translated(target):
        number, name = mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)  # for its owner only
        os.close(number)
        part = Path(name)
        try:
            yield part
            _clear(part)
            _to_disk(part)
            _publish(part, target)
        except BaseException:
            _clear(part)
            part.unlink(missing_ok=True)
            raise


def _require_free(target: Path) -> None:
    """Refuse a name that is taken: also by a link that leads nowhere."""
    if os.path.lexists(target):
        raise LogUnwritableError(str(target), "there is such a file already")
    if not target.parent.is_dir():
        raise LogUnwritableError(str(target), "there is no such folder")


def _clear(part: Path) -> None:
    """Take away what SQLite left beside the file; its connections are closed."""
    for suffix in BESIDE:
        part.with_name(part.name + suffix).unlink(missing_ok=True)


def _publish(part: Path, target: Path) -> None:
    """Give the file its name, unless somebody took it meanwhile: a rename would overwrite."""
    try:
        target.hardlink_to(part)
        part.unlink()
    except FileExistsError:
        raise LogUnwritableError(str(target), "there is such a file already") from None
    except OSError:  # a file system without links
        _require_free(target)
        part.rename(target)
    with suppress(OSError):  # a folder cannot be opened everywhere
        _to_disk(target.parent)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
