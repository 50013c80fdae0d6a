"""The evidence against a serving index: measured recall and size per row, never its age. The judgement is pure.

Samples of recall are judged in `recall/judgement.py`. A measurement reads only, and ends when its time limit is reached.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from everindex.errors import StatementTimedOut
from everindex.index.build.footprint import index_bytes
from everindex.index.build.vector_index import count_rows
from everindex.index.catalog.index_parts import names_of, size_of
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.recall.explain import FORCED, SMALL_TABLE_ROWS
from everindex.index.recall.history import RecallSample
from everindex.index.recall.judgement import Baseline, Evidence
from everindex.index.recall.measurement import Recall, compare, find_truth, sample_queries
from everindex.index.recall.probe import probe_settings, probe_statement
from everindex.index.recall.query_sample import STORED_ROWS, Queries
from everindex.index.spec import DEFAULT_K, IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.vector_type import register_all_types
from everindex.units import count_text, size_text

#: Maximum number of queries of one measurement; fewer if exact scans are expensive.
QUERIES_AT_A_TIME = 10
#: Assumed cost of an exact scan before one is measured: every vector is fetched from TOAST (docs/measurements/search.md).
EXACT_SECONDS_PER_ROW = 10e-6
#: If a table turns out to be slower than expected by this factor, the measurement is aborted.
SLOWER = 4

#: An index is too big when it takes this many times the size that its rows need, as in pg_index_watch.
TIMES_TOO_BIG = 2.0
#: Below these sizes, a few half-empty pages dominate the ratio.
BIG_BYTES = 4 * 1024 * 1024
BIG_ROWS = 1000


# --- recall ----------------------------------------------------------------------------------------------------------


def queries_within(seconds: float, *, rows: int, past: Sequence[RecallSample]) -> int:
    """How many queries can be measured in that time; 0 if not even one exact scan fits."""
    exact_seconds = past[-1].exact_ms / 1000 if past else rows * EXACT_SECONDS_PER_ROW
    return min(QUERIES_AT_A_TIME, int(seconds / max(exact_seconds, 1e-6)))


def measure(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    *,
    queries: int,
    seconds: float,
    seed: str,
    of_searches: Queries | None = None,
) -> RecallSample | None:
    """Recall of the serving index on so many `queries` of searches, or of stored vectors where `of_searches` is None, chosen by
    `seed`, compared with exact scans.

    None when there is nothing to compare, when the planner does not use the index even when forced to (`verify` reports
    why), and when it would take several times `seconds`. Reads only.
    """
    register_all_types(connection)
    limit_ms = int(max(1.0, seconds) * SLOWER * 1000)
    connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, false)", (str(limit_ms),))
    try:
        if of_searches is None:
            vectors = sample_queries(connection, spec, observed, samples=queries, seed=seed)
        else:
            vectors = random.Random(seed).sample(of_searches.vectors, min(queries, len(of_searches.vectors)))
        if not vectors:
            return None
        truth = find_truth(
            connection,
            spec,
            observed,
            vectors,
            k=DEFAULT_K,
            max_seconds=seconds,
            are_stored=of_searches is None or of_searches.are_stored,
        )
        measured = compare(
            connection,
            probe_statement(spec, observed, k=DEFAULT_K + 1),
            (*probe_settings(spec, observed, k=DEFAULT_K), *FORCED),
            truth,
            names=names_of(spec, observed),
        )
    except StatementTimedOut:
        return None
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_catalog.set_config('statement_timeout', '0', false)")
    wanted = sum(len(neighbours) for _, neighbours in truth.queries)
    if not isinstance(measured, Recall) or wanted == 0:
        return None
    return RecallSample(
        k=DEFAULT_K,
        queries=measured.queries,
        found=round(measured.recall * wanted),
        wanted=wanted,
        exact_ms=measured.exact_ms,
        approximate_ms=measured.approximate_ms,
        source=STORED_ROWS if of_searches is None else of_searches.source,
    )


def is_worth_measuring(observed: Observed) -> bool:
    """False for a table so small that the planner reads all of it."""
    return observed.estimated_rows >= SMALL_TABLE_ROWS


# --- size ------------------------------------------------------------------------------------------------------------


def judge_size(
    spec: IndexSpec,
    *,
    rows: int,
    dimensions: int,
    size_bytes: int,
    graph: str,
    baseline: Baseline | None,
) -> Evidence | None:
    """Evidence when the index takes more than TIMES_TOO_BIG times the size that its rows need, by pgvector's page layout.

    A graph that was built on such evidence is compared with its own initial size, which is better than any formula.
    """
    if rows < BIG_ROWS or size_bytes < BIG_BYTES:
        return None
    expected = float(index_bytes(rows=rows, dimensions=dimensions, m=spec.m, key_type=spec.key_type))
    if baseline is not None and baseline.kind == "size" and baseline.graph == graph:
        expected = max(expected, baseline.bytes_per_row * rows)
    if size_bytes <= TIMES_TOO_BIG * expected:
        return None
    return Evidence(
        kind="size",
        sentence=f"the serving index takes {size_text(size_bytes)} for {count_text(rows, 'row')}, but needs only "
        f"{size_text(expected)}",
    )


def see_size(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    found: ObservedIndex,
    *,
    graph: str,
    baseline: Baseline | None,
) -> Evidence | None:
    """The same for the existing index. Reads only; counts the rows if the statistics suggest that it is too big."""
    if observed.dimensions is None:
        return None
    size = size_of(observed, found)

    def judged(rows: int) -> Evidence | None:
        assert observed.dimensions is not None
        return judge_size(
            spec,
            rows=rows,
            dimensions=observed.dimensions,
            size_bytes=size,
            graph=graph,
            baseline=baseline,
        )

    # Statistics may be older than a load, so they are only a reason to count.
    if judged(max(BIG_ROWS, observed.estimated_rows)) is None:
        return None
    return judged(count_rows(connection, spec))
