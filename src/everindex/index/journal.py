"""The journal of index operations, in everindex_meta.journal: a history for people, which nothing else depends on.

If the schema is missing or may not be written, nothing is recorded, and everything else works the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from everindex.index.spec import IndexSpec, NamedIndex
from everindex.pg import own_schema
from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

#: Recorded before an index with a comment of others is dropped; contains the comment.
DROPPING = "dropping"
#: Recorded at the end of a build under the name of such an index: the comment is on the new index.
COMMENT_RESTORED = "comment restored"
#: A build of fewer rows says little about the time of a larger one.
LEAST_PAST_ROWS = 1000
#: True when, according to the last entry of the journal, everindex built index `i`, a row of `indexes_query`. An entry about a
#: dropped generation has the declared name in `index_name`, but does not concern the index with that name.
BUILT_HERE = sql.SQL(
    """
    coalesce((SELECT j.event FROM {journal} j
              WHERE j.index_schema = i.schema AND j.event IN ('built', 'swapped', 'dropped')
                AND CASE j.event WHEN 'dropped' THEN coalesce(j.details->>'name', j.index_name) ELSE j.index_name END
                    = i.name
              ORDER BY j.id DESC LIMIT 1), 'dropped') <> 'dropped'
    """
)
JOURNAL = sql.SQL("everindex_meta.journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the journal."""

    at: datetime
    schema: str
    index: str
    event: str
    details: dict[str, Any]


def record(connection: Connection, spec: NamedIndex, event: str, /, **details: Any) -> None:
    """Writes one entry, if possible. The connection must be in autocommit mode."""
    try:
        connection.execute(
            "INSERT INTO everindex_meta.journal (index_schema, index_table, index_name, event, details) "
            "VALUES (%s, %s, %s, %s, %s)",
            (spec.schema, spec.table, spec.name, event, Jsonb(details)),
        )
    except psycopg.Error as exc:
        log.debug("not journaled: %s: %s", event, type(exc).__name__, extra={"event": "journal-not-written"})


def entries(connection: Connection, spec: NamedIndex, *, limit: int = 50) -> list[Entry]:
    """The latest entries about an index, newest first; empty if there is no journal. Reads only."""
    if not own_schema.is_readable(connection, "journal"):
        return []
    rows = connection.execute(
        "SELECT at, index_schema, index_name, event, details FROM everindex_meta.journal "
        "WHERE index_schema = %s AND index_name = %s ORDER BY id DESC LIMIT %s",
        (spec.schema, spec.name, limit),
    ).fetchall()
    return [Entry(at=row[0], schema=row[1], index=row[2], event=row[3], details=row[4]) for row in rows]


def dropped_comment(connection: Connection, spec: NamedIndex, *, was_built_here: bool = False) -> str | None:
    """The comment of others on the index of that name when it was dropped, before the current one was built; None if there was
    none, if the current index has already had it, and if there is no journal. With `was_built_here`, only if everindex started
    a build after that drop. Reads only."""
    builds = starts = 0
    for entry in entries(connection, spec, limit=20):
        if entry.event == COMMENT_RESTORED:
            return None
        if entry.event in (DROPPING, "dropped") and entry.details.get("name") == spec.name:
            words = entry.details.get("comment")
            return words if isinstance(words, str) and (starts or not was_built_here) else None
        starts += entry.event == "build started"
        builds += entry.event == "built"
        if builds > 1:
            break
    return None


def last_build(connection: Connection, spec: IndexSpec, *, dimensions: int | None) -> tuple[int, float] | None:
    """(rows, seconds) of the latest build of this shape in this database, on any table; None if there is none."""
    if not own_schema.is_readable(connection, "journal"):
        return None
    row = connection.execute(
        "SELECT (details->>'rows')::bigint, (details->>'seconds')::float8 FROM everindex_meta.journal "
        "WHERE event = 'built' AND details @> %s AND (details->>'rows')::bigint >= %s ORDER BY id DESC LIMIT 1",
        (
            Jsonb(
                {
                    "dimensions": dimensions,
                    "m": spec.m,
                    "ef_construction": spec.ef_construction,
                    "key_type": spec.key_type,
                }
            ),
            LEAST_PAST_ROWS,
        ),
    ).fetchone()
    return None if row is None else (int(row[0]), float(row[1]))
