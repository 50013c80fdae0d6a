"""Rule: what is recorded about rows belongs to rows that exist."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.orphaned_records import COUNTED, records_of_rows
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg import own_schema
from everindex.units import count_text


def check(examined: Examined) -> Iterator[RuleResult]:
    articles = _articles(examined)
    for kept in records_of_rows(examined.connection, examined.rows, articles):
        orphans = examined.row(kept.counting)[0]
        if not orphans:
            yield good(f"every row of {kept.kept_in} belongs to a row of {kept.of}", about=kept.kept_in)
            continue
        counted = f"more than {COUNTED:,} rows" if orphans > COUNTED else count_text(orphans, "row")
        yield finding(
            f"{counted} of {kept.kept_in} belong to no row of {kept.of}",
            about=kept.kept_in,
            fix=Fix(
                statements=(kept.deletion.as_string(examined.connection),),
                advice="`everindex delete --orphans` removes them; rows and vectors stay as they are.",
            ),
        )
    if articles is not None and own_schema.is_readable(examined.connection, "incident_link"):
        gone = examined.row(
            sql.SQL(
                "SELECT count(*) FROM (SELECT FROM everindex_meta.incident_link l WHERE l.kind = 'article' "
                "AND NOT EXISTS (SELECT FROM {} a WHERE a.uri = l.target) LIMIT {}) AS counted"
            ).format(articles, sql.Literal(COUNTED))
        )[0]
        if gone:
            yield good(
                f"{count_text(gone, 'link')} of incidents to articles that are gone: kept and shown as gone, until somebody "
                "unlinks them",
                about="everindex_meta.incident_link",
            )


def _articles(examined: Examined) -> sql.Identifier | None:
    """The table of the articles, where it is declared and exists."""
    for schema, name in dict.fromkeys((spec.schema, spec.table) for spec in examined.declared):
        table = sql.Identifier(schema, name)
        if name == "articles" and examined.rows(
            sql.SQL(
                "SELECT FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass({}) AND attname = 'uri' "
                "AND NOT attisdropped"
            ).format(sql.Literal(table.as_string(None)))
        ):
            return table
    return None


RULE = Rule(
    slug="orphaned-records",
    severity="notice",
    title="what is recorded about rows belongs to rows that exist",
    reason="rows that an application deletes without everindex leave their records, which take space and are counted as "
    "failures to embed (docs/models.md).",
    check=check,
)
