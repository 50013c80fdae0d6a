"""Answers of vector search, made from its rows and the server's scan counts: hits, notices and next page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, Literal

from everindex.articles.model import Answer
from everindex.articles.search.cursor import after_nearest
from everindex.articles.search.request import Page
from everindex.articles.search.vector.strategy import BY_ROW_CODES, NO_INDEX, SearchPlan, exactly
from everindex.articles.shape.hit import Hit, with_text_date
from everindex.articles.table import CollectionTable

#: `as-chosen`: through the index, or a search that needs none, or a server that counts nothing. `table`: every row was
#: read. `other`: neither, or only some of the partitions went through the index.
Scanned = Literal["as-chosen", "table", "other"]

SMALL_TABLE = "PostgreSQL reads all of a table this small"
#: The columns of the collection, then the distance.
Row = tuple[Any, ...]

_DISTANCE_AND_KEY = itemgetter(-1, 0)


def least_rows(page: Page, search_plan: SearchPlan) -> int:
    """The number of rows below which the index may not have found the nearest.

    An iterative scan under a filter returns all rows that it should fetch unless it gave up. The passing rows are then
    far from the query, and the few that it found need not include the nearest.
    """
    if not search_plan.is_by_index:
        return 0
    if search_plan.gives_up and page.after is None:
        return search_plan.fetch - (page.request.key is not None)
    return page.k


def answer_of(page: Page, hits: list[Hit], search_plan: SearchPlan, notices: list[str], *, elapsed_ms: float) -> Answer:
    if search_plan.reason == BY_ROW_CODES:
        notices = [*notices, f"{BY_ROW_CODES} (exact search)"]
    elif search_plan.strategy == "exact" and search_plan.reason == NO_INDEX:
        notices = [*notices, f"{NO_INDEX}: every row was read (exact search)"]
    elif search_plan.strategy == "exact" and not page.request.exact and page.after is not None and not notices:
        notices = [f"{search_plan.reason} (exact search)"]
    return Answer(
        hits=hits,
        k=page.k,
        strategy=search_plan.strategy,
        reason=search_plan.reason,
        ef_search=search_plan.ef_search,
        elapsed_ms=elapsed_ms,
        notices=notices,
        more=_next_page(page, hits, search_plan),
    )


def hits_of(table: CollectionTable, rows: Sequence[Row], page: Page) -> list[Hit]:
    """The page's hits, by distance and the text of their keys."""
    nearest = sorted(rows, key=_DISTANCE_AND_KEY if table.has_text_key else _distance_and_key_text)[: page.k]
    columns, date_at = table.spec.columns, table.date_at
    if date_at is not None:
        nearest = [with_text_date(row, date_at) for row in nearest]
    return [Hit(columns, row[0], row[:-1], row[-1]) for row in nearest]


def _distance_and_key_text(row: Row) -> tuple[float, str]:
    return row[-1], str(row[0])


def _next_page(page: Page, hits: list[Hit], search_plan: SearchPlan) -> Callable[[], str] | None:
    """Writes the cursor after the last hit; None where the search had no more rows and no further page exists."""
    parts = page.parts
    if parts is None or len(hits) < page.k:
        return None
    return lambda: page.request.write_cursor(
        after_nearest(hits, before=page.after, is_complete=search_plan.is_exact), "semantic", *parts
    )


def scanned_by(scans: Sequence[int], *, searches: int, is_partitioned: bool) -> Scanned:
    """What `searches` statements scanned, from the scan counts of index and table (or of all their partitions)."""
    if not scans:
        return "as-chosen"
    by_index, whole = scans
    if by_index >= searches and not (is_partitioned and whole):
        return "as-chosen"
    return "table" if by_index == 0 and whole >= searches else "other"


def as_read(search_plan: SearchPlan, *, reason: str) -> SearchPlan:
    """A search plan as exact, after its statement read every row."""
    exact = exactly(is_filtered=search_plan.strategy.endswith("-filtered"), reason=reason)
    return replace(exact, continues=search_plan.continues, leaves_ties=True)
