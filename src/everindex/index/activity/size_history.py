"""The size and rows of serving indexes over time, in everindex_meta.index_size.

If the schema is missing or may not be written, nothing is stored, and everything else works the same.
"""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass

import psycopg

from everindex.index.spec import NamedIndex
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

log = logging.getLogger(__name__)

#: One entry in this time for each index, and this many kept: 83 days.
EVERY_SECONDS = 3600
KEPT_ENTRIES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSize:
    """One entry."""

    at: dt.datetime
    estimated_rows: int
    index_bytes: int
    table_bytes: int


def note_size(
    connection: Connection, spec: NamedIndex, *, estimated_rows: int, index_bytes: int, table_bytes: int
) -> None:
    """Stores an entry unless the last one is recent, and deletes the oldest. The connection must be in autocommit mode."""
    names = {"schema": spec.schema, "name": spec.name}
    try:
        stored = connection.execute(
            """
            INSERT INTO everindex_meta.index_size
                (index_schema, index_table, index_name, estimated_rows, index_bytes, table_bytes)
            SELECT %(schema)s, %(table)s, %(name)s, %(rows)s, %(index)s, %(bytes)s
            WHERE NOT EXISTS (SELECT FROM everindex_meta.index_size WHERE index_schema = %(schema)s
                              AND index_name = %(name)s AND at > now() - make_interval(secs => %(every)s))
            """,
            names | {
                "table": spec.table, "rows": estimated_rows, "index": index_bytes, "bytes": table_bytes,
                "every": EVERY_SECONDS,
            },
        ).rowcount  # fmt: skip
        if stored:
            connection.execute(
                """
                DELETE FROM everindex_meta.index_size WHERE index_schema = %(schema)s AND index_name = %(name)s AND id < (
                    SELECT min(id) FROM (SELECT id FROM everindex_meta.index_size WHERE index_schema = %(schema)s
                                         AND index_name = %(name)s ORDER BY id DESC LIMIT %(kept)s) AS latest)
                """,
                names | {"kept": KEPT_ENTRIES},
            )
    except psycopg.Error as exc:
        log.debug("the size of an index was not stored: %s", type(exc).__name__, extra={"event": "size-not-stored"})


def size_over_time(connection: Connection, spec: NamedIndex) -> list[IndexSize]:
    """The entries of an index, oldest first; empty where there are none. Reads only."""
    if not own_schema.is_readable(connection, "index_size"):
        return []
    with translate_errors("reading the history of sizes"):
        rows = connection.execute(
            "SELECT at, estimated_rows, index_bytes, table_bytes FROM everindex_meta.index_size "
            "WHERE index_schema = %s AND index_name = %s ORDER BY id",
            (spec.schema, spec.name),
        ).fetchall()
    return [IndexSize(at=row[0], estimated_rows=row[1], index_bytes=row[2], table_bytes=row[3]) for row in rows]
