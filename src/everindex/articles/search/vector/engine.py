"""Vector search: one transaction in one round trip, with settings local to it.

Guarantees all k rows where they exist, or an answer that says why not: an index that was not scanned, or that stopped
early, is detected from the server's counters. Minimum similarity, variety and near-duplicates are not applied here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from everindex.articles.connections.reading import Reading
from everindex.articles.declared import ARTICLES
from everindex.articles.model import Answer
from everindex.articles.search.explain import plan_as_run
from everindex.articles.search.filters import AnyFilters, names_of
from everindex.articles.search.request import Page
from everindex.articles.search.slow_log import log_slow
from everindex.articles.search.vector.answers import (
    SMALL_TABLE,
    Row,
    Scanned,
    answer_of,
    as_read,
    hits_of,
    least_rows,
    scanned_by,
)
from everindex.articles.search.vector.explanation import Explanation
from everindex.articles.search.vector.filter_counts import PassingRows
from everindex.articles.search.vector.filter_history import UNKNOWN, FilterHistory, Scan
from everindex.articles.search.vector.row_codes import RowCodes
from everindex.articles.search.vector.short_answers import ShortAnswer, ShortAnswers
from everindex.articles.search.vector.state import look_at
from everindex.articles.search.vector.statement import Texts
from everindex.articles.search.vector.strategy import (
    BY_ROW_CODES,
    NO_INDEX,
    PUSHED_FROM_ROWS,
    SearchPlan,
    Serving,
    choose,
    choose_further,
    counted_up_to,
    depth_of,
    exactly,
)
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable
from everindex.errors import EverindexError
from everindex.index.recall.explain import Explained, explain
from everindex.pg import roundtrip, waiting
from everindex.pg.connections import Connection
from everindex.pg.pooler import limited
from everindex.pg.sqlstate import translate_errors
from everindex.pg.vector_type import as_binary

log = logging.getLogger("everindex.search")

#: Table and index are read again after this many seconds, so that a newly built index is noticed. A dropped index is
#: noticed at once, by what the next search scans.
SERVING_SECONDS = 5.0

#: The rows of several searches held in memory at once: about 10 MB. 1,000 searches for 10 rows each take one round
#: trip.
ROWS_AT_ONCE = 10_000

#: The rows of one search, the plan that found them, and the notices for the answer.
Found = tuple[list[Row], SearchPlan, list[str]]


class SearchEngine:
    """Searches one instance through the connections that serve reads; safe to use from many threads."""

    def __init__(
        self,
        reading: Reading,
        collection: CollectionSpec = ARTICLES,
        *,
        slow_query_ms: float,
        journal: Callable[[ShortAnswer, int], None] | None = None,
    ) -> None:
        """`journal` records answers that the index left short, see `ShortAnswers`."""
        self._reading = reading
        self.collection = collection
        self._slow_query_ms = slow_query_ms
        self._known: tuple[float, CollectionTable, Serving] | None = None
        self._texts = Texts()
        self._passing = PassingRows()
        self._history = FilterHistory()
        self.row_codes = RowCodes()
        self.short_answers = ShortAnswers(journal)

    def search(self, page: Page, vector: np.ndarray) -> Answer:
        """The articles of `page` nearest to `vector` ((dim,) float32, as `checked_vector` gives it), nearest first.

        Fewer than `page.k` only where fewer exist. Does not apply the minimum similarity, variety and near-duplicates
        of the request. Raises NotMigrated, StatementTimedOut, ServerUnreachable.
        """
        started = time.perf_counter()
        table, serving = self.known()
        ((rows, search_plan, notices),) = self._reading.ask(
            lambda connection: self._nearest(connection, table, serving, page, (vector,))
        )
        hits = hits_of(table, rows, page)
        answer = answer_of(page, hits, search_plan, notices, elapsed_ms=(time.perf_counter() - started) * 1000)
        if answer.elapsed_ms < self._slow_query_ms:
            log.info(
                "search k=%d strategy=%s rows=%d %.1f ms", page.k, answer.strategy, len(answer.hits), answer.elapsed_ms
            )
        else:
            log_slow(answer, names_of(page.request.filters), plan=self._plan(table, page, vector, search_plan))
        return answer

    def search_many(self, page: Page, vectors: Sequence[np.ndarray]) -> list[Answer]:
        """An answer for each vector, in their order, equal to that of `search`, in one round trip for all; see
        ROWS_AT_ONCE.

        One statement on one connection, so that the server works on the next search while the rows of the previous one
        are read. Raises as `search`.
        """
        at_once = max(1, min(ROWS_AT_ONCE // page.k, len(vectors)))
        answers: list[Answer] = []
        for batch in (vectors[start : start + at_once] for start in range(0, len(vectors), at_once)):
            started = time.perf_counter()
            table, serving = self.known()
            found = self._reading.ask(partial(self._nearest, table=table, serving=serving, page=page, vectors=batch))
            hits = [hits_of(table, rows, page) for rows, _, _ in found]
            each_ms = (time.perf_counter() - started) * 1000 / len(batch)
            answers += [
                answer_of(page, nearest, search_plan, notices, elapsed_ms=each_ms)
                for nearest, (_, search_plan, notices) in zip(hits, found, strict=True)
            ]
        log.info("%d searches k=%d at once", len(answers), page.k)
        return answers

    def _nearest(
        self,
        connection: Connection,
        table: CollectionTable,
        serving: Serving,
        page: Page,
        vectors: Sequence[np.ndarray],
    ) -> list[Found]:
        """The rows for each of `vectors`."""
        with translate_errors("searching"):
            search_plan = self._choose(connection, table, serving, page)
            if search_plan.reason == NO_INDEX and serving.has_row_codes and page.after is None:
                # Not on an event loop: it computes for milliseconds, and reads what it lacks under a lock.
                by_codes = waiting.beside(
                    partial(self._by_row_codes, connection, table, serving, page, vectors), uses_connection=True
                )
                if by_codes is not None:
                    search_plan = replace(search_plan, reason=BY_ROW_CODES, leaves_ties=True)
                    return [(rows, search_plan, []) for rows in by_codes]
            found, scanned, entries = self._run(connection, table, serving, page, vectors, search_plan)
            notices: list[str] = []
            if scanned != "as-chosen":
                entries = ()
                table, serving, found, search_plan, notices = self._look_into(
                    connection, table, serving, page, vectors, search_plan, found, scanned
                )
            return [
                self._complete(connection, table, serving, page, vector, search_plan, rows, notices)
                if self._is_in_vain(page, search_plan, rows, entries[number] if entries else None)
                else (rows, search_plan, notices)
                for number, (vector, rows) in enumerate(zip(vectors, found, strict=True))
            ]

    def _by_row_codes(
        self,
        connection: Connection,
        table: CollectionTable,
        serving: Serving,
        page: Page,
        vectors: Sequence[np.ndarray],
    ) -> list[list[Row]] | None:
        """The rows by sign bits, instead of reading every vector while no index serves; None where this table does not
        support it."""
        found = []
        for vector in vectors:
            rows = self.row_codes.nearest(
                connection, table, page.request.filters, vector, k=page.rows, estimated_rows=serving.estimated_rows
            )
            if rows is None:
                return None
            found.append(page.usable(rows))
        return found

    def _is_in_vain(self, page: Page, search_plan: SearchPlan, rows: list[Row], entries: int | None) -> bool:
        """True where the index may not have found the nearest rows. Notes the cost of a filtered scan for later
        searches."""
        is_short = len(rows) < least_rows(page, search_plan)
        if entries is None or search_plan.most_entries is None:
            return is_short
        if page.after is None and page.request.ef_search is None:
            most = search_plan.affordable_entries
            # A scan that ended without all its rows would have continued.
            met = max(entries, most + 1) if is_short else entries
            self._history.note(
                page.request.filters, page.rows, Scan(entries=met, expected=search_plan.expected_entries, most=most)
            )
        return is_short or entries > search_plan.most_entries

    def _look_into(
        self,
        connection: Connection,
        table: CollectionTable,
        serving: Serving,
        page: Page,
        vectors: Sequence[np.ndarray],
        search_plan: SearchPlan,
        found: list[list[Row]],
        scanned: Scanned,
    ) -> tuple[CollectionTable, Serving, list[list[Row]], SearchPlan, list[str]]:
        """The catalog's current state and the answer, after a plan that did not use the index.

        Reads the catalog again, also for the searches after this one. Repeats the search only where its rows are not
        the nearest of all, or where another index serves by now.
        """
        is_whole = scanned == "table" and search_plan.candidates is None
        if is_whole and serving.estimated_rows < PUSHED_FROM_ROWS:
            return table, serving, found, as_read(search_plan, reason=SMALL_TABLE), []
        with limited(connection):
            table_now, serving_now = self._look(connection)
        if serving_now.index_name is None and is_whole:
            return table_now, serving_now, found, as_read(search_plan, reason=NO_INDEX), []
        if (table_now, serving_now.indexes) != (table, serving.indexes):
            search_plan = self._choose(connection, table_now, serving_now, page)
            found, scanned, _ = self._run(connection, table_now, serving_now, page, vectors, search_plan)
            if scanned == "as-chosen":
                return table_now, serving_now, found, search_plan, []
            is_whole = scanned == "table" and search_plan.candidates is None
        plan = self._planned(connection, table_now, page, vectors[0], search_plan)
        name = serving_now.index_name
        if not is_whole and search_plan.candidates is None and plan.ordering_indexes not in ((), (name,)):
            reason = (
                f"the planner uses the index {plan.ordering_indexes[0]} instead of {name}"
                if len(serving_now.tables) <= 1
                else f"the planner reads some partitions without their part of the index {name}"
            )
            answers = replace(serving_now, index_name=plan.ordering_indexes[0])
            return table_now, answers, found, replace(search_plan, reason=reason), [f"{reason} ({plan.summary})"]
        reason = f"the planner does not use the index {name} ({plan.summary})"
        if is_whole:
            search_plan = as_read(search_plan, reason=reason)
        else:
            search_plan = replace(as_read(search_plan, reason=reason), leaves_ties=False)
            found, _, _ = self._run(connection, table_now, serving_now, page, vectors, search_plan)
        return table_now, serving_now, found, search_plan, [f"{reason}: every row was read (exact search)"]

    def _choose(self, connection: Connection, table: CollectionTable, serving: Serving, page: Page) -> SearchPlan:
        request, rows = page.request, page.rows
        ef_search, exact = request.ef_search, request.exact
        shown = None if page.after is None else page.after.shown
        depth = rows if shown is None else depth_of(k=rows, shown=shown)
        passing, experience = None, UNKNOWN
        if request.is_filtered:
            up_to = counted_up_to(serving, k=depth)
            passing = self._passing.count(connection, table, request.filters, up_to=up_to)
            experience = self._history.of(request.filters, rows)
        if shown is None:
            return choose(serving, k=depth, passing=passing, ef_search=ef_search, exact=exact, experience=experience)
        return choose_further(
            serving, k=rows, shown=shown, passing=passing, ef_search=ef_search, exact=exact, experience=experience
        )

    def explain(self, page: Page, vector: np.ndarray) -> Explanation:
        """How such a search is answered: its strategy and the reason, its settings, its statement, and its plan as it
        ran.

        Runs the statement twice more. Raises as `search`.
        """
        table, serving = self.known()

        def explained(connection: Connection) -> Explanation:
            with translate_errors("explaining a search"):
                search_plan = self._choose(connection, table, serving, page)
                if search_plan.strategy == "none-match":
                    return Explanation(search_plan=search_plan, statement="", plan=())
                run, reported = search_plan, search_plan
                found, scanned, _ = self._run(connection, table, serving, page, (vector,), search_plan)
                if scanned != "as-chosen":
                    _, _, _, reported, _ = self._look_into(
                        connection, table, serving, page, (vector,), search_plan, found, scanned
                    )
                    run = reported if reported.is_by_index else run
                text, parameters = self._named(table, page, vector, run)
                return Explanation(
                    search_plan=reported,
                    statement=text,
                    plan=plan_as_run(connection, text, parameters, settings=run.settings),
                )

        return self._reading.ask(explained)

    def known(self) -> tuple[CollectionTable, Serving]:
        """Table and index, at most a few seconds old. Raises NotMigrated where no table with vectors exists."""
        known = self._known
        if known is None or time.monotonic() - known[0] > SERVING_SECONDS:
            return self._reading.read(self._look)
        return known[1], known[2]

    def _look(self, connection: Connection) -> tuple[CollectionTable, Serving]:
        """Reads table and index and caches them."""
        known = self._known
        table, serving = look_at(connection, self.collection)
        if known is None or (table, serving) != known[1:]:
            self._texts = Texts()
        if known is None or serving.indexes != known[2].indexes:
            self._history.invalidate()
            if serving.index_name is not None:
                self.row_codes.invalidate()
        self._known = (time.monotonic(), table, serving)
        return table, serving

    def invalidate(self) -> None:
        """Discards the cache: the next search reads table and index again."""
        self._known = None
        self._passing.invalidate()

    def statement_for(
        self, table: CollectionTable, filters: AnyFilters, search_plan: SearchPlan, k: int
    ) -> tuple[str, dict[str, Any]]:
        """The text of the statement, with psycopg's named placeholders, and its parameters except the vector."""
        text, parameters = self._texts.of(table, filters, search_plan, k)
        return text.named, dict(parameters)

    def _run(
        self,
        connection: Connection,
        table: CollectionTable,
        serving: Serving,
        page: Page,
        vectors: Sequence[np.ndarray],
        search_plan: SearchPlan,
    ) -> tuple[list[list[Row]], Scanned, tuple[int, ...]]:
        """The usable rows for each of `vectors`; what the server scanned for them; and, where most_entries is set, how
        many index entries it visited for each."""
        if search_plan.strategy == "none-match":
            return [[] for _ in vectors], "as-chosen", ()
        text, values = self._bound(table, page, vectors, search_plan)
        counted = (serving.indexes, serving.tables) if search_plan.is_by_index and serving.indexes else ()
        index = serving.indexes[0] if counted and search_plan.most_entries is not None else None
        given = roundtrip.run_counted(connection, search_plan.settings, text, values, counted, index=index)
        return (
            [page.usable(rows) for rows in given.rows],
            scanned_by(given.scans, searches=len(vectors), is_partitioned=len(serving.tables) > 1),
            given.entries,
        )

    def _bound(
        self, table: CollectionTable, page: Page, vectors: Sequence[np.ndarray], search_plan: SearchPlan
    ) -> tuple[str, list[list[roundtrip.Parameter]]]:
        """The statement that answers all of `vectors`, and the values for each."""
        request = page.request
        bound = request.bound(table)
        text = self._texts.text(table, request.filters, bound, search_plan, page.rows)
        parameters = bound.values if page.after is None else {**bound.values, **page.place}
        return text.positional, [
            [as_binary(vector) if name == "vector" else parameters[name] for name in text.names] for vector in vectors
        ]

    def _named(
        self, table: CollectionTable, page: Page, vector: np.ndarray, search_plan: SearchPlan
    ) -> tuple[str, dict[str, Any]]:
        """The statement and parameters with psycopg's placeholders, for EXPLAIN."""
        text, parameters = self.statement_for(table, page.request.filters, search_plan, page.rows)
        return text, {**parameters, **page.place, "vector": vector}

    def _planned(
        self, connection: Connection, table: CollectionTable, page: Page, vector: np.ndarray, search_plan: SearchPlan
    ) -> Explained:
        text, parameters = self._named(table, page, vector, search_plan)
        with limited(connection):
            return explain(connection, text, parameters, settings=search_plan.settings)

    def _complete(
        self,
        connection: Connection,
        table: CollectionTable,
        serving: Serving,
        page: Page,
        vector: np.ndarray,
        search_plan: SearchPlan,
        rows: list[Row],
        notices: list[str],
    ) -> Found:
        """The answer after the index returned too few rows: either no more exist, or the scan stopped early. An exact
        search decides, and is then the answer. Fewer rows from the index than exist is an incident, which is
        counted."""
        filters = page.request.filters
        reason = "the index gave too few rows for this filter or k: every matching row was read"
        exact = replace(exactly(is_filtered=page.request.is_filtered, reason=reason), continues=page.after is not None)
        (complete,), _, _ = self._run(connection, table, serving, page, (vector,), exact)
        if len(rows) >= page.k:
            return complete, exact, notices
        if len(complete) == len(rows):
            return rows, search_plan, notices
        self.short_answers.note(
            search_plan, serving.index_name, filters, wanted=page.k, found=len(rows), existing=len(complete)
        )
        return complete, exact, [*notices, f"{reason} (exact search)"]

    def _plan(self, table: CollectionTable, page: Page, vector: np.ndarray, search_plan: SearchPlan) -> str:
        """A summary of the plan for a search, without its values."""
        if search_plan.strategy == "none-match":
            return "none: nothing was run"
        try:
            with self._reading.connection() as connection:
                return self._planned(connection, table, page, vector, search_plan).summary
        except EverindexError as exc:
            # The answer is ready; it must not fail because its plan cannot be read.
            return f"unknown: {exc.slug}"
