"""What filters compare, as everindex_meta records it: counts of searches by table, column and day, and of common values.

A value is recorded only where the server's own statistics list it among the most common ones of its column, so that nothing is
written down about a query that PostgreSQL has not written down about the rows. If the schema is missing or may not be written,
nothing is recorded.
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
        log.debug("use of filters not recorded: %s", type(exc).__name__, extra={"event": "filter-use-not-recorded"})


def add_filter_values(
    connection: Connection, *, schema: str, table: str, values: Sequence[tuple[str, str, int]]
) -> None:
    """Adds (column, value, searches that filtered by it alone) to the counts of today, of values that are common in the column.
    The connection must be in autocommit mode."""
    where = {"schema": schema, "table": table}
    try:
        with connection.transaction():
            connection.execute(
                "DELETE FROM everindex_meta.filter_value WHERE table_schema = %(schema)s AND table_name = %(table)s "
                "AND day < CURRENT_DATE - %(days)s::int",
                {**where, "days": KEPT_DAYS},
            )
            connection.execute(
                """
                INSERT INTO everindex_meta.filter_value (table_schema, table_name, column_name, value, searches)
                SELECT %(schema)s::text, %(table)s::text, given.column_name, given.value, sum(given.searches)
                FROM unnest(%(columns)s::text[], %(values)s::text[], %(searches)s::bigint[])
                     AS given (column_name, value, searches)
                WHERE EXISTS (
                    SELECT FROM pg_catalog.pg_stats s
                    WHERE s.schemaname = %(schema)s::text AND s.tablename = %(table)s::text AND s.attname = given.column_name
                      AND given.value = ANY (s.most_common_vals::text::text[]))
                GROUP BY given.column_name, given.value
                ON CONFLICT (table_schema, table_name, column_name, value, day)
                    DO UPDATE SET searches = filter_value.searches + EXCLUDED.searches
                """,
                {
                    **where, "columns": [each[0] for each in values], "values": [each[1] for each in values],
                    "searches": [each[2] for each in values],
                },
            )  # fmt: skip
    except psycopg.Error as exc:
        log.debug(
            "values of filters not recorded: %s", type(exc).__name__, extra={"event": "filter-values-not-recorded"}
        )
