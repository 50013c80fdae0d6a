"""What is chosen for variety, and what is left out as said already, against plain definitions of both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everindex.articles.search.request.options import check_threshold, check_weight_of_variety
from everindex.articles.search.results.selection import most_diverse, unit, without_near_duplicates
from everindex.errors import QueryInvalid


def scene(seed: int, rows: int, dimensions: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """(likeness to a query, vectors) of candidates, nearest first, in clusters and with equal ones among them."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((3, dimensions))
    vectors = centres[random.integers(3, size=rows)] + 0.3 * random.standard_normal((rows, dimensions))
    if rows > 3:
        vectors[rows // 2] = vectors[0]
    vectors *= random.uniform(0.1, 20, size=(rows, 1))
    query = unit(random.standard_normal(dimensions))[0]
    likeness = unit(vectors) @ query
    order = np.argsort(-likeness, kind="stable")
    return likeness[order], vectors[order].astype(np.float32)


def plainly(likeness: np.ndarray, vectors: np.ndarray, k: int, diversity: float) -> list[int]:
    """Carbonell and Goldstein's formula, word by word."""
    directions = unit(vectors)
    taken = [0]
    while len(taken) < min(k, len(likeness)):
        worth = {
            one: (1 - diversity) * likeness[one]
            - diversity * max(directions[one] @ directions[other] for other in taken)
            for one in range(len(likeness))
            if one not in taken
        }
        taken.append(max(worth, key=lambda one: worth[one]))
    return taken


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 50), st.floats(0, 1))
@settings(deadline=None)
def test_each_article_taken_is_the_best_by_the_formula(seed: int, rows: int, k: int, diversity: float) -> None:
    likeness, vectors = scene(seed, rows)
    taken = most_diverse(likeness, vectors, k=k, diversity=diversity)
    assert taken[0] == 0
    assert len(taken) == len(set(taken)) == min(k, rows)
    directions = unit(vectors)
    for step in range(1, len(taken)):
        worth = (1 - diversity) * likeness - diversity * (directions @ directions[taken[:step]].T).max(axis=1)
        free = [one for one in range(rows) if one not in taken[:step]]
        assert worth[taken[step]] >= worth[free].max() - 1e-12


def test_the_choice_is_that_of_the_formula_word_by_word() -> None:
    for seed in range(20):
        likeness, vectors = scene(seed, 30)
        for diversity in (0.1, 0.5, 0.9):
            assert most_diverse(likeness, vectors, k=12, diversity=diversity) == plainly(
                likeness, vectors, 12, diversity
            )


@given(st.integers(0, 2**31), st.integers(1, 40))
@settings(deadline=None)
def test_without_diversity_the_order_is_that_of_the_distance(seed: int, rows: int) -> None:
    likeness, vectors = scene(seed, rows)
    assert most_diverse(likeness, vectors, k=rows, diversity=0) == list(range(rows))


def test_of_three_stories_told_ten_times_each_comes_first_once() -> None:
    random = np.random.default_rng(5)
    stories = np.repeat(np.eye(3, 6), 10, axis=0) + 0.01 * random.standard_normal((30, 6))
    likeness = unit(stories) @ unit(np.array([1.0, 0.8, 0.6, 0, 0, 0]))[0]
    order = np.argsort(-likeness)
    taken = most_diverse(likeness[order], stories[order], k=3, diversity=0.5)
    assert {int(order[number]) // 10 for number in taken} == {0, 1, 2}
    assert {int(order[number]) // 10 for number in range(3)} == {0}, "by distance alone it is one story"


def test_no_candidate_gives_no_choice() -> None:
    assert most_diverse(np.empty(0), np.empty((0, 4)), k=5, diversity=0.5) == []
    assert without_near_duplicates(np.empty((0, 4)), threshold=0.1) == []


@pytest.mark.parametrize("diversity", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_diversity_that_is_no_share_is_refused(diversity: float) -> None:
    with pytest.raises(QueryInvalid, match="diversity"):
        check_weight_of_variety(diversity)


@given(st.integers(0, 2**31), st.integers(0, 40), st.floats(1e-9, 2))
@settings(deadline=None)
def test_no_two_that_are_kept_are_close_and_each_left_out_is_close_to_one_before_it(
    seed: int, rows: int, threshold: float
) -> None:
    _, vectors = scene(seed, rows)
    kept = without_near_duplicates(vectors, threshold=threshold)
    distances = 1 - unit(vectors) @ unit(vectors).T if rows else np.empty((0, 0))
    assert kept == sorted(set(kept))
    for number in range(rows):
        before = [one for one in kept if one < number]
        nearest = distances[number, before].min() if before else np.inf
        if number in kept:
            assert nearest >= threshold - 1e-12
        else:
            assert nearest < threshold + 1e-12


def test_those_close_to_the_article_itself_are_left_out_too() -> None:
    article = np.array([1.0, 0, 0])
    vectors = np.array([[2.0, 0.001, 0], [1, 1, 0], [1, 1.001, 0], [0, 0, 1]])
    assert without_near_duplicates(vectors, threshold=0.01) == [0, 1, 3]
    assert without_near_duplicates(vectors, threshold=0.01, of=article) == [1, 3]


def test_equal_articles_are_found_at_the_smallest_threshold() -> None:
    vectors = np.repeat(np.random.default_rng(3).standard_normal((1, 1536)), 5, axis=0).astype(np.float32)
    vectors *= np.array([1, 3, 0.1, 7, 1e-3], dtype=np.float32)[:, None]
    assert without_near_duplicates(vectors, threshold=1e-6) == [0]


@pytest.mark.parametrize("threshold", [0, -1, 2.1, float("nan")])
def test_a_threshold_that_is_no_distance_is_refused(threshold: float) -> None:
    with pytest.raises(QueryInvalid, match="near-duplicate"):
        check_threshold(threshold)
