"""The names of partial indexes: one for each table and filter, within PostgreSQL's limit, and known again."""

from __future__ import annotations

import pytest

from everindex.articles.model import Filters
from everindex.articles.search.filters import as_condition, literal_where
from everindex.articles.search.filters.conditions import parse_condition
from everindex.articles.shape.spec import CollectionSpec, index_name
from everindex.articles.table import CollectionTable
from everindex.index.catalog.generations import next_name, previous_name
from everindex.index.catalog.partial_names import is_partial_name, partial_name
from everindex.index.spec import MAX_NAME_BYTES

TABLES = ("docs", "t" * 62 + "a", "t" * 62 + "b", "ä" * 31, "ä" * 30 + "b")


def digest(filters: dict[str, object]) -> bytes:
    condition = parse_condition(filters)
    assert condition is not None
    return condition.digest


def test_each_table_and_filter_has_a_name_of_its_own_with_room_for_generations() -> None:
    names = {partial_name(table, digest({"x": n})) for table in TABLES for n in range(20)}
    assert len(names) == len(TABLES) * 20
    for name in names:
        assert is_partial_name(name)
        for each in (name, next_name(name), previous_name(name)):
            assert len(each.encode()) <= MAX_NAME_BYTES
        assert next_name(name) == f"{name}__next", "nothing is cut"
        assert not is_partial_name(next_name(name)), "a generation that is being built serves nothing"


def test_the_name_of_a_filter_does_not_change_between_releases() -> None:
    """What a database has declared under this name would otherwise be used by no search."""
    assert partial_name("docs", digest({"shelf": "A"})) == "docs_where_4f15b2d5ace8_idx"


@pytest.mark.parametrize(
    ("table", "suffix"), [(table, suffix) for table in TABLES for suffix in ("v_hnsw_idx", "w" * 62)]
)
def test_the_names_of_other_indexes_are_kept_whole_or_told_apart(table: str, suffix: str) -> None:
    name = index_name(table, suffix)
    assert len(f"{name}__next".encode()) <= MAX_NAME_BYTES
    assert name == f"{table}_{suffix}" or len(f"{table}_{suffix}".encode()) > MAX_NAME_BYTES - len("__next")
    assert len({index_name(each, suffix) for each in TABLES}) == len(TABLES)


def test_both_forms_of_a_filter_say_the_same() -> None:
    named = as_condition(Filters(category="Security", since="2024"))
    assert named.digest == digest({"category": "Security", "since": {"$eq": "2024"}})
    assert as_condition(Filters(topic="a")).digest != as_condition(Filters(category="a")).digest


def test_values_are_written_out_as_the_driver_quotes_them() -> None:
    spec = CollectionSpec(name="t", table="t", metadata=("label", "year", "meta"))
    table = CollectionTable(
        spec=spec, schema="public", columns={"id": "text", "label": "text", "year": "integer", "meta": "jsonb"},
        dimensions=3, extension_schema="public", has_raw_articles=False, has_embedding_records=False,
    )  # fmt: skip

    def written(filters: dict[str, object]) -> str:
        condition = parse_condition(filters)
        assert condition is not None
        return literal_where(table, condition)

    assert written({"label": "it's 100% %s"}) == "\"label\" = 'it''s 100% %s'::text"
    assert written({"year": {"$gte": 5}}) == "\"year\" >= '5'::integer"
    assert "%(" not in written({"meta.a": "x", "label": {"$in": ["a", "b"]}})
    assert written({"label": "'; DROP TABLE t; --"}).count("''") == 1
