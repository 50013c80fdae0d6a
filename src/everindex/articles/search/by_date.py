"""The matches of a text by date, newest first.

What matches is what the facets of an answer count: by words, and by meaning and words, the rows that have all words of the
text, every one of them; where no row has, and by meaning alone, the BEST of the search, since every row is near to some
degree. The cursor of a page belongs to the one or to the other, so all pages of an answer go the same way.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from everindex.articles.connections.reading import Reading
from everindex.articles.model import Answer
from everindex.articles.search.browse import browse
from everindex.articles.search.keyword.search import KeywordSearch
from everindex.articles.search.keyword.snippet import with_snippets
from everindex.articles.search.request.cursor import Cursor, Grouped, Part, not_seen, with_groups
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.shape.hit import Hit
from everindex.articles.table import CollectionTable
from everindex.errors import CursorRefused, QueryInapplicable
from everindex.pg.connections import Connection

#: As many as the facets of a search by meaning count.
BEST = 100


class ByDate:
    """Answers of one instance in the order of their dates; safe to use from many threads."""

    def __init__(self, reading: Reading, engine: SearchEngine, words: KeywordSearch) -> None:
        self._reading = reading
        self._engine = engine
        self._words = words

    def answer(
        self,
        request: SearchRequest,
        search: Callable[[SearchRequest], Answer],
        add_facets: Callable[[Answer], None],
    ) -> Answer:
        """The page of a request, newest first. `search` answers a request by relevance, `add_facets` counts those of the rows
        that have the words. Raises QueryInapplicable for rows without a date, and what `search` raises."""
        table, _ = self._engine.known()
        if table.spec.date is None:
            raise QueryInapplicable(
                "this collection cannot be sorted by date.",
                why="it was declared without a date column.",
                next_step="leave sort out, or declare the collection with  date=COLUMN.",
            )
        if request.mode != "semantic" and request.min_similarity is None and table.spec.text:
            found = self._with_words(request, table)
            if found is not None:
                if request.facets:
                    add_facets(found)
                return found
        return self._best(request, table, search)

    def _with_words(self, request: SearchRequest, table: CollectionTable) -> Answer | None:
        """Those that have all words; None where none has, or where the page belongs to the best of a search."""
        parts: tuple[Part, ...] = ("newest with the words", request.mode, request.text)
        try:
            after = request.read_cursor("browse", *parts)
        except CursorRefused:
            return None
        page = Page(request=request, k=request.k, after=after, parts=parts)
        passing, known = self._words.condition(request), self._words.known()

        def read(connection: Connection) -> Answer:
            found = browse(connection, table, page, passing=passing)
            found.hits = with_snippets(connection, known.config, request.words, found.hits)
            return found

        found = self._reading.read(read)
        if not found.hits and after is None:
            return None
        return replace(
            found, mode=request.mode, sort="newest", reason="articles that have the words of the text, newest first"
        )

    def _best(
        self, request: SearchRequest, table: CollectionTable, search: Callable[[SearchRequest], Answer]
    ) -> Answer:
        """The best by relevance, put in the order of their dates."""
        started = time.perf_counter()
        vector = request.vector
        parts: tuple[Part, ...] = ("newest of the best", request.mode, request.text, vector)
        after = request.read_cursor("browse", *parts)
        by_relevance = replace(request, sort="relevance", rerank=0, k=BEST, after=None)
        found = search(by_relevance)
        at = table.spec.columns.names.index(table.spec.date or "")
        matches = sorted(found.hits, key=lambda hit: _place(hit, at), reverse=True)
        rest = matches if after is None else [hit for hit in matches if _place(hit, at) < _read(after)]
        rest = not_seen(rest, after)

        def cursor_after(count: int, grouped: Grouped | None) -> str:
            shown = count + (0 if after is None else after.shown)
            last = Cursor(distance=0.0, uri=json.dumps(_place(rest[count - 1], at)), shown=shown)
            return request.write_cursor(with_groups(last, grouped, count=count, before=after), "browse", *parts)

        hits = rest[: request.k]
        return replace(
            found, hits=hits, k=request.k, sort="newest", total=len(matches), total_is_estimate=False,
            reason=f"the best {len(matches)} by relevance, newest first", cursor_after=cursor_after,
            more=None if len(rest) <= request.k else lambda: cursor_after(len(hits), None),
            elapsed_ms=(time.perf_counter() - started) * 1000,
        )  # fmt: skip


def _place(hit: Hit, at: int) -> tuple[str, str]:
    """Where a hit stands in the order of dates: its date as text whose order is that of time, and its key."""
    value: Any = hit.values[at]
    match value:
        case None:
            date = ""
        case dt.datetime():
            date = (value.astimezone(dt.UTC) if value.tzinfo else value).isoformat()
        case dt.date():
            date = value.isoformat()
        case _:
            date = str(value)
    # As text, "unknown" would be later than any date.
    return ("" if date >= "3" else date), str(hit.key)


def _read(cursor: Cursor) -> tuple[str, str]:
    try:
        date, key = json.loads(cursor.uri)
    except ValueError:
        return "", ""
    return str(date), str(key)
