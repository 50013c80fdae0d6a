"""The maximum recall of bit codes, computed on every row without any index.

A sample overestimates codes: in a tenth of the rows, only a tenth as many other rows have an equally near code. So the recall
of a graph of codes on a sample is capped at what the codes themselves preserve on all rows, for as many candidates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from psycopg import sql

from everindex.errors import StatementTimedOut
from everindex.index.catalog.observed import Observed
from everindex.index.recall.explain import under_settings
from everindex.index.recall.measurement import EXACT_SETTINGS, MIN_QUERIES, Truth, interval
from everindex.index.recall.probe import codes_statement
from everindex.index.spec import IndexSpec
from everindex.index.tuning.curve import Curve, Point
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: For each neighbour of a query (how many rows have a nearer code, how many the same); equal codes have no order.
Ranks = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationBound:
    """The share of the true neighbours that codes preserve, for each query."""

    own_rows: int
    queries: tuple[Ranks, ...]

    def at(self, candidates: int) -> tuple[float, float, float]:
        """(recall, lower and upper end of its interval) of the best search that re-ranks this many candidates."""
        counted = [
            (sum(_share(candidates + self.own_rows, nearer, same) for nearer, same in ranks), len(ranks))
            for ranks in self.queries
            if ranks
        ]
        wanted = sum(of for _, of in counted)
        low, high = interval(counted)
        return (sum(found for found, _ in counted) / wanted if wanted else 1.0), low, high


def _share(candidates: int, nearer: int, same: int) -> float:
    """The probability that a row is among this many candidates, if rows with the same code come in any order."""
    return min(1.0, max(0.0, (candidates - nearer) / max(1, same)))


def find_bound(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    truth: Truth,
    *,
    max_seconds: float,
    on_query: Callable[[int, int], None] | None = None,
) -> QuantizationBound | None:
    """The bound of `spec`, an index of bit codes, from as many queries as `max_seconds` allow, at least MIN_QUERIES. Reads
    every vector once per query. None if there was no time for MIN_QUERIES. Reads only."""
    statement: sql.Composed = codes_statement(spec, observed, k=truth.k + truth.own_rows)
    deadline = time.monotonic() + max_seconds
    found: list[Ranks] = []
    for vector, _ in truth.queries:
        if len(found) >= MIN_QUERIES and time.monotonic() >= deadline:
            break
        try:
            with translate_errors("comparing codes"), under_settings(connection, EXACT_SETTINGS):
                rows = connection.execute(statement, {"vector": vector}).fetchall()
        except StatementTimedOut:
            return None
        found.append(tuple((int(row[0]), int(row[1])) for row in rows[truth.own_rows :]))
        if on_query is not None:
            on_query(len(found), len(truth.queries))
    return QuantizationBound(own_rows=truth.own_rows, queries=tuple(found))


def bounded(curve: Curve, bound: QuantizationBound) -> Curve:
    """The curve of codes on a sample, with its recall capped at what the codes allow on all rows."""
    return replace(curve, points=tuple(_bounded(point, bound) for point in curve.points))


def _bounded(point: Point, bound: QuantizationBound) -> Point:
    if point.candidates is None:
        return point
    recall, low, high = bound.at(point.candidates)
    return replace(
        point, recall=min(point.recall, recall), low=min(point.low, low), high=max(min(point.high, high), point.low)
    )
