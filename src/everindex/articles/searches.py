"""How do the options of a search go together? Pages, a least similarity, variety, near-duplicates: once for all ways of
searching, so that they mean the same in the library, the commands and over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from everindex.articles.model import Answer, Filters
from everindex.articles.reading import Reading
from everindex.articles.search.browse import browse
from everindex.articles.search.condition import values
from everindex.articles.search.cursor import Cursor, Part, Question
from everindex.articles.search.date_texts import DateTexts, with_notice
from everindex.articles.search.diversity import check_diversity
from everindex.articles.search.engine import SearchEngine
from everindex.articles.search.explained import Explanation
from everindex.articles.search.hybrid import HybridSearch, Meaning
from everindex.articles.search.keyword import KeywordSearch
from everindex.articles.search.near_duplicates import check_threshold
from everindex.articles.search.pages import MAX_RANKED, after_ranked
from everindex.articles.search.question import check_numbers, checked_vector
from everindex.articles.search.selection import candidates_for_variety, distinct, for_variety, similar_enough
from everindex.articles.search.vectors import read_vectors
from everindex.errors import QueryInapplicable, QueryInvalid

ENDS_HERE = (
    f"a search by words is shown up to its first {MAX_RANKED:,} articles: narrow it with a filter or another word"
)


@dataclass(slots=True, kw_only=True)
class Options:
    """What a search takes beside what is looked for. To be left as it is; not frozen, as Hit."""

    k: int = 10
    filters: Filters = field(default_factory=Filters)
    ef_search: int | None = None
    exact: bool = False
    after: str | None = None
    """The `next_cursor` of the page before."""

    min_similarity: float | None = None
    """Only articles at least so similar, −1 to 1; an answer then may have fewer than k."""

    diversity: float | None = None
    """0 to 1: how much being unlike each other counts against being near."""

    def checked(self) -> Options:
        """The options, if they can be answered together. Raises QueryInvalid."""
        check_numbers(self.k, self.ef_search)
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise QueryInvalid(
                f"min_similarity = {self.min_similarity} cannot be used.",
                why="it is a cosine similarity: 1 is the same direction, 0 unrelated, −1 opposite.",
                next_step="choose a number from −1 to 1; the similarities of an answer show what is usual here.",
            )
        if self.diversity is None:
            return self
        check_diversity(self.diversity)
        if self.diversity == 0:
            return replace(self, diversity=None)
        _no_pages(self.after, "diversity", why="variety is chosen within one answer, and has no order to go on in.")
        return self


class Searches:
    """The ways of searching one instance, each with all options; safe to use from many threads."""

    def __init__(self, reading: Reading, engine: SearchEngine, words: KeywordSearch, both: HybridSearch) -> None:
        self._reading = reading
        self._engine = engine
        self._words = words
        self._both = both
        self._dates = DateTexts(reading)

    def by_meaning(
        self,
        vector: np.ndarray,
        options: Options,
        *,
        asked: Sequence[Part] | None = None,
        without_uri: str | None = None,
        near_duplicates: float | None = None,
    ) -> Answer:
        """As `_by_meaning`, with a notice where dates cannot be compared."""
        answer = self._by_meaning(
            vector, options, asked=asked, without_uri=without_uri, near_duplicates=near_duplicates
        )
        return self._with_dates(answer, options)

    def invalidate(self) -> None:
        """Looks at the dates anew."""
        self._dates.invalidate()

    def _with_dates(self, answer: Answer, options: Options) -> Answer:
        filters = options.filters
        if not (filters.since or filters.until):
            return answer
        return with_notice(answer, self._dates.notice(self._engine.known()[0], filters))

    def _by_meaning(
        self,
        vector: np.ndarray,
        options: Options,
        *,
        asked: Sequence[Part] | None = None,
        without_uri: str | None = None,
        near_duplicates: float | None = None,
    ) -> Answer:
        """The articles nearest to `vector`. Cursors belong to `asked`, or to the vector where that is None.
        `near_duplicates`: of articles closer than this to the vector, or to a nearer one, none."""
        options = options.checked()
        if options.after or not isinstance(vector, np.ndarray):
            vector = self._as_given(vector)
        question = _question("semantic", asked or (vector,), options)
        after = question.read(options.after)
        search = partial(
            self._engine.search,
            vector,
            filters=options.filters,
            ef_search=options.ef_search,
            exact=options.exact,
            without_uri=without_uri,
        )
        cut = partial(similar_enough, least=options.min_similarity)
        if near_duplicates is None and options.diversity is None:
            return cut(search(k=options.k, after=after, question=question))
        if near_duplicates is None:
            return self._for_variety(lambda k: search(k=k), options, cut=cut)
        check_threshold(near_duplicates)
        _no_pages(
            options.after, "leaving out near-duplicates", why="a page does not know the articles of those before."
        )

        def differing(k: int) -> Answer:
            def ask(count: int, before: Cursor | None) -> Answer:
                return cut(search(k=count, after=before))

            return distinct(ask, self._read_vectors, k=k, threshold=near_duplicates, of=vector)

        if options.diversity is not None:
            return self._for_variety(differing, options, cut=cut)
        return _timed(lambda: differing(options.k))

    def explain(self, vector: np.ndarray, options: Options, *, asked: Sequence[Part] | None = None) -> Explanation:
        """How `by_meaning` finds its candidates."""
        options = options.checked()
        vector = self._as_given(vector)
        return self._engine.explain(
            vector,
            k=options.k if options.diversity is None else candidates_for_variety(options.k),
            filters=options.filters,
            ef_search=options.ef_search,
            exact=options.exact,
            after=_question("semantic", asked or (vector,), options).read(options.after),
        )

    def many_by_meaning(self, vectors: Sequence[np.ndarray], options: Options) -> list[Answer]:
        """The articles nearest to each of `vectors`, without pages and variety."""
        options = options.checked()
        values(options.filters)  # also where there is nothing to look for, and no statement to make
        answers = self._engine.search_many(
            vectors, k=options.k, filters=options.filters, ef_search=options.ef_search, exact=options.exact
        )
        return [self._with_dates(similar_enough(answer, least=options.min_similarity), options) for answer in answers]

    def by_filters(self, options: Options) -> Answer:
        """The newest articles that pass the filters."""
        options = options.checked()
        if options.min_similarity is not None or options.diversity is not None:
            raise QueryInapplicable(
                "without a text nothing is similar.",
                why="min_similarity and diversity compare articles with what is looked for; filters alone look for nothing.",
                next_step="write a text to search for, or leave them out.",
            )
        table, _ = self._engine.known()
        question = _question("browse", (), options)
        after = question.read(options.after)
        answer = self._reading.read(
            lambda connection: browse(
                connection, table, filters=options.filters, k=options.k, after=after, question=question
            )
        )
        return self._with_dates(answer, options)

    def by_words(self, text: str, options: Options) -> Answer:
        """The articles that have the words of `text`."""
        options = options.checked()
        if options.min_similarity is not None:
            raise QueryInapplicable(
                "a search by keyword has no similarity.",
                why="min_similarity compares the meaning of texts, which mode=keyword does not look at.",
                next_step="leave it out, or search with mode=hybrid or mode=semantic.",
            )

        def search(k: int, after: Cursor | None) -> Answer:
            seen = frozenset() if after is None else after.seen
            return self._words.search(text, k=k, filters=options.filters, seen=seen)

        return self._with_dates(self._ranked(search, options, _question("keyword", (text,), options)), options)

    def by_both(self, text: str, meaning: Meaning, options: Options) -> Answer:
        """The articles that answer `text` best, by meaning and by words."""
        options = options.checked()

        def search(k: int, after: Cursor | None) -> Answer:
            return self._both.search(
                text,
                meaning,
                k=k,
                filters=options.filters,
                ef_search=options.ef_search,
                exact=options.exact,
                seen=frozenset() if after is None else after.seen,
                min_similarity=options.min_similarity,
            )

        # By ranks it does not matter which model gave the meaning, or that none could be had for a page.
        return self._with_dates(self._ranked(search, options, _question("hybrid", (text,), options)), options)

    def _as_given(self, vector: np.ndarray) -> np.ndarray:
        """The vector as an array, unchanged: cursors belong to what was given. Raises QueryInvalid as a search would."""
        checked_vector(vector, self._engine.known()[0])
        return np.asarray(vector)

    def _ranked(self, search: Callable[[int, Cursor | None], Answer], options: Options, question: Question) -> Answer:
        if options.diversity is not None:
            return self._for_variety(lambda k: search(k, None), options, cut=lambda answer: answer)
        after = question.read(options.after)
        wanted = min(options.k, MAX_RANKED - (0 if after is None else len(after.seen)))
        answer = search(wanted, after)
        if len(answer.hits) < wanted:
            return replace(answer, k=options.k)
        cursor = after_ranked(answer.hits, before=after)
        if cursor is None:
            return replace(answer, k=options.k, notices=[*answer.notices, ENDS_HERE])
        return replace(answer, more=lambda: question.write(cursor))

    def _for_variety(
        self, search: Callable[[int], Answer], options: Options, *, cut: Callable[[Answer], Answer]
    ) -> Answer:
        diversity = options.diversity
        assert diversity is not None
        return _timed(lambda: for_variety(search, self._read_vectors, k=options.k, diversity=diversity, cut=cut))

    def _read_vectors(self, uris: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        table, _ = self._engine.known()
        return self._reading.ask(lambda connection: read_vectors(connection, table, uris))


def _question(mode: str, asked: Sequence[Part], options: Options) -> Question:
    filters = options.filters
    return Question(
        mode,
        *asked,
        filters.category or None,
        filters.topic or None,
        filters.news_source or None,
        filters.since or None,
        filters.until or None,
        options.min_similarity,
    )


def _no_pages(after: str | None, option: str, *, why: str) -> None:
    if after:
        raise QueryInapplicable(
            f"{option} cannot be continued with a cursor.", why=why, next_step="ask for a larger k instead."
        )


def _timed(ask: Callable[[], Answer]) -> Answer:
    """The answer with the time of all that was asked for it."""
    started = time.perf_counter()
    answer = ask()
    return replace(answer, elapsed_ms=(time.perf_counter() - started) * 1000)
