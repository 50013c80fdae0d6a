"""The pages of an answer against numpy: every article once, in order, whichever way each page is found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_search_golden import query_of, some_filters

from everindex.articles.instance import Instance
from everindex.articles.model import MAX_K, Answer, Article, Filters
from everindex.articles.search.request.search_request import rounded
from everindex.articles.search.vector.strategy import MOST_BY_INDEX, Serving, choose_further
from everindex.articles.shape.hit import Hit
from everindex.errors import CursorRefused, QueryInvalid
from golden_answers import Golden, check_answer

PROPERTY = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def walk(search: Callable[..., Answer], *, most: int = 1000, **options: Any) -> Iterator[Answer]:
    """The pages one after another, until there is no more."""
    after: str | None = None
    for _ in range(most):
        answer = search(after=after, **options)
        yield answer
        after = answer.next_cursor
        if after is None:
            return


def hits_of(pages: list[Answer]) -> list[Hit]:
    return [hit for page in pages for hit in page.hits]


def in_order(hits: list[Hit]) -> bool:
    places = [(hit.distance, hit.uri) for hit in hits]
    return places == sorted(places)


# --- exact: nothing is left out -----------------------------------------------------------------------------------


@given(data=st.data(), seed=st.integers(0, 2**31), k=st.sampled_from([97, 400, 1000]), exact=st.booleans())
@PROPERTY
def test_all_pages_together_are_every_row_that_passes_exactly_once_and_in_order(
    read_only_instance: Instance, golden: Golden, data: st.DataObject, seed: int, k: int, exact: bool
) -> None:
    filters = data.draw(some_filters(golden))
    vector = query_of(golden, seed)
    pages = list(walk(read_only_instance.search_vector, vector=vector, filters=filters, k=k, exact=True))
    hits = hits_of(pages)
    passing = golden.passing(filters)
    assert sorted(hit.uri for hit in hits) == sorted(golden.rows[number]["uri"] for number in passing)
    assert in_order(hits)
    assert all(len(page.hits) == k for page in pages[:-1])
    whole = Answer(hits=hits, k=len(hits), strategy="exact", ef_search=None, elapsed_ms=0.0)
    check_answer(whole, golden, vector, filters, k=len(hits))


def test_the_page_size_may_change_from_page_to_page(read_only_instance: Instance, golden: Golden) -> None:
    vector = query_of(golden, 3)
    whole = [hit.uri for hit in read_only_instance.search_vector(vector, k=120, exact=True).hits]
    found: list[str] = []
    after = None
    for k in (1, 7, 40, 2, 70):
        answer = read_only_instance.search_vector(vector, k=k, exact=True, after=after)
        found += [hit.uri for hit in answer.hits]
        after = answer.next_cursor
    assert found == whole


# --- through the index ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "pages"), [(10, 30), (25, 12), (100, 8)])
def test_pages_through_the_index_repeat_nothing_and_find_as_much_as_one_search_of_their_size(
    read_only_instance: Instance, golden: Golden, k: int, pages: int
) -> None:
    recalls, singles = [], []
    for seed in range(4):
        vector = query_of(golden, seed)
        found = list(itertools.islice(walk(read_only_instance.search_vector, vector=vector, k=k), pages))
        hits = hits_of(found)
        assert len({hit.uri for hit in hits}) == len(hits) == k * pages
        assert in_order(hits)
        assert found[1].strategy == "index"
        together = Answer(hits=hits, k=len(hits), strategy="index", ef_search=None, elapsed_ms=0.0)
        recalls.append(golden.recall(together, vector, Filters(), k=k * pages))
        singles.append(golden.recall(found[0], vector, Filters(), k=k))
    assert np.mean(recalls) >= min(0.97, float(np.mean(singles)))


def test_a_walk_goes_on_exactly_where_the_index_would_cost_more_and_says_so(
    read_only_instance: Instance, golden: Golden
) -> None:
    vector = query_of(golden, 11)
    pages = list(walk(read_only_instance.search_vector, vector=vector, k=MAX_K))
    assert [page.strategy for page in pages] == ["index", "exact", "exact"]
    assert "reading every row is cheaper" in pages[1].notices[0]
    hits = hits_of(pages)
    assert len({hit.uri for hit in hits}) == len(hits)
    assert len(hits) >= 0.95 * len(golden.rows)
    assert in_order(hits)


def test_filtered_pages_repeat_nothing_and_pass_the_filter(read_only_instance: Instance, golden: Golden) -> None:
    vector = query_of(golden, 5)
    filters = Filters(category="Library")
    passing = {golden.rows[number]["uri"] for number in golden.passing(filters)}
    hits = hits_of(list(walk(read_only_instance.search_vector, vector=vector, filters=filters, k=30)))
    assert len({hit.uri for hit in hits}) == len(hits)
    assert {hit.uri for hit in hits} <= passing
    assert len(hits) >= 0.95 * len(passing)


# --- ties -----------------------------------------------------------------------------------------------------------


def add_equals(instance: Instance, count: int) -> np.ndarray:
    """`count` articles of one and the same vector; their direction."""
    vector = np.zeros(1536, dtype=np.float32)
    vector[:3] = 1, 2, 3
    instance.upsert(
        [Article(uri=f"equal:{number:03}", title="the same") for number in range(count)],
        vectors=np.tile(vector, (count, 1)),
        model=next(iter(instance.query_embedder.embedding_models())),
    )
    return vector


@pytest.mark.parametrize("exact", [True, False])
def test_articles_equally_far_are_shown_once_each(instance: Instance, exact: bool) -> None:
    vector = add_equals(instance, 95)
    hits = hits_of(list(itertools.islice(walk(instance.search_vector, vector=vector, k=10, exact=exact), 10)))
    equals = [hit.uri for hit in hits if hit.uri.startswith("equal:")]
    assert len(hits) == len({hit.uri for hit in hits}) == 100
    if exact:
        assert equals == sorted(equals)
        assert len(equals) == 95
    else:
        assert len(equals) >= 90  # pgvector's graph may not reach every copy


# --- rows that come and go -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [True, False])
def test_rows_that_come_and_go_between_pages_repeat_and_hide_no_other(
    instance: Instance, sql: psycopg.Connection, exact: bool
) -> None:
    vector = instance.embed_query("memory leak in the parser")
    before = instance.search_vector(vector, k=60, exact=exact)
    first = instance.search_vector(vector, k=20, exact=exact)
    gone = [first.hits[3].uri, first.hits[19].uri, before.hits[25].uri]
    sql.execute("DELETE FROM articles WHERE uri = ANY(%s)", (gone,))
    near, further = (hit.distance for hit in (before.hits[10], before.hits[30]))
    for name, like in (("new:near", before.hits[10].uri), ("new:further", before.hits[30].uri)):
        sql.execute(
            "INSERT INTO articles (uri, title, embedding) SELECT %s, 'new', embedding FROM articles WHERE uri = %s",
            (name, like),
        )
    second = instance.search_vector(vector, k=39, exact=exact, after=first.next_cursor)
    expected = [hit.uri for hit in before.hits[20:] if hit.uri not in gone] + ["new:further"]
    found = [hit.uri for hit in second.hits]
    assert near is not None
    assert further is not None
    assert not set(found) & {hit.uri for hit in first.hits}
    assert "new:near" not in found
    if exact:
        assert set(expected) - {expected[-2]} <= set(found)
    assert len(set(found) & set(expected)) >= 36


# --- by words, and both ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_pages_by_rank_repeat_nothing_and_go_as_deep_as_one_answer(read_only_instance: Instance, mode: Any) -> None:
    pages = list(itertools.islice(walk(read_only_instance.search, text="memory leak", mode=mode, k=15), 8))
    hits = hits_of(pages)
    assert len({hit.uri for hit in hits}) == len(hits)
    whole = read_only_instance.search("memory leak", mode=mode, k=len(hits))
    if mode == "keyword":
        assert [hit.uri for hit in hits] == [hit.uri for hit in whole.hits]
    else:
        # Fused deeper, places change a little; the best stay the best.
        assert [hit.uri for hit in pages[0].hits] == [
            hit.uri for hit in read_only_instance.search("memory leak", k=15).hits
        ]
        assert len({hit.uri for hit in hits} & {hit.uri for hit in whole.hits}) >= 0.8 * len(hits)


def test_all_pages_by_keyword_are_all_articles_with_the_word(read_only_instance: Instance) -> None:
    pages = list(walk(read_only_instance.search, text="regression", mode="keyword", k=20))
    whole = read_only_instance.search("regression", mode="keyword", k=MAX_K)
    assert len(pages) > 1
    assert [hit.uri for hit in hits_of(pages)] == [hit.uri for hit in whole.hits]
    assert not any("first 1,000" in notice for notice in pages[-1].notices)


def test_a_hybrid_walk_ends_after_the_most_that_one_answer_has_and_says_so(read_only_instance: Instance) -> None:
    pages = list(walk(read_only_instance.search, text="fix", k=300))
    hits = hits_of(pages)
    assert len({hit.uri for hit in hits}) == len(hits) == MAX_K
    assert "first 1,000" in pages[-1].notices[-1]


# --- cursors --------------------------------------------------------------------------------------------------------


def test_a_cursor_of_another_question_is_refused(read_only_instance: Instance) -> None:
    search = read_only_instance.search
    cursor = search("memory leak", mode="semantic").next_cursor
    assert cursor is not None
    assert search("memory leak ", mode="semantic", after=cursor, k=3, ef_search=80).hits  # surrounding space is none
    others: list[dict[str, Any]] = [
        {"text": "crash", "mode": "semantic"},
        {"text": "memory leak", "mode": "hybrid"},
        {"text": "memory leak", "mode": "keyword"},
        {"text": "memory leak", "mode": "semantic", "filters": {"category": "Library"}},
        {"text": "memory leak", "mode": "semantic", "min_similarity": 0.1},
    ]
    for other in others:
        with pytest.raises(CursorRefused, match="another search"):
            search(**other, after=cursor)
    vector = read_only_instance.embed_query("memory leak")
    with pytest.raises(CursorRefused):
        read_only_instance.search_vector(vector, after=cursor)
    with pytest.raises(CursorRefused):
        search("memory leak", mode="semantic", after="nonsense")


@pytest.mark.parametrize("kind", ["float64", "list", "huge", "integers"])
def test_a_vector_of_any_kind_has_pages(read_only_instance: Instance, golden: Golden, kind: str) -> None:
    vector = query_of(golden, 4)
    given: Any = {
        "float64": vector.astype(np.float64),
        "list": [float(x) for x in vector],
        "huge": vector.astype(np.float64) * 1e200,
        "integers": np.round(vector * 1000).astype(np.int64),
    }[kind]
    first = read_only_instance.search_vector(given, k=6)
    second = read_only_instance.search_vector(given, k=6, after=first.next_cursor)
    whole = read_only_instance.search_vector(given, k=12)
    assert [hit.uri for hit in [*first.hits, *second.hits]] == [hit.uri for hit in whole.hits]
    with pytest.raises(QueryInvalid):
        read_only_instance.search_vector(["x"], after=first.next_cursor)  # type: ignore[arg-type]
    with pytest.raises(CursorRefused):
        read_only_instance.search_vector(query_of(golden, 5), after=first.next_cursor)


def test_similar_articles_have_pages_too(read_only_instance: Instance, golden: Golden) -> None:
    uri = golden.rows[7]["uri"]
    pages = list(itertools.islice(walk(partial(read_only_instance.similar, uri), k=12), 5))
    uris = [hit.uri for hit in hits_of(pages)]
    assert len(set(uris)) == len(uris) == 60
    assert uri not in uris
    with pytest.raises(CursorRefused):
        read_only_instance.similar(golden.rows[8]["uri"], after=pages[0].next_cursor)


def test_a_last_page_has_no_next(read_only_instance: Instance) -> None:
    answer = read_only_instance.search("crash", mode="semantic", filters={"category": "no such category"})
    assert answer.next_cursor is None
    assert answer.as_dict()["next_cursor"] is None


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_cursor_is_the_first_page(read_only_instance: Instance, text: str) -> None:
    plain = read_only_instance.search("crash", mode="semantic")
    assert read_only_instance.search("crash", mode="semantic", after=text.strip()).hits == plain.hits


# --- which way ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**9))
def test_depths_are_rounded_up_by_half_at_most(count: int) -> None:
    assert count <= rounded(count) <= 1.5 * count
    assert rounded(rounded(count)) == rounded(count)


def test_the_cost_of_a_page_is_bounded_whatever_the_table() -> None:
    large = Serving(index_name="i", estimated_rows=10_000_000, has_iterative_scan=True)
    assert choose_further(large, k=10, shown=500, passing=None, ef_search=None, exact=False).strategy == "index"
    deep = choose_further(large, k=10, shown=MOST_BY_INDEX, passing=None, ef_search=None, exact=False)
    assert deep.strategy == "exact"
    assert f"{MOST_BY_INDEX:,}" in deep.reason
    old = Serving(index_name="i", estimated_rows=10_000_000, has_iterative_scan=False)
    assert choose_further(old, k=10, shown=600, passing=None, ef_search=None, exact=False).strategy == "exact"
    codes = Serving(index_name="i", estimated_rows=10_000_000, has_iterative_scan=True, key_type="bit")
    by_codes = choose_further(codes, k=10, shown=200, passing=None, ef_search=None, exact=False)
    assert by_codes.strategy == "reranked"
    assert by_codes.candidates is not None
    assert by_codes.candidates >= 20 * 210
    assert choose_further(codes, k=10, shown=900, passing=None, ef_search=None, exact=False).strategy == "exact"
    small = Serving(index_name="i", estimated_rows=2500, has_iterative_scan=True)
    assert choose_further(small, k=10, shown=100, passing=None, ef_search=None, exact=False).strategy == "index"
    assert choose_further(small, k=10, shown=700, passing=None, ef_search=None, exact=False).strategy == "exact"


def test_a_walk_prepares_few_statements() -> None:
    serving = Serving(index_name="i", estimated_rows=10**7, has_iterative_scan=True, key_type="bit")
    shapes = {
        (search_plan.strategy, search_plan.fetch, search_plan.candidates)
        for page in range(1, 1000)
        for search_plan in [choose_further(serving, k=10, shown=10 * page, passing=None, ef_search=None, exact=False)]
    }
    assert len(shapes) <= 20


def test_what_cannot_go_together_is_refused_in_three_lines(read_only_instance: Instance) -> None:
    cursor = read_only_instance.search("crash").next_cursor
    with pytest.raises(QueryInvalid, match="diversity cannot be continued"):
        read_only_instance.search("crash", after=cursor, diversity=0.5)
    uri = read_only_instance.search("crash").hits[0].uri
    after = read_only_instance.similar(uri).next_cursor
    with pytest.raises(QueryInvalid, match="near-duplicates cannot be continued"):
        read_only_instance.similar(uri, after=after, without_near_duplicates=True)
