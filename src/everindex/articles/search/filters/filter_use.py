"""The count of what filters compare, by column and without values: what an index could serve, in memory and bounded.

Counted are comparisons that an index serves by itself: equality and order, not below $not, and not those that only exclude rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from everindex.articles.search.filters.condition_sql import is_range
from everindex.articles.search.filters.conditions import Comparison, Condition, Group, Part
from everindex.articles.search.filters.forms import AnyFilters, names_of
from everindex.articles.search.filters.targets import JSON_TYPES, find_target
from everindex.articles.table import CollectionTable

#: Kinds of comparison remembered at a time; programs have a few dozen, and clients could make any number.
MOST_USES = 200

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
        self._lock = threading.Lock()

    def note(self, table: CollectionTable, filters: AnyFilters) -> None:
        """Counts one search under filters that fit the table."""
        found = set(uses(table, filters))
        with self._lock:
            for use in found:
                if use in self._counts or len(self._counts) < MOST_USES:
                    self._counts[use] = self._counts.get(use, 0) + 1

    def take(self) -> dict[Use, int]:
        """The counts since the last call."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts


def uses(table: CollectionTable, filters: AnyFilters) -> Iterator[Use]:
    """What a search under these filters compares."""
    if isinstance(filters, Condition):
        yield from _of_part(table, filters.root)
        return
    for name in names_of(filters):
        if name in ("since", "until"):
            yield Use(table.spec.date or name, (), "order")
        else:
            yield Use(name, (), "equal")


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
