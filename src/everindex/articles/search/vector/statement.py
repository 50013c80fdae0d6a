"""The statements of vector search, composed once per shape, so that each is prepared once per connection.

An HNSW index can serve some shapes (ORDER BY column <=> constant, literal LIMIT); the others are written so that it
cannot, for exact answers.
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from everindex.articles.search.filters import AnyFilters, literal_where, where
from everindex.articles.search.vector.strategy import SearchPlan
from everindex.articles.table import CollectionTable


def of(
    table: CollectionTable, filters: AnyFilters, search_plan: SearchPlan, *, k: int
) -> tuple[sql.Composed, dict[str, Any]]:
    """The statement of a search plan with its parameters, except `vector` ((dim,) float32, sent in binary) and, where
    it continues, `after_distance` and `after_uri`."""
    if not search_plan.is_by_index:
        return nearest_of_all(table, filters, k=k, continues=search_plan.continues)
    condition, parameters = where(table, filters) if search_plan.partial is None else (_written_out(table, filters), {})
    if search_plan.candidates is None:
        return _nearest(table, condition, k=search_plan.fetch, continues=search_plan.continues), parameters
    return _nearest_by_codes(
        table,
        condition,
        k=k,
        candidates=search_plan.candidates,
        key_type=search_plan.key_type,
        continues=search_plan.continues,
    ), parameters


def _written_out(table: CollectionTable, filters: AnyFilters) -> sql.Composable:
    """The condition of the filters with its values, as a partial index has it."""
    return sql.SQL(" AND ({})".format(literal_where(table, filters).replace("%", "%%")))


def _nearest(table: CollectionTable, condition: sql.Composable, *, k: int, continues: bool = False) -> sql.Composed:
    """The search through an index of the vectors; the scan skips the rows before the place where it continues.

    The LIMIT is a literal: with a parameter, a generic plan assumes 10 % of the rows and reads them all.
    """
    measured = _measured(table)
    return sql.SQL(
        "SELECT {columns}, {measured} AS distance FROM {table} "
        "WHERE {vector} IS NOT NULL{condition}{place} ORDER BY {measured} LIMIT {k}"
    ).format(
        columns=table.selected,
        measured=measured,
        table=table.identifier,
        vector=table.vector,
        condition=condition,
        place=sql.SQL(" AND {}").format(_after(table, measured)) if continues else sql.SQL(""),
        k=sql.Literal(k),
    )


def nearest_of_all(
    table: CollectionTable, filters: AnyFilters, *, k: int, continues: bool = False
) -> tuple[sql.Composed, dict[str, Any]]:
    """The exact search over the rows that pass: it orders by an expression that no index on the vector can serve.
    Equally distant rows are ordered by uri, so that the next page begins exactly where one ends.

    A setting (enable_indexscan) would not suffice: the statement is prepared, PostgreSQL may keep its plan from the
    sixth execution on, and a kept plan ignores later settings (docs: SQL-PREPARE). With the text of `_nearest`, exact
    searches used the index after ten index searches had.
    """
    condition, parameters = where(table, filters)
    every = sql.SQL(
        "SELECT {columns}, ({measured}) + 0 AS distance FROM {table} WHERE {vector} IS NOT NULL{condition}"
    ).format(
        columns=table.selected,
        measured=_measured(table),
        table=table.identifier,
        vector=table.vector,
        condition=condition,
    )
    if continues:
        every = _continued(table, every)
    return sql.SQL("{every} ORDER BY distance, {key} LIMIT {k}").format(
        every=every, key=table.key_text, k=sql.Literal(k)
    ), parameters


def nearest_of_rows(table: CollectionTable, *, k: int) -> sql.Composed:
    """The k nearest of the rows at the positions `%(rows)s` (ctids as text), in the order of `nearest_of_all`."""
    return sql.SQL(
        "SELECT {columns}, ({measured}) + 0 AS distance FROM {table} "
        "WHERE {vector} IS NOT NULL AND ctid = ANY(%(rows)s::pg_catalog.tid[]) ORDER BY distance, {key} LIMIT {k}"
    ).format(
        columns=table.selected,
        measured=_measured(table),
        table=table.identifier,
        vector=table.vector,
        key=table.key_text,
        k=sql.Literal(k),
    )


def _nearest_by_codes(
    table: CollectionTable,
    condition: sql.Composable,
    *,
    k: int,
    candidates: int,
    key_type: str,
    continues: bool = False,
) -> sql.Composed:
    """The search through an index of halfvec or bit codes: its nearest `candidates`, ranked by their vectors."""
    ranked = sql.SQL(
        "SELECT {names}, {measured} AS distance FROM "
        "(SELECT {columns}, {vector} FROM {table} WHERE {vector} IS NOT NULL{condition} "
        "ORDER BY {code} {code_distance} {query_code} LIMIT {candidates}) AS candidate"
    ).format(
        names=table.names,
        columns=table.selected,
        measured=_measured(table),
        table=table.identifier,
        vector=table.vector,
        condition=condition,
        code=table.code(table.vector, key_type),
        code_distance=table.code_distance(key_type),
        query_code=table.code(table.typed_query_vector, key_type),
        candidates=sql.Literal(candidates),
    )
    if continues:
        ranked = _continued(table, ranked)
    return sql.SQL("{ranked} ORDER BY distance LIMIT {k}").format(ranked=ranked, k=sql.Literal(k))


def count_passing(table: CollectionTable, filters: AnyFilters, *, limit: int) -> tuple[sql.Composed, dict[str, Any]]:
    """How many rows with a vector pass the filters, counted up to `limit`."""
    condition, parameters = where(table, filters)
    return (
        sql.SQL(
            "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {vector} IS NOT NULL{condition} LIMIT {limit}) AS passing"
        ).format(table=table.identifier, vector=table.vector, condition=condition, limit=sql.Literal(limit)),
        parameters,
    )


def _measured(table: CollectionTable) -> sql.Composed:
    """The distance of a row from the query."""
    return sql.SQL("{} {} {}").format(table.vector, table.distance, table.query_vector)


def _after(table: CollectionTable, distance: sql.Composable) -> sql.Composed:
    """The condition that a row comes after the end of the previous page."""
    return sql.SQL(
        "({distance}, {key}) OPERATOR(pg_catalog.>) "
        "(%(after_distance)s::pg_catalog.float8, %(after_uri)s::pg_catalog.text)"
    ).format(distance=distance, key=table.key_text)


def _continued(table: CollectionTable, measured: sql.Composed) -> sql.Composed:
    """The rows of `measured` (the columns and `distance`) after the end of the previous page. OFFSET 0 keeps PostgreSQL
    from computing each distance twice, for the condition and for the order: a third of such a search."""
    return sql.SQL("SELECT {names}, distance FROM ({measured} OFFSET 0) AS measured WHERE {after}").format(
        names=table.names, measured=measured, after=_after(table, sql.SQL("distance"))
    )
