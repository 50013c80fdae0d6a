"""The page before: what a page shows, how many it is of, and the way back to the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_grouping import searches

from everindex.articles.instance import Instance
from everindex.articles.model import Answer
from everindex.errors import CursorRefused

EVERY = ["hybrid", "semantic", "exact", "keyword", "filtered", "similar", "vector", "browse"]


def forward(search: Callable[..., Answer], pages: int, **options: Any) -> list[Answer]:
    found = [search(**options)]
    while len(found) < pages:
        assert found[-1].next_cursor is not None
        found.append(search(after=found[-1].next_cursor, **options))
    return found


def uris(answer: Answer) -> list[str]:
    return [hit.uri for hit in answer.hits]


@pytest.mark.parametrize("way", EVERY)
@pytest.mark.parametrize("grouped", [False, True])
def test_the_way_back_shows_the_pages_of_the_way_there(told_again: Instance, way: str, grouped: bool) -> None:
    search = searches(told_again)[way]
    options = {"k": 6, "group_duplicates": grouped}
    pages = forward(search, 4, **options)
    assert [page.shown_before for page in pages] == [sum(page.shown for page in pages[:n]) for n in range(4)]
    back = pages[-1]
    for there in reversed(pages[:-1]):
        assert back.previous_cursor is not None
        back = search(after=back.previous_cursor, **options)
        assert len(back.hits) == 6
        assert uris(back)[0] not in uris(pages[-1])
        # Groups see more candidates from the start on, and an approximate search of another depth may find others.
        if not grouped and way in ("exact", "browse", "keyword", "filtered"):
            assert uris(back) == uris(there)
            assert back.shown_before == there.shown_before
    assert (back.shown_before, back.previous_cursor) == (0, None)
    assert uris(back) == uris(pages[0])


def test_from_a_page_that_was_reached_backwards_one_goes_on(told_again: Instance) -> None:
    first, second, third = forward(lambda **more: told_again.browse({"category": "Library"}, k=8, **more), 3)
    again = told_again.browse({"category": "Library"}, k=8, after=third.previous_cursor)
    assert uris(again) == uris(second)
    on = told_again.browse({"category": "Library"}, k=8, after=again.next_cursor)
    assert (uris(on), on.shown_before) == (uris(third), 16)
    assert told_again.browse({"category": "Library"}, k=8, after=again.previous_cursor).hits == first.hits


def test_a_total_is_told_where_there_is_one(told_again: Instance) -> None:
    listed = told_again.browse({"category": "Library"}, k=3)
    words = told_again.search("memory", mode="keyword", k=3)
    with told_again.connection() as connection:
        counted = connection.execute("SELECT count(*) FROM articles WHERE category = 'Library'").fetchone()
    assert counted == (listed.total,)
    assert not words.total_is_least
    assert words.as_dict()["total"] == words.total
    rest = told_again.search("memory", mode="keyword", k=1000)
    assert len(rest.hits) == words.total
    for mode in ("hybrid", "semantic"):
        whole = told_again.search("memory", mode=mode, k=3)  # type: ignore[arg-type]
        assert (whole.total, whole.passing) == (None, None)
        some = told_again.search("memory", mode=mode, k=3, filters={"category": "Library"})  # type: ignore[arg-type]
        assert (some.total, some.passing, some.passing_is_least) == (None, listed.total, False)
        assert some.as_dict()["passing"] == listed.total
    some = told_again.search("memory zebrafish", mode="keyword", k=3)
    assert some.hits
    assert some.total is None, "these have only some of the words"


def test_too_many_to_count_are_told_as_the_least_that_there_are(
    told_again: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from everindex.articles.search.keyword import ranking

    whole = told_again.search("fix", mode="keyword", k=3)
    assert whole.total is not None
    monkeypatch.setattr(ranking, "MOST_REMEMBERED", 50)
    told_again.words.invalidate()
    cut = told_again.search("fix", mode="keyword", k=3)
    if cut.total != whole.total:  # the words of the rows are in memory
        assert (cut.total, cut.total_is_least) == (50, True)
    assert whole.total > 50
    told_again.words.invalidate()


def test_a_cursor_backwards_belongs_to_its_search(told_again: Instance) -> None:
    second = forward(lambda **more: told_again.search("crash", k=5, **more), 3)[2].previous_cursor
    with pytest.raises(CursorRefused, match="another search"):
        told_again.search("leak", k=5, after=second)
    with pytest.raises(CursorRefused, match="another search"):
        told_again.search("crash", k=5, after=second, filters={"category": "Library"})
    with pytest.raises(CursorRefused, match="another search"):
        told_again.search("crash", k=5, after=second, sort="newest")
    assert len(told_again.search("crash", k=7, after=second).hits) == 7


def test_beyond_a_thousand_articles_there_is_no_page_before(told_again: Instance) -> None:
    first = told_again.browse({"since": "1990"}, k=1000)
    second = told_again.browse({"since": "1990"}, k=100, after=first.next_cursor)
    third = told_again.browse({"since": "1990"}, k=100, after=second.next_cursor)
    assert second.previous_cursor is not None
    assert (third.shown_before, third.previous_cursor) == (1100, None)
