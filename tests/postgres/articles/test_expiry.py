"""What has expired is found by no search, at once, and deleted by those who are told to."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from everindex.articles.background.keeper import article_tasks
from everindex.articles.importers import read_source
from everindex.articles.instance import Instance
from everindex.articles.model import Article, Filters, Mode
from everindex.articles.search.service import EXPIRY_HIDDEN
from everindex.errors import CollectionInvalid, ColumnMismatch, PermissionDenied, QueryInvalid
from everindex.settings import Settings
from everindex.web.reports.facets import read_start
from everindex.web.serving import serve_in_thread
from whole_texts import digests, of_article

PAST, FUTURE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
ROLE = "expiry_reader"
GONE = {"Zoo/0", "Zoo/3"}


@pytest.fixture
def zoo(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    instance = open_instance(migrated)
    instance.upsert(
        [
            Article(uri=f"Zoo/{n}", title=f"Tiger {n}", category="AB"[n % 2], publication_date=f"2024-01-{n + 1:02d}")
            for n in range(12)
        ]
    )
    return instance


def counted(instance: Instance, table: str) -> int:
    with instance.connection() as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


#: Every way of searching.
SEARCHES: dict[str, Callable[[Instance], Any]] = {
    "hybrid": lambda zoo: zoo.search("tiger", k=20),
    "semantic": lambda zoo: zoo.search("tiger", k=20, mode="semantic"),
    "keyword": lambda zoo: zoo.search("tiger", k=20, mode="keyword"),
    "vector": lambda zoo: zoo.search_vector(zoo.embed_query("tiger"), k=20),
    "exact": lambda zoo: zoo.search("tiger", k=20, exact=True),
    "many": lambda zoo: zoo.search_many(["tiger"], k=20)[0],
    "similar": lambda zoo: zoo.similar("Zoo/1", k=20),
    "browse": lambda zoo: zoo.browse({"publication_date": {"$exists": True}}, k=20),
    "filtered": lambda zoo: zoo.search("tiger", k=20, filters={"$not": {"category": "C"}}),
    "named filter": lambda zoo: zoo.search("tiger", k=20, filters=Filters(since="2024", until="2024-01-31")),
}


@pytest.mark.parametrize("way", SEARCHES)
def test_no_search_finds_what_has_expired_and_every_one_finds_the_rest(zoo: Instance, way: str) -> None:
    before = {hit.uri for hit in SEARCHES[way](zoo).hits}
    assert before >= GONE
    assert zoo.set_expiry([*GONE, "none"], expires_at=PAST) == 2
    assert zoo.set_expiry(["Zoo/1"], expires_at=FUTURE) == 1
    assert {hit.uri for hit in SEARCHES[way](zoo).hits} == before - GONE
    assert zoo.set_expiry(["Zoo/0"], expires_at=None) == 1
    assert {hit.uri for hit in SEARCHES[way](zoo).hits} == before - {"Zoo/3"}


def test_a_full_page_is_found_beside_many_that_have_expired(instance: Instance) -> None:
    nearest = [hit.uri for hit in instance.search("python", k=300, mode="semantic").hits]
    instance.set_expiry(nearest[:200], expires_at=PAST)
    found = [hit.uri for hit in instance.search("python", k=100, mode="semantic", exact=True).hits]
    assert found == nearest[200:]
    assert len(instance.search("python", k=100, mode="semantic").hits) == 100
    assert not set(nearest[:200]) & {hit.uri for hit in instance.search("python", k=100).hits}


def test_pages_totals_facets_and_the_start_page_leave_them_out(zoo: Instance) -> None:
    zoo.set_expiry(["Zoo/11", "Zoo/10"], expires_at=PAST)
    first = zoo.browse({"category": "A"}, k=2, facets=("category",))
    assert (first.total, [hit.uri for hit in first.hits]) == (5, ["Zoo/8", "Zoo/6"])
    assert first.facets is not None
    assert first.facets.values["category"][0].rows == 5
    second = zoo.browse({"category": "A"}, k=2, after=first.next_cursor)
    assert [hit.uri for hit in second.hits] == ["Zoo/4", "Zoo/2"]
    page = zoo.search("tiger", k=4, mode="semantic")
    rest = zoo.search("tiger", k=20, mode="semantic", after=page.next_cursor)
    assert {hit.uri for hit in page.hits} | {hit.uri for hit in rest.hits} == {f"Zoo/{n}" for n in range(10)}
    assert [item.uri for item in read_start(zoo).latest][:2] == ["Zoo/9", "Zoo/8"]
    zoo.saved_searches.add("tigers", "tiger", min_similarity=0.1)
    assert zoo.saved_searches.newest("tigers").hits[0].uri == "Zoo/9"


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "keyword"])
def test_what_stands_in_the_body_of_an_expired_article_is_not_found(zoo: Instance, mode: Mode) -> None:
    zoo.upsert(digests(3))
    sentence = of_article(1)[3]
    assert zoo.search(sentence, mode=mode).hits[0].uri == "digest/1"
    zoo.set_expiry(["digest/1"], expires_at=PAST)
    assert "digest/1" not in {hit.uri for hit in zoo.search(sentence, k=20, mode=mode).hits}
    assert zoo.delete_expired() == 1
    assert counted(zoo, "everindex_meta.article_passage WHERE uri = 'digest/1'") == 0


def test_it_expires_while_nobody_writes(zoo: Instance) -> None:
    with zoo.connection() as connection:
        row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    zoo.set_expiry(["Zoo/0"], expires_at=row[0] + dt.timedelta(seconds=600))
    assert "Zoo/0" in {hit.uri for hit in zoo.search("tiger", k=20).hits}
    with zoo.connection() as connection:  # ten minutes later
        connection.execute("UPDATE everindex_meta.article_expiry SET expires_at = expires_at - interval '601 seconds'")
    assert "Zoo/0" not in {hit.uri for hit in zoo.search("tiger", k=20).hits}


def test_expired_articles_are_deleted_with_what_is_recorded_of_them(zoo: Instance) -> None:
    assert zoo.delete_expired() == 0
    zoo.set_expiry([*GONE], expires_at=PAST)
    zoo.set_expiry(["Zoo/1"], expires_at=FUTURE.replace(tzinfo=None))
    assert zoo.expiry_of(["Zoo/0", "Zoo/1", "Zoo/2"]) == {"Zoo/0": PAST, "Zoo/1": FUTURE}
    assert zoo.delete_expired(dry_run=True) == 2
    assert counted(zoo, "articles") == 12
    assert zoo.delete_expired() == 2
    tables = ("articles", "everindex_meta.embedding_record", "everindex_meta.article_expiry")
    assert [counted(zoo, name) for name in tables] == [10, 10, 1]
    zoo.delete(["Zoo/1"])
    assert counted(zoo, "everindex_meta.article_expiry") == 0


def test_where_nothing_expires_the_catalog_says_so(zoo: Instance) -> None:
    assert not zoo.engine.known()[0].can_expire
    assert zoo.set_expiry(["Zoo/0"], expires_at=None) == 1
    assert not zoo.engine.known()[0].can_expire
    assert zoo.search_vector(zoo.embed_query("tiger")).strategy == "exact"
    assert "expir" not in zoo.explain(zoo.embed_query("tiger")).statement
    zoo.set_expiry(["Zoo/0"], expires_at=PAST)
    assert zoo.search_vector(zoo.embed_query("tiger")).strategy == "filtered-exact"
    assert "article_expiry" in zoo.explain(zoo.embed_query("tiger")).statement


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_rows_of_a_collection_expire_by_their_own_column(zoo: Instance, kind: str) -> None:
    pets = zoo.collection("pets", dim=384, metadata={"until": kind}, expires="until")
    pets.upsert([{"id": str(n), "text": "a cat", "until": (None, "2020-01-01", "2999-01-01")[n]} for n in range(3)])
    for found in (pets.search("cat"), pets.search("cat", mode="keyword"), pets.browse({"id": {"$exists": True}})):
        assert {hit.key for hit in found.hits} == {"0", "2"}
    assert pets.delete_expired(dry_run=True) == 1
    assert pets.delete_expired() == 1
    assert counted(zoo, "pets") == 2
    assert zoo.collection("pets").spec.expires == "until"


def test_a_column_that_is_no_moment_is_refused(zoo: Instance) -> None:
    with pytest.raises(CollectionInvalid, match="not one of its metadata"):
        zoo.collection("pets", dim=384, expires="until")
    with pytest.raises(ColumnMismatch, match="has type text"):
        zoo.collection("pets", dim=384, metadata={"until": "text"}, expires="until").search("cat")


def test_the_keeper_deletes_them_where_it_is_told_to(zoo: Instance) -> None:
    pets = zoo.collection("pets", dim=384, metadata={"until": "date"}, expires="until")
    pets.upsert([{"id": "0", "text": "a cat", "until": "2020-01-01"}])
    zoo.set_expiry([*GONE], expires_at=PAST)
    told = {
        setting: article_tasks(zoo.conninfo, Settings(EVERINDEX_KEEP_EXPIRED=setting))
        for setting in ("leave", "delete")
    }
    (task,) = [task for task in told["delete"] if task.index == "rows that have expired"]
    assert len(told["delete"]) == len(told["leave"]) + 1
    done = task(threading.Event())
    assert done is not None
    assert done.did == (
        "deleted 2 rows of articles that had expired", "deleted 1 row of pets that had expired",
    )  # fmt: skip
    assert (counted(zoo, "articles"), counted(zoo, "pets")) == (10, 0)
    assert task(threading.Event()) is None


def test_a_role_that_may_not_know_says_so_and_one_that_may_not_record_is_told(
    zoo: Instance, open_instance: Callable[..., Instance]
) -> None:
    with psycopg.connect(zoo.conninfo, autocommit=True) as owner:
        owner.execute(f"DROP ROLE IF EXISTS {ROLE}")
        owner.execute(f"CREATE ROLE {ROLE} LOGIN; GRANT SELECT ON articles TO {ROLE}")
        owner.execute(f"GRANT USAGE ON SCHEMA everindex_meta TO {ROLE}; "
                      f"GRANT SELECT ON ALL TABLES IN SCHEMA everindex_meta TO {ROLE}")  # fmt: skip
        try:
            reader = open_instance(make_conninfo(zoo.conninfo, user=ROLE))
            with pytest.raises(PermissionDenied, match="when articles expire") as refused:
                reader.set_expiry(["Zoo/0"], expires_at=PAST)
            assert "GRANT USAGE, CREATE ON SCHEMA everindex_meta" in refused.value.next_step
            assert EXPIRY_HIDDEN not in reader.search("tiger").notices
            zoo.set_expiry(["Zoo/0"], expires_at=PAST)
            reader.invalidate()
            assert EXPIRY_HIDDEN in reader.search("tiger").notices
            owner.execute(f"GRANT SELECT ON everindex_meta.article_expiry TO {ROLE}")
            reader.invalidate()
            found = reader.search("tiger", k=20)
            assert (EXPIRY_HIDDEN in found.notices, "Zoo/0" in {hit.uri for hit in found.hits}) == (False, False)
        finally:
            owner.execute(f"DROP OWNED BY {ROLE}")
            owner.execute(f"DROP ROLE {ROLE}")


def test_an_import_stores_when_articles_expire_and_every_hit_and_article_says_so(
    migrated: str, open_instance: Callable[..., Instance], tmp_path: Any
) -> None:
    instance = open_instance(migrated)
    jsonl, table = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    jsonl.write_text(
        '{"uri": "a", "title": "Tiger one", "expires_at": "2999-01-31"}\n'
        '{"uri": "b", "title": "Tiger two", "expires": "2020-01-01T12:00:00+01:00"}\n'
        '{"uri": "c", "title": "Tiger three"}\n'
        '{"uri": "d", "title": "Tiger four", "expires_at": "soon"}\n'
    )
    table.write_text("uri,title,Expires At\ne,Tiger five,2999-02-28T10:00:00Z\nf,Tiger six,never\n")
    report = instance.import_rows(read_source(str(jsonl)))
    assert [problem.reason for problem in report.problems] == [
        "expires_at is neither a date in a known format nor 'never': 'soon'"
    ]
    instance.import_rows(read_source(str(table)))
    for mode in ("hybrid", "semantic", "keyword"):
        hits = {hit.uri: hit.expiry for hit in instance.search("tiger", mode=mode).hits}  # type: ignore[arg-type]
        assert hits == {
            "a": "2999-01-31T00:00:00+00:00", "c": None, "e": "2999-02-28T10:00:00+00:00", "f": None,
        }  # fmt: skip
    as_json = {hit["uri"]: hit.get("expires_at") for hit in instance.browse({"uri": {"$like": "%"}}).as_dict()["hits"]}
    assert as_json == hits
    assert instance.article("b").expires_at == "2020-01-01T11:00:00+00:00"
    assert instance.article("c").expires_at is None


def test_upsert_sets_changes_keeps_and_takes_back_when_an_article_expires(zoo: Instance) -> None:
    zoo.upsert([Article(uri="Zoo/0", title="Tiger 0"), {"uri": "Zoo/1", "title": "Tiger 1", "expires_at": FUTURE}])
    assert zoo.expiry_of(["Zoo/0", "Zoo/1"]) == {"Zoo/1": FUTURE}
    zoo.upsert([{"uri": "Zoo/1", "title": "Tiger 1"}])
    assert zoo.expiry_of(["Zoo/1"]) == {"Zoo/1": FUTURE}
    zoo.upsert([{"uri": "Zoo/1", "title": "Tiger 1", "expires_at": "2020-01-01"}])
    assert "Zoo/1" not in {hit.uri for hit in zoo.search("tiger", k=20).hits}
    zoo.upsert([{"uri": "Zoo/1", "title": "Tiger 1", "expires_at": "never"}])
    assert "Zoo/1" in {hit.uri for hit in zoo.search("tiger", k=20).hits}
    with pytest.raises(QueryInvalid) as refused:
        zoo.upsert([{"uri": "Zoo/2", "title": "Changed", "expires_at": "2020-13-01"}])
    assert "expires_at" in str(refused.value)
    assert zoo.article("Zoo/2").title == "Tiger 2"


def test_the_page_of_an_expired_article_says_that_it_has_expired(zoo: Instance) -> None:
    zoo.set_expiry(["Zoo/0"], expires_at=PAST)
    zoo.set_expiry(["Zoo/1"], expires_at=FUTURE)
    with serve_in_thread(zoo) as url, httpx2.Client(base_url=url, timeout=30) as client:
        pages = [client.get("/article", params={"uri": f"Zoo/{n}"}).text for n in range(3)]
        assert "This article expired on" in pages[0]
        assert "This article expires on" in pages[1]
        assert 'id="expiry"' not in pages[2]
        assert client.get("/api/article", params={"uri": "Zoo/0"}).json()["expires_at"] == "2020-01-01T00:00:00+00:00"
        assert "expires" in client.get("/", params={"q": "tiger 1"}).text
