"""The facets of an answer, counted over its whole result: the rows that have the words, the nearest ones, or all that pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.model import Answer, Facets, FacetSource
from everindex.articles.search.browse import COUNTED
from everindex.articles.search.filters import where
from everindex.articles.search.filters.facets import facets_of, facets_statement, keys_condition
from everindex.articles.search.keyword.ranking import MOST_RANKED
from everindex.articles.search.keyword.search import KeywordSearch
from everindex.articles.search.passages import PassageSearch
from everindex.articles.search.query_vectors import QueryVector
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.articles.search.results.selection import similar_enough
from everindex.articles.search.vector.engine import SearchEngine
from everindex.errors import EverindexError, StatementTimedOut
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Facets of a search by meaning are counted over this many rows: every row is near to some degree, and beyond these few people
#: look.
NEAREST_COUNTED = 100
TIMED_OUT = (
    "the values in this result were not counted in time (EVERINDEX_STATEMENT_TIMEOUT_MS): narrow it with a filter"
)


class FacetCounts:
    """Counts the facets of one instance's answers; safe to use from many threads."""

    def __init__(
        self, reading: Reading, engine: SearchEngine, words: KeywordSearch, passages: PassageSearch | None
    ) -> None:
        self._reading = reading
        self._engine = engine
        self._words = words
        self._passages = passages

    def check(self, request: SearchRequest) -> None:
        """Raises FilterInvalid or QueryInapplicable for facets that do not fit the table. Reads nothing."""
        facets_statement(self._engine.known()[0], request.facets, sql.SQL(""), most=1)

    def add(self, answer: Answer, count: Callable[[], Facets]) -> None:
        """Adds what `count` counts to an answer; the answer is ready, so that it does not fail where that takes too long."""
        try:
            answer.facets = count()
        except StatementTimedOut:
            answer.notices = [*answer.notices, TIMED_OUT]

    def of_passing(self, request: SearchRequest) -> Facets:
        """The facets of the rows that pass the filters, COUNTED at most."""
        passing = where(self._engine.known()[0], request.filters)
        return self._count(request, *passing, source="filters", most=COUNTED)

    def of_words(self, request: SearchRequest) -> Facets:
        """The facets of the rows that have the words of the text, MOST_RANKED at most; where no row has all of them, as in
        the answer, those that have some."""
        found = self._count(request, *self._with_words(request), source="words", most=MOST_RANKED)
        if found.counted or request.mode != "keyword" or not request.words.is_plain or len(request.words.items) < 2:
            return found
        some = self._with_words(request, any_word=True)
        return self._count(request, *some, source="words", most=MOST_RANKED)

    def of_words_or_nearest(self, request: SearchRequest, vector: QueryVector) -> Facets:
        """The same, or where no row has the words, as of the rows nearest in meaning, which are then the answer."""
        found = self.of_words(request)
        return found if found.counted or isinstance(vector, EverindexError) else self.of_nearest(request, vector)

    def of_nearest(self, request: SearchRequest, vector: np.ndarray) -> Facets:
        """The facets of the NEAREST_COUNTED rows that are nearest to `vector`; costs a search of its own."""
        table, _ = self._engine.known()
        found = similar_enough(self._engine.search(Page(request=request, k=NEAREST_COUNTED), vector), request)
        condition, parameters = keys_condition(table, [hit.key for hit in found.hits])
        return self._count(request, condition, parameters, source="nearest", most=NEAREST_COUNTED)

    def _with_words(self, request: SearchRequest, *, any_word: bool = False) -> tuple[sql.Composable, dict[str, Any]]:
        """The condition that a row, or a passage of its whole text, has the words."""
        known = self._words.known()
        if self._passages is None or not known.table.has_passages:
            return self._words.condition(request, any_word=any_word)
        return self._passages.of(request, known.table).with_words(known, request, any_word=any_word)

    def _count(
        self,
        request: SearchRequest,
        condition: sql.Composable,
        parameters: Mapping[str, Any],
        *,
        source: FacetSource,
        most: int,
    ) -> Facets:
        table, _ = self._engine.known()
        composed, names = facets_statement(table, request.facets, condition, most=most)

        def read(connection: Connection) -> list[tuple[int, Any, int]]:
            with translate_errors("counting facets"):
                return connection.execute(composed, {**parameters, **names}).fetchall()

        return facets_of(table, request.facets, self._reading.read(read), source=source, most=most)
