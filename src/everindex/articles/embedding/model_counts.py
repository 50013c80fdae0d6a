"""The vectors of a table counted by model, as `everindex model` shows them. Reads every vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.articles.table import CollectionTable
from everindex.articles.table_models import declared_sql, is_record_of, norm_function, records
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.pg.vector_type import UNIT_TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCounts:
    """The rows of one table, counted by what is known about their vectors."""

    rows: int
    without_vector: int
    zero: int
    """Vectors of zeros: embeddings that failed unnoticed. They count for no model."""

    not_unit: int
    """Vectors whose length is neither 0 nor 1."""

    recorded: Mapping[str, int]
    unrecorded: int
    """Vectors without a record; they count as the declared model's where one is declared."""

    declared: str | None
    declared_form: str | None
    """The form of text given to the declared model, as the comparison found it."""

    dimensions: int | None

    @property
    def is_unrecorded(self) -> bool:
        return bool(self.unrecorded) and self.declared is None

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "without_vector": self.without_vector,
            "zero": self.zero,
            "not_normalised": self.not_unit,
            "models": dict(self.recorded),
            "unrecorded": self.unrecorded,
            "declared": self.declared,
            "declared_text": self.declared_form,
            "dimensions": self.dimensions,
        }


def count_models(connection: Connection, table: CollectionTable) -> ModelCounts:
    """Counts the vectors in one pass over the table. Takes ACCESS SHARE."""
    if table.dimensions is None:
        with translate_errors("counting rows"):
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table.identifier)).fetchone()
        rows = int(row[0]) if row else 0
        return ModelCounts(
            rows=rows, without_vector=rows, zero=0, not_unit=0, recorded={}, unrecorded=0, declared=None,
            declared_form=None, dimensions=None,
        )  # fmt: skip
    statement = sql.SQL(
        """
        SELECT m.model, count(*), count(m.length), count(*) FILTER (WHERE m.length = 0),
               count(*) FILTER (WHERE m.length > 0 AND abs(m.length - 1) > {tolerance})
        FROM (SELECT {model} AS model, {norm}(a.{vector}) AS length FROM {table} a {records}) AS m GROUP BY m.model
        """
    ).format(
        tolerance=sql.Literal(UNIT_TOLERANCE),
        norm=norm_function(table),
        vector=table.vector,
        table=table.identifier,
        model=sql.SQL("r.model" if table.has_embedding_records else "NULL::text"),
        records=sql.SQL("LEFT JOIN {} r ON {}").format(records(table), is_record_of(table))
        if table.has_embedding_records
        else sql.SQL(""),
    )
    with translate_errors("counting vectors"):
        found = connection.execute(statement).fetchall()
        declared = connection.execute(
            sql.SQL("SELECT {}, {}").format(declared_sql(table, "model"), declared_sql(table, "text_form"))
        ).fetchone()
    assert declared is not None
    vectors = {row[0]: row[2] - row[3] for row in found if row[2] > row[3]}
    return ModelCounts(
        rows=sum(row[1] for row in found),
        without_vector=sum(row[1] - row[2] for row in found),
        zero=sum(row[3] for row in found),
        not_unit=sum(row[4] for row in found),
        recorded={model: count for model, count in sorted(vectors.items(), key=str) if model is not None},
        unrecorded=vectors.get(None, 0),
        declared=declared[0],
        declared_form=declared[1],
        dimensions=table.dimensions,
    )
