"""How would the catalog print a declared expression or predicate?

PostgreSQL parses what CREATE INDEX says and prints the parsed form, with its own parentheses, casts and names. Whether
two texts mean the same only it can tell, so it is asked: an empty temporary copy of the table gets the index, its
printed form is read, and all of it is rolled back.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from everindex.index.key import key_sql
from everindex.index.spec import IndexSpec, illegal
from everindex.pg.connections import Connection

#: Where the answer cannot be had: no right to temporary tables, a standby, a read-only session, a missing table or column,
#: which the plan tells better.
_NOT_HERE = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.UndefinedTable,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canonical:
    """What pg_get_expr prints for the declaration."""

    expression: str | None
    predicate: str | None
    dimensions: int | None
    """The width of the indexed value."""


def canonical_texts(
    connection: Connection, spec: IndexSpec, *, column_type: str | None, extension_schema: str
) -> Canonical | None:
    """Asks the server; None where it cannot be asked. Leaves nothing behind; takes ACCESS SHARE on the table.

    Raises SpecIllegal, with PostgreSQL's own reason, when it cannot make an index of that.
    """
    key = (
        key_sql(spec, column_type=column_type or "", dimensions=0, extension_schema=extension_schema)
        if spec.expression is not None
        else sql.SQL("(1)")
    )
    index: sql.Composable = sql.SQL("CREATE INDEX everindex_canonical_idx ON pg_temp.everindex_canonical ")
    if spec.expression is not None:
        opclass = sql.Identifier(extension_schema, spec.opclass)
        index += sql.SQL("USING hnsw ({} {})").format(key, opclass)
    else:
        index += sql.SQL("(({}))").format(key)
    if spec.predicate is not None:
        index += sql.SQL(" WHERE {}").format(sql.SQL(spec.predicate))
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(
                sql.SQL("CREATE TEMPORARY TABLE everindex_canonical (LIKE {})").format(
                    sql.Identifier(spec.schema, spec.table)
                )
            )
            connection.execute(index)
            row = connection.execute(
                """
                SELECT pg_catalog.pg_get_expr(i.indexprs, i.indrelid), pg_catalog.pg_get_expr(i.indpred, i.indrelid),
                       nullif(a.atttypmod, -1)
                FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum = 1
                WHERE i.indexrelid = 'pg_temp.everindex_canonical_idx'::regclass
                """
            ).fetchone()
    except _NOT_HERE:
        return None
    except (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.InternalError) as exc:
        told = exc.diag.message_primary or "no reason given"
        what = f"PostgreSQL cannot use its {'expression' if spec.expression else 'predicate'}"
        raise illegal(spec, what, f"{told}.", "correct the declaration; nothing was changed.") from exc
    assert row is not None
    is_expression = spec.expression is not None
    return Canonical(
        expression=row[0] if is_expression else None, predicate=row[1], dimensions=row[2] if is_expression else None
    )
