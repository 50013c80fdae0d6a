"""The deletion of rows: by key or by filters, with all that is recorded of them, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from everindex.articles.declared import OWN_SCHEMA
from everindex.articles.ingest.vector_records import failures_table, is_of
from everindex.articles.search.filters import AnyFilters, where
from everindex.articles.table import CollectionTable
from everindex.articles.table_models import records
from everindex.articles.table_texts import text_tables
from everindex.doctor.orphaned_records import records_of_rows
from everindex.errors import QueryInvalid
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


def delete_rows(
    connection: Connection,
    table: CollectionTable,
    keys: Sequence[Any] | None,
    *,
    filters: AnyFilters | None = None,
    is_dry_run: bool = False,
) -> int:
    """Deletes the rows with `keys`, or those that pass `filters`; with both, those that are in both. Returns how many there
    are, or would be with `is_dry_run`.

    Full texts, their passages, records and failures go with them. Takes ROW EXCLUSIVE on the tables it writes. Raises
    QueryInvalid where nothing says which rows, PermissionDenied, ReadOnlyServer, StatementFailed.
    """
    if keys is None and (filters is None or filters.is_empty):
        raise QueryInvalid(
            "nothing says which rows to delete.",
            why="a deletion without keys and without filters would delete all of them.",
            next_step="give keys, or filters; to delete everything, drop the collection.",
        )
    condition, parameters = (sql.SQL(""), {}) if filters is None else where(table, filters)
    values: dict[str, Any] = dict(parameters)
    by_key: sql.Composable = sql.SQL("true")
    if keys is not None:
        by_key = sql.SQL("{} = ANY(%(keys)s::pg_catalog.text[]::{}[])").format(table.key, table.key_type)
        values["keys"] = [str(key) for key in keys]
    if is_dry_run:
        with translate_errors(f"counting rows of {table.spec.name}"):
            counted = connection.execute(
                sql.SQL("SELECT count(*) FROM {} WHERE {}{}").format(table.identifier, by_key, condition), values
            ).fetchone()
        return 0 if counted is None else int(counted[0])
    records_too = table.has_embedding_records
    parts: list[sql.Composable] = [
        sql.SQL("gone AS (DELETE FROM {} WHERE {}{} RETURNING {}::pg_catalog.text AS key)").format(
            table.identifier, by_key, condition, table.key
        )
    ]
    if records_too:
        parts += [
            sql.SQL("no_{} AS (DELETE FROM {} {} USING gone WHERE {})").format(
                sql.SQL(name), where_kept, sql.Identifier("r"), is_of(table, "r", sql.SQL("gone.key"))
            )
            for name, where_kept in (("record", records(table)), ("failure", failures_table(table)))
        ]
    if table.has_raw_articles:
        parts.append(sql.SQL("no_text AS (DELETE FROM raw_articles t USING gone WHERE t.uri = gone.key)"))
    if table.has_expiry_records:
        parts.append(
            sql.SQL(
                "no_expiry AS (DELETE FROM everindex_meta.article_expiry e USING gone WHERE e.expired_uri = gone.key)"
            )
        )
    if table.has_passages:
        parts += _passages_too(table, records_too)
    statement = sql.SQL("WITH {} SELECT count(*) FROM gone").format(sql.SQL(", ").join(parts))
    with translate_errors(f"deleting rows of {table.spec.name}"):
        row = connection.execute(statement, values).fetchone()
    return 0 if row is None else int(row[0])


def delete_orphans(connection: Connection, table: CollectionTable, *, is_dry_run: bool = False) -> dict[str, int]:
    """Removes what is recorded about rows that are gone, of the articles in `table` and of all collections, in one
    transaction, which `is_dry_run` rolls back. Returns how many rows of which tables."""
    removed: dict[str, int] = {}
    with translate_errors("removing orphaned records"), connection.transaction(force_rollback=is_dry_run):
        for kept in records_of_rows(connection, lambda query: connection.execute(query).fetchall(), table.identifier):
            count = connection.execute(kept.deletion).rowcount
            removed[kept.kept_in] = removed.get(kept.kept_in, 0) + count
    return removed


def _passages_too(table: CollectionTable, records_too: bool) -> list[sql.Composed]:
    """Deletes the passages of the rows that go, how their texts were cut, and which models made the passages."""
    texts = text_tables(table)
    if texts is None:
        return []
    parts = [
        sql.SQL("no_cut AS (DELETE FROM {} c USING gone WHERE c.{} = gone.key)").format(texts.cuts, texts.owner),
        sql.SQL(
            "no_passage AS (DELETE FROM {} p USING gone WHERE p.{} = gone.key RETURNING p.id::pg_catalog.text AS key)"
        ).format(texts.passages, texts.owner),
    ]
    if records_too:
        parts += [
            sql.SQL(
                "no_passage_{} AS (DELETE FROM {} r USING no_passage WHERE r.collection = {} AND r.key = no_passage.key)"
            ).format(
                sql.SQL(what),
                sql.Identifier(OWN_SCHEMA, f"collection_{what}"),
                sql.Literal(texts.declared.passages.name),
            )
            for what in ("record", "failure")
        ]
    return parts
