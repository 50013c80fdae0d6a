"""Collections: tables of any shape that are stored, searched, verified and kept like the articles."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql as pgsql
from psycopg.conninfo import make_conninfo

from everindex.articles.collections.collection import Collection
from everindex.articles.collections.registry import declared_indexes
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.errors import (
    CollectionInvalid,
    CollectionNotFound,
    ColumnMismatch,
    FilterInvalid,
    PermissionDenied,
    QueryInapplicable,
    QueryInvalid,
    RowNotFound,
    TableNotFound,
)
from everindex.settings import Settings

#: What the animals do, by number, so that texts differ in words and meaning.
TEXTS = ("a tiger sleeps in the tall grass", "rust compiles to machine code", "the bank raised its interest rate")


@pytest.fixture
def empty(cluster: Any) -> Iterator[Instance]:
    """An instance on a database without any table, in which nothing was migrated."""
    conninfo = cluster.database()
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield opened
    cluster.drop(conninfo)


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"d{n:03}",
            "title": f"Document {n}",
            "body": f"{TEXTS[n % 3]} ({n})",
            "year": 2000 + n % 20,
            "lang": "en",
        }
        for n in range(count)
    ]


@pytest.fixture
def docs(empty: Instance) -> Collection:
    made = empty.collection("docs", dim=384, text=("title", "body"), metadata={"year": "integer"})
    made.upsert(rows(60))
    return made


# --- making and opening ----------------------------------------------------------------------------------------------


def test_a_collection_is_made_once_and_opened_by_its_name_from_then_on(empty: Instance) -> None:
    made = empty.collection("docs", dim=384)
    assert made.upsert([{"id": "a", "text": "a tiger"}]).stored.inserted == 1
    again = empty.collection("docs", dim=384)
    assert [hit.key for hit in again.search("tiger").hits] == ["a"]
    with connect_instance(empty.conninfo, settings=Settings()) as another:
        assert [spec.name for spec in another.collections()] == ["docs"]
        assert [hit.key for hit in another.collection("docs").search("tiger").hits] == ["a"]


def test_the_index_is_there_valid_used_and_accurate(docs: Collection) -> None:
    proofs = {proof.name: proof for proof in docs.verify(samples=10, max_seconds=5).proofs}
    assert set(proofs) == {"index", "planner", "recall"}, "a collection has no migrations"
    assert all(proof.holds for proof in proofs.values()), proofs
    assert "docs_embedding_hnsw_idx" in proofs["index"].sentence


def test_its_index_is_among_those_that_the_database_declares(docs: Collection, empty: Instance) -> None:
    with empty.connection() as connection:
        assert [spec.name for spec in declared_indexes(connection)] == ["docs_embedding_hnsw_idx"]
        connection.execute("DROP INDEX docs_embedding_hnsw_idx")
    docs.invalidate()
    assert docs.search("tiger", mode="semantic").strategy == "exact"
    docs.deploy()
    assert docs.verify(samples=5, max_seconds=5).holds


def test_another_declaration_under_the_same_name_is_refused(docs: Collection, empty: Instance) -> None:
    with pytest.raises(CollectionInvalid, match="another declaration") as refused:
        empty.collection("docs", dim=512, text=("title", "body"), metadata={"year": "integer"})
    assert "384 dimensions, not 512" in refused.value.why
    with pytest.raises(CollectionInvalid, match="another declaration"):
        empty.collection("docs", dim=384, metric="l2", text=("title", "body"), metadata={"year": "integer"})


def test_a_collection_that_does_not_exist_is_named_with_those_that_do(docs: Collection, empty: Instance) -> None:
    with pytest.raises(CollectionNotFound, match="nothing") as missing:
        empty.collection("nothing")
    assert "docs" in missing.value.why


def test_a_role_that_may_not_read_the_declarations_is_told_so_and_searches_once_it_may(
    docs: Collection, empty: Instance
) -> None:
    with empty.connection() as connection:
        connection.execute("DROP ROLE IF EXISTS collection_reader")
        connection.execute("CREATE ROLE collection_reader LOGIN")
        connection.execute("GRANT SELECT ON docs TO collection_reader")
    try:
        with connect_instance(make_conninfo(empty.conninfo, user="collection_reader"), settings=Settings()) as reader:
            with pytest.raises(PermissionDenied, match="may not read which collections") as refused:
                reader.collection("docs")
            with empty.connection() as connection:
                for statement in refused.value.next_step.removeprefix("have its owner run").strip(" ;").split(";"):
                    connection.execute(statement)
            assert reader.collection("docs").search("tiger").hits
            with pytest.raises(PermissionDenied, match="deleting rows of docs"):
                reader.collection("docs").delete(["d000"])
    finally:
        with empty.connection() as connection:
            connection.execute("DROP OWNED BY collection_reader")
            connection.execute("DROP ROLE collection_reader")


def test_a_table_that_something_else_made_is_not_taken_over(empty: Instance) -> None:
    with empty.connection() as connection:
        connection.execute("CREATE TABLE docs (id int)")
    with pytest.raises(CollectionInvalid, match="cannot be made") as refused:
        empty.collection("docs", dim=384)
    assert "collection_of" in refused.value.next_step
    assert empty.collections() == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"dim": 0}, "dim = 0"),
        ({"dim": 16_001}, "dim = 16001"),
        ({"dim": 3, "metric": "manhattan"}, "metric 'manhattan'"),
        ({"dim": 3, "metadata": {"x": "integer); DROP TABLE t; --"}}, "no type"),
        ({"dim": 3, "key_type": "text, x int"}, "no type"),
        ({"dim": 3, "text": ("id",)}, "named twice"),
        ({"dim": 3, "date": "published"}, "date column published"),
        ({"dim": 3, "text": ("x" * 64,)}, "cannot be a PostgreSQL name"),
        ({"dim": 3, "text": ("100 %",)}, "percent sign"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_and_nothing_is_made(
    empty: Instance, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(CollectionInvalid, match=says):
        empty.collection("docs", **wrong)
    assert empty.collections() == []


def test_dropping_removes_the_table_that_everindex_made(docs: Collection, empty: Instance) -> None:
    empty.drop_collection("docs")
    with empty.connection() as connection:
        assert connection.execute("SELECT to_regclass('docs')").fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM everindex_meta.collection_record").fetchone() == (0,)
    with pytest.raises(CollectionNotFound):
        empty.collection("docs")


# --- storing ---------------------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_stored_and_other_names_are_kept_as_json(docs: Collection) -> None:
    docs.upsert([{"id": "x", "title": "T", "body": "B", "year": 1999, "tags": ["a", "b"], "nested": {"n": None}}])
    assert docs.get(["x", "missing", "d001"])[0] == {
        "id": "x", "title": "T", "body": "B", "year": 1999, "metadata": {"tags": ["a", "b"], "nested": {"n": None}},
    }  # fmt: skip
    assert [row["id"] for row in docs.get(["d001", "missing", "x"])] == ["d001", "x"]


def test_an_unchanged_row_is_not_written_and_a_changed_text_gets_its_own_vector(docs: Collection) -> None:
    again = docs.upsert(rows(60))
    assert (again.stored.inserted, again.stored.updated, again.stored.unchanged) == (0, 0, 60)
    changed = docs.upsert([{"id": "d001", "body": "an elephant drinks at the river"}])
    assert changed.stored.updated == 1
    assert docs.get(["d001"])[0]["title"] == "Document 1", "what a row does not name stays"
    hit = docs.search("Document 1\n\nan elephant drinks at the river", mode="semantic", k=1).hits[0]
    assert (hit.key, round(hit.similarity or 0, 4)) == ("d001", 1.0), "the vector is that of the merged text"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"title": "no key"}, "it has no id"),
        ({"id": "a", "year": [1]}, "list does not fit type integer"),
        ({"id": "a", "body": "a\0b"}, "no NUL"),
        ({"id": "a", "nested": {"x": "a\0b"}}, "no NUL"),
        ({"id": "a", "body": "\ud800"}, "not Unicode"),
        ("a", "not a mapping"),
    ],
)
def test_a_row_that_cannot_be_stored_is_named_and_nothing_is_stored(docs: Collection, row: Any, says: str) -> None:
    with pytest.raises(CollectionInvalid, match="row 2 cannot be stored") as refused:
        docs.upsert([{"id": "fine", "title": "fine"}, row])
    assert says in refused.value.why
    assert docs.get(["fine"]) == []


def test_ready_vectors_are_stored_as_they_are_under_the_name_of_their_model(empty: Instance) -> None:
    made = empty.collection("own", dim=8, text=(), metric="inner_product")
    vectors = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    made.upsert([{"id": str(n)} for n in range(40)], vectors=vectors, model="mine")
    assert dict(made.models().recorded) == {"mine": 40}
    query = np.ones(8, dtype=np.float32)
    best = np.argsort(-(vectors @ query))[:5]
    answer = made.search_vector(query, k=5)
    assert [int(hit.key) for hit in answer.hits] == best.tolist()
    assert [hit.similarity for hit in answer.hits] == pytest.approx((vectors @ query)[best].tolist(), rel=1e-5)


def test_vectors_that_do_not_fit_are_refused(empty: Instance) -> None:
    made = empty.collection("own", dim=8, metric="l2")
    for wrong in (np.ones((1, 9)), np.ones((2, 8)), np.full((1, 8), np.nan)):
        with pytest.raises(QueryInvalid, match="cannot be stored"):
            made.upsert([{"id": "a"}], vectors=wrong)
    made.upsert([{"id": "zero"}], vectors=np.zeros((1, 8)))  # with lengths, zero is a point like any other
    assert [hit.distance for hit in made.search_vector(np.zeros(8, dtype=np.float32)).hits] == [0.0]


def test_deleted_rows_are_gone_with_their_records(docs: Collection, empty: Instance) -> None:
    assert docs.delete(["d000", "d001", "missing"]) == 2
    assert docs.get(["d000", "d001"]) == []
    assert not {"d000", "d001"} & {hit.key for hit in docs.search("tiger", k=60).hits}
    with empty.connection() as connection:
        counted = connection.execute("SELECT count(*) FROM everindex_meta.collection_record").fetchone()
    assert counted == (58,)
    with pytest.raises(QueryInvalid, match="which rows"):
        docs.delete()


# --- every shape -----------------------------------------------------------------------------------------------------


#: Every metric and type at one width, every width with each type; the other shapes belong to the long campaigns.
SHAPES = [
    pytest.param(metric, vector_type, width, marks=() if width == 300 or metric == usual else pytest.mark.long)
    for width, usual in ((3, "l2"), (300, ""), (2500, "inner_product"), (4500, "cosine"))
    for vector_type in ("vector", "halfvec")
    for metric in ("cosine", "l2", "inner_product")
]


@pytest.mark.parametrize(("metric", "vector_type", "width"), SHAPES)
def test_each_metric_type_and_width_finds_the_nearest_through_its_index(
    empty: Instance, metric: Any, vector_type: Any, width: int
) -> None:
    made = empty.collection("wide", dim=width, metric=metric, vector_type=vector_type, text=())
    random = np.random.default_rng(width)
    vectors = random.normal(size=(120, width)).astype(np.float32)
    made.upsert([{"id": f"{n:03}"} for n in range(120)], vectors=vectors)
    query = random.normal(size=width).astype(np.float32)
    match metric:
        case "cosine":
            true = 1 - (vectors @ query) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
        case "l2":
            true = np.linalg.norm(vectors - query, axis=1)
        case _:
            true = -(vectors @ query)
    answer = made.search_vector(query, k=5, exact=True)
    tolerance = 1e-4 if vector_type == "vector" else 0.02
    assert [hit.distance for hit in answer.hits] == pytest.approx(
        np.sort(true)[:5].tolist(), rel=tolerance, abs=tolerance
    )
    with empty.connection() as connection:
        connection.execute("SET enable_seqscan = off")
    by_index = made.search_vector(query, k=5, ef_search=200)
    assert {hit.key for hit in by_index.hits} & {hit.key for hit in answer.hits}
    assert made.verify(samples=5, max_seconds=3).proofs[0].holds


@pytest.mark.parametrize(
    ("key_type", "keys"),
    [
        ("bigint", [3, 20, 100]),
        ("uuid", [uuid.UUID(int=n) for n in (1, 2, 3)]),
        ("date", ["2024-01-02", "2023-05-06", "2022-01-01"]),
        ("numeric(10,2)", ["1.50", "2.25", "10.00"]),
        ("bytea", [b"\x00\x01", b"ab", b"\xff"]),
        ("varchar(20)", ["a", "b'--", 'c"']),
    ],
)
def test_a_key_of_any_type_identifies_its_row(empty: Instance, key_type: str, keys: list[Any]) -> None:
    made = empty.collection("keyed", dim=384, key="k", key_type=key_type)
    stored = made.upsert([{"k": key, "text": text} for key, text in zip(keys, TEXTS, strict=True)])
    assert stored.stored.inserted == 3
    assert made.upsert([{"k": key, "text": text} for key, text in zip(keys, TEXTS, strict=True)]).stored.unchanged == 3
    by_key = {str(hit.key): hit for hit in made.search("tiger bank rust", k=3, mode="semantic").hits}
    assert len(by_key) == 3
    for key in list(by_key):
        near = made.similar(key, k=3)
        assert key not in {str(hit.key) for hit in near.hits}
        assert len(near.hits) == 2
    assert len(made.get(list(by_key))) == 3
    pages = [str(hit.key) for page in walked(made) for hit in page]
    assert sorted(pages) == sorted(by_key)
    assert made.delete(list(by_key)[:1]) == 1
    with pytest.raises(RowNotFound):
        made.similar(next(iter(by_key)))


def walked(made: Collection) -> Iterator[list[Any]]:
    """Pages of one hit each, by meaning."""
    after = None
    while True:
        answer = made.search("tiger", mode="semantic", k=1, after=after)
        if not answer.hits:
            return
        yield answer.hits
        after = answer.next_cursor
        if after is None:
            return


# --- over somebody else's table ---------------------------------------------------------------------------------------


@pytest.fixture
def notes(empty: Instance) -> Iterator[psycopg.Connection]:
    """A table of another application, with names that have to be quoted."""
    with psycopg.connect(empty.conninfo, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE SCHEMA shop")
        connection.execute(
            'CREATE TABLE shop."Notes" (nr bigint PRIMARY KEY, "the text" text, price numeric, tags text[], '
            "extra jsonb, made timestamptz NOT NULL DEFAULT now(), secret text NOT NULL DEFAULT 'x', v vector(16))"
        )
        random = np.random.default_rng(5)
        for n in range(50):
            connection.execute(
                'INSERT INTO shop."Notes" (nr, "the text", price, tags, extra, v) VALUES (%s, %s, %s, %s, %s, %s)',
                (n, f"{TEXTS[n % 3]} {n}", n / 2, ["a"], '{"n": 1}', str(random.normal(size=16).tolist())),
            )
        yield connection


def lay(empty: Instance, **options: Any) -> Collection:
    given: dict[str, Any] = {
        "table": "Notes", "schema": "shop", "key": "nr", "text": ["the text"], "vector": "v",
        "metadata": ["price", "tags", "extra", "made"], "date": "made", "name": "notes",
    }  # fmt: skip
    return empty.collection_of(**(given | options))


def test_over_a_table_of_somebody_else_nothing_of_it_changes_but_the_indexes(
    empty: Instance, notes: psycopg.Connection
) -> None:
    def columns() -> list[Any]:
        return notes.execute(
            "SELECT attname, atttypid, attnotnull FROM pg_attribute WHERE attrelid = 'shop.\"Notes\"'::regclass ORDER BY attnum"
        ).fetchall()

    def triggers_and_rows() -> Any:
        return notes.execute(
            "SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.\"Notes\"'::regclass), "
            "(SELECT md5(string_agg(t::text, '|' ORDER BY nr)) FROM shop.\"Notes\" t)"
        ).fetchone()

    before = columns(), triggers_and_rows()
    laid = lay(empty)
    vector = np.arange(16, dtype=np.float32)
    hits = laid.search_vector(vector, k=4).hits
    expected = notes.execute(
        'SELECT nr FROM shop."Notes" ORDER BY v <=> %s::vector LIMIT 4', (str(vector.tolist()),)
    ).fetchall()
    assert [hit.key for hit in hits] == [row[0] for row in expected]
    assert hits[0]["price"] is not None
    assert hits[0].extra == {"n": 1}
    assert laid.search("tiger", mode="keyword", k=50).hits
    assert len(laid.browse(k=5).hits) == 5
    assert laid.verify(samples=5, max_seconds=5).proofs[0].holds
    assert (columns(), triggers_and_rows()) == before
    empty.drop_collection("notes")
    assert (columns(), triggers_and_rows()) == before


def test_a_text_is_compared_with_vectors_of_somebody_else_only_once_their_model_is_declared(
    empty: Instance, notes: psycopg.Connection
) -> None:
    laid = lay(empty)
    answer = laid.search("tiger")
    assert answer.strategy == "keyword"
    assert "embedding-model-unrecorded" in answer.notices[0]


def test_missing_tables_and_columns_are_named(empty: Instance, notes: psycopg.Connection) -> None:
    with pytest.raises(TableNotFound, match="nowhere"):
        lay(empty, table="nowhere")
    with pytest.raises(ColumnMismatch, match="no such"):
        lay(empty, metadata=["no such", "made"])
    with pytest.raises(ColumnMismatch, match="has type text"):
        lay(empty, vector="secret")
    assert empty.collections() == []


def test_one_table_is_one_collection(empty: Instance, notes: psycopg.Connection) -> None:
    lay(empty)
    assert lay(empty).name == "notes", "laid over it again, it is the same"
    with pytest.raises(CollectionInvalid, match="cannot be recorded"):
        lay(empty, name="others")


def test_a_table_that_is_gone_is_told_and_disturbs_no_other(docs: Collection, empty: Instance) -> None:
    with empty.connection() as connection:
        connection.execute("CREATE TABLE gone (id int PRIMARY KEY, v vector(4))")
    laid = empty.collection_of(table="gone", key="id", vector="v")
    with empty.connection() as connection:
        connection.execute("DROP TABLE gone")
        assert [spec.name for spec in declared_indexes(connection)] == ["docs_embedding_hnsw_idx"]
    laid.invalidate()
    with pytest.raises(TableNotFound, match="gone"):
        laid.search_vector(np.ones(4, dtype=np.float32))
    assert docs.search("tiger").hits


# --- the same search as that of the articles -------------------------------------------------------------------------


def test_a_collection_over_the_articles_finds_what_the_articles_find(
    cluster: Any, with_articles: str, open_instance: Callable[..., Instance]
) -> None:
    conninfo = cluster.database(with_articles)
    instance = open_instance(conninfo)
    laid = instance.collection_of(
        table="articles", key="uri", text=["title", "summary"], vector="embedding", name="again",
        metadata=["news_source", "category", "topic", "publication_date"], date="publication_date",
    )  # fmt: skip
    for text in ("memory leak", "crash on Windows", "TLS certificate"):
        vector = instance.embed_query(text)
        for k in (1, 10, 40):
            ours = laid.search_vector(vector, k=k).hits
            theirs = instance.search_vector(vector, k=k).hits
            assert [(hit.key, hit.distance) for hit in ours] == [(hit.uri, hit.distance) for hit in theirs]
        by_words, expected = laid.search(text, mode="keyword"), instance.search(text, mode="keyword")
        assert [hit.key for hit in by_words.hits] == [hit.uri for hit in expected.hits]
        assert [hit.snippet for hit in by_words.hits] == [hit.snippet for hit in expected.hits]


def test_hostile_names_are_names(empty: Instance) -> None:
    name = "a\"b'; DROP TABLE x; --{}"
    made = empty.collection(name, dim=8, key='k"', text=("t{}", "(x)s"), metadata={"m'": "text"})
    made.upsert([{'k"': "1", "t{}": "tiger", "(x)s": "grass", "m'": "x"}], vectors=np.ones((1, 8)))
    assert made.search("tiger", mode="keyword").hits[0]["m'"] == "x"
    assert made.search_vector(np.ones(8, dtype=np.float32)).hits[0].key == "1"
    assert made.verify(samples=2, max_seconds=2).proofs[0].holds
    empty.drop_collection(name)
    with empty.connection() as connection:
        left = connection.execute(
            pgsql.SQL("SELECT count(*) FROM pg_class WHERE relname = {}").format(pgsql.Literal(name))
        ).fetchone()
    assert left == (0,)


def test_what_a_metric_has_no_similarity_for_is_refused(empty: Instance) -> None:
    made = empty.collection("flat", dim=8, metric="l2")
    made.upsert([{"id": "a"}], vectors=np.ones((1, 8)))
    with pytest.raises(QueryInapplicable, match="similarity"):
        made.search_vector(np.ones(8, dtype=np.float32), min_similarity=0.5)


# --- filters ---------------------------------------------------------------------------------------------------------


def test_filters_name_columns_and_what_is_stored_beside_them(docs: Collection) -> None:
    def years(filters: dict[str, Any]) -> list[int]:
        return sorted({hit["year"] for hit in docs.search("tiger", k=60, mode="semantic", filters=filters).hits})

    assert years({"year": {"$gte": 2018}}) == [2018, 2019]
    assert years({"year": 2003, "lang": "en"}) == [2003]  # lang is no column: upsert stores it in metadata
    assert years({"lang": {"$in": ["de", "fr"]}}) == []
    assert years({"metadata.lang": "en", "year": {"$lt": 2001}}) == [2000]
    assert years({"since": "2020"}) == []  # a member of metadata like any other: this collection has no date
    for refused in ({"year": "2003"}, {"embedding": "x"}, {"year.month": 5}):
        with pytest.raises(FilterInvalid):
            years(refused)


def test_rows_that_pass_a_filter_are_deleted(docs: Collection) -> None:
    assert docs.delete(filters={"year": {"$in": [2001, 2002]}, "lang": "en"}) == 6
    assert docs.delete(filters={"year": {"$in": [2001, 2002]}}) == 0
    with pytest.raises(QueryInvalid, match="nothing says which rows"):
        docs.delete(filters={})
    with pytest.raises(FilterInvalid):
        docs.delete(filters={"year": "2003"})
    assert docs.browse(k=1).total == 54


@pytest.mark.parametrize("kind", ["date", "timestamptz", "timestamp", "text"])
def test_since_and_until_are_ranges_of_the_date_of_a_collection(empty: Instance, kind: str) -> None:
    made = empty.collection("dated", dim=384, metadata={"made": kind}, date="made")
    made.upsert([{"id": f"{n:02}", "text": TEXTS[n % 3], "made": f"2024-{1 + n % 12:02}-15"} for n in range(24)])

    def months(**filters: str) -> set[str]:
        return {str(hit.made)[:7] for hit in made.search("tiger", k=24, mode="semantic", filters=filters).hits}

    assert months(since="2024-11") == {"2024-11", "2024-12"}
    assert months(since="2024-02", until="2024-02") == {"2024-02"}
    assert [str(hit.made)[:7] for hit in made.browse({"until": "2024-03"}, k=2).hits] == ["2024-03"] * 2
    assert made.search("tiger", filters={"since": "2024"}).notices == []
    if kind == "text":
        made.upsert([{"id": "odd", "text": "a tiger", "made": "May 2024"}])
        made.invalidate()
        assert "1 of 25 dates in made are not written as YYYY-MM-DD" in str(
            made.search("tiger", filters={"since": "2024"}).notices
        )
