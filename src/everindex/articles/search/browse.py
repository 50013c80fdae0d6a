"""Browsing: the articles that pass the filters, newest first, in pages, with their total.

The order is publication_date, then uri, both descending; articles without a date come last. A cursor holds the last
article's date and uri, so that rows added or deleted meanwhile shift nothing. PostgreSQL walks the index on
publication_date backwards, or sorts the rows that a selective filter leaves. Reads only.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from psycopg import sql

from everindex.articles.model import REQUIRED_COLUMNS, Answer, Filters, Hit
from everindex.articles.search.cursor import Cursor
from everindex.articles.search.filters import where
from everindex.articles.search.request import Page
from everindex.articles.table import ArticleTable
from everindex.errors import CursorRefused
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Up to this many articles are counted exactly; beyond it the answer gives the planner's estimate and says so. Reading
#: 100,000 narrow rows takes about 20 ms, and nobody who browses pages of ten needs the last digit.
COUNTED = 100_000


def browse(connection: Connection, table: ArticleTable, page: Page) -> Answer:
    """The newest articles that pass the filters of a request. Raises CursorRefused and what reading raises."""
    started = time.perf_counter()
    request, k, after = page.request, page.k, page.after
    filters = request.filters
    with translate_errors("reading the newest articles"):
        rows = _page(connection, table, filters, k=k + 1, after=_place(after))
        total, is_estimate = _total(connection, table, filters)
    hits = [Hit(**dict(zip(REQUIRED_COLUMNS, row, strict=True)), distance=None) for row in rows[:k]]
    answer = Answer(
        hits=hits, k=k, strategy="newest", ef_search=None, elapsed_ms=(time.perf_counter() - started) * 1000,
        mode="browse", total=total, total_is_estimate=is_estimate,
        reason="no search text: articles that pass the filters, newest first",
    )  # fmt: skip
    if len(rows) <= k:
        return answer
    last = Cursor(
        distance=0.0, uri=json.dumps(_place_of(table, hits[-1])), shown=k + (0 if after is None else after.shown)
    )
    return replace(answer, more=lambda: request.write_cursor(last, "browse"))


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


def _place_of(table: ArticleTable, hit: Hit) -> _Place:
    date = hit.publication_date
    is_dated = date is not None and not (_is_text(table) and date >= "3")
    return (date if is_dated else None), hit.uri


def _is_text(table: ArticleTable) -> bool:
    return table.columns["publication_date"] in ("text", "character varying")


def _page(
    connection: Connection, table: ArticleTable, filters: Filters, *, k: int, after: _Place | None
) -> list[tuple[Any, ...]]:
    """Articles with a date, followed by those without."""
    rows: list[tuple[Any, ...]] = []
    if after is None or after[0] is not None:
        rows = connection.execute(*statement(table, filters, is_dated=True, k=k, after=after)).fetchall()
        after = None
    if len(rows) < k:
        undated = statement(table, filters, is_dated=False, k=k - len(rows), after=after)
        rows += connection.execute(*undated).fetchall()
    return rows


def statement(
    table: ArticleTable, filters: Filters, *, is_dated: bool, k: int, after: _Place | None
) -> tuple[sql.Composed, dict[str, str]]:
    """The statement for a page of articles with a date, or without one, and its parameters."""
    condition, given = where(table, filters)
    # As text, "unknown" would be later than any date. COLLATE "C": also where the language orders letters before digits.
    dated: sql.Composable = sql.SQL("publication_date IS NOT NULL")
    if _is_text(table):
        dated = sql.SQL("(publication_date IS NOT NULL AND publication_date COLLATE \"C\" < '3')")
    before: sql.Composable = sql.SQL("")
    if after is not None:
        before = sql.SQL(
            " AND (publication_date, uri) < (%(last_date)s::{date}, %(last_uri)s::{uri})"
            if is_dated
            else " AND uri < %(last_uri)s::{uri}"
        ).format(date=sql.SQL(table.columns["publication_date"]), uri=sql.SQL(table.columns["uri"]))
        given = given | {"last_uri": after[1]} | ({"last_date": str(after[0])} if is_dated else {})
    composed = sql.SQL(
        "SELECT {columns} FROM {table} WHERE {dated}{condition}{before} ORDER BY {order} LIMIT {k}"
    ).format(
        columns=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in REQUIRED_COLUMNS),
        table=table.identifier,
        dated=dated if is_dated else sql.SQL("NOT {}").format(dated),
        condition=condition,
        before=before,
        order=sql.SQL("publication_date DESC, uri DESC" if is_dated else "uri DESC"),
        k=sql.Literal(k),
    )
    return composed, given


def _total(connection: Connection, table: ArticleTable, filters: Filters) -> tuple[int, bool]:
    """How many articles pass the filters, and whether that is an estimate."""
    condition, given = where(table, filters)
    passing = sql.SQL("SELECT FROM {table} WHERE true{condition}").format(table=table.identifier, condition=condition)
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM ({} LIMIT {}) AS counted").format(passing, sql.Literal(COUNTED + 1)), given
    ).fetchone()
    counted = 0 if row is None else int(row[0])
    if counted <= COUNTED:
        return counted, False
    plan = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(passing), given).fetchone()
    estimated = 0 if plan is None else int(plan[0][0]["Plan"]["Plan Rows"])
    return max(estimated, counted), True
