"""Filters as statement parameters, and as a condition that the indexes on the columns can serve.

There are two forms: the five named filters of articles (`Filters`), and conditions of the filter language (`conditions.py`).
Everything else takes either, through the functions here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from psycopg import sql

from everindex.articles.model import MAX_FILTER_CHARS, Filters
from everindex.articles.search.filters.condition_sql import condition_sql, names_a_date
from everindex.articles.search.filters.conditions import (
    Condition,
    Group,
    Part,
    Unexpired,
    all_of,
    equals,
    parse_condition,
)
from everindex.articles.search.filters.days import day_after, first_day
from everindex.articles.table import CollectionTable
from everindex.errors import FilterInvalid, QueryInvalid


@dataclass(frozen=True, slots=True)
class ParentFilters:
    """Filters of a table, for rows of another that belong to its rows: passages of articles."""

    filters: Filters | Condition
    table: CollectionTable
    column: str
    """The column that names the row they belong to."""

    @property
    def is_empty(self) -> bool:
        return self.filters.is_empty


AnyFilters = Filters | Condition | ParentFilters
NO_FILTERS = Filters()
#: Of the five named filters of articles.
NAMES = tuple(field.name for field in fields(Filters))
#: parameter → (column, operator).
_CONDITIONS = {
    "category": ("category", "="),
    "topic": ("topic", "="),
    "news_source": ("news_source", "="),
    "since": ("publication_date", ">="),
    "until": ("publication_date", "<"),
}


@dataclass(frozen=True, slots=True)
class Bound:
    """Filters for one table: their parameters, and what the text of their condition depends on."""

    shape: tuple[str, ...]
    """Filters with the same shape have the same condition text."""

    values: Mapping[str, str]


NOTHING = Bound((), {})


def bind(table: CollectionTable, filters: AnyFilters) -> Bound:
    """The filters for this table. Raises as `where`."""
    if isinstance(filters, ParentFilters):
        return bind(filters.table, filters.filters)
    if isinstance(filters, Condition):
        text, given = condition_sql(table, filters)
        return Bound((text,), given)
    given = values(filters)
    return Bound(tuple(given), given) if given else NOTHING


def where(table: CollectionTable, filters: AnyFilters) -> tuple[sql.Composable, dict[str, str]]:
    """The filters as ` AND …`, with parameters cast to the column's own type so that its index can serve them.

    Raises QueryInvalid as `values` does, FilterInvalid for a condition that does not fit the table.
    """
    if isinstance(filters, ParentFilters):
        return _of_parent(table, filters)
    if isinstance(filters, Condition):
        text, given = condition_sql(table, filters)
        return sql.SQL(f" AND ({text})"), given
    given = values(filters)
    clauses = [
        sql.SQL(" AND {column} {operator} {value}::{kind}").format(
            column=sql.Identifier(column),
            operator=sql.SQL(operator),
            value=sql.Placeholder(name),
            kind=sql.SQL(_type_of(table, column)),
        )
        for name in given
        for column, operator in (_CONDITIONS[name],)
    ]
    return sql.Composed(clauses), given


def both(filters: Filters, more: Mapping[str, Any] | None) -> AnyFilters:
    """The named filters and those of the filter language at once. Raises FilterInvalid."""
    condition = parse_condition(more) if more else None
    if condition is None:
        return filters
    named: list[Part] = [equals(name, value) for name in NAMES if (value := getattr(filters, name))]
    return Condition(all_of([*named, condition.root])) if named else condition


def unexpired(table: CollectionTable, filters: AnyFilters) -> AnyFilters:
    """The filters, and where rows of the table can expire also that a row has not. Raises QueryInvalid as `values` does."""
    assert not isinstance(filters, ParentFilters)  # made of filters that have it already
    if not table.can_expire:
        return filters
    if isinstance(filters, Condition):
        root = filters.root
        is_there = isinstance(root, Unexpired) or (isinstance(root, Group) and Unexpired() in root.parts)
        return filters if is_there else Condition(Group("$and", (root, Unexpired())))
    values(filters)  # refused here as without expiry: as a condition, they would be refused otherwise
    return Condition(
        all_of([*(equals(name, value) for name in NAMES if (value := getattr(filters, name))), Unexpired()])
    )


def expired() -> Condition:
    """Rows that have expired, of a table where they can."""
    return Condition(Group("$not", (Unexpired(),)))


def key_of(filters: AnyFilters) -> Filters | bytes:
    """What stands for the filters where something is remembered about them: small, and without their values where they may
    be many."""
    if isinstance(filters, ParentFilters):
        return key_of(filters.filters)
    return filters.digest if isinstance(filters, Condition) else filters


def as_condition(filters: AnyFilters) -> Condition:
    """The filters (not empty) as a condition: those that say the same in the same order have the same digest, in either
    form."""
    assert not isinstance(filters, ParentFilters)  # what they say is about another table
    if isinstance(filters, Condition):
        return filters
    return Condition(all_of([equals(name, value) for name in NAMES if (value := getattr(filters, name))]))


def without_expiry(filters: AnyFilters) -> Condition | None:
    """The filters as they were given, without the condition that a row has not expired; None where that is all, or where they
    are about another table."""
    if isinstance(filters, ParentFilters):
        return None
    if isinstance(filters, Filters) and filters.is_empty:
        return None
    condition = as_condition(filters)
    root = condition.root
    if isinstance(root, Unexpired):
        return None
    if not isinstance(root, Group) or root.operator != "$and" or Unexpired() not in root.parts:
        return condition
    left = [part for part in root.parts if not isinstance(part, Unexpired)]
    return Condition(all_of(left)) if left else None


def literal_where(table: CollectionTable, filters: AnyFilters) -> str:
    """The condition of filters (not empty) with their values written into it, as a partial index has it. Raises as `where`."""
    text, given = condition_sql(table, as_condition(filters))
    return text % {name: sql.Literal(value).as_string(None) for name, value in given.items()}


def names_of(filters: AnyFilters) -> tuple[str, ...]:
    """Which filters are set, without their values."""
    if isinstance(filters, ParentFilters):
        return names_of(filters.filters)
    if isinstance(filters, Condition):
        return filters.names
    return tuple(name for name in NAMES if getattr(filters, name))


def compares_dates(table: CollectionTable, filters: AnyFilters) -> bool:
    """Whether the filters compare the date of the collection."""
    if isinstance(filters, ParentFilters):
        return compares_dates(filters.table, filters.filters)
    if isinstance(filters, Condition):
        return names_a_date(table, filters)
    return bool(filters.since or filters.until)


def values(filters: Filters) -> dict[str, str]:
    """The parameters of `where`. Filters with the same set of names give the same condition text.

    Raises QueryInvalid for an impossible date, or for a value that no row can have.
    """
    if filters.is_empty:
        return {}
    given: dict[str, str] = {}
    for name, value in (("category", filters.category), ("topic", filters.topic), ("news_source", filters.news_source)):
        if value:
            given[name] = _value(name, value)
    if filters.since:
        given["since"] = first_day(filters.since, name="since").isoformat()
    if filters.until:
        after = day_after(filters.until, name="until")
        if after is not None:
            given["until"] = after.isoformat()
    return given


def _of_parent(table: CollectionTable, filters: ParentFilters) -> tuple[sql.Composable, dict[str, str]]:
    """IS TRUE keeps the planner from joining the two tables, after which no index on the vectors could serve the order; it
    still chooses between one look-up per row and one hash of all that pass."""
    condition, given = where(filters.table, filters.filters)
    parent = filters.table
    return sql.SQL(" AND (EXISTS (SELECT FROM {parent} WHERE {key} = {column}::{key_type}{condition})) IS TRUE").format(
        parent=parent.identifier,
        key=sql.Identifier(parent.schema, parent.spec.table, parent.spec.key),
        column=sql.Identifier(table.schema, table.spec.table, filters.column),
        key_type=parent.key_type,
        condition=condition,
    ), given


def _type_of(table: CollectionTable, column: str) -> str:
    kind = table.columns.get(column)
    if kind is None:
        raise FilterInvalid(
            f"{table.spec.table} has no column {column}.",
            why="Filters are the filters of articles; this collection has other columns.",
            next_step="pass a mapping that names its columns.",
        )
    return kind


def _value(column: str, value: str) -> str:
    try:
        is_possible = "\0" not in value and bool(value.encode()) and len(value) <= MAX_FILTER_CHARS
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise QueryInvalid(
            f"the filter {column} cannot match any article.",
            why=f"its value is not Unicode, contains a NUL, or has more than {MAX_FILTER_CHARS} characters; no article "
            f"has such a value.",
            next_step="correct the value; `everindex search --help` shows the filters.",
        )
    return value
