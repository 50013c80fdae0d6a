"""A few vectors of real searches are kept, and nothing else of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import psycopg

from everindex.articles.background.query_sampling import QuerySampler, hand_over, queries_sampled
from everindex.articles.instance import Instance
from everindex.settings import Settings


def kept(conninfo: str) -> list[list[float]]:
    with psycopg.connect(conninfo) as connection:
        return [row[0] for row in connection.execute("SELECT vector FROM everindex_meta.query_sample").fetchall()]


def test_every_search_has_the_same_chance_to_be_drawn() -> None:
    counted: Counter[int] = Counter()
    for _ in range(400):
        sampler = QuerySampler(size=5)
        for number in range(50):
            sampler.note(np.array([number]))
        drawn = [int(vector[0]) for vector in sampler.take()]
        assert len(drawn) == len(set(drawn)) == 5
        assert sampler.take() == []
        counted.update(drawn)
    # 40 times each on average: five standard deviations are 30.
    assert all(10 <= counted[number] <= 70 for number in range(50))


def test_what_was_searched_for_is_kept_as_a_vector(instance: Instance) -> None:
    with queries_sampled(instance, Settings(EVERINDEX_SAMPLE_QUERIES=10)):  # type: ignore[call-arg]
        vector = instance.embed_query("a deadlock in the import lock")
        instance.search_vector(vector)
        instance.search("a leak in the parser", mode="semantic")
        instance.search("a crash in the garbage collector")
    assert instance.searches.on_query is None
    found = kept(instance.conninfo)
    assert len(found) == 3
    assert any(np.allclose(each, vector) for each in found)


def test_neither_a_similar_article_nor_a_failed_search_is_a_query(instance: Instance) -> None:
    with queries_sampled(instance, Settings(EVERINDEX_SAMPLE_QUERIES=10)):  # type: ignore[call-arg]
        uri = instance.search("memory", mode="keyword").hits[0].uri
        instance.similar(uri)
    assert kept(instance.conninfo) == []


def test_no_more_than_the_budget_is_kept_and_zero_keeps_none(instance: Instance) -> None:
    sampler = QuerySampler(size=20)
    vector = instance.embed_query("a deadlock")
    for _ in range(20):
        sampler.note(vector)
    hand_over(instance, sampler, budget=7)
    assert len(kept(instance.conninfo)) == 7
    with queries_sampled(instance, Settings(EVERINDEX_SAMPLE_QUERIES=0)):  # type: ignore[call-arg]
        assert instance.searches.on_query is None


def test_where_nothing_can_be_kept_searches_do_not_notice(instance: Instance) -> None:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        connection.execute("DROP SCHEMA everindex_meta CASCADE")
    with queries_sampled(instance, Settings()):
        assert instance.search("memory leak").hits


def test_the_queries_of_a_collection_are_sampled_and_its_recall_is_measured_with_them(instance: Instance) -> None:
    docs = instance.collection("docs", dim=1536, text=("text",))
    docs.upsert({"id": str(number), "text": f"otter number {number}"} for number in range(30))
    with queries_sampled(instance, Settings(EVERINDEX_SAMPLE_QUERIES=20)):  # type: ignore[call-arg]
        for number in range(12):
            docs.search(f"an otter that swims {number}", mode="semantic")
    assert docs.searches.on_query is None
    with psycopg.connect(instance.conninfo) as connection:
        of_index = connection.execute("SELECT DISTINCT index_name FROM everindex_meta.query_sample").fetchall()
    assert of_index == [("docs_embedding_hnsw_idx",)]
    assert len(kept(instance.conninfo)) == 12
    recall = docs.verify().proofs[-1]
    assert "sampled searches" in recall.sentence or any("search" in one.source for one in recall.by_source)
