"""The records beside the rows: which model made each vector, and why a row has none; and vectors that come after their rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pgvector import HalfVector, Vector
from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.ingest.rows import Texts
from everindex.articles.table import CollectionTable
from everindex.articles.table_models import records
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


def text_columns(table: CollectionTable) -> list[sql.Identifier]:
    """The text columns, in their order."""
    return [sql.Identifier(column) for column in table.spec.text]


def failures_table(table: CollectionTable) -> sql.SQL:
    return sql.SQL(
        "everindex_meta.embedding_failure" if table.spec is ARTICLES else "everindex_meta.collection_failure"
    )


def is_of(table: CollectionTable, alias: str, key: sql.Composable) -> sql.Composed:
    """The condition that a record or failure is that of a key, given as text."""
    if table.spec is ARTICLES:
        return sql.SQL("{}.uri = {}").format(sql.Identifier(alias), key)
    return sql.SQL("{0}.collection = {1} AND {0}.key = {2}").format(
        sql.Identifier(alias), sql.Literal(table.spec.name), key
    )


def _place(table: CollectionTable, key: sql.Composable) -> tuple[sql.Composable, sql.Composable]:
    """The columns that identify a record, and their values for a key, given as text."""
    if table.spec is ARTICLES:
        return sql.SQL("uri"), key
    return sql.SQL("collection, key"), sql.SQL("{}, {}").format(sql.Literal(table.spec.name), key)


def forget_records(table: CollectionTable) -> sql.Composed:
    """A vector that was dropped because its text changed has no model any more."""
    return sql.SQL(
        """
        DELETE FROM {records} r USING pg_temp.everindex_written w, pg_temp.everindex_staging s
        WHERE {of_written} AND s.{key} = w.key AND s.everindex_vector IS NULL AND NOT w.is_new
          AND EXISTS (SELECT FROM {table} a WHERE a.{key} = w.key::{key_type} AND a.{vector} IS NULL)
        """
    ).format(
        records=records(table),
        of_written=is_of(table, "r", sql.SQL("w.key")),
        key=table.key,
        key_type=table.key_type,
        table=table.identifier,
        vector=table.vector,
    )


def forget_unknown(table: CollectionTable) -> sql.Composed:
    """A vector without a named model replaces one that had a record."""
    key = sql.SQL("s.{}").format(table.key)
    return sql.SQL(
        """
        WITH forgotten AS (
            DELETE FROM {records} r USING pg_temp.everindex_staging s
            WHERE {of_record} AND s.everindex_vector IS NOT NULL AND %(model)s::text IS NULL
        )
        DELETE FROM {failures} f USING pg_temp.everindex_staging s WHERE {of_failure} AND s.everindex_vector IS NOT NULL
        """
    ).format(
        records=records(table),
        failures=failures_table(table),
        of_record=is_of(table, "r", key),
        of_failure=is_of(table, "f", key),
    )


def record_vectors(table: CollectionTable) -> sql.Composed:
    place, values = _place(table, sql.SQL("s.{}").format(table.key))
    return sql.SQL(
        """
        WITH recorded AS (
            INSERT INTO {records} AS r ({place}, model)
            SELECT {values}, %(model)s FROM pg_temp.everindex_staging s WHERE s.everindex_vector IS NOT NULL ORDER BY s.{key}
            ON CONFLICT ({place}) DO UPDATE SET model = excluded.model, embedded_at = now()
            RETURNING r.{key_of_record} AS key
        )
        DELETE FROM {failures} f USING recorded WHERE {of_failure}
        """
    ).format(
        records=records(table),
        place=place,
        values=values,
        key=table.key,
        key_of_record=sql.SQL("uri" if table.spec is ARTICLES else "key"),
        failures=failures_table(table),
        of_failure=is_of(table, "f", sql.SQL("recorded.key")),
    )


def record_failures(connection: Connection, table: CollectionTable, failures: dict[str, str]) -> None:
    """Records why rows (key → reason) have no vector, for `everindex embed` and the web pages."""
    if not failures or not table.has_embedding_records:
        return
    place, values = _place(table, sql.SQL("%s"))
    statement = sql.SQL(
        "INSERT INTO {failures} AS f ({place}, reason) VALUES ({values}, %s) "
        "ON CONFLICT ({place}) DO UPDATE SET reason = excluded.reason, attempts = f.attempts + 1, failed_at = now()"
    ).format(failures=failures_table(table), place=place, values=values)
    with translate_errors("recording failed embeddings"), connection.cursor() as cursor:
        cursor.executemany(statement, list(failures.items()))


def set_vectors(
    connection: Connection, table: CollectionTable, rows: Sequence[tuple[str, Texts, np.ndarray]], *, model: str
) -> int:
    """Stores the vectors of (key, texts, vector) unless a text has changed meanwhile; returns how many were stored."""
    if not rows:
        return 0
    texts = text_columns(table)
    update = sql.SQL(
        "UPDATE {table} a SET {vector} = %s WHERE {key} = %s::{key_type} AND ROW({texts}) IS NOT DISTINCT FROM ROW({values})"
    ).format(
        table=table.identifier,
        vector=table.vector,
        key=table.key,
        key_type=table.key_type,
        texts=sql.SQL(", ").join(sql.SQL("{}::pg_catalog.text").format(column) for column in texts),
        values=sql.SQL(", ").join(sql.SQL("%s::pg_catalog.text") for _ in texts),
    )
    if table.has_embedding_records:
        # Only updated rows are recorded: a row that has another text, or was deleted, got no vector.
        place, values = _place(table, sql.SQL("key"))
        update = sql.SQL(
            """
            WITH done AS ({update} RETURNING {key}::pg_catalog.text AS key), solved AS (
                DELETE FROM {failures} f USING done WHERE {of_failure}
            )
            INSERT INTO {records} ({place}, model) SELECT {values}, {model} FROM done
            ON CONFLICT ({place}) DO UPDATE SET model = excluded.model, embedded_at = now()
            """
        ).format(
            update=update,
            key=table.key,
            failures=failures_table(table),
            of_failure=is_of(table, "f", sql.SQL("done.key")),
            records=records(table),
            place=place,
            values=values,
            model=sql.Literal(model),
        )
    as_stored = Vector if table.vector_type == "vector" else HalfVector
    with translate_errors("storing vectors"), connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(update, [(as_stored(vector), key, *of_row) for key, of_row, vector in rows])
        return cursor.rowcount
