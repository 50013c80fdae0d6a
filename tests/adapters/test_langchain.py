"""LangChain's own suites over the adapter, and what they do not ask: filters, variety, hybrid search, other collections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from everindex.articles.connect import connect_instance
from everindex.errors import CollectionInvalid, EverindexError, QueryInvalid
from everindex.langchain import EverindexRetriever, EverindexVectorStore
from everindex.settings import Settings

FRUIT = ("apple", "banana", "cherry", "damson", "elderberry", "fig")


class Along(Embeddings):
    """Texts in a plane: the n-th fruit lies at n · 10 degrees, and an unknown text at 0."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        angle = np.radians(next((10 * n for n, fruit in enumerate(FRUIT) if fruit in text), 0))
        return [float(np.cos(angle)), float(np.sin(angle)), 0.0]


@pytest.fixture
def opened(empty: str) -> Iterator[Callable[..., EverindexVectorStore]]:
    """Opens stores on an empty database, and closes them at the end."""
    stores = []

    def open_store(embedding: Embeddings | None = None, **options: Any) -> EverindexVectorStore:
        given = {"collection_name": "docs", "connection": empty} | options
        stores.append(EverindexVectorStore(embedding or Along(), **given))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def fruit(opened: Callable[..., EverindexVectorStore]) -> EverindexVectorStore:
    store = opened()
    store.add_texts(
        [f"a ripe {fruit}" for fruit in FRUIT],
        [{"number": n, "colour": "red" if n % 2 else "blue", "id": f"own {n}", "text": "own", "deep": {"a.b": n}}
         for n in range(len(FRUIT))],
        ids=list(FRUIT),
    )  # fmt: skip
    return store


def ids(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


# --- the suites of langchain-tests -----------------------------------------------------------------------------------


class TestStandardVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, opened: Callable[..., EverindexVectorStore]) -> EverindexVectorStore:
        return opened(self.get_embeddings())


class TestStandardVectorStoreByInnerProduct(VectorStoreIntegrationTests):
    metric = "inner_product"

    @staticmethod
    def get_embeddings() -> Embeddings:
        """Of length 1, so that a text is nearest to itself by inner product too."""
        return OfLengthOne(size=6)

    @pytest.fixture
    def vectorstore(self, opened: Callable[..., EverindexVectorStore]) -> EverindexVectorStore:
        return opened(self.get_embeddings(), metric=self.metric, vector_type="halfvec")


class TestStandardVectorStoreByEuclideanDistance(TestStandardVectorStoreByInnerProduct):
    metric = "l2"


class OfLengthOne(DeterministicFakeEmbedding):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector = np.asarray(super().embed_query(text))
        return [float(number) for number in vector / np.linalg.norm(vector)]


class TestStandardRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _store(self, fruit: EverindexVectorStore) -> None:
        self.store = fruit

    @property
    def retriever_constructor(self) -> type[EverindexRetriever]:
        return EverindexRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self.store}

    @property
    def retriever_query_example(self) -> str:
        return "ripe cherry"


# --- scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_scores_are_distances_and_relevance_falls_as_they_grow(
    opened: Callable[..., EverindexVectorStore], metric: str
) -> None:
    store = opened(metric=metric)
    store.add_texts(list(FRUIT), ids=list(FRUIT))
    scored = store.similarity_search_with_score("cherry", k=6)
    angles = np.radians([0, 10, 10, 20, 20, 30])
    distances = {"cosine": 1 - np.cos(angles), "l2": 2 * np.sin(angles / 2), "inner_product": -np.cos(angles)}
    assert [score for _, score in scored] == pytest.approx(distances[metric].tolist(), abs=1e-6)
    relevant = store.similarity_search_with_relevance_scores("cherry", k=6)
    scores = [score for _, score in relevant]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(1.0)
    assert ids([document for document, _ in relevant])[0] == "cherry"


def test_a_score_threshold_leaves_out_what_is_farther(fruit: EverindexVectorStore) -> None:
    found = fruit.similarity_search_with_relevance_scores("cherry", k=6, score_threshold=0.98)
    assert {document.id for document, _ in found} == {"banana", "cherry", "damson"}


# --- documents -------------------------------------------------------------------------------------------------------


def test_documents_come_back_as_they_were_stored(fruit: EverindexVectorStore) -> None:
    found = fruit.get_by_ids(["fig", "missing", "apple"])
    assert ids(found) == ["fig", "apple"]
    assert found[1].page_content == "a ripe apple"
    assert found[1].metadata == {"number": 0, "colour": "blue", "id": "own 0", "text": "own", "deep": {"a.b": 0}}
    assert found[1] == fruit.similarity_search("apple", k=1)[0]


def test_a_replaced_document_keeps_nothing_of_the_one_before(opened: Callable[..., EverindexVectorStore]) -> None:
    store = opened(metadata_columns={"year": "integer", "lang": "text"})
    store.add_documents([Document(id="a", page_content="apple", metadata={"year": 2024, "lang": "en", "more": [1]})])
    assert store.similarity_search("apple", filter={"year": 2024})[0].metadata == {
        "year": 2024,
        "lang": "en",
        "more": [1],
    }
    store.add_documents([Document(id="a", page_content="fig", metadata={"lang": "de"})])
    assert store.get_by_ids(["a"]) == [Document(id="a", page_content="fig", metadata={"lang": "de"})]
    assert store.similarity_search("apple", filter={"year": 2024}) == []


def test_of_one_id_given_twice_the_last_document_wins(opened: Callable[..., EverindexVectorStore]) -> None:
    store = opened()
    store.add_texts(["apple", "fig"], ids=["a", "a"])
    assert [document.page_content for document in store.get_by_ids(["a"])] == ["fig"]


def test_what_cannot_be_stored_is_told_in_three_lines_and_nothing_is_stored(fruit: EverindexVectorStore) -> None:
    for texts, metadatas, given in (
        (["x", "y"], None, ["one id"]),
        (["x", "y"], [{}, {"when": object()}], None),
        (["x", "nul\0"], None, None),
    ):
        with pytest.raises(EverindexError) as refused:
            fruit.add_texts(texts, metadatas, ids=given)
        assert [line[:7] for line in str(refused.value).splitlines()[1:]] == ["  why: ", "  next:"]
    assert len(fruit.similarity_search("apple", k=100)) == len(FRUIT)


def test_documents_are_deleted_by_id_by_filter_and_never_without_either(fruit: EverindexVectorStore) -> None:
    assert fruit.delete(["apple", "missing"])
    assert fruit.delete(filter={"number": {"$gte": 4}})
    assert set(ids(fruit.similarity_search("apple", k=10))) == {"banana", "cherry", "damson"}
    with pytest.raises(QueryInvalid, match="which rows"):
        fruit.delete()


def test_from_texts_makes_a_store_and_another_process_opens_it(empty: str) -> None:
    with EverindexVectorStore.from_texts(
        list(FRUIT), Along(), [{"n": n} for n in range(6)], ids=list(FRUIT), collection_name="made", connection=empty
    ) as made:
        assert ids(made.similarity_search("banana", k=1)) == ["banana"]
    with connect_instance(empty, settings=Settings()) as instance:
        again = EverindexVectorStore(Along(), collection_name="made", connection=instance)
        assert ids(again.similarity_search("fig", k=1)) == ["fig"]
        assert instance.collection("made").verify(samples=3, max_seconds=3).holds
        again.drop_collection()
        assert again.similarity_search("fig", k=1) == []
        again.close()
        assert instance.collections() == [], "an instance that was passed stays open"


def test_another_metric_or_column_than_the_collection_has_is_refused(
    fruit: EverindexVectorStore, opened: Callable[..., EverindexVectorStore]
) -> None:
    for other in ({"metric": "l2"}, {"metadata_columns": {"year": "integer"}}):
        with pytest.raises(CollectionInvalid, match="another declaration"):
            opened(**other)


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"number": 2}, {2}),
        ({"number": {"$eq": 2}}, {2}),
        ({"number": {"$ne": 2}}, {0, 1, 3, 4, 5}),
        ({"number": {"$lt": 2}}, {0, 1}),
        ({"number": {"$lte": 2}}, {0, 1, 2}),
        ({"number": {"$gt": 3}}, {4, 5}),
        ({"number": {"$gte": 3}}, {3, 4, 5}),
        ({"number": {"$in": [1, 4, 9]}}, {1, 4}),
        ({"number": {"$nin": [1, 4, 9]}}, {0, 2, 3, 5}),
        ({"number": {"$between": (1, 3)}}, {1, 2, 3}),
        ({"colour": {"$like": "r%"}}, {1, 3, 5}),
        ({"colour": {"$ilike": "R_D"}}, {1, 3, 5}),
        ({"missing": {"$exists": False}, "number": 1}, {1}),
        ({"colour": {"$exists": True}}, {0, 1, 2, 3, 4, 5}),
        ({"colour": "red", "number": {"$gt": 1}}, {3, 5}),
        ({"$or": [{"colour": "red"}, {"number": 0}]}, {0, 1, 3, 5}),
        ({"$and": [{"colour": "red"}, {"$or": [{"number": 1}, {"number": 2}]}]}, {1}),
        ({"$not": {"colour": "red"}}, {0, 2, 4}),
        ({"$not": [{"colour": "red"}, {"number": 0}]}, {2, 4}),
        ({"id": "own 3"}, {3}),
        ({"text": "own"}, {0, 1, 2, 3, 4, 5}),
        ({"deep": {"a.b": 4}}, {4}),
    ],
)
def test_each_operator_passes_the_documents_it_says(
    fruit: EverindexVectorStore, filter: dict[str, Any], expected: set[int]
) -> None:
    found = fruit.similarity_search("apple", k=10, filter=filter)
    assert {document.metadata["number"] for document in found} == expected
    by_words = fruit.similarity_search("ripe", k=10, filter=filter, mode="hybrid")
    assert {document.metadata["number"] for document in by_words} == expected


def test_a_wrong_filter_is_refused_with_its_place(fruit: EverindexVectorStore) -> None:
    with pytest.raises(QueryInvalid, match="number"):
        fruit.similarity_search("apple", filter={"number": {"$above": 3}})


# --- variety, words, other tables --------------------------------------------------------------------------------------


def test_variety_takes_the_farther_of_what_is_near(fruit: EverindexVectorStore) -> None:
    assert ids(fruit.max_marginal_relevance_search("apple", k=3, lambda_mult=1.0)) == ["apple", "banana", "cherry"]
    assert ids(fruit.max_marginal_relevance_search("apple", k=2, lambda_mult=0.0)) == ["apple", "fig"]
    few = fruit.max_marginal_relevance_search("apple", k=2, fetch_k=3, lambda_mult=0.0, filter={"colour": "red"})
    assert ids(few) == ["banana", "fig"]


def test_hybrid_search_finds_words_that_the_vector_does_not_know(fruit: EverindexVectorStore) -> None:
    fruit.add_texts(["quincunx of trees"], ids=["quincunx"], metadatas=[{"number": 9}])
    fruit.delete(["apple"])
    retriever = EverindexRetriever(vectorstore=fruit, k=1)
    assert ids(retriever.invoke("quincunx")) == ["quincunx"]
    assert ids(retriever.invoke("quincunx", mode="semantic", k=2, filter={"number": {"$lt": 9}})) == [
        "banana",
        "cherry",
    ]
    assert ids(retriever.invoke("quincunx", mode="keyword", k=5)) == ["quincunx"]
    assert ids(fruit.as_retriever(search_kwargs={"k": 1, "mode": "hybrid"}).invoke("quincunx")) == ["quincunx"]


def test_a_table_of_somebody_else_is_searched_by_its_own_columns(
    empty: str, opened: Callable[..., EverindexVectorStore]
) -> None:
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE notes (nr int PRIMARY KEY, head text, body text, year int, v vector(3))")
        connection.execute(
            "INSERT INTO notes VALUES (1, 'A', 'apple', 2001, '[1,0,0]'), (2, 'B', NULL, NULL, '[0,1,0]')"
        )
    with connect_instance(empty, settings=Settings()) as instance:
        instance.collection_of(table="notes", key="nr", text=("head", "body"), vector="v", metadata=("year",))
    store = opened(collection_name="notes")
    assert store.similarity_search("apple", k=2) == [
        Document(id="1", page_content="A\n\napple", metadata={"year": 2001}),
        Document(id="2", page_content="B", metadata={}),
    ]
    assert ids(store.similarity_search("apple", k=2, filter={"year": {"$lt": 2002}})) == ["1"]
    with pytest.raises(CollectionInvalid, match="cannot be stored"):
        store.add_texts(["fig"])


# --- many at once ------------------------------------------------------------------------------------------------------


async def test_many_searches_and_writes_run_at_once(fruit: EverindexVectorStore) -> None:
    found, *_ = await asyncio.gather(
        asyncio.gather(*(fruit.asimilarity_search(name, k=1) for name in FRUIT * 5)),
        *(fruit.aadd_texts([f"more {n}"], [{"number": 10 + n}], ids=[f"more {n}"]) for n in range(5)),
    )
    assert [ids(documents)[0] for documents in found if ids(documents)[0] in FRUIT[1:]] == list(FRUIT[1:]) * 5
    assert len(await fruit.aget_by_ids([f"more {n}" for n in range(5)])) == 5
    assert ids(await fruit.amax_marginal_relevance_search("fig", k=1)) == ["fig"]


async def test_two_first_writers_make_one_collection(opened: Callable[..., EverindexVectorStore]) -> None:
    one, other = opened(), opened()
    await asyncio.gather(one.aadd_texts(["apple"], ids=["a"]), other.aadd_texts(["fig"], ids=["f"]))
    assert sorted(map(str, ids(one.similarity_search("apple", k=5)))) == ["a", "f"]
