"""Rule: a value that many searches filter by, and many rows have, has a vector index of its own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg import own_schema

#: Searches in DAYS from which an index earns what it costs the writes.
OFTEN = 1000
DAYS = 7
#: A search that reads the rows of a filter takes 4 to 6 µs for each (docs/measurements/filtered.md): 20 ms.
MANY_ROWS = 4_000
#: A value that more of the rows have is found as quickly through the index of all rows: at half of them the ratio was 1.0, at a
#: tenth 0.25 (docs/measurements/collections.md).
MOST_SHARE = 0.3

_VALUES = """
    SELECT v.table_schema, v.table_name, v.column_name, v.value, sum(v.searches)::bigint, c.reltuples::float8,
           pg_catalog.format_type(a.atttypid, -1),
           (SELECT max(m.share) FROM pg_catalog.pg_stats s,
                   unnest(s.most_common_vals::text::text[], s.most_common_freqs) AS m (value, share)
            WHERE s.schemaname = v.table_schema AND s.tablename = v.table_name AND s.attname = v.column_name
              AND m.value = v.value)::float8
    FROM everindex_meta.filter_value v
    JOIN pg_catalog.pg_namespace n ON n.nspname = v.table_schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = v.table_name AND c.relkind IN ('r', 'p')
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = v.column_name AND NOT a.attisdropped
    WHERE v.day > CURRENT_DATE - %(days)s::int
    GROUP BY v.table_schema, v.table_name, v.column_name, v.value, c.reltuples, a.atttypid
    HAVING sum(v.searches) >= %(often)s::bigint
    ORDER BY 5 DESC, 1, 2, 3, 4
"""
_DECLARED = """
    SELECT p.index_name FROM everindex_meta.partial_index p
    WHERE p.table_schema = %(schema)s AND p.table_name = %(table)s
      AND (SELECT count(*) FROM pg_catalog.json_object_keys(p.filters)) = 1
      AND %(value)s IN (p.filters ->> %(column)s, p.filters -> %(column)s ->> '$eq')
"""
_COLLECTION = "SELECT name FROM everindex_meta.collection WHERE (table_schema, table_name) = (%(schema)s, %(table)s)"


def check(examined: Examined, *, often: int = OFTEN, many_rows: int = MANY_ROWS) -> Iterator[RuleResult]:
    connection = examined.connection
    if not own_schema.is_readable(connection, "filter_value") or not own_schema.is_readable(
        connection, "partial_index"
    ):
        return
    for row in examined.rows(_VALUES, {"days": DAYS, "often": often}):
        schema, table, column, value, searches, all_rows, kind, share = row
        rows = int((share or 0.0) * all_rows)
        if rows < many_rows or share > MOST_SHARE:
            continue
        about = sql.Identifier(schema, table).as_string(None)
        written = _as_json(value, kind)
        said = f"{searches:,} searches in {DAYS} days filtered {about} by {column} = {written} alone"
        where = {"schema": schema, "table": table, "column": column, "value": _text_of(value, kind)}
        declared = examined.rows(_DECLARED, where)
        if declared:
            yield good(f"{said}, which has the partial vector index {declared[0][0]}", about=about)
            continue
        named = (
            examined.rows(_COLLECTION, {"schema": schema, "table": table})
            if own_schema.is_readable(connection, "collection")
            else []
        )
        command = (
            f"everindex deploy --partial {shlex.quote(f'{{{json.dumps(column, ensure_ascii=False)}: {written}}}')}"
        )
        if named:
            command += f" --collection {shlex.quote(named[0][0])}"
        yield finding(
            f"{said}, which {rows:,} rows ({share:.0%}) have: each reads them, or visits the entries of others",
            about=about,
            fix=Fix(
                advice=f"`{command}` builds a vector index of these rows online; it takes {share:.0%} of the space of the whole "
                "one, and is kept and proven like it. `--drop-partial` takes it back."
            ),
        )


def _as_json(value: str, kind: str) -> str:
    """The value as a filter has it."""
    if kind == "boolean":
        return "true" if value == "t" else "false"
    if kind in ("smallint", "integer", "bigint", "numeric", "real", "double precision"):
        return value
    return json.dumps(value, ensure_ascii=False)


def _text_of(value: str, kind: str) -> str:
    """The same as `->>` gives it."""
    return ("true" if value == "t" else "false") if kind == "boolean" else value


RULE = Rule(
    slug="partial-index-pays",
    severity="notice",
    title="a value that many searches filter by has a vector index of its own",
    reason="a search under a filter reads all rows that pass, or visits the entries of rows that do not; an index of exactly "
    "these rows finds its nearest as fast as a search without a filter (docs/measurements/collections.md).",
    check=check,
)
