"""Vectors of article tables without a record of their model, counted up to a limit, and the model declared for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.pg.own_schema import is_readable

#: Maximum number of vectors that are counted.
COUNTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecorded:
    """One declared article table."""

    quoted: str
    unrecorded: int
    """Non-zero vectors without a record, up to COUNTED."""

    declared: str | None


def read_unrecorded(examined: Examined) -> Iterator[Unrecorded]:
    """One result for every declared table of articles, the only tables for which everindex records models. Raises
    psycopg.Error."""
    has_records = is_readable(examined.connection, "embedding_record")
    has_declared = is_readable(examined.connection, "declared_model")
    for schema, name, column in dict.fromkeys((spec.schema, spec.table, spec.column) for spec in examined.declared):
        if column is None:  # an expression
            continue
        table = sql.Identifier(schema, name)
        columns = examined.row(
            sql.SQL(
                "SELECT count(*) FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass({}) "
                "AND attname IN ('uri', 'title', 'summary', {}) AND NOT attisdropped"
            ).format(sql.Literal(table.as_string(None)), sql.Literal(column))
        )[0]
        if name != "articles" or columns < 4:
            continue
        record = (
            "AND NOT EXISTS (SELECT FROM everindex_meta.embedding_record r WHERE r.uri = a.uri)" if has_records else ""
        )
        # OFFSET 0 makes sure that the vector is read, for its length, only from rows without a record.
        unrecorded = examined.row(
            sql.SQL(
                "SELECT count(*) FROM (SELECT FROM (SELECT a.{column} AS v FROM {table} a WHERE a.{column} IS NOT NULL {record} "
                "OFFSET 0) AS u WHERE {norm}(u.v) > 0 LIMIT {counted}) AS counted"
            ).format(
                column=sql.Identifier(column),
                table=table,
                record=sql.SQL(record),
                norm=sql.Identifier(examined.extension_schema, "vector_norm"),
                counted=sql.Literal(COUNTED),
            )
        )[0]
        declared = examined.rows(
            sql.SQL(
                "SELECT model FROM everindex_meta.declared_model WHERE table_schema = {} AND table_name = {}"
            ).format(sql.Literal(schema), sql.Literal(name))
            if has_declared
            else "SELECT NULL::text WHERE false"
        )
        yield Unrecorded(
            quoted=table.as_string(None), unrecorded=unrecorded, declared=declared[0][0] if declared else None
        )
