"""What an upsert stores, and what it leaves: texts, vectors, records, on tables as instances have them."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pytest

from by_hand import change
from embeddings_endpoint import Endpoint, vector_of
from everindex.articles.connect import connect_instance
from everindex.articles.embedding import OpenAICompatibleEmbedder
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.errors import ArticleNotFound, EmbeddingModelsMixed, NotMigrated, QueryInvalid, StatementFailed
from everindex.migrate import runner
from everindex.settings import Settings

WIDTH = 1536
SMALL, LARGE = (f"openai-compatible/{name}@{WIDTH}" for name in ("small", "large"))
DOWN = "the endpoint answered HTTP 503: Error code: 503"
REFUSED = "the endpoint answered HTTP 400: Error code: 400"

#: What PostgreSQL must give back to the last character.
DIFFICULT = (
    "quotes ' \" `` ; -- and \\ backslashes \\n \\\\",
    "Ωμέγα 日本語 \U0001f600 é é \u200d\u202e right to left",
    "tab\tnewline\ncarriage\rreturn \x01\x1b[31m \ufeff\uffff",
    "{braces} %s %(name)s $1 :name ?",
    "NULL",
    "\\N",
    "   surrounding space   ",
)


@pytest.fixture
def fresh(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    """An open instance without articles."""
    return open_instance(migrated, EVERINDEX_POOL_SIZE=2)


@pytest.fixture(scope="module")
def shared(cluster: Any) -> Iterator[Instance]:
    """An open instance for tests that store nothing, or nothing that meets another's rows."""
    conninfo = cluster.database(cluster.template("at_head", lambda conninfo: runner.upgrade(conninfo, wait_seconds=0)))
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield opened


@pytest.fixture
def remote(migrated: str, open_instance: Callable[..., Instance], endpoint: Endpoint) -> Instance:
    """The same, embedding by the HTTP endpoint."""
    opened = open_instance(migrated, EVERINDEX_POOL_SIZE=2)
    endpoint.width = WIDTH
    opened.query_embedder.embedder = endpoint.embedder(model_name="small")
    return opened


def small(text: str) -> np.ndarray:
    """The vector of a text by the endpoint's model `small`."""
    return vector_of(text, WIDTH, model="small")


def ask(instance: Instance, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        return connection.execute(query, parameters).fetchall()


def counts(report: Any) -> tuple[int, int, int]:
    return report.stored.inserted, report.stored.updated, report.stored.unchanged


def some(count: int, **values: Any) -> list[Article]:
    return [
        Article(uri=f"u{number}", **({"title": f"title {number}", "summary": f"words {number}"} | values))
        for number in range(count)
    ]


def stored_vector(instance: Instance, uri: str) -> np.ndarray | None:
    with instance.connection() as connection:
        row = connection.execute("SELECT embedding FROM articles WHERE uri = %s", (uri,), binary=True).fetchone()
    return None if row[0] is None else row[0].to_numpy()


RECORDS = "SELECT uri, model FROM everindex_meta.embedding_record ORDER BY uri"


def test_what_is_new_changed_and_unchanged_is_counted(fresh: Instance) -> None:
    articles = some(4)
    assert counts(fresh.upsert(articles)) == (4, 0, 0)
    articles[1] = Article(uri="u1", title="another title")
    articles[2] = Article(uri="u2", category="only the category")
    assert counts(fresh.upsert([*articles, *some(5)[4:]])) == (1, 2, 2)
    assert fresh.article("u1").summary == "words 1"
    assert fresh.article("u2").title == "title 2"


def test_importing_again_writes_no_row(fresh: Instance) -> None:
    articles = some(50, category="c", tags=("a", "b"), analyzed=True, quality_score=0.1, raw_text="full")
    state = (
        "SELECT a.uri, a.xmin::text, a.ctid::text, r.xmin::text, e.xmin::text FROM articles a "
        "JOIN raw_articles r USING (uri) JOIN everindex_meta.embedding_record e USING (uri) ORDER BY uri"
    )
    fresh.upsert(articles)
    before = ask(fresh, state)
    assert len(before) == 50
    assert counts(fresh.upsert(articles)) == (0, 0, 50)
    assert counts(fresh.import_rows(articles)) == (0, 0, 50)
    assert ask(fresh, state) == before


def test_ones_own_vectors_that_are_there_already_write_no_row(fresh: Instance) -> None:
    articles, vectors = some(3), np.array([small(str(number)) for number in range(3)])
    fresh.upsert(articles, vectors=vectors, model="mine")
    before = ask(fresh, "SELECT uri, xmin::text FROM articles ORDER BY uri")
    assert counts(fresh.upsert(articles, vectors=vectors, model="mine")) == (0, 0, 3)
    assert ask(fresh, "SELECT uri, xmin::text FROM articles ORDER BY uri") == before


def test_a_field_that_is_none_leaves_what_is_stored(fresh: Instance) -> None:
    full = Article(
        uri="u", title="t", summary="s", news_source="n", publication_date="2022-05-01", category="c", topic="p",
        tags=("a", 'b"c'), sentiment="good", analyzed=True, quality_score=0.25, relevance_score=1e-9, raw_text="all",
    )  # fmt: skip
    fresh.upsert([full])
    assert fresh.article("u") == full
    assert counts(fresh.upsert([Article(uri="u")])) == (0, 0, 1)
    assert fresh.article("u") == full


def test_the_last_row_of_one_uri_wins_within_a_call(fresh: Instance) -> None:
    rows = [Article(uri="u", title="first"), Article(uri="v", title="other"), Article(uri="u", title="last")]
    assert counts(fresh.upsert(rows)) == (2, 0, 0)
    assert fresh.article("u").title == "last"
    vectors = np.array([small("a"), small("b"), small("c")])
    fresh.upsert(rows, vectors=vectors)
    assert np.array_equal(stored_vector(fresh, "u"), vectors[2])


@pytest.mark.parametrize("text", DIFFICULT)
def test_difficult_text_comes_back_to_the_last_character(shared: Instance, text: str) -> None:
    article = Article(
        uri=f"urn:{text}", title=text, summary=text + text, category=text, topic=text, news_source=text,
        tags=(text, "x"), sentiment=text, raw_text=text,
    )  # fmt: skip
    shared.upsert([article])
    assert shared.article(article.uri) == article
    assert counts(shared.upsert([article])) == (0, 0, 1)
    hits = shared.search(text + " words", filters={"category": text}).hits
    assert [hit.uri for hit in hits] == [article.uri]


def test_a_summary_of_a_megabyte_is_stored_and_found(fresh: Instance) -> None:
    summary = "garbage collector " * 60_000
    fresh.upsert([Article(uri="u", title="long", summary=summary, raw_text=summary), *some(3)])
    assert fresh.article("u").summary == summary
    assert fresh.search("garbage collector", k=1).hits[0].uri == "u"


def test_dicts_and_dataclasses_are_articles_too(fresh: Instance) -> None:
    @dataclass
    class Item:
        uri: str
        title: str
        tags: list[str]

    fresh.upsert(
        [
            {
                "uri": "dict", "title": "a dict", "tags": ["x", "y"], "publication_date": dt.date(2022, 5, 1),
                "quality_score": 1, "analyzed": False,
            },
            Item(uri="item", title="a dataclass", tags=["z"]),
            {"uri": "moment", "title": "at noon", "publication_date": dt.datetime(2022, 5, 1, 12, tzinfo=dt.UTC)},
        ]
    )  # fmt: skip
    stored = fresh.article("dict")
    assert (stored.tags, stored.publication_date, stored.quality_score) == (("x", "y"), "2022-05-01", 1.0)
    assert stored.analyzed is False
    assert fresh.article("item").tags == ("z",)
    assert fresh.article("moment").publication_date == "2022-05-01T12:00:00+00:00"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"uri": "b", "titel": "x"}, "unknown fields: titel"),
        ({"title": "no uri"}, "no uri"),
        ({"uri": "  ", "title": "x"}, "no uri"),
        ({"uri": "b", "title": "nul \0 inside"}, "NUL"),
        ({"uri": "b", "title": "half \ud800 a pair"}, "surrogate"),
        ({"uri": "u" * 2001, "title": "x"}, "2,001 bytes"),
        ({"uri": "b", "category": "ä" * 251}, "502 bytes"),
        ({"uri": "b", "publication_date": "yesterday"}, "not a date"),
        ({"uri": "b", "quality_score": "much"}, "not a finite number"),
        ({"uri": "b", "quality_score": float("nan")}, "not a finite number"),
        ({"uri": "b", "tags": ["ok", "\0"]}, "NUL"),
        ({"uri": "b", "title": ["a"]}, "a list, not text"),
        ("just text", "str"),
        (None, "NoneType"),
    ],
)
def test_an_article_that_cannot_be_stored_is_named_and_nothing_is_stored(shared: Instance, bad: Any, why: str) -> None:
    with pytest.raises(QueryInvalid) as raised:
        shared.upsert([*some(2), bad])
    assert "article 3" in raised.value.what
    assert why in raised.value.why
    assert ask(shared, "SELECT count(*) FROM articles WHERE uri IN ('u0', 'u1', 'b')") == [(0,)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda vectors: vectors[:, :-1],
        lambda vectors: vectors[:-1],
        lambda vectors: vectors[0],
        lambda vectors: vectors * np.nan,
        lambda vectors: vectors * 0,
        lambda vectors: np.where(np.arange(2)[:, None] == 1, np.inf, vectors),
    ],
)
def test_vectors_that_no_search_could_use_are_refused_and_nothing_is_stored(shared: Instance, spoil: Any) -> None:
    with pytest.raises(QueryInvalid):
        shared.upsert(some(2), vectors=spoil(np.array([small("a"), small("b")])))
    assert ask(shared, "SELECT count(*) FROM articles WHERE uri IN ('u0', 'u1', 'b')") == [(0,)]


# --- vectors and their records -------------------------------------------------------------------------------------


def test_a_changed_text_is_embedded_anew_and_an_unchanged_one_not(remote: Instance, endpoint: Endpoint) -> None:
    remote.upsert(some(3))
    endpoint.requests.clear()
    remote.upsert([Article(uri="u1", title="new", summary="words 1"), Article(uri="u2", category="c"), *some(1)])
    assert endpoint.texts == ["new\n\nwords 1"]
    assert np.array_equal(stored_vector(remote, "u1"), small("new\n\nwords 1"))
    assert ask(remote, RECORDS) == [("u0", SMALL), ("u1", SMALL), ("u2", SMALL)]


def test_what_cannot_be_embedded_is_stored_without_a_vector_and_completed_later(
    remote: Instance, endpoint: Endpoint
) -> None:
    endpoint.is_down = True
    report = remote.upsert(some(3))
    assert counts(report) == (3, 0, 0)
    assert (report.without_vector, report.failure_reason) == (3, DOWN)
    assert ask(remote, "SELECT count(*), count(embedding) FROM articles") == [(3, 0)]
    assert ask(remote, "SELECT uri, reason, attempts FROM everindex_meta.embedding_failure ORDER BY uri") == [
        (f"u{number}", DOWN, 1) for number in range(3)
    ]
    assert remote.embedding_queue() == 3
    assert remote.embed_missing().without_vector == 3
    assert ask(remote, "SELECT DISTINCT attempts FROM everindex_meta.embedding_failure") == [(2,)]

    endpoint.is_down = False
    endpoint.refused = {"title 1\n\nwords 1"}
    report = remote.embed_missing()
    assert (report.stored.updated, report.without_vector) == (2, 1)
    assert ask(remote, "SELECT uri, reason FROM everindex_meta.embedding_failure") == [("u1", REFUSED)]
    endpoint.refused = set()
    assert remote.embed_missing().stored.updated == 1
    assert remote.embedding_queue() == 0
    assert ask(remote, "SELECT count(*) FROM everindex_meta.embedding_failure") == [(0,)]
    assert ask(remote, RECORDS) == [("u0", SMALL), ("u1", SMALL), ("u2", SMALL)]


def test_a_changed_text_that_cannot_be_embedded_loses_the_vector_of_the_old_one(
    remote: Instance, endpoint: Endpoint
) -> None:
    remote.upsert(some(2))
    endpoint.is_down = True
    remote.upsert([Article(uri="u1", summary="changed")])
    assert stored_vector(remote, "u1") is None
    assert ask(remote, RECORDS) == [("u0", SMALL)]
    assert remote.embedding_queue() == 1
    answer = remote.similar("u1")
    assert (answer.hits, answer.strategy) == ([], "none-match")
    assert "no vector yet" in answer.notices[0]
    endpoint.is_down = False
    assert remote.embed_missing().stored.updated == 1
    assert np.array_equal(stored_vector(remote, "u1"), small("title 1\n\nchanged"))


def test_ones_own_vectors_are_stored_as_they_are_with_the_model_they_are_of(remote: Instance) -> None:
    vectors = np.array([small("mine"), 30 * small("yours")])
    remote.upsert(some(2), vectors=vectors, model="my-model")
    assert [np.array_equal(stored_vector(remote, f"u{number}"), vectors[number]) for number in range(2)] == [True, True]
    assert ask(remote, RECORDS) == [("u0", "my-model"), ("u1", "my-model")]
    hits = remote.search_vector(vectors[1], k=1).hits
    assert hits[0].uri == "u1"
    assert abs(hits[0].distance) < 1e-6


def test_a_vector_of_an_unknown_model_takes_the_record_of_the_one_before_it_away(
    remote: Instance, endpoint: Endpoint
) -> None:
    endpoint.refused = {"title 1\n\nwords 1"}
    remote.upsert(some(2))
    assert ask(remote, RECORDS) == [("u0", SMALL)]
    remote.upsert(some(2), vectors=np.array([small("a"), small("b")]))
    assert ask(remote, RECORDS) == []
    assert ask(remote, "SELECT count(*) FROM everindex_meta.embedding_failure") == [(0,)]


def test_vectors_of_two_models_are_never_searched_together(remote: Instance, endpoint: Endpoint) -> None:
    remote.upsert(some(4))
    remote.query_embedder.embedder = endpoint.embedder(model_name="large")
    remote.invalidate()
    with pytest.raises(EmbeddingModelsMixed, match="openai-compatible/large@1536") as raised:
        remote.search("words", mode="semantic")
    assert f"{SMALL} (4 rows)" in raised.value.why
    assert len(remote.search_vector(small("title 0\n\nwords 0"), k=4).hits) == 4
    assert remote.embedding_queue() == 4
    assert remote.embed_missing().stored.updated == 4
    assert ask(remote, RECORDS) == [(f"u{number}", LARGE) for number in range(4)]
    assert remote.search("title 2\n\nwords 2").hits[0].uri == "u2"
    assert np.array_equal(stored_vector(remote, "u2"), vector_of("title 2\n\nwords 2", WIDTH, model="large"))


def test_records_of_articles_that_are_gone_do_not_stop_a_search(remote: Instance, endpoint: Endpoint) -> None:
    remote.upsert(some(4))
    remote.query_embedder.embedder = endpoint.embedder(model_name="large")
    change(remote, "DELETE FROM articles WHERE uri <> 'u0'", "UPDATE articles SET embedding = NULL")
    remote.upsert([Article(uri="v", title="another")])
    assert len(ask(remote, RECORDS)) == 5
    assert [hit.uri for hit in remote.search("another").hits] == ["v"]
    assert remote.query_embedder.embedding_models() == {LARGE: 1}


def test_a_vector_is_not_recorded_where_the_text_has_changed_meanwhile(remote: Instance, endpoint: Endpoint) -> None:
    endpoint.is_down = True
    remote.upsert(some(2))
    endpoint.is_down = False

    class Meanwhile(OpenAICompatibleEmbedder):
        def embed(self, texts: Any) -> Any:
            change(remote, "UPDATE articles SET title = 'somebody else was here' WHERE uri = 'u0'")
            return super().embed(texts)

    remote.query_embedder.embedder = endpoint.embedder(model_name="small", kind=Meanwhile)
    assert remote.embed_missing().stored.updated == 1
    assert stored_vector(remote, "u0") is None
    assert ask(remote, RECORDS) == [("u1", SMALL)]
    assert ask(remote, "SELECT uri FROM everindex_meta.embedding_failure") == [("u0",)]
    remote.query_embedder.embedder = endpoint.embedder(model_name="small")
    assert remote.embed_missing().stored.updated == 1
    assert np.array_equal(stored_vector(remote, "u0"), small("somebody else was here\n\nwords 0"))


def test_an_article_that_another_importer_changed_in_between_does_not_stay_without_a_vector(
    remote: Instance, endpoint: Endpoint
) -> None:
    """It is compared, found unchanged and not embedded; then somebody writes another text, and the upsert writes back."""
    remote.upsert(some(1))

    class Meanwhile(OpenAICompatibleEmbedder):
        def embed(self, texts: Any) -> Any:
            if texts == ["title 1\n\nwords 1"]:
                change(remote, "UPDATE articles SET title = 'somebody else was here' WHERE uri = 'u0'")
            return super().embed(texts)

    remote.query_embedder.embedder = endpoint.embedder(model_name="small", kind=Meanwhile)
    report = remote.upsert(some(2))
    assert (counts(report), report.without_vector) == ((1, 1, 0), 0)
    assert remote.article("u0").title == "title 0"
    assert np.array_equal(stored_vector(remote, "u0"), small("title 0\n\nwords 0"))
    assert ask(remote, RECORDS) == [("u0", SMALL), ("u1", SMALL)]


def test_half_of_a_text_is_embedded_with_the_other_half_that_is_stored(remote: Instance, endpoint: Endpoint) -> None:
    remote.upsert([{"uri": "a", "title": "T", "summary": "S"}, {"uri": "b", "title": "T", "summary": "S"}])
    endpoint.requests.clear()
    remote.upsert([{"uri": "a", "summary": "S2"}, {"uri": "b", "title": "T2"}, {"uri": "c", "summary": "alone"}])
    assert endpoint.texts == ["T\n\nS2", "T2\n\nS", "alone"]
    assert np.array_equal(stored_vector(remote, "a"), small("T\n\nS2"))
    assert np.array_equal(stored_vector(remote, "b"), small("T2\n\nS"))
    remote.upsert([{"uri": "c", "title": "later"}])
    assert np.array_equal(stored_vector(remote, "c"), small("later\n\nalone"))


@pytest.mark.parametrize("is_new", [False, True])
def test_the_other_half_that_somebody_changed_while_this_one_was_embedded_is_embedded_too(
    remote: Instance, endpoint: Endpoint, is_new: bool
) -> None:
    if not is_new:
        remote.upsert([{"uri": "a", "title": "T", "summary": "S"}])

    class Meanwhile(OpenAICompatibleEmbedder):
        changes = 1

        def embed(self, texts: Any) -> Any:
            if self.changes:
                self.changes -= 1
                change(
                    remote,
                    f"INSERT INTO articles (uri, title) VALUES ('a', 'T{self.changes}') "
                    "ON CONFLICT (uri) DO UPDATE SET title = excluded.title",
                )
            return super().embed(texts)

    remote.query_embedder.embedder = endpoint.embedder(model_name="small", kind=Meanwhile)
    assert remote.upsert([{"uri": "a", "summary": "S2"}]).without_vector == 0
    assert np.array_equal(stored_vector(remote, "a"), small("T0\n\nS2"))
    assert ask(remote, RECORDS) == [("a", SMALL)]
    # Who never comes to rest is left in the queue, and not with the vector of a text that is gone.
    remote.query_embedder.embedder = endpoint.embedder(model_name="small", kind=Meanwhile)
    remote.query_embedder.embedder.changes = 9
    remote.upsert([{"uri": "a", "summary": "S3"}])
    assert stored_vector(remote, "a") is None
    assert ask(remote, RECORDS) == []
    assert remote.embedding_queue() == 1


def test_writers_of_the_two_halves_leave_each_row_the_vector_of_its_text(fresh: Instance) -> None:
    """Two bring titles, two bring summaries, of the same articles in batches of their own, all at once."""
    rows, rounds = 24, 6

    def write(writer: int) -> None:
        chance = random.Random(writer)
        half = "title" if writer % 2 else "summary"
        for turn in range(rounds):
            some_uris = chance.sample(range(rows), rows // 2)
            fresh.upsert([{"uri": f"u{n}", half: f"{half} by writer {writer} in round {turn}"} for n in some_uris])

    with ThreadPoolExecutor(4) as writers:
        for done in [writers.submit(write, writer) for writer in range(4)]:
            done.result()
    fresh.embed_missing()
    stored = ask(fresh, "SELECT uri, title, summary FROM articles")
    assert sum(title is not None and summary is not None for _, title, summary in stored) > rows // 2
    for uri, title, summary in stored:
        text = Article(uri=uri, title=title, summary=summary).text_to_embed
        assert np.allclose(stored_vector(fresh, uri), fresh.embedder.embed([text]).vectors[0], atol=1e-6), uri
    assert fresh.embedding_queue() == 0


def test_everything_works_without_the_schema_of_everindex(remote: Instance, endpoint: Endpoint) -> None:
    change(remote, "DROP SCHEMA everindex_meta CASCADE")
    assert counts(remote.upsert(some(3))) == (3, 0, 0)
    endpoint.is_down = True
    assert remote.upsert([Article(uri="u1", title="changed")]).without_vector == 1
    endpoint.is_down = False
    assert remote.embedding_queue() == 1
    assert remote.embed_missing().stored.updated == 1
    assert len(remote.search("words").hits) == 3
    assert len(remote.similar("u0").hits) == 2
    assert remote.query_embedder.embedding_models() == {SMALL: 3}  # made again, for what is stored from then on
    assert counts(remote.upsert(some(3), vectors=np.array([small(str(n)) for n in range(3)]), model="m")) == (
        0,
        3,
        0,
    )


# --- tables as existing instances have them ------------------------------------------------------------------------

EXISTING = """
    DROP TABLE raw_articles;
    ALTER TABLE articles DROP COLUMN tags, DROP COLUMN relevance_score,
        ALTER COLUMN analyzed DROP DEFAULT, ALTER COLUMN analyzed TYPE text, ALTER COLUMN quality_score TYPE text,
        ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY, ADD COLUMN "Weird ""Column" jsonb DEFAULT '{"a": 1}',
        ADD COLUMN title_length integer GENERATED ALWAYS AS (length(title)) STORED
"""


def test_a_table_of_text_columns_and_columns_of_its_own_is_served(fresh: Instance) -> None:
    change(fresh, EXISTING)
    article = Article(uri="u", title="title", summary="words", analyzed=True, quality_score=0.5, tags=("lost",))
    assert counts(fresh.upsert([article])) == (1, 0, 0)
    assert counts(fresh.upsert([article])) == (0, 0, 1)
    stored = fresh.article("u")
    assert (stored.analyzed, stored.quality_score, stored.tags) == (True, 0.5, None)
    assert [hit.uri for hit in fresh.search("words").hits] == ["u"]
    assert ask(fresh, 'SELECT title_length, "Weird ""Column" FROM articles') == [(5, {"a": 1})]


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
def test_a_publication_date_may_be_a_date_or_a_timestamp(fresh: Instance, kind: str) -> None:
    change(
        fresh,
        f"ALTER TABLE articles ALTER COLUMN publication_date TYPE {kind} USING publication_date::{kind}",
        "ALTER DATABASE " + ask(fresh, "SELECT quote_ident(current_database())")[0][0] + " SET timezone = 'UTC'",
    )
    days = ["2021-12-31", "2022-01-01", "2022-05-31", "2022-06-01", "2022-12-31", "2023-01-01"]
    articles = [Article(uri=day, title=f"of {day}", publication_date=day) for day in days]
    assert counts(fresh.upsert(articles)) == (6, 0, 0)
    assert counts(fresh.upsert(articles)) == (0, 0, 6)

    def found(**filters: str) -> list[str]:
        return sorted(hit.uri for hit in fresh.search("of", filters=filters).hits)

    assert found(since="2022", until="2022") == days[1:5]
    assert found(until="2022-05") == days[:3]
    assert found(since="2022-06-01", until="2022-06-01") == ["2022-06-01"]
    hit = fresh.search("of", k=1, filters={"until": "2021"}).hits[0]
    assert hit.publication_date is not None
    assert hit.publication_date.startswith("2021-12-31")
    assert fresh.article("2021-12-31").publication_date.startswith("2021-12-31")


def test_a_column_of_limited_length_refuses_what_is_too_long_and_cuts_nothing_off(fresh: Instance) -> None:
    change(fresh, "ALTER TABLE articles ALTER COLUMN category TYPE varchar(8), ALTER COLUMN title TYPE varchar(20)")
    fresh.upsert([Article(uri="u", title="short", category="Security")])
    assert len(fresh.search("short", filters={"category": "Security"}).hits) == 1
    assert fresh.search("short", filters={"category": "Security and more"}).strategy == "none-match"
    with pytest.raises(StatementFailed, match="writing articles failed") as raised:
        fresh.upsert([Article(uri="v", title="a title of more than twenty characters")])
    assert "value too long" in raised.value.why
    assert ask(fresh, "SELECT uri FROM articles") == [("u",)]


def test_articles_may_lie_in_another_schema_of_the_search_path(fresh: Instance) -> None:
    name = ask(fresh, "SELECT quote_ident(current_database())")[0][0]
    change(
        fresh,
        'CREATE SCHEMA "News Room"',
        'ALTER TABLE articles SET SCHEMA "News Room"',
        'ALTER TABLE raw_articles SET SCHEMA "News Room"',
        f'ALTER DATABASE {name} SET search_path = "News Room"',
        "CREATE SCHEMA ext",
        "ALTER EXTENSION vector SET SCHEMA ext",
    )
    with connect_instance(fresh.conninfo) as instance:
        assert counts(instance.upsert(some(3, raw_text="full"))) == (3, 0, 0)
        vectors = np.array([small(str(number)) for number in range(3)])
        assert counts(instance.upsert(some(3), vectors=vectors, model=instance.embedder.model)) == (0, 3, 0)
        assert counts(instance.upsert(some(3), vectors=vectors, model=instance.embedder.model)) == (0, 0, 3)
        assert instance.article("u1").raw_text == "full"
        assert len(instance.search("words").hits) == 3
        assert len(instance.similar("u1").hits) == 2
        assert instance.embedding_queue() == 0
    assert ask(fresh, 'SELECT count(*) FROM "News Room".articles') == [(3,)]


def test_a_database_without_the_table_or_the_column_says_what_to_run(
    empty: str, fresh: Instance, open_instance: Callable[..., Instance]
) -> None:
    bare = open_instance(empty)
    for use in (
        lambda: bare.search("x"),
        lambda: bare.upsert(some(1)),
        lambda: bare.article("u"),
        bare.embedding_queue,
    ):
        with pytest.raises(NotMigrated, match="no article table"):
            use()
    change(fresh, "ALTER TABLE articles DROP COLUMN embedding")
    assert counts(fresh.upsert(some(2))) == (2, 0, 0)
    assert fresh.article("u1").title == "title 1"
    for use in (lambda: fresh.search_vector(small("x")), lambda: fresh.similar("u1")):
        with pytest.raises(NotMigrated, match="embedding is missing"):
            use()


@pytest.mark.parametrize("uri", ["no such", "nul\0", "half \ud800", "", "x" * 100_000])
def test_an_unknown_uri_is_not_found(shared: Instance, uri: str) -> None:
    shared.upsert([Article(uri="nul", title="t")])
    for use in (shared.article, shared.similar):
        with pytest.raises(ArticleNotFound):
            use(uri)


def test_tags_are_stored_as_json_and_old_lists_with_commas_are_read(fresh: Instance) -> None:
    fresh.upsert([Article(uri="u", title="t", tags=("a,b", "ü"))])
    assert json.loads(ask(fresh, "SELECT tags FROM articles")[0][0]) == ["a,b", "ü"]
    change(fresh, "UPDATE articles SET tags = 'one, two,,three'")
    assert fresh.article("u").tags == ("one", "two", "three")
    change(fresh, "UPDATE articles SET tags = '[broken'")
    assert fresh.article("u").tags == ("[broken",)
