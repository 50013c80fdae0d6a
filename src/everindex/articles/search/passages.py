"""The passages of whole texts as part of a search: found by meaning or by words, then shown as the articles they belong to.

What is said of an article here holds for the row of any collection.

Passages are searched by the engines that search every table. A text may have changed since it was cut, in a database that others
write too: a passage counts only while the stored text still has it at its place. Nothing here runs where no passages are stored.

An article answers as well as its best passage, or its title and summary where those are better (MaxP: Dai, Callan, "Deeper Text
Understanding for IR with Contextual Neural Language Modeling", SIGIR 2019).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.declared import OWN_SCHEMA
from everindex.articles.model import MAX_K
from everindex.articles.search.filters import NO_FILTERS, ParentFilters, where
from everindex.articles.search.keyword.document import document, query
from everindex.articles.search.keyword.ranking import MOST_RANKED, WIDENED, Found, find
from everindex.articles.search.keyword.row_words import RowWords
from everindex.articles.search.keyword.search import KeywordSearch
from everindex.articles.search.keyword.state import Known
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.search.vector.explanation import Explanation
from everindex.articles.shape.hit import Hit, with_text_date
from everindex.articles.shape.passage import Passage
from everindex.articles.shape.whole_text import WholeTexts
from everindex.articles.table import CollectionTable
from everindex.articles.table_texts import TextTables, text_tables
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Passages requested for each article that is wanted; where they belong to fewer articles, more are requested.
DEPTH, FURTHER = 3, 4
#: In hybrid search fewer matches are ranked, since the search by meaning orders them too.
FEWER_RANKED = 2_000
#: Which models made the passages is read again after this many seconds.
MODELS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class OfArticle:
    """A passage that is still in its article's text."""

    article: Hit
    """The article, without a distance."""

    passage: Passage


class PassageSearch:
    """Searches the passages of one instance; safe to use from many threads. Used only where the table has passages."""

    def __init__(
        self,
        reading: Reading,
        declared: WholeTexts,
        *,
        text_search: str,
        slow_query_ms: float,
        model: Callable[[], str],
        stored_by: Callable[[], str | None],
    ) -> None:
        """`model` names the model that makes the vectors of texts; `stored_by` the one that made all vectors of the rows, if one
        did: what a search by a vector, or of similar rows, compares."""
        self._reading = reading
        self._declared = declared
        self.engine = SearchEngine(reading, declared.passages, slow_query_ms=slow_query_ms)
        self.words = KeywordSearch(
            reading, RowWords(reading, declared.passages, text_search=text_search), slow_query_ms=slow_query_ms
        )
        self._model = model
        self._stored_by = stored_by
        self._models: tuple[float, frozenset[str]] | None = None

    def of(self, request: SearchRequest, articles: CollectionTable) -> AskedPassages:
        """The passages of the articles that pass the request's filters. Takes no connection while it is in memory what they are.
        Raises SettingInvalid, NotMigrated."""
        filters = request.filters
        assert not isinstance(filters, ParentFilters)
        texts = text_tables(articles)
        assert texts is not None  # whose passages are searched
        return AskedPassages(
            engine=self.engine,
            words=self.words,
            known=self.words.known(),
            articles=articles,
            tables=texts,
            others=self._other_models(self._model() if request.text is not None else self._stored_by()),
            request=replace(
                request,
                filters=ParentFilters(filters, articles, texts.declared.owner) if request.is_filtered else NO_FILTERS,
                key=None,
                vector=None,
                after=None,
                min_similarity=None,
                diversity=None,
                rerank=None,
                facets=(),
            ),
        )

    def _other_models(self, model: str | None) -> frozenset[str]:
        """The models that made the passages, where it is not the one of the query's vector alone; cached for a few seconds."""
        known = self._models
        if known is None or time.monotonic() - known[0] > MODELS_SECONDS:
            known = self._models = (time.monotonic(), self._reading.read(self._read_models))
        return known[1] if known[1] - {model} else frozenset()

    def _read_models(self, connection: Connection) -> frozenset[str]:
        """The first and the last of the models that texts were cut for, by name: equal where there is one. By an index."""
        with translate_errors("reading which model made the passages"):
            row = connection.execute(
                sql.SQL("SELECT min(model), max(model) FROM {}").format(sql.Identifier(OWN_SCHEMA, self._declared.cuts))
            ).fetchone()
        return frozenset(model for model in row or () if model is not None)

    def invalidate(self) -> None:
        """Discards the caches: the next search reads table, index and models again."""
        self.engine.invalidate()
        self.words.invalidate()
        self._models = None

    def close(self) -> None:
        """Stops background work."""
        self.words.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPassages:
    """The passages that one request asks for."""

    engine: SearchEngine
    words: KeywordSearch
    known: Known
    articles: CollectionTable
    tables: TextTables
    request: SearchRequest
    others: frozenset[str]
    """Where another model made some of them, the models; they are then not compared by meaning."""

    @property
    def notices(self) -> list[str]:
        if not self.others:
            return []
        made_by = ", ".join(sorted(self.others))
        if self.request.text is None:
            return [f"whole texts were not compared: their passages are by {made_by}, and the vectors are not"]
        return [
            f"whole texts were searched by words alone: their passages are by {made_by}; `everindex embed` makes them anew"
        ]

    def nearest(self, vector: np.ndarray, *, k: int) -> list[Hit]:
        """Those nearest to `vector`, of at least k articles where there are so many, nearest first. Raises as
        `SearchEngine.search`."""
        if self.others:
            return []
        rows = min(DEPTH * k, MAX_K)
        while True:
            hits = self.engine.search(Page(request=self.request, k=rows), vector).hits
            if self._is_enough(hits, rows, k=k):
                return hits
            rows = min(FURTHER * rows, MAX_K)

    def nearest_to_each(self, vectors: Sequence[np.ndarray], *, k: int) -> list[list[Hit]]:
        """The same for each of `vectors`, most of them in one round trip."""
        if self.others:
            return [[] for _ in vectors]
        rows = min(DEPTH * k, MAX_K)
        found = self.engine.search_many(Page(request=self.request, k=rows), vectors)
        return [
            answer.hits if self._is_enough(answer.hits, rows, k=k) else self.nearest(vector, k=k)
            for answer, vector in zip(found, vectors, strict=True)
        ]

    def explain(self, vector: np.ndarray, *, k: int) -> Explanation:
        """How `nearest` finds them. Raises as `SearchEngine.explain`."""
        return self.engine.explain(Page(request=self.request, k=min(DEPTH * k, MAX_K)), vector)

    def _is_enough(self, hits: Sequence[Hit], rows: int, *, k: int) -> bool:
        owner = self.tables.declared.owner
        return len(hits) < rows or rows >= MAX_K or len({hit[owner] for hit in hits}) >= k

    def matching(
        self,
        connection: Connection,
        *,
        k: int,
        vector: np.ndarray | None = None,
        most_ranked: int = MOST_RANKED,
        completes: bool = False,
    ) -> Found:
        """Those that match the words best, of at least k articles where there are so many; as `find`."""
        rows = min(DEPTH * k, MAX_K)
        while True:
            found = find(
                connection,
                self.known,
                Page(request=self.request, k=rows),
                vector=None if self.others else vector,
                most_ranked=most_ranked,
                rows=self.words.rows,
                completes=completes,
            )
            if self._is_enough(found.hits, rows, k=k):
                return found
            rows = min(FURTHER * rows, MAX_K)

    def of_articles(self, connection: Connection, hits: Iterable[Hit]) -> dict[Any, OfArticle]:
        """Key of a passage → the passage and its article, of those that are still in the text. One round trip; reads the
        texts."""
        found = {str(hit.key): hit for hit in hits}
        if not found:
            return {}
        articles = self.articles
        with translate_errors("reading the articles of passages"):
            statement = self.known.texts.of(
                ("articles", articles.schema, articles.has_plain_key), lambda: _of_articles(self.tables)
            )
            rows = statement.run(connection, {"ids": json.dumps(list(found))})
        together: dict[Any, OfArticle] = {}
        for passage_key, count, *values in rows:
            hit = found[passage_key]
            row = tuple(values) if articles.date_at is None else with_text_date(tuple(values), articles.date_at)
            together[hit.key] = OfArticle(
                Hit(articles.spec.columns, row[0], row, None),
                Passage(
                    text=hit.text, start=hit.starts_at, end=hit.ends_at, number=hit.number, count=count,
                    distance=hit.distance,
                ),
            )  # fmt: skip
        return together

    def joined(
        self,
        connection: Connection,
        near: Sequence[Hit],
        near_passages: Sequence[Hit],
        titles: Found,
        *,
        k: int,
        vector: np.ndarray | None,
        left_out: str | None,
        completes: bool,
    ) -> tuple[list[Hit], Found]:
        """Articles by meaning and articles by words, each with the passages that were found that way, without those that have
        what is `left_out` in their text."""
        texts = self.matching(connection, k=k, vector=vector, most_ranked=FEWER_RANKED, completes=completes)
        still = self.of_articles(connection, [*near_passages, *texts.hits])
        by_meaning = by_distance(near, near_passages, still)
        by_words = by_score(titles, texts, still, completes=completes)
        if left_out is not None:
            by_meaning = self.without(connection, left_out, by_meaning)
            by_words = replace(by_words, hits=self.without(connection, left_out, by_words.hits))
        return by_meaning, by_words

    def without(self, connection: Connection, left_out: str, hits: Sequence[Hit]) -> list[Hit]:
        """The articles of `hits` of which no passage matches the query `left_out`. Parses their passages."""
        if not hits:
            return []
        with translate_errors("excluding articles"):
            statement = self.known.texts.of(
                ("left out",),
                lambda: sql.SQL(
                    "SELECT DISTINCT {owner} FROM {passages} WHERE {owner} IN (SELECT given.uri FROM "
                    "pg_catalog.jsonb_array_elements_text(%(uris)s::pg_catalog.jsonb) AS given (uri)) "
                    "AND {document} OPERATOR(pg_catalog.@@) {query}"
                ).format(
                    owner=self.tables.owner,
                    passages=self.tables.passages,
                    document=document(self.known.config, self.tables.declared.passages),
                    query=query(self.known.config),
                ),
            )
            rows = statement.run(connection, {"text": left_out, "uris": json.dumps([str(hit.key) for hit in hits])})
        having = {row[0] for row in rows}
        return [hit for hit in hits if str(hit.key) not in having]

    def with_words(
        self, titles: Known, request: SearchRequest, *, any_word: bool
    ) -> tuple[sql.Composable, dict[str, Any]]:
        """As `KeywordSearch.condition`, of the articles that have the words in title and summary or in a passage. A UNION, since
        no index serves an OR of two tables."""
        condition, _ = where(titles.table, request.filters)
        words = request.words
        return sql.SQL(
            " AND {key} IN (SELECT {key} FROM {table} WHERE {document} OPERATOR(pg_catalog.@@) {query} "
            "UNION SELECT {of_row} FROM {passages} p WHERE {of_passage} OPERATOR(pg_catalog.@@) {query}){condition}"
        ).format(
            key=titles.table.key,
            table=titles.table.identifier,
            document=document(titles.config, titles.table.spec),
            query=query(titles.config),
            of_row=self.tables.key_of("p"),
            passages=self.tables.passages,
            of_passage=document(titles.config, self.tables.declared.passages),
            condition=condition,
        ), {
            **request.bound(titles.table).values,
            "text": " | ".join(words.items) if any_word else words.query,
        }


def _of_articles(tables: TextTables) -> sql.Composed:
    """Parameter `ids`: keys of passages as JSON. Key, how many passages the text has, and the columns of the row, of each of
    them that is still in the text."""
    table = tables.table
    return sql.SQL(
        """
        SELECT p.id::pg_catalog.text, coalesce(c.passages, 0), {columns}
        FROM pg_catalog.jsonb_array_elements_text(%(ids)s::pg_catalog.jsonb) AS given (id)
        JOIN {passages} p ON p.id = given.id::pg_catalog.uuid
        JOIN (SELECT {selected}, {key} AS everindex_key FROM {rows}) AS a ON a.everindex_key = {of_row}
        JOIN {texts} ON t.key = {of_row}
        LEFT JOIN {cuts} c ON c.{owner} = p.{owner}
        WHERE pg_catalog.substr(t.text, p.starts_at + 1, p.ends_at - p.starts_at) = p.text
        """
    ).format(
        columns=sql.SQL(", ").join(sql.SQL("a.{}").format(sql.Identifier(name)) for name in table.spec.columns.names),
        passages=tables.passages,
        selected=table.selected,
        key=table.key,
        rows=table.identifier,
        of_row=tables.key_of("p"),
        texts=tables.stored_texts,
        cuts=tables.cuts,
        owner=tables.owner,
    )


def by_distance(hits: Sequence[Hit], passages: Sequence[Hit], known: Mapping[Any, OfArticle]) -> list[Hit]:
    """The articles of both, nearest first, each once and by the nearest of its vectors; with the nearest passage."""
    found = {hit.key: hit for hit in hits}
    for key, passage, one in _best_of_each(passages, known):
        nearer = found.get(key)
        distance = passage.distance if nearer is None else _least(nearer.distance, passage.distance)
        found[key] = replace(nearer or one.article, distance=distance, passage=one.passage)
    return sorted(found.values(), key=lambda hit: (np.inf if hit.distance is None else hit.distance, str(hit.key)))


def by_score(titles: Found, texts: Found, known: Mapping[Any, OfArticle], *, completes: bool = False) -> Found:
    """The articles of both, best first, each once and by its best score; with the best passage.

    The scores of passages are put on the scale of the articles': both are about the share of the query's words that a text has,
    times the score of one that has all. Where only one side has rows with all words, the other side's are left out, unless it
    `completes`.
    """
    notices = list(dict.fromkeys([*titles.notices, *texts.notices]))
    if any(side.hits and not side.is_widened for side in (titles, texts)):
        notices = [notice for notice in notices if notice != WIDENED]
        if not completes:
            titles, texts = (replace(side, hits=[]) if side.is_widened else side for side in (titles, texts))
    scale = titles.full_score / texts.full_score if titles.full_score > 0 and texts.full_score > 0 else 1.0
    found = {hit.key: hit for hit in titles.hits}
    for key, passage, one in _best_of_each(texts.hits, known):
        score, named = (passage.score or 0.0) * scale, found.get(key)
        best = score if named is None else max(named.score or 0.0, score)
        distance = passage.distance if named is None else _least(named.distance, passage.distance)
        found[key] = replace(named or one.article, score=best, distance=distance, passage=one.passage)
    hits = sorted(found.values(), key=lambda hit: (-(hit.score or 0.0), str(hit.key)))
    return Found(
        hits=[replace(hit, keyword_rank=rank) for rank, hit in enumerate(hits, start=1)],
        has_words=titles.has_words or texts.has_words,
        full_score=titles.full_score if titles.full_score > 0 else texts.full_score,
        is_widened=titles.is_widened and texts.is_widened,
        notices=notices,
    )


def _best_of_each(passages: Sequence[Hit], known: Mapping[Any, OfArticle]) -> Iterable[tuple[Any, Hit, OfArticle]]:
    """The first passage of each article that is still in its text."""
    seen = set()
    for passage in passages:
        one = known.get(passage.key)
        if one is not None and one.article.key not in seen:
            seen.add(one.article.key)
            yield one.article.key, passage, one


def _least(*distances: float | None) -> float | None:
    return min((distance for distance in distances if distance is not None), default=None)
