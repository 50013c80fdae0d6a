"""The filter language in every search of articles: what passes, which way is taken, what pages and incidents know of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Answer, Filters
from everindex.articles.search.filters.conditions import parse_condition
from everindex.articles.search.vector import engine as searching
from everindex.articles.search.vector import statement
from everindex.articles.search.vector.strategy import choose
from everindex.errors import CursorRefused, FilterInvalid
from everindex.settings import Settings

FEW = {"meta.words": {"$gte": 40}, "lang": {"$in": ["en", "de"]}}
MANY = {"$or": [{"lang": "en"}, {"tags_of": "odd"}], "meta": {"words": {"$exists": True}}}


def uris(conninfo: str, condition: str) -> set[str]:
    with psycopg.connect(conninfo) as connection:
        return {row[0] for row in connection.execute(f"SELECT uri FROM articles WHERE {condition}")}


CONDITIONS: list[tuple[dict[str, Any], str]] = [
    (FEW, "(meta->>'words')::int >= 40 AND lang IN ('en', 'de')"),
    (MANY, "(lang = 'en' OR 'odd' = ANY (tags_of)) AND meta->>'words' IS NOT NULL"),
    ({"category": "Library", "number": {"$gt": 50}}, "category = 'Library' AND number > 50"),
    ({"since": "2022", "lang": {"$ne": "en"}}, "publication_date >= '2022-01-01' AND lang IS DISTINCT FROM 'en'"),
    ({"publication_date": {"$between": ["2021", "2022"]}}, "publication_date BETWEEN '2021' AND '2022'"),
    ({"number": {"$lt": 0}}, "false"),
]


@pytest.mark.parametrize(("filters", "condition"), CONDITIONS, ids=lambda each: str(each)[:40])
def test_every_search_gives_rows_that_pass_and_all_that_it_should(
    opened: Instance, other_columns: str, filters: dict[str, Any], condition: str
) -> None:
    passing = uris(other_columns, condition)
    vector = opened.embed_query("memory leak")
    some = next(iter(uris(other_columns, "embedding IS NOT NULL")))
    complete: list[Answer] = [
        opened.search_vector(vector, k=15, filters=filters),
        opened.search_vector(vector, k=15, filters=filters, exact=True),
        opened.search("memory leak", mode="semantic", k=15, filters=filters),
        opened.search("memory leak", k=15, filters=filters),
        *opened.search_many(["memory leak", vector], k=15, filters=filters),
        opened.similar(some, k=15, filters=filters),
        opened.browse(filters, k=15),
    ]
    for answer in complete:
        assert len(answer.hits) == min(15, len(passing - {some})) or len(answer.hits) == min(15, len(passing))
        assert {hit.uri for hit in answer.hits} <= passing
    assert complete[-1].total == len(passing)
    by_words = opened.search("memory", mode="keyword", k=1000, filters=filters)
    everywhere = opened.search("memory", mode="keyword", k=1000)
    assert {hit.uri for hit in by_words.hits} == {hit.uri for hit in everywhere.hits} & passing
    assert [hit.uri for hit in complete[0].hits] == [hit.uri for hit in complete[2].hits]


def test_the_named_filters_written_in_the_language_find_the_same(opened: Instance) -> None:
    vector = opened.embed_query("crash on Windows")
    named = opened.search_vector(vector, k=20, filters=Filters(category="Library", since="2021", until="2022-06"))
    for written in (
        {"$and": [{"category": "Library"}, {"since": "2021"}, {"until": "2022-06"}]},
        {"category": {"$eq": "Library"}, "publication_date": {"$gte": "2021-01-01", "$lt": "2022-07-01"}},
    ):
        answer = opened.search_vector(vector, k=20, filters=written)
        assert (answer.hits, answer.strategy) == (named.hits, named.strategy)
    mapped = opened.search_vector(vector, k=20, filters={"category": "Library", "since": "2021", "until": "2022-06"})
    assert mapped.hits == named.hits


def test_the_way_is_chosen_by_the_rows_that_pass(opened: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = opened.embed_query("parser")
    few = opened.search_vector(vector, k=5, filters={"number": {"$lte": 20}})
    assert few.strategy == "filtered-exact"
    assert "20 rows pass the filter" in few.reason
    many = opened.search_vector(vector, k=5, filters={"number": {"$gt": 20}})
    assert many.strategy == "index-filtered"
    explanation = opened.explain(vector, k=5, filters={"number": {"$gt": 20}})
    assert explanation.search_plan.strategy == "index-filtered"
    assert '"number" > %(f0)s::integer' in explanation.statement
    assert any("articles_embedding_hnsw_idx" in line for line in explanation.plan)
    none = opened.search_vector(vector, k=5, filters={"lang": "xx"})
    assert none.strategy == "none-match"


def test_filters_of_one_shape_share_a_statement(opened: Instance) -> None:
    table, serving = opened.engine.known()
    search_plan = choose(serving, k=5, passing=None, ef_search=None, exact=True)
    texts = set()
    for number in range(1, 12):
        filters = parse_condition({"number": {"$in": list(range(number))}, "meta": {f"part{number}": number}})
        assert filters is not None
        texts.add(statement.of(table, filters, search_plan, k=5)[0].as_string(None))
    assert len(texts) == 1


def test_pages_go_on_and_belong_to_their_filter(opened: Instance, other_columns: str) -> None:
    passing = uris(other_columns, "lang = 'en' AND embedding IS NOT NULL")
    filters = {"lang": "en"}
    for options in ({"mode": "semantic"}, {"mode": "hybrid"}, {"mode": "keyword"}):
        first = opened.search("memory or parser", k=10, filters=filters, **options)  # type: ignore[arg-type]
        second = opened.search("memory or parser", k=10, filters=dict(filters), after=first.next_cursor, **options)  # type: ignore[arg-type]
        found = [hit.uri for hit in [*first.hits, *second.hits]]
        assert len(set(found)) == len(found) == 20
        assert set(found) <= passing
        for others in ({"lang": "de"}, {"lang": {"$in": ["en"]}}, None, {"number": 1}):
            with pytest.raises(CursorRefused):
                opened.search("memory or parser", k=10, filters=others, after=first.next_cursor, **options)  # type: ignore[arg-type]
    first = opened.browse(filters, k=10)
    assert {hit.uri for hit in first.hits}.isdisjoint(
        hit.uri for hit in opened.browse(filters, k=10, after=first.next_cursor).hits
    )
    with pytest.raises(CursorRefused):
        opened.browse({"lang": "de"}, k=10, after=first.next_cursor)


def test_a_filter_that_does_not_fit_is_refused_before_anything_is_searched(opened: Instance) -> None:
    def never(_: Any) -> Any:
        raise AssertionError

    vector = opened.embed_query("parser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened.query_embedder, "of", never)
        for search in (
            lambda filters: opened.search("parser", filters=filters),
            lambda filters: opened.search("parser", mode="keyword", filters=filters),
            lambda filters: opened.search_vector(vector, filters=filters),
            lambda filters: opened.search_many([vector], filters=filters),
            lambda filters: opened.explain(vector, filters=filters),
            lambda filters: opened.browse(filters),
        ):
            for filters in ({"nmber": 5}, {"number": "5"}, {"number": {"$gte": 5, "$what": 1}}):
                with pytest.raises(FilterInvalid):
                    search(filters)


def test_incidents_and_slow_searches_name_the_columns_and_no_value(
    other_columns: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with connect_instance(other_columns, settings=Settings(EVERINDEX_SLOW_QUERY_MS=0)) as instance:
        check_names(instance, monkeypatch, caplog)


def check_names(opened: Instance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    secret = {"lang": {"$ne": "secret-word"}, "meta": {"part": {"$lt": 7}}, "$not": {"number": 987654}}
    with caplog.at_level(logging.WARNING, logger="everindex.search"):
        opened.search("parser", mode="semantic", filters=secret)
        opened.search("parser", mode="keyword", filters=secret)
    slow = [record.getMessage() for record in caplog.records if "slow-query" in record.getMessage()]
    assert len(slow) == 2
    for line in slow:
        assert "filters=lang,meta.part,number" in line
        assert "secret-word" not in line
        assert "987654" not in line
    choose_as_ever = searching.choose

    def choose_without_iterating(*arguments: Any, **options: Any) -> Any:
        search_plan = choose_as_ever(*arguments, **options)
        kept = tuple(setting for setting in search_plan.settings if setting[0] != "hnsw.iterative_scan")
        return replace(search_plan, settings=(*kept, ("hnsw.ef_search", "1")))

    monkeypatch.setattr(searching, "choose", choose_without_iterating)
    opened.search_vector(np.asarray(opened.embed_query("parser")), filters=secret)
    assert opened.engine.short_answers.last is not None
    assert opened.engine.short_answers.last.filters == ("lang", "meta.part", "number")


def test_a_date_compared_as_text_is_told_as_for_since(
    opened: Instance, other_columns: str, open_instance: Callable[..., Instance]
) -> None:
    with psycopg.connect(other_columns, autocommit=True) as connection:
        connection.execute("UPDATE articles SET publication_date = 'May 2021' WHERE number = 7")
        instance = open_instance(other_columns)
        for filters in ({"since": "2021", "number": {"$gt": 0}}, {"publication_date": {"$gte": "2021"}}):
            assert any("publication dates" in notice for notice in instance.browse(filters).notices)
        assert not instance.browse({"number": {"$gt": 0}}).notices
        connection.execute("UPDATE articles SET publication_date = '2021-05-01' WHERE number = 7")


def test_as_json_it_says_the_same(opened: Instance) -> None:
    filters = json.loads(json.dumps(FEW))
    vector = opened.embed_query("parser")
    assert opened.search_vector(vector, filters=filters).hits == opened.search_vector(vector, filters=FEW).hits
