"""Every answer against the same answer computed in numpy: any filters, any k, any way the engine takes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everindex.articles.instance import Instance
from everindex.articles.model import Filters
from golden_answers import Golden, check_answer, check_exact

TEXTS = (
    "memory leak in the parser",
    "new release candidate",
    "race condition when threads finalize the interpreter",
    "documentation of asyncio streams",
    "buffer overflow, security fix",
    "Windows installer",
    "IDLE editor window",
    "deprecated module removed",
)
PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def query_of(golden: Golden, seed: int) -> np.ndarray:
    """A vector near some row, of a length other than 1, as a model might give it."""
    random = np.random.default_rng(seed)
    row = golden.directions[random.integers(len(golden.directions))]
    noise = random.standard_normal(row.size) / np.sqrt(row.size)
    return ((row + random.uniform(0, 1.5) * noise) * random.uniform(0.1, 30)).astype(np.float32)


@st.composite
def some_filters(draw: st.DrawFn, golden: Golden) -> Filters:
    """Values of one real row, some of them left out, and dates that may be a year, a month or a day."""
    row = golden.rows[draw(st.integers(0, len(golden.rows) - 1))]
    other = golden.rows[draw(st.integers(0, len(golden.rows) - 1))]
    dates = sorted([row["publication_date"][:10], other["publication_date"][:10]])
    values: dict[str, Any] = {
        name: row[name] for name in ("category", "topic", "news_source") if draw(st.booleans()) and row[name]
    }
    if draw(st.booleans()):
        values["since"] = dates[0][: draw(st.sampled_from([4, 7, 10]))]
    if draw(st.booleans()):
        values["until"] = dates[1][: draw(st.sampled_from([4, 7, 10]))]
    return Filters(**values)


@given(data=st.data(), seed=st.integers(0, 2**31), k=st.sampled_from([1, 3, 10, 40, 250, 1000]))
@PROPERTY
def test_a_filtered_search_gives_all_k_rows_that_pass_and_exactly_those_of_numpy_where_it_is_exact(
    read_only_instance: Instance, golden: Golden, data: st.DataObject, seed: int, k: int
) -> None:
    filters = data.draw(some_filters(golden))
    vector = query_of(golden, seed)
    answer = read_only_instance.search_vector(vector, k=k, filters=filters)
    check_answer(answer, golden, vector, filters, k=k)
    if answer.ef_search is None:
        check_exact(answer, golden, vector, filters, k=k)
    assert filters.is_empty == (answer.strategy == "index")


@pytest.mark.parametrize("k", [1, 10, 100])
def test_an_index_search_under_a_filter_finds_nearly_all_of_the_true_neighbours(
    read_only_instance: Instance, golden: Golden, k: int
) -> None:
    """The commonest category, wherever the query lies: near its rows, or far from all of them."""
    categories = Counter(row["category"] for row in golden.rows)
    filters = Filters(category=categories.most_common(1)[0][0])
    recalls, strategies = [], Counter[str]()
    for seed in range(25):
        vector = query_of(golden, seed)
        answer = read_only_instance.search_vector(vector, k=k, filters=filters)
        assert len(answer.hits) == k
        strategies[answer.strategy] += 1
        check_answer(answer, golden, vector, filters, k=k)
        recalls.append(golden.recall(answer, vector, filters, k=k))
    assert strategies["index-filtered"] >= (10 if k <= 10 else 0)  # for 100 of 1,200 reading all of them costs less
    assert strategies.total() == strategies["index-filtered"] + strategies["filtered-exact"]
    assert np.mean(recalls) >= 0.95


@given(seed=st.integers(0, 2**31), k=st.sampled_from([1, 10, 100, 1000]))
@settings(PROPERTY, max_examples=40)
def test_an_exact_search_gives_exactly_the_rows_that_numpy_gives(
    read_only_instance: Instance, golden: Golden, seed: int, k: int
) -> None:
    vector = query_of(golden, seed)
    answer = read_only_instance.search_vector(vector, k=k, exact=True)
    assert (answer.strategy, answer.ef_search, answer.notices) == ("exact", None, [])
    check_exact(answer, golden, vector, Filters(), k=k)


@pytest.mark.parametrize("k", [1, 10, 100, 1000])
def test_the_index_finds_nearly_all_of_the_true_neighbours_and_always_k(
    read_only_instance: Instance, golden: Golden, k: int
) -> None:
    recalls = []
    for seed in range(25):
        vector = query_of(golden, seed)
        answer = read_only_instance.search_vector(vector, k=k)
        assert (answer.strategy, len(answer.hits)) == ("index", k)
        check_answer(answer, golden, vector, Filters(), k=k)
        recalls.append(golden.recall(answer, vector, Filters(), k=k))
    assert np.mean(recalls) >= 0.95


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_answered_as_its_vector_is(read_only_instance: Instance, golden: Golden, text: str) -> None:
    vector = read_only_instance.embed_query(text)
    answer = read_only_instance.search(text, k=10, mode="semantic", ef_search=400)  # the graph has chance in it
    check_answer(answer, golden, vector, Filters(), k=10)
    assert golden.recall(answer, vector, Filters(), k=10) >= 0.9
    assert all(hit.similarity == 1 - hit.distance for hit in answer.hits)


@pytest.mark.parametrize(
    ("since", "until"),
    [("2022", "2022"), ("2022-05", "2022-05"), ("2022-05-02", "2022-05-31"), (None, "2021-12"), ("2023-02", None)],
)
def test_dates_are_prefixes_and_both_ends_are_included(
    read_only_instance: Instance, golden: Golden, since: str | None, until: str | None
) -> None:
    filters = Filters(since=since, until=until)
    vector = query_of(golden, 1)
    passing = len(golden.passing(filters))
    answer = read_only_instance.search_vector(vector, k=1000, filters=filters)
    check_exact(answer, golden, vector, filters, k=1000)
    assert len(answer.hits) == min(passing, 1000)


def test_a_filter_that_no_row_passes_is_answered_at_once(read_only_instance: Instance) -> None:
    vector = read_only_instance.embed_query("anything")
    for filters in ({"category": "no such category"}, {"since": "2999"}, {"until": "1900-01"}, {"topic": "'; --"}):
        answers = [read_only_instance.search_vector(vector, filters=filters) for _ in range(5)]
        for answer in answers:
            assert (answer.strategy, answer.hits, answer.notices) == ("none-match", [], [])
        assert min(answer.elapsed_ms for answer in answers) < 50


def test_similar_articles_leave_out_the_article_itself(read_only_instance: Instance, golden: Golden) -> None:
    for number in range(0, len(golden.rows), 250):
        uri = golden.rows[number]["uri"]
        answer = read_only_instance.similar(uri, k=10)
        assert len(answer.hits) == 10
        assert uri not in {hit.uri for hit in answer.hits}
        assert [hit.distance for hit in answer.hits] == sorted(hit.distance for hit in answer.hits)


def test_similar_articles_may_be_as_many_as_a_search_gives(read_only_instance: Instance, golden: Golden) -> None:
    answer = read_only_instance.similar(golden.rows[0]["uri"], k=1000)
    assert len(answer.hits) == 1000
