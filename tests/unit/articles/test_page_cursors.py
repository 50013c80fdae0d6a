"""Pages of a plain list, walked with cursors, against the list itself: ties, changes between pages, either way of ordering."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from article_hits import article_hit
from everindex.articles.search.request.cursor import (
    MOST_SEEN,
    Cursor,
    after_nearest,
    after_ranked,
    digest_of,
    not_seen,
    read_cursor,
    write_cursor,
)
from everindex.articles.shape.hit import Hit

ASKED = digest_of(["anything"])
Rows = dict[str, float]

#: Few distances, so that many rows are equally far.
tables = st.dictionaries(
    st.text("abcdeé", min_size=1, max_size=4), st.sampled_from([0.0, 0.1, 0.1 + 2**-56, 0.5, 1.5]), max_size=40
)


def hit(uri: str, distance: float) -> Hit:
    return article_hit(uri, distance)


def page(rows: Rows, before: Cursor | None, *, k: int, chance: random.Random | None) -> list[Hit]:
    """What the engine gives: k rows after the cursor. An index (`chance`) picks any of those equally far."""
    after = [one for one in rows.items() if before is None or (one[1], one[0]) > (before.distance, before.uri)]
    after.sort(key=lambda one: (one[1], chance.random() if chance else one[0]))
    most = k + (0 if before is None else len(before.seen))
    fresh = not_seen([hit(*one) for one in after[:most]], before)[:k]
    return sorted(fresh, key=lambda one: (one.distance, one.uri))


@given(tables, st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8), st.integers())
@settings(deadline=None)
def test_every_row_is_shown_exactly_once_whichever_way_each_page_is_found(
    rows: Rows, ways: list[tuple[int, bool]], seed: int
) -> None:
    chance = random.Random(seed)
    shown: list[Hit] = []
    before: Cursor | None = None
    for number in range(len(rows) + 1):
        k, is_exact = ways[number % len(ways)]
        found = page(rows, before, k=k, chance=None if is_exact else chance)
        shown += found
        if len(found) < k:
            break
        before = after_nearest(found, before=before, is_complete=is_exact)
        before = read_cursor(write_cursor(before, search_digest=ASKED), search_digest=ASKED)
        assert before.shown == len(shown)
    assert sorted(one.uri for one in shown) == sorted(rows)
    assert [one.distance for one in shown] == sorted(rows.values())


@given(tables, tables, st.integers(1, 9), st.integers())
@settings(deadline=None)
def test_rows_that_come_or_go_between_pages_repeat_and_hide_no_other(
    first: Rows, later: Rows, k: int, seed: int
) -> None:
    chance = random.Random(seed)
    before_change = page(first, None, k=k, chance=chance)
    if len(before_change) < k:
        return
    before: Cursor | None = after_nearest(before_change, before=None, is_complete=False)
    stays = {uri: distance for uri, distance in first.items() if chance.random() < 0.7}
    rows = {**{uri: distance for uri, distance in later.items() if uri not in first}, **stays}
    shown = list(before_change)
    while True:
        found = page(rows, before, k=k, chance=chance)
        shown += found
        if len(found) < k:
            break
        before = after_nearest(found, before=before, is_complete=False)
    uris = [one.uri for one in shown]
    assert len(uris) == len(set(uris))
    assert set(stays) <= set(uris)


def test_of_more_equal_rows_than_a_cursor_remembers_none_is_repeated_and_the_walk_goes_on() -> None:
    rows = {f"{number:05}": 0.25 for number in range(MOST_SEEN + 300)} | {"z": 0.5}
    chance = random.Random(7)
    shown: list[str] = []
    before: Cursor | None = None
    while True:
        found = page(rows, before, k=250, chance=chance)
        shown += [one.uri for one in found]
        if len(found) < 250:
            break
        before = after_nearest(found, before=before, is_complete=False)
    assert len(shown) == len(set(shown)) >= MOST_SEEN
    assert shown[-1] == "z"


def test_an_exact_walk_over_any_number_of_equal_rows_shows_each_once() -> None:
    rows = {f"{number:05}": 0.25 for number in range(2 * MOST_SEEN)}
    shown: list[str] = []
    before: Cursor | None = None
    while found := page(rows, before, k=700, chance=None):
        shown += [one.uri for one in found]
        before = after_nearest(found, before=before, is_complete=True)
        assert not before.seen
    assert shown == sorted(rows)


def test_a_walk_by_ranks_remembers_all_it_has_shown_and_ends_where_it_can_no_more() -> None:
    hits = [hit(str(number), 0.0) for number in range(MOST_SEEN + 50)]
    before: Cursor | None = None
    shown: list[str] = []
    while True:
        found = not_seen(hits, before)[:90]
        shown += [one.uri for one in found]
        before = after_ranked(found, before=before)
        if before is None:
            break
        assert before.shown == len(before.seen) == len(shown)
    assert len(shown) == len(set(shown)) >= MOST_SEEN
