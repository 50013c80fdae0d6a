"""The declared expression and predicate of an index, in the form that the catalog would print.

PostgreSQL parses the text of CREATE INDEX and prints the parsed form, with its own parentheses, casts and names. Only
PostgreSQL can tell whether two texts mean the same: so the index is created on an empty copy of the table, its printed form
is read, and everything is rolled back. The copy is a temporary table; if the role may not create one, it is a table in the
schema of the declared one, which every role that may build the index can create.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from everindex.index.catalog.key import key_sql
from everindex.index.spec import IndexSpec, illegal
from everindex.pg.connections import Connection
from everindex.pg.index_catalog import catalog_indexes, indexes_query

COPY = "everindex_canonical"
#: Errors that leave the form unknown: no privilege to create a table, a standby, a read-only session, a missing table (which
#: the plan reports better), or a table that already has the copy's name.
_NOT_HERE = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.DuplicateTable,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canonical:
    """The output of pg_get_expr for the declaration."""

    expression: str | None
    predicate: str | None
    dimensions: int | None
    """Dimensions of the indexed value."""


def canonical_texts(
    connection: Connection, spec: IndexSpec, *, column_type: str | None, extension_schema: str
) -> Canonical | None:
    """The canonical form, from the server; None when it cannot tell. Leaves nothing behind; takes ACCESS SHARE on the table.

    Raises SpecIllegal, with PostgreSQL's own reason, when it cannot create such an index.
    """
    key = (
        key_sql(spec, column_type=column_type or "", dimensions=0, extension_schema=extension_schema)
        if spec.expression is not None
        else sql.SQL("(1)")
    )
    index: sql.Composable = sql.SQL("")
    if spec.expression is not None:
        opclass = sql.Identifier(extension_schema, spec.opclass)
        index += sql.SQL("USING hnsw ({} {})").format(key, opclass)
    else:
        index += sql.SQL("(({}))").format(key)
    if spec.predicate is not None:
        index += sql.SQL(" WHERE {}").format(sql.SQL(spec.predicate_text or ""))
    try:
        printed = print_index(connection, spec.schema, spec.table, index)
    except (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.InternalError) as exc:
        reason = exc.diag.message_primary or "no reason given"
        what = f"PostgreSQL cannot use its {'expression' if spec.expression else 'predicate'}"
        raise illegal(spec, what, f"{reason}.", "correct the declaration; nothing was changed.") from exc
    if printed is None or spec.expression is not None:
        return printed
    return replace(printed, expression=None, dimensions=None)


def print_index(connection: Connection, schema: str, table: str, index: sql.Composable) -> Canonical | None:
    """The output of pg_get_expr for `CREATE INDEX ON table` followed by `index` (any method, key, predicate); None when the
    server cannot tell. Raises psycopg.Error when it cannot create such an index."""
    for place in ("pg_temp", schema):
        try:
            return _printed(connection, sql.Identifier(schema, table), index, schema=place)
        except _NOT_HERE:
            continue
    return None


def _printed(connection: Connection, table: sql.Identifier, index: sql.Composable, *, schema: str) -> Canonical:
    """The same for an empty copy of the table in `schema`; nothing remains."""
    copy = sql.Identifier(schema, COPY)
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE {})").format(copy, table))
        # Binary, so that PostgreSQL accepts only one statement: a declaration cannot smuggle in a second one.
        connection.execute(sql.SQL("CREATE INDEX ON {} ").format(copy) + index, binary=True)
        [found] = catalog_indexes(connection.execute(_OF_COPY, (copy.as_string(None),)))
    return Canonical(expression=found.expression, predicate=found.predicate, dimensions=found.dimensions)


_OF_COPY = indexes_query("i.indrelid = pg_catalog.to_regclass(%s)", "dimensions")
