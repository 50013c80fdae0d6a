"""Hybrid search: the two searches fused, and what becomes of it when one of them cannot answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from animals import animals, words_in
from by_hand import run
from everindex.articles.connect import connect_instance
from everindex.articles.embedding.provider import EmbeddingBatch
from everindex.articles.instance import Instance
from everindex.articles.model import Answer, Article
from everindex.articles.search.hybrid import evidence, merged
from everindex.articles.search.keyword.ranking import find
from everindex.articles.search.request.search_request import Page, SearchRequest, as_filters
from everindex.errors import EmbeddingFailed, EmbeddingModelsMixed, QueryInvalid
from everindex.settings import Settings
from words_in_memory import remembered

QUERIES = (
    "memory leak in the parser",
    "regular expressions",
    "zipfile",
    '"crash on Windows"',
    "asyncio.Queue",
    "the of and",
)
WIDTH = 1536


def uris(answer: Answer) -> list[str]:
    return [hit.uri for hit in answer.hits]


class Endpoint:
    """An embedder that is elsewhere: it gives every text a vector of its own, unless it is down."""

    is_remote = True
    dimensions = WIDTH

    def __init__(self, model: str = "elsewhere", *, is_down: bool = False) -> None:
        self.model = model
        self.is_down = is_down
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> EmbeddingBatch:
        self.texts += texts
        vectors = np.full((len(texts), WIDTH), np.nan, dtype=np.float32)
        if self.is_down:
            return EmbeddingBatch(vectors=vectors, failures=dict.fromkeys(range(len(texts)), "nobody answers"))
        for number, text in enumerate(texts):
            vectors[number] = np.random.default_rng(sum(text.encode())).standard_normal(WIDTH)
        return EmbeddingBatch.checked(vectors, width=WIDTH, failures={})


@pytest.fixture
def remote(fresh: Instance) -> Instance:
    """An instance whose model is elsewhere; the first of its articles has no vector."""
    fresh.query_embedder.embedder = Endpoint()  # type: ignore[assignment]
    fresh.upsert(animals(60))
    run(fresh.conninfo, "UPDATE articles SET embedding = NULL WHERE uri = 'a000'")
    return fresh


# --- both ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("options", [{}, {"exact": True}, {"ef_search": 200}, {"filters": {"category": "Library"}}])
def test_hybrid_is_the_two_searches_fused_by_the_evidence_for_each_hit(
    read_only_instance: Instance, text: str, options: dict[str, Any]
) -> None:
    k = 10
    remembered(read_only_instance)
    answer = read_only_instance.search(text, k=k, **options)
    near = read_only_instance.search(text, mode="semantic", k=2 * k, **options)
    request = SearchRequest(text=text, filters=as_filters(options.get("filters")))
    vector = read_only_instance.embed_query(request.words.wanted)
    known = read_only_instance.words.known()
    words = read_only_instance.reading.ask(
        lambda connection: find(
            connection, known, Page(request=request, k=2 * k), vector=vector, rows=read_only_instance.words.rows,
            completes=True,
        )
    )  # fmt: skip
    fused = merged(near.hits, words.hits, full_score=words.full_score)[:k]
    assert [(hit.uri, hit.score) for hit in answer.hits] == [(hit.uri, hit.score) for hit in fused]
    ranks = {hit.uri: rank for rank, hit in enumerate(near.hits, start=1)}
    assert [hit.semantic_rank for hit in answer.hits] == [ranks.get(hit.uri) for hit in answer.hits]
    for hit in answer.hits:
        if words.hits and hit.keyword_rank is None:
            assert hit.score == evidence(0.0, hit.distance)
    assert [hit.score for hit in answer.hits] == sorted((hit.score or 0 for hit in answer.hits), reverse=True)
    assert (answer.mode, answer.k, answer.strategy, answer.ef_search) == ("hybrid", k, near.strategy, near.ef_search)
    assert all(hit.snippet is not None for hit in answer.hits if hit.summary is not None)


def test_every_article_with_a_vector_has_its_true_distance_however_it_was_found(read_only_instance: Instance) -> None:
    vector = read_only_instance.embed_query("zipfile")
    answer = read_only_instance.search("zipfile", k=10, exact=True)
    by_words_alone = [hit for hit in answer.hits if hit.semantic_rank is None]
    assert by_words_alone
    with read_only_instance.connection() as connection:
        stored = dict(
            connection.execute(
                "SELECT uri, embedding FROM articles WHERE uri = ANY(%s)", (uris(answer),), binary=True
            ).fetchall()
        )
    for hit in answer.hits:
        other = stored[hit.uri].to_numpy()
        cosine = float(vector @ other / np.linalg.norm(vector) / np.linalg.norm(other))
        assert hit.distance is not None
        assert abs(hit.distance - (1 - cosine)) < 1e-5


@pytest.mark.parametrize("k", [1, 3, 100, 1000])
def test_hybrid_answers_k_articles_each_once(read_only_instance: Instance, k: int) -> None:
    found = uris(read_only_instance.search("crash on Windows", k=k))
    assert len(found) == len(set(found)) == k


def test_hybrid_is_what_a_text_is_searched_by_when_nothing_is_said(read_only_instance: Instance) -> None:
    text = "memory leak in the parser"
    assert uris(read_only_instance.search(text)) == uris(read_only_instance.search(text, mode="hybrid"))
    assert read_only_instance.search(text).mode == "hybrid"
    assert read_only_instance.search_vector(read_only_instance.embed_query(text)).mode == "semantic"


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_articles_without_a_vector_are_found_by_their_words(remote: Instance, mode: Any) -> None:
    words = words_in(animals(1)[0])
    answer = remote.search(" ".join(words), mode=mode, k=60)
    hit = next(hit for hit in answer.hits if hit.uri == "a000")
    assert (hit.distance, hit.similarity, hit.semantic_rank) == (None, None, None)
    assert hit.keyword_rank is not None
    assert hit.as_dict()["distance"] is None


def test_an_article_of_zeros_has_no_distance(fresh: Instance) -> None:
    fresh.upsert([Article(uri="u", title="tiger"), Article(uri="v", title="zebra")])
    run(fresh.conninfo, f"UPDATE articles SET embedding = array_fill(0, ARRAY[{WIDTH}])::vector WHERE uri = 'u'")
    hit = next(hit for hit in fresh.search("tiger").hits if hit.uri == "u")
    assert (hit.distance, hit.keyword_rank) == (None, 1)


def test_an_instance_without_any_vector_is_searched_by_words(fresh: Instance) -> None:
    fresh.upsert([Article(uri="u", title="tiger", category="one"), Article(uri="v", title="zebra", category="one")])
    run(fresh.conninfo, "UPDATE articles SET embedding = NULL")
    fresh.invalidate()
    assert uris(fresh.search("tiger")) == ["u"]
    answer = fresh.search("tiger", filters={"category": "one"})
    assert (uris(answer), answer.strategy) == (["u"], "keyword")


# --- what is left out ----------------------------------------------------------------------------------------------


def test_a_word_with_a_minus_is_in_no_answer_and_is_not_embedded(remote: Instance) -> None:
    endpoint: Any = remote.query_embedder.embedder
    endpoint.texts.clear()
    answer = remote.search('tiger -zebra -"lemon piano"', k=20)
    assert endpoint.texts == ["tiger"]
    of_uri = {article.uri: article for article in animals(60)}
    assert len(answer.hits) == 20
    assert not [hit.uri for hit in answer.hits if "zebra" in words_in(of_uri[hit.uri])]
    assert [hit for hit in answer.hits if hit.keyword_rank is None]


def test_a_query_that_only_leaves_out_has_no_meaning_and_says_so(remote: Instance) -> None:
    answer = remote.search("-zebra", k=60)
    assert answer.strategy == "keyword"
    assert "only excludes words" in answer.notices[0]
    assert {hit.uri for hit in answer.hits} == {one.uri for one in animals(60) if "zebra" not in words_in(one)}


# --- where one of the two cannot answer ----------------------------------------------------------------------------


def test_while_the_endpoint_is_down_words_answer_and_the_answer_says_so(remote: Instance) -> None:
    expected = remote.search("tiger zebra", mode="keyword")
    remote.query_embedder.embedder = Endpoint(is_down=True)  # type: ignore[assignment]
    answer = remote.search("tiger zebra")
    assert (answer.strategy, uris(answer)) == ("keyword", uris(expected))
    assert [hit.score for hit in answer.hits] == sorted((hit.score or 0 for hit in answer.hits), reverse=True)
    assert "by words alone, not by meaning (embedding-failed)" in answer.notices[0]
    assert not answer.notices[0].endswith(".")
    with pytest.raises(EmbeddingFailed):
        remote.search("tiger zebra", mode="semantic")
    with pytest.raises(EmbeddingFailed):  # words cannot answer that either
        remote.search("the of")


def test_where_vectors_are_of_two_models_words_answer_and_the_answer_says_so(remote: Instance) -> None:
    remote.query_embedder.embedder = Endpoint("another")  # type: ignore[assignment]
    answer = remote.search("tiger")
    assert answer.strategy == "keyword"
    assert "(embedding-models-mixed)" in answer.notices[0]
    assert "everindex embed" in answer.notices[0]
    with pytest.raises(EmbeddingModelsMixed):
        remote.search("tiger", mode="semantic")


def test_a_word_that_the_model_does_not_know_is_found_by_itself(fresh: Instance) -> None:
    strange = "\U00010338\U00010330\U00010339"  # Gothic
    fresh.upsert([Article(uri="u", title=f"tiger {strange}"), Article(uri="v", title="zebra")])
    with pytest.raises(QueryInvalid):
        fresh.search("\U000e0001", mode="semantic")
    with pytest.raises(QueryInvalid):
        fresh.search("\U000e0001")
    assert uris(fresh.search(f"{strange} tiger", k=1)) == ["u"]


def test_stop_words_alone_are_searched_by_meaning_and_the_answer_says_so(read_only_instance: Instance) -> None:
    answer = read_only_instance.search("to be or not to be", k=5)
    assert uris(answer) == uris(read_only_instance.search("to be or not to be", mode="semantic", k=10))[:5]
    assert {hit.keyword_rank for hit in answer.hits} == {None}
    assert "no word of the query can be searched for" in answer.notices[0]


def test_without_a_vector_index_both_still_answer(filled: str) -> None:
    with connect_instance(filled, settings=Settings()) as instance:
        run(filled, "DROP INDEX articles_embedding_hnsw_idx")
        instance.invalidate()
        answer = instance.search("memory leak")
        assert (answer.strategy, len(answer.hits)) == ("exact", 10)
        assert "no valid vector index" in answer.notices[0]
