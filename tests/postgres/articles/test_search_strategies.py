"""Which way a search takes, that it says so, and that PostgreSQL goes that way on every index that can serve."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.instance import Instance
from everindex.articles.model import Filters
from everindex.articles.search.vector import engine as searching
from everindex.articles.search.vector.strategy import Serving, choose, exact_up_to
from everindex.index.deploy.executor import deploy
from everindex.index.plan.policy import MIGRATE_CHANGED
from golden_answers import Golden, check_answer, check_exact


@given(
    k=st.integers(1, 1001), passing=st.none() | st.integers(0, 100_000), ef_search=st.none() | st.integers(1, 1000),
    exact=st.booleans(), rows=st.integers(0, 10**9), key_type=st.sampled_from(["vector", "halfvec", "bit"]),
    iterates=st.booleans(), serves=st.booleans(),
)  # fmt: skip
def test_any_search_has_a_strategy_that_can_give_k_rows(
    k: int,
    passing: int | None,
    ef_search: int | None,
    exact: bool,
    rows: int,
    key_type: str,
    iterates: bool,
    serves: bool,
) -> None:
    serving = Serving(
        index_name="i" if serves else None, estimated_rows=rows, has_iterative_scan=iterates, key_type=key_type
    )
    search_plan = choose(serving, k=k, passing=passing, ef_search=ef_search, exact=exact)
    settings = dict(search_plan.settings)
    assert search_plan.reason
    if passing == 0:
        assert search_plan.strategy == "none-match"
    elif exact or not serves or (passing is not None and passing <= exact_up_to(serving, k=k)):
        assert search_plan.strategy == ("exact" if passing is None else "filtered-exact")
        assert not any(name.startswith("hnsw.") for name in settings)
    else:
        assert search_plan.strategy.endswith("-filtered") == (passing is not None)
        assert search_plan.strategy.startswith("index") == (key_type == "vector")
        assert search_plan.fetch >= k
        assert search_plan.candidates is None or search_plan.candidates >= k
        assert 1 <= int(settings["hnsw.ef_search"]) <= 1000
        assert ef_search in (None, search_plan.ef_search)
        assert ("hnsw.iterative_scan" in settings) == iterates
        assert 1000 <= int(settings.get("hnsw.max_scan_tuples", 1000)) <= 20_000


# --- the index that serves -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["vector_cosine_ops", "halfvec_cosine_ops", "bit_hamming_ops"])
def served(request: pytest.FixtureRequest, cluster: Any, with_articles: str) -> Iterator[str]:
    """A database whose articles are served by an index of that opclass alone."""
    conninfo = cluster.database(with_articles)
    if request.param != EMBEDDING_INDEX.opclass:
        deploy(conninfo, replace(EMBEDDING_INDEX, opclass=request.param), policy=MIGRATE_CHANGED)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("DROP INDEX articles_embedding_hnsw_idx__prev")
    yield conninfo
    cluster.drop(conninfo)


def commonest(golden: Golden) -> Filters:
    return Filters(category=Counter(row["category"] for row in golden.rows).most_common(1)[0][0])


@pytest.mark.parametrize("is_filtered", [False, True])
@pytest.mark.parametrize("k", [1, 10, 100, 1000])
def test_every_index_gives_all_k_neighbours_in_order_by_its_own_plan(
    served: str, golden: Golden, k: int, is_filtered: bool, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(served)
    filters = commonest(golden) if is_filtered else Filters()
    key_type = instance.engine.known()[1].key_type
    recalls = []
    for number in range(0, 2400, 200):
        vector = golden.directions[number].astype(np.float32)
        answer = instance.search_vector(vector, k=k, filters=filters)
        check_answer(answer, golden, vector, filters, k=k)
        recalls.append(golden.recall(answer, vector, filters, k=k))
    assert np.mean(recalls) >= (0.95 if key_type != "bit" else 0.9)
    explanation = instance.explain(vector, k=k, filters=filters)
    assert answer.strategy == explanation.search_plan.strategy
    assert answer.reason == explanation.search_plan.reason
    uses_index = any("articles_embedding_hnsw_idx" in line for line in explanation.plan)
    if answer.ef_search is None:
        assert not uses_index
        check_exact(answer, golden, vector, filters, k=k)
    else:
        expected = ("index" if key_type == "vector" else "reranked") + "-filtered" * is_filtered
        assert answer.strategy == expected
        assert uses_index, explanation.plan


@pytest.mark.parametrize("is_filtered", [False, True])
def test_the_pages_of_every_index_repeat_nothing_and_find_nearly_all(
    served: str, golden: Golden, is_filtered: bool, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(served)
    filters = commonest(golden) if is_filtered else Filters()
    recalls = []
    for number in (5, 700, 1900):
        vector = golden.directions[number].astype(np.float32)
        hits, after = [], None
        for page in range(12):
            answer = instance.search_vector(vector, k=8, filters=filters, after=after)
            after = answer.next_cursor
            hits += answer.hits
            if page == 1 and not is_filtered:
                assert answer.strategy == instance.search_vector(vector, k=8).strategy
        places = [(hit.distance, hit.uri) for hit in hits]
        assert places == sorted(places)
        assert len({hit.uri for hit in hits}) == len(hits) == 96
        together = replace(answer, hits=hits, k=96)
        check_answer(together, golden, vector, filters, k=96)
        recalls.append(golden.recall(together, vector, filters, k=96))
    assert np.mean(recalls) >= 0.9


def test_an_exact_search_uses_no_vector_index_whatever_serves(
    served: str, golden: Golden, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(served)
    vector = golden.directions[77].astype(np.float32)
    for filters in (Filters(), commonest(golden)):
        check_exact(instance.search_vector(vector, k=20, filters=filters, exact=True), golden, vector, filters, k=20)
        plan = instance.explain(vector, k=20, filters=filters, exact=True).plan
        assert not any("articles_embedding_hnsw_idx" in line for line in plan)


def test_an_explanation_shows_everything_but_the_question(read_only_instance: Instance, golden: Golden) -> None:
    vector = golden.directions[5].astype(np.float32)
    told = read_only_instance.explain(vector, filters={"category": "Library", "since": "2001"}).as_dict()
    assert told["strategy"] == "index-filtered"
    assert told["settings"]["hnsw.iterative_scan"] == "relaxed_order"
    assert "LIMIT 12" in told["statement"]
    assert any("actual time" in line for line in told["plan"])
    assert not any(len(line) > 2000 for line in told["plan"])
    assert read_only_instance.explain(vector, filters={"category": "no such"}).as_dict()["plan"] == []


# --- short answers ---------------------------------------------------------------------------------------------------


def test_an_index_that_gives_too_little_is_an_incident_and_the_answer_is_whole(
    filled: str, golden: Golden, open_instance: Callable[..., Instance], caplog: pytest.LogCaptureFixture
) -> None:
    """Vectors that an index has lost: its scan is made to find none of them."""
    instance = open_instance(filled)
    vector = golden.directions[9].astype(np.float32)
    choose_as_ever = searching.choose

    def choose_without_iterating(*arguments: Any, **options: Any) -> Any:
        search_plan = choose_as_ever(*arguments, **options)
        kept = tuple(setting for setting in search_plan.settings if setting[0] != "hnsw.iterative_scan")
        return replace(search_plan, settings=(*kept, ("hnsw.ef_search", "1")))

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, logger="everindex.search"):
        patch.setattr(searching, "choose", choose_without_iterating)
        answers = [instance.search_vector(vector, k=10, filters=commonest(golden)) for _ in range(3)]
    for answer in answers:
        assert answer.strategy == "filtered-exact"
        assert "too few rows" in answer.notices[0]
        check_exact(answer, golden, vector, commonest(golden), k=10)
    assert instance.engine.short_answers.count == 3
    assert instance.engine.short_answers.last is not None
    assert instance.engine.short_answers.last.filters == ("category",)
    assert len([record for record in caplog.records if "short-answer" in record.message]) == 3
    with psycopg.connect(filled) as connection:
        lines = connection.execute(
            "SELECT details->>'answers', details->>'existing', details->'filters' FROM everindex_meta.journal "
            "WHERE event = 'short answer'"
        ).fetchall()
    assert lines == [("1", "10", ["category"])]  # one a minute


def test_a_scan_that_gives_up_with_rows_enough_is_followed_by_an_exact_search_and_no_incident(
    read_only_instance: Instance, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at one narrow batch and what it came upon beside it, and was to fetch 900."""
    vector = golden.directions[9].astype(np.float32)
    before = read_only_instance.engine.short_answers.count
    choose_as_ever = searching.choose

    def choose_with_little_patience(*arguments: Any, **options: Any) -> Any:
        search_plan = choose_as_ever(*arguments, **options)
        assert search_plan.gives_up
        little = (("hnsw.ef_search", "10"), ("hnsw.max_scan_tuples", "1"))
        return replace(search_plan, fetch=900, settings=(*search_plan.settings, *little))

    monkeypatch.setattr(searching, "choose", choose_with_little_patience)
    answer = read_only_instance.search_vector(vector, k=10, filters=commonest(golden))
    assert (answer.strategy, answer.notices) == ("filtered-exact", [])
    assert "too few rows" in answer.reason
    check_exact(answer, golden, vector, commonest(golden), k=10)
    assert read_only_instance.engine.short_answers.count == before


def test_where_fewer_exist_nothing_is_an_incident(read_only_instance: Instance, golden: Golden) -> None:
    vector = golden.directions[9].astype(np.float32)
    before = read_only_instance.engine.short_answers.count
    rarest = Filters(category=Counter(row["category"] for row in golden.rows).most_common()[-1][0])
    answer = read_only_instance.search_vector(vector, k=1000, filters=rarest)
    assert 0 < len(answer.hits) < 1000
    assert answer.notices == []
    assert read_only_instance.engine.short_answers.count == before
