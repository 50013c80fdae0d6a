"""A partial vector index for one filter: declared, used by searches under exactly that filter, proven, kept and dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

from everindex.articles.background.keeper import article_keeper
from everindex.articles.collections.collection import Collection
from everindex.articles.collections.registry import declared_indexes
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Filters
from everindex.errors import FilterInvalid, SpecIllegal
from everindex.settings import Settings

ROWS, WIDTH = 3000, 16
ODD = "100% 'x' \\ %s \"é\""
VECTORS = np.random.default_rng(5).normal(size=(ROWS, WIDTH)).astype(np.float32)
QUERY = VECTORS[7] + 0.1
#: Every tenth row has shelf A, every tenth the odd one.
SHELVES = {0: "A", 1: ODD}


@pytest.fixture(scope="module")
def made(cluster: Any) -> Iterator[Instance]:
    conninfo = cluster.database()
    with connect_instance(conninfo, settings=Settings()) as instance:
        docs = instance.collection(
            "docs",
            dim=WIDTH,
            text=(),
            key_type="integer",
            metadata={"shelf": "text", "year": "integer", "done": "boolean"},
        )
        docs.upsert(
            [
                {
                    "id": n, "shelf": SHELVES.get(n % 10, "Z"), "year": 2000 + n % 20, "done": n % 5 == 0,
                    "lang": "en" if n % 4 == 0 else "de",
                }
                for n in range(ROWS)
            ],
            vectors=VECTORS, model="mine",
        )  # fmt: skip
        yield instance
    cluster.drop(conninfo)


@pytest.fixture
def docs(made: Instance) -> Iterator[Collection]:
    """The collection, without a partial index before and after."""
    collection = made.collection("docs")
    yield collection
    for each in collection.partial_indexes():
        collection.drop_partial_index(each.filters)


def exactly(docs: Collection, filters: dict[str, Any], k: int = 10) -> list[int]:
    return [hit.key for hit in docs.search_vector(QUERY, k=k, filters=filters, exact=True).hits]


def scans(instance: Instance, name: str) -> int:
    with instance.connection() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s", (name,)
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    "filters",
    [{"shelf": "A"}, {"shelf": ODD}, {"done": True}, {"lang": "en"}, {"year": {"$between": [2003, 2006]}},
     {"shelf": {"$in": ["A", ODD]}, "year": {"$gte": 2005}}],
    ids=["value", "odd value", "boolean", "member", "range", "several"],
)  # fmt: skip
def test_a_search_under_exactly_that_filter_goes_through_it(
    docs: Collection, made: Instance, filters: dict[str, Any]
) -> None:
    expected = exactly(docs, filters)
    before = docs.search_vector(QUERY, filters=filters)
    assert before.strategy != "partial-index"
    assert docs.add_partial_index(filters).outcome == "built"
    (declared,) = docs.partial_indexes()
    counted = scans(made, declared.name)
    for _ in range(7):  # from the sixth on, the server may keep a plan
        found = docs.search_vector(QUERY, filters=filters)
        assert (found.strategy, found.notices) == ("partial-index", [])
        assert len(set(expected) & {hit.key for hit in found.hits}) >= 9
        assert all(hit.key % 10 < 10 for hit in found.hits)
    assert declared.name in found.reason
    assert scans(made, declared.name) == counted + 7
    assert docs.add_partial_index(filters).outcome == "already-there"


def test_other_filters_and_none_go_their_own_way(docs: Collection, made: Instance) -> None:
    docs.add_partial_index({"shelf": "A"})
    (declared,) = docs.partial_indexes()
    counted = scans(made, declared.name)
    for filters in (
        {"shelf": "Z"},
        {"shelf": {"$ne": "A"}},
        {"shelf": "A", "year": {"$gte": 2001}},
        {"done": True},
        None,
    ):
        for _ in range(3):
            found = docs.search_vector(QUERY, filters=filters)
            assert found.strategy in ("index", "index-filtered", "filtered-exact")
            assert found.notices == []
    assert scans(made, declared.name) == counted
    assert docs.search_vector(QUERY, filters={"shelf": {"$eq": "A"}}).strategy == "partial-index", "the same filter"
    assert docs.search_vector(QUERY, filters={"shelf": "A"}, exact=True).strategy == "filtered-exact"


def test_pages_go_on_through_it_without_gaps(docs: Collection) -> None:
    docs.add_partial_index({"shelf": "A"})
    seen: list[int] = []
    after = None
    for _ in range(5):
        page = docs.search_vector(QUERY, k=20, filters={"shelf": "A"}, after=after)
        seen += [hit.key for hit in page.hits]
        after = page.next_cursor
    assert len(seen) == len(set(seen)) == 100
    assert all(key % 10 == 0 for key in seen)
    assert len(set(seen) & set(exactly(docs, {"shelf": "A"}, k=100))) >= 95


def test_it_is_declared_proven_and_explained_like_the_index_of_all_rows(docs: Collection, made: Instance) -> None:
    docs.add_partial_index({"shelf": "A"})
    (declared,) = docs.partial_indexes()
    with made.connection() as connection:
        assert [spec.name for spec in declared_indexes(connection)] == ["docs_embedding_hnsw_idx", declared.name]
        assert [spec.name for spec in declared_indexes(connection, "docs")][1:] == [declared.name]
    proofs = docs.verify(samples=10, max_seconds=5).proofs
    assert [proof.name for proof in proofs] == ["index", "planner", "recall"] * 2
    assert all(proof.holds for proof in proofs), proofs
    assert all(declared.name in proof.sentence for proof in proofs[3:])
    assert not any(proof.next_step for proof in proofs), "nothing is to be dropped"
    explained = docs.explain(QUERY, filters={"shelf": "A"})
    assert explained.as_dict()["strategy"] == "partial-index"
    assert declared.name in str(explained.plan)


def test_the_keeper_builds_it_anew_and_a_search_waits_for_nothing(docs: Collection, made: Instance) -> None:
    docs.add_partial_index({"shelf": "A"})
    (declared,) = docs.partial_indexes()
    expected = exactly(docs, {"shelf": "A"})
    with made.connection() as connection:
        connection.execute(f'DROP INDEX "{declared.name}"')
    found = docs.search_vector(QUERY, filters={"shelf": "A"})  # this process does not know it yet
    assert found.strategy != "partial-index"
    assert [hit.key for hit in found.hits] == expected or found.strategy == "index-filtered"
    round_ = article_keeper(made.direct_conninfo, Settings()).once(threading.Event())
    assert {each.index: each.outcome for each in round_.indexes}[declared.name] == "built"
    docs.invalidate()
    assert docs.search_vector(QUERY, filters={"shelf": "A"}).strategy == "partial-index"


def test_rows_that_are_written_later_are_found_through_it(docs: Collection) -> None:
    docs.add_partial_index({"shelf": "new"})
    assert docs.search_vector(QUERY, filters={"shelf": "new"}).hits == []
    docs.upsert([{"id": 9001, "shelf": "new"}], vectors=QUERY[None, :], model="mine")
    assert [hit.key for hit in docs.search_vector(QUERY, filters={"shelf": "new"}).hits] == [9001]
    docs.upsert([{"id": 9001, "shelf": "old"}], vectors=QUERY[None, :], model="mine")
    assert docs.search_vector(QUERY, filters={"shelf": "new"}).hits == []
    docs.delete([9001])


def test_an_index_of_that_name_with_another_condition_answers_nothing_wrong(docs: Collection, made: Instance) -> None:
    docs.add_partial_index({"shelf": "A"})
    (declared,) = docs.partial_indexes()
    expected = exactly(docs, {"shelf": "A"})
    with made.connection() as connection:
        connection.execute(f'DROP INDEX "{declared.name}"')
        connection.execute(
            f"CREATE INDEX \"{declared.name}\" ON docs USING hnsw (embedding vector_cosine_ops) WHERE shelf = 'Z'"
        )
    docs.invalidate()
    found = docs.search_vector(QUERY, filters={"shelf": "A"})
    assert len(set(expected) & {hit.key for hit in found.hits}) >= 9
    assert any("does not use the partial index" in notice for notice in found.notices)
    proof = next(proof for proof in docs.verify(samples=5, max_seconds=2).proofs if declared.name in proof.sentence)
    assert proof.holds is False
    assert docs.add_partial_index({"shelf": "A"}).outcome in ("replaced", "rebuilt", "built")
    assert docs.search_vector(QUERY, filters={"shelf": "A"}).strategy == "partial-index"


def test_dropping_it_leaves_nothing(docs: Collection, made: Instance) -> None:
    docs.add_partial_index({"shelf": "A"})
    assert docs.drop_partial_index({"shelf": {"$eq": "A"}}) is True
    assert docs.drop_partial_index({"shelf": "A"}) is False
    assert docs.partial_indexes() == []
    with made.connection() as connection:
        left = connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'docs_where_%'").fetchone()
        assert left == (0,)
        assert len(declared_indexes(connection)) == 1
    assert docs.search_vector(QUERY, filters={"shelf": "A"}).strategy != "partial-index"


def test_a_filter_that_no_index_can_have_is_refused_and_not_declared(made: Instance) -> None:
    with made.connection() as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('calm', 'wild')")
        connection.execute("CREATE TABLE moods (id int PRIMARY KEY, mood mood, v vector(4))")
    laid = made.collection_of(table="moods", key="id", vector="v", metadata=["mood"])
    for wrong in ({}, {"nothing": 1}, {"mood": 5.5, "id": "x"}):
        with pytest.raises(FilterInvalid):
            laid.add_partial_index(wrong)
    with pytest.raises(SpecIllegal, match="predicate"):
        laid.add_partial_index({"mood": "calm"})  # a cast of an enum to text is not immutable
    assert laid.partial_indexes() == []
    made.drop_collection("moods")


def test_a_dropped_collection_takes_its_declarations_along(made: Instance) -> None:
    brief = made.collection("brief", dim=4, text=(), metadata={"x": "text"})
    brief.add_partial_index({"x": "a"})
    made.drop_collection("brief")
    with made.connection() as connection:
        left = connection.execute("SELECT count(*) FROM everindex_meta.partial_index WHERE table_name = 'brief'")
        assert left.fetchone() == (0,)


def test_the_named_filters_of_articles_use_it_too(
    cluster: Any, with_articles: str, open_instance: Callable[..., Instance]
) -> None:
    conninfo = cluster.database(with_articles)
    instance = open_instance(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        (category,) = connection.execute(
            "SELECT category FROM articles GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
        ).fetchone() or ("",)
    instance.add_partial_index({"category": category})
    vector = instance.embed_query("memory leak")
    expected = instance.search_vector(vector, filters=Filters(category=category), exact=True)
    for filters in (Filters(category=category), {"category": category}):
        found = instance.search_vector(vector, filters=filters)
        assert found.strategy == "partial-index"
        assert len({hit.key for hit in found.hits} & {hit.key for hit in expected.hits}) >= 9
    hybrid = instance.search("memory leak", filters={"category": category})
    assert (hybrid.strategy, {hit.category for hit in hybrid.hits}) == ("partial-index", {category})
    assert instance.similar(found.hits[0].key, filters={"category": category}).strategy == "partial-index"
    assert instance.verify(samples=5, max_seconds=5).holds
    cluster.drop(conninfo)


def test_rows_that_have_expired_are_in_no_answer_through_it(made: Instance) -> None:
    kept = made.collection(
        "brief", dim=WIDTH, text=(), metadata={"shelf": "text", "until": "timestamptz"}, expires="until"
    )
    kept.upsert(
        [
            {"id": f"{n:04}", "shelf": SHELVES.get(n % 10, "Z"), "until": "2000-01-01" if n % 20 == 0 else None}
            for n in range(ROWS)
        ],
        vectors=VECTORS, model="mine",
    )  # fmt: skip
    kept.add_partial_index({"shelf": "A"})
    expected = [hit.key for hit in kept.search_vector(QUERY, filters={"shelf": "A"}, exact=True).hits]
    for _ in range(7):
        found = kept.search_vector(QUERY, filters={"shelf": "A"})
        assert (found.strategy, found.notices) == ("partial-index", [])
        assert len({hit.key for hit in found.hits} & set(expected)) >= 9
        assert all(int(hit.key) % 20 == 10 for hit in found.hits)
    made.drop_collection("brief")
