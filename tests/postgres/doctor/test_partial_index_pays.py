"""A value that is asked for often is recorded if it is common in its column, and the doctor recommends an index of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from by_hand import rows, run
from everindex.articles.background.filter_counting import hand_over
from everindex.articles.collections.collection import Collection
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.search.filters.filter_use import MOST_VALUES
from everindex.settings import Settings
from examining import answers

SLUG = "partial-index-pays"
RECORDED = "SELECT column_name, value, searches FROM everindex_meta.filter_value ORDER BY 1, 2"
ROWS = 400
QUERY = np.ones(4, dtype=np.float32)


@pytest.fixture
def instance(empty: str) -> Iterator[Instance]:
    with connect_instance(empty, settings=Settings()) as opened:
        yield opened


@pytest.fixture
def docs(instance: Instance) -> Collection:
    made = instance.collection(
        "docs", dim=4, text=(), metadata={"shelf": "text", "year": "integer", "done": "boolean", "name": "text"}
    )
    vectors = np.random.default_rng(1).normal(size=(ROWS, 4)).astype(np.float32)
    made.upsert(
        [
            {"id": str(n), "shelf": "it's A" if n % 4 == 0 else "B", "year": 2020 + n % 4, "done": n % 4 == 0, "name": f"n{n}"}
            for n in range(ROWS)
        ],
        vectors=vectors, model="mine",
    )  # fmt: skip
    run(instance.conninfo, "ANALYZE docs")
    return made


@pytest.fixture
def few() -> dict[str, Any]:
    """What the rule is asked with, so that 3 searches are often and 100 rows are many."""
    return {"often": 3, "many_rows": 50}


def searched(docs: Collection, filters: dict[str, Any], times: int = 3) -> None:
    for _ in range(times):
        docs.search_vector(QUERY, filters=filters)


def test_only_values_that_are_common_in_their_column_are_recorded(docs: Collection, instance: Instance) -> None:
    searched(docs, {"shelf": "it's A"})
    searched(docs, {"year": 2021})
    searched(docs, {"done": True})
    searched(docs, {"name": "n7"})  # of one row: a value that says something about the asker
    searched(docs, {"shelf": "a secret"})
    searched(docs, {"shelf": "B", "year": {"$gte": 2020}})  # not the whole filter
    searched(docs, {"year": {"$gte": 2020}})
    docs.browse({"shelf": "B"})  # no search by meaning
    hand_over(instance)
    recorded = [("done", "t", 3), ("shelf", "it's A", 3), ("year", "2021", 3)]
    assert rows(instance.conninfo, RECORDED) == recorded
    hand_over(instance)
    searched(docs, {"year": 2021}, 2)
    hand_over(instance)
    assert rows(instance.conninfo, RECORDED)[-1] == ("year", "2021", 5)


@pytest.mark.parametrize(
    ("filters", "written"), [({"shelf": "it's A"}, "it's A"), ({"year": 2021}, "2021"), ({"done": True}, "true")]
)
def test_the_doctor_recommends_it_with_the_command_that_makes_it(
    docs: Collection, instance: Instance, few: dict[str, Any], filters: dict[str, Any], written: str
) -> None:
    searched(docs, filters)
    hand_over(instance)
    (found,) = answers(instance.conninfo, SLUG, **few)
    assert found.status == "finding"
    assert written in found.sentence
    assert "3 searches in 7 days" in found.sentence
    assert "100 rows (25%)" in found.sentence
    assert found.fix is not None
    assert "everindex deploy --partial" in found.fix.advice
    assert "--collection docs" in found.fix.advice
    docs.add_partial_index(filters)
    (found,) = answers(instance.conninfo, SLUG, **few)
    assert found.status == "good"
    docs.drop_partial_index(filters)
    (found,) = answers(instance.conninfo, SLUG, **few)
    assert found.status == "finding"


def test_few_searches_few_rows_and_nearly_all_rows_recommend_nothing(
    docs: Collection, instance: Instance, few: dict[str, Any]
) -> None:
    searched(docs, {"shelf": "B"})  # three quarters of the rows
    searched(docs, {"year": 2021})
    hand_over(instance)
    assert [found.about for found in answers(instance.conninfo, SLUG, **few)] == ['"public"."docs"']
    assert answers(instance.conninfo, SLUG, often=4, many_rows=50) == []
    assert answers(instance.conninfo, SLUG, often=3, many_rows=101) == []
    run(instance.conninfo, "UPDATE everindex_meta.filter_value SET day = day - 7")
    assert answers(instance.conninfo, SLUG, **few) == []


def test_what_is_remembered_of_values_is_bounded(docs: Collection) -> None:
    for number in range(MOST_VALUES + 50):
        docs.searches.filter_use.note(docs.engine.known()[0], _equals("shelf", f"v{number}"), is_by_vector=True)
    docs.searches.filter_use.note(docs.engine.known()[0], _equals("shelf", "x" * 201), is_by_vector=True)
    taken = docs.searches.filter_use.take_values()
    assert len(taken) == MOST_VALUES
    assert docs.searches.filter_use.take_values() == {}


def _equals(column: str, value: str) -> Any:
    from everindex.articles.search.filters.conditions import parse_condition

    return parse_condition({column: value})


def test_where_nothing_can_be_recorded_nothing_fails(docs: Collection, instance: Instance, few: dict[str, Any]) -> None:
    run(instance.conninfo, "DROP TABLE everindex_meta.filter_value")
    searched(docs, {"year": 2021})
    hand_over(instance)
    assert answers(instance.conninfo, SLUG, **few) == []
