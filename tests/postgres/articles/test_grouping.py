"""Near-duplicates are grouped under the best of them: k different hits, each row once, on every page and for every search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

from everindex.articles.collections.collection import Collection
from everindex.articles.instance import Instance
from everindex.articles.model import Answer
from everindex.articles.search.request.options import NEAR_DUPLICATE_DISTANCE
from everindex.articles.search.results.grouping import is_near_duplicate, words_of_text
from everindex.articles.shape.hit import Hit
from everindex.errors import QueryInvalid
from golden_answers import Golden

TEXT = "memory leak in the parser"
FILTER = {"category": "Library"}


def searches(instance: Instance) -> dict[str, Callable[..., Answer]]:
    uri = instance.search(TEXT, k=1).hits[0].uri
    return {
        "hybrid": lambda **more: instance.search(TEXT, **more),
        "semantic": lambda **more: instance.search(TEXT, mode="semantic", **more),
        "exact": lambda **more: instance.search(TEXT, mode="semantic", exact=True, **more),
        "keyword": lambda **more: instance.search("error", mode="keyword", **more),
        "filtered": lambda **more: instance.search(TEXT, mode="semantic", filters=FILTER, **more),
        "similar": lambda **more: instance.similar(uri, **more),
        "vector": lambda **more: instance.search_vector(instance.embed_query(TEXT), **more),
        "browse": lambda **more: instance.browse(FILTER, **more),
    }


EVERY = ["hybrid", "semantic", "exact", "keyword", "filtered", "similar", "vector", "browse"]


def directions(golden: Golden, hits: list[Hit]) -> np.ndarray:
    numbers = {row["uri"]: number for number, row in enumerate(golden.rows)}
    return golden.directions[[numbers[hit.uri] for hit in hits]]


def rows_of(answer: Answer) -> Iterator[Hit]:
    for hit in answer.hits:
        yield hit
        yield from hit.duplicates


@pytest.mark.parametrize("way", EVERY)
def test_k_different_hits_come_back_each_with_what_nearly_repeats_it(
    told_again: Instance, golden_again: Golden, way: str
) -> None:
    search = searches(told_again)[way]
    answer = search(k=10, group_duplicates=True)
    assert len(answer.hits) == answer.k == 10
    apart = directions(golden_again, answer.hits)
    distances = 1 - apart @ apart.T
    words = [words_of_text(hit.texts) for hit in answer.hits]
    for one in range(10):
        for other in range(one):
            assert not is_near_duplicate(
                distances[one, other], words[one], words[other], threshold=NEAR_DUPLICATE_DISTANCE
            )
    for hit in answer.hits:
        for other in hit.duplicates:
            (one,), (another,) = directions(golden_again, [hit]), directions(golden_again, [other])
            assert is_near_duplicate(
                1 - float(one @ another), words_of_text(hit.texts), words_of_text(other.texts),
                threshold=NEAR_DUPLICATE_DISTANCE,
            )  # fmt: skip
            assert other.duplicates == ()
    assert any(hit.duplicates for hit in answer.hits), "the sample has near-duplicates of this"


@pytest.mark.parametrize("way", EVERY)
def test_nothing_that_stands_between_the_hits_of_a_page_is_lost(told_again: Instance, way: str) -> None:
    search = searches(told_again)[way]
    answer = search(k=10, group_duplicates=True)
    shown = {hit.uri for hit in rows_of(answer)}
    assert len(list(rows_of(answer))) == len(shown)
    place = {hit.uri: at for at, hit in enumerate(search(k=60).hits)}
    places = [place[hit.uri] for hit in answer.hits if hit.uri in place]
    missing = {uri for uri, at in place.items() if at <= max(places)} - shown
    # A deeper search through the index may find one that this one has not, which takes another's place.
    most = 0 if way in ("exact", "keyword", "browse") else 1
    assert len(missing) <= most
    assert len(places) >= len(answer.hits) - most
    assert places == sorted(places)


@pytest.mark.parametrize("way", EVERY)
def test_pages_of_groups_show_every_row_once(told_again: Instance, way: str) -> None:
    search = searches(told_again)[way]
    uris: list[str] = []
    after: str | None = None
    for _ in range(4):
        answer = search(k=7, group_duplicates=True, after=after)
        uris += [hit.uri for hit in rows_of(answer)]
        after = answer.next_cursor
        assert after is not None
        assert len(answer.hits) == 7
    assert len(uris) == len(set(uris))
    if way in ("exact", "browse", "keyword"):
        first = [hit.uri for hit in search(k=28).hits]
        assert set(first) <= set(uris)


def test_the_last_page_of_groups_ends_the_answer(told_again: Instance) -> None:
    wanted = told_again.browse({"category": "IDLE"}, k=1000)
    uris: list[str] = []
    after: str | None = None
    for _ in range(wanted.total or 0):
        answer = told_again.browse({"category": "IDLE"}, k=9, group_duplicates=True, after=after)
        uris += [hit.uri for hit in rows_of(answer)]
        after = answer.next_cursor
        if after is None:
            break
    assert after is None
    assert 20 < len(wanted.hits) < 1000
    assert sorted(uris) == sorted(hit.uri for hit in wanted.hits)


def test_copies_that_fill_the_candidates_are_one_hit_and_the_answer_says_what_was_compared(
    instance: Instance, sql: psycopg.Connection
) -> None:
    uri = instance.search("crash", mode="semantic", k=1).hits[0].uri
    copies = (
        "INSERT INTO articles (uri, title, summary, embedding) SELECT 'same:' || n, title, summary, embedding FROM articles, "
        "generate_series(%s::integer, %s::integer) AS n WHERE uri = %s"
    )
    sql.execute(copies, (1, 60, uri))
    instance.invalidate()
    plenty = instance.similar(uri, k=5, group_duplicates=True)
    assert len(plenty.hits) == 5
    assert plenty.hits[0].uri.startswith("same:")
    assert len(plenty.hits[0].duplicates) == 59
    assert not any("near-duplicates" in notice for notice in plenty.notices)
    sql.execute(copies, (61, 1010, uri))
    instance.invalidate()
    short = instance.similar(uri, k=5, group_duplicates=True)
    assert [len(hit.duplicates) for hit in short.hits] == [999]
    assert short.notices[-1] == "near-duplicates: the first 1,000 articles are only 1 different ones"


def test_without_being_asked_for_nothing_is_grouped_and_an_answer_looks_as_before(told_again: Instance) -> None:
    answer = told_again.search(TEXT)
    assert all(hit.duplicates == () for hit in answer.hits)
    assert all("duplicates" not in hit.as_dict() for hit in answer.hits)
    grouped = told_again.search(TEXT, group_duplicates=True).as_dict()
    listed = [hit["duplicates"] for hit in grouped["hits"] if "duplicates" in hit]
    assert listed
    assert all(other["uri"] and "similarity" in other for others in listed for other in others)


def test_groups_go_together_with_other_options(told_again: Instance) -> None:
    plain = told_again.search(TEXT, k=30)
    least = sorted(hit.similarity for hit in plain.hits if hit.similarity is not None)[-6]
    cut = told_again.search(TEXT, k=20, min_similarity=least, group_duplicates=True)
    assert all(hit.similarity is not None and hit.similarity >= least for hit in rows_of(cut))
    assert cut.next_cursor is None
    varied = told_again.search(TEXT, k=8, diversity=0.4, group_duplicates=True)
    assert (len(varied.hits), varied.diversity, varied.next_cursor) == (8, 0.4, None)
    counted = told_again.search(TEXT, k=3, group_duplicates=True, facets=("category",))
    assert counted.facets == told_again.search(TEXT, k=3, facets=("category",)).facets
    with pytest.raises(QueryInvalid, match="near-duplicate"):
        told_again.similar(plain.hits[0].uri, group_duplicates=True, near_duplicate_distance=0)


def test_rows_of_a_collection_are_grouped_by_their_vectors_alone_where_it_has_no_texts(instance: Instance) -> None:
    made: Collection = instance.collection("points", dim=3, text=(), metric="l2")
    spots = np.array([[1, 0, 0], [1, 0, 0.001], [0, 1, 0], [0, 1, 0.001], [0, 0, 1]], dtype=np.float32)
    made.upsert([{"id": str(n)} for n in range(5)], vectors=spots)
    answer = made.search_vector(np.array([1, 0.1, 0], dtype=np.float32), k=3, group_duplicates=True)
    assert [(hit.key, [other.key for other in hit.duplicates]) for hit in answer.hits] == [
        ("0", ["1"]), ("2", ["3"]), ("4", []),
    ]  # fmt: skip
    assert answer.as_dict()["hits"][0]["duplicates"][0]["key"] == "1"


def test_a_row_without_a_vector_stands_for_itself(instance: Instance, sql: psycopg.Connection) -> None:
    sql.execute("INSERT INTO articles (uri, title) VALUES ('no:1', 'zebrafish genome'), ('no:2', 'zebrafish genome')")
    answer = instance.search("zebrafish genome", mode="keyword", k=5, group_duplicates=True)
    found: dict[Any, int] = {hit.key: len(hit.duplicates) for hit in answer.hits}
    assert found == {"no:1": 0, "no:2": 0}
