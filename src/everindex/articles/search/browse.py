"""Browsing: the articles that pass the filters, newest first, in pages, with their total.

The order is publication_date, then uri, both descending; articles without a date come last. A cursor holds the last
article's date and uri, so that rows added or deleted meanwhile shift nothing. PostgreSQL walks the index on
publication_date backwards, or sorts the rows that a selective filter leaves. Reads only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from psycopg import sql

from everindex.articles.model import Answer
from everindex.articles.search.filters import where
from everindex.articles.search.request.cursor import Cursor, Grouped, seen_digest, with_groups
from everindex.articles.search.request.search_request import Page
from everindex.articles.shape.hit import Hit, with_text_date
from everindex.articles.table import CollectionTable
from everindex.errors import CursorRefused
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Up to this many articles are counted exactly; beyond it the answer gives the planner's estimate and says so. Reading
#: 100,000 narrow rows takes about 20 ms, and nobody who browses pages of ten needs the last digit.
COUNTED = 100_000


#: A condition that rows pass, ` AND …`, and its parameters.
Passing = tuple[sql.Composable, Mapping[str, Any]]


def browse(connection: Connection, table: CollectionTable, page: Page, *, passing: Passing | None = None) -> Answer:
    """The newest articles that pass the filters of a request, or another condition. Raises CursorRefused and what reading
    raises."""
    started = time.perf_counter()
    request, k, after = page.request, page.k, page.after
    filters = where(table, request.filters) if passing is None else passing
    with translate_errors("reading the newest articles"):
        seen = 0 if after is None else len(after.seen)
        rows = _page(connection, table, filters, k=k + 1 + seen, after=_place(after))
        total, is_estimate = _total(connection, table, filters)
    at = table.date_at

    def shown(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return row if at is None else with_text_date(row, at)

    if after is not None and seen:
        rows = [row for row in rows if seen_digest(row[0]) not in after.seen]
    hits = [Hit(table.spec.columns, row[0], row[:-1], None) for row in map(shown, rows[:k])]

    def cursor_after(count: int, grouped: Grouped | None) -> str:
        place = json.dumps(_place_of(table, rows[count - 1]))
        last = Cursor(distance=0.0, uri=place, shown=count + (0 if after is None else after.shown))
        return request.write_cursor(
            with_groups(last, grouped, count=count, before=after), "browse", *(page.parts or ())
        )

    answer = Answer(
        hits=hits, k=k, strategy="newest", ef_search=None, elapsed_ms=(time.perf_counter() - started) * 1000,
        mode="browse", sort="newest", total=total, total_is_estimate=is_estimate,
        reason="no search text: articles that pass the filters, newest first", cursor_after=cursor_after,
    )  # fmt: skip
    return answer if len(rows) <= k else replace(answer, more=lambda: cursor_after(k, None))


#: The date and uri of the last article shown; the date is None among those without one.
_Place = tuple[str | None, str]


def _place(cursor: Cursor | None) -> _Place | None:
    if cursor is None:
        return None
    try:
        date, uri = json.loads(cursor.uri)
        if not (date is None or isinstance(date, str)) or not isinstance(uri, str) or "\0" in f"{date}{uri}":
            raise ValueError
    except (ValueError, TypeError):
        raise CursorRefused(
            "the cursor does not belong to a list of the newest articles.",
            why="it is not a next_cursor of such a list.",
            next_step="request the first page, without a cursor.",
        ) from None
    return date, uri


def _place_of(table: CollectionTable, row: tuple[Any, ...]) -> _Place:
    """The place of a row of `statement`, whose last column is its date as text."""
    date = row[-1]
    is_dated = date is not None and not (_is_text(table) and date >= "3")
    return (date if is_dated else None), str(row[0])


def _is_text(table: CollectionTable) -> bool:
    return table.columns[table.spec.date or table.spec.key] in ("text", "character varying")


def _page(
    connection: Connection, table: CollectionTable, passing: Passing, *, k: int, after: _Place | None
) -> list[tuple[Any, ...]]:
    """Articles with a date, followed by those without."""
    rows: list[tuple[Any, ...]] = []
    if table.spec.date is not None and (after is None or after[0] is not None):
        rows = connection.execute(*statement(table, passing, is_dated=True, k=k, after=after)).fetchall()
        after = None
    if len(rows) < k:
        undated = statement(table, passing, is_dated=False, k=k - len(rows), after=after)
        rows += connection.execute(*undated).fetchall()
    return rows


def statement(
    table: CollectionTable, passing: Passing, *, is_dated: bool, k: int, after: _Place | None
) -> tuple[sql.Composed, dict[str, Any]]:
    """The statement for a page of articles with a date, or without one, and its parameters."""
    condition, given = passing[0], dict(passing[1])
    # As text, "unknown" would be later than any date. COLLATE "C": also where the language orders letters before digits.
    date = sql.Identifier(table.spec.date) if table.spec.date is not None else None
    dated: sql.Composable = sql.SQL("false") if date is None else sql.SQL("{} IS NOT NULL").format(date)
    if date is not None and _is_text(table):
        dated = sql.SQL("({0} IS NOT NULL AND {0} COLLATE \"C\" < '3')").format(date)
    before: sql.Composable = sql.SQL("")
    if after is not None:
        before = sql.SQL(
            " AND ({date}, {key}) < (%(last_date)s::{date_type}, %(last_uri)s::{key_type})"
            if is_dated
            else " AND {key} < %(last_uri)s::{key_type}"
        ).format(
            date=date, date_type=sql.SQL(table.columns[table.spec.date or table.spec.key]), key=table.key,
            key_type=table.key_type,
        )  # fmt: skip
        given = given | {"last_uri": after[1]} | ({"last_date": str(after[0])} if is_dated else {})
    # With its table: a bare name would be that of a selected column, which may be the key as text.
    qualified = sql.Identifier(table.schema, table.spec.table, table.spec.key)
    composed = sql.SQL(
        'SELECT {columns}, {date_text}::pg_catalog.text AS "everindex date" FROM {table} '
        "WHERE {dated}{condition}{before} ORDER BY {order} LIMIT {k}"
    ).format(
        columns=table.selected,
        date_text=sql.SQL("NULL") if date is None else date,
        table=table.identifier,
        dated=dated if is_dated else sql.SQL("NOT {}").format(dated),
        condition=condition,
        before=before,
        order=sql.SQL("{date} DESC, {key} DESC" if is_dated else "{key} DESC").format(date=date, key=qualified),
        k=sql.Literal(k),
    )
    return composed, given


def _total(connection: Connection, table: CollectionTable, passing: Passing) -> tuple[int, bool]:
    """How many articles pass, and whether that is an estimate."""
    condition, given = passing
    rows = sql.SQL("SELECT FROM {table} WHERE true{condition}").format(table=table.identifier, condition=condition)
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM ({} LIMIT {}) AS counted").format(rows, sql.Literal(COUNTED + 1)), given
    ).fetchone()
    counted = 0 if row is None else int(row[0])
    if counted <= COUNTED:
        return counted, False
    plan = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(rows), given).fetchone()
    estimated = 0 if plan is None else int(plan[0][0]["Plan"]["Plan Rows"])
    return max(estimated, counted), True
