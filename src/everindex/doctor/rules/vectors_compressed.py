"""Rule: no vector column has storage EXTENDED, under which PostgreSQL tries to compress every vector."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good

#: pg_attribute.attstorage
EXTENDED = "x"
EXTERNAL = "e"


def check(examined: Examined) -> Iterator[RuleResult]:
    if not examined.tables:
        return
    storages = {
        (row[0], row[1]): (row[2], row[3])
        for row in examined.rows(
            sql.SQL(
                """
                SELECT a.attrelid, a.attname, a.attstorage::text, t.typstorage::text
                FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                WHERE a.attrelid = ANY({tables}) AND a.attnum > 0 AND NOT a.attisdropped
                """
            ).format(tables=sql.Literal([table.oid for table in examined.tables]))
        )
    }
    for table in examined.tables:
        column = f"column {table.quoted_column} of {table.quoted}"
        storage, of_type = storages.get((table.oid, table.column), ("", ""))
        if storage == EXTENDED and of_type == EXTERNAL:
            yield finding(
                f"{column} has storage EXTENDED: PostgreSQL tries to compress every vector, but vectors do not compress",
                about=table.quoted,
                fix=Fix(
                    statements=(f"ALTER TABLE {table.quoted} ALTER COLUMN {table.quoted_column} SET STORAGE EXTERNAL",),
                    advice="it affects values written from then on, and takes an ACCESS EXCLUSIVE lock for a moment.",
                ),
            )
        else:
            yield good(f"{column} is not compressed", about=table.quoted)


RULE = Rule(
    slug="vectors-compressed",
    severity="notice",
    title="vectors are stored uncompressed",
    reason="pgvector 0.6.0 made EXTERNAL the storage of vector (CHANGELOG); older columns, and columns restored from a dump of "
    "such a database, keep EXTENDED, which costs time at every write and read.",
    check=check,
)
