"""Searches by meaning alone and by words alone over the articles and the passages of their whole texts, together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from everindex.articles.connections.reading import Reading
from everindex.articles.declared import whole_texts_of
from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.keyword.ranking import find
from everindex.articles.search.keyword.search import KeywordSearch
from everindex.articles.search.keyword.snippet import with_snippets
from everindex.articles.search.passages import OfArticle, PassageSearch, by_distance, by_score
from everindex.articles.search.request.cursor import seen_digest
from everindex.articles.search.request.search_request import Page
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.shape.hit import Hit
from everindex.articles.shape.spec import CollectionSpec
from everindex.pg.connections import Connection


class WholeTextSearch:
    """Searches one instance whose table has passages; safe to use from many threads."""

    def __init__(self, reading: Reading, engine: SearchEngine, words: KeywordSearch, passages: PassageSearch) -> None:
        self._reading = reading
        self._engine = engine
        self._words = words
        self._passages = passages

    def by_meaning(self, page: Page, vector: np.ndarray) -> Answer:
        """The articles of `page` nearest to `vector` by title and summary or by a passage, nearest first.

        Articles on previous pages and below the minimum similarity are skipped. Raises as `SearchEngine.search`.
        """
        started = time.perf_counter()
        request, seen = page.request, page.seen
        k = min(page.k + len(seen) + (request.key is not None), MAX_K)
        asked = self._passages.of(request, self._engine.known()[0])
        near = self._engine.search(Page(request=request, k=k), vector)
        passages = asked.nearest(vector, k=k)
        known = self._reading.ask(lambda connection: asked.of_articles(connection, passages))
        hits = [
            hit
            for hit in by_distance(near.hits, passages, known)[:k]
            if request.is_similar(hit) and seen_digest(hit.key) not in seen and str(hit.key) != request.key
        ][: page.k]
        return replace(
            near,
            hits=hits,
            k=page.k,
            elapsed_ms=(time.perf_counter() - started) * 1000,
            notices=[*near.notices, *asked.notices],
            more=None,
        )

    def by_meaning_each(self, page: Page, vectors: Sequence[np.ndarray]) -> list[Answer]:
        """The same for each of `vectors`, without pages, in three round trips together where enough passages differ."""
        started = time.perf_counter()
        asked = self._passages.of(page.request, self._engine.known()[0])
        near = self._engine.search_many(page, vectors)
        passages = asked.nearest_to_each(vectors, k=page.k)
        known = self._reading.ask(lambda connection: asked.of_articles(connection, chain.from_iterable(passages)))
        each_ms = (time.perf_counter() - started) * 1000 / max(len(vectors), 1)
        return [
            replace(
                answer,
                hits=by_distance(answer.hits, found, _at_distances(known, found))[: page.k],
                elapsed_ms=each_ms,
                notices=[*answer.notices, *asked.notices],
                more=None,
            )
            for answer, found in zip(near, passages, strict=True)
        ]

    def by_words(self, page: Page) -> Answer:
        """The articles of `page` that have the words in title and summary or in a passage, best first, with snippets.

        Articles on previous pages are skipped. Raises as `KeywordSearch.search`.
        """
        started = time.perf_counter()
        request, seen = page.request, page.seen
        known_words = self._words.known()
        asked = self._passages.of(request, known_words.table)
        candidates = Page(request=request, k=min(page.k + len(seen), MAX_K))

        def read(connection: Connection) -> tuple[list[Hit], list[str]]:
            titles = find(connection, known_words, candidates, rows=self._words.rows)
            texts = asked.matching(connection, k=candidates.k)
            found = by_score(titles, texts, asked.of_articles(connection, texts.hits))
            left_out = request.words.left_out
            if left_out is not None:
                found = replace(found, hits=asked.without(connection, left_out, found.hits))
            hits = [hit for hit in found.hits[: candidates.k] if seen_digest(hit.key) not in seen][: page.k]
            return with_snippets(connection, known_words.config, request.words, hits), found.notices

        hits, notices = self._reading.ask(read)
        return Answer(
            hits=hits,
            k=page.k,
            strategy="keyword",
            reason="keyword search was requested",
            ef_search=None,
            elapsed_ms=(time.perf_counter() - started) * 1000,
            notices=notices,
            mode="keyword",
        )


def _at_distances(known: Mapping[Any, OfArticle], found: Sequence[Hit]) -> dict[Any, OfArticle]:
    """What is known of the passages in `found`, each at its distance from the vector that found it."""
    return {
        hit.key: replace(one, passage=replace(one.passage, distance=hit.distance))
        for hit in found
        if (one := known.get(hit.key)) is not None
    }


def passages_hidden(collection: CollectionSpec) -> str:
    """The notice of an answer without the passages that this role may not read."""
    texts = whole_texts_of(collection)
    name = "" if texts is None else f"{texts.passages.schema}.{texts.passages.table}"
    return f"whole texts were not searched: this role may not read {name}, on which its owner can GRANT SELECT"
