"""The measurement of recall@k: an index search is compared with a scan that is verified to be exact."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.errors import StatementFailed
from everindex.index.catalog.observed import Observed
from everindex.index.recall.explain import Settings, explain, explain_here, set_local, under_settings
from everindex.index.recall.probe import exact_statement, sample_statement
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Without index scans PostgreSQL must read every row, which makes the exact side exact.
EXACT_SETTINGS: Settings = (
    ("enable_indexscan", "off"),
    ("enable_indexonlyscan", "off"),
    ("enable_bitmapscan", "off"),
    # Behind a pooler everything is one transaction, in which the settings of an index search remain.
    ("enable_seqscan", "on"),
    ("enable_sort", "on"),
)
#: Two float32 distances that differ by less than this are a tie; either neighbour counts as a true one.
TIE = 1e-6
#: Minimum number of queries that are measured, however slow an exact scan is.
MIN_QUERIES = 5
#: Queries per transaction of the approximate side, which limits the time that an older generation is hidden by a lock.
QUERIES_AT_ONCE = 5

Inside = Callable[[Connection], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """A measured recall@k with its 95 % confidence interval (Wilson, on the effective number of neighbours)."""

    k: int
    queries: int
    recall: float
    low: float
    high: float
    exact_ms: float
    """Median time of one exact scan."""

    approximate_ms: float
    p95_ms: float
    """95th percentile of the approximate side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUnused:
    """Nothing was measured, because the approximate side would not have used the index; `plan` has the planner's choice."""

    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Query vectors, each with the distances of its true neighbours, nearest first."""

    k: int
    own_rows: int
    """1 when the queries are stored rows, which do not count as their own neighbours; 0 for queries of searches."""

    queries: tuple[tuple[Any, tuple[float, ...]], ...]
    exact_ms: float


@contextmanager
def one_transaction(connection: Connection) -> Iterator[None]:
    """The usual context of a measured query."""
    with under_settings(connection):
        yield


def measure_recall(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    *,
    statement: sql.Composed,
    settings: Settings,
    names: frozenset[str],
    k: int = 10,
    samples: int = 50,
    seed: str = "everindex",
    max_seconds: float = 10.0,
    on_query: Callable[[int, int], None] | None = None,
) -> Recall | IndexUnused | None:
    """Compares `statement` (its last column the distance, `%(vector)b` the query, LIMIT k + 1) with an exact scan.

    The queries are the vectors of `samples` stored rows, chosen by `seed`; the row itself does not count as a neighbour.
    Stops after `max_seconds`, but not before MIN_QUERIES. None for a table with fewer than two vectors; IndexUnused if the
    planner uses none of `names` under `settings`: a scan would be compared with a scan, and recall would be 1.
    Reads only; an exact scan reads every vector. Raises StatementFailed if the exact side would not be exact.
    """
    vectors = sample_queries(connection, spec, observed, samples=samples, seed=seed)
    if len(vectors) < 2:
        return None
    plan = explain(connection, statement, {"vector": vectors[0]}, settings=settings)
    if not names & set(plan.index_names):
        return IndexUnused(plan=plan.summary)
    truth = find_truth(connection, spec, observed, vectors, k=k, max_seconds=max_seconds, on_query=on_query)
    return compare(connection, statement, settings, truth, names=names)


def sample_queries(
    connection: Connection, spec: IndexSpec, observed: Observed, *, samples: int, seed: str = "everindex"
) -> list[Any]:
    """The vectors of up to `samples` stored rows, the same for the same seed and table."""
    with translate_errors("sampling query vectors"):
        rows = connection.execute(
            sample_statement(spec, observed), {"seed": seed, "samples": samples}, binary=True
        ).fetchall()
    return [row[0] for row in rows]


def find_truth(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    vectors: list[Any],
    *,
    k: int,
    max_seconds: float,
    are_stored: bool = True,
    on_query: Callable[[int, int], None] | None = None,
) -> Truth:
    """The true neighbours of each vector, until `max_seconds` have passed (but of at least MIN_QUERIES).

    `are_stored`: the vectors are those of rows, and each row is excluded from its own result.
    """
    own_rows = int(are_stored)
    exact = exact_statement(spec, observed, k=k + own_rows)
    _require_exact(connection, exact, {"vector": vectors[0]}, spec)
    deadline = time.monotonic() + max_seconds
    found: list[tuple[Any, tuple[float, ...]]] = []
    times: list[float] = []
    for vector in vectors:
        if len(found) >= MIN_QUERIES and time.monotonic() >= deadline:
            break
        with translate_errors("measuring recall"), under_settings(connection, EXACT_SETTINGS):
            distances, seconds = _distances(connection, exact, vector)
        times.append(seconds)
        found.append((vector, tuple(distances[own_rows : k + own_rows])))  # the query's own row comes first
        if on_query is not None:
            on_query(len(found), len(vectors))
    return Truth(k=k, own_rows=own_rows, queries=tuple(found), exact_ms=_at_share(times, 0.5) * 1000)


def compare(
    connection: Connection,
    statement: sql.Composed,
    settings: Settings,
    truth: Truth,
    *,
    names: frozenset[str],
    inside: Inside = one_transaction,
) -> Recall | IndexUnused:
    """How much of the truth `statement` finds, with a few queries in each transaction that `inside` opens.

    Checks the plan in the first transaction: IndexUnused unless it uses one of `names`.
    """
    counted: list[tuple[int, int]] = []
    times: list[float] = []
    for start in range(0, len(truth.queries), QUERIES_AT_ONCE):
        with translate_errors("measuring recall"), inside(connection):
            set_local(connection, settings)
            for number, (vector, neighbours) in enumerate(truth.queries[start : start + QUERIES_AT_ONCE]):
                if start == number == 0:
                    plan = explain_here(connection, statement, {"vector": vector})
                    if not names & set(plan.index_names):
                        return IndexUnused(plan=plan.summary)
                answer, seconds = _distances(connection, statement, vector)
                times.append(seconds)
                if neighbours:
                    nearest = answer[truth.own_rows : truth.k + truth.own_rows]
                    within = sum(distance <= neighbours[-1] + TIE for distance in nearest)
                    counted.append((min(within, len(neighbours)), len(neighbours)))
    found, wanted = (sum(numbers) for numbers in zip(*counted, strict=True)) if counted else (0, 0)
    low, high = interval(counted)
    return Recall(
        k=truth.k,
        queries=len(truth.queries),
        recall=found / wanted if wanted else 1.0,
        low=low,
        high=high,
        exact_ms=truth.exact_ms,
        approximate_ms=_at_share(times, 0.5) * 1000,
        p95_ms=_at_share(times, 0.95) * 1000,
    )


def _distances(connection: Connection, statement: sql.Composed, vector: Any) -> tuple[list[float], float]:
    started = time.perf_counter()
    rows = connection.execute(statement, {"vector": vector}).fetchall()
    seconds = time.perf_counter() - started
    return sorted(float(row[-1]) for row in rows if row[-1] == row[-1]), seconds


def _require_exact(connection: Connection, exact: sql.Composed, parameters: dict[str, Any], spec: IndexSpec) -> None:
    plan = explain(connection, exact, parameters, settings=EXACT_SETTINGS)
    if plan.index_names:
        raise StatementFailed(
            "recall cannot be measured: the exact side would not be exact.",
            why=f"PostgreSQL plans it with {plan.summary}, although index scans are off.",
            next_step=f"please report this with the plan of a search of {spec.table}.",
        )


def interval(counted: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """The 95 % interval of the share in (found, wanted) of each query: Wilson's, on the effective number of neighbours.

    Misses within one query are correlated, so its neighbours carry less information than as many neighbours of different
    queries: their number is divided by the design effect. Source: Kish, Survey Sampling (1965), 8.2.
    """
    found, wanted = sum(number for number, _ in counted), sum(number for _, number in counted)
    if len(counted) < 2 or found in (0, wanted):
        return wilson(found, wanted)
    share = found / wanted
    between = sum((number - share * of) ** 2 for number, of in counted) * len(counted) / (len(counted) - 1)
    effect = max(1.0, between / wanted**2 / (share * (1 - share) / wanted))
    return wilson(found / effect, wanted / effect)


def wilson(found: float, wanted: float, *, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share, (0, 1) for none. Source: Wilson, JASA 22 (1927)."""
    if wanted == 0:
        return 0.0, 1.0
    share = found / wanted
    centre = share + z * z / (2 * wanted)
    spread = z * math.sqrt(share * (1 - share) / wanted + z * z / (4 * wanted * wanted))
    scale = 1 + z * z / wanted
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _at_share(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
