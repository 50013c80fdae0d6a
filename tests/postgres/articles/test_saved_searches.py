"""Saved searches are kept, answered newest first, and work without the schema, the rights or the model of before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from everindex.articles.instance import Instance
from everindex.articles.model import Article, Filters
from everindex.articles.saved_searches import CUT, moment_of
from everindex.errors import (
    CollectionNotFound,
    FilterInvalid,
    PermissionDenied,
    QueryInvalid,
    SavedSearchExists,
    SavedSearchNotFound,
)

ROLE = "saved_reader"


def dated(count: int, *, title: str = "Tiger in the zoo", source: str = "Zoo") -> list[Article]:
    return [
        Article(uri=f"{source}/{n}", title=f"{title} {n}", news_source=source, publication_date=f"2024-01-{n + 1:02d}")
        for n in range(count)
    ]


@pytest.fixture
def zoo(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    instance = open_instance(migrated)
    instance.upsert([*dated(20), *dated(5, title="Quarterly interest rate of the bank", source="Bank")])
    return instance


def test_a_saved_search_is_found_listed_and_removed(zoo: Instance) -> None:
    saved = zoo.saved_searches
    assert saved.all() == []
    made = saved.add("tigers", " tiger ", filters={"news_source": "Zoo"}, min_similarity=0.2)
    assert (made.text, made.mode, made.filter, made.min_similarity) == ("tiger", "hybrid", {"news_source": "Zoo"}, 0.2)
    other = saved.add("bank, newest", filters=Filters(news_source="Bank"), mode="keyword")
    assert saved.all() == [other, made]
    assert saved.find("tigers") == made
    assert made.saved_at is not None
    assert made.as_dict()["saved_at"] == made.saved_at.isoformat()
    with pytest.raises(SavedSearchExists, match="'tigers'"):
        saved.add("tigers", "lion")
    saved.remove("tigers")
    for gone in (saved.find, saved.remove, saved.newest):
        with pytest.raises(SavedSearchNotFound, match="tigers"):
            gone("tigers")
    assert saved.all() == [other]


def test_the_newest_that_are_similar_enough_come_newest_first(zoo: Instance) -> None:
    saved = zoo.saved_searches
    saved.add("tigers", "a tiger in a zoo", min_similarity=0.3)
    found = saved.newest("tigers", k=5)
    assert [hit.uri for hit in found.hits] == [f"Zoo/{n}" for n in (19, 18, 17, 16, 15)]
    assert found.next_cursor is None
    assert {hit.uri for hit in saved.newest("tigers").hits} == {f"Zoo/{n}" for n in range(20)}
    zoo.upsert([Article(uri="Zoo/new", title="A tiger has left the zoo", publication_date="2024-02-01")])
    zoo.upsert([Article(uri="Bank/new", title="Quarterly interest rate of the bank", publication_date="2024-03-01")])
    assert [hit.uri for hit in saved.newest("tigers", k=2).hits] == ["Zoo/new", "Zoo/19"]


def test_without_a_similarity_the_newest_of_the_best_come(zoo: Instance) -> None:
    zoo.saved_searches.add("rates", "interest rate", mode="semantic")
    assert [hit.uri for hit in zoo.saved_searches.newest("rates", k=5).hits] == [f"Bank/{n}" for n in (4, 3, 2, 1, 0)]
    assert len(zoo.saved_searches.newest("rates").hits) == 25


def test_filters_alone_give_the_newest_that_pass(zoo: Instance) -> None:
    condition: dict[str, Any] = {
        "publication_date": {"$gte": dt.date(2024, 1, 4)},
        "news_source": {"$in": ["Bank", "x"]},
    }
    saved = zoo.saved_searches.add("bank since the fourth", filters=condition)
    assert saved.filter == {"publication_date": {"$gte": "2024-01-04"}, "news_source": {"$in": ["Bank", "x"]}}
    assert [hit.uri for hit in zoo.saved_searches.newest(saved.name).hits] == ["Bank/4", "Bank/3"]
    zoo.saved_searches.add("good ones", filters={"quality_score": {"$lt": Decimal("0.5")}})
    assert zoo.saved_searches.find("good ones").filter == {"quality_score": {"$lt": 0.5}}


def test_a_name_that_no_address_can_have_is_refused(zoo: Instance) -> None:
    for name in (
        "", " ", ".", "..", ".hidden", "a/b", "a\\b", " a", "a ", "a\n", "\n", "x" * 101, "nul\0", "half \ud800"
    ):  # fmt: skip
        with pytest.raises(QueryInvalid, match="name"):
            zoo.saved_searches.add(name, "tiger")
        with pytest.raises(SavedSearchNotFound):
            zoo.saved_searches.find(name)


def test_any_other_name_is_kept_as_it_is(zoo: Instance) -> None:
    for name in ("a", "日本語", "a.b-c_d", "memory & leaks?", "'; DROP TABLE articles; --", "%41", "x" * 100):
        zoo.saved_searches.add(name, "tiger")
        assert zoo.saved_searches.find(name).name == name


def test_what_cannot_be_searched_is_not_saved(zoo: Instance) -> None:
    add = zoo.saved_searches.add
    for refused in (
        lambda: add("nothing"),
        lambda: add("blank", "  "),
        lambda: add("half", "half \ud800"),
        lambda: add("far", "tiger", min_similarity=2),
        lambda: add("words", "tiger", mode="keyword", min_similarity=0.5),
        lambda: add("filters", filters={"news_source": "Zoo"}, min_similarity=0.5),
        lambda: add("mode", "tiger", mode="magic"),  # type: ignore[arg-type]
    ):
        with pytest.raises(QueryInvalid):
            refused()
    with pytest.raises(FilterInvalid, match="nowhere"):
        add("column", "tiger", filters={"nowhere": 1})
    assert zoo.saved_searches.all() == []


def test_more_similar_articles_than_one_search_gives_are_said(instance: Instance) -> None:
    instance.saved_searches.add("everything", "python", mode="semantic", min_similarity=-1)
    found = instance.saved_searches.newest("everything", k=3)
    assert (len(found.hits), CUT in found.notices) == (3, True)


def test_a_saved_search_goes_on_with_vectors_of_another_model(zoo: Instance) -> None:
    zoo.saved_searches.add("tigers", "a tiger in a zoo", min_similarity=0.3)
    with zoo.connection() as connection:  # as after a change of the model: all records are of another one
        connection.execute("UPDATE everindex_meta.embedding_record SET model = 'of before'")
    zoo.invalidate()
    assert zoo.embedding_queue() == 25
    zoo.embed_missing()
    assert len(zoo.saved_searches.newest("tigers").hits) == 20


def test_without_the_schema_there_are_none_and_saving_makes_it(zoo: Instance) -> None:
    with psycopg.connect(zoo.conninfo, autocommit=True) as connection:
        connection.execute("DROP SCHEMA everindex_meta CASCADE")
    assert zoo.saved_searches.all() == []
    with pytest.raises(SavedSearchNotFound):
        zoo.saved_searches.newest("tigers")
    zoo.saved_searches.add("tigers", "tiger")
    assert [each.name for each in zoo.saved_searches.all()] == ["tigers"]


def test_a_role_that_only_reads_is_told_what_to_grant(zoo: Instance, open_instance: Callable[..., Instance]) -> None:
    zoo.saved_searches.add("tigers", "tiger")
    with psycopg.connect(zoo.conninfo, autocommit=True) as owner:
        owner.execute(f"DROP ROLE IF EXISTS {ROLE}")
        owner.execute(f"CREATE ROLE {ROLE} LOGIN; GRANT SELECT ON articles TO {ROLE}")
        try:
            reader = open_instance(make_conninfo(zoo.conninfo, user=ROLE))
            for refused_call in (reader.saved_searches.all, lambda: reader.saved_searches.add("lions", "lion")):
                with pytest.raises(PermissionDenied, match="saved searches") as refused:
                    refused_call()
                for statement in refused.value.next_step.removeprefix("have its owner run").strip(" ;").split(";"):
                    owner.execute(statement)
            reader.saved_searches.add("lions", "lion")
            assert [each.name for each in reader.saved_searches.all()] == ["lions", "tigers"]
        finally:
            owner.execute(f"DROP OWNED BY {ROLE}")
            owner.execute(f"DROP ROLE {ROLE}")


def test_a_role_that_may_not_make_the_table_is_told_who_can(
    zoo: Instance, open_instance: Callable[..., Instance]
) -> None:
    with psycopg.connect(zoo.conninfo, autocommit=True) as owner:
        owner.execute("DROP SCHEMA everindex_meta CASCADE")
        owner.execute(f"DROP ROLE IF EXISTS {ROLE}")
        owner.execute(f"CREATE ROLE {ROLE} LOGIN; GRANT SELECT ON articles TO {ROLE}")
        try:
            reader = open_instance(make_conninfo(zoo.conninfo, user=ROLE))
            assert reader.saved_searches.all() == []
            with pytest.raises(PermissionDenied, match="cannot store saved searches") as refused:
                reader.saved_searches.add("lions", "lion")
            assert f'AUTHORIZATION "{ROLE}"' in refused.value.next_step
        finally:
            owner.execute(f"DROP OWNED BY {ROLE}")
            owner.execute(f"DROP ROLE {ROLE}")


@pytest.mark.parametrize(
    ("text", "moment"),
    [("2024-02-03", "2024-02-03T00:00:00+00:00"), ("2024-02", "2024-02-01T00:00:00+00:00"), ("2024", "2024-01-01T00:00:00+00:00"),
     ("2024-02-03T10:00:00+02:00", "2024-02-03T08:00:00+00:00"), ("2024-02-03 10:00", "2024-02-03T10:00:00+00:00"),
     ("2024-02-03T10:00:00Z", "2024-02-03T10:00:00+00:00"), ("soon", None), ("", None), (None, None),
     ("0001-01-01T00:00+14:00", None)],
)  # fmt: skip
def test_dates_in_every_spelling_are_moments(text: str | None, moment: str | None) -> None:
    found = moment_of(text)
    assert (None if found is None else found.isoformat()) == moment


def test_articles_without_a_date_come_last(zoo: Instance) -> None:
    zoo.upsert([Article(uri="Zoo/undated", title="Tiger in the zoo"), Article(uri="Zoo/odd", title="Tiger in the zoo")])
    with zoo.connection() as connection:
        connection.execute("UPDATE articles SET publication_date = 'unknown' WHERE uri = 'Zoo/odd'")
    zoo.saved_searches.add("tigers", "a tiger in a zoo", min_similarity=0.3)
    uris = [hit.uri for hit in zoo.saved_searches.newest("tigers").hits]
    assert (uris[0], set(uris[-2:])) == ("Zoo/19", {"Zoo/odd", "Zoo/undated"})


def test_a_saved_search_of_a_collection_has_its_newest_rows_and_ends_with_the_collection(zoo: Instance) -> None:
    docs = zoo.collection(
        "docs", dim=1536, text=("title", "body"), metadata={"made": "date", "category": "text"}, date="made"
    )
    docs.upsert(
        {
            "id": str(n),
            "title": f"Otter {n}",
            "body": "It swims.",
            "made": f"2024-01-{n + 1:02d}",
            "category": "AB"[n % 2],
        }
        for n in range(8)
    )
    saved = zoo.saved_searches
    made = saved.add("otters", "otter", filters={"category": "A"}, mode="keyword", collection="docs")
    assert saved.find("otters") == made
    assert made.as_dict()["collection"] == "docs"
    assert [hit.key for hit in saved.newest("otters").hits] == ["6", "4", "2", "0"]
    saved.add("all of B", filters={"category": "B"}, collection="docs")
    assert [hit.key for hit in saved.newest("all of B", k=2).hits] == ["7", "5"]
    assert saved.changed_at(made, saved.newest("otters").hits) is not None
    with pytest.raises(FilterInvalid):
        saved.add("wrong", "otter", filters={"category": {"$nope": 1}}, collection="docs")
    with pytest.raises(CollectionNotFound):
        saved.add("nowhere", "otter", collection="none")
    zoo.drop_collection("docs")
    with pytest.raises(CollectionNotFound):
        saved.newest("otters")
