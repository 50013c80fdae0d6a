"""Pages and choosing among candidates through a pooler in transaction mode, where nothing is prepared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everindex.articles.instance import Instance
from everindex.articles.model import MODES

Lead = Callable[[str], str]


def pages(instance: Instance, mode: Any) -> list[str]:
    found: list[str] = []
    after = None
    for _ in range(4):
        answer = instance.search("memory leak -parser", mode=mode, k=6, after=after)
        found += [hit.uri for hit in answer.hits]
        after = answer.next_cursor
    return found


@pytest.mark.parametrize("mode", MODES)
def test_pages_are_the_same_and_a_cursor_of_one_goes_on_through_the_other(
    filled: str, in_transaction_mode: Lead, open_instance: Callable[..., Instance], mode: Any
) -> None:
    direct, pooled = open_instance(filled), open_instance(in_transaction_mode(filled))
    assert pages(pooled, mode) == pages(direct, mode)
    first = pooled.search("crash", mode=mode, k=5)
    assert (
        pooled.search("crash", mode=mode, after=first.next_cursor).hits
        == direct.search("crash", mode=mode, after=first.next_cursor).hits
    )


def test_variety_and_near_duplicates_are_chosen_alike(
    filled: str, in_transaction_mode: Lead, open_instance: Callable[..., Instance]
) -> None:
    direct, pooled = open_instance(filled), open_instance(in_transaction_mode(filled))
    uri = direct.search("openssl installer").hits[0].uri
    options: list[dict[str, Any]] = [{"diversity": 0.4}, {"without_near_duplicates": True}, {"min_similarity": 0.5}]
    for option in options:
        assert pooled.similar(uri, **option).hits == direct.similar(uri, **option).hits
