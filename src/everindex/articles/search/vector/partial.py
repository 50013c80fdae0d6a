"""Searches through a partial vector index: under a filter that has one, and exactly that filter.

The index holds exactly the rows that pass, so that a search through it is one without a filter: no counting, no iterating. Its
predicate must stand in the statement as the index has it: with a parameter, the planner could not tell that they agree. Where
rows can expire, the statement has that condition beside it.
"""

from __future__ import annotations

from dataclasses import replace

from everindex.articles.search.filters import AnyFilters, without_expiry
from everindex.articles.search.vector.strategy import SearchPlan, Serving, choose, choose_further
from everindex.articles.table import CollectionTable
from everindex.index.catalog.partial_names import partial_name

#: Of the ways to the rows of the filter only the index scan in order is left, as for a filter without an index of its own.
ONE_WAY = (("enable_bitmapscan", "off"), ("enable_sort", "off"))


def partial_of(serving: Serving, table: CollectionTable, filters: AnyFilters) -> Serving | None:
    """The partial index that holds the rows of these filters, as what serves; None without one."""
    condition = without_expiry(filters)
    if condition is None:
        return None
    name = partial_name(table.spec.table, condition.digest)
    return next((each for each in serving.partials if each.index_name == name), None)


def choose_partial(partial: Serving, *, k: int, shown: int | None, ef_search: int | None) -> SearchPlan:
    """The plan for k rows, after the first `shown` of an earlier page."""
    if shown is None:
        found = choose(partial, k=k, passing=None, ef_search=ef_search, exact=False)
    else:
        found = choose_further(partial, k=k, shown=shown, passing=None, ef_search=ef_search, exact=False)
    if not found.is_by_index:
        return found
    return replace(
        found, strategy="partial-index", settings=(*found.settings, *ONE_WAY), partial=partial.index_name,
        reason=f"the partial index {partial.index_name} holds exactly the rows that pass the filter",
    )  # fmt: skip
