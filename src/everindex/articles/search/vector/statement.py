"""The statements of a search by meaning, composed once for each shape, so that each is prepared once on a connection.

Shapes that an HNSW index can serve (ORDER BY column <=> constant, literal LIMIT), or that it cannot, where the answer is to be
exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.articles.model import REQUIRED_COLUMNS, Filters
from everindex.articles.search.filters import values, where
from everindex.articles.search.vector.strategy import SearchPlan
from everindex.articles.table import ArticleTable
from everindex.pg import roundtrip


def of(
    table: ArticleTable, filters: Filters, search_plan: SearchPlan, *, k: int
) -> tuple[sql.Composed, dict[str, Any]]:
    """The statement of a search plan, with its parameters but for `vector` ((dim,) float32, sent in binary) and, where it
    continues, `after_distance` and `after_uri`."""
    if not search_plan.is_by_index:
        return nearest_of_all(table, filters, k=k, continues=search_plan.continues)
    if search_plan.candidates is None:
        return nearest(table, filters, k=search_plan.fetch, continues=search_plan.continues)
    return nearest_by_codes(
        table,
        filters,
        k=k,
        candidates=search_plan.candidates,
        key_type=search_plan.key_type,
        continues=search_plan.continues,
    )


def nearest(
    table: ArticleTable, filters: Filters, *, k: int, continues: bool = False
) -> tuple[sql.Composed, dict[str, Any]]:
    """The search through an index of the vectors; the scan passes over what comes before the place where it continues.

    The LIMIT is a literal: with a parameter a generic plan guesses 10 % of the rows and reads them all.
    """
    condition, parameters = where(table, filters)
    measured = sql.SQL("embedding {distance} %(vector)b").format(distance=table.distance)
    return (
        sql.SQL(
            "SELECT {columns}, {measured} AS distance FROM {table} "
            "WHERE embedding IS NOT NULL{condition}{place} ORDER BY {measured} LIMIT {k}"
        ).format(
            columns=_columns(),
            measured=measured,
            table=table.identifier,
            condition=condition,
            place=sql.SQL(" AND {}").format(_after(measured)) if continues else sql.SQL(""),
            k=sql.Literal(k),
        ),
        parameters,
    )


def nearest_of_all(
    table: ArticleTable, filters: Filters, *, k: int, continues: bool = False
) -> tuple[sql.Composed, dict[str, Any]]:
    """The exact search over the rows that pass: it orders by an expression that no index on the vector can serve. Those
    equally far come in the order of their uris, so that a page ends, and the next begins, at one place.

    A setting (enable_indexscan) would not do: the statement is prepared, PostgreSQL may keep its plan from the sixth
    execution on, and a kept plan does not look at settings again (docs: SQL-PREPARE). With the text of `nearest`, exact
    searches went through the index once ten others had.
    """
    condition, parameters = where(table, filters)
    every = sql.SQL(
        "SELECT {columns}, (embedding {distance} %(vector)b) + 0 AS distance FROM {table} WHERE embedding IS NOT NULL{condition}"
    ).format(columns=_columns(), distance=table.distance, table=table.identifier, condition=condition)
    if continues:
        every = _continued(every)
    return sql.SQL("{every} ORDER BY distance, {uri} LIMIT {k}").format(
        every=every, uri=_URI, k=sql.Literal(k)
    ), parameters


def nearest_of_rows(table: ArticleTable, *, k: int) -> sql.Composed:
    """The k nearest of the rows at the places `%(rows)s` (ctids as text), in the order of `nearest_of_all`."""
    return sql.SQL(
        "SELECT {columns}, (embedding {distance} %(vector)b) + 0 AS distance FROM {table} "
        "WHERE embedding IS NOT NULL AND ctid = ANY(%(rows)s::pg_catalog.tid[]) ORDER BY distance, {uri} LIMIT {k}"
    ).format(columns=_columns(), distance=table.distance, table=table.identifier, uri=_URI, k=sql.Literal(k))


def nearest_by_codes(
    table: ArticleTable, filters: Filters, *, k: int, candidates: int, key_type: str, continues: bool = False
) -> tuple[sql.Composed, dict[str, Any]]:
    """The search through an index of halfvec or bit codes: its nearest `candidates`, ranked by their vectors."""
    condition, parameters = where(table, filters)
    ranked = sql.SQL(
        "SELECT {columns}, embedding {distance} %(vector)b AS distance FROM "
        "(SELECT {columns}, embedding FROM {table} WHERE embedding IS NOT NULL{condition} "
        "ORDER BY {key} {code_distance} {asked} LIMIT {candidates}) AS candidate"
    ).format(
        columns=_columns(),
        distance=table.distance,
        table=table.identifier,
        condition=condition,
        key=table.code(sql.Identifier("embedding"), key_type),
        code_distance=table.code_distance(key_type),
        asked=table.code(sql.SQL("%(vector)b::{}").format(table.vector_type), key_type),
        candidates=sql.Literal(candidates),
    )
    if continues:
        ranked = _continued(ranked)
    return sql.SQL("{ranked} ORDER BY distance LIMIT {k}").format(ranked=ranked, k=sql.Literal(k)), parameters


def count_passing(table: ArticleTable, filters: Filters, *, limit: int) -> tuple[sql.Composed, dict[str, Any]]:
    """How many rows with a vector pass the filters, counted up to `limit`."""
    condition, parameters = where(table, filters)
    return (
        sql.SQL(
            "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE embedding IS NOT NULL{condition} LIMIT {limit}) AS passing"
        ).format(table=table.identifier, condition=condition, limit=sql.Literal(limit)),
        parameters,
    )


#: In the order of its bytes, which is that of Python's text, whatever the collation of the column.
_URI = sql.SQL('uri::pg_catalog.text COLLATE pg_catalog."C"')


def _after(distance: sql.Composable) -> sql.Composed:
    """Whether a row comes after the place where the page before ended."""
    return sql.SQL(
        "({distance}, {uri}) OPERATOR(pg_catalog.>) "
        "(%(after_distance)s::pg_catalog.float8, %(after_uri)s::pg_catalog.text)"
    ).format(distance=distance, uri=_URI)


def _continued(measured: sql.Composed) -> sql.Composed:
    """What `measured` gives (the columns and `distance`) after that place. OFFSET 0 keeps PostgreSQL from computing each
    distance twice, for the condition and for the order: a third of such a search."""
    return sql.SQL("SELECT {columns}, distance FROM ({measured} OFFSET 0) AS measured WHERE {after}").format(
        columns=_columns(), measured=measured, after=_after(sql.SQL("distance"))
    )


def _columns() -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, REQUIRED_COLUMNS))


@dataclass(slots=True)
class Text:
    """One statement, written in both ways."""

    named: str
    """With psycopg's named placeholders."""

    positional: str
    """With libpq's `$1 …`."""

    names: tuple[str, ...]
    """The parameters in that order."""


#: Whoever asks chooses k, filters and pages: 1,000 × 32 × 2 shapes of each strategy, 5 kB each. Of ordinary use are a few dozen.
MOST_TEXTS = 500


class Texts:
    """The statements of one state of table and index, MOST_TEXTS at most: then they are composed anew."""

    def __init__(self) -> None:
        self._texts: dict[tuple[Any, ...], Text] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def of(self, table: ArticleTable, filters: Filters, search_plan: SearchPlan, k: int) -> tuple[Text, dict[str, str]]:
        """The statement of a search plan, and the parameters of the filters."""
        given = values(filters)
        return self.text(table, filters, given, search_plan, k), given

    def text(
        self, table: ArticleTable, filters: Filters, filter_values: Mapping[str, str], search_plan: SearchPlan, k: int
    ) -> Text:
        """The same for filters whose parameters are known."""
        # Strategies of other settings or another order must not share a text: a prepared statement keeps its plan.
        key = (
            search_plan.strategy,
            k,
            search_plan.fetch,
            search_plan.candidates,
            search_plan.continues,
            *filter_values,
        )
        kept = self._texts.get(key)
        if kept is None:
            composed, _ = of(table, filters, search_plan, k=k)
            named = composed.as_string(None)
            if len(self._texts) >= MOST_TEXTS:
                self._texts.clear()
            kept = self._texts[key] = Text(named, *roundtrip.positional(named))
        return kept
