"""Open a file as a log: connections and their settings. Knows SQLite, not events."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from eventlog import errors, transactions
from eventlog.chain import Chain
from eventlog.chain_key import chain_of_environment, require_key, store_check, stored_check
from eventlog.logger import Logger
from eventlog.place import Connection, alone_in, connect, file_id, part_neighbours
from eventlog.schema import (
    APPLICATION_ID,
    FORMAT,
    FORMER_OBJECTS,
    expected_objects,
    migrate,
    objects_digest,
    read_lock,
    stand_ins,
    stored_objects,
)
from eventlog.seal import CipherKey, Seal, cipher_key, new_lock, open_seal
from eventlog.transactions import one_moment, transaction, translated

PAGE_BYTES = 8192
"""The rows of an event of 3 KB in a transaction: 40 µs with 4 KB, 43 with 8, 52 with 16; batches like bigger ones."""
SQLITE_MIN = (3, 38)
"""STRICT tables (3.37) and JSON built in (3.38)."""


opening = threading.RLock()
"""Held while a connection is opened, and by a thread that forks: see ``inherited``."""
inherited: list[sqlite3.Connection] = []
"""Connections a fork brought into this process; they are closed before the first one is opened here.

SQLite keeps a table of its file locks per process. A forked child inherits the table but not the
locks, and a connection opened while an inherited one is still there trusts the table: other
processes could then remove the WAL under it. Closing waits until the child wants to use SQLite,
because it needs SQLite's own mutexes, which a thread of another library may have held at the fork.
"""

ARCHIVE_OF = "archive_of"
"""Key in ``meta``: the salt of the log whose compacted events the file holds."""

Synchronous = Literal["NORMAL", "FULL"]
log = Logger(__name__)


def open_writer(
    path: Path,
    synchronous: Synchronous = "NORMAL",
    key: CipherKey | None = None,
    like: Seal | None = None,
    *,
    archive: bool = False,
    chain: Chain | None = None,
) -> Connection:
    """Return a connection that may append; makes the file, or brings an older format up to date.

    ``key``: what the log is encrypted with; ``None`` means that of the environment. A new file is encrypted if there
    is one, or as the log whose seal is ``like``: rows may then be copied from that one as they are. ``archive``: it
    may be what compaction moved events to, which nobody else writes. ``chain``: with the key of the log's digests;
    ``None`` means that of the environment.

    Raises:
        ChainKeyError: ``chain`` is not the one the log was made with; the file was not changed.
        LogOpenError: one of its kinds; the file was not changed then.
    """
    _check_sqlite(path)
    key = cipher_key(None, str(path)) if key is None else key
    chain = chain_of_environment(str(path)) if chain is None else chain
    with opening, translated(path):
        _require_file(path)
        _close_inherited()
        is_new = _create_private(path)
        db = connect(path, path, timeout=transactions.BUSY_S)
        try:
            if _recognise(db, path, strict=True) == 0:
                _shape(db)
            else:  # before the first setting that may write
                require_key(db, chain)
                _unlock(db, path, key)
            _prepare_writer(db, synchronous)
            _bring_up_to_date(db, path, new_lock(key) if like is None else like.lock)
            _unlock(db, path, key)
            if not archive:
                _refuse_archive(db, path)
            _give_key(db, chain)
            db.wal = file_id(f"{os.path.realpath(path)}-wal")
        except BaseException as error:
            db.close()
            is_others = isinstance(error, (errors.ChainKeyError, errors.CipherKeyError))  # who made it meanwhile
            if is_new and not is_others:
                _remove(path)
            raise
    return db


def open_reader(path: Path, key: CipherKey | None = None) -> Connection:
    """Return a connection that cannot write: the bytes of the file stay as they are.

    ``key``: what the log is encrypted with; ``None`` means that of the environment.

    Raises:
        LogNotFoundError: there is no file.
        CipherKeyError: the key is missing or wrong, or there is one and the log is not encrypted.
        LogOpenError: it cannot be read as a log.
    """
    _check_sqlite(path)
    key = cipher_key(None, str(path)) if key is None else key
    if not path.exists():
        raise errors.LogNotFoundError(str(path))
    with opening, translated(path):
        _require_file(path)
        _close_inherited()
        db = _connect_read_only(path)
        try:
            _guard_schema(db)
            version = _recognise(db, path, strict=False)
            if version == 0:
                raise errors.NotAnEventLogError(str(path), "the file is empty")
            _unlock(db, path, key)
            if version < FORMAT:
                stand_ins(db)
            db.wal = file_id(f"{os.path.realpath(path)}-wal")
        except BaseException:
            db.close()
            raise
    return db


def is_sealed(path: Path) -> bool:
    """Whether a file is an encrypted log; for this no key is needed.

    Raises:
        LogOpenError: it cannot be read, or is no log of ours: its views are another's.
    """
    with opening, translated(path):
        _require_file(path)
        _close_inherited()
        db = _connect_read_only(path)
        try:
            _guard_schema(db)
            with one_moment(db):
                _require_our_objects(db, path, _identify(db, path), strict=False)
            return bool(read_lock(db, stored_objects(db)))
        finally:
            db.close()


def _unlock(db: Connection, path: Path, key: CipherKey) -> None:
    """Have what opens the values of the log, or refuse."""
    db.seal = open_seal(read_lock(db, stored_objects(db)), key, str(path))


def open_unchecked(path: Path, *, tolerant: bool = False) -> Connection:
    """Return a connection that cannot write to whatever the file is, for those who look for damage.

    ``tolerant`` makes SQLite go on where a file ends early. Nothing is translated: its errors are what is looked for.
    """
    _check_sqlite(path)
    _require_file(path)
    with opening:
        _close_inherited()
        try:
            db = _connect_read_only(path)
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            uri = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro"
            db = connect(uri, path, uri=True)
        _guard_schema(db)
        if tolerant:
            db.execute("PRAGMA writable_schema = ON")
    return db


def _close_inherited() -> None:
    """Make SQLite forget the locks of the process we were forked from; nothing is under way on these connections."""
    while inherited:
        inherited.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=opening.acquire, after_in_parent=opening.release, after_in_child=opening.release)


def _check_sqlite(path: Path) -> None:
    """Old libraries lack STRICT tables and JSON."""
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise errors.LogOpenError(str(path), f"SQLite {sqlite3.sqlite_version} is older than 3.38")


def _require_file(path: Path) -> None:
    """Refuse what is no file: a device would be given another mode, a pipe would keep us waiting for ever.

    Raises:
        NotAnEventLogError: it is something else.
        LogUnwritableError: it is a link that leads nowhere.
        IsADirectoryError: it is a folder.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        if path.is_symlink():
            raise errors.LogUnwritableError(str(path), "a link that leads nowhere") from None
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise errors.NotAnEventLogError(str(path), "not a regular file")


def _create_private(path: Path) -> bool:
    """Make an empty file only its owner can read (prompts are private); SQLite gives -wal and -shm the same mode.

    Returns whether it is new.

    A file that exists is not opened here: closing it again would drop the locks of every SQLite
    connection this process has on it, and another process could then remove its WAL.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with alone_in(path.parent) if not path.exists() else nullcontext():
            if not path.exists():
                part_neighbours(path)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        if path.stat().st_size == 0:
            path.chmod(0o600)
        return False
    return True


def _remove(path: Path) -> None:
    """Take away a file that could not be made into a log, e.g. because the disk is full."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _connect_read_only(path: Path) -> Connection:
    """Open without the right to write; a closed log in a read-only folder has no WAL and needs none."""
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro"
    try:
        db = connect(uri, path, uri=True, timeout=transactions.BUSY_S)
        db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        if os.path.exists(f"{os.path.realpath(path)}-wal"):  # noqa: PTH110 - beside the file, not beside a link
            raise
        db = connect(uri + "&immutable=1", path, uri=True)
    return db


def _recognise(db: sqlite3.Connection, path: Path, *, strict: bool) -> int:
    """Return the format of a file whose objects are ours, 0 for an empty one.

    At one moment: of a file that another process is making, half of what it was and half of what it is is nobody's.
    """
    with one_moment(db):
        version = _identify(db, path)
        if version:
            _require_our_objects(db, path, version, strict=strict)
    return version


def _identify(db: sqlite3.Connection, path: Path) -> int:
    """Return the format of the file, 0 for an empty one; refuse what is not ours before changing anything."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if application == 0 and version == 0 and empty:
        return 0
    if application != APPLICATION_ID:
        raise errors.NotAnEventLogError(str(path), "an SQLite database of another program")
    if version > FORMAT:
        raise errors.FormatTooNewError(str(path), f"format {version}, this version knows {FORMAT}")
    return version


def _guard_schema(db: sqlite3.Connection) -> None:
    """A file from elsewhere may carry triggers and views: they must not call functions of ours."""
    db.execute("PRAGMA trusted_schema = OFF")


def _shape(db: sqlite3.Connection) -> None:
    """What only an empty file can be told."""
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # so that compaction can give space back


def _prepare_writer(db: sqlite3.Connection, synchronous: Synchronous) -> None:
    """Settings of a connection that appends, each for a reason."""
    _set_wal(db)  # readers never block the writer, one fsync per commit instead of two
    db.execute(f"PRAGMA synchronous = {synchronous}")  # NORMAL survives a kill, FULL also power loss
    db.execute("PRAGMA wal_autocheckpoint = 1000")  # larger stalls longer: 9 ms here, 32 ms at 4,000
    db.execute("PRAGMA foreign_keys = OFF")  # checked by verify; the append path pays for no look-ups
    db.execute("PRAGMA cell_size_check = ON")  # damage is told instead of spread
    _guard_schema(db)


def _set_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL; the switch ignores the busy timeout when processes race to make a file."""
    deadline = time.monotonic() + transactions.BUSY_S
    while True:
        try:
            mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as e:
            if "locked" not in str(e) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            log.warning("wal_unavailable", mode=mode, hint="WAL needs a local disk; network file systems lose data")
        return


def _bring_up_to_date(db: sqlite3.Connection, path: Path, lock: str) -> None:
    """Migrate if needed, under the write lock, then insist that everything is as we make it."""
    if _recognise(db, path, strict=True) < FORMAT:
        with transaction(db):
            if _identify(db, path) < FORMAT:  # another process may have been quicker
                migrate(db, lock)
    _require_our_objects(db, path, FORMAT, strict=True)


def _give_key(db: sqlite3.Connection, chain: Chain) -> None:
    """Note the key of a chain that has not begun yet."""
    if not chain.is_keyed or stored_check(db) is not None:
        return require_key(db, chain)
    with transaction(db):
        require_key(db, chain)  # another process may have been quicker
        store_check(db, chain)
    return None


def _refuse_archive(db: sqlite3.Connection, path: Path) -> None:
    """The seqs that follow in an archive are those of its log."""
    if db.execute("SELECT 1 FROM meta WHERE key = ?", (ARCHIVE_OF,)).fetchone():
        reason = "an archive of compacted events can only be read; to go on with a run of it: eventlog export, import"
        raise errors.LogUnwritableError(str(path), reason)


def _require_our_objects(db: sqlite3.Connection, path: Path, version: int, *, strict: bool) -> None:
    """Refuse a file whose tables, triggers or views are not ours; readers tolerate additional ones."""
    found = stored_objects(db)
    if version in FORMER_OBJECTS:
        if objects_digest(found) != FORMER_OBJECTS[version]:
            raise errors.NotAnEventLogError(str(path), f"its tables are not those of format {version}")
        return
    expected = expected_objects(sealed=bool(read_lock(db, found)))
    wrong = sorted(n for n in expected if found.get(n) != expected[n])
    if strict:
        wrong += sorted(set(found) - set(expected))
    if wrong:
        raise errors.NotAnEventLogError(str(path), f"{wrong[0]} differs from what this library makes")
