"""The count of what filters compare: what an index could serve, in memory and bounded.

Columns are counted without values. A value is counted where it is the whole filter, for a partial index of its rows; what is
recorded of these is limited to the common ones (`filter_record.py`).

Counted are comparisons that an index serves by itself: equality and order, not below $not, and not those that only exclude rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from everindex.articles.search.filters.condition_sql import is_range
from everindex.articles.search.filters.conditions import Comparison, Condition, Group, Part
from everindex.articles.search.filters.forms import AnyFilters, ParentFilters, names_of, without_expiry
from everindex.articles.search.filters.targets import JSON_TYPES, find_target
from everindex.articles.table import CollectionTable

#: Kinds of comparison remembered at a time; programs have a few dozen, and clients could make any number.
MOST_USES = 200
#: The same of values; longer ones are no kind of rows.
MOST_VALUES = 1000
MOST_VALUE_CHARS = 200

Compared = Literal["equal", "order", "numbers", "texts"]
"""equal · order: of a column · numbers, texts: by order, of a member of a JSON column."""


@dataclass(frozen=True, slots=True)
class Use:
    """One kind of comparison."""

    column: str
    members: tuple[str, ...]
    """Of a JSON column that is compared by order; equality of any member is served by one index."""

    compared: Compared


class FilterUse:
    """The counts of one collection; safe to use from many threads."""

    def __init__(self) -> None:
        self._counts: dict[Use, int] = {}
        self._values: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def note(self, table: CollectionTable, filters: AnyFilters, *, is_by_vector: bool = False) -> None:
        """Counts one search under filters that fit the table; their value only `is_by_vector`, which a partial index serves."""
        found = set(uses(table, filters))
        value = only_value(table, filters) if is_by_vector else None
        with self._lock:
            if value is not None and (value in self._values or len(self._values) < MOST_VALUES):
                self._values[value] = self._values.get(value, 0) + 1
            for use in found:
                if use in self._counts or len(self._counts) < MOST_USES:
                    self._counts[use] = self._counts.get(use, 0) + 1

    def take(self) -> dict[Use, int]:
        """The counts since the last call."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts

    def take_values(self) -> dict[tuple[str, str], int]:
        """(column, value as PostgreSQL writes it) → searches that filtered by it alone, since the last call."""
        with self._lock:
            values, self._values = self._values, {}
        return values


def uses(table: CollectionTable, filters: AnyFilters) -> Iterator[Use]:
    """What a search under these filters compares."""
    assert not isinstance(filters, ParentFilters)  # noted for the table that they are of
    if isinstance(filters, Condition):
        yield from _of_part(table, filters.root)
        return
    for name in names_of(filters):
        if name in ("since", "until"):
            yield Use(table.spec.date or name, (), "order")
        else:
            yield Use(name, (), "equal")


def only_value(table: CollectionTable, filters: AnyFilters) -> tuple[str, str] | None:
    """The column and the value, as PostgreSQL writes it, of a filter that is one equality; None for any other."""
    condition = without_expiry(filters)
    comparison = None if condition is None else condition.root
    if not isinstance(comparison, Comparison) or comparison.operator != "$eq" or is_range(table, comparison):
        return None
    target, value = find_target(table, comparison.name, comparison.members, comparison.where), comparison.values[0]
    if target.kind in JSON_TYPES or target.kind.endswith("[]") or value.kind == "null":
        return None
    text = {"true": "t", "false": "f"}[value.text] if value.kind == "boolean" else value.text
    return (target.name, text) if len(text) <= MOST_VALUE_CHARS else None


def _of_part(table: CollectionTable, part: Part) -> Iterator[Use]:
    if isinstance(part, Comparison):
        yield from _of_comparison(table, part)
    elif isinstance(part, Group) and part.operator != "$not":
        for each in part.parts:
            yield from _of_part(table, each)


def _of_comparison(table: CollectionTable, comparison: Comparison) -> Iterator[Use]:
    if is_range(table, comparison):
        yield Use(table.spec.date or comparison.name, (), "order")
        return
    target = find_target(table, comparison.name, comparison.members, comparison.where)
    is_json = target.kind in JSON_TYPES
    match comparison.operator:
        case "$eq" | "$in" if comparison.values[0].kind != "null":
            yield Use(target.name, (), "equal")
        case "$gt" | "$gte" | "$lt" | "$lte" | "$between":
            compared: Compared = "numbers" if comparison.values[0].kind == "number" else "texts"
            yield Use(target.name, target.members if is_json else (), compared if is_json else "order")
        case _:
            return
