"""What filters compare, as everindex_meta.filter_use records it: counts of searches by table, column and day.

Names only, never values. If the schema is missing or may not be written, nothing is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psycopg

from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

#: Older counts are deleted: the doctor looks at a week.
KEPT_DAYS = 30
#: Kinds of comparison recorded for one table: clients of an API could name any member of a JSON column.
MOST_KINDS = 200


def add_filter_uses(
    connection: Connection, *, schema: str, table: str, uses: Sequence[tuple[str, list[str], str, int]]
) -> None:
    """Adds (column, members of a JSON column, how it is compared, number of searches) to the counts of today. The connection
    must be in autocommit mode."""
    where = {"schema": schema, "table": table}
    try:
        with connection.transaction():
            connection.execute(
                "DELETE FROM everindex_meta.filter_use WHERE table_schema = %(schema)s AND table_name = %(table)s "
                "AND day < CURRENT_DATE - %(days)s::int",
                {**where, "days": KEPT_DAYS},
            )
            for column, members, compared, searches in uses:
                connection.execute(
                    """
                    INSERT INTO everindex_meta.filter_use
                        (table_schema, table_name, column_name, members, compared, searches)
                    SELECT %(schema)s, %(table)s, %(column)s, %(members)s::text[], %(compared)s, %(searches)s
                    WHERE (SELECT count(*) FROM everindex_meta.filter_use
                           WHERE table_schema = %(schema)s AND table_name = %(table)s AND day = CURRENT_DATE) < %(most)s
                       OR EXISTS (SELECT FROM everindex_meta.filter_use
                           WHERE table_schema = %(schema)s AND table_name = %(table)s AND day = CURRENT_DATE
                             AND column_name = %(column)s AND members = %(members)s::text[] AND compared = %(compared)s)
                    ON CONFLICT (table_schema, table_name, column_name, members, compared, day)
                        DO UPDATE SET searches = filter_use.searches + EXCLUDED.searches
                    """,
                    {
                        **where, "column": column, "members": members, "compared": compared, "searches": searches,
                        "most": MOST_KINDS,
                    },
                )  # fmt: skip
    except psycopg.Error as exc:
        log.debug("use of filters not recorded: %s", type(exc).__name__)
