"""Deleted articles are gone with all that is recorded of them; a source's lost articles go only when they may."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from everindex.articles.instance import Instance
from everindex.articles.model import Article, RowProblem
from everindex.errors import QueryInvalid, SyncRefused


def of_source(count: int, *, source: str = "Example") -> list[Article]:
    return [
        Article(uri=f"{source}/{n}", title=f"Tiger {n}", news_source=source, raw_text=f"Tiger {n}")
        for n in range(count)
    ]


@pytest.fixture
def sourced(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    """An instance with articles of two sources."""
    instance = open_instance(migrated)
    instance.upsert([*of_source(20), *of_source(5, source="Other")])
    return instance


def counted(instance: Instance, table: str) -> int:
    with instance.connection() as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def test_deleted_articles_are_gone_with_full_text_and_record(sourced: Instance) -> None:
    assert sourced.delete(["Example/0", "Example/1", "no such"]) == 2
    assert [counted(sourced, name) for name in ("articles", "raw_articles", "everindex_meta.embedding_record")] == [
        23
    ] * 3
    assert not {"Example/0", "Example/1"} & {hit.uri for hit in sourced.search("tiger", k=30).hits}


def test_articles_are_deleted_by_filters_and_counted_before(sourced: Instance) -> None:
    assert sourced.delete(filters={"news_source": "Other"}, dry_run=True) == 5
    assert counted(sourced, "articles") == 25
    assert sourced.delete(["Example/0", "Other/0"], filters={"news_source": "Other"}) == 1
    assert sourced.delete(filters={"news_source": "Other"}) == 4
    assert counted(sourced, "articles") == 20


@pytest.mark.parametrize("filters", [None, {}, {"category": ""}])
def test_a_deletion_of_everything_is_not_meant(sourced: Instance, filters: dict[str, str] | None) -> None:
    with pytest.raises(QueryInvalid, match="which rows"):
        sourced.delete(filters=filters)
    assert sourced.delete([]) == 0
    assert counted(sourced, "articles") == 25


def test_what_a_source_no_longer_has_is_removed_and_other_sources_stay(sourced: Instance) -> None:
    now = [*of_source(20)[3:], Article(uri="Example/new", title="Lion", news_source="Example")]
    report, synced = sourced.sync(now, source="Example")
    assert report.stored.inserted == 1
    assert (synced.removed, synced.uris, synced.stored) == (3, ("Example/0", "Example/1", "Example/2"), 21)
    assert counted(sourced, "articles") == 23
    assert sourced.delete(filters={"news_source": "Other"}, dry_run=True) == 5
    assert sourced.sync(now, source="Example")[1].removed == 0


def test_a_dry_run_stores_and_removes_nothing(sourced: Instance) -> None:
    now = [*of_source(20)[2:], Article(uri="Example/new", title="Lion", news_source="Example")]
    report, synced = sourced.sync(now, source="Example", dry_run=True)
    assert (report.rows, synced.removed, synced.is_dry_run) == (0, 2, True)
    assert counted(sourced, "articles") == 25


def test_more_than_the_share_is_refused_and_what_was_read_is_stored(sourced: Instance) -> None:
    now = [*of_source(20)[10:], Article(uri="Example/new", title="Lion", news_source="Example")]
    with pytest.raises(SyncRefused, match="10 of 21 articles") as refused:
        sourced.sync(now, source="Example")
    assert "more than 20%" in refused.value.why
    assert counted(sourced, "articles") == 26
    assert sourced.sync(now, source="Example", most_removed=0.5)[1].removed == 10


def test_an_empty_source_removes_nothing(sourced: Instance) -> None:
    with pytest.raises(SyncRefused, match="100%"):
        sourced.sync([], source="Example")
    assert counted(sourced, "articles") == 25


def test_a_row_that_cannot_be_read_may_be_one_that_seems_lost(sourced: Instance) -> None:
    def rows(problem: RowProblem) -> Iterator[Article | RowProblem]:
        yield from of_source(20)[1:]
        yield problem

    with pytest.raises(SyncRefused, match="could not be read"):
        sourced.sync(rows(RowProblem(source="f", line=1, reason="not JSON")), source="Example")
    known = RowProblem(source="f", line=1, reason="the date is no date", uri="Example/0")
    assert sourced.sync(rows(known), source="Example")[1].removed == 0
    assert counted(sourced, "articles") == 25


def test_a_deletion_that_fails_leaves_everything(sourced: Instance) -> None:
    with psycopg.connect(sourced.conninfo, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE comments (uri text REFERENCES articles (uri)); INSERT INTO comments VALUES ('Example/0')"
        )
    with pytest.raises(Exception, match="foreign key"):
        sourced.delete(["Example/0", "Example/1"])
    assert [counted(sourced, name) for name in ("articles", "raw_articles", "everindex_meta.embedding_record")] == [
        25
    ] * 3


def test_records_of_rows_that_somebody_else_has_deleted_are_counted_and_removed(sourced: Instance) -> None:
    pets = sourced.collection("pets", dim=384, key_type="integer")
    pets.upsert([{"id": n, "text": "a cat"} for n in range(4)])
    body = "A lion sleeps in the shade of an old tree. The herd has left the plain for the river."
    sourced.upsert([Article(uri="Other/long", title="Lion", news_source="Other", raw_text=body)])
    with psycopg.connect(sourced.conninfo, autocommit=True) as connection:
        connection.execute("DELETE FROM articles WHERE news_source = 'Other'")
        connection.execute("DELETE FROM pets WHERE id > 2")
        connection.execute("INSERT INTO everindex_meta.embedding_failure (uri, reason) VALUES ('gone', 'too long')")
    expected = {
        "everindex_meta.embedding_record": 5 + 1, "everindex_meta.embedding_failure": 1,
        "everindex_meta.article_passage": 1, "everindex_meta.article_cut": 5 + 1,
        "everindex_meta.collection_record": 1 + 1, "everindex_meta.collection_failure": 0,
    }  # fmt: skip
    assert sourced.delete_orphans(dry_run=True) == expected
    assert sourced.delete_orphans() == expected
    assert set(sourced.delete_orphans().values()) == {0}
    assert counted(sourced, "everindex_meta.embedding_record") == counted(sourced, "articles") == 20
    assert counted(sourced, "everindex_meta.article_passage") == 0
    assert (
        counted(sourced, "everindex_meta.collection_record WHERE collection = 'pets'") == counted(sourced, "pets") == 3
    )


def test_nothing_is_an_orphan_of_a_table_that_is_gone(sourced: Instance) -> None:
    sourced.collection("pets", dim=384).upsert([{"id": "1", "text": "a cat"}])
    with psycopg.connect(sourced.conninfo, autocommit=True) as connection:
        connection.execute("DROP TABLE pets")
    assert set(sourced.delete_orphans().values()) == {0}
    assert counted(sourced, "everindex_meta.collection_record WHERE collection = 'pets'") == 1
