"""How does a search run? One transaction in one round trip, with settings that end with it; all k rows, or a reason."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pgvector import Vector

from everindex.articles.model import Answer, Filters, Hit
from everindex.articles.reading import Reading
from everindex.articles.search.explained import Explanation, plan_as_run
from everindex.articles.search.known import look_at
from everindex.articles.search.passing import PassingRows
from everindex.articles.search.question import check_numbers, checked_vector
from everindex.articles.search.short import ShortAnswer, ShortAnswers
from everindex.articles.search.slow import log_slow
from everindex.articles.search.strategy import Approach, Serving, choose, counted_up_to, exactly
from everindex.articles.search.texts import Texts
from everindex.articles.table import ArticleTable
from everindex.errors import EverindexError
from everindex.index.planner import explain
from everindex.pg import roundtrip
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours

log = logging.getLogger("everindex.search")

#: What is known of table and index is read anew after so many seconds: a dropped or finished index is noticed by then.
SERVING_SECONDS = 5.0

Row = tuple[Any, ...]


class SearchEngine:
    """Searches one instance through the connections that serve reads; safe to use from many threads."""

    def __init__(
        self, reading: Reading, *, slow_query_ms: float, journal: Callable[[ShortAnswer, int], None] | None = None
    ) -> None:
        """`journal` keeps a line about answers that the index left short, see `ShortAnswers`."""
        self._reading = reading
        self._slow_query_ms = slow_query_ms
        self._known: tuple[float, ArticleTable, Serving] | None = None
        self._texts = Texts()
        self._passing = PassingRows()
        self.short_answers = ShortAnswers(journal)

    def search(
        self,
        vector: np.ndarray,
        *,
        k: int = 10,
        filters: Filters | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        without_uri: str | None = None,
    ) -> Answer:
        """The k nearest articles to `vector` ((dim,) float32), nearest first.

        Fewer than k only where fewer exist. `without_uri` leaves out that article. Raises QueryInvalid for what cannot be
        asked, NotMigrated, StatementTimedOut, ServerUnreachable.
        """
        started = time.perf_counter()
        filters = filters or Filters()
        table, serving = self.known()
        vector = checked_vector(vector, table)
        check_numbers(k, ef_search)
        wanted = k + (without_uri is not None)
        rows, approach, notices = self._reading.ask(
            lambda connection: self._nearest(connection, table, serving, vector, wanted, filters, ef_search, exact)
        )
        hits = sorted((_hit(row) for row in rows if row[0] != without_uri), key=lambda hit: (hit.distance, hit.uri))[:k]
        if approach.strategy == "exact" and not exact and serving.index_name is None:
            notices.append("no valid vector index serves at the moment: every row was read (exact search)")
        answer = Answer(
            hits=hits,
            k=k,
            strategy=approach.strategy,
            reason=approach.reason,
            ef_search=approach.ef_search,
            elapsed_ms=(time.perf_counter() - started) * 1000,
            notices=notices,
        )
        if answer.elapsed_ms < self._slow_query_ms:
            log.info("search k=%d strategy=%s rows=%d %.1f ms", k, answer.strategy, len(hits), answer.elapsed_ms)
        else:
            log_slow(answer, filters, plan=self._plan(table, filters, approach, vector, k=wanted))
        return answer

    def _nearest(
        self,
        connection: Connection,
        table: ArticleTable,
        serving: Serving,
        vector: np.ndarray,
        wanted: int,
        filters: Filters,
        ef_search: int | None,
        exact: bool,
    ) -> tuple[list[Row], Approach, list[str]]:
        with told_as_ours("searching"):
            approach = self._choose(connection, table, serving, wanted, filters, ef_search, exact)
            rows = self._run(connection, table, filters, approach, vector, k=wanted)
            if approach.is_by_index and len(rows) < wanted:
                return self._complete(connection, table, serving, filters, approach, vector, rows, wanted)
        return rows, approach, []

    def _choose(
        self,
        connection: Connection,
        table: ArticleTable,
        serving: Serving,
        wanted: int,
        filters: Filters,
        ef_search: int | None,
        exact: bool,
    ) -> Approach:
        passing = None
        if not filters.is_empty:
            up_to = counted_up_to(serving, k=wanted)
            passing = self._passing.count(connection, table, filters, up_to=up_to)
        return choose(serving, k=wanted, passing=passing, ef_search=ef_search, exact=exact)

    def explain(
        self,
        vector: np.ndarray,
        *,
        k: int = 10,
        filters: Filters | None = None,
        ef_search: int | None = None,
        exact: bool = False,
    ) -> Explanation:
        """How such a search is answered: the strategy and why, its settings, its statement, and its plan as it ran.

        Runs the statement once more. Raises as `search`.
        """
        filters = filters or Filters()
        table, serving = self.known()
        vector = checked_vector(vector, table)
        check_numbers(k, ef_search)

        def explained(connection: Connection) -> Explanation:
            with told_as_ours("explaining a search"):
                approach = self._choose(connection, table, serving, k, filters, ef_search, exact)
                if approach.strategy == "none-match":
                    return Explanation(approach=approach, statement="", plan=())
                text, parameters = self._texts.of(table, filters, approach, k)
                return Explanation(
                    approach=approach,
                    statement=text,
                    plan=plan_as_run(connection, text, parameters | {"vector": vector}, settings=approach.settings),
                )

        return self._reading.ask(explained)

    def known(self) -> tuple[ArticleTable, Serving]:
        """Table and index as of the last few seconds. Raises NotMigrated where there is no table with vectors."""
        known = self._known
        if known is None or time.monotonic() - known[0] > SERVING_SECONDS:
            table, serving = self._reading.read(look_at)
            if known is None or (table, serving) != known[1:]:
                self._texts = Texts()
            known = self._known = (time.monotonic(), table, serving)
        return known[1], known[2]

    def forget(self) -> None:
        """Reads table and index anew at the next search."""
        self._known = None
        self._passing.forget()

    def statement_for(
        self, table: ArticleTable, filters: Filters, approach: Approach, k: int
    ) -> tuple[str, dict[str, Any]]:
        """The text of the statement, with psycopg's named placeholders, and its parameters but for the vector."""
        return self._texts.of(table, filters, approach, k)

    def _run(
        self,
        connection: Connection,
        table: ArticleTable,
        filters: Filters,
        approach: Approach,
        vector: np.ndarray,
        *,
        k: int,
    ) -> list[Row]:
        if approach.strategy == "none-match":
            return []
        texts = self._texts
        text, parameters = texts.of(table, filters, approach, k)
        parameters["vector"] = Vector(vector).to_binary()
        text, names = texts.positional(text)
        rows = roundtrip.run(connection, approach.settings, text, [parameters[name] for name in names])
        # A zero vector (put there by hand) has no cosine distance: it is in no index, and no answer either.
        return [row for row in rows if row[-1] == row[-1]]

    def _complete(
        self,
        connection: Connection,
        table: ArticleTable,
        serving: Serving,
        filters: Filters,
        approach: Approach,
        vector: np.ndarray,
        rows: list[Row],
        wanted: int,
    ) -> tuple[list[Row], Approach, list[str]]:
        """The index gave fewer rows than asked: either no more exist, or it stopped early. An exact search tells, and is
        then the answer; that it was needed is an incident of the index, and counted."""
        reason = "the index gave too few rows for this filter or k: every row that passes was read"
        exact = exactly(is_filtered=not filters.is_empty, reason=reason)
        complete = self._run(connection, table, filters, exact, vector, k=wanted)
        if len(complete) == len(rows):
            return rows, approach, []
        self.short_answers.note(
            approach, serving.index_name, filters, wanted=wanted, found=len(rows), existing=len(complete)
        )
        return complete, exact, [f"{reason} (exact search)"]

    def _plan(self, table: ArticleTable, filters: Filters, approach: Approach, vector: np.ndarray, *, k: int) -> str:
        """How the planner answers a search, in words and without its values."""
        if approach.strategy == "none-match":
            return "none: nothing was run"
        text, parameters = self.statement_for(table, filters, approach, k)
        try:
            with self._reading.connection() as connection:
                return explain(connection, text, parameters | {"vector": vector}, settings=approach.settings).summary
        except EverindexError as exc:
            # The answer is there; that nobody could be asked for its plan must not take it away.
            return f"unknown: {exc.slug}"


def _hit(row: Row) -> Hit:
    return Hit(
        uri=row[0],
        title=row[1],
        summary=row[2],
        news_source=row[3],
        category=row[4],
        topic=row[5],
        publication_date=None if row[6] is None else str(row[6]),
        distance=float(row[7]),
    )
