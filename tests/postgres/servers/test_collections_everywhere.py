"""Collections on every supported server: what it can hold is made, searched and proven; what it cannot is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.errors import CollectionInvalid, ExtensionTooOld
from everindex.settings import Settings
from every_server import KINDS, Kind, server

ROWS = 1500


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind.postgres}-{kind.pgvector}")
def everywhere(request: pytest.FixtureRequest) -> Iterator[tuple[Instance, Kind]]:
    kind: Kind = request.param
    with server(kind.binaries()) as conninfo, connect_instance(conninfo, settings=Settings()) as instance:
        yield instance, kind


def has_halfvec(kind: Kind) -> bool:
    return tuple(map(int, kind.pgvector.split("."))) >= (0, 7, 0)


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_a_collection_is_made_searched_filtered_and_proven(everywhere: tuple[Instance, Kind], metric: Any) -> None:
    instance, _ = everywhere
    name = f"docs_{metric}"
    vectors = np.random.default_rng(1).normal(size=(ROWS, 12)).astype(np.float32)
    docs = instance.collection(name, dim=12, metric=metric, text=("body",), metadata={"part": "integer"})
    docs.upsert(
        [{"id": f"{n:04}", "body": f"{('tiger', 'rust')[n % 2]} {n}", "part": n % 5} for n in range(ROWS)],
        vectors=vectors, model="mine",
    )  # fmt: skip
    query = vectors[3] * 1.1
    exact = docs.search_vector(query, exact=True)
    found = docs.search_vector(query, ef_search=200)
    assert found.strategy == "index"
    assert len({hit.key for hit in found.hits} & {hit.key for hit in exact.hits}) >= 9
    filtered = docs.search_vector(query, filters={"part": 2})
    assert len(filtered.hits) == 10
    assert {hit.part for hit in filtered.hits} == {2}
    docs.add_partial_index({"part": 2})
    for _ in range(7):
        by_partial = docs.search_vector(query, filters={"part": 2})
        assert (by_partial.strategy, by_partial.notices) == ("partial-index", [])
    expected = docs.search_vector(query, filters={"part": 2}, exact=True)
    assert len({hit.key for hit in by_partial.hits} & {hit.key for hit in expected.hits}) >= 9
    assert docs.search_vector(query, filters={"part": 3}).notices == []
    assert len(docs.search("tiger", mode="keyword", k=1000).hits) == ROWS // 2
    assert docs.verify(samples=5, max_seconds=5).holds
    instance.drop_collection(name)


@pytest.mark.parametrize("given", [{"dim": 8, "vector_type": "halfvec"}, {"dim": 2500}])
def test_types_and_widths_that_the_server_lacks_are_refused_before_anything_is_made(
    everywhere: tuple[Instance, Kind], given: dict[str, Any]
) -> None:
    instance, kind = everywhere
    if has_halfvec(kind):
        instance.collection("wide", text=(), **given)
        assert instance.collection("wide").verify(samples=2, max_seconds=2).proofs[0].holds
        instance.drop_collection("wide")
        return
    with pytest.raises(CollectionInvalid, match=f"pgvector {kind.pgvector}") as refused:
        instance.collection("wide", text=(), **given)
    assert "0.7.0" in refused.value.why
    assert "ALTER EXTENSION vector UPDATE" in refused.value.next_step
    assert instance.collections() == []


def test_a_table_of_others_that_the_server_cannot_index_is_refused_unless_nothing_is_built(
    everywhere: tuple[Instance, Kind],
) -> None:
    instance, kind = everywhere
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("CREATE TABLE theirs (id int PRIMARY KEY, v vector(2500))")
        connection.execute(
            "INSERT INTO theirs SELECT n, array_fill(n::real, ARRAY[2499])::real[] || 1::real FROM generate_series(1, 9) AS n"
        )
    if not has_halfvec(kind):
        with pytest.raises(ExtensionTooOld):
            instance.collection_of(table="theirs", key="id", vector="v")
        assert instance.collections() == []
    laid = instance.collection_of(table="theirs", key="id", vector="v", deploys=has_halfvec(kind))
    query = np.r_[np.zeros(2499), 1.0].astype(np.float32)
    assert [hit.key for hit in laid.search_vector(query, k=3, exact=True).hits] == [1, 2, 3]
    assert len(laid.search_vector(query, k=3).hits) == 3
    instance.drop_collection("theirs")
