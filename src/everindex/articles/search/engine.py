"""How does a search run? One transaction in one round trip, with settings that end with it; all k rows, or a reason."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
from pgvector import Vector

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.model import Answer, Filters, Hit
from everindex.articles.reading import Reading
from everindex.articles.search import statement
from everindex.articles.search.question import check_numbers, checked_vector
from everindex.articles.search.slow import log_slow
from everindex.articles.search.strategy import FILTERED_EXACT_ROWS, Approach, Serving, choose
from everindex.articles.table import ArticleTable, read_table
from everindex.errors import EverindexError
from everindex.index.catalog import in_search_path, observe
from everindex.index.drift import serving_index
from everindex.index.planner import explain
from everindex.pg import roundtrip
from everindex.pg.capabilities import look
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours

log = logging.getLogger("everindex.search")

#: What is known of table and index is read anew after so many seconds: a dropped or finished index is noticed by then.
SERVING_SECONDS = 5.0

Row = tuple[Any, ...]

_STATEMENTS = {"filtered-exact": statement.nearest_of_filtered, "exact": statement.nearest_of_all}


class SearchEngine:
    """Searches one instance through the connections that serve reads; safe to use from many threads."""

    def __init__(self, reading: Reading, *, slow_query_ms: float) -> None:
        self._reading = reading
        self._slow_query_ms = slow_query_ms
        self._known: tuple[float, ArticleTable, Serving] | None = None
        self._texts: dict[tuple[Any, ...], tuple[str, dict[str, Any]]] = {}
        self._positionals: dict[str, tuple[str, tuple[str, ...]]] = {}

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
            passing = None if filters.is_empty else self._count(connection, table, filters)
            approach = choose(serving, k=wanted, passing=passing, ef_search=ef_search, exact=exact)
            rows = self._run(connection, table, filters, approach, vector, k=wanted)
            if approach.strategy in ("index", "index-filtered") and len(rows) < wanted:
                return self._complete(connection, table, filters, approach, vector, rows, wanted)
        return rows, approach, []

    def known(self) -> tuple[ArticleTable, Serving]:
        """Table and index as of the last few seconds. Raises NotMigrated where there is no table with vectors."""
        known = self._known
        if known is None or time.monotonic() - known[0] > SERVING_SECONDS:
            table, serving = self._reading.ask(_look)
            if known is None or (table, serving) != known[1:]:
                self._texts = {}
                self._positionals = {}
            known = self._known = (time.monotonic(), table, serving)
        return known[1], known[2]

    def forget(self) -> None:
        """Reads table and index anew at the next search."""
        self._known = None

    def statement_for(
        self, table: ArticleTable, filters: Filters, approach: Approach, k: int
    ) -> tuple[str, dict[str, Any]]:
        """The text of the statement (kept, so that it is composed once and prepared once) and its parameters."""
        # Strategies of other settings or another order must not share a text: a prepared statement keeps its plan.
        key = (
            approach.strategy,
            k,
            bool(filters.category),
            bool(filters.topic),
            bool(filters.news_source),
            bool(filters.since),
            bool(filters.until),
        )
        build = _STATEMENTS.get(approach.strategy, statement.nearest)
        kept = self._texts.get(key)
        if kept is not None and filters.is_empty:
            return kept[0], {}
        composed, parameters = build(table, filters, k=k)
        text = kept[0] if kept is not None else composed.as_string(None)
        self._texts[key] = (text, {})
        return text, parameters

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
        text, parameters = self.statement_for(table, filters, approach, k)
        parameters["vector"] = Vector(vector).to_binary()
        text, names = self._positional(text)
        rows = roundtrip.run(connection, approach.settings, text, [parameters[name] for name in names])
        # A zero vector (put there by hand) has no cosine distance: it is in no index, and no answer either.
        return [row for row in rows if row[-1] == row[-1]]

    def _positional(self, text: str) -> tuple[str, tuple[str, ...]]:
        kept = self._positionals.get(text)
        if kept is None:
            kept = self._positionals[text] = roundtrip.positional(text)
        return kept

    def _complete(
        self,
        connection: Connection,
        table: ArticleTable,
        filters: Filters,
        approach: Approach,
        vector: np.ndarray,
        rows: list[Row],
        wanted: int,
    ) -> tuple[list[Row], Approach, list[str]]:
        """The index gave fewer rows than asked: either no more exist, or it stopped early. An exact search tells, and is
        then the answer; that it was needed is an incident of the index and logged as such."""
        without = Serving(index_name=None, estimated_rows=0, has_iterative_scan=False)
        exactly = choose(without, k=wanted, passing=None if filters.is_empty else wanted, ef_search=None, exact=True)
        complete = self._run(connection, table, filters, exactly, vector, k=wanted)
        if len(complete) == len(rows):
            return rows, approach, []
        log.warning(
            "short-answer: the index gave %d of %d rows at ef_search %s, an exact search found %d",
            len(rows),
            wanted,
            approach.ef_search,
            len(complete),
        )
        return (
            complete,
            exactly,
            ["the index gave too few rows for this filter or k: every row was read (exact search)"],
        )

    def _count(self, connection: Connection, table: ArticleTable, filters: Filters) -> int:
        text, parameters = statement.count_passing(table, filters, limit=FILTERED_EXACT_ROWS + 1)
        row = connection.execute(text, parameters, prepare=True).fetchone()
        return int(row[0]) if row else 0

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


def _look(connection: Connection) -> tuple[ArticleTable, Serving]:
    table = read_table(connection)
    spec = in_search_path(connection, EMBEDDING_INDEX)
    observed = observe(connection, spec)
    index = serving_index(spec, observed)
    serving = Serving(
        index_name=index.name if index else None,
        estimated_rows=observed.estimated_rows,
        has_iterative_scan=look(connection).has_iterative_scan,
    )
    return table, serving


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
