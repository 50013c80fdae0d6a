"""Rule: publication dates stored as text begin with YYYY-MM-DD, so that they compare as dates."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.date_text import NOT_ISO, normalise

COLUMN = "publication_date"
#: Number of rows that are checked.
LOOKED_AT = 200_000


def check(examined: Examined) -> Iterator[RuleResult]:
    for schema, name in sorted({(spec.schema, spec.table) for spec in examined.declared}):
        table = sql.Identifier(schema, name)
        quoted = table.as_string(None)
        if not examined.rows(
            sql.SQL(
                "SELECT FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass({}) AND attname = {} "
                "AND NOT attisdropped AND pg_catalog.format_type(atttypid, -1) IN ('text', 'character varying')"
            ).format(sql.Literal(quoted), sql.Literal(COLUMN))
        ):
            continue
        ((counted, strange),) = examined.rows(
            sql.SQL(
                "SELECT count(*), count(*) FILTER (WHERE {column} {not_iso}) FROM (SELECT {column} FROM {table} "
                "WHERE {column} IS NOT NULL LIMIT {most}) AS looked_at"
            ).format(column=sql.Identifier(COLUMN), not_iso=sql.SQL(NOT_ISO), table=table, most=sql.Literal(LOOKED_AT))
        )
        if not strange:
            yield good(f"all {counted:,} dates that were checked begin with YYYY-MM-DD", about=quoted)
            continue
        yield finding(
            f"{strange:,} of {counted:,} dates in {COLUMN} do not begin with YYYY-MM-DD",
            about=quoted,
            fix=Fix(
                statements=(normalise(table, COLUMN),),
                advice="the statement converts times with a zone to UTC and empty texts to NULL, and leaves ambiguous dates "
                "such as 3/4/2024 unchanged. It updates every row that it converts: look at a few of them first.",
            ),
        )


RULE = Rule(
    slug="date-not-iso",
    severity="warning",
    title="dates that are stored as text are ISO-8601 dates",
    reason="since and until compare dates as text, which orders them by day only if they begin with YYYY-MM-DD; others are "
    "wrongly included or left out (PostgreSQL: Collation Support).",
    check=check,
)
