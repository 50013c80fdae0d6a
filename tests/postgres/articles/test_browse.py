"""Articles by filters alone: the newest first, in pages without repeats or gaps, and how many there are."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL

from everindex.articles.instance import Instance
from everindex.articles.model import Article, Filters
from everindex.articles.search import browse
from everindex.articles.search.filters import where
from everindex.errors import QueryInvalid


def walked(instance: Instance, filters: Filters | None, *, k: int) -> list[str]:
    """The uris of all pages."""
    found: list[str] = []
    after = None
    while True:
        answer = instance.browse(filters, k=k, after=after)
        assert len(answer.hits) <= k
        found += [hit.uri for hit in answer.hits]
        after = answer.next_cursor
        if after is None:
            assert answer.total == len(found)
            assert not answer.total_is_estimate
            return found


def expected(instance: Instance, condition: str, parameters: dict[str, Any] | None = None) -> list[str]:
    with psycopg.connect(instance.conninfo) as connection:
        rows = connection.execute(
            f"SELECT uri FROM articles WHERE {condition} ORDER BY publication_date DESC NULLS LAST, uri DESC",
            parameters,
        )
        return [str(row[0]) for row in rows.fetchall()]


@pytest.mark.parametrize(
    ("filters", "condition"),
    [
        (Filters(category="Library"), "category = 'Library'"),
        (Filters(news_source="CPython NEWS"), "news_source = 'CPython NEWS'"),
        (Filters(since="2021", until="2022-02"), "publication_date >= '2021' AND publication_date < '2022-03'"),
        (Filters(category="Library", until="2021"), "category = 'Library' AND publication_date < '2022'"),
        (Filters(category="there is none of these"), "false"),
    ],
)
def test_all_pages_together_are_the_articles_that_pass_newest_first(
    read_only_instance: Instance, filters: Filters, condition: str
) -> None:
    wanted = expected(read_only_instance, condition)
    assert len(wanted) > 20 or condition == "false"
    for k in (7, 1000):
        assert walked(read_only_instance, filters, k=k) == wanted


def test_without_filters_all_are_browsed(read_only_instance: Instance) -> None:
    answer = read_only_instance.browse(k=3)
    assert (answer.mode, answer.strategy, len(answer.hits)) == ("browse", "newest", 3)
    assert [hit.uri for hit in answer.hits] == expected(read_only_instance, "true")[:3]
    assert [hit.distance for hit in answer.hits] == [None] * 3
    assert answer.as_dict()["total"] == len(expected(read_only_instance, "true"))


def test_articles_without_a_date_come_last_and_once(instance: Instance, sql: psycopg.Connection) -> None:
    sql.execute("DELETE FROM articles")
    dates = ["2020-01-01", "2020-01-01", "2021", "1999-12-31", None, None, "unknown", "", "soon"]
    for number, date in enumerate(dates):  # by another program: an import refuses some of these
        sql.execute("INSERT INTO articles (uri, category, publication_date) VALUES (%s, 'c', %s)", (f"u{number}", date))
    wanted = ["u2", "u1", "u0", "u3", "u7", "u8", "u6", "u5", "u4"]
    for k in (1, 2, 4, 5, 100):
        assert walked(instance, Filters(category="c"), k=k) == wanted
        assert walked(instance, None, k=k) == wanted


def test_what_comes_and_goes_between_two_pages_shifts_nothing(instance: Instance) -> None:
    first = instance.browse({"category": "Library"}, k=5)
    rest = walked(instance, Filters(category="Library"), k=1000)[5:]
    instance.upsert([Article(uri="new", title="x", publication_date="2999-01-01", category="Library")])
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        connection.execute("DELETE FROM articles WHERE uri = %s", (first.hits[-1].uri,))
    second = instance.browse({"category": "Library"}, k=5, after=first.next_cursor)
    assert [hit.uri for hit in second.hits] == rest[:5]


@pytest.mark.parametrize("kind", ["date", "timestamptz", "varchar(40)"])
def test_dates_of_other_types_are_ordered_as_dates(
    instance: Instance, sql: psycopg.Connection, open_instance: Any, kind: str
) -> None:
    sql.execute(f"ALTER TABLE articles ALTER publication_date TYPE {kind} USING publication_date::{kind}")
    sql.execute("UPDATE articles SET publication_date = NULL WHERE category = 'Library' AND ctid < '(3,0)'")
    other = open_instance(instance.conninfo)
    assert walked(other, Filters(category="Library"), k=50) == expected(other, "category = 'Library'")


def test_many_are_estimated_and_called_so(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "COUNTED", 100)
    answer = instance.browse(k=1)
    assert answer.total_is_estimate
    assert answer.total is not None
    assert 101 <= answer.total <= 3000
    few = instance.browse({"category": "there is none of these"}, k=1)
    assert (few.total_is_estimate, few.total, few.hits) == (False, 0, [])


def test_a_page_walks_the_index_on_the_date(instance: Instance, sql: psycopg.Connection) -> None:
    sql.execute("ANALYZE articles")
    table, _ = instance.engine.known()
    composed, given = browse.statement(table, where(table, Filters()), is_dated=True, k=11, after=("2022-02-01", "x"))
    with psycopg.connect(instance.conninfo, cursor_factory=psycopg.ClientCursor) as connection:
        rows = connection.execute(SQL("EXPLAIN {}").format(composed), given).fetchall()
    plan = "\n".join(str(row[0]) for row in rows)
    assert "Index Scan Backward using articles_publication_date_idx" in plan, plan
    assert "(publication_date <= '2022-02-01'" in plan, plan


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 1001}, {"after": "nonsense"}])
def test_what_cannot_be_browsed_is_refused(read_only_instance: Instance, options: dict[str, Any]) -> None:
    with pytest.raises(QueryInvalid):
        read_only_instance.browse({"category": "Library"}, **options)


def test_a_cursor_of_other_filters_or_of_a_search_is_refused(read_only_instance: Instance) -> None:
    cursor = read_only_instance.browse({"category": "Library"}, k=1).next_cursor
    with pytest.raises(QueryInvalid, match="another search"):
        read_only_instance.browse({"category": "Tests"}, after=cursor)
    found = read_only_instance.search("leak", mode="keyword", k=1, filters={"category": "Library"})
    assert found.next_cursor is not None
    with pytest.raises(QueryInvalid, match="another search"):
        read_only_instance.browse({"category": "Library"}, after=found.next_cursor)
