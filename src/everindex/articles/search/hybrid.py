"""Hybrid search: by meaning and by words, fused by what each says of a hit.

Neither can replace the other: a model does not know rare names, and words do not match synonyms
(docs/measurements/words.md). Where one of the two is unavailable, the other answers alone, and the answer says so.

A hit's words count as the share of the query's words that it has, each weighted by how rare it is; its meaning as its
cosine similarity. Both are between 0 and about 1 whatever was found, so a text that has only the common words of a query
cannot pass one that means the same. The sum of reciprocal ranks (Cormack et al., SIGIR 2009), which orders where there is
no such scale (other metrics than the cosine), gives a text that two weak searches agree on the first place.

Source: Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", ACM TOIS 2023: a convex combination of
scores with a theoretical scale finds more than reciprocal ranks.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.diagnostics.slow_log import log_slow
from everindex.articles.search.filters import names_of
from everindex.articles.search.keyword.document import document, query
from everindex.articles.search.keyword.ranking import Found, find
from everindex.articles.search.keyword.search import KeywordSearch
from everindex.articles.search.keyword.snippet import with_snippets
from everindex.articles.search.keyword.state import Known
from everindex.articles.search.passages import PassageSearch
from everindex.articles.search.query_vectors import QueryVector
from everindex.articles.search.request.cursor import seen_digest
from everindex.articles.search.request.search_request import Page
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.shape.hit import Hit
from everindex.errors import EverindexError
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.pg.statement_texts import text_of

log = logging.getLogger("everindex.search")

#: Each search contributes this many times k candidates: twice is enough, more changes nothing
#: (docs/measurements/hybrid.md).
DEPTH = 2
#: The same where the query excludes words: some of the nearest articles contain them and are dropped.
DEPTH_LEAVING_OUT = 5
#: For common words fewer articles are ranked than in keyword search alone, since the search by meaning orders them too.
MOST_RANKED = 2_000


#: What the similarity counts in a hit's evidence; the rest is what its words count. Of the shares measured, 0.2 to 0.4
#: find as much as words alone on names and titles (docs/measurements/words.md).
MEANING_SHARE = 0.3
#: The constant in 1 / (60 + rank): with 60, the first and the tenth place differ by 15 %.
RANK_CONSTANT = 60


class HybridSearch:
    """Searches one instance by meaning and by keyword; safe to use from many threads."""

    def __init__(
        self,
        reading: Reading,
        engine: SearchEngine,
        words: KeywordSearch,
        passages: PassageSearch | None,
        *,
        slow_query_ms: float,
    ) -> None:
        self._reading = reading
        self._engine = engine
        self._words = words
        self._passages = passages
        self._slow_query_ms = slow_query_ms

    def search(self, page: Page, meaning: QueryVector) -> Answer:
        """The articles of `page`, best first, with snippets; `meaning` is the vector of the words that the request's
        text wants.

        Articles on previous pages and articles below the minimum similarity are skipped. Fewer than `page.k` only where
        the two searches together find fewer. Raises what the two searches raise; where `meaning` is an error and words
        cannot answer either, raises that error.
        """
        started = time.perf_counter()
        request, k, seen = page.request, page.k, page.seen
        known = self._words.rows.known()
        left_out = request.words.left_out
        depth = _depth(min(k + len(seen), MAX_K), request.ef_search, leaves_out=left_out is not None)
        candidates = Page(request=request, k=depth)
        vector = None if isinstance(meaning, EverindexError) else meaning
        near = None if vector is None else self._engine.search(candidates, vector)
        passages, near_passages = None, list[Hit]()
        if self._passages is not None and known.table.has_passages:
            passages = self._passages.of(request, known.table)
            near_passages = [] if vector is None else passages.nearest(vector, k=depth)

        def read(connection: Connection) -> tuple[Found, list[Hit]]:
            found = find(
                connection,
                known,
                candidates,
                vector=vector,
                most_ranked=MOST_RANKED,
                rows=self._words.rows,
                completes=near is not None,
            )
            by_meaning = [] if near is None else near.hits
            if passages is not None:
                by_meaning, found = passages.joined(
                    connection, by_meaning, near_passages, found, k=depth, vector=vector, left_out=left_out,
                    completes=near is not None,
                )  # fmt: skip
                if left_out is not None:
                    found = replace(found, hits=without(connection, known, left_out, found.hits))
            if left_out is not None:
                by_meaning = without(connection, known, left_out, by_meaning)
            best = [
                hit
                for hit in merged(by_meaning, found.hits, full_score=found.full_score)
                if request.is_similar(hit) and (not seen or seen_digest(hit.key) not in seen)
            ][:k]
            return found, with_snippets(connection, known.config, request.words, best)

        asked_words = time.perf_counter()
        found, hits = self._reading.ask(read)
        if isinstance(meaning, EverindexError) and not found.has_words:
            raise meaning
        words_ms = (time.perf_counter() - asked_words) * 1000
        answer = _answer(meaning, near, found, hits, k=k, elapsed_ms=(time.perf_counter() - started) * 1000)
        if passages is not None:
            answer.notices = [*answer.notices, *passages.notices]
        log.info(
            "search k=%d mode=hybrid strategy=%s rows=%d %.1f ms",
            k,
            answer.strategy,
            len(hits),
            answer.elapsed_ms,
            extra={
                "event": "search-answered",
                "mode": "hybrid",
                "strategy": answer.strategy,
                "k": k,
                "rows": len(hits),
                "duration_ms": round(answer.elapsed_ms, 1),
            },
        )
        # A slow semantic search has logged itself already; one line per search is enough.
        if words_ms >= self._slow_query_ms and (near is None or near.elapsed_ms < self._slow_query_ms):
            plan = self._words.plan(candidates)
            by_words = replace(answer, elapsed_ms=words_ms, strategy="keyword")
            log_slow(self._reading, known.table.spec.name, by_words, names_of(request.filters), plan=plan)
        return answer


def _answer(
    meaning: QueryVector, near: Answer | None, found: Found, hits: list[Hit], *, k: int, elapsed_ms: float
) -> Answer:
    # The filter may pass only rows without a vector: then words alone have answered.
    by_meaning = None if near is None or (near.strategy == "none-match" and hits) else near
    return Answer(
        hits=hits,
        k=k,
        strategy="keyword" if by_meaning is None else by_meaning.strategy,
        reason=by_meaning.reason if by_meaning is not None else _why_words(meaning),
        ef_search=None if by_meaning is None else by_meaning.ef_search,
        elapsed_ms=elapsed_ms,
        notices=[*why_by_words(meaning), *([] if near is None else near.notices), *found.notices],
        mode="hybrid",
        passing=None if near is None else near.passing,
        passing_is_least=near is not None and near.passing_is_least,
    )


def _why_words(meaning: QueryVector) -> str:
    return (
        "the text has no vector to compare"
        if isinstance(meaning, EverindexError)
        else "the semantic search found nothing"
    )


def merged(by_meaning: list[Hit], by_keyword: list[Hit], *, full_score: float) -> list[Hit]:
    """All hits of both searches, the best first: by their evidence, or where that has no scale by their ranks."""
    known = {hit.key: hit for hit in [*by_keyword, *by_meaning]}
    for hit in by_keyword:  # the passage that has the words shows why
        if hit.passage is not None and known[hit.key] is not hit:
            known[hit.key] = replace(known[hit.key], passage=hit.passage)
    has_scale = full_score > 0 and all(hit.columns.metric == "cosine" for hit in [*by_meaning[:1], *by_keyword[:1]])
    if not (by_meaning and by_keyword and has_scale):
        fused = fuse([hit.key for hit in by_meaning], [hit.key for hit in by_keyword])
        return [_ranked(known[one.key], one.ranks, one.score) for one in fused]
    nearest = {hit.key: rank for rank, hit in enumerate(by_meaning, start=1)}
    wordiest = {hit.key: rank for rank, hit in enumerate(by_keyword, start=1)}
    shares = {hit.key: (hit.score or 0.0) / full_score for hit in by_keyword}
    last = len(known) + 1
    hits = [
        _ranked(hit, (nearest.get(key), wordiest.get(key)), evidence(shares.get(key, 0.0), hit.distance))
        for key, hit in known.items()
    ]
    hits.sort(key=lambda hit: (-(hit.score or 0.0), min(hit.semantic_rank or last, hit.keyword_rank or last), hit.key))
    return hits


def evidence(words: float, distance: float | None) -> float:
    """How well a hit answers: `words` is the share of the query's words that it has, weighted by how rare they are (1: each
    once, in a text of usual length), `distance` the cosine distance to its meaning; None counts as a similarity of 0."""
    similarity = 0.0 if distance is None else max(1.0 - distance, 0.0)
    return round((1 - MEANING_SHARE) * words + MEANING_SHARE * similarity, 9)


def without(connection: Connection, known: Known, left_out: str, hits: list[Hit]) -> list[Hit]:
    """The hits that match nothing in the query `left_out`. Reads only its arguments."""
    if not hits:
        return []
    texts = known.table.spec.text
    composed = sql.SQL(
        """
        SELECT {document} OPERATOR(pg_catalog.@@) {query}
        FROM ROWS FROM (pg_catalog.jsonb_to_recordset(%(articles)s::pg_catalog.jsonb) AS ({typed}))
             WITH ORDINALITY AS t ({texts}, number) ORDER BY t.number
        """
    ).format(
        document=document(known.config, known.table.spec),
        query=query(known.config),
        typed=sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in texts),
        texts=sql.SQL(", ").join(map(sql.Identifier, texts)),
    )
    articles = json.dumps([dict(zip(texts, hit.texts, strict=True)) for hit in hits])
    parameters = {"text": left_out, "articles": articles}
    with translate_errors("excluding articles"):
        rows = text_of(composed).run(connection, parameters)
    return [hit for hit, row in zip(hits, rows, strict=True) if not row[0]]


def _depth(k: int, ef_search: int | None, *, leaves_out: bool) -> int:
    """How many articles to request from each search; only k where `ef_search` makes the index scan narrower than the
    depth."""
    depth = min((DEPTH_LEAVING_OUT if leaves_out else DEPTH) * k, MAX_K)
    return depth if ef_search is None or ef_search >= depth else k


def _ranked(hit: Hit, ranks: Sequence[int | None], score: float) -> Hit:
    """The hit with its places and its score. A copy: it may stand in the answer of a search by meaning, too."""
    by_meaning, by_keyword = ranks
    return Hit(
        hit.columns, hit.key, hit.values, hit.distance, semantic_rank=by_meaning, keyword_rank=by_keyword, score=score,
        passage=hit.passage,
    )  # fmt: skip


def why_by_words(meaning: QueryVector) -> list[str]:
    """The notice of an answer found by words alone; none where the text has a vector."""
    if not isinstance(meaning, EverindexError):
        return []
    reasons = " ".join(
        part for part in (meaning.what, meaning.next_step[:1].upper() + meaning.next_step[1:]) if part
    ).rstrip(".")
    return [f"found by words alone, not by meaning ({meaning.slug}): {reasons}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """One article of the fused order."""

    key: Any
    score: float
    ranks: tuple[int | None, ...]
    """Its place in each of the searches, from 1; None where that one did not find it."""


def fuse(*orders: Sequence[Any]) -> list[Fused]:
    """The union of `orders` (each best first, no uri twice), best first.

    At equal scores the better single place comes first, then the smaller uri: the same input has one answer, in whichever
    order the searches are given.
    """
    ranks = [{uri: rank for rank, uri in enumerate(order, start=1)} for order in orders]
    found = [
        Fused(key=uri, score=score(places), ranks=places)
        for uri in {uri for order in orders for uri in order}
        for places in [tuple(each.get(uri) for each in ranks)]
    ]
    return sorted(found, key=lambda one: (-one.score, min(rank for rank in one.ranks if rank is not None), one.key))


def score(ranks: Sequence[int | None]) -> float:
    """The sum of reciprocal ranks, rounded once, so that the order of the searches cannot change it."""
    return math.fsum(1 / (RANK_CONSTANT + rank) for rank in ranks if rank is not None)
