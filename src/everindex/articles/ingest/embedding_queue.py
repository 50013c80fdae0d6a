"""The queue: the rows that need a vector of the current model, and making these vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from psycopg import sql

from everindex.articles.embedding import Embedder
from everindex.articles.ingest.import_rows import ImportReport, note_failures
from everindex.articles.ingest.rows import Texts, text_to_embed
from everindex.articles.ingest.upsert import Stored, texts_of_keys
from everindex.articles.ingest.vector_records import set_vectors
from everindex.articles.table import CollectionTable, read_table
from everindex.articles.table_models import declared_sql, is_record_of, is_zero, records, without_record
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Rows of one round of `embed`.
EMBED_ROWS = 500


def embed_missing(
    connection: Connection,
    embedder: Embedder,
    queue: Sequence[str],
    *,
    table: CollectionTable | None = None,
    overwrite_unrecorded: bool = False,
    on_rows: Callable[[int], None] | None = None,
) -> ImportReport:
    """Makes a vector for every article of `queue` that still needs one, see `read_queue`. Can be repeated, and
    interrupted at any point: finished work is kept."""
    table = read_table(connection) if table is None else table
    report = ImportReport()
    due = _due(table, overwrite_unrecorded=overwrite_unrecorded)
    for start in range(0, len(queue), EMBED_ROWS):
        keys = queue[start : start + EMBED_ROWS]
        batch = _without_vector(connection, table, due, embedder.model, keys)
        embedded = embedder.embed([text_to_embed(texts) for _, texts in batch])
        rows = [(key, texts, embedded.vectors[i]) for i, (key, texts) in enumerate(batch) if i not in embedded.failures]
        done = set_vectors(connection, table, rows, model=embedder.model)
        report.stored += Stored(updated=done)
        note_failures(connection, table, {batch[i][0]: why for i, why in embedded.failures.items()}, report)
        if on_rows is not None:
            on_rows(len(keys))
    return report


def read_queue(
    connection: Connection,
    embedder_model: str,
    *,
    table: CollectionTable | None = None,
    overwrite_unrecorded: bool = False,
) -> list[str]:
    """The uris of articles that have no vector, a zero one, or one of another model; with `overwrite_unrecorded` also
    those whose vector has no record of its model. Changes nothing. Reads every vector once, the only way to find zero
    vectors: 10 ms for 1,000 rows, measured."""
    table = read_table(connection) if table is None else table
    statement = sql.SQL("SELECT a.{}::pg_catalog.text FROM {} a WHERE {}").format(
        table.key, table.identifier, _due(table, overwrite_unrecorded=overwrite_unrecorded)
    )
    with translate_errors("looking for articles without a vector"):
        # Sorted here: with ORDER BY the planner may walk the primary key and read the table's pages out of order.
        return sorted(row[0] for row in connection.execute(statement, {"model": embedder_model}))


def _due(table: CollectionTable, *, overwrite_unrecorded: bool) -> sql.Composable:
    """The condition that a row needs a vector."""
    due: list[sql.Composable] = [sql.SQL("a.{} IS NULL").format(table.vector)]
    if table.has_embedding_records:
        due.append(
            sql.SQL("EXISTS (SELECT FROM {} r WHERE {} AND r.model <> %(model)s)").format(
                records(table), is_record_of(table)
            )
        )
    unrecorded = without_record(table)
    if overwrite_unrecorded:
        due.append(unrecorded)
    else:
        due.append(sql.SQL("({} <> %(model)s AND {})").format(declared_sql(table, "model"), unrecorded))
    due.append(is_zero(table))  # the last: it reads the vector
    return sql.SQL("({})").format(sql.SQL(" OR ").join(due))


def _without_vector(
    connection: Connection, table: CollectionTable, due: sql.Composable, model: str, keys: Sequence[str]
) -> list[tuple[str, Texts]]:
    """Key and texts of those of `keys` that still need a vector."""
    with translate_errors("reading rows without a vector"):
        found = connection.execute(
            sql.SQL("{} AND {} ORDER BY a.{}").format(texts_of_keys(table), due, table.key),
            {"model": model, "keys": list(keys)},
        ).fetchall()
    return [(row[0], row[1:]) for row in found]
