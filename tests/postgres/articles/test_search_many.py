"""Many searches at once give what each gives by itself, for one round trip."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from test_search_golden import query_of

from everindex.articles.instance import Instance
from everindex.articles.model import Filters
from everindex.articles.search.vector import engine
from everindex.errors import QueryInvalid
from golden_answers import Golden, check_answer


@pytest.mark.parametrize(
    "filters", [None, {"category": "Library"}, {"category": "Security"}, {"category": "no such category"}]
)
def test_each_answer_is_that_of_a_search_by_itself(
    read_only_instance: Instance, golden: Golden, filters: dict[str, str] | None
) -> None:
    vectors = [query_of(golden, seed) for seed in range(12)]
    answers = read_only_instance.search_many(vectors, k=7, filters=filters)
    for vector, answer in zip(vectors, answers, strict=True):
        alone = read_only_instance.search_vector(vector, k=7, filters=filters)
        assert (answer.hits, answer.strategy, answer.ef_search) == (alone.hits, alone.strategy, alone.ef_search)
        assert answer.next_cursor is None
        check_answer(answer, golden, vector, Filters(**(filters or {})), k=7)


def test_texts_and_vectors_may_be_mixed_and_answers_come_in_the_order_of_the_queries(
    read_only_instance: Instance,
) -> None:
    texts = ["memory leak", "crash on Windows", "TLS certificate"]
    vectors = [read_only_instance.embed_query(text) for text in texts]
    by_text = read_only_instance.search_many(texts, k=4)
    mixed = read_only_instance.search_many([texts[0], vectors[1], texts[2]], k=4)
    by_array = read_only_instance.search_many(np.array(vectors), k=4)
    expected = [read_only_instance.search(text, mode="semantic", k=4).hits for text in texts]
    for answers in (by_text, mixed, by_array):
        # Texts embedded together have other last bits than each by itself.
        for answer, alone in zip(answers, expected, strict=True):
            assert [hit.uri for hit in answer.hits] == [hit.uri for hit in alone]
            assert np.allclose(
                [hit.distance for hit in answer.hits], [hit.distance for hit in alone], atol=1e-5, rtol=0
            )


def test_many_rows_are_read_in_parts(
    read_only_instance: Instance, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = [query_of(golden, seed) for seed in range(7)]
    whole = read_only_instance.search_many(vectors, k=5)
    monkeypatch.setattr(engine, "ROWS_AT_ONCE", 10)
    assert [answer.hits for answer in read_only_instance.search_many(vectors, k=5)] == [one.hits for one in whole]


def test_a_short_answer_is_completed_for_each_search_by_itself(instance: Instance, sql: psycopg.Connection) -> None:
    vectors = [instance.embed_query(text) for text in ("memory leak", "crash on Windows")]
    sql.execute(
        "UPDATE articles SET category = 'odd' WHERE substr(md5(uri), 1, 1) IN ('0', '1', '2', '3', '4', '5', '6', '7')"
    )
    instance.invalidate()
    for answer in instance.search_many(vectors, k=900, filters={"category": "odd"}, ef_search=10):
        assert len(answer.hits) == 900


def test_no_query_gives_no_answer_and_settings_do_not_stay(instance: Instance) -> None:
    assert instance.search_many([]) == []
    instance.search_many(["crash", "leak"], ef_search=333)
    with instance.connection() as connection:
        assert connection.execute("SELECT current_setting('hnsw.ef_search', true)").fetchone() in [("40",), (None,)]


def test_a_least_similarity_cuts_each(read_only_instance: Instance) -> None:
    answers = read_only_instance.search_many(["memory leak", "crash"], k=20, min_similarity=0.45)
    assert all(hit.similarity is not None and hit.similarity >= 0.45 for answer in answers for hit in answer.hits)
    assert any(len(answer.hits) < 20 for answer in answers)


@pytest.mark.parametrize("query", ["", np.zeros(1536, dtype=np.float32), np.ones(3, dtype=np.float32)])
def test_one_that_cannot_be_asked_is_told_and_nothing_is_answered(read_only_instance: Instance, query: object) -> None:
    with pytest.raises(QueryInvalid):
        read_only_instance.search_many(["memory leak", query])  # type: ignore[list-item]


def test_one_text_instead_of_a_list_is_told(read_only_instance: Instance) -> None:
    with pytest.raises(QueryInvalid, match="one text"):
        read_only_instance.search_many("memory leak")


@pytest.mark.parametrize("k", [0, 1001])
def test_a_k_out_of_range_is_refused_also_without_queries(read_only_instance: Instance, k: int) -> None:
    with pytest.raises(QueryInvalid, match="k = "):
        read_only_instance.search_many([], k=k)
