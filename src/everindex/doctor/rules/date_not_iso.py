"""Rule: publication dates stored as text begin with YYYY-MM-DD, so that they compare as dates."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.date_text import NOT_ISO, normalise

COLUMN = "publication_date"
#: So many rows are looked at.
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
            yield good(f"{counted:,} dates that were looked at begin with YYYY-MM-DD", about=quoted)
            continue
        yield finding(
            f"{strange:,} of {counted:,} dates in {COLUMN} are texts that do not begin with YYYY-MM-DD",
            about=quoted,
            fix=Fix(
                statements=(normalise(table, COLUMN),),
                advice="the statement turns times with a zone into UTC and empty texts into NULL, and leaves what it "
                "cannot tell, as 3/4/2024. It writes each such row: look at a few of them before.",
            ),
        )


RULE = Rule(
    slug="date-not-iso",
    severity="warning",
    title="dates that are stored as text are ISO-8601 dates",
    reason="since and until compare text as text, which orders dates by day only where they begin with YYYY-MM-DD; others are "
    "passed or left out wrongly (PostgreSQL: Collation Support).",
    check=check,
)
