"""Filters of the filter language before any table: what is read, what is refused and where, what stands for a filter."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from everindex.articles.declared import ARTICLES
from everindex.articles.model import Filters
from everindex.articles.search.filters import NO_FILTERS, both, key_of, names_of
from everindex.articles.search.filters.conditions import (
    MAX_DEPTH,
    MAX_JSON_CHARS,
    MAX_PARTS,
    MAX_VALUES,
    Condition,
    parse_condition,
    parse_json,
)
from everindex.articles.search.request.search_request import as_filters
from everindex.errors import FilterInvalid


def condition(mapping: dict[str, Any]) -> Condition:
    found = parse_condition(mapping)
    assert found is not None
    return found


def nested(depth: int) -> dict[str, Any]:
    return {"$not": nested(depth - 1)} if depth else {"a": 1}


@pytest.mark.parametrize(
    ("mapping", "where", "said"),
    [
        ({"year": {"$gtt": 5}}, "year.$gtt", "there is no operator $gtt"),
        ({"$nor": [{"a": 1}]}, "$nor", "no column can be named $nor"),
        ({"$gte": 5}, "$gte", 'write it as  {"column": {"$gte": value}}'),
        ({"year": {"$in": []}}, "year.$in", "its list is empty"),
        ({"year": {"$in": 5}}, "year.$in", "a list is missing"),
        ({"year": {"$in": "abc"}}, "year.$in", "a list is missing"),
        ({"year": {"$between": [1, 2, 3]}}, "year.$between", "$between has 3 values"),
        ({"year": {"$gt": None}}, "year.$gt", "null has no order"),
        ({"year": {"$lte": True}}, "year.$lte", "boolean has no order"),
        ({"year": [1, 2]}, "year", "use $in"),
        ({"year": {"$eq": {"a": 1}}}, "year.$eq", "a mapping cannot be a value"),
        ({"year": {}}, "year", "nothing is compared"),
        ({"meta": {"author": "x", "$eq": "y"}}, "meta", "operators and members are mixed"),
        ({"year": {"$or": [{"$lt": 1}]}}, "year.$or", "put $and and $or above the column"),
        ({"$or": []}, "$or", "a list of conditions is missing"),
        ({"$or": {"a": 1}}, "$or", "a list of conditions is missing"),
        ({"$and": ["a"]}, "$and[0]", "a mapping that names a column is missing"),
        ({"$and": [{"a": 1}, {"$or": [{"b": {"$exists": "yes"}}]}]}, "$and[1].$or[0].b.$exists", "true or false is missing"),
        ({"$not": {}}, "$not", "a mapping that names a column is missing"),
        ({"a": {"$like": 5}}, "a.$like", "a pattern is missing"),
        ({"a": {"$like": "x\\"}}, "a.$like", "ends with its escape character"),
        ({"a": math.nan}, "a", "this number cannot be compared"),
        ({"a": math.inf}, "a", "this number cannot be compared"),
        ({"a": 10**400}, "a", "this number cannot be compared"),
        ({"a": Decimal("1e-999")}, "a", "this number cannot be compared"),
        ({"a": Decimal("sNaN")}, "a", "this number cannot be compared"),
        ({"a": "x\0"}, "a", "no row can have this text"),
        ({"a": "\ud800"}, "a", "no row can have this text"),
        ({"a": "x" * 2001}, "a", "no row can have this text"),
        ({"a": b"x"}, "a", "type bytes"),
        ({"a": object()}, "a", "type object"),
        ({"a\0": 1}, "its top", "a name cannot be"),
        ({"": 1}, "its top", "a name cannot be"),
        ({5: 1}, "its top", "a name cannot be"),
        ({"a": {5: 1}}, "a", "a name cannot be"),
        ({"\ud800": 1}, "its top", "a name cannot be"),
        ({"x" * 201: 1}, "its top", "a name cannot be"),
        (nested(MAX_DEPTH), None, "nested too deeply"),
        ({"$or": [{"a": 1}] * MAX_PARTS}, None, f"this is its part {MAX_PARTS + 1}"),
        ({"a": {"$in": list(range(MAX_VALUES + 1))}}, "a.$in", "more than 1,000 values"),
    ],
)  # fmt: skip
def test_a_filter_that_is_wrong_is_refused_at_its_place(mapping: Any, where: str | None, said: str) -> None:
    with pytest.raises(FilterInvalid) as caught:
        parse_condition(mapping)
    told = str(caught.value)
    assert said in told
    if where is not None:
        assert f"the filter is wrong at {where}:" in told
    lines = told.splitlines()
    assert [line[:7] for line in lines[1:]] == ["  why: ", "  next:"]


def test_a_message_shows_a_hostile_name_on_one_line_and_no_value() -> None:
    with pytest.raises(FilterInvalid) as caught:
        parse_condition({"a\nnext: rm -rf": {"$in": ["secret", object()]}})
    assert len(str(caught.value).splitlines()) == 3
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"), ("[1]", "not a JSON object"), ('{"a": NaN}', "NaN is not a JSON number"), ('{"a": 1', "not JSON"),
        ('{"a": {"$gt": 1}, "a": {"$lt": 5}}', "stands twice"), ("[" * 100_000, "not JSON"),
        (" " * (MAX_JSON_CHARS + 1), "100,001 characters"),
    ],
)  # fmt: skip
def test_a_text_that_holds_no_filter_is_refused(text: str, said: str) -> None:
    with pytest.raises(FilterInvalid, match=said):
        parse_json(text)


def test_filters_are_equal_where_their_parts_are_and_only_then() -> None:
    assert condition({"a": 1, "b": {"$gt": 2}}) == condition({"a": {"$eq": 1}, "b": {"$gt": 2}})
    different = [
        {"a": 1}, {"a": True}, {"a": "1"}, {"a": None}, {"a": "None"}, {"a": {"$ne": 1}}, {"a.b": 1}, {"a": {"b": 1}},
        {"a": {"$in": [1]}}, {"a": {"$in": ["1,2"]}}, {"a": {"$in": ["1", "2"]}}, {"$not": {"a": 1}}, {"$or": [{"a": 1}]},
        {"a": dt.date(2024, 1, 1)}, {"a": "2024-01-01"},
    ]  # fmt: skip
    assert len({condition(each) for each in different}) == len(different)
    assert len({condition(each).digest for each in different}) == len(different)


def test_values_of_programs_are_read_as_those_of_json() -> None:
    same = [5, np.int64(5), np.int16(5), Decimal(5)]
    assert len({condition({"a": each}) for each in same}) == 1
    assert condition({"a": np.float32(0.5)}) == condition({"a": 0.5})
    assert condition({"a": np.bool_(True)}) == condition({"a": True})
    assert condition({"a": uuid.UUID(int=1)}) == condition({"a": str(uuid.UUID(int=1))})
    assert condition({"a": {"$in": {"x", "y"}}}) == condition({"a": {"$in": ("x", "y")}})
    assert condition(dict(parse_json('{"a": 0.1}'))) == condition({"a": 0.1})


def test_names_are_told_without_values() -> None:
    found = condition({"$or": [{"a": "secret"}, {"meta": {"b": {"$gt": 77}}}, {"a": "x"}], "odd\nname": 1})
    assert found.names == ("a", "meta.b", "odd\N{REPLACEMENT CHARACTER}name")
    assert names_of(Filters(category="secret", since="2024")) == ("category", "since")


def test_the_named_filters_of_articles_stay_what_they_are() -> None:
    assert as_filters(None) is NO_FILTERS
    assert as_filters({}) == Filters()
    assert as_filters({"category": "x", "since": "2024", "topic": None}) == Filters(category="x", since="2024")
    mixed = as_filters({"category": "x", "topic": "", "since": None, "year": {"$gte": 5}})
    assert mixed == condition({"category": "x", "year": {"$gte": 5}})
    assert as_filters({"category": {"$in": ["x"]}}) == condition({"category": {"$in": ["x"]}})
    assert as_filters(mixed) is mixed
    assert both(Filters(category="x"), {"year": 1}) == condition({"category": "x", "year": 1})
    assert both(Filters(category="x"), {}) == Filters(category="x")
    assert as_filters({"category": "x"}, ARTICLES) == Filters(category="x")
    with pytest.raises(FilterInvalid, match="cannot be a list"):
        as_filters([{"a": 1}])  # type: ignore[arg-type]


def test_what_is_remembered_about_a_filter_of_many_values_is_small() -> None:
    many = condition({"a": {"$in": ["x" * 100] * MAX_VALUES}})
    assert len(key_of(many)) == 16  # type: ignore[arg-type]
