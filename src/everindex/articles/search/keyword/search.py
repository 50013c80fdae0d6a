"""Keyword search: PostgreSQL's full text search over the texts of a collection, ranked by BM25, best first.

The document is an expression, and the index of the words (keyword/index/) is built on the same one. Without that index
the result is the same, but every row is read. No column is added: an existing instance keeps its table unchanged.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.declared import ARTICLES
from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.cursor import seen_digest
from everindex.articles.search.explain import plan_as_run, without_words
from everindex.articles.search.filters import names_of
from everindex.articles.search.keyword.document import (
    TextConfig,
    find_config,
    generation_names,
    mark,
    query,
)
from everindex.articles.search.keyword.explanation import WordsExplanation
from everindex.articles.search.keyword.ranking import MOST_REMEMBERED, Ranking
from everindex.articles.search.keyword.row_words import RowWords
from everindex.articles.search.keyword.snippet import with_snippets
from everindex.articles.search.keyword.statements import Known, Row, matching, matching_places, words_of_matches
from everindex.articles.search.parsed_query import MOST_WORDS
from everindex.articles.search.request import Page, SearchRequest
from everindex.articles.search.slow_log import log_slow
from everindex.articles.shape.hit import Hit, with_text_date
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import EverindexError
from everindex.index.recall.explain import explain
from everindex.pg import roundtrip
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.pg.vector_type import as_binary

log = logging.getLogger("everindex.search")

#: Without the words of the rows in memory, ranking reads and parses every match, about 0.1 ms each. Where more match, only
#: this many are ranked, and the answer says so.
MOST_RANKED = 10_000
#: Table, configuration and index are read again after this many seconds.
KNOWN_SECONDS = 5.0
#: Below this many rows, a missing index is not noticeable.
FEW_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The articles that have the words, best first, without snippets."""

    hits: list[Hit]
    has_words: bool = True
    """False when the query has no searchable word."""

    full_score: float = 0.0
    """About what a text of usual length scores that has each word of the query once."""

    notices: list[str] = field(default_factory=list)


class KeywordSearch:
    """Searches one instance by keyword; safe to use from many threads."""

    def __init__(
        self, reading: Reading, collection: CollectionSpec = ARTICLES, *, text_search: str, slow_query_ms: float
    ) -> None:
        self._reading = reading
        self._collection = collection
        self._text_search = text_search
        self._slow_query_ms = slow_query_ms
        self._known: tuple[float, Known] | None = None
        self.rows = RowWords(reading)
        """The words of the table's rows, in this process's memory."""

    def search(self, page: Page) -> Answer:
        """The articles of `page` that have the words of the request's text (websearch syntax), best first, with snippets.

        Articles on previous pages are skipped, and the list ends at rank MAX_K. Fewer than `page.k` only where fewer
        match. Raises SettingInvalid, NotMigrated, StatementTimedOut, ServerUnreachable.
        """
        started = time.perf_counter()
        request, k, seen = page.request, page.k, page.seen
        known = self.known()

        def read(connection: Connection) -> Found:
            found = find(connection, known, Page(request=request, k=min(k + len(seen), MAX_K)), rows=self.rows)
            hits = [hit for hit in found.hits if seen_digest(hit.key) not in seen][:k] if seen else found.hits
            return replace(found, hits=with_snippets(connection, known.config, request.words, hits))

        found = self._reading.ask(read)
        answer = Answer(
            hits=found.hits,
            k=k,
            strategy="keyword",
            reason="keyword search was requested",
            ef_search=None,
            elapsed_ms=(time.perf_counter() - started) * 1000,
            notices=found.notices,
            mode="keyword",
        )
        if answer.elapsed_ms < self._slow_query_ms:
            log.info("search k=%d mode=keyword rows=%d %.1f ms", k, len(answer.hits), answer.elapsed_ms)
        else:
            log_slow(answer, names_of(request.filters), plan=self.plan(page))
        return answer

    def known(self) -> Known:
        """The state of the instance, at most a few seconds old. Raises SettingInvalid, NotMigrated."""
        known = self._known
        if known is None or time.monotonic() - known[0] > KNOWN_SECONDS:
            found = self._reading.read(self._look)
            known = self._known = (time.monotonic(), known[1] if known is not None and known[1] == found else found)
        return known[1]

    def invalidate(self) -> None:
        """Discards the cache: the next search reads table, configuration and index again."""
        self._known = None

    def explain(self, request: SearchRequest) -> WordsExplanation:
        """The statement and its plan as it ran, without the words of the query. Runs the statement. Raises as
        `search`."""
        statement, parameters = self._statement(request)

        def explained(connection: Connection) -> WordsExplanation:
            with translate_errors("explaining a keyword search"):
                plan = plan_as_run(connection, statement, parameters, settings=())
            return WordsExplanation(
                statement=" ".join(statement.split()), plan=tuple(without_words(line) for line in plan)
            )

        return self._reading.read(explained)

    def condition(self, request: SearchRequest, *, any_word: bool = False) -> tuple[sql.Composable, dict[str, Any]]:
        """The condition ` AND …` that a row has all words of the request's text (or any of them) and passes its filters, with
        its parameters."""
        known, words = self.known(), request.words
        text = " | ".join(words.items) if any_word else words.query
        return matching(known, request.filters), {**request.bound(known.table).values, "text": text}

    def plan(self, page: Page) -> str:
        """A summary of the plan for a search, without its values."""
        try:
            statement, parameters = self._statement(page.request)
            with self._reading.connection() as connection:
                return explain(connection, statement, parameters).summary
        except EverindexError as exc:
            # The answer is ready; it must not fail because its plan cannot be read.
            return f"unknown: {exc.slug}"

    def _statement(self, request: SearchRequest) -> tuple[str, dict[str, Any]]:
        """The statement that finds the matches of a request, and its parameters."""
        known, words = self.known(), request.words
        if self.rows.of(known) is not None:
            composed = matching_places(known, request.filters, most=MOST_REMEMBERED + 1)
        else:
            composed = words_of_matches(known, request.filters, most=MOST_RANKED + 1)
        return composed.as_string(None), {
            **request.bound(known.table).values,
            "text": words.query,
            "ranked": words.ranked,
            "items": "[]",
        }

    def close(self) -> None:
        """Ends what goes on in the background."""
        self.rows.close()

    def _look(self, connection: Connection) -> Known:
        with translate_errors("reading the index of keyword search"):
            table = read_table(connection, self._collection)
            config = find_config(connection, self._text_search)
            row = connection.execute(
                sql.SQL(
                    """
                    SELECT coalesce(bool_or(x.relname IN ({names}) AND i.indisvalid AND pg_catalog.strpos(
                               pg_catalog.pg_get_indexdef(x.oid),
                               pg_catalog.quote_literal({config}::pg_catalog.text) || '::regconfig') > 0
                               AND pg_catalog.strpos(pg_catalog.pg_get_indexdef(x.oid), {mark}) > 0), false),
                           max(t.reltuples), coalesce(bool_and(t.relkind = 'r' AND NOT t.relhassubclass), false)
                    FROM pg_catalog.pg_class t LEFT JOIN pg_catalog.pg_index i ON i.indrelid = t.oid
                    LEFT JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                    WHERE t.oid = pg_catalog.to_regclass({table})
                    """
                ).format(
                    # During a replacement, the index that the planner uses may have a generation's name.
                    names=sql.SQL(", ").join(map(sql.Literal, generation_names(self._collection.words_index_name))),
                    config=config.constant,
                    mark=mark(),
                    table=sql.Literal(table.identifier.as_string(None)),
                )
            ).fetchone()
        assert row is not None  # an aggregate
        return Known(
            table=table, config=config, is_indexed=row[0], estimated_rows=max(0, int(row[1] or 0)), has_places=row[2]
        )


def find(
    connection: Connection,
    known: Known,
    page: Page,
    *,
    vector: np.ndarray | None = None,
    most_ranked: int = MOST_RANKED,
    rows: RowWords | None = None,
    completes: bool = False,
) -> Found:
    """The `page.k` best articles that match the words of the request, with their distance to `vector` ((dim,) float32)
    where one is passed. Articles on previous pages are included.

    Rows with some of the words are found where none has all; if it `completes`, also after those with all, up to `page.k`.
    Reads only; ranks from the words in memory (`rows`) where these are there, else by reading up to `most_ranked` matches.
    Raises what statements raise.
    """
    words = page.request.words
    asked = None if vector is None else as_binary(vector)
    with translate_errors("searching by keyword"):
        ranking = Ranking(connection, known, page.request, rows, most_read=most_ranked)
        found = ranking.find(k=page.k, vector=asked, completes=completes)
        if found is None:
            # Others have changed one of these rows since it was ranked: once more, on one snapshot.
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                found = ranking.find(k=page.k, vector=asked, completes=completes)
            assert found is not None
        if not found and not _has_words(connection, known.config, words.words):
            return Found(hits=[], has_words=False, notices=[_no_words(known.config)])
    notices = []
    if words.is_cut:
        notices.append(f"only the first {MOST_WORDS} words of the query were used for keyword search")
    if ranking.is_widened:
        notices.append("no article has all words of the query: these have some of them, best first")
    if ranking.matches > ranking.most:
        notices.append(
            f"more than {ranking.most:,} articles have these words, of which {ranking.most:,} were ranked by keyword; "
            "another word or a filter narrows the search"
        )
    if not known.is_indexed and known.estimated_rows >= FEW_ROWS:
        notices.append(
            "no index is available for keyword search at the moment: every row was read "
            f"({known.table.spec.words_index_name} is built by "
            "everindex migrate and by the keeper)"
        )
    return Found(
        hits=[_hit(known.table, row, score, rank) for rank, (row, score) in enumerate(found, start=1)],
        full_score=ranking.full_score,
        notices=notices,
    )


def _has_words(connection: Connection, config: TextConfig, text: str) -> bool:
    """False when the query has stop words only, or no letter and no digit."""
    composed = sql.SQL("SELECT pg_catalog.numnode({}) > 0").format(query(config))
    statement, _ = roundtrip.positional(composed.as_string(None))
    return bool(roundtrip.run(connection, (), statement, [text])[0][0])


def _no_words(config: TextConfig) -> str:
    return (
        "no word of the query can be searched for by keyword: they are all too common (stop words of the language "
        f"{config.name!r}), or have no letter and no digit"
    )


def _hit(table: CollectionTable, row: Row, score: float, rank: int) -> Hit:
    columns = table.spec.columns
    at = len(columns.names)  # then the mark and, where there is a vector, the distance
    distance = row[at + 1] if len(row) > at + 1 else None
    # The cosine distance of a zero vector is NaN.
    known_distance = None if distance is None or distance != distance else float(distance)
    shown = row if table.date_at is None else with_text_date(row, table.date_at)
    return Hit(columns, row[0], shown[:at], known_distance, keyword_rank=rank, score=score)
