"""The choice of a search plan: from k, the filter's rows and the index state to a strategy and settings. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from everindex.articles.model import Strategy
from everindex.articles.search.request.search_request import Page, rounded
from everindex.articles.search.vector.filter_history import UNKNOWN, Experience
from everindex.index.catalog.tuned import Tuned, candidates_for, ef_search_for
from everindex.index.spec import MAX_EF_SEARCH
from everindex.units import count_text

#: Cost of one entry from an iterative index scan, in rows of an exact search. A row costs 4 to 6 µs, since its vector
#: is fetched from TOAST; for each entry the scan measures about TUPLES_PER_ENTRY distances
#: (docs/measurements/filtered.md).
ENTRY_COST = {"vector": 6.0, "halfvec": 4.0, "bit": 2.0}
#: hnsw.max_scan_tuples counts the elements whose distance was measured. Beyond it, pgvector returns the entries it had
#: discarded.
TUPLES_PER_ENTRY = 13
#: From this many rows on the planner is pushed to the index; a smaller table is read just as fast. Unassisted, the
#: planner takes the index from a somewhat larger table on (`index.recall.explain.SMALL_TABLE_ROWS`).
PUSHED_FROM_ROWS = 1000
#: Under a filter more rows are fetched than requested, and the nearest kept: an iterative scan returns rows in batches,
#: and a nearer one may be in the next batch. For filters that are clusters, 1.2 finds 98.4 % of the true neighbours, 1
#: finds 97.8 %, and 1.5 finds 98.9 % but takes an eighth longer (docs/measurements/filtered.md).
FETCH_FACTOR = 1.2
#: The same for a filter that is known to be a cluster. The first batch of its scan is half of what its median scan
#: needs, within these bounds: it costs almost nothing more, and comes in order.
CLUSTERED_FETCH_FACTOR = 1.3
CLUSTERED_EF_SEARCH = (40, 200)
#: An index search leaves the planner no choice, and planning would be a tenth of its time.
KEEPS_PLAN = ("plan_cache_mode", "auto")
#: The same from the first search on, whatever its values.
ONE_PLAN = ("plan_cache_mode", "force_generic_plan")
#: A filter may have few rows near the query. Where the server does not count entries, the scan gives up after this many
#: times the entries it would need if the filter were independent of the vectors.
PATIENCE = 20
#: Bit codes lose much of a vector. This many candidates for each neighbour contain nearly all true ones, also where
#: that exceeds the largest ef_search and the scan has to iterate.
CODES_PER_NEIGHBOUR = 4
#: Why a search that could have gone through an index is exact.
NO_INDEX = "no valid vector index is available at the moment"
#: The same where all rows are compared by their codes first.
BY_ROW_CODES = (
    f"{NO_INDEX}: all rows were compared by the sign bits of their vectors, the nearest ones by the full vectors"
)
#: The same of a table below PUSHED_FROM_ROWS.
SMALL_TABLE = "PostgreSQL reads all of a table this small"
#: For an exact search that was not requested: PostgreSQL takes the table for small, since it does not count the TOASTed
#: vectors, and would read it with one process.
PARALLEL = (("min_parallel_table_scan_size", "0"), ("parallel_setup_cost", "0"), ("parallel_tuple_cost", "0"))
#: pgvector's default of hnsw.max_scan_tuples; more does not pay.
MAX_SCAN_TUPLES = 20_000


#: `as-chosen`: through the index, or a search that needs none, or a server that counts nothing. `table`: every row was
#: read. `other`: neither, or only some of the partitions went through the index.
Scanned = Literal["as-chosen", "table", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """A strategy with the settings of its transaction."""

    strategy: Strategy
    reason: str
    """Why this strategy was chosen, for people."""

    ef_search: int | None = None
    fetch: int = 0
    """Rows to take from the index; at least k."""

    candidates: int | None = None
    """How many rows an index of codes supplies, to be ranked by their vectors; None where the index holds the
    vectors."""

    key_type: str = "vector"
    settings: tuple[tuple[str, str], ...] = ()
    continues: bool = False
    """Only rows after the end of the previous page are wanted."""

    gives_up: bool = False
    """The scan iterates until it has its rows, and ends early where too few of those it visits pass the filter."""

    most_entries: int | None = None
    """A scan that visits more index entries than this is not trusted; None where entries are not counted."""

    affordable_entries: int = 0
    """Visiting this many entries costs as much as reading all rows that pass the filter."""

    expected_entries: float = 0.0
    """The entries needed if the filter is independent of the vectors."""

    leaves_ties: bool = False
    """Equally distant rows may come in any order, since the statement was made for the index."""

    passing: int | None = None
    """Rows with a vector that pass the filters, as they were counted for the choice; None without filters."""

    passing_is_least: bool = False
    """Whether there are more, and counting ended there."""

    partial: str | None = None
    """The partial index that holds the rows of the filter, whose values stand in the statement then."""

    @property
    def is_by_index(self) -> bool:
        return self.ef_search is not None

    @property
    def is_exact(self) -> bool:
        """The answer is the start of all rows by (distance, uri): no row before its last one is missing."""
        return not self.is_by_index and not self.leaves_ties

    @property
    def shape(self) -> tuple[Strategy, int, int | None, bool, str | None]:
        """What the text of its statement depends on. Strategies with different settings or order do not share a text, since a
        prepared statement keeps its plan."""
        return self.strategy, self.fetch, self.candidates, self.continues, self.partial

    def why_exact(self, page: Page, notices: Sequence[str]) -> str | None:
        """The notice of an exact search that was not requested; None where `notices` say it, or nobody would wonder."""
        if self.reason == BY_ROW_CODES:
            return f"{BY_ROW_CODES} (exact search)"
        if self.strategy == "exact" and self.reason == NO_INDEX:
            return f"{NO_INDEX}: every row was read (exact search)"
        if self.strategy == "exact" and not page.request.exact and page.after is not None and not notices:
            return f"{self.reason} (exact search)"
        return None

    def least_rows(self, page: Page) -> int:
        """The number of rows below which the index may not have found the nearest.

        An iterative scan under a filter returns all rows that it should fetch unless it gave up. The passing rows are then
        far from the query, and the few that it found need not include the nearest.
        """
        if not self.is_by_index:
            return 0
        if self.gives_up and page.after is None:
            return self.fetch - (page.request.key is not None)
        return page.k


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What the search knows of index and server; refreshed every few seconds."""

    index_name: str | None
    """A valid index that answers searches; None where every search is exact."""

    estimated_rows: int
    has_iterative_scan: bool
    key_type: str = "vector"
    """What the index holds: vector, halfvec or bit. Codes (halfvec, bit) only supply candidates."""

    tuned: Tuned | None = None
    has_row_codes: bool = False
    """The server can compute the sign bits of a vector (pgvector 0.7.0)."""

    indexes: tuple[int, ...] = ()
    """The oid of that index, or of its partitions; empty where the server counts no scans."""

    tables: tuple[int, ...] = ()
    """The oid of the table, or of its partitions."""

    partials: tuple[Serving, ...] = ()
    """The partial indexes, each as what serves the searches under its filter."""

    def by(self, search_plan: SearchPlan) -> Serving:
        """What serves this plan: the partial index, where it goes through one."""
        if search_plan.partial is None:
            return self
        return next((each for each in self.partials if each.index_name == search_plan.partial), self)


@functools.lru_cache(maxsize=1000)
def choose(
    serving: Serving,
    *,
    k: int,
    passing: int | None,
    ef_search: int | None,
    exact: bool,
    experience: Experience = UNKNOWN,
) -> SearchPlan:
    """`passing`: rows that pass the filters, counted up to `counted_up_to(...)` + 1; None without filters.
    `experience`: what earlier scans under these filters have shown."""
    if passing == 0:
        return SearchPlan(strategy="none-match", reason="no row with a vector passes the filter")
    if exact or serving.index_name is None:
        why = "exact search was requested" if exact else NO_INDEX
        found = exactly(is_filtered=passing is not None, reason=why)
        is_parallel = not exact and passing is None and serving.estimated_rows >= PUSHED_FROM_ROWS
        return replace(found, settings=PARALLEL) if is_parallel else found
    if passing is not None:
        if passing <= exact_up_to(serving, k=k):
            return exactly(
                is_filtered=True,
                reason=f"{passing} rows pass the filter: reading all of them is cheaper than the index",
            )
        if not experience.pays:
            return exactly(
                is_filtered=True,
                reason="few rows near most recent queries passed this filter: reading all that pass is cheaper than "
                "the index",
            )
    return _by_index(serving, k=k, passing=passing, ef_search=ef_search, experience=experience)


def exactly(*, is_filtered: bool, reason: str) -> SearchPlan:
    """The plan that reads every row that passes the filter. It needs no settings: the pool's connections plan anew for
    each value."""
    return SearchPlan(strategy="filtered-exact" if is_filtered else "exact", reason=reason)


def as_read(search_plan: SearchPlan, *, reason: str) -> SearchPlan:
    """A search plan as exact, after its statement read every row."""
    exact = exactly(is_filtered=search_plan.strategy.endswith("-filtered"), reason=reason)
    return replace(exact, continues=search_plan.continues, leaves_ties=True)


def exact_up_to(serving: Serving, *, k: int) -> int:
    """The number of passing rows up to which an exact search costs less than an index scan, which visits (rows to find)
    × (all rows) / (passing rows) entries if the filter is independent of the vectors."""
    wanted = _candidates(serving, k=k, fetch=math.ceil(FETCH_FACTOR * k)) or FETCH_FACTOR * k
    return math.isqrt(int(ENTRY_COST[serving.key_type] * wanted * max(serving.estimated_rows, PUSHED_FROM_ROWS)))


def with_count(search_plan: SearchPlan, passing: int | None, *, up_to: int) -> SearchPlan:
    """The plan that says how many rows pass the filters, counted up to `up_to` + 1."""
    if passing is None:
        return search_plan
    return replace(search_plan, passing=min(passing, up_to), passing_is_least=passing > up_to)


def counted_up_to(serving: Serving, *, k: int) -> int:
    """The limit to which passing rows are counted: beyond it their number changes nothing."""
    return max(exact_up_to(serving, k=k), math.ceil(MAX_SCAN_TUPLES / TUPLES_PER_ENTRY * ENTRY_COST[serving.key_type]))


def _candidates(serving: Serving, *, k: int, fetch: int) -> int | None:
    """How many rows an index of codes supplies, to be ranked by their vectors; None for an index of vectors."""
    if serving.key_type == "vector":
        return None
    candidates = max(fetch, candidates_for(k, serving.key_type, serving.tuned))
    if serving.has_iterative_scan and serving.key_type == "bit":
        candidates = max(candidates, CODES_PER_NEIGHBOUR * k)
    return candidates


def _by_index(
    serving: Serving, *, k: int, passing: int | None, ef_search: int | None, experience: Experience
) -> SearchPlan:
    is_filtered = passing is not None
    factor = CLUSTERED_FETCH_FACTOR if experience.is_clustered else FETCH_FACTOR
    fetch = math.ceil(factor * k) if is_filtered else k
    candidates = _candidates(serving, k=k, fetch=fetch)
    chosen = ef_search or min(max(ef_search_for(k, serving.tuned), candidates or 0), MAX_EF_SEARCH)
    name: Strategy = "index" if candidates is None else "reranked"
    reason = f"the index {serving.index_name} finds the nearest"
    if candidates is not None:
        reason = (
            f"the index {serving.index_name} holds codes: {count_text(candidates, 'candidate')} from it are "
            "ranked by their vectors"
        )
    if not is_filtered:
        return SearchPlan(
            strategy=name, reason=reason, ef_search=chosen, fetch=fetch, candidates=candidates,
            key_type=serving.key_type, settings=index_settings(serving, chosen),
        )  # fmt: skip
    assert passing is not None
    if experience.is_clustered and ef_search is None:
        least, most = CLUSTERED_EF_SEARCH
        chosen = max(chosen, min(max(rounded(experience.entries // 2), least), most))
    expected = (candidates or fetch) * max(serving.estimated_rows, 1) / passing
    if not serving.has_iterative_scan and ef_search is None:
        chosen = min(max(chosen, math.ceil(expected)), MAX_EF_SEARCH)  # the first batch is all there will be
    is_counted = serving.has_iterative_scan and len(serving.indexes) == 1
    most_entries = max(int(passing / ENTRY_COST[serving.key_type]), candidates or fetch)
    affordable = most_entries
    if experience.trusted_entries is not None:
        most_entries = min(most_entries, max(experience.trusted_entries, candidates or fetch))
    most_tuples = rounded(TUPLES_PER_ENTRY * most_entries if is_counted else math.ceil(PATIENCE * expected))
    return SearchPlan(
        strategy="index-filtered" if candidates is None else "reranked-filtered",
        reason=f"more than {exact_up_to(serving, k=k)} rows pass the filter; {reason} until enough pass",
        ef_search=chosen,
        fetch=fetch,
        candidates=candidates,
        key_type=serving.key_type,
        gives_up=serving.has_iterative_scan and (candidates is None or is_counted),
        most_entries=most_entries if is_counted else None,
        affordable_entries=affordable,
        expected_entries=expected,
        settings=index_settings(serving, chosen, most_tuples=min(max(1000, most_tuples), MAX_SCAN_TUPLES)),
    )


def index_settings(serving: Serving, ef_search: int, *, most_tuples: int | None = None) -> tuple[tuple[str, str], ...]:
    """Settings of an index search, local to its transaction. `most_tuples` is set where a filter makes the scan
    iterate.

    enable_seqscan = off, because PostgreSQL does not account for the cost of reading a TOASTed vector: from ef_search
    or k of 100 on it considers a sequential scan cheaper, which is a hundred times slower
    (docs/measurements/search.md). Under a filter it would also collect the passing rows by another index and sort them.
    Only one plan remains, so it is kept.
    """
    # A plan for the values of the filter could go through a partial index that happens to fit, unasked.
    keeps_plan = KEEPS_PLAN if most_tuples is None or not serving.partials else ONE_PLAN
    settings = [("hnsw.ef_search", str(ef_search)), keeps_plan]
    if serving.estimated_rows >= PUSHED_FROM_ROWS:
        settings.append(("enable_seqscan", "off"))
        if most_tuples is not None:
            settings += [("enable_bitmapscan", "off"), ("enable_sort", "off")]
    if serving.has_iterative_scan:
        settings.append(("hnsw.iterative_scan", "relaxed_order"))
        if most_tuples is not None:
            settings.append(("hnsw.max_scan_tuples", str(most_tuples)))
    return tuple(settings)


def scanned_by(scans: Sequence[int], *, searches: int, is_partitioned: bool) -> Scanned:
    """What `searches` statements scanned, from the scan counts of index and table (or of all their partitions)."""
    if not scans:
        return "as-chosen"
    by_index, whole = scans
    if by_index >= searches and not (is_partitioned and whole):
        return "as-chosen"
    return "table" if by_index == 0 and whole >= searches else "other"


# --- further pages -----------------------------------------------------------------------------------------------------
#
# An index scan cannot begin in the middle: it finds the rows of the previous pages again and skips them. So page n
# costs n times the first page, until an exact search costs less; from there on every page costs the same.

#: The deepest row that is requested from the index: beyond it, pgvector's scan reaches its own limit
#: (hnsw.max_scan_tuples, 20,000 by default), and its memory limit (hnsw.scan_mem_multiplier) not much later.
MOST_BY_INDEX = 10_000
#: This many rows of an exact search cost as much as one row that the index returns in order
#: (docs/measurements/answers.md).
ROWS_PER_DEPTH = 3.75
#: An iterative scan returns batches, each ordered only within itself: this many times the page size is fetched, and the
#: nearest kept.
PAGE_FETCH_FACTOR = 1.5
#: The k at which the ratio of candidates to neighbours is taken: far from the cap of `candidates_for`.
_K_OF_RATIO = 10


def depth_of(*, k: int, shown: int) -> int:
    """The depth of the page's last row among the nearest rows, rounded up."""
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
) -> SearchPlan:
    """The plan for the k rows after the first `shown`. `passing` and `experience` as in `choose`; `passing` is counted
    for the depth of the page."""
    depth = depth_of(k=k, shown=shown)
    reason = _why_exactly(serving, depth=depth, is_filtered=passing is not None)
    if passing != 0 and reason is not None and not exact and serving.index_name is not None:
        return replace(exactly(is_filtered=passing is not None, reason=reason), continues=True)
    search_plan = choose(serving, k=depth, passing=passing, ef_search=ef_search, exact=exact, experience=experience)
    if not search_plan.is_by_index:
        return replace(search_plan, continues=True)
    candidates = search_plan.candidates
    if candidates is not None:
        candidates = max(candidates, rounded(math.ceil(_candidates_per_row(serving) * depth)))
    return replace(search_plan, fetch=math.ceil(PAGE_FETCH_FACTOR * k), candidates=candidates, continues=True)


def _why_exactly(serving: Serving, *, depth: int, is_filtered: bool) -> str | None:
    """Why the index does not pay at this depth, for people; None where it may."""
    most = MOST_BY_INDEX if serving.has_iterative_scan else MAX_EF_SEARCH // 2
    needed = depth if serving.key_type == "vector" else math.ceil(_candidates_per_row(serving) * depth)
    if needed > most:
        return f"the page lies beyond the first {most:,} rows, the most that are read from the index"
    if not is_filtered and serving.estimated_rows <= max(ROWS_PER_DEPTH * needed, PUSHED_FROM_ROWS):
        return "at this depth, reading every row is cheaper than the index"
    return None


def _candidates_per_row(serving: Serving) -> float:
    return candidates_for(_K_OF_RATIO, serving.key_type, serving.tuned) / _K_OF_RATIO
