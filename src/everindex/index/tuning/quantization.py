"""The recall that bit codes can reach at all, counted over every row without any index.

A sample flatters codes: among a tenth of the rows a tenth as many others have a code as near. So what a graph over codes
finds in a sample is bounded by what the codes themselves keep among all rows, for as many candidates.
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

#: Equal codes stand in no order: (how many rows have a nearer code, how many the same), of each neighbour of a query.
Ranks = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationBound:
    """What codes keep of the true neighbours, for each query."""

    own_rows: int
    queries: tuple[Ranks, ...]

    def at(self, candidates: int) -> tuple[float, float, float]:
        """(recall, lower and upper end of its interval) of the best search that re-ranks so many candidates."""
        counted = [
            (sum(_share(candidates + self.own_rows, nearer, same) for nearer, same in ranks), len(ranks))
            for ranks in self.queries
            if ranks
        ]
        wanted = sum(of for _, of in counted)
        low, high = interval(counted)
        return (sum(found for found, _ in counted) / wanted if wanted else 1.0), low, high


def _share(candidates: int, nearer: int, same: int) -> float:
    """The chance that a row is among so many candidates, when those of the same code come in any order."""
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
    """What the codes of `spec`, an index of bit codes, keep; of as many queries as `max_seconds` allow, MIN_QUERIES at
    least. Reads every vector once for each. None where not even those could be asked. Reads only."""
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
    """The curve of codes on a sample, with no more recall than the codes allow over all rows."""
    return replace(curve, points=tuple(_bounded(point, bound) for point in curve.points))


def _bounded(point: Point, bound: QuantizationBound) -> Point:
    if point.candidates is None:
        return point
    recall, low, high = bound.at(point.candidates)
    return replace(
        point, recall=min(point.recall, recall), low=min(point.low, low), high=max(min(point.high, high), point.low)
    )
