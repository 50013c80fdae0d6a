"""The filter language over a table with columns of every kind: what passes is what Python says passes."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everindex.articles.search.filters import bind, where
from everindex.articles.search.filters.conditions import parse_condition
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import FilterInvalid
from everindex.pg import roundtrip
from everindex.pg.connections import connect
from filtered_rows import JSON_VALUES, MOMENTS, NUMBERS, SPEC, TOKENS, WORDS, made_rows, passes, store

ROWS = made_rows(150)


@pytest.fixture(scope="module")
def conninfo(cluster: Any) -> Iterator[str]:
    conninfo = cluster.database()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        store(connection, ROWS)
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture(scope="module")
def connection(conninfo: str) -> Iterator[psycopg.Connection]:
    with connect(conninfo) as connection:
        yield connection


@pytest.fixture(scope="module")
def table(connection: psycopg.Connection) -> CollectionTable:
    return read_table(connection, SPEC)


def passing(connection: psycopg.Connection, table: CollectionTable, filters: dict[str, Any]) -> list[int]:
    condition = parse_condition(filters)
    assert condition is not None
    composed, parameters = where(table, condition)
    text, names = roundtrip.positional("SELECT id FROM things WHERE true" + composed.as_string(None) + " ORDER BY id")
    return [row[0] for row in roundtrip.run(connection, (), text, [parameters[name] for name in names])]


def expected(filters: dict[str, Any]) -> list[int]:
    return [row["id"] for row in ROWS if passes(row, filters)]


# --- any filter ------------------------------------------------------------------------------------------------------

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "label": st.sampled_from(WORDS),
    "code": st.sampled_from(WORDS),
    "year": st.sampled_from((*NUMBERS, 2.0, 1.5, 2**40, Decimal("0.50"))),
    "small": st.sampled_from((*NUMBERS, 2.5)),
    "big": st.sampled_from((*NUMBERS, 2**62, 2**63, 2**70)),
    "price": st.sampled_from((0, 1, 0.5, 1.01, Decimal("2.50"), Decimal("0.001"))),
    "score": st.sampled_from((0.1, 2.5, 0, 1e300, -1.5)),
    "ratio": st.sampled_from((0.25, 0.5, 3, 1e300, 1e-60)),
    "done": st.booleans(),
    "day": st.sampled_from((*(moment.date() for moment in MOMENTS), "2024-01-02", MOMENTS[4])),
    "seen": st.sampled_from(
        (*MOMENTS, "2024-01-02", "2024-01-01T21:00:00Z", "2024-01-01T23:00+02:00", MOMENTS[3].date())
    ),
    "made": st.sampled_from((*MOMENTS, MOMENTS[2].replace(tzinfo=None), "2024-01-02T04:00:00", MOMENTS[3].date())),
    "token": st.sampled_from((*TOKENS, str(TOKENS[1]))),
    "mood": st.sampled_from(("calm", "loud", "other")),
    "tags": st.sampled_from(WORDS),
    "sizes": st.sampled_from((*NUMBERS, 1.5, 2**40)),
    "days": st.sampled_from(tuple(moment.date() for moment in MOMENTS)),
    'odd "name" 100%': st.sampled_from(WORDS),
    "a.b": st.sampled_from(WORDS),
}
WITHOUT_ORDER = ("done", "mood", "tags", "sizes", "days", "token")
SCALARS = [value for value in JSON_VALUES if not isinstance(value, (list, dict)) and value is not None] + ["2"]
MEMBERS = ("meta.a", "meta.b", "meta.b.c", "extra.a", "extra.b.c", "meta", "extra")


@st.composite
def operators(draw: st.DrawFn, values: st.SearchStrategy[Any], *, is_ordered: bool, is_text: bool) -> dict[str, Any]:
    """What is said of one column."""
    names = ["$eq", "$ne", "$in", "$nin", "$exists", "$not"]
    names += ["$gt", "$gte", "$lt", "$lte", "$between"] if is_ordered else []
    names += ["$like", "$ilike"] if is_text else []
    found: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        match name:
            case "$exists":
                found[name] = draw(st.booleans())
            case "$in" | "$nin":
                found[name] = draw(st.lists(values | st.none(), min_size=1, max_size=3))
            case "$between":
                first = draw(values)
                found[name] = [first, draw(values.filter(lambda each, first=first: type(each) is type(first)))]
            case "$like" | "$ilike":
                found[name] = draw(st.sampled_from(("%e%", "AM%", "_u_e", "100\\%", "%\\\\%", "%_", "a\\_b", "")))
            case "$not":
                found[name] = draw(operators(values, is_ordered=is_ordered, is_text=is_text))
            case "$eq" | "$ne":
                found[name] = draw(values | st.none())
            case _:
                found[name] = draw(values)
    return found


@st.composite
def comparisons(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(VALUES)))
        values = VALUES[name]
        is_text = name in ("label", "code", 'odd "name" 100%', "a.b")
        said = draw(values | operators(values, is_ordered=name not in WITHOUT_ORDER, is_text=is_text))
        return {name: said}
    name = draw(st.sampled_from(MEMBERS))
    kind = draw(st.sampled_from((str, (int, float))))
    some = st.sampled_from([each for each in SCALARS if isinstance(each, kind) and not isinstance(each, bool)])
    said = draw(
        st.sampled_from(SCALARS)
        | operators(some, is_ordered=True, is_text=kind is str)
        | operators(st.sampled_from(SCALARS), is_ordered=False, is_text=False)
    )
    if "." in name and draw(st.booleans()):
        column, *members = name.split(".")
        for member in reversed(members):
            said = {member: said}
        return {column: said}
    return {name: said}


FILTERS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$and": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$or": parts}),
        inner.map(lambda part: {"$not": part}),
        st.tuples(inner, inner).map(lambda two: {**two[0], **two[1]}),
    ),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(filters=FILTERS)
def test_any_filter_passes_the_rows_that_python_says_pass(
    connection: psycopg.Connection, table: CollectionTable, filters: dict[str, Any]
) -> None:
    assert passing(connection, table, filters) == expected(filters)


@pytest.mark.parametrize(
    "filters",
    [
        {"label": "amber"}, {"label": {"$eq": "amber"}}, {"label": None}, {"label": {"$ne": "amber"}},
        {"year": {"$in": [1, 2]}}, {"year": {"$nin": [1, 2]}}, {"year": {"$nin": [1, None]}}, {"year": {"$gt": 1}},
        {"year": {"$gte": 1}}, {"year": {"$lt": 1}}, {"year": {"$lte": 1.5}}, {"year": {"$between": [0, 2]}},
        {"label": {"$like": "%e%"}}, {"label": {"$ilike": "AM%"}}, {"label": {"$exists": False}}, {"tags": "amber"},
        {"tags": {"$in": ["amber", "dune"]}}, {"tags": {"$nin": ["amber"]}}, {"meta.a": 1}, {"meta.a": True}, {"meta.a": "5"},
        {"meta.a": {"$gte": 1}}, {"meta.a": {"$gt": "a"}}, {"meta": {"b": {"c": {"$exists": True}}}},
        {"meta": {"b": {"x.y": "amber"}}}, {"seen": {"$gte": "2024-01-02"}}, {"done": True}, {"token": TOKENS[2]},
        {"day": dt.date(2024, 1, 2)}, {"mood": "calm"}, {"$not": {"label": "amber", "year": {"$gt": 0}}},
    ],
    ids=str,
)  # fmt: skip
def test_each_operator_passes_some_rows_and_not_others(
    connection: psycopg.Connection, table: CollectionTable, filters: dict[str, Any]
) -> None:
    found = passing(connection, table, filters)
    assert found == expected(filters)
    assert 0 < len(found) < len(ROWS)


def test_a_filter_and_its_negation_share_the_rows_between_them(
    connection: psycopg.Connection, table: CollectionTable
) -> None:
    for name, value in (("label", "amber"), ("year", 1), ("tags", "amber"), ("meta.a", 1), ("done", True)):
        there = passing(connection, table, {name: value})
        for negated in ({name: {"$ne": value}}, {name: {"$nin": [value]}}, {"$not": {name: value}}):
            others = passing(connection, table, negated)
            assert sorted([*there, *others]) == [row["id"] for row in ROWS], negated


# --- refused by the table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"yaer": 5}, r"things has no column yaer(.|\n)*did you mean year\?"),
        ({"nothing.like": 5}, "things has no column nothing.like"),
        ({"embedding": [1]}, None),
        ({"embedding": "[1,2,3]"}, "embedding holds the vectors"),
        ({"since": "2024"}, "things has no column since"),
        ({"label.x": 5}, "label has no members"),
        ({"label": {"x": 5}}, "label has no members"),
        ({"meta.": 5}, "a member without a name"),
        ({"meta..a": 5}, "a member without a name"),
        ({"label": 5}, "at label: the value is a number, and label is of type text"),
        ({"year": "2024"}, "the value is a text, and year is of type integer"),
        ({"year": True}, "the value is a boolean"),
        ({"price": "1"}, "type numeric"),
        ({"score": "1"}, "type double precision"),
        ({"done": 1}, "type boolean"),
        ({"done": {"$in": [True, "x"]}}, "type boolean"),
        ({"day": "2024"}, "since and until take a year"),
        ({"day": "2024-02-30"}, "a text that is none"),
        ({"day": 5}, "the value is a number"),
        ({"seen": "infinity"}, "a text that is none"),
        ({"seen": "yesterday"}, "a text that is none"),
        ({"token": "x"}, "a text that is none"),
        ({"sizes": "x"}, "the elements of sizes are of type integer"),
        ({"tags": {"$gt": "a"}}, "tags is an array"),
        ({"tags": {"$like": "a"}}, "tags is no text"),
        ({"year": {"$like": "1%"}}, "year is no text"),
        ({"mood": {"$gt": "calm"}}, r"\$gt cannot compare mood"),
        ({"mood": True}, "type mood"),
        ({"meta.a": {"$between": [1, "b"]}}, "a number and a text are compared at once"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_the_table_is_refused_with_its_place(
    connection: psycopg.Connection, table: CollectionTable, filters: dict[str, Any], said: str | None
) -> None:
    with pytest.raises(FilterInvalid, match=said):
        passing(connection, table, filters)


# --- statements ------------------------------------------------------------------------------------------------------

HOSTILE = (
    "'; DROP TABLE things; --", '"; DROP TABLE things; --', "') OR true --", "%(vector)s", "%s", "%%", "x$1", "\\", "{", "}",
    '","', "NULL", "a'b\"c\\d", "*/", "\n--", "\u202e", "';SELECT pg_sleep(9)--",
)  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_values_and_names_are_only_compared(
    connection: psycopg.Connection, table: CollectionTable, hostile: str
) -> None:
    for filters in (
        {"label": hostile}, {"label": {"$in": [hostile, hostile * 2]}}, {"tags": hostile}, {"meta.a": hostile},
        {"meta": {hostile: hostile}}, {"meta": {hostile: {"$gt": hostile}}}, {"mood": hostile},
        {"label": {"$ilike": hostile.replace("\\", "").replace("%", "\\%") + "_"}},
            {"extra": {"b": {hostile: {"$exists": True}}}},
    ):  # fmt: skip
        assert passing(connection, table, filters) == []
        condition = parse_condition(filters)
        assert condition is not None
        if len(hostile) > 6:
            assert hostile not in bind(table, condition).shape[0]
    if "." not in hostile:
        with pytest.raises(FilterInvalid, match="has no column"):
            passing(connection, table, {hostile if not hostile.startswith("$") else f"x{hostile}": 1})
    assert len(passing(connection, table, {"id": {"$gte": 0}})) == len(ROWS)


def test_a_hostile_row_is_found_by_its_own_value(conninfo: str, table: CollectionTable) -> None:
    with connect(conninfo) as connection:
        for number, hostile in enumerate(HOSTILE):
            connection.execute(
                "INSERT INTO things (id, label, tags, meta) VALUES (%s, %s, %s, jsonb_build_object(%s::text, %s::text))",
                (1000 + number, hostile, [hostile], hostile, hostile),
            )
        try:
            for number, hostile in enumerate(HOSTILE):
                for filters in ({"label": hostile}, {"tags": {"$in": [hostile]}}, {"meta": {hostile: hostile}},
                                {"meta": {hostile: {"$lte": hostile, "$gte": hostile}}}):  # fmt: skip
                    assert passing(connection, table, filters) == [1000 + number], filters
        finally:
            connection.execute("DELETE FROM things WHERE id >= 1000")


def test_filters_of_one_shape_share_their_statement(table: CollectionTable) -> None:
    def shape(filters: dict[str, Any]) -> tuple[str, ...]:
        condition = parse_condition(filters)
        assert condition is not None
        return bind(table, condition).shape

    assert shape({"label": "a", "year": {"$in": [1]}}) == shape({"label": "b", "year": {"$in": [2, 3, 4]}})
    assert shape({"meta.a": 1}) == shape({"meta.b": "x"}) == shape({"meta": {"c": True}})
    assert shape({"meta.a": {"$gt": 1}}) == shape({"meta.b.c": {"$gt": 2.5}})
    assert shape({"label": "a"}) != shape({"code": "a"})


@pytest.mark.parametrize(
    ("index", "filters"),
    [
        ("(label)", {"label": "amber"}),
        ("(label)", {"label": {"$in": ["amber", "dune"]}}),
        ("(year)", {"year": {"$between": [1, 2]}}),
        ("(seen)", {"seen": {"$gte": "2024-01-04"}}),
        ("(token)", {"token": str(uuid.UUID(int=1))}),
        ("USING gin (tags)", {"tags": "amber"}),
        ("USING gin (tags)", {"tags": {"$in": ["amber", "dune"]}}),
        ("USING gin (meta jsonb_path_ops)", {"meta.a": "amber"}),
        ("USING gin (meta)", {"meta.b.c": {"$in": [1, True]}}),
        (
            "((CASE WHEN jsonb_typeof(meta #> '{a}') = 'number' THEN (meta #>> '{a}')::numeric END))",
            {"meta.a": {"$gte": 2}},
        ),
        (
            "((CASE WHEN jsonb_typeof(meta #> '{b,c}') = 'string' THEN meta #>> '{b,c}' END) COLLATE \"C\")",
            {"meta.b.c": {"$lt": "b"}},
        ),
    ],
    ids=str,
)
def test_the_index_on_a_column_or_member_can_serve_the_filter(
    conninfo: str, table: CollectionTable, index: str, filters: dict[str, Any]
) -> None:
    condition = parse_condition(filters)
    assert condition is not None
    composed, parameters = where(table, condition)
    with psycopg.connect(conninfo) as connection:
        connection.execute(f"CREATE INDEX served ON things {index}")
        connection.execute("SET LOCAL enable_seqscan = off")
        # Planned for the values, as on the connections of an instance; psycopg's own binding would write them down.
        text, names = roundtrip.positional("SELECT id FROM things WHERE true" + composed.as_string(None))
        connection.execute(f"PREPARE asked AS {text}")
        arguments = ", ".join("'" + parameters[name].replace("'", "''") + "'" for name in names)
        connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN EXECUTE asked({arguments})").fetchall())
        connection.rollback()
    assert "served" in plan, plan
