"""LlamaIndex's vector store protocol over the adapter: nodes, every filter, every mode, sync and async, and an index on top."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from everindex.articles.connect import connect_instance
from everindex.errors import CollectionInvalid, QueryInapplicable, QueryInvalid
from everindex.llamaindex import EverindexVectorStore
from everindex.settings import Settings

FRUIT = ("apple", "banana", "cherry", "damson", "elderberry", "fig")
ALL = set(FRUIT)


def direction(number: int) -> list[float]:
    """The n-th fruit lies at n · 10 degrees."""
    angle = np.radians(10 * number)
    return [float(np.cos(angle)), float(np.sin(angle)), 0.0]


def node(number: int, **metadata: Any) -> TextNode:
    fruit = FRUIT[number]
    return TextNode(
        id_=fruit,
        text=f"a ripe {fruit}",
        embedding=direction(number),
        metadata={"number": number, "colour": "red" if number % 2 else "blue", "tags": [f"t{number}", "all"]}
        | metadata,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc {number // 2}")},
    )


@pytest.fixture
def opened(empty: str) -> Iterator[Callable[..., EverindexVectorStore]]:
    """Opens stores on an empty database, and closes them at the end."""
    stores = []

    def open_store(**options: Any) -> EverindexVectorStore:
        stores.append(EverindexVectorStore(**({"collection_name": "docs", "connection": empty} | options)))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def fruit(opened: Callable[..., EverindexVectorStore]) -> EverindexVectorStore:
    store = opened()
    assert store.add([node(number) for number in range(len(FRUIT))]) == list(FRUIT)
    return store


def query(mode: VectorStoreQueryMode = VectorStoreQueryMode.DEFAULT, **options: Any) -> VectorStoreQuery:
    return VectorStoreQuery(**({"query_embedding": direction(0), "similarity_top_k": 6, "mode": mode} | options))


def where(key: str, operator: FilterOperator, value: Any) -> MetadataFilter:
    return MetadataFilter(key=key, operator=operator, value=value)


def both(*filters: Any, condition: FilterCondition = FilterCondition.AND) -> MetadataFilters:
    return MetadataFilters(filters=list(filters), condition=condition)


# --- nodes -----------------------------------------------------------------------------------------------------------


def test_nodes_come_back_as_they_were_stored(fruit: EverindexVectorStore) -> None:
    found = fruit.get_nodes(["fig", "missing", "apple"])
    assert [each.node_id for each in found] == ["fig", "apple"]
    stored = node(0)
    stored.embedding = None
    assert found[1] == stored
    assert found[1].ref_doc_id == "doc 0"
    assert fruit.query(query(similarity_top_k=1)).nodes == [stored]


def test_a_node_of_another_kind_keeps_its_kind(opened: Callable[..., EverindexVectorStore]) -> None:
    store = opened()
    store.add([ImageNode(id_="i", text="seen", image_url="https://example.org/i.png", embedding=direction(0))])
    (found,) = store.get_nodes(["i"])
    assert isinstance(found, ImageNode)
    assert found.image_url == "https://example.org/i.png"


def test_a_node_that_is_added_again_replaces_the_one_before(fruit: EverindexVectorStore) -> None:
    fruit.add([node(0, colour="green")])
    assert fruit.get_nodes(["apple"])[0].metadata["colour"] == "green"
    assert len(fruit.get_nodes()) == len(FRUIT)


def test_nodes_are_found_by_filter_and_by_both(fruit: EverindexVectorStore) -> None:
    red = both(where("colour", FilterOperator.EQ, "red"))
    assert {each.node_id for each in fruit.get_nodes(filters=red)} == {"banana", "damson", "fig"}
    assert {each.node_id for each in fruit.get_nodes(["apple", "fig"], red)} == {"fig"}
    assert {each.node_id for each in fruit.get_nodes()} == ALL
    assert fruit.get_nodes([]) == []


def test_nodes_are_deleted_by_document_by_id_by_filter_and_all_at_once(fruit: EverindexVectorStore) -> None:
    fruit.delete("doc 0")
    assert {each.node_id for each in fruit.get_nodes()} == ALL - {"apple", "banana"}
    fruit.delete_nodes(["cherry", "fig"], both(where("colour", FilterOperator.EQ, "red")))
    fruit.delete_nodes(filters=both(where("number", FilterOperator.EQ, 4)))
    assert {each.node_id for each in fruit.get_nodes()} == {"cherry", "damson"}
    with pytest.raises(QueryInvalid, match="which rows"):
        fruit.delete_nodes()
    fruit.clear()
    assert fruit.get_nodes() == []
    assert fruit.query(query()).nodes == []
    fruit.add([node(0)])
    assert fruit.query(query()).ids == ["apple"]


def test_before_the_first_node_there_is_nothing_to_find(opened: Callable[..., EverindexVectorStore]) -> None:
    store = opened()
    assert store.query(query()).ids == []
    assert store.get_nodes(["apple"]) == []
    store.delete("doc 0")
    store.clear()
    assert store.add([]) == []


def test_what_is_stored_is_a_collection_with_a_proven_index(fruit: EverindexVectorStore) -> None:
    assert fruit.client.collection("docs").verify(samples=3, max_seconds=3).holds


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (both(where("number", FilterOperator.EQ, 2)), {2}),
        (both(where("number", FilterOperator.NE, 2)), {0, 1, 3, 4, 5}),
        (both(where("number", FilterOperator.GT, 3)), {4, 5}),
        (both(where("number", FilterOperator.GTE, 3)), {3, 4, 5}),
        (both(where("number", FilterOperator.LT, 2)), {0, 1}),
        (both(where("number", FilterOperator.LTE, 2)), {0, 1, 2}),
        (both(where("number", FilterOperator.IN, [1, 4, 9])), {1, 4}),
        (both(where("number", FilterOperator.NIN, [1, 4, 9])), {0, 2, 3, 5}),
        (both(where("colour", FilterOperator.IN, ["red"])), {1, 3, 5}),
        (both(where("tags", FilterOperator.ANY, ["t1", "t3"])), {1, 3}),
        (both(where("tags", FilterOperator.ALL, ["t1", "all"])), {1}),
        (both(where("tags", FilterOperator.CONTAINS, "t4")), {4}),
        (both(where("colour", FilterOperator.TEXT_MATCH, "lu")), {0, 2, 4}),
        (both(where("colour", FilterOperator.TEXT_MATCH, "l_")), set()),
        (both(where("colour", FilterOperator.TEXT_MATCH_INSENSITIVE, "LU")), {0, 2, 4}),
        (both(where("missing", FilterOperator.IS_EMPTY, None)), {0, 1, 2, 3, 4, 5}),
        (both(where("colour", FilterOperator.IS_EMPTY, None)), set()),
        (both(where("colour", FilterOperator.EQ, "red"), where("number", FilterOperator.GT, 1)), {3, 5}),
        (
            both(
                where("number", FilterOperator.EQ, 0),
                where("number", FilterOperator.EQ, 5),
                condition=FilterCondition.OR,
            ),
            {0, 5},
        ),
        (
            both(
                where("colour", FilterOperator.EQ, "red"),
                where("number", FilterOperator.EQ, 0),
                condition=FilterCondition.NOT,
            ),
            {2, 4},
        ),
        (
            both(
                where("colour", FilterOperator.EQ, "red"),
                both(
                    where("number", FilterOperator.LT, 2),
                    both(where("number", FilterOperator.LT, 4), condition=FilterCondition.NOT),
                    condition=FilterCondition.OR,
                ),
            ),
            {1, 5},
        ),
        (MetadataFilters(filters=[]), {0, 1, 2, 3, 4, 5}),
    ],
)
@pytest.mark.parametrize("mode", [VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID])
def test_each_filter_passes_the_nodes_it_says(
    fruit: EverindexVectorStore, filters: MetadataFilters, expected: set[int], mode: VectorStoreQueryMode
) -> None:
    found = fruit.query(query(mode, filters=filters, query_str="ripe"))
    assert {each.metadata["number"] for each in found.nodes or []} == expected


def test_a_list_of_documents_or_nodes_narrows_a_search(fruit: EverindexVectorStore) -> None:
    assert set(fruit.query(query(doc_ids=["doc 0", "doc 2"])).ids or []) == {"apple", "banana", "elderberry", "fig"}
    red = both(where("colour", FilterOperator.EQ, "red"))
    assert fruit.query(query(node_ids=["apple", "damson", "fig"], filters=red)).ids == ["damson", "fig"]
    assert fruit.query(query(doc_ids=["doc 0"], filters=red)).ids == ["banana"]


def test_an_operator_without_its_list_is_refused(fruit: EverindexVectorStore) -> None:
    with pytest.raises(QueryInvalid, match="has no list"):
        fruit.query(query(filters=both(where("number", FilterOperator.IN, 1))))


# --- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_similarities_fall_from_the_nearest(opened: Callable[..., EverindexVectorStore], metric: str) -> None:
    store = opened(metric=metric, vector_type="halfvec")
    store.add([node(number) for number in range(len(FRUIT))])
    found = store.query(query())
    assert found.ids == list(FRUIT)
    angles = np.radians([10 * number for number in range(6)])
    expected = 1 / (1 + 2 * np.sin(angles / 2)) if metric == "l2" else np.cos(angles)
    assert found.similarities == pytest.approx(expected.tolist(), abs=2e-3)


def test_each_mode_searches_by_what_it_says(fruit: EverindexVectorStore) -> None:
    modes = VectorStoreQueryMode
    words = {"query_str": "elderberry", "similarity_top_k": 2}
    assert fruit.query(query(modes.TEXT_SEARCH, query_embedding=None, **words)).ids == ["elderberry"]
    assert fruit.query(query(modes.SPARSE, **words)).ids == ["elderberry"]
    assert set(fruit.query(query(modes.HYBRID, **words)).ids or []) == {"apple", "elderberry"}
    assert len(fruit.query(query(modes.SEMANTIC_HYBRID, hybrid_top_k=3, **words)).ids or []) == 3
    assert fruit.query(query(modes.HYBRID, alpha=1, **words)).ids == ["apple", "banana"]
    assert fruit.query(query(modes.HYBRID, alpha=0, **words)).ids == ["elderberry"]


def test_variety_takes_the_farther_of_what_is_near(fruit: EverindexVectorStore) -> None:
    wide = query(VectorStoreQueryMode.MMR, similarity_top_k=2, mmr_threshold=0.1)
    assert fruit.query(wide).ids == ["apple", "fig"]
    assert fruit.query(wide, mmr_prefetch_k=3).ids == ["apple", "cherry"]
    assert fruit.query(query(VectorStoreQueryMode.MMR, similarity_top_k=2, mmr_threshold=1.0)).ids == [
        "apple",
        "banana",
    ]


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (query(VectorStoreQueryMode.SVM), QueryInapplicable, "mode svm"),
        (query(VectorStoreQueryMode.HYBRID), QueryInvalid, "no query_str"),
        (query(query_embedding=None), QueryInvalid, "no query_embedding"),
        (query(VectorStoreQueryMode.MMR, query_embedding=None), QueryInvalid, "no query_embedding"),
        (query(VectorStoreQueryMode.HYBRID, query_str="x", alpha=0.3), QueryInapplicable, "alpha = 0.3"),
    ],
)
def test_a_search_that_cannot_be_is_told_in_three_lines(
    fruit: EverindexVectorStore, wrong: VectorStoreQuery, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as refused:
        fruit.query(wrong)
    assert [line[:7] for line in str(refused.value).splitlines()[1:]] == ["  why: ", "  next:"]


# --- async, an index on top, other tables ----------------------------------------------------------------------------------


async def test_the_async_methods_do_the_same(opened: Callable[..., EverindexVectorStore]) -> None:
    store = opened()
    assert await store.async_add([node(number) for number in range(6)]) == list(FRUIT)
    found = await asyncio.gather(
        *(store.aquery(query(query_embedding=direction(n), similarity_top_k=1)) for n in range(6))
    )
    assert [each.ids for each in found] == [[fruit] for fruit in FRUIT]
    await store.adelete("doc 0")
    await store.adelete_nodes(["cherry"])
    assert {each.node_id for each in await store.aget_nodes()} == {"damson", "elderberry", "fig"}
    await store.aclear()
    assert await store.aget_nodes() == []


class Along(BaseEmbedding):
    """Texts in a plane, by the fruit that they name."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return direction(next((n for n, fruit in enumerate(FRUIT) if fruit in text), 0))

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def test_an_index_of_llamaindex_stores_and_retrieves_through_it(opened: Callable[..., EverindexVectorStore]) -> None:
    store = opened()
    index = VectorStoreIndex(
        [TextNode(id_=fruit, text=f"a ripe {fruit}") for fruit in FRUIT],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=Along(),
    )
    retriever = index.as_retriever(similarity_top_k=1, vector_store_query_mode="hybrid")
    assert [found.node_id for found in retriever.retrieve("damson")] == ["damson"]
    again = VectorStoreIndex.from_vector_store(opened(), embed_model=Along())
    assert [found.node_id for found in again.as_retriever(similarity_top_k=1).retrieve("fig")] == ["fig"]


def test_a_table_of_somebody_else_gives_plain_nodes(empty: str, opened: Callable[..., EverindexVectorStore]) -> None:
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE notes (nr int PRIMARY KEY, body text, year int, v vector(3))")
        connection.execute("INSERT INTO notes VALUES (1, 'apple', 2001, '[1,0,0]'), (2, 'fig', NULL, '[0,1,0]')")
    with connect_instance(empty, settings=Settings()) as instance:
        instance.collection_of(table="notes", key="nr", text=("body",), vector="v", metadata=("year",))
    store = opened(collection_name="notes")
    assert store.query(query(similarity_top_k=1)).nodes == [TextNode(id_="1", text="apple", metadata={"year": 2001})]
    early = both(where("year", FilterOperator.LT, 2002))
    assert store.query(query(filters=early)).ids == ["1"]
    with pytest.raises(CollectionInvalid, match="cannot be stored"):
        store.add([node(0)])
    store.clear()
    assert store.get_nodes() == []


def test_an_address_is_no_part_of_the_store_as_data(fruit: EverindexVectorStore, empty: str) -> None:
    assert "dbname" not in repr(fruit) + fruit.to_json() + str(fruit.to_dict())
