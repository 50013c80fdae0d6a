"""A least similarity, variety and near-duplicates against numpy, for every way of searching."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_search_golden import query_of, some_filters

from everindex.articles.instance import Instance
from everindex.articles.model import Answer, Article, Filters
from everindex.articles.search.request.options import NEAR_DUPLICATE_DISTANCE
from everindex.articles.search.results import selection
from everindex.errors import QueryInvalid
from golden_answers import TOLERANCE, Golden

PROPERTY = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def directions_of(golden: Golden, answer: Answer) -> np.ndarray:
    numbers = {row["uri"]: number for number, row in enumerate(golden.rows)}
    return golden.directions[[numbers[hit.uri] for hit in answer.hits]]


# --- min_similarity -------------------------------------------------------------------------------------------------


@given(data=st.data(), seed=st.integers(0, 2**31), k=st.sampled_from([3, 40, 1000]), least=st.floats(-1, 1))
@PROPERTY
def test_a_least_similarity_gives_those_of_the_nearest_that_are_so_similar(
    read_only_instance: Instance, golden: Golden, data: st.DataObject, seed: int, k: int, least: float
) -> None:
    filters = data.draw(some_filters(golden))
    vector = query_of(golden, seed)
    answer = read_only_instance.search_vector(vector, k=k, filters=filters, min_similarity=least, exact=True)
    similarities = [1 - distance for distance in golden.nearest(vector, filters, k=k).values()]
    certain = sum(similarity >= least + TOLERANCE for similarity in similarities)
    possible = sum(similarity >= least - TOLERANCE for similarity in similarities)
    assert certain <= len(answer.hits) <= possible
    assert all(hit.similarity is not None and hit.similarity >= least for hit in answer.hits)
    assert answer.next_cursor is None or len(answer.hits) == k


@pytest.mark.parametrize("mode", ["semantic", "hybrid"])
def test_an_answer_cut_by_similarity_is_no_incident_of_the_index(instance: Instance, mode: Any) -> None:
    whole = instance.search("memory leak in the parser", mode=mode, k=10)
    similarities = sorted(hit.similarity for hit in whole.hits if hit.similarity is not None)
    answer = instance.search("memory leak in the parser", mode=mode, k=10, min_similarity=similarities[-4])
    assert len(answer.hits) == 4 if mode == "semantic" else len(answer.hits) >= 4
    assert [hit.uri for hit in answer.hits if hit in whole.hits]
    assert all(hit.similarity is not None and hit.similarity >= similarities[-4] for hit in answer.hits)
    assert answer.strategy == "index"
    assert answer.next_cursor is None
    assert instance.engine.short_answers.count == 0


def test_nothing_may_be_similar_enough(read_only_instance: Instance) -> None:
    for mode in ("semantic", "hybrid"):
        answer = read_only_instance.search("memory leak in the parser", mode=mode, min_similarity=1.0)
        assert (answer.hits, answer.next_cursor) == ([], None)


def test_a_hybrid_search_leaves_out_what_has_the_words_but_not_the_meaning(
    instance: Instance, sql: psycopg.Connection
) -> None:
    sql.execute("INSERT INTO articles (uri, title) VALUES ('no:vector', 'memory leak memory leak')")
    plain = instance.search("memory leak", k=30)
    assert "no:vector" in {hit.uri for hit in plain.hits}
    least = 0.3
    answer = instance.search("memory leak", k=30, min_similarity=least)
    assert "no:vector" not in {hit.uri for hit in answer.hits}
    assert {hit.uri for hit in plain.hits if (hit.similarity or -1) >= least} <= {hit.uri for hit in answer.hits}


@pytest.mark.parametrize("least", [1.1, -1.5, float("nan")])
def test_what_is_no_similarity_is_refused(read_only_instance: Instance, least: float) -> None:
    with pytest.raises(QueryInvalid, match="min_similarity"):
        read_only_instance.search("crash", min_similarity=least)


def test_a_search_by_keyword_has_no_similarity(read_only_instance: Instance) -> None:
    with pytest.raises(QueryInvalid, match="no similarity"):
        read_only_instance.search("crash", mode="keyword", min_similarity=0.5)


# --- diversity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 300])
def test_variety_is_chosen_among_the_nearest_and_the_nearest_stays_first(
    read_only_instance: Instance, golden: Golden, k: int
) -> None:
    vector = query_of(golden, 2)
    plain = read_only_instance.search_vector(vector, k=k)
    candidates = read_only_instance.search_vector(vector, k=min(4 * k, 1000))
    answer = read_only_instance.search_vector(vector, k=k, diversity=0.5)
    assert answer.hits[0] == plain.hits[0]
    assert len({hit.uri for hit in answer.hits}) == len(answer.hits) == k == answer.k
    assert {hit.uri for hit in answer.hits} <= {hit.uri for hit in candidates.hits}
    assert (answer.diversity, answer.next_cursor) == (0.5, None)
    assert answer.as_dict()["diversity"] == 0.5


@pytest.mark.parametrize("mode", ["semantic", "hybrid", "keyword"])
def test_more_diversity_gives_answers_less_like_each_other(
    read_only_instance: Instance, golden: Golden, mode: Any
) -> None:
    def likeness(diversity: float | None) -> float:
        found = []
        for text in ("fix memory leak", "update documentation", "crash on Windows", "openssl installer"):
            answer = read_only_instance.search(text, k=8, mode=mode, diversity=diversity)
            directions = directions_of(golden, answer)
            found.append(np.mean((directions @ directions.T)[np.triu_indices(len(directions), 1)]))
        return float(np.mean(found))

    plain, some, much = likeness(None), likeness(0.4), likeness(0.9)
    assert plain == pytest.approx(likeness(0), abs=1e-6)
    assert plain > some > much - 0.02
    assert plain > much + 0.02


def test_variety_among_articles_of_which_some_have_no_vector(instance: Instance, sql: psycopg.Connection) -> None:
    sql.execute("INSERT INTO articles (uri, title) VALUES ('no:vector', 'memory leak memory leak')")
    for mode in ("hybrid", "keyword"):
        answer = instance.search("memory leak", k=10, mode=mode, diversity=0.6)
        assert len(answer.hits) == 10
        assert "no:vector" in {hit.uri for hit in answer.hits}


def test_variety_keeps_to_the_filters_and_the_least_similarity(read_only_instance: Instance) -> None:
    answer = read_only_instance.search(
        "memory leak", mode="semantic", k=10, diversity=0.7, min_similarity=0.25, filters={"category": "Library"}
    )
    assert answer.hits
    assert all(hit.category == "Library" for hit in answer.hits)
    assert all(hit.similarity is not None and hit.similarity >= 0.25 for hit in answer.hits)


@pytest.mark.parametrize("k", [0, 1001])
def test_a_k_out_of_range_is_refused_with_variety_too(read_only_instance: Instance, k: int) -> None:
    with pytest.raises(QueryInvalid, match="k = "):
        read_only_instance.search("crash", k=k, diversity=0.5)


# --- near-duplicates ------------------------------------------------------------------------------------------------


def add_copies(instance: Instance, uri: str, count: int, *, noise: float = 0.0) -> None:
    """`count` articles whose vectors are that of `uri`, each moved by so much of its length."""
    with instance.connection() as connection:
        row = connection.execute("SELECT embedding FROM articles WHERE uri = %s", (uri,), binary=True).fetchone()
    assert row is not None
    vector = row[0].to_numpy()
    random = np.random.default_rng(count)
    moved = random.standard_normal((count, len(vector))) * noise * np.linalg.norm(vector) / np.sqrt(len(vector))
    instance.upsert(
        [Article(uri=f"copy:{uri}:{number}", title="again") for number in range(count)],
        vectors=(vector + moved).astype(np.float32),
        model=next(iter(instance.query_embedder.embedding_models())),
    )


def test_copies_of_the_article_and_of_its_neighbours_are_left_out_and_the_answer_is_full(instance: Instance) -> None:
    uri = instance.search("memory leak in the parser", mode="semantic", k=1).hits[0].uri
    neighbour = instance.similar(uri, k=30, without_near_duplicates=True).hits[2].uri
    add_copies(instance, uri, 25, noise=0.1)
    add_copies(instance, neighbour, 15, noise=0.05)
    plain = instance.similar(uri, k=10)
    assert all(hit.uri.startswith("copy:") for hit in plain.hits)
    answer = instance.similar(uri, k=10, without_near_duplicates=True)
    assert len(answer.hits) == 10
    assert not any(hit.uri.startswith(f"copy:{uri}") for hit in answer.hits)
    assert sum(hit.uri == neighbour or hit.uri.startswith(f"copy:{neighbour}") for hit in answer.hits) == 1
    distances = [hit.distance for hit in answer.hits]
    assert distances == sorted(distances, key=lambda distance: distance or 0.0)
    assert answer.notices == []
    assert answer.elapsed_ms > 0


def test_what_is_kept_is_what_numpy_keeps(read_only_instance: Instance, golden: Golden) -> None:
    for number in range(0, len(golden.rows), 500):
        uri = golden.rows[number]["uri"]
        threshold = 0.3
        answer = read_only_instance.similar(uri, k=12, without_near_duplicates=True, near_duplicate_distance=threshold)
        assert len(answer.hits) == 12
        directions = np.vstack([golden.directions[number], directions_of(golden, answer)])
        distances = 1 - directions @ directions.T
        assert distances[np.triu_indices(len(directions), 1)].min() >= threshold - TOLERANCE


def test_a_tiny_table_gives_what_there_is(instance: Instance, sql: psycopg.Connection) -> None:
    uri = instance.search("crash", mode="semantic", k=1).hits[0].uri
    sql.execute("DELETE FROM articles WHERE uri <> %s", (uri,))
    instance.invalidate()
    assert instance.similar(uri, k=5, without_near_duplicates=True).hits == []
    add_copies(instance, uri, 3)
    assert len(instance.similar(uri, k=5).hits) == 3
    assert instance.similar(uri, k=5, without_near_duplicates=True).hits == []


def test_the_look_for_other_articles_ends_and_says_so(
    instance: Instance, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_CANDIDATES", 40)
    uri = instance.search("crash", mode="semantic", k=1).hits[0].uri
    sql.execute(
        "INSERT INTO articles (uri, title, embedding) SELECT 'same:' || n, 'same', embedding FROM articles, "
        "generate_series(1, %s) AS n WHERE uri = %s",
        (60, uri),
    )
    instance.invalidate()
    answer = instance.similar(uri, k=5, filters=Filters(), without_near_duplicates=True)
    assert "near-duplicates" in answer.notices[-1]
    assert len(answer.hits) < 5


def test_variety_without_near_duplicates(instance: Instance) -> None:
    uri = instance.search("memory leak in the parser", mode="semantic", k=1).hits[0].uri
    add_copies(instance, uri, 10, noise=0.05)
    answer = instance.similar(uri, k=6, without_near_duplicates=True, diversity=0.5)
    assert len(answer.hits) == 6
    assert not any(hit.uri.startswith("copy:") for hit in answer.hits)
    assert answer.diversity == 0.5


def test_the_threshold_is_a_distance(read_only_instance: Instance, golden: Golden) -> None:
    uri = golden.rows[0]["uri"]
    with pytest.raises(QueryInvalid, match="near-duplicate"):
        read_only_instance.similar(uri, without_near_duplicates=True, near_duplicate_distance=3)
    assert 0 < NEAR_DUPLICATE_DISTANCE < 0.2
