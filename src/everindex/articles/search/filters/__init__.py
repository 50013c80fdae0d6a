"""Filters: the five named ones of articles, and the filter language over the columns of any table."""

from everindex.articles.search.filters.forms import (
    NAMES,
    NO_FILTERS,
    NOTHING,
    AnyFilters,
    Bound,
    bind,
    both,
    compares_dates,
    expired,
    key_of,
    names_of,
    unexpired,
    values,
    where,
)

__all__ = [
    "NAMES",
    "NOTHING",
    "NO_FILTERS",
    "AnyFilters",
    "Bound",
    "bind",
    "both",
    "compares_dates",
    "expired",
    "key_of",
    "names_of",
    "unexpired",
    "values",
    "where",
]
