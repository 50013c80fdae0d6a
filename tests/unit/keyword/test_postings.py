"""Postings against counting in Python: whatever rows are added, in whichever order, and taken away again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from everindex.articles.search.keyword.postings import (
    LENGTH_SHARE,
    MOST_WEIGHT,
    PLACE,
    ROW,
    SATURATION,
    USUAL_LENGTH,
    WORD,
    Postings,
    idf,
    joined,
    length_norm,
    place_text,
    places_of,
    term_weight,
)


@dataclass(frozen=True)
class Row:
    block: int
    xmin: int
    words: tuple[tuple[int, int, int], ...]
    """Hash, times, times in the title."""


WORDS = st.lists(
    st.tuples(st.sampled_from((7, 8, 9, 2**32 - 1)), st.integers(1, 5), st.integers(0, 1)), max_size=4,
    unique_by=lambda word: word[0],
).map(tuple)  # fmt: skip
ROWS = st.builds(Row, block=st.integers(0, 5), xmin=st.integers(1, 3), words=WORDS)
#: Rows of one batch lie at different places.
BATCHES = st.lists(st.lists(ROWS, max_size=4, unique_by=lambda row: row.block), max_size=30)


def added(postings: Postings, rows: Sequence[Row]) -> Postings:
    return postings.with_rows(
        np.array([(row.block, 1, row.xmin, len(row.words)) for row in rows], dtype=ROW),
        np.array([word for row in rows for word in row.words], dtype=WORD),
    )


def times(row: Row, word: int) -> int:
    return sum(count + in_title for found, count, in_title in row.words if found == word)


@settings(max_examples=60)
@given(batches=BATCHES, is_joined=st.booleans())
def test_scores_are_those_of_bm25_over_all_rows_that_were_added(batches: list[list[Row]], is_joined: bool) -> None:
    postings = Postings.none(1)
    every: list[Row] = []
    there: dict[int, Row] = {}
    for batch in batches:
        postings = added(postings, batch)
        every += batch
        there |= {row.block: row for row in batch}
    if is_joined:
        postings = joined(postings)
    assert postings.rows == len(there)
    assert postings.dead_rows == len(every) - len(there)
    if not there:
        return
    live = list(there.values())
    slots, is_known = postings.find(np.array([(row.block, 1, row.xmin) for row in live], dtype=PLACE))
    assert is_known.all()
    length = {id(row): sum(count + in_title for _, count, in_title in row.words) for row in every}
    expected = []
    for row in live:
        score = 0.0
        for word in (7, 2**32 - 1):
            having = sum(times(one, word) > 0 for one in every)
            assert postings.having(word) == having
            rarity = math.log(1 + (len(every) - having + 0.5) / (having + 0.5))
            norm = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * length[id(row)] / USUAL_LENGTH)
            score += rarity * times(row, word) * (SATURATION + 1) / (times(row, word) + norm)
        expected.append(score)
    assert np.allclose(postings.scores([7, 2**32 - 1], slots, texts=len(every)), expected, atol=1e-8)


@settings(max_examples=40)
@given(batches=BATCHES, k=st.integers(1, 4))
def test_the_rows_with_all_words_are_told_among_those_with_some(batches: list[list[Row]], k: int) -> None:
    postings = Postings.none(1)
    there: dict[int, Row] = {}
    for batch in batches:
        postings = added(postings, batch)
        there |= {row.block: row for row in batch}
    words = [7, 8]
    some = [row for row in there.values() if times(row, 7) or times(row, 8)]
    rows = np.array([(row.block, 1, row.xmin) for row in some], dtype=PLACE)
    with_all = np.array([bool(times(row, 7) and times(row, 8)) for row in some], dtype=np.bool_)
    slots, _ = postings.find(rows)

    best, of_all = postings.best_with_all(words, {7, 8}, rows, slots, texts=100, k=k)

    assert best == postings.best(words, rows[with_all], slots[with_all], texts=100, k=k)
    assert of_all == postings.best(words, rows, slots, texts=100, k=k)


@settings(max_examples=40)
@given(batches=BATCHES, place=st.integers(0, 5), xmin=st.integers(1, 3))
def test_a_row_is_known_only_at_its_place_and_of_its_transaction(
    batches: list[list[Row]], place: int, xmin: int
) -> None:
    postings = Postings.none(1)
    there: dict[int, Row] = {}
    for batch in batches:
        postings = added(postings, batch)
        there |= {row.block: row for row in batch}
    _, is_known = postings.find(np.array([(place, 1, xmin)], dtype=PLACE))
    assert bool(is_known[0]) == (place in there and there[place].xmin == xmin)


def test_a_place_is_written_as_postgresql_writes_a_tid() -> None:
    [place] = places_of(np.array([(2**32 - 2, 65_535, 1)], dtype=PLACE)).tolist()
    assert place_text(place) == "(4294967294,65535)"


@given(texts=st.integers(1, 10**6), having=st.lists(st.integers(0, 10**6), min_size=2, max_size=2))
def test_the_rarer_word_has_the_larger_weight_and_none_has_a_negative_one(texts: int, having: list[int]) -> None:
    rare, common = sorted(min(count, texts) for count in having)
    assert idf(texts, rare) >= idf(texts, common) > 0


@given(count=st.integers(1, 10_000), length=st.integers(1, 65_535))
def test_no_number_of_times_reaches_the_bound_by_which_words_are_left_out(count: int, length: int) -> None:
    weights = term_weight(np.array([count]), length_norm(np.array([length])))
    assert 0 < weights[0] < MOST_WEIGHT
