"""Reciprocal rank fusion, as properties."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from everindex.articles.search.hybrid import RANK_CONSTANT, fuse

ORDERS = st.lists(st.lists(st.text("abcdefgh", min_size=1, max_size=2), unique=True, max_size=12), max_size=4)


@given(ORDERS)
def test_the_fused_order_has_every_article_once_and_falls_in_score(orders: list[list[str]]) -> None:
    fused = fuse(*orders)
    uris = [one.key for one in fused]
    assert len(uris) == len(set(uris))
    assert set(uris) == set(itertools.chain(*orders))
    assert all(first.score >= second.score for first, second in itertools.pairwise(fused))


@given(ORDERS)
def test_a_score_is_the_sum_of_the_reciprocal_ranks(orders: list[list[str]]) -> None:
    for one in fuse(*orders):
        assert one.ranks == tuple(order.index(one.key) + 1 if one.key in order else None for order in orders)
        expected = sum(1 / (RANK_CONSTANT + rank) for rank in one.ranks if rank is not None)
        assert math.isclose(one.score, expected, rel_tol=1e-12)


@given(ORDERS, st.randoms())
def test_which_search_comes_first_does_not_matter(orders: list[list[str]], random: object) -> None:
    shuffled = list(orders)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [(one.key, one.score) for one in fuse(*shuffled)] == [(one.key, one.score) for one in fuse(*orders)]


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=2), unique=True, max_size=12))
def test_one_order_stays_as_it_is_also_beside_itself_and_beside_nothing(order: list[str]) -> None:
    for orders in ([order], [order, order], [order, []]):
        assert [one.key for one in fuse(*orders)] == order


@given(ORDERS)
def test_what_is_in_front_everywhere_is_in_front(orders: list[list[str]]) -> None:
    place = {one.key: number for number, one in enumerate(fuse(*orders))}
    for one, other in itertools.permutations(place, 2):
        if all(
            one in order and (other not in order or order.index(one) < order.index(other))
            for order in orders
            if one in order or other in order
        ):
            assert place[one] < place[other]


def test_equal_scores_go_by_uri() -> None:
    assert [one.key for one in fuse(["b"], ["a"])] == ["a", "b"]
    assert [one.key for one in fuse(["b", "a"], ["a", "b"])] == ["a", "b"]
