"""Rule: every column that searches often filter by has an index that can serve the filter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import LiteralString

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg import own_schema
from everindex.pg.index_catalog import CatalogIndex, catalog_indexes, indexes_query

#: With fewer rows, reading all of them to count those that pass takes a few milliseconds at most.
MANY_ROWS = 10_000
#: Searches in DAYS from which an index earns what it costs the writes.
OFTEN = 100
DAYS = 7
#: A column with fewer values than this passes so many rows for each that the vector index answers, not its own.
FEW_VALUES = 20

_USES = """
    SELECT u.table_schema, u.table_name, u.column_name, u.members, u.compared, sum(u.searches)::bigint,
           c.reltuples::bigint, pg_catalog.format_type(a.atttypid, -1), c.oid,
           (SELECT s.n_distinct FROM pg_catalog.pg_stats s
            WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname LIMIT 1)
    FROM everindex_meta.filter_use u
    JOIN pg_catalog.pg_namespace n ON n.nspname = u.table_schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = u.table_name AND c.relkind IN ('r', 'p')
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = u.column_name AND NOT a.attisdropped
    WHERE u.day > CURRENT_DATE - %(days)s::int
    GROUP BY u.table_schema, u.table_name, u.column_name, u.members, u.compared, c.oid, c.reltuples, n.nspname, c.relname,
             a.attname, a.atttypid
    HAVING sum(u.searches) >= %(often)s::bigint
    ORDER BY 6 DESC, 1, 2, 3, 4
"""

#: Those that serve any search.
_INDEXES: LiteralString = "i.indrelid = %(table)s::oid AND i.indisvalid AND i.indpred IS NULL"


def check(examined: Examined, *, many_rows: int = MANY_ROWS, often: int = OFTEN) -> Iterator[RuleResult]:
    if not own_schema.is_readable(examined.connection, "filter_use"):
        return
    for row in examined.rows(_USES, {"days": DAYS, "often": often}):
        schema, table, column, members, compared, searches, rows, kind, oid, distinct = row
        if rows < many_rows or (compared == "equal" and _has_few_values(kind, distinct)):
            continue
        quoted = sql.Identifier(schema, table).as_string(None)
        named = ".".join((column, *members))
        indexes = catalog_indexes(examined.rows(indexes_query(_INDEXES), {"table": oid}))
        times = f"{searches:,} searches in {DAYS} days"
        by_order = "" if compared == "equal" else ", by order"
        if any(_serves(index, column, members, compared, kind) for index in indexes):
            yield good(f"{times} filtered {quoted} by {named}{by_order}, which has an index", about=quoted)
            continue
        yield finding(
            f"{times} filtered {quoted} by {named}{by_order}, and no index serves that among {rows:,} rows",
            about=quoted,
            fix=Fix(
                statements=(f"CREATE INDEX CONCURRENTLY ON {quoted} {_definition(column, members, compared, kind)}",),
                advice="the index takes space and slows down writes: worth it where such filters pass few of the rows. "
                "`everindex search --where … --explain` shows whether a search reads the rows that pass.",
            ),
        )


def _has_few_values(kind: str, distinct: float | None) -> bool:
    """Whether equality leaves so many rows that the vector index answers."""
    if kind == "boolean":
        return True
    is_plain = kind not in ("json", "jsonb") and not kind.endswith("[]")
    return is_plain and distinct is not None and 0 < distinct < FEW_VALUES


def _serves(index: CatalogIndex, column: str, members: list[str], compared: str, kind: str) -> bool:
    is_of_column = index.column == column
    if kind.endswith("[]"):
        return index.method == "gin" and is_of_column
    if kind not in ("json", "jsonb"):
        return is_of_column and (index.method == "btree" or (index.method == "hash" and compared == "equal"))
    expression = index.expression or ""
    is_named = column in expression or sql.Identifier(column).as_string(None) in expression
    if compared == "equal":
        return index.method == "gin" and (is_of_column if kind == "jsonb" else index.column is None and is_named)
    json_type = "'number'" if compared == "numbers" else "'string'"
    return index.method == "btree" and is_named and json_type in expression and _path(members) in expression


def _definition(column: str, members: list[str], compared: str, kind: str) -> str:
    """Method and columns of the index, as `condition_sql` compares."""
    quoted = sql.Identifier(column).as_string(None)
    if kind.endswith("[]"):
        return f"USING gin ({quoted})"
    if kind not in ("json", "jsonb"):
        return f"({quoted})"
    document = quoted if kind == "jsonb" else f"({quoted}::jsonb)"
    if compared == "equal":
        return f"USING gin ({document} jsonb_path_ops)"
    path = _path(members)
    if compared == "numbers":
        return f"((CASE WHEN jsonb_typeof({document} #> {path}) = 'number' THEN ({document} #>> {path})::numeric END))"
    return f"((CASE WHEN jsonb_typeof({document} #> {path}) = 'string' THEN {document} #>> {path} END) COLLATE \"C\")"


def _path(members: list[str]) -> str:
    """The members as the literal of a text array, in the spelling that pg_get_indexdef gives it (arrayfuncs.c: array_out)."""
    spelled = ",".join(
        '"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if not each or each.lower() == "null" or re.search(r'["\\{},\s]', each)
        else each
        for each in members
    )
    return "'{" + spelled.replace("'", "''") + "}'"


RULE = Rule(
    slug="filter-without-index",
    severity="notice",
    title="every column that searches often filter by has an index",
    reason="without it each search reads the whole table to count the rows that pass, and again where these are few "
    "(docs/decisions/0012 and PostgreSQL documentation, 11.2 Index Types).",
    check=check,
)
