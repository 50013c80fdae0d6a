"""Counts of a table's vectors: rows without one, failed embeddings, vectors whose model is not recorded.

Each count has a time limit, and a count that took too long is None or an estimate, never a guess that looks exact.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import psycopg
from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.table import CollectionTable
from everindex.articles.table_models import is_zero, without_record
from everindex.pg import own_schema
from everindex.pg.connections import Connection

#: Counting rows reads the table; after this time its statistics are used instead.
COUNT_TIMEOUT_MS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The number of rows; `is_estimate` where counting would have taken too long."""

    total: int
    with_vector: int | None
    is_estimate: bool

    @property
    def without_vector(self) -> int | None:
        return None if self.with_vector is None else self.total - self.with_vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A reason why articles have no vector, with their number."""

    reason: str
    articles: int
    last_at: dt.datetime


def count_rows(connection: Connection, table: CollectionTable, *, estimate: int) -> Rows:
    """How many rows there are and have a vector; the estimate where counting takes longer than COUNT_TIMEOUT_MS. Reads only."""
    embedded = sql.SQL("0") if table.dimensions is None else sql.SQL("count({})").format(table.vector)
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(COUNT_TIMEOUT_MS),))
            row = connection.execute(
                sql.SQL("SELECT count(*), {} FROM {}").format(embedded, table.identifier)
            ).fetchone()
    except psycopg.errors.QueryCanceled:
        return Rows(total=estimate, with_vector=None, is_estimate=True)
    assert row is not None
    return Rows(total=row[0], with_vector=row[1], is_estimate=False)


def count_unrecorded(connection: Connection, table: CollectionTable) -> int | None:
    """How many vectors, zero ones excluded, have no record of their model; None where counting takes longer than
    COUNT_TIMEOUT_MS. Reads those vectors."""
    statement = sql.SQL(
        "SELECT count(*) FROM (SELECT a.{vector} FROM {table} a WHERE a.{vector} IS NOT NULL AND {unrecorded} OFFSET 0) AS a "
        "WHERE NOT {is_zero}"
    ).format(
        vector=table.vector, table=table.identifier, unrecorded=without_record(table), is_zero=is_zero(table)
    )  # fmt: skip
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(COUNT_TIMEOUT_MS),))
            row = connection.execute(statement).fetchone()
    except psycopg.errors.QueryCanceled:
        return None
    return int(row[0]) if row else None


def read_failures(connection: Connection, table: CollectionTable) -> list[Failure]:
    """Why rows have no vector, the most frequent reason first, at most ten. Reads only."""
    if not own_schema.is_readable(connection, _failure_table(table)):
        return []
    rows = connection.execute(
        sql.SQL(
            "SELECT reason, count(*), max(failed_at) FROM {} WHERE {} GROUP BY reason ORDER BY 2 DESC, 1 LIMIT 10"
        ).format(*_failures_of(table))
    ).fetchall()
    return [Failure(reason=row[0], articles=row[1], last_at=row[2]) for row in rows]


def count_failures(connection: Connection, table: CollectionTable) -> int:
    """How many rows have no vector since embedding them failed. Reads only."""
    if not own_schema.is_readable(connection, _failure_table(table)):
        return 0
    row = connection.execute(sql.SQL("SELECT count(*) FROM {} WHERE {}").format(*_failures_of(table))).fetchone()
    return 0 if row is None else int(row[0])


def _failure_table(table: CollectionTable) -> str:
    return "embedding_failure" if table.spec is ARTICLES else "collection_failure"


def _failures_of(table: CollectionTable) -> tuple[sql.Composable, sql.Composable]:
    """The table of failures, and the condition on its rows."""
    own = sql.SQL("true") if table.spec is ARTICLES else sql.SQL("collection = {}").format(sql.Literal(table.spec.name))
    return sql.Identifier("everindex_meta", _failure_table(table)), own
