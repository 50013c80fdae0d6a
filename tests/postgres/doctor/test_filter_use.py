"""What filters compare is recorded without values, and the doctor recommends the index that they lack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from by_hand import rows, run
from everindex.articles.background.filter_counting import filters_counted, hand_over
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Filters
from everindex.articles.search.filters.conditions import parse_condition
from everindex.articles.search.filters.filter_record import MOST_KINDS, add_filter_uses
from everindex.articles.search.filters.filter_use import MOST_USES, FilterUse, Use, uses
from everindex.articles.table import read_table
from everindex.pg import own_schema
from everindex.pg.connections import connect
from everindex.settings import Settings
from examining import answers, good_after_its_fix, is_good
from filtered_rows import SPEC, made_rows, store

SLUG = "filter-without-index"
RECORDED = "SELECT column_name, members, compared, searches FROM everindex_meta.filter_use ORDER BY 1, 2, 3"


@pytest.fixture
def things(empty: str) -> str:
    """The table with a column of each kind, and everindex's own tables."""
    with psycopg.connect(empty, autocommit=True) as connection:
        store(connection, made_rows(300))
    own_schema.ensure(empty)
    return empty


def used(conninfo: str, *found: tuple[str, list[str], str, int]) -> None:
    with connect(conninfo) as connection:
        add_filter_uses(connection, schema="public", table="things", uses=found)


@pytest.fixture
def many(things: str) -> dict[str, Any]:
    """What the rule is asked with, so that 300 rows are many."""
    return {"many_rows": 100}


@pytest.mark.parametrize(
    ("column", "members", "compared", "definition"),
    [
        ("label", [], "order", '("label")'),
        ("id", [], "equal", None),
        ("seen", [], "order", '("seen")'),
        ("tags", [], "equal", 'USING gin ("tags")'),
        ("meta", [], "equal", 'USING gin ("meta" jsonb_path_ops)'),
        ("extra", [], "equal", 'USING gin (("extra"::jsonb) jsonb_path_ops)'),
        ("meta", ["a"], "numbers", "jsonb_typeof"),
        ("meta", ["b", "c"], "texts", 'COLLATE "C"'),
        ("meta", ["b", "x.y"], "texts", 'COLLATE "C"'),
        ("meta", ["b", "x y"], "numbers", "jsonb_typeof"),
        ("meta", ["under_score", "it's", 'quo"te', "null", "back\\slash", ""], "numbers", "jsonb_typeof"),
        ("extra", ["a"], "texts", 'COLLATE "C"'),
        ('odd "name" 100%', [], "order", '("odd ""name"" 100%")'),
    ],
)
def test_a_filter_asked_often_without_an_index_is_found_and_its_fix_serves(
    things: str, many: dict[str, Any], column: str, members: list[str], compared: str, definition: str | None
) -> None:
    used(things, (column, members, compared, 60))
    assert answers(things, SLUG, **many) == []  # not often
    used(things, (column, members, compared, 60))
    if definition is None:  # the primary key
        is_good(things, SLUG, **many)
        return
    (found,) = answers(things, SLUG, **many)
    assert found.status == "finding"
    assert "120 searches in 7 days" in found.sentence
    assert found.fix is not None
    assert definition in found.fix.statements[0]
    good_after_its_fix(things, SLUG, found, **many)


def test_the_recommended_index_is_the_one_that_the_filter_takes(things: str, many: dict[str, Any]) -> None:
    from everindex.articles.search.filters import where
    from everindex.pg import roundtrip

    for column, members, compared, filters in (
        ("meta", ["a"], "numbers", {"meta.a": {"$gte": 4}}),
        ("meta", ["b", "c"], "texts", {"meta": {"b": {"c": {"$lt": "b"}}}}),
        ("extra", [], "equal", {"extra.a": "amber"}),
        ("extra", ["a"], "numbers", {"extra.a": {"$lt": 2}}),
        ("tags", [], "equal", {"tags": {"$in": ["amber"]}}),
    ):
        run(things, "TRUNCATE everindex_meta.filter_use")
        used(things, (column, members, compared, 100))
        (found,) = answers(things, SLUG, **many)
        assert found.fix is not None
        statement = found.fix.statements[0].replace("CREATE INDEX CONCURRENTLY ON", "CREATE INDEX recommended ON")
        condition = parse_condition(filters)
        assert condition is not None
        with psycopg.connect(things) as connection:
            connection.execute(statement)
            connection.execute("SET LOCAL enable_seqscan = off")
            with connect(things) as reading:
                table = read_table(reading, SPEC)
            composed, parameters = where(table, condition)
            text, names = roundtrip.positional("SELECT id FROM things WHERE true" + composed.as_string(None))
            connection.execute(f"PREPARE asked AS {text}")
            arguments = ", ".join("'" + parameters[name].replace("'", "''") + "'" for name in names)
            connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN EXECUTE asked({arguments})"))
            connection.rollback()
        assert "recommended" in plan, plan


def test_few_rows_few_values_and_old_counts_are_no_finding(things: str, many: dict[str, Any]) -> None:
    used(things, ("label", [], "equal", 1000), ("done", [], "equal", 1000), ("mood", [], "equal", 1000))
    assert answers(things, SLUG, **many) == []  # 13 labels, 2 moods
    used(things, ("meta", [], "equal", 1000))
    assert answers(things, SLUG) == []  # 300 rows
    assert len(answers(things, SLUG, **many)) == 1
    run(things, "UPDATE everindex_meta.filter_use SET day = day - 7")
    assert answers(things, SLUG, **many) == []
    run(things, "UPDATE everindex_meta.filter_use SET day = day - 30")
    used(things, ("year", [], "order", 1))
    assert rows(things, RECORDED) == [("year", [], "order", 1)]


def test_an_invalid_or_partial_index_serves_no_filter(things: str, many: dict[str, Any]) -> None:
    used(things, ("seen", [], "order", 500))
    run(things, "CREATE INDEX some_rows ON things (seen) WHERE year > 0", "CREATE INDEX other ON things (year, seen)")
    assert [answer.status for answer in answers(things, SLUG, **many)] == ["finding"]
    run(things, "CREATE INDEX right_one ON things (seen, year)")
    is_good(things, SLUG, **many)


def test_without_the_record_the_rule_says_nothing(empty: str) -> None:
    assert answers(empty, SLUG) == []


def test_a_table_that_is_gone_says_nothing(things: str, many: dict[str, Any]) -> None:
    used(things, ("seen", [], "order", 500))
    run(things, "DROP TABLE things")
    assert answers(things, SLUG, **many) == []


# --- what is counted -------------------------------------------------------------------------------------------------


def test_comparisons_that_an_index_serves_are_counted_and_others_are_not(things: str) -> None:
    with connect(things) as connection:
        table = read_table(connection, SPEC)
    condition = parse_condition(
        {
            "label": "x", "year": {"$gte": 5, "$ne": 7}, "tags": {"$in": ["a"]}, "meta.a": 5, "meta.b.c": {"$gt": 5},
            "extra": {"a": {"$lt": "x"}}, "$or": [{"code": "y"}, {"$not": {"big": 5}}], "small": {"$nin": [1]},
            "price": {"$exists": True}, "score": None,
        }
    )  # fmt: skip
    assert condition is not None
    assert set(uses(table, condition)) == {
        Use("label", (), "equal"), Use("year", (), "order"), Use("tags", (), "equal"), Use("meta", (), "equal"),
        Use("meta", ("b", "c"), "numbers"), Use("extra", ("a",), "texts"), Use("code", (), "equal"),
    }  # fmt: skip


def test_what_is_remembered_is_bounded(things: str) -> None:
    counts = FilterUse()
    with connect(things) as connection:
        table = read_table(connection, SPEC)
    for number in range(2 * MOST_USES):
        condition = parse_condition({"meta": {f"m{number}": {"$gt": 5}}})
        assert condition is not None
        counts.note(table, condition)
        counts.note(table, condition)
    taken = counts.take()
    assert (len(taken), set(taken.values())) == (MOST_USES, {2})
    assert counts.take() == {}
    for round_number in range(2):
        used(things, *[("meta", [f"r{round_number}m{number}"], "numbers", 1) for number in range(MOST_KINDS)])
    used(things, ("meta", ["r0m0"], "numbers", 5))
    assert rows(things, "SELECT count(*), max(searches) FROM everindex_meta.filter_use") == [(MOST_KINDS, 6)]


@pytest.fixture
def searched(filled: str) -> Iterator[Instance]:
    with connect_instance(filled, settings=Settings()) as instance:
        yield instance


def test_searches_are_recorded_by_columns_and_never_by_values(searched: Instance) -> None:
    searched.search("parser", filters=Filters(category="Library", since="2020"))
    searched.search("parser", mode="keyword", filters={"category": "secret-word", "quality_score": {"$gte": 0.77}})
    searched.browse({"category": {"$in": ["a", "b"]}})
    searched.search("parser")
    hand_over(searched)
    recorded = rows(searched.conninfo, RECORDED)
    assert recorded == [
        ("category", [], "equal", 3), ("publication_date", [], "order", 1), ("quality_score", [], "order", 1),
    ]  # fmt: skip
    (text,) = rows(searched.conninfo, "SELECT string_agg(u::text, ' ') FROM everindex_meta.filter_use u")[0]
    assert "secret" not in text
    assert "0.77" not in text
    hand_over(searched)
    assert rows(searched.conninfo, RECORDED) == recorded


def test_a_serving_process_records_at_its_end(searched: Instance) -> None:
    with filters_counted(searched):
        searched.browse({"topic": "x"})
    assert rows(searched.conninfo, RECORDED) == [("topic", [], "equal", 1)]


def test_where_nothing_can_be_recorded_nothing_fails(searched: Instance) -> None:
    run(searched.conninfo, "DROP TABLE everindex_meta.filter_use")
    searched.browse({"topic": "x"})
    hand_over(searched)
    assert answers(searched.conninfo, SLUG) == []
