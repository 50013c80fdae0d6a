"""The search service of one instance: passes each request to the kind of search that answers it.

Pages, minimum similarity, variety and near-duplicates are applied here, so they mean the same in the library, in the
commands and over HTTP. It makes no vector itself: `QueryEmbedder` does, or a caller that has a better place to wait for
one.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from everindex.articles.connections.reading import Reading
from everindex.articles.expiry import read_expiry
from everindex.articles.lookup import read_vector
from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.browse import browse
from everindex.articles.search.by_date import ByDate
from everindex.articles.search.diagnostics.timings import SearchTimings
from everindex.articles.search.filters import compares_dates, unexpired
from everindex.articles.search.filters.date_texts import DateTexts, with_notice
from everindex.articles.search.filters.filter_use import FilterUse
from everindex.articles.search.hybrid import HybridSearch, why_by_words
from everindex.articles.search.keyword.explanation import WordsExplanation
from everindex.articles.search.keyword.search import KeywordSearch
from everindex.articles.search.passages import PassageSearch
from everindex.articles.search.query_vectors import QueryEmbedder, QueryVector
from everindex.articles.search.request.cursor import (
    ENDS_HERE,
    MAX_RANKED,
    Cursor,
    Grouped,
    Part,
    after_ranked,
    with_groups,
)
from everindex.articles.search.request.search_request import Page, SearchRequest, checked_vector, require_width
from everindex.articles.search.results.facet_counts import FacetCounts
from everindex.articles.search.results.grouping import grouped
from everindex.articles.search.results.numbered_pages import is_numbered, numbered_page, placed_page
from everindex.articles.search.results.rerank import Reranker
from everindex.articles.search.results.selection import (
    candidates_for_variety,
    distinct,
    for_variety,
    read_vectors,
    similar_enough,
)
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.search.vector.explanation import Explanation
from everindex.articles.search.whole_texts import WholeTextSearch, passages_hidden
from everindex.errors import EmbeddingModelUnrecorded, EverindexError, QueryInapplicable
from everindex.tracing import note, span

EXPIRY_HIDDEN = "articles that have expired may be among these: this role may not read everindex_meta.article_expiry"


class SearchService:
    """Answers requests; safe to use from many threads."""

    def __init__(
        self,
        reading: Reading,
        engine: SearchEngine,
        words: KeywordSearch,
        embedder: QueryEmbedder,
        *,
        slow_query_ms: float,
        reranker: Reranker,
        passages: PassageSearch | None = None,
    ) -> None:
        """`passages`: of the whole texts, where the collection may have them."""
        self._reading = reading
        self._engine = engine
        self._words = words
        self._both = HybridSearch(reading, engine, words, passages, slow_query_ms=slow_query_ms)
        self._passages = passages
        self._texts = None if passages is None else WholeTextSearch(reading, engine, words, passages)
        self._embedder = embedder
        self._reranker = reranker
        self._facets = FacetCounts(reading, engine, words, passages)
        self._dates = DateTexts(reading)
        self._by_date = ByDate(reading, engine, words)
        self.filter_use = FilterUse()
        """What the filters of its requests have compared."""

        self.timings = SearchTimings()
        """How long its searches took, and which failed."""

        self.on_query: Callable[[np.ndarray], None] | None = None
        """Called with the vector of each answered search, where queries are sampled."""

    def answer(self, request: SearchRequest, query_vector: QueryVector | None = None) -> Answer:
        """The answer. `query_vector`: the vector of the request's text (or why it has none), where the caller has
        already made it.

        Raises QueryInvalid (CursorRefused for a cursor of another search), NotMigrated, ServerUnreachable, StatementTimedOut;
        by meaning also EmbeddingFailed, EmbeddingModelUnusable, EmbeddingModelsMixed.
        """
        started = time.perf_counter()
        try:
            with span("search", {"db.collection.name": self._engine.collection.name}) as current:
                answer = self._answered(request, query_vector)
                note(
                    current, everindex__mode=answer.mode, everindex__strategy=answer.strategy, everindex__k=request.k,
                    everindex__rows=len(answer.hits),
                )  # fmt: skip
        except EverindexError as exc:
            self.timings.note_failure(exc)
            raise
        self.timings.note(answer, time.perf_counter() - started)
        return answer

    def _answered(self, request: SearchRequest, query_vector: QueryVector | None) -> Answer:
        request = self._unexpired(request)
        if request.after:
            if is_numbered(request.after):
                return numbered_page(request, lambda one: self._answered(one, query_vector))
            return placed_page(self._page(request, query_vector), request)
        return self._page(request, query_vector)

    def _page(self, request: SearchRequest, query_vector: QueryVector | None) -> Answer:
        self._check_filters(request)
        if request.group_duplicates:
            return grouped(lambda one: self._ordered(one, query_vector), self._read_vectors, request)
        return self._ordered(request, query_vector)

    def _ordered(self, request: SearchRequest, query_vector: QueryVector | None) -> Answer:
        if request.sort == "newest" and request.mode != "browse":
            found = self._by_date.answer(
                request,
                lambda one: self._ordered(one, query_vector),
                lambda answer: self._facets.add(answer, partial(self._facets.of_words, request)),
            )
            return self._with_dates(found, request) if found.strategy == "newest" else found
        if request.rerank or (request.rerank is None and self._reranker.candidates):
            return self._reranker.answer(request, lambda one: self._found(one, query_vector))
        return self._found(request, query_vector)

    def _found(self, request: SearchRequest, query_vector: QueryVector | None) -> Answer:
        if not self._engine.collection.text and request.mode in ("keyword", "hybrid"):
            if request.mode == "keyword":
                raise QueryInapplicable(
                    "this collection has no words to search by.",
                    why="it was declared without a text column.",
                    next_step="search it with mode=semantic, or by a vector.",
                )
            request = replace(request, mode="semantic")
        if request.min_similarity is not None and self._engine.collection.metric == "l2":
            raise QueryInapplicable(
                "this collection has no similarity.",
                why="its metric is the Euclidean distance, which has no upper bound to count from.",
                next_step="leave min_similarity out, and compare the distances of the hits.",
            )
        match request.mode:
            case "semantic":
                answer = self._by_meaning(request, query_vector)
            case "hybrid":
                answer = self._by_both(request, query_vector)
            case "keyword":
                answer = self._by_words(request)
            case "browse":
                answer = self._newest(request)
        if self._texts is not None and request.mode != "browse" and self._engine.known()[0].hides_passages:
            answer.notices = [*answer.notices, passages_hidden(self._engine.collection)]
        return self._with_dates(answer, request)

    def answer_many(self, request: SearchRequest, queries: Sequence[str | np.ndarray] | np.ndarray) -> list[Answer]:
        """An answer by meaning for each query, in their order, with the options of `request` and without pages. Raises
        as `answer`; then no query is answered."""
        request = self._unexpired(request)
        self._check_filters(request)
        try:
            vectors = self._embedder.of_each(queries)
        except EmbeddingModelUnrecorded as exc:
            unrecorded = exc
            return [
                self._found(replace(request, text=query), unrecorded)
                if isinstance(query, str)
                else self.answer(replace(request, vector=query))
                for query in queries
            ]
        table, _ = self._engine.known()
        checked = [checked_vector(vector, table) for vector in vectors]
        page = Page(request=request, k=request.k)
        if self._texts is not None and table.has_passages:
            answers = self._texts.by_meaning_each(page, checked)
        else:
            answers = self._engine.search_many(page, checked)
        for each in answers:
            self.timings.note(each, each.elapsed_ms / 1000)
        return [self._with_dates(similar_enough(answer, request), request) for answer in answers]

    def explain(self, request: SearchRequest, query_vector: np.ndarray | None = None) -> Explanation:
        """How the semantic search finds its candidates. `query_vector` is the vector of the request's text."""
        request = self._unexpired(request)
        given = request.vector if query_vector is None else query_vector
        vector = checked_vector(given, self._engine.known()[0])
        after = request.read_cursor("semantic", *self._cursor_parts(request, given))
        k = request.k if request.diversity is None else candidates_for_variety(request.k)
        explained = self._engine.explain(Page(request=request, k=k, after=after), vector)
        if self._passages is None or not self._engine.known()[0].has_passages:
            return explained
        asked = self._passages.of(request, self._engine.known()[0])
        return explained if asked.others else replace(explained, passages=asked.explain(vector, k=k))

    def explain_words(self, request: SearchRequest) -> WordsExplanation:
        """How the words of a text are found."""
        return self._words.explain(self._unexpired(request))

    def invalidate(self) -> None:
        """Discards what is cached about publication dates and passages."""
        self._dates.invalidate()
        if self._passages is not None:
            self._passages.invalidate()

    def close(self) -> None:
        """Stops background work."""
        self._words.close()
        if self._passages is not None:
            self._passages.close()

    # --- the kinds of search ---------------------------------------------------------------------------------------

    def _by_meaning(self, request: SearchRequest, query_vector: QueryVector | None) -> Answer:
        """The articles nearest in meaning to a text, a vector or an article."""
        if request.key is not None:
            return self._similar(request)
        given = query_vector
        if given is None:
            given = self._embedder.of(request) if request.text is not None else request.vector
        if isinstance(given, EmbeddingModelUnrecorded):
            return self._by_words_instead(request, given)
        if isinstance(given, EverindexError):
            raise given
        answer = self._nearest(request, given)
        if given is not None:
            self._note_query(request, given)
        return answer

    def _similar(self, request: SearchRequest) -> Answer:
        """The articles nearest to another. Raises ArticleNotFound."""
        assert request.key is not None
        table, _ = self._engine.known()
        require_width(table)
        stored = read_vector(self._reading, table, request.key)
        vector = None if stored is None else stored.to_numpy()
        if vector is None or not vector.any():
            what = "no vector yet" if vector is None else "a vector of zeros, which is similar to nothing"
            notice = f"this article has {what}: `everindex embed` makes missing vectors"
            return Answer(hits=[], k=request.k, strategy="none-match", ef_search=None, elapsed_ms=0.0, notices=[notice])
        return self._nearest(request, vector)

    def _nearest(self, request: SearchRequest, given: np.ndarray | None) -> Answer:
        vector = checked_vector(given, self._engine.known()[0])
        answer = self._nearest_hits(request, given, vector)
        if request.facets:
            self._facets.add(answer, partial(self._facets.of_nearest, request, vector))
        return answer

    def _nearest_hits(self, request: SearchRequest, given: np.ndarray | None, vector: np.ndarray) -> Answer:
        texts = self._texts
        if texts is not None and self._engine.known()[0].has_passages:
            return self._nearest_with_passages(texts, request, given, vector)
        if request.diversity is None and not request.without_near_duplicates:
            parts = self._cursor_parts(request, given)
            after = request.read_cursor("semantic", *parts) if request.after else None
            page = Page(request=request, k=request.k, after=after, parts=parts)
            return similar_enough(self._engine.search(page, vector), request)

        def nearest(k: int, after: Cursor | None = None) -> Answer:
            return similar_enough(self._engine.search(Page(request=request, k=k, after=after), vector), request)

        if not request.without_near_duplicates:
            return self._for_variety(nearest, request)
        different = partial(distinct, nearest, self._read_vectors, threshold=request.near_duplicate_distance, of=vector)
        if request.diversity is not None:
            return self._for_variety(lambda k: different(k=k), request)
        return _timed(lambda: different(k=request.k))

    def _nearest_with_passages(
        self, texts: WholeTextSearch, request: SearchRequest, given: np.ndarray | None, vector: np.ndarray
    ) -> Answer:
        """The same among rows and passages of their whole texts, by the nearer of both."""
        if not request.without_near_duplicates:
            parts = (request.text,) if request.text is not None else self._cursor_parts(request, given)
            return self._ranked(lambda page: texts.by_meaning(page, vector), request, "semantic", parts)

        def nearest(k: int, after: Cursor | None = None) -> Answer:
            shown = 0 if after is None else after.shown
            answer = texts.by_meaning(Page(request=request, k=min(shown + k, MAX_K)), vector)
            return replace(answer, hits=answer.hits[shown:], k=k)

        different = partial(distinct, nearest, self._read_vectors, threshold=request.near_duplicate_distance, of=vector)
        if request.diversity is not None:
            return self._for_variety(lambda k: different(k=k), request)
        return _timed(lambda: different(k=request.k))

    def _by_words(self, request: SearchRequest) -> Answer:
        """The articles that have the words of a text."""
        texts = self._texts
        has_passages = texts is not None and self._words.known().table.has_passages
        search = texts.by_words if texts is not None and has_passages else self._words.search
        answer = self._ranked(search, request, "keyword")
        if request.facets:
            self._facets.add(answer, partial(self._facets.of_words, request))
        return answer

    def _by_words_instead(self, request: SearchRequest, reason: EmbeddingModelUnrecorded) -> Answer:
        """The keyword answer to a semantic search whose text may not be compared with the stored vectors; it says so.
        Raises `reason` for an option that keyword search does not support."""
        if request.min_similarity is not None:
            raise reason
        answer = self._by_words(request)
        return replace(answer, notices=[*why_by_words(reason), *answer.notices])

    def _by_both(self, request: SearchRequest, query_vector: QueryVector | None) -> Answer:
        """The articles that answer a text best, by meaning and by words."""
        given = self._embedder.of(request) if query_vector is None else query_vector
        vector = given if isinstance(given, EverindexError) else checked_vector(given, self._engine.known()[0])
        answer = self._ranked(lambda page: self._both.search(page, vector), request, "hybrid")
        if request.facets:
            self._facets.add(answer, partial(self._facets.of_words_or_nearest, request, vector))
        if not isinstance(given, EverindexError):
            self._note_query(request, given)
        return answer

    def _newest(self, request: SearchRequest) -> Answer:
        """The newest articles that pass the filters."""
        table, _ = self._engine.known()
        page = Page(request=request, k=request.k, after=request.read_cursor("browse"))
        answer = self._reading.read(lambda connection: browse(connection, table, page))
        if request.facets:
            self._facets.add(answer, partial(self._facets.of_passing, request))
        return answer

    def _unexpired(self, request: SearchRequest) -> SearchRequest:
        """The request as it is; where rows of the table can expire, for those alone that have not. Idempotent: the parts of a
        request are answered with it, too."""
        table, _ = self._engine.known()
        return replace(request, filters=unexpired(table, request.filters)) if table.can_expire else request

    def _check_filters(self, request: SearchRequest) -> None:
        """Raises FilterInvalid or QueryInapplicable before anything is embedded or read, for filters and facets that do not
        fit the table."""
        if request.is_filtered:
            table, _ = self._engine.known()
            request.bound(table)
            self.filter_use.note(table, request.filters, is_by_vector=request.mode in ("semantic", "hybrid"))
        if request.facets:
            self._facets.check(request)

    # --- shared parts ----------------------------------------------------------------------------------------------

    def _cursor_parts(self, request: SearchRequest, given: np.ndarray | None) -> tuple[Part, ...]:
        """What the cursors of a semantic search belong to. For a text this is the text and not its vector, since some
        models return a slightly different one each time."""
        if request.text is not None:
            return "text", request.text, self._embedder.embedder.model
        vector = np.asarray(given)
        return (vector,) if request.key is None else ("similar", request.key, vector)

    def _ranked(
        self,
        search: Callable[[Page], Answer],
        request: SearchRequest,
        mode: Literal["keyword", "hybrid", "semantic"],
        parts: tuple[Part, ...] | None = None,
    ) -> Answer:
        """A page of a search that orders by rank. Its cursors belong to `parts`, by default the text: a page stays valid
        whichever model made the vector, and even where none could be made."""
        if request.diversity is not None:
            return self._for_variety(lambda k: search(Page(request=request, k=k)), request)
        of = (request.text,) if parts is None else parts
        after = request.read_cursor(mode, *of)
        wanted = min(request.k, MAX_RANKED - (0 if after is None else len(after.seen)))
        answer = search(Page(request=request, k=wanted, after=after))

        def cursor_after(count: int, grouped: Grouped | None) -> str | None:
            cursor = after_ranked([*answer.hits[:count], *(grouped.later if grouped else ())], before=after)
            if cursor is None:
                return None
            return request.write_cursor(with_groups(cursor, grouped, count=count, before=after), mode, *of)

        if len(answer.hits) < wanted:
            return replace(answer, k=request.k, cursor_after=cursor_after)
        if after_ranked(answer.hits, before=after) is None:
            return replace(answer, k=request.k, notices=[*answer.notices, ENDS_HERE], cursor_after=cursor_after)
        return replace(answer, more=lambda: cursor_after(wanted, None), cursor_after=cursor_after)

    def _for_variety(self, search: Callable[[int], Answer], request: SearchRequest) -> Answer:
        diversity = request.diversity
        assert diversity is not None
        return _timed(lambda: for_variety(search, self._read_vectors, k=request.k, diversity=diversity))

    def _with_dates(self, answer: Answer, request: SearchRequest) -> Answer:
        """The answer, with a notice where some dates cannot be compared, or what has expired is not known."""
        table, _ = self._engine.known()
        if table.has_expiry_records and answer.hits:
            self._note_expiry(answer)
        if table.expiry_hidden_from is not None:
            answer = replace(answer, notices=[*answer.notices, EXPIRY_HIDDEN])
        if not request.is_filtered:
            return answer
        return with_notice(answer, self._dates.notice(table)) if compares_dates(table, request.filters) else answer

    def _note_expiry(self, answer: Answer) -> None:
        """Notes in the hits when their articles expire."""
        keys = [str(hit.key) for hit in answer.hits]
        moments = self._reading.ask(lambda connection: read_expiry(connection, keys))
        for hit in answer.hits if moments else ():
            if (moment := moments.get(str(hit.key))) is not None:
                hit.expiry = moment.astimezone(dt.UTC).isoformat(timespec="seconds")

    def _read_vectors(self, uris: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        table, _ = self._engine.known()
        return self._reading.ask(lambda connection: read_vectors(connection, table, uris))

    def _note_query(self, request: SearchRequest, vector: np.ndarray) -> None:
        if self.on_query is not None and request.after is None:  # further pages are the same query
            self.on_query(vector)


def _timed(ask: Callable[[], Answer]) -> Answer:
    """The answer with the time of all its searches together."""
    started = time.perf_counter()
    answer = ask()
    return replace(answer, elapsed_ms=(time.perf_counter() - started) * 1000)
