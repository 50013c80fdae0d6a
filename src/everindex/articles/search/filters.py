"""Filters as statement parameters, and as a condition that the indexes on the columns can serve."""

from __future__ import annotations

import datetime as dt
import re

from psycopg import sql

from everindex.articles.model import MAX_FILTER_CHARS, Filters
from everindex.articles.table import CollectionTable
from everindex.errors import QueryInvalid

_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
#: An existing year, month or day, from 0001 to 9999; a time of day after it is ignored. Valid in ECMA-262 as well.
DATE_PATTERN = (
    "(?!0000)(?:[0-9]{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|1[0-9]|2[0-8]))?|-(?:0[13-9]|1[0-2])-(?:29|30)"
    f"|-(?:0[13578]|1[02])-31)?|{_LEAP}-02-29)(?:[T ][-+0-9:.Z]*)?"
)
_IS_DATE = re.compile(DATE_PATTERN)
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")
#: parameter → (column, operator).
_CONDITIONS = {
    "category": ("category", "="),
    "topic": ("topic", "="),
    "news_source": ("news_source", "="),
    "since": ("publication_date", ">="),
    "until": ("publication_date", "<"),
}


def where(table: CollectionTable, filters: Filters) -> tuple[sql.Composed, dict[str, str]]:
    """The filters as ` AND …`, with parameters cast to the column's own type so that its index can serve them.

    Raises QueryInvalid as `values` does.
    """
    given = values(filters)
    clauses = [
        sql.SQL(" AND {column} {operator} {value}::{kind}").format(
            column=sql.Identifier(column),
            operator=sql.SQL(operator),
            value=sql.Placeholder(name),
            kind=sql.SQL(table.columns[column]),
        )
        for name in given
        for column, operator in (_CONDITIONS[name],)
    ]
    return sql.Composed(clauses), given


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


def first_day(text: str, *, name: str) -> dt.date:
    """The first day of an ISO-8601 date or prefix (`2023`, `2023-02`, `2023-02-07`). Raises QueryInvalid."""
    match = _DATE.match(text) if _IS_DATE.fullmatch(text) else None
    if match is None:
        raise QueryInvalid(
            f"{name} is not a date: {text[:40]!r}.",
            why="dates are ISO-8601: a year, a month or a day.",
            next_step="write it as 2023, 2023-02 or 2023-02-07.",
        )
    return dt.date(int(match[1]), int(match[2] or 1), int(match[3] or 1))


def day_after(text: str, *, name: str) -> dt.date | None:
    """The first day after an ISO-8601 date or prefix, so that `until=2023-02` includes all of February; None after 9999."""
    first = first_day(text, name=name)
    match = _DATE.match(text)
    assert match is not None  # first_day refuses what does not match
    try:
        if match[3]:
            return first + dt.timedelta(days=1)
        if match[2]:
            return (first.replace(day=28) + dt.timedelta(days=4)).replace(day=1)
        return first.replace(year=first.year + 1)
    except (ValueError, OverflowError):
        return None


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
