"""Which way is a search answered? Pure: from k, the filter's rows and the state of the index to a strategy and settings."""

from __future__ import annotations

from dataclasses import dataclass

from everindex.articles.model import Strategy

#: pgvector's range of hnsw.ef_search (src/hnsw.c), and its default.
MAX_EF_SEARCH = 1000
DEFAULT_EF_SEARCH = 40
#: Up to so many passing rows an exact search over them is both right and fast: about 8 µs a row, since every vector is
#: fetched from TOAST (docs/measurements/search.md).
FILTERED_EXACT_ROWS = 5000
#: Below so many rows the planner rightly reads the whole table: it is not pushed to the index.
SMALL_TABLE_ROWS = 1000
#: Iterating under a filter: a wider beam than without one, since most candidates do not pass.
FILTERED_EF_SEARCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Approach:
    """A strategy with the settings of its transaction."""

    strategy: Strategy
    ef_search: int | None
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What the search knows of index and server; refreshed every few seconds."""

    index_name: str | None
    """A valid index that serves the operator; None: every search is exact."""

    estimated_rows: int
    has_iterative_scan: bool


def choose(serving: Serving, *, k: int, passing: int | None, ef_search: int | None, exact: bool) -> Approach:
    """`passing`: rows that pass the filters, counted up to FILTERED_EXACT_ROWS + 1; None without filters."""
    if passing == 0:
        return Approach(strategy="none-match", ef_search=None, settings=())
    if passing is not None and (passing <= FILTERED_EXACT_ROWS or exact or serving.index_name is None):
        return Approach(strategy="filtered-exact", ef_search=None, settings=())
    if exact or serving.index_name is None:
        return Approach(strategy="exact", ef_search=None, settings=())
    if passing is not None:
        chosen = ef_search or max(FILTERED_EF_SEARCH, ef_search_for(k))
        return Approach(strategy="index-filtered", ef_search=chosen, settings=index_settings(serving, chosen))
    chosen = ef_search or ef_search_for(k)
    return Approach(strategy="index", ef_search=chosen, settings=index_settings(serving, chosen))


def ef_search_for(k: int) -> int:
    """At least the default, twice k for recall, at most what pgvector takes; beyond that the scan iterates."""
    return min(max(DEFAULT_EF_SEARCH, 2 * k), MAX_EF_SEARCH)


def index_settings(serving: Serving, ef_search: int) -> tuple[tuple[str, str], ...]:
    """Settings of an index search, local to its transaction.

    enable_seqscan = off, because PostgreSQL does not see what a TOASTed vector costs to read: from ef_search or k of 100
    on it takes the whole table for cheaper, a hundred times slower (facts measured in docs/measurements/search.md).
    """
    settings = [("hnsw.ef_search", str(ef_search))]
    if serving.estimated_rows >= SMALL_TABLE_ROWS:
        settings.append(("enable_seqscan", "off"))
    if serving.has_iterative_scan:
        settings.append(("hnsw.iterative_scan", "relaxed_order"))
    return tuple(settings)
