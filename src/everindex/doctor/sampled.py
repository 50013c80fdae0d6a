"""A bounded sample of one vector column: NULL, zero and repeated vectors, their lengths and their dimensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.doctor.vector_objects import VectorTable
from everindex.pg.vector_type import UNIT_TOLERANCE

#: Number of rows that are read of one column. A share of one in a hundred is then detected with a probability of 99.99 %.
SAMPLE_ROWS = 1000
#: Number of columns sampled in one examination, the largest tables first: a database with 2,000 tenants may have that many.
SAMPLED_COLUMNS = 50

_LENGTH = {"vector": "vector_norm", "halfvec": "l2_norm", "sparsevec": "l2_norm"}
_WIDTH = {"vector": "vector_dims", "halfvec": "vector_dims"}
_BYTES = {"vector": "vector_send", "halfvec": "halfvec_send", "sparsevec": "sparsevec_send"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSample:
    """Row counts of one sample."""

    rows: int
    without_vector: int
    zero: int
    not_unit: int
    """Vectors whose length is neither 0 nor 1."""

    repeated: int
    """Number of rows with the most frequent vector, zero vectors excluded; 1 when all are different."""

    narrowest: int | None
    widest: int | None
    """Dimensions; None when there is no vector, and for sparsevec."""

    @property
    def with_vector(self) -> int:
        return self.rows - self.without_vector


def read_sample(
    read: Callable[[sql.Composed], list[tuple[Any, ...]]], table: VectorTable, *, extension_schema: str
) -> ColumnSample:
    """Reads up to SAMPLE_ROWS rows of whole blocks, picked at random; takes ACCESS SHARE. Raises psycopg.Error."""
    estimated = table.estimated_rows or 0
    # A fifth more blocks than needed, because rows are not distributed evenly over them.
    percent = min(100.0, 100.0 * 1.2 * SAMPLE_ROWS / estimated) if estimated else 100.0
    width = _WIDTH.get(table.column_type)
    (row,) = read(
        sql.SQL(
            """
            WITH picked AS MATERIALIZED (
                SELECT {column} AS v FROM ONLY {table} TABLESAMPLE SYSTEM ({percent}) LIMIT {limit}
            ), measured AS MATERIALIZED (
                SELECT v, {length}(v) AS length, {width} AS width FROM picked
            )
            SELECT count(*), count(*) - count(v), count(*) FILTER (WHERE length = 0),
                   count(*) FILTER (WHERE length > 0 AND abs(length - 1) > {tolerance}), min(width), max(width),
                   coalesce((SELECT max(n) FROM (SELECT count(*) AS n FROM measured WHERE length > 0
                                                 GROUP BY {as_bytes}(v)) AS same), 0)
            FROM measured
            """
        ).format(
            column=sql.Identifier(table.column),
            table=sql.Identifier(table.schema, table.name),
            percent=sql.Literal(percent),
            limit=sql.Literal(SAMPLE_ROWS),
            tolerance=sql.Literal(UNIT_TOLERANCE),
            length=sql.Identifier(extension_schema, _LENGTH[table.column_type]),
            width=sql.SQL("{}(v)").format(sql.Identifier(extension_schema, width)) if width else sql.SQL("NULL::int"),
            as_bytes=sql.Identifier(extension_schema, _BYTES[table.column_type]),
        )
    )
    return ColumnSample(
        rows=row[0],
        without_vector=row[1],
        zero=row[2],
        not_unit=row[3],
        narrowest=row[4],
        widest=row[5],
        repeated=row[6],
    )
