"""Facets: how often values occur in a result, of each kind of search and of each kind of column."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql as pgsql

from everindex.articles.instance import Instance
from everindex.articles.model import Facets
from everindex.articles.search.filters import where
from everindex.articles.search.filters.conditions import parse_condition
from everindex.articles.search.filters.facets import MAX_FACETS, facets_of, facets_statement
from everindex.articles.search.results import facet_counts
from everindex.articles.table import read_table
from everindex.errors import QueryInapplicable, QueryInvalid, StatementTimedOut
from everindex.pg.connections import connect
from filtered_rows import SPEC, made_rows, passes, store


def counts(facets: Facets | None, name: str) -> dict[Any, int]:
    assert facets is not None
    return {each.value: each.rows for each in facets.values[name]}


def expected(conninfo: str, column: str, condition: str) -> dict[Any, int]:
    with psycopg.connect(conninfo) as connection:
        return dict(
            connection.execute(
                f"SELECT {column}, count(*) FROM articles WHERE ({condition}) AND {column} IS NOT NULL GROUP BY 1"
            ).fetchall()
        )


FACETS = ("category", "lang", "number", "tags_of", "meta.part", "publication_date")


def test_browsing_counts_all_rows_that_pass(opened: Instance, other_columns: str) -> None:
    answer = opened.browse({"lang": {"$in": ["en", "de"]}, "number": {"$lt": 400}}, k=3, facets=FACETS)
    condition = "lang IN ('en', 'de') AND number < 400"
    facets = answer.facets
    assert facets is not None
    assert (facets.source, facets.counted, facets.is_complete) == ("filters", answer.total, True)
    assert counts(facets, "category") == expected(other_columns, "category", condition)
    assert counts(facets, "lang") == expected(other_columns, "lang", condition)
    assert counts(facets, "meta.part") == expected(other_columns, "(meta->>'part')::int", condition)
    odd = expected(other_columns, "number % 2", condition)
    assert counts(facets, "tags_of") == {"odd": odd[1], "x": odd[1], "even": odd[0]}
    assert len(facets.values["number"]) == 100  # the most frequent, and no more
    months = Counter(
        hit.publication_date[:7]
        for hit in opened.browse({"lang": {"$in": ["en", "de"]}, "number": {"$lt": 400}}, k=1000).hits
    )
    histogram = facets.histograms["publication_date"]
    if histogram.unit == "month":
        assert {text: rows for text, rows in histogram.buckets if rows} == months
    else:
        years = Counter(month[:4] for month in months.elements())
        assert {text: rows for text, rows in histogram.buckets if rows} == years
    assert [text for text, _ in histogram.buckets] == sorted(text for text, _ in histogram.buckets)


def test_each_value_leads_to_as_many_rows_as_it_says(opened: Instance) -> None:
    filters = {"number": {"$gte": 300}}
    facets = opened.browse(filters, k=1, facets=("category", "tags_of", "meta.part")).facets
    assert facets is not None
    for name, values in facets.values.items():
        assert values
        for each in values[:3]:
            assert opened.browse({**filters, name: each.value}, k=1).total == each.rows
    dated = opened.browse(filters, k=1, facets=("publication_date",)).facets
    assert dated is not None
    begins, rows = dated.histograms["publication_date"].buckets[0]
    assert opened.browse({**filters, "since": begins, "until": begins}, k=1).total == rows


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_a_search_by_words_counts_the_rows_that_have_them(opened: Instance, mode: Any) -> None:
    filters = {"number": {"$gt": 100}}
    answer = opened.search("memory", mode=mode, k=3, filters=filters, facets=("category",))
    matching = opened.search("memory", mode="keyword", k=1000, filters=filters)
    assert answer.facets is not None
    assert (answer.facets.source, answer.facets.counted) == ("words", len(matching.hits))
    assert counts(answer.facets, "category") == Counter(hit.category for hit in matching.hits)


def test_where_no_row_has_all_words_those_that_have_some_are_counted(opened: Instance) -> None:
    answer = opened.search("memory xylophonist", mode="keyword", k=3, facets=("category",))
    matching = opened.search("memory", mode="keyword", k=1000)
    assert answer.facets is not None
    assert (answer.facets.source, answer.facets.counted) == ("words", len(matching.hits))


def test_a_search_by_meaning_counts_the_nearest(opened: Instance) -> None:
    vector = opened.embed_query("memory leak")
    filters = {"lang": "en"}
    nearest = opened.search_vector(vector, k=facet_counts.NEAREST_COUNTED, filters=filters)
    wanted = Counter(hit.category for hit in nearest.hits)
    for answer in (
        opened.search("memory leak", mode="semantic", k=3, filters=filters, facets=("category",)),
        opened.search_vector(vector, k=3, filters=filters, facets=("category",)),
    ):
        assert answer.facets is not None
        assert (answer.facets.source, answer.facets.counted) == ("nearest", facet_counts.NEAREST_COUNTED)
        assert counts(answer.facets, "category") == wanted
    near = opened.search_vector(vector, k=3, min_similarity=0.4, facets=("category",))
    similar = opened.search_vector(vector, k=facet_counts.NEAREST_COUNTED, min_similarity=0.4)
    assert near.facets is not None
    assert near.facets.counted == len(similar.hits)


def test_a_hybrid_search_for_words_that_no_row_has_counts_the_nearest(opened: Instance) -> None:
    answer = opened.search("xylophonist zeppelins", k=3, facets=("category",))
    assert answer.facets is not None
    assert answer.facets.source == "nearest"
    assert answer.facets.counted == facet_counts.NEAREST_COUNTED


def test_more_rows_than_are_counted_are_told(opened: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facet_counts, "COUNTED", 50)
    facets = opened.browse(k=1, facets=("lang",)).facets
    assert facets is not None
    assert (facets.counted, facets.is_complete) == (50, False)
    assert sum(counts(facets, "lang").values()) <= 51


def test_nothing_is_counted_unless_asked_for(opened: Instance) -> None:
    answer = opened.search("memory leak", k=3)
    assert answer.facets is None
    assert "facets" not in answer.as_dict()


def test_facets_that_take_too_long_do_not_cost_the_answer(opened: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: Any, **__: Any) -> Any:
        raise StatementTimedOut("counting facets was cancelled.", why="it took too long.", next_step="wait.")

    monkeypatch.setattr(facet_counts, "facets_of", late)
    answer = opened.browse(k=3, facets=("lang",))
    assert len(answer.hits) == 3
    assert answer.facets is None
    assert answer.notices == [facet_counts.TIMED_OUT]


def test_facets_that_cannot_be_counted_are_refused_before_the_search(opened: Instance) -> None:
    for name, said in (
        ("categry", "did you mean category"), ("embedding", "holds the vectors"), ("category.x", "has no members"),
        ("since", "has no column since"), ("x'; DROP TABLE articles; --", "has no column"),
    ):  # fmt: skip
        with pytest.raises(QueryInapplicable, match=said):
            opened.browse(facets=(name,))
    with pytest.raises(QueryInvalid, match="11 facets"):
        opened.browse(facets=tuple(f"c{n}" for n in range(MAX_FACETS + 1)))
    with pytest.raises(QueryInvalid, match="no possible name"):
        opened.browse(facets=("",))


# --- columns of every kind -------------------------------------------------------------------------------------------


def test_columns_of_every_kind_are_counted_as_python_counts_them(cluster: Any) -> None:
    rows = made_rows(300, seed=3)
    conninfo = cluster.database()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        store(connection, rows)
    filters = {"year": {"$ne": 5}}
    wanted = [row for row in rows if passes(row, filters)]
    names = ["label", "year", "score", "done", "token", "mood", "tags", "sizes", "meta.a", "extra.b.c"]
    dates = ["day", "seen", "made"]
    condition = parse_condition(filters)
    assert condition is not None
    with connect(conninfo) as reading:
        table = read_table(reading, SPEC)
        facets = {}
        for asked in (names, dates):
            passing, parameters = where(table, condition)
            composed, more = facets_statement(table, asked, passing, most=1000)
            found = reading.execute(composed, {**parameters, **more}).fetchall()
            facets[tuple(asked)] = facets_of(table, asked, found, source="filters", most=1000)
    values, histograms = facets[tuple(names)], facets[tuple(dates)]
    assert values.counted == len(wanted)

    def flat(value: Any) -> list[Any]:
        each = value if isinstance(value, list) else [value]
        return [one for one in each if one is not None and not isinstance(one, (list, dict))]

    def typed(value: Any) -> Any:
        return (type(value) is bool, float(value) if isinstance(value, (int, float)) else str(value))

    for name in names:
        column, *members = name.split(".")
        counted: Counter[Any] = Counter()
        for row in wanted:
            value = row[column]
            for member in members:
                value = value.get(member) if isinstance(value, dict) else None
            counted.update(typed(each) for each in flat(value))
        assert {typed(each.value): each.rows for each in values.values[name]} == counted, name
        order = [each.rows for each in values.values[name]]
        assert order == sorted(order, reverse=True)
    for name in dates:
        buckets = histograms.histograms[name].buckets
        assert dict(buckets) == Counter(row[name].isoformat()[:7] for row in wanted if row[name] is not None)
    cluster.drop(conninfo)


def test_a_histogram_of_many_years_has_no_gaps_and_no_thousands_of_buckets(cluster: Any) -> None:
    conninfo = cluster.database()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        store(connection, made_rows(5))
        with connect(conninfo) as reading:
            table = read_table(reading, SPEC)

            def histogram(*days: str) -> Any:
                connection.execute("UPDATE things SET day = NULL")
                for number, day in enumerate(days):
                    connection.execute("UPDATE things SET day = %s WHERE id = %s", (day, number))
                composed, parameters = facets_statement(table, ["day"], pgsql.SQL(""), most=9)
                found = reading.execute(composed, parameters).fetchall()
                return facets_of(table, ["day"], found, source="filters", most=9).histograms["day"]

            assert histogram("2023-11-05", "2024-02-01", "2024-02-29").buckets == (
                ("2023-11", 1), ("2023-12", 0), ("2024-01", 0), ("2024-02", 2),
            )  # fmt: skip
            by_year = histogram("2010-11-05", "2024-02-01")
            assert (by_year.unit, len(by_year.buckets), by_year.buckets[-1]) == ("year", 15, ("2024", 1))
            assert histogram("0024-02-01", "2024-02-01", "9999-12-31").buckets == (
                ("0024", 1),
                ("2024", 1),
                ("9999", 1),
            )
            assert histogram("infinity", "-infinity", "0044-03-15 BC").buckets == ()
    cluster.drop(conninfo)


def test_a_search_of_a_collection_has_facets(opened: Instance) -> None:
    made = opened.collection("faceted", dim=8, text=("body",), metadata={"year": "integer"})
    made.upsert(
        [{"id": f"r{n}", "body": f"tiger {n}", "year": 2000 + n % 3, "lang": "en"} for n in range(30)],
        vectors=np.random.default_rng(1).normal(size=(30, 8)).astype(np.float32),
        model="of this test",
    )
    facets = made.browse(k=1, facets=("year", "lang")).facets
    assert counts(facets, "year") == {2000: 10, 2001: 10, 2002: 10}
    assert counts(facets, "lang") == {"en": 30}
