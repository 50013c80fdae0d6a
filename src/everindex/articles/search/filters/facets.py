"""Facets: how often each value of a column occurs among the rows of a result, and a histogram of dates, in one statement.

Guarantees that at most `most` rows are read, and says whether more exist. Texts longer than MAX_FACET_BYTES are not counted:
they are no values to narrow a search by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql

from everindex.articles.model import Facets, FacetSource, FacetValue, Histogram
from everindex.articles.search.filters.condition_sql import TEXTS, array_text, is_citext
from everindex.articles.search.filters.targets import JSON_TYPES, Target, find_target
from everindex.articles.table import CollectionTable
from everindex.errors import FilterInvalid, QueryInapplicable, QueryInvalid

MAX_FACETS = 10
#: The most frequent values of each; beyond them a list helps nobody.
MAX_FACET_VALUES = 100
MAX_FACET_BYTES = 500
#: Months beyond this, 200 years, are not read.
MAX_MONTHS = 2400
#: A histogram of more months than this is one of years.
MOST_BY_MONTH = 60
_AS_THEY_ARE = ("smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean")
_DATES = ("date", "timestamp without time zone")


@dataclass(frozen=True, slots=True)
class _Facet:
    name: str
    target: Target
    kind: Literal["plain", "text", "json", "array", "date", "date text", "date zone"]


def check_facets(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once. Raises QueryInvalid for too many or for what is no name."""
    found = tuple(dict.fromkeys(names))
    if len(found) > MAX_FACETS or not all(isinstance(name, str) and 0 < len(name) <= 200 for name in found):
        raise QueryInvalid(
            f"{len(found)} facets cannot be counted." if len(found) > MAX_FACETS else "a facet has no possible name.",
            why=f"a search counts the values of up to {MAX_FACETS} columns, named as in a filter with 1 to 200 characters.",
            next_step="name the columns that narrow the search.",
        )
    return found


def facets_statement(
    table: CollectionTable, names: Sequence[str], condition: sql.Composable, *, most: int
) -> tuple[sql.Composed, dict[str, str]]:
    """Rows (number of the facet, value as jsonb, rows) of the first `most` rows for which ` AND …` holds, and the parameters
    of the facets. Number -1 counts all of these rows, up to most + 1. Raises QueryInapplicable."""
    facets = [_facet(table, name) for name in names]
    parameters: dict[str, str] = {}
    columns, counts = [], []
    for number, facet in enumerate(facets):
        columns.append(f"{_expression(facet, number, parameters)} AS f{number}")
        counts.append(_count(facet, number))
    text = sql.SQL(
        "WITH passing AS MATERIALIZED (SELECT {columns} FROM {table} WHERE true{condition} LIMIT {most}) "
        "SELECT -1, NULL::pg_catalog.jsonb, pg_catalog.count(*) FROM passing UNION ALL {counts}"
    ).format(
        columns=sql.SQL(", ".join(columns)),
        table=table.identifier,
        condition=condition,
        most=sql.Literal(most + 1),
        counts=sql.SQL(" UNION ALL ").join(counts),
    )
    return text, parameters


def facets_of(
    table: CollectionTable,
    names: Sequence[str],
    rows: Sequence[tuple[int, Any, int]],
    *,
    source: FacetSource,
    most: int,
) -> Facets:
    """What the rows of `facets_statement` say."""
    counted = next(count for number, _, count in rows if number == -1)
    by_number: dict[int, list[tuple[Any, int]]] = {number: [] for number in range(len(names))}
    for number, value, count in rows:
        if number >= 0:
            by_number[number].append((value, count))
    values: dict[str, tuple[FacetValue, ...]] = {}
    histograms: dict[str, Histogram] = {}
    for number, name in enumerate(names):
        if _facet(table, name).kind.startswith("date"):
            histograms[name] = _histogram(dict(by_number[number]))
        else:
            ordered = sorted(by_number[number], key=lambda each: (-each[1], str(each[0])))
            values[name] = tuple(FacetValue(value=value, rows=count) for value, count in ordered)
    return Facets(
        source=source, counted=min(counted, most), is_complete=counted <= most, values=values, histograms=histograms
    )


def keys_condition(table: CollectionTable, keys: Sequence[Any]) -> tuple[sql.Composable, dict[str, str]]:
    """The condition that a row is one of these."""
    condition = sql.SQL(" AND {} = ANY (%(facet_keys)s::pg_catalog.text[]::{}[])").format(table.key, table.key_type)
    return condition, {"facet_keys": array_text([str(key) for key in keys])}


def _facet(table: CollectionTable, name: str) -> _Facet:
    try:
        target = find_target(table, name, (), "its name")
    except FilterInvalid as exc:
        raise QueryInapplicable(
            f"the facet {name[:80]!r} cannot be counted.", why=exc.what.partition(": ")[2], next_step=exc.next_step
        ) from None
    kind = target.kind
    if kind in JSON_TYPES:
        return _Facet(name, target, "json")
    if kind.endswith("[]"):
        return _Facet(name, target, "array")
    if kind in _DATES:
        return _Facet(name, target, "date")
    if kind == "timestamp with time zone":
        return _Facet(name, target, "date zone")
    if kind in TEXTS and name == table.spec.date:
        return _Facet(name, target, "date text")
    return _Facet(name, target, "plain" if kind in _AS_THEY_ARE else "text")


def _expression(facet: _Facet, number: int, parameters: dict[str, str]) -> str:
    """What is read of a row."""
    column = facet.target.column
    match facet.kind:
        case "json":
            parameters[f"facet{number}"] = array_text(facet.target.members)
            return f"({facet.target.as_jsonb} OPERATOR(pg_catalog.#>) %(facet{number})s::pg_catalog.text[])"
        case "array" | "plain":
            return column
        case "text":
            text = (
                column
                if facet.target.kind in TEXTS and not is_citext(facet.target.kind)
                else f"{column}::pg_catalog.text"
            )
            return f"CASE WHEN pg_catalog.octet_length({text}) <= {MAX_FACET_BYTES} THEN {text} END"
        case "date":
            return f"CASE WHEN {column} BETWEEN '0001-01-01' AND '9999-12-31' THEN pg_catalog.to_char({column}, 'YYYY-MM') END"
        case "date zone":
            return (
                f"CASE WHEN {column} BETWEEN '0001-01-02 UTC' AND '9999-12-31 UTC' "
                f"THEN pg_catalog.to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM') END"
            )
        case _:
            return f"pg_catalog.substring({column}, '^[0-9]{{4}}(?:-(?:0[1-9]|1[0-2]))?(?![0-9])')"


def _count(facet: _Facet, number: int) -> sql.Composed:
    most = MAX_MONTHS if facet.kind.startswith("date") else MAX_FACET_VALUES
    order = "1 DESC" if facet.kind.startswith("date") else "2 DESC, 1"
    source, value, condition = "passing", f"f{number}", f"f{number} IS NOT NULL"
    if facet.kind == "array":
        source, value = (
            f"passing CROSS JOIN LATERAL pg_catalog.unnest(f{number}) AS e(element)",
            "element::pg_catalog.text",
        )
        value = "element" if facet.target.kind[:-2] in (*_AS_THEY_ARE, *TEXTS) else value
        condition = "element IS NOT NULL"
    elif facet.kind == "json":
        source = (
            f"passing CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(CASE pg_catalog.jsonb_typeof(f{number}) "
            f"WHEN 'array' THEN f{number} ELSE pg_catalog.jsonb_build_array(f{number}) END) AS e(element)"
        )
        value = "element"
        condition = (
            "pg_catalog.jsonb_typeof(element) IN ('string', 'number', 'boolean') "
            f"AND pg_catalog.octet_length(element::pg_catalog.text) <= {MAX_FACET_BYTES}"
        )
    return sql.SQL(
        "(SELECT {number}, pg_catalog.to_jsonb(value), rows FROM (SELECT {value} AS value, pg_catalog.count(*) AS rows "
        "FROM {source} WHERE {condition} GROUP BY 1 ORDER BY {order} LIMIT {most}) AS counted)"
    ).format(
        number=sql.Literal(number),
        value=sql.SQL(value),
        source=sql.SQL(source),
        condition=sql.SQL(condition),
        order=sql.SQL(order),
        most=sql.Literal(most),
    )


def _histogram(counts: Mapping[str, int]) -> Histogram:
    """The counts by month, or by year where the months are too many or some dates have none; empty ones between are there."""
    if not counts:
        return Histogram(unit="month", buckets=())
    months = [_month(text) for text in counts if len(text) == 7]
    if len(months) == len(counts) and max(months) - min(months) < MOST_BY_MONTH:
        each = [f"{month // 12:04}-{month % 12 + 1:02}" for month in range(min(months), max(months) + 1)]
        return Histogram(unit="month", buckets=tuple((text, counts.get(text, 0)) for text in each))
    by_year: dict[int, int] = {}
    for text, count in counts.items():
        by_year[int(text[:4])] = by_year.get(int(text[:4]), 0) + count
    years = range(min(by_year), max(by_year) + 1)
    if len(years) > MAX_MONTHS // 12:  # one wrong date must not make thousands of empty years
        return Histogram(unit="year", buckets=tuple((f"{year:04}", by_year[year]) for year in sorted(by_year)))
    return Histogram(unit="year", buckets=tuple((f"{year:04}", by_year.get(year, 0)) for year in years))


def _month(text: str) -> int:
    return int(text[:4]) * 12 + int(text[5:]) - 1
