"""The matches of a text by date: which they are, in which order, on every page, with their number."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Json

from everindex.articles.collections.collection import Collection
from everindex.articles.instance import Instance
from everindex.articles.model import Answer
from everindex.errors import CursorRefused, QueryInapplicable, QueryInvalid


def all_of(search: Any, **options: Any) -> list[Answer]:
    pages = [search(**options)]
    while pages[-1].next_cursor is not None:
        pages.append(search(after=pages[-1].next_cursor, **options))
    return pages


def hits_of(pages: list[Answer]) -> list[Any]:
    return [hit for page in pages for hit in page.hits]


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_all_rows_that_have_the_words_come_newest_first(told_again: Instance, mode: Any) -> None:
    wanted = told_again.search("memory leak", mode="keyword", k=1000)
    pages = all_of(lambda **more: told_again.search("memory leak", mode=mode, sort="newest", k=9, **more))
    hits = hits_of(pages)
    assert sorted(hit.uri for hit in hits) == sorted(hit.uri for hit in wanted.hits)
    dates = [hit.publication_date for hit in hits]
    assert dates == sorted(dates, reverse=True)
    assert {page.total for page in pages} == {len(wanted.hits)}
    assert all((page.mode, page.sort, page.strategy) == (mode, "newest", "newest") for page in pages)
    assert all("<mark>" in (hit.title_snippet or "") + (hit.snippet or "") for hit in hits)
    back = told_again.search("memory leak", mode=mode, sort="newest", k=9, after=pages[1].previous_cursor)
    assert back.hits == pages[0].hits


@pytest.mark.parametrize(("mode", "text"), [("semantic", "memory leak"), ("hybrid", "leaking zebrafish memory")])
def test_where_no_row_has_the_words_and_by_meaning_the_best_hundred_come_newest_first(
    told_again: Instance, mode: Any, text: str
) -> None:
    best = told_again.search(text, mode=mode, k=100)
    pages = all_of(lambda **more: told_again.search(text, mode=mode, sort="newest", k=30, **more))
    hits = hits_of(pages)
    assert sorted(hit.uri for hit in hits) == sorted(hit.uri for hit in best.hits)
    dates = [hit.publication_date for hit in hits]
    assert dates == sorted(dates, reverse=True)
    assert [len(page.hits) for page in pages] == [30, 30, 30, 10]
    assert pages[0].total == 100
    assert "by relevance, newest first" in pages[0].reason


def test_the_order_goes_together_with_filters_facets_and_groups(told_again: Instance) -> None:
    options: dict[str, Any] = {"filters": {"category": "Library"}, "sort": "newest", "k": 8}
    by_words = told_again.search("memory", facets=("topic",), **options)
    assert {hit.category for hit in by_words.hits} == {"Library"}
    assert by_words.facets is not None
    assert (by_words.facets.source, by_words.facets.counted) == ("words", by_words.total)
    by_meaning = told_again.search("memory", mode="semantic", facets=("topic",), **options)
    assert by_meaning.facets is not None
    assert by_meaning.facets.source == "nearest"
    grouped = told_again.search("memory leak", sort="newest", k=8, group_duplicates=True)
    assert any(hit.duplicates for hit in grouped.hits)
    following = told_again.search("memory leak", sort="newest", k=8, group_duplicates=True, after=grouped.next_cursor)
    shown = [other.uri for hit in (*grouped.hits, *following.hits) for other in (hit, *hit.duplicates)]
    assert len(shown) == len(set(shown))
    assert following.shown_before == grouped.shown
    least = told_again.search("memory", min_similarity=0.2, **options)
    assert all(hit.similarity is not None and hit.similarity >= 0.2 for hit in least.hits)


def test_undated_articles_come_last(instance: Instance, sql: psycopg.Connection) -> None:
    sql.execute(
        "INSERT INTO articles (uri, title, publication_date, embedding) SELECT uri, 'quokka', date, embedding FROM "
        "(VALUES ('q:1', '2020-01-01'), ('q:2', NULL), ('q:3', 'unknown'), ('q:4', '2021-05')) AS given (uri, date), "
        "(SELECT embedding FROM articles WHERE embedding IS NOT NULL LIMIT 1) AS any_vector"
    )
    instance.invalidate()
    by_words = [hit.uri for hit in instance.search("quokka", mode="keyword", sort="newest").hits]
    row = sql.execute("SELECT embedding::text FROM articles WHERE uri = 'q:1'").fetchone()
    assert row is not None
    answer = instance.search_vector(np.array(json.loads(row[0]), dtype=np.float32), sort="newest", k=100)
    by_meaning = [hit.uri for hit in answer.hits if hit.uri.startswith("q:")]
    assert by_words == by_meaning == ["q:4", "q:1", "q:3", "q:2"]
    assert [hit.uri for hit in answer.hits][-2:] == ["q:3", "q:2"]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"diversity": 0.5}, "one order"), ({"rerank": 5}, "one order"), ({"sort": "oldest"}, "no order")],
)
def test_what_has_another_order_is_refused(told_again: Instance, options: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryInvalid, match=said):
        told_again.search("crash", **{"sort": "newest", **options})


def test_a_cursor_by_date_is_none_by_relevance(told_again: Instance) -> None:
    cursor = told_again.search("crash", sort="newest", k=3).next_cursor
    with pytest.raises(CursorRefused):
        told_again.search("crash", k=3, after=cursor)


def test_a_collection_is_sorted_by_its_date_and_one_without_is_refused(instance: Instance) -> None:
    plain = instance.collection("undated", dim=384)
    plain.upsert([{"id": "1", "text": "a tiger sleeps"}])
    with pytest.raises(QueryInapplicable, match="sorted by date"):
        plain.search("tiger", sort="newest")
    with instance.connection() as connection:
        connection.execute(
            "CREATE TABLE notes (id integer PRIMARY KEY, body text, at timestamptz, meta jsonb, embedding vector(384))"
        )
        vectors = [plain.embed_query(text) for text in ("tiger", "tiger", "bank")]
        for number, vector in enumerate(vectors):
            connection.execute(
                "INSERT INTO notes VALUES (%s, %s, %s, %s, %s)",
                (number, ("a tiger", "the tiger", "a bank")[number], f"2024-0{number + 1}-01T00:00Z", Json({}), vector),
            )
    notes: Collection = instance.collection_of(
        table="notes", key="id", text=["body"], vector="embedding", metadata=["at", "meta"], date="at"
    )
    assert [hit.key for hit in notes.search("tiger", mode="keyword", sort="newest").hits] == [1, 0]
    vector = plain.embed_query("tiger")
    assert [hit.key for hit in notes.search_vector(vector, sort="newest").hits] == [2, 1, 0]
    first = notes.search_vector(vector, sort="newest", k=1)
    assert [hit.key for hit in notes.search_vector(vector, sort="newest", k=1, after=first.next_cursor).hits] == [1]
