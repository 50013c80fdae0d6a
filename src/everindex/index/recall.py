"""How many of the true neighbours does the index find? recall@k against an exact scan that is checked to be one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.errors import StatementFailed
from everindex.index.planner import Settings, explain, set_local
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours

#: Without index scans PostgreSQL can only read every row: that is what makes the exact side exact.
EXACT_SETTINGS: Settings = (("enable_indexscan", "off"), ("enable_indexonlyscan", "off"), ("enable_bitmapscan", "off"))
#: Two float32 distances nearer than this are a tie; either neighbour is a true one.
TIE = 1e-6
#: At least so many queries are measured, however slow an exact scan is.
MIN_QUERIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """A measured recall@k with its 95 % confidence interval (Wilson, over all neighbours asked for)."""

    k: int
    queries: int
    recall: float
    low: float
    high: float
    exact_ms: float
    """Median time of one exact scan."""

    approximate_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUnused:
    """Nothing was measured, because the approximate side would not have gone through the index: `plan` says how."""

    plan: str


def measure_recall(
    connection: Connection,
    spec: IndexSpec,
    *,
    statement: sql.Composed,
    settings: Settings,
    extension_schema: str,
    k: int = 10,
    samples: int = 50,
    seed: str = "everindex",
    max_seconds: float = 10.0,
    on_query: Callable[[int, int], None] | None = None,
) -> Recall | IndexUnused | None:
    """Compares `statement` (its last column the distance, `%(vector)b` the query, LIMIT k + 1) with an exact scan.

    The queries are the vectors of `samples` stored rows, chosen by `seed`; the row itself does not count as a neighbour.
    Stops early, but not before MIN_QUERIES, when `max_seconds` are over. None for a table with fewer than two vectors;
    IndexUnused when `settings` do not lead the planner to the index: a scan would be compared with a scan, recall 1.
    Reads only; an exact scan reads every vector. Raises StatementFailed if the exact side would not be exact.
    """
    table, column = sql.Identifier(spec.schema, spec.table), sql.Identifier(spec.column)
    distance = sql.SQL("OPERATOR({}.{})").format(sql.Identifier(extension_schema), sql.SQL(spec.operator))
    exact = sql.SQL(
        "SELECT {column} {distance} %(vector)b FROM {table} WHERE {column} IS NOT NULL "
        "ORDER BY {column} {distance} %(vector)b LIMIT {limit}"
    ).format(column=column, distance=distance, table=table, limit=sql.Literal(k + 1))
    with told_as_ours("sampling query vectors"):
        queries = connection.execute(
            sql.SQL(
                "SELECT {column} FROM {table} t WHERE {column} IS NOT NULL ORDER BY md5(t.ctid::text || %s) LIMIT %s"
            ).format(column=column, table=table),
            (seed, samples),
            binary=True,
        ).fetchall()
    if len(queries) < 2:
        return None
    _require_exact(connection, exact, {"vector": queries[0][0]}, spec)
    plan = explain(connection, statement, {"vector": queries[0][0]}, settings=settings)
    if spec.name not in plan.index_names:
        return IndexUnused(plan=plan.summary)
    return _compare(connection, statement, settings, exact, [row[0] for row in queries], k, max_seconds, on_query)


def _compare(
    connection: Connection,
    statement: sql.Composed,
    settings: Settings,
    exact: sql.Composed,
    queries: list[Any],
    k: int,
    max_seconds: float,
    on_query: Callable[[int, int], None] | None,
) -> Recall:
    deadline = time.monotonic() + max_seconds
    found = wanted = measured = 0
    exact_times: list[float] = []
    approximate_times: list[float] = []
    for vector in queries:
        if measured >= MIN_QUERIES and time.monotonic() >= deadline:
            break
        truth, seconds = _distances(connection, exact, EXACT_SETTINGS, vector)
        exact_times.append(seconds)
        answer, seconds = _distances(connection, statement, settings, vector)
        approximate_times.append(seconds)
        truth, answer = truth[1 : k + 1], answer[1 : k + 1]  # the query's own row comes first in both
        if truth:
            found += min(sum(distance <= truth[-1] + TIE for distance in answer), len(truth))
            wanted += len(truth)
        measured += 1
        if on_query is not None:
            on_query(measured, len(queries))
    low, high = wilson(found, wanted)
    return Recall(
        k=k,
        queries=measured,
        recall=found / wanted if wanted else 1.0,
        low=low,
        high=high,
        exact_ms=_median(exact_times) * 1000,
        approximate_ms=_median(approximate_times) * 1000,
    )


def _distances(
    connection: Connection, statement: sql.Composed, settings: Settings, vector: Any
) -> tuple[list[float], float]:
    with told_as_ours("measuring recall"), connection.transaction():
        set_local(connection, settings)
        started = time.perf_counter()
        rows = connection.execute(statement, {"vector": vector}).fetchall()
        seconds = time.perf_counter() - started
    return sorted(float(row[-1]) for row in rows if row[-1] == row[-1]), seconds


def _require_exact(connection: Connection, exact: sql.Composed, parameters: dict[str, Any], spec: IndexSpec) -> None:
    plan = explain(connection, exact, parameters, settings=EXACT_SETTINGS)
    if plan.index_names:
        raise StatementFailed(
            "recall cannot be measured: the exact side would not be exact.",
            why=f"PostgreSQL plans it with {plan.summary} although index scans are off.",
            next_step=f"look at the plan of a search of {spec.table} and report it.",
        )


def wilson(found: int, wanted: int, *, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share, (0, 1) for none. Source: Wilson, JASA 22 (1927)."""
    if wanted == 0:
        return 0.0, 1.0
    share = found / wanted
    centre = share + z * z / (2 * wanted)
    spread = z * math.sqrt(share * (1 - share) / wanted + z * z / (4 * wanted * wanted))
    scale = 1 + z * z / wanted
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0
