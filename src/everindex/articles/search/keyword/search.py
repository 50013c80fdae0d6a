"""Keyword search: PostgreSQL's full text search over the texts of a collection, ranked by BM25, best first.

The document is an expression, and the index of the words (keyword/index/) is built on the same one. Without that index
the result is the same, but every row is read. No column is added: an existing instance keeps its table unchanged.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.diagnostics.explain import plan_as_run, without_words
from everindex.articles.search.diagnostics.slow_log import log_slow, plan_summary
from everindex.articles.search.filters import names_of
from everindex.articles.search.keyword.explanation import WordsExplanation
from everindex.articles.search.keyword.ranking import MOST_RANKED, MOST_REMEMBERED, Found, find
from everindex.articles.search.keyword.row_words import RowWords
from everindex.articles.search.keyword.snippet import with_snippets
from everindex.articles.search.keyword.state import Known
from everindex.articles.search.keyword.statements import matching, matching_places, words_of_matches
from everindex.articles.search.request.cursor import seen_digest
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

log = logging.getLogger("everindex.search")


class KeywordSearch:
    """Searches one instance by keyword; safe to use from many threads."""

    def __init__(self, reading: Reading, rows: RowWords, *, slow_query_ms: float) -> None:
        self._reading = reading
        self.rows = rows
        """The words of the table's rows, in this process's memory, and how they are read."""

        self._slow_query_ms = slow_query_ms

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
            total=found.total,
            total_is_least=found.total_is_least,
        )
        if answer.elapsed_ms < self._slow_query_ms:
            log.info(
                "search k=%d mode=keyword rows=%d %.1f ms",
                k,
                len(answer.hits),
                answer.elapsed_ms,
                extra={
                    "event": "search-answered",
                    "mode": "keyword",
                    "strategy": "keyword",
                    "k": k,
                    "rows": len(answer.hits),
                    "duration_ms": round(answer.elapsed_ms, 1),
                },
            )
        else:
            log_slow(self._reading, known.table.spec.name, answer, names_of(request.filters), plan=self.plan(page))
        return answer

    def known(self) -> Known:
        """The state of the instance, at most a few seconds old. Raises SettingInvalid, NotMigrated."""
        return self.rows.known()

    def invalidate(self) -> None:
        """Discards the cache: the next search reads table, configuration and index again."""
        self.rows.look_again()

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
        return plan_summary(self._reading, lambda: self._statement(page.request))

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
        """Stops background work."""
        self.rows.close()
