"""Fill in what indexes still know: an index of all columns of a table is as good as the table itself."""

from __future__ import annotations

from typing import Any

from eventlog.digests import COLUMNS, Row
from eventlog.record import MAIN_BRANCH
from eventlog.repair.links import Links
from eventlog.repair.work import Work

_ORDER = {"names": ("kind", "name", "label"), "paths": ("parent", "label")}
_USERS = {"names": "(type = ?1 OR task = ?1 OR agent = ?1)", "paths": "path = ?1"}
_CANDIDATES = (
    "SELECT branch, seq, digest FROM events WHERE run = ? AND branch <> ? AND seq < ?"
    " UNION ALL SELECT b.branch, b.seq, b.digest FROM bases AS b JOIN branches AS o ON o.id = b.branch WHERE o.run = ?"
    " ORDER BY 2 DESC"
)
_MISPLACED = (
    "SELECT e.seq, k.branch FROM events AS e LEFT JOIN known_events AS k ON k.seq = e.seq"
    " LEFT JOIN branches AS b ON b.id = e.branch WHERE b.id IS NULL OR e.branch <> k.branch OR e.seq <= b.fork_seq"
    " ORDER BY e.seq"
)
"""Events of branches nobody knows or that begin later, and those that their index has on another one."""
_DIFFER = (
    "SELECT 'run', r.name, k.name FROM runs AS r JOIN known_runs AS k ON k.id = r.id"
    " WHERE r.name <> k.name AND r.id > 0"
    " UNION ALL SELECT 'branch', b.name, k.name FROM branches AS b JOIN known_branches AS k ON k.id = b.id"
    " WHERE b.name <> k.name AND b.id > 0"
    " UNION ALL SELECT 'class of event', n.label, o.label FROM names AS n JOIN other_names AS o ON o.id = n.id"
    " WHERE n.label <> o.label AND n.kind = 'type'"
)
_LOST_NAMES = " UNION ALL ".join(
    f"SELECT name FROM {table} AS t WHERE name = 'salvaged-' || id"
    f" AND name NOT IN (SELECT name FROM known_{table} WHERE id = t.id)"
    for table in ("runs", "branches")
)


def fill_names(work: Work) -> None:
    """Take from their indexes the names and paths that are lost."""
    for table in _ORDER:
        work.db.execute(f"INSERT OR IGNORE INTO {table} SELECT * FROM other_{table}")


def complete(links: Links) -> None:
    """Fill in names, paths, runs and branches."""
    for table in _ORDER:
        _mend(links, table)
    work = links.work
    _drop_useless(work)
    work.db.execute("INSERT OR IGNORE INTO runs SELECT id, name, 0, 'named', 0 FROM known_runs")
    work.db.execute(
        "INSERT OR IGNORE INTO branches SELECT id, run, name, NULL, NULL, NULL, 0, NULL, 0, NULL FROM known_branches"
    )
    _correct_places(links)
    _name_the_nameless(work)
    work.db.execute(
        "UPDATE branches SET base_seq = coalesce((SELECT seq FROM bases WHERE branch = branches.id), base_seq, 0)"
    )
    for row, run, name in work.db.execute(
        "SELECT id, run, name FROM branches WHERE created_ns = 0 AND id > 0"
    ).fetchall():
        if name != MAIN_BRANCH:
            _find_fork(links, row, run)


def _mend(links: Links, table: str) -> None:
    """Where a table and its index differ, take what proves events."""
    work, columns = links.work, _ORDER[table]
    differ = " OR ".join(f"t.{name} IS NOT o.{name}" for name in columns)
    listed = ", ".join(f"o.{name}" for name in columns)
    sql = f"SELECT t.id, {listed} FROM {table} AS t JOIN other_{table} AS o ON o.id = t.id WHERE {differ}"
    for row, *other in work.db.execute(sql).fetchall():
        own = work.db.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE id = ?", (row,)).fetchone()
        if None in own or not links.prove_any(_USERS[table], row):
            _set(work, table, row, other)
            links.forget_names()
            if None not in own and not links.prove_any(_USERS[table], row):
                _set(work, table, row, own)
    links.forget_names()


def _drop_useless(work: Work) -> None:
    """Take out names and paths of which a part is lost, and names that nothing uses: they may be somebody else's twin.

    No digest covers the class of an event: without it, the name of its type does.
    """
    work.db.execute("UPDATE names SET label = '' WHERE label IS NULL AND kind = 'type'")
    for table, columns in _ORDER.items():
        work.db.execute(f"DELETE FROM {table} WHERE " + " OR ".join(f"{column} IS NULL" for column in columns))
    used = " UNION ALL ".join(f"SELECT {column} FROM events WHERE {column} > 0" for column in ("type", "task", "agent"))
    work.db.execute(f"DELETE FROM names WHERE id NOT IN ({used})")


def _set(work: Work, table: str, row: int, values: Any) -> None:
    """Write the columns of a name or path."""
    names = ", ".join(f"{name} = ?" for name in _ORDER[table])
    work.db.execute(f"UPDATE {table} SET {names} WHERE id = ?", (*values, row))


def _correct_places(links: Links) -> None:
    """Put events on the branch that proves them or that the index has, and branches into runs that are there."""
    work = links.work
    known = {row for (row,) in work.db.execute("SELECT id FROM branches")}
    for seq, told in work.db.execute(_MISPLACED).fetchall():
        row: Any = links.row(seq)
        place = told if row.branch not in known and told in known else row.branch
        if told in known and links.follows_neighbour(row._replace(branch=told)):
            place = told
        elif not links.follows_neighbour(row):
            others = (found for (found,) in work.db.execute("SELECT id FROM branches WHERE run = ?", (row.run,)))
            place = next((found for found in others if links.proves_next(row._replace(branch=found))), place)
        work.db.execute("UPDATE events SET branch = ? WHERE seq = ?", (place, seq))
    work.db.execute(
        "UPDATE branches SET run = coalesce((SELECT run FROM events WHERE branch = branches.id GROUP BY run"
        " ORDER BY count(*) DESC LIMIT 1), run) WHERE run NOT IN (SELECT id FROM runs)"
    )


def _name_the_nameless(work: Work) -> None:
    """Make rows for branches and runs that events tell of and nothing else."""
    work.db.execute(
        "INSERT OR IGNORE INTO branches SELECT branch, run, 'salvaged-' || branch, NULL, NULL, 0, 0, NULL, 0, NULL"
        " FROM events WHERE branch IS NOT NULL AND run IS NOT NULL GROUP BY branch"
    )
    work.db.execute(
        "INSERT OR IGNORE INTO branches SELECT branch, run, 'salvaged-' || branch, NULL, NULL, 0, 0, NULL, 0, NULL"
        " FROM known_events WHERE branch IS NOT NULL AND run IS NOT NULL GROUP BY branch"
    )
    work.db.execute("UPDATE known_events SET branch = NULL WHERE branch NOT IN (SELECT id FROM branches)")
    for table in ("branches", "runs"):
        work.db.execute(
            f"UPDATE {table} SET name = coalesce((SELECT name FROM known_{table} WHERE id = {table}.id),"
            " 'salvaged-' || id) WHERE name IS NULL"
        )
    work.db.execute(
        "INSERT OR IGNORE INTO runs SELECT run, 'salvaged-' || run, 0, 'named', 0 FROM branches WHERE run IS NOT NULL"
        " GROUP BY run"
    )
    work.db.execute("UPDATE OR IGNORE runs SET name = '' WHERE id = 0")
    work.db.execute("UPDATE branches SET name = 'main' WHERE id = 0")


def lost_names(work: Work) -> list[str]:
    """Return the names that runs and branches got whose own are lost, with their indexes."""
    return [name for (name,) in work.db.execute(_LOST_NAMES)]


def doubtful_names(work: Work) -> list[str]:
    """Return what should be said where row and index differ and no digest covers it: names of runs, among others."""
    rows = work.db.execute(_DIFFER).fetchall()
    return [f"{what} {name!r} may be called {other!r}: its row and its index differ" for what, name, other in rows]


def _find_fork(links: Links, branch: int, run: int) -> None:
    """Find where a branch began, whose row is lost: its first event chains to the one there."""
    sql = f"SELECT {COLUMNS} FROM events WHERE branch = ? ORDER BY seq LIMIT 1"
    found = links.work.db.execute(sql, (branch,)).fetchone()
    if found is None:
        return
    first = Row._make(found)
    if links.follows(b"", first):
        return
    for parent, seq, digest in links.work.db.execute(_CANDIDATES, (run, branch, first.seq, run)):
        if links.follows(digest, first):
            links.work.db.execute("UPDATE branches SET parent = ?, fork_seq = ? WHERE id = ?", (parent, seq, branch))
            return
