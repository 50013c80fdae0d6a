"""Which way is a further page answered? Through the index while it costs less than reading every row. Pure.

An index scan cannot begin in the middle: it finds what the pages before have shown as well, and passes over it. So page n
costs n times the first, until an exact search costs less; from there on every page costs the same.
"""

from __future__ import annotations

import math
from dataclasses import replace

from everindex.articles.search.strategy import SMALL_TABLE_ROWS, Approach, Serving, choose, exactly, rounded
from everindex.articles.search.vector.filter_history import UNKNOWN, Experience
from everindex.index.catalog.tuned import MAX_EF_SEARCH, candidates_for

#: The index is asked for the first so many rows at most: beyond, pgvector's scan ends by itself (hnsw.max_scan_tuples, 20,000
#: by default), and its memory (hnsw.scan_mem_multiplier) not much later.
MOST_BY_INDEX = 10_000
#: So many rows of an exact search cost as much as one that the index gives in its order (docs/measurements/answers.md).
ROWS_PER_DEPTH = 3.75
#: Rows of an iterating scan come in batches, each in its own order: so many times the page are taken, and the nearest kept.
FETCH_FACTOR = 1.5
#: At this k the ratio of candidates to neighbours is read off: far from where `candidates_for` is capped.
_K_OF_RATIO = 10


def depth_of(*, k: int, shown: int) -> int:
    """How many of the nearest rows there are up to the end of the page, roughly and never less."""
    return rounded(shown + k)


def choose_further(
    serving: Serving,
    *,
    k: int,
    shown: int,
    passing: int | None,
    ef_search: int | None,
    exact: bool,
    experience: Experience = UNKNOWN,
) -> Approach:
    """The way to the k rows after the first `shown`; `passing` and `experience` as for `choose`, `passing` counted for the
    depth of the page."""
    depth = depth_of(k=k, shown=shown)
    reason = _why_exactly(serving, depth=depth, is_filtered=passing is not None)
    if passing != 0 and reason is not None and not exact and serving.index_name is not None:
        return replace(exactly(is_filtered=passing is not None, reason=reason), continues=True)
    approach = choose(serving, k=depth, passing=passing, ef_search=ef_search, exact=exact, experience=experience)
    if not approach.is_by_index:
        return replace(approach, continues=True)
    candidates = approach.candidates
    if candidates is not None:
        candidates = max(candidates, rounded(math.ceil(_candidates_per_row(serving) * depth)))
    return replace(approach, fetch=math.ceil(FETCH_FACTOR * k), candidates=candidates, continues=True)


def _why_exactly(serving: Serving, *, depth: int, is_filtered: bool) -> str | None:
    """Why the index does not pay so deep, for people; None where it may."""
    most = MOST_BY_INDEX if serving.has_iterative_scan else MAX_EF_SEARCH // 2
    needed = depth if serving.key_type == "vector" else math.ceil(_candidates_per_row(serving) * depth)
    if needed > most:
        return f"the page lies beyond the first {most:,} rows that the index is asked for"
    if not is_filtered and serving.estimated_rows <= max(ROWS_PER_DEPTH * needed, SMALL_TABLE_ROWS):
        return "so deep, reading every row costs less than the index"
    return None


def _candidates_per_row(serving: Serving) -> float:
    return candidates_for(_K_OF_RATIO, serving.key_type, serving.tuned) / _K_OF_RATIO
