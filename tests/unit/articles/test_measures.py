"""Measures of rankings against figures computed by hand, intervals and comparisons against what they must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everindex.articles.evaluation.judgements import JudgedQuery
from everindex.articles.evaluation.measures import compare, estimate, measure


def judged(name: str, **grades: int) -> JudgedQuery:
    return JudgedQuery(id=name, text=name, grades=grades, line=1)


def test_ndcg_mrr_and_recall_are_those_of_the_definition() -> None:
    queries = [judged("one", a=1, b=1), judged("two", c=3, d=1), judged("none", e=1)]
    values = measure(queries, {"one": ["x", "a", "y", "b"], "two": ["d", "c"], "none": []}, k=3)
    assert values["nDCG@3"] == pytest.approx(
        [
            (1 / math.log2(3)) / (1 + 1 / math.log2(3)),
            (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)),
            0,
        ]
    )
    assert values["MRR@3"] == pytest.approx([0.5, 1, 0])
    assert values["recall@3"] == pytest.approx([0.5, 1, 0])


def test_keys_in_their_order_count_whatever_their_names() -> None:
    queries = [judged("q", zzz=1)]
    first = measure(queries, {"q": ["zzz", "aaa"]}, k=10)["MRR@10"]
    second = measure(queries, {"q": ["aaa", "zzz"]}, k=10)["MRR@10"]
    assert (first[0], second[0]) == (1, 0.5)


@settings(deadline=None, max_examples=30)  # the first call imports scipy.stats
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_an_interval_holds_its_mean_and_stays_within_0_and_1(values: list[float]) -> None:
    found = estimate(np.array(values))
    assert -1e-9 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= 1 + 1e-9


def test_an_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        found = estimate(generator.beta(2, 3, size=50))
        covered += found.low <= 0.4 <= found.high
    assert covered >= 50  # 57 are expected; 49 or fewer have a chance below 1 in 1,000


def test_a_system_that_is_better_on_nearly_every_query_is_clearly_better_and_noise_is_not() -> None:
    generator = np.random.default_rng(2)
    base = generator.uniform(0, 0.8, size=60)
    better = compare("b", base + 0.1, "a", base, measure_name="nDCG@10")
    assert better.is_clear
    assert better.p < 0.001
    assert better.difference.mean == pytest.approx(0.1)
    assert (better.better, better.worse) == (60, 0)
    noise = compare("b", base + generator.normal(0, 0.1, size=60), "a", base, measure_name="nDCG@10")
    assert noise.p > 0.05
    same = compare("b", base, "a", base, measure_name="nDCG@10")
    assert (same.p, same.is_clear, same.better, same.worse) == (1.0, False, 0, 0)


def test_the_same_values_give_the_same_figures() -> None:
    values = np.random.default_rng(3).uniform(size=30)
    assert estimate(values) == estimate(values.copy())
