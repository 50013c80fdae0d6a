"""Vector search: one transaction in one round trip, with settings local to it.

Guarantees all k rows where they exist, or an answer that says why not: an index that was not scanned, or that stopped
early, is detected from the server's counters. Minimum similarity, variety and near-duplicates are not applied here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from everindex.articles.connections.reading import Reading
from everindex.articles.declared import ARTICLES
from everindex.articles.model import Answer
from everindex.articles.search.diagnostics.slow_log import log_slow, plan_summary
from everindex.articles.search.filters import names_of
from everindex.articles.search.request.search_request import Page
from everindex.articles.search.vector import statement
from everindex.articles.search.vector.explanation import (
    Explanation,
    explanation_of,
    named_statement,
    planned,
    why_other,
)
from everindex.articles.search.vector.filter_counts import PassingRows
from everindex.articles.search.vector.filter_history import UNKNOWN, FilterHistory, Scan
from everindex.articles.search.vector.partial import choose_partial, partial_of
from everindex.articles.search.vector.row_codes import RowCodes
from everindex.articles.search.vector.short_answers import ShortAnswer, ShortAnswers
from everindex.articles.search.vector.state import look_at
from everindex.articles.search.vector.strategy import (
    BY_ROW_CODES,
    NO_INDEX,
    PUSHED_FROM_ROWS,
    SMALL_TABLE,
    Scanned,
    SearchPlan,
    Serving,
    as_read,
    choose,
    choose_further,
    counted_up_to,
    depth_of,
    exactly,
    scanned_by,
    with_count,
)
from everindex.articles.shape.hit import Hit, with_text_date
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable
from everindex.pg import roundtrip, waiting
from everindex.pg.connections import Connection
from everindex.pg.pooler import limited
from everindex.pg.sqlstate import translate_errors
from everindex.pg.statement_texts import StatementTexts
from everindex.pg.vector_type import as_binary

log = logging.getLogger("everindex.search")

#: Table and index are read again after so long, which notices a new index. A dropped one is noticed by the next search's scans.
SERVING_SECONDS = 5.0

#: Rows of several searches in memory at once, about 10 MB: 1,000 searches for 10 rows each take one round trip.
ROWS_AT_ONCE = 10_000

#: The columns of the collection, then the distance.
Row = tuple[Any, ...]
#: The rows of one search, the plan that found them, and the notices for the answer.
Found = tuple[list[Row], SearchPlan, list[str]]

_DISTANCE_AND_KEY = itemgetter(-1, 0)


@dataclass(slots=True)
class _Batch:
    """Searches for one page by several vectors, with the table and index as they are known."""

    table: CollectionTable
    serving: Serving
    page: Page
    vectors: Sequence[np.ndarray]


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
        self._texts = StatementTexts()
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
        batch = _Batch(table, serving, page, (vector,))
        ((rows, search_plan, notices),) = self._reading.ask(partial(self._nearest, batch=batch))
        hits = hits_of(table, rows, page)
        answer = answer_of(page, hits, search_plan, notices, elapsed_ms=(time.perf_counter() - started) * 1000)
        if answer.elapsed_ms < self._slow_query_ms:
            count, took = len(answer.hits), answer.elapsed_ms
            event: dict[str, Any] = {"event": "search-answered", "mode": "semantic", "strategy": answer.strategy}
            event |= {"k": page.k, "rows": count, "duration_ms": round(took, 1)}
            log.info("search k=%d strategy=%s rows=%d %.1f ms", page.k, answer.strategy, count, took, extra=event)
        else:
            names, plan = names_of(page.request.filters), self._plan(table, page, vector, search_plan)
            log_slow(self._reading, self.collection.name, answer, names, plan=plan)
        return answer

    def search_many(self, page: Page, vectors: Sequence[np.ndarray]) -> list[Answer]:
        """An answer for each vector, in their order, equal to that of `search`, in one round trip for all; see
        ROWS_AT_ONCE.

        One statement on one connection, so that the server works on the next search while the rows of the previous one
        are read. Raises as `search`.
        """
        at_once = max(1, min(ROWS_AT_ONCE // page.k, len(vectors)))
        answers: list[Answer] = []
        for some in (vectors[start : start + at_once] for start in range(0, len(vectors), at_once)):
            started = time.perf_counter()
            table, serving = self.known()
            batch = _Batch(table, serving, page, some)
            found = self._reading.ask(partial(self._nearest, batch=batch))
            hits = [hits_of(table, rows, page) for rows, _, _ in found]
            each_ms = (time.perf_counter() - started) * 1000 / len(some)
            answers += [
                answer_of(page, nearest, search_plan, notices, elapsed_ms=each_ms)
                for nearest, (_, search_plan, notices) in zip(hits, found, strict=True)
            ]
        batch_event: dict[str, Any] = {"event": "searches-answered", "searches": len(answers), "k": page.k}
        log.info("%d searches k=%d at once", len(answers), page.k, extra=batch_event)
        return answers

    def _nearest(self, connection: Connection, batch: _Batch) -> list[Found]:
        """The rows for each of the vectors."""
        with translate_errors("searching"):
            search_plan = self._choose(connection, batch)
            if search_plan.reason == NO_INDEX and batch.serving.has_row_codes and batch.page.after is None:
                # Not on an event loop: it computes for milliseconds, and reads what it lacks under a lock.
                nearest = partial(self.row_codes.nearest, connection, batch.table, batch.page, batch.vectors)
                rows_now = batch.serving.estimated_rows
                by_codes = waiting.beside(partial(nearest, estimated_rows=rows_now), uses_connection=True)
                if by_codes is not None:
                    search_plan = replace(search_plan, reason=BY_ROW_CODES, leaves_ties=True)
                    return [(rows, search_plan, []) for rows in by_codes]
            found, scanned, entries = self._run(connection, batch, search_plan)
            notices: list[str] = []
            if scanned != "as-chosen":
                entries = ()
                batch, found, search_plan, notices = self._look_into(connection, batch, search_plan, found, scanned)
            return [
                self._complete(connection, batch, vector, (rows, search_plan, notices))
                if self._is_in_vain(batch.page, search_plan, rows, entries[number] if entries else None)
                else (rows, search_plan, notices)
                for number, (vector, rows) in enumerate(zip(batch.vectors, found, strict=True))
            ]

    def _is_in_vain(self, page: Page, search_plan: SearchPlan, rows: list[Row], entries: int | None) -> bool:
        """True where the index may not have found the nearest rows. Notes the cost of a filtered scan."""
        is_short = len(rows) < search_plan.least_rows(page)
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
        self, connection: Connection, batch: _Batch, search_plan: SearchPlan, found: list[list[Row]], scanned: Scanned
    ) -> tuple[_Batch, list[list[Row]], SearchPlan, list[str]]:
        """The catalog's current state and the answer, after a plan that did not use the index.

        Reads the catalog again, also for the searches after this one. Repeats the search only where its rows are not
        the nearest of all, or where another index serves by now.
        """
        is_whole = scanned == "table" and search_plan.candidates is None
        if is_whole and batch.serving.estimated_rows < PUSHED_FROM_ROWS:
            return batch, found, as_read(search_plan, reason=SMALL_TABLE), []
        before = batch
        with limited(connection):
            table, serving = self._look(connection)
        batch = replace(batch, table=table, serving=serving)
        if search_plan.partial is not None:
            return self._without_partials(connection, batch, search_plan)
        if serving.index_name is None and is_whole:
            return batch, found, as_read(search_plan, reason=NO_INDEX), []
        if (table, serving.indexes) != (before.table, before.serving.indexes):
            search_plan = self._choose(connection, batch)
            found, scanned, _ = self._run(connection, batch, search_plan)
            if scanned == "as-chosen":
                return batch, found, search_plan, []
            is_whole = scanned == "table" and search_plan.candidates is None
        plan = planned(connection, table, batch.page, batch.vectors[0], search_plan)
        name = serving.index_name
        if not is_whole and search_plan.candidates is None and plan.ordering_indexes not in ((), (name,)):
            reason = why_other(plan, name, is_partitioned=len(serving.tables) > 1)
            answering = replace(batch, serving=replace(serving, index_name=plan.ordering_indexes[0]))
            return answering, found, replace(search_plan, reason=reason), [f"{reason} ({plan.summary})"]
        reason = f"the planner does not use the index {name} ({plan.summary})"
        if is_whole:
            search_plan = as_read(search_plan, reason=reason)
        else:
            search_plan = replace(as_read(search_plan, reason=reason), leaves_ties=False)
            found, _, _ = self._run(connection, batch, search_plan)
        return batch, found, search_plan, [f"{reason}: every row was read (exact search)"]

    def _without_partials(
        self, connection: Connection, batch: _Batch, search_plan: SearchPlan
    ) -> tuple[_Batch, list[list[Row]], SearchPlan, list[str]]:
        """The same search as if there was no partial index, after the planner did not use the one of its filter."""
        notices = []
        if any(each.index_name == search_plan.partial for each in batch.serving.partials):
            plan = planned(connection, batch.table, batch.page, batch.vectors[0], search_plan)
            notices.append(f"the planner does not use the partial index {search_plan.partial} ({plan.summary})")
        others = replace(batch, serving=replace(batch.serving, partials=()))
        search_plan = self._choose(connection, others)
        found, scanned, _ = self._run(connection, others, search_plan)
        if scanned == "as-chosen":
            return others, found, search_plan, notices
        batch, found, search_plan, more = self._look_into(connection, others, search_plan, found, scanned)
        return batch, found, search_plan, [*notices, *more]

    def _choose(self, connection: Connection, batch: _Batch) -> SearchPlan:
        page, serving = batch.page, batch.serving
        request, rows = page.request, page.rows
        ef_search, exact = request.ef_search, request.exact
        shown = None if page.after is None else page.after.shown
        depth = rows if shown is None else depth_of(k=rows, shown=shown)
        passing, experience, up_to = None, UNKNOWN, 0
        if request.is_filtered:
            partial_index = (
                partial_of(serving, batch.table, request.filters) if serving.partials and not exact else None
            )
            if partial_index is not None:
                return choose_partial(partial_index, k=rows, shown=shown, ef_search=ef_search)
            up_to = counted_up_to(serving, k=depth)
            passing = self._passing.count(connection, batch.table, request.filters, up_to=up_to)
            experience = self._history.of(request.filters, rows)
        chosen = (
            choose(serving, k=depth, passing=passing, ef_search=ef_search, exact=exact, experience=experience)
            if shown is None
            else choose_further(
                serving, k=rows, shown=shown, passing=passing, ef_search=ef_search, exact=exact, experience=experience
            )
        )
        return with_count(chosen, passing, up_to=up_to)

    def explain(self, page: Page, vector: np.ndarray) -> Explanation:
        """How such a search is answered: its strategy and the reason, its settings, its statement, and its plan as it ran. Runs
        the statement twice more. Raises as `search`."""
        table, serving = self.known()

        def explained(connection: Connection) -> Explanation:
            with translate_errors("explaining a search"):
                batch = _Batch(table, serving, page, (vector,))
                search_plan = self._choose(connection, batch)
                if search_plan.strategy == "none-match":
                    return Explanation(search_plan=search_plan, statement="", plan=())
                run, reported = search_plan, search_plan
                found, scanned, _ = self._run(connection, batch, search_plan)
                if scanned != "as-chosen":
                    _, _, reported, _ = self._look_into(connection, batch, search_plan, found, scanned)
                    run = reported if reported.is_by_index else run
                return explanation_of(connection, table, page, vector, run, reported=reported)

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
            self._texts = StatementTexts()
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

    def _run(
        self, connection: Connection, batch: _Batch, search_plan: SearchPlan
    ) -> tuple[list[list[Row]], Scanned, tuple[int, ...]]:
        """The usable rows for each of the vectors; what the server scanned for them; and, where most_entries is set, how
        many index entries it visited for each."""
        table, serving, page = batch.table, batch.serving, batch.page
        if search_plan.strategy == "none-match":
            return [[] for _ in batch.vectors], "as-chosen", ()
        filters, bound, rows = page.request.filters, page.request.bound(table), page.rows
        text = self._texts.of(
            (rows, *search_plan.shape, *bound.shape), lambda: statement.of(table, filters, search_plan, k=rows)[0]
        )
        parameters = bound.values if page.after is None else {**bound.values, **page.place}
        values = [
            [as_binary(vector) if name == "vector" else parameters[name] for name in text.names]
            for vector in batch.vectors
        ]
        serving = serving.by(search_plan)
        counted = (serving.indexes, serving.tables) if search_plan.is_by_index and serving.indexes else ()
        index = serving.indexes[0] if counted and search_plan.most_entries is not None else None
        given = roundtrip.run_counted(connection, search_plan.settings, text.positional, values, counted, index=index)
        return (
            [page.usable(rows) for rows in given.rows],
            scanned_by(given.scans, searches=len(batch.vectors), is_partitioned=len(serving.tables) > 1),
            given.entries,
        )

    def _complete(self, connection: Connection, batch: _Batch, vector: np.ndarray, found: Found) -> Found:
        """The answer after the index returned too few rows: no more exist, or the scan stopped early. An exact search decides,
        and is then the answer. Fewer rows from the index than exist is an incident, which is counted."""
        page, (rows, search_plan, notices) = batch.page, found
        reason = "the index gave too few rows for this filter or k: every matching row was read"
        exact = replace(exactly(is_filtered=page.request.is_filtered, reason=reason), continues=page.after is not None)
        (complete,), _, _ = self._run(connection, replace(batch, vectors=(vector,)), exact)
        if len(rows) >= page.k:
            return complete, exact, notices
        if len(complete) == len(rows):
            return found
        self.short_answers.note(
            search_plan,
            batch.serving.index_name,
            page.request.filters,
            wanted=page.k,
            found=len(rows),
            existing=len(complete),
        )
        return complete, exact, [*notices, f"{reason} (exact search)"]

    def _plan(self, table: CollectionTable, page: Page, vector: np.ndarray, search_plan: SearchPlan) -> str:
        """A summary of the plan for a search, without its values."""
        if search_plan.strategy == "none-match":
            return "none: nothing was run"
        named = partial(named_statement, table, page, vector, search_plan)
        return plan_summary(self._reading, named, settings=search_plan.settings)


def answer_of(page: Page, hits: list[Hit], search_plan: SearchPlan, notices: list[str], *, elapsed_ms: float) -> Answer:
    """The answer with these hits."""
    why_exact = search_plan.why_exact(page, notices)
    cursor_after = page.cursor_after(hits, is_exact=search_plan.is_exact)
    return Answer(
        hits=hits,
        k=page.k,
        strategy=search_plan.strategy,
        reason=search_plan.reason,
        ef_search=search_plan.ef_search,
        elapsed_ms=elapsed_ms,
        notices=notices if why_exact is None else [*notices, why_exact],
        more=None if cursor_after is None or len(hits) < page.k else lambda: cursor_after(len(hits), None),
        cursor_after=cursor_after,
        passing=search_plan.passing,
        passing_is_least=search_plan.passing_is_least,
    )


def hits_of(table: CollectionTable, rows: Sequence[Row], page: Page) -> list[Hit]:
    """The page's hits, by distance and the text of their keys."""
    nearest = sorted(rows, key=_DISTANCE_AND_KEY if table.has_text_key else _distance_and_key_text)[: page.k]
    columns, date_at = table.spec.columns, table.date_at
    if date_at is not None:
        nearest = [with_text_date(row, date_at) for row in nearest]
    return [Hit(columns, row[0], row[:-1], row[-1]) for row in nearest]


def _distance_and_key_text(row: Row) -> tuple[float, str]:
    return row[-1], str(row[0])
