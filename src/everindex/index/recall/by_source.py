"""Recall of one index for several kinds of queries, each measured separately: the worst of them decides.

Stored rows alone say nothing about queries in other regions: on a table with vectors of two models they gave 1.000, while a
search for a text had no result in common with the exact one. Reads only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.index.catalog.observed import Observed
from everindex.index.recall.explain import Settings
from everindex.index.recall.measurement import IndexUnused, Recall, compare, find_truth, measure_recall
from everindex.index.recall.query_sample import STORED_ROWS, SearchQueries
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.units import count_text

#: With fewer queries than this, the whole interval must be below the floor to count as below.
DECIDING_QUERIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecall:
    """The recall measured with the queries of one source."""

    source: str
    recall: Recall

    def is_below(self, floor: float) -> bool:
        measured = self.recall
        return (measured.recall if measured.queries >= DECIDING_QUERIES else measured.high) < floor

    @property
    def words(self) -> str:
        measured = self.recall
        return (
            f"{measured.recall:.3f} for {self.source} (95 % interval {measured.low:.3f} to {measured.high:.3f}, "
            f"{count_text(measured.queries, 'query', 'queries')})"
        )

    def as_dict(self) -> dict[str, Any]:
        measured = self.recall
        return {
            "source": self.source,
            "value": measured.recall,
            "low": measured.low,
            "high": measured.high,
            "queries": measured.queries,
        }


def worst_of(measured: Sequence[SourceRecall], *, floor: float) -> SourceRecall:
    """The one that decides: the lowest recall among those below the floor, otherwise among all."""
    return min(measured, key=lambda one: (not one.is_below(floor), one.recall.recall))


def measure_by_source(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    *,
    statement: sql.Composed,
    settings: Settings,
    names: frozenset[str],
    search_queries: SearchQueries,
    k: int,
    samples: int,
    max_seconds: float,
    on_query: Callable[[int, int], None] | None = None,
) -> list[SourceRecall] | IndexUnused | None:
    """Recall for stored rows and for each source of `search_queries`, in about `max_seconds`; see `measure_recall`.

    `on_query` receives the number of finished queries and the total; the rest of a source that runs out of time is subtracted.
    """
    counted = _Counted(on_query, left=sum(len(queries.vectors) for queries in search_queries.queries))
    stored = measure_recall(
        connection,
        spec,
        observed,
        statement=statement,
        settings=settings,
        names=names,
        k=k,
        samples=samples,
        max_seconds=max_seconds / 2 if search_queries.queries else max_seconds,
        on_query=counted.tell,
    )
    if not isinstance(stored, Recall):
        return stored
    found = [SourceRecall(source=STORED_ROWS, recall=stored)]
    for queries in search_queries.queries:
        counted.begin(len(queries.vectors))
        truth = find_truth(
            connection,
            spec,
            observed,
            list(queries.vectors),
            k=k,
            max_seconds=max_seconds / 2 / len(search_queries.queries),
            are_stored=queries.are_stored,
            on_query=counted.tell,
        )
        measured = compare(connection, statement, settings, truth, names=names)
        if isinstance(measured, IndexUnused):
            return measured
        found.append(SourceRecall(source=queries.source, recall=measured))
    counted.end()
    return found


class _Counted:
    """Counts the queries of all sources, which are measured one after the other."""

    def __init__(self, report: Callable[[int, int], None] | None, *, left: int) -> None:
        """`left`: the number of queries of the sources that have not begun yet."""
        self._report = report or (lambda done, of: None)
        self._left = left
        self._before = 0
        self._here = 0

    def begin(self, queries: int) -> None:
        """Starts the next of the remaining sources."""
        self._before, self._here = self._before + self._here, 0
        self._left -= queries

    def tell(self, done: int, of: int) -> None:
        self._here = done
        self._report(self._before + done, self._before + of + self._left)

    def end(self) -> None:
        done = self._before + self._here
        self._report(done, done)
