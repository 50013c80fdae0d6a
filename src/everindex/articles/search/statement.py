"""Which SQL answers a search? Shapes that an HNSW index can serve (ORDER BY column <=> constant, literal LIMIT), or that it
cannot, where the answer is to be exact."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from psycopg import sql

from everindex.articles.model import MAX_FILTER_BYTES, REQUIRED_COLUMNS, Filters
from everindex.articles.search.strategy import Approach
from everindex.articles.table import ArticleTable
from everindex.errors import QueryInvalid

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?(?:[T ].*)?", re.ASCII)


def of(table: ArticleTable, filters: Filters, approach: Approach, *, k: int) -> tuple[sql.Composed, dict[str, Any]]:
    """The statement of an approach, with its parameters but for `vector` ((dim,) float32, sent in binary) and, where it
    continues, `after_distance` and `after_uri`."""
    if not approach.is_by_index:
        return nearest_of_all(table, filters, k=k, continues=approach.continues)
    if approach.candidates is None:
        return nearest(table, filters, k=approach.fetch, continues=approach.continues)
    return nearest_by_codes(
        table, filters, k=k, candidates=approach.candidates, key_type=approach.key_type, continues=approach.continues
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


def where(table: ArticleTable, filters: Filters) -> tuple[sql.Composed, dict[str, Any]]:
    """The filters as ` AND …`, with parameters cast to the column's own type so that its index can serve them.

    Raises QueryInvalid for a date that is none, or a value that no row can have.
    """
    clauses: list[sql.Composed] = []
    parameters: dict[str, Any] = {}

    def add(column: str, operator: str, name: str, value: str) -> None:
        clauses.append(
            sql.SQL(" AND {column} {operator} {value}::{kind}").format(
                column=sql.Identifier(column),
                operator=sql.SQL(operator),
                value=sql.Placeholder(name),
                kind=sql.SQL(table.columns[column]),
            )
        )
        parameters[name] = value

    for column in ("category", "topic", "news_source"):
        value = getattr(filters, column)
        if value:
            add(column, "=", column, _value(column, value))
    if filters.since:
        add("publication_date", ">=", "since", first_day(filters.since, name="since").isoformat())
    if filters.until:
        after = day_after(filters.until, name="until")
        if after is not None:
            add("publication_date", "<", "until", after.isoformat())
    return sql.Composed(clauses), parameters


def first_day(text: str, *, name: str) -> dt.date:
    """The first day of an ISO-8601 date or prefix (`2023`, `2023-02`, `2023-02-07`). Raises QueryInvalid."""
    match = _DATE.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        return dt.date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError:
        raise QueryInvalid(
            f"{name} is not a date: {text[:40]!r}.",
            why="dates are ISO-8601: a year, a month or a day.",
            next_step="write it as 2023, 2023-02 or 2023-02-07.",
        ) from None


def day_after(text: str, *, name: str) -> dt.date | None:
    """The first day after an ISO-8601 date or prefix, so that `until=2023-02` includes all of February; None after 9999."""
    first = first_day(text, name=name)
    match = _DATE.fullmatch(text.strip())
    assert match is not None  # first_day refuses what does not match
    try:
        if match[3]:
            return first + dt.timedelta(days=1)
        if match[2]:
            return (first.replace(day=28) + dt.timedelta(days=4)).replace(day=1)
        return first.replace(year=first.year + 1)
    except (ValueError, OverflowError):
        return None


def _value(column: str, value: str) -> str:
    try:
        is_possible = "\0" not in value and len(value.encode()) <= MAX_FILTER_BYTES
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise QueryInvalid(
            f"the filter {column} cannot match any article.",
            why=f"its value is not valid Unicode, has a NUL character or more than {MAX_FILTER_BYTES} bytes; no article has.",
            next_step="correct the value; `everindex search --help` shows the filters.",
        )
    return value


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
