"""Collections over tables of other applications: of every kind, with every name, and what cannot be one is refused clearly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from everindex.articles.collections.collection import Collection
from everindex.articles.collections.registry import declared_indexes
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.errors import CollectionInvalid, EverindexError, SpecIllegal
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.recall.verify import prove_index
from everindex.settings import Settings

ROWS, WIDTH = 400, 8
VECTORS = np.random.default_rng(3).normal(size=(ROWS, WIDTH)).astype(np.float32)
QUERY = VECTORS[5] + 0.05
WORDS = ("tiger", "rust", "bank")


@pytest.fixture
def instance(cluster: Any) -> Iterator[Instance]:
    conninfo = cluster.database()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield opened
    cluster.drop(conninfo)


@pytest.fixture
def owner(instance: Instance) -> Iterator[psycopg.Connection]:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        yield connection


def text_of(n: int) -> str:
    return f"the {WORDS[n % 3]} of number {n}"


def fill(owner: psycopg.Connection, table: str, columns: str = "id, part, body, v") -> None:
    with owner.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} ({columns}) VALUES (%s, %s, %s, %s::vector)",
            [(n, n % 4, text_of(n), str(VECTORS[n].tolist())) for n in range(ROWS)],
        )


def nearest(keep: Any = lambda n: True, k: int = 10) -> list[int]:
    cosine = 1 - VECTORS @ QUERY / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(QUERY)
    return [int(n) for n in np.argsort(cosine) if keep(n)][:k]


def check(laid: Collection, *, keep: Any = lambda n: True) -> None:
    """Each way of searching finds what it should."""
    assert [hit.key for hit in laid.search_vector(QUERY, exact=True).hits] == nearest(keep)
    assert len({hit.key for hit in laid.search_vector(QUERY, ef_search=200).hits} & set(nearest(keep))) >= 9
    by_words = laid.search("tiger", mode="keyword", k=200).hits
    assert {hit.key for hit in by_words} == {n for n in range(ROWS) if n % 3 == 0 and keep(n)}
    filtered = laid.search_vector(QUERY, filters={"part": {"$in": [1, 2]}}).hits
    assert [hit.key for hit in filtered] == nearest(lambda n: keep(n) and n % 4 in (1, 2))
    assert laid.browse({"part": 1}).total == sum(keep(n) and n % 4 == 1 for n in range(ROWS))
    assert laid.browse(facets=("part",)).facets is not None
    first = laid.search_vector(QUERY, k=7)
    second = laid.search_vector(QUERY, k=7, after=first.next_cursor)
    assert not {hit.key for hit in first.hits} & {hit.key for hit in second.hits}


# --- kinds of tables -------------------------------------------------------------------------------------------------


def test_a_partitioned_table_is_searched_over_all_partitions(instance: Instance, owner: psycopg.Connection) -> None:
    owner.execute(
        "CREATE TABLE parted (id int, part int NOT NULL, body text, v vector(8), PRIMARY KEY (id, part)) PARTITION BY LIST (part)"
    )
    for part in range(3):
        owner.execute(f"CREATE TABLE parted_{part} PARTITION OF parted FOR VALUES IN ({part})")
    owner.execute("CREATE TABLE parted_rest PARTITION OF parted DEFAULT")
    fill(owner, "parted")
    owner.execute("ANALYZE parted")
    laid = instance.collection_of(table="parted", key="id", text=["body"], vector="v", metadata=["part"])
    check(laid)
    assert laid.verify(samples=5, max_seconds=5).proofs[0].holds
    owner.execute("CREATE TABLE parted_9 PARTITION OF parted FOR VALUES IN (9)")
    laid.deploy()
    assert laid.verify(samples=5, max_seconds=5).holds
    assert laid.delete([5]) == 1
    assert laid.search_vector(QUERY, k=1).hits[0].key != 5


def test_a_materialized_view_is_searched_and_a_view_is_refused(instance: Instance, owner: psycopg.Connection) -> None:
    owner.execute("CREATE TABLE base (id int PRIMARY KEY, part int, body text, v vector(8))")
    fill(owner, "base")
    owner.execute("CREATE VIEW seen AS SELECT * FROM base")
    owner.execute("CREATE MATERIALIZED VIEW kept AS SELECT * FROM base WHERE part < 3")
    owner.execute("CREATE UNIQUE INDEX ON kept (id)")
    laid = instance.collection_of(table="kept", key="id", text=["body"], vector="v", metadata=["part"])
    check(laid, keep=lambda n: n % 4 < 3)
    with pytest.raises(CollectionInvalid, match="is a view") as refused:
        instance.collection_of(table="seen", key="id", text=["body"], vector="v")
    assert "materialized view" in refused.value.next_step
    assert [spec.name for spec in instance.collections()] == ["kept"]


def test_foreign_and_temporary_tables_are_refused(instance: Instance, owner: psycopg.Connection) -> None:
    owner.execute("CREATE EXTENSION postgres_fdw")
    parts = conninfo_to_dict(instance.conninfo)
    owner.execute(
        sql.SQL("CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {}, dbname {})").format(
            sql.Literal(parts["host"]), sql.Literal(parts["dbname"])
        )
    )
    owner.execute("CREATE FOREIGN TABLE far (id int, body text, v vector(8)) SERVER there")
    with pytest.raises(CollectionInvalid, match="is a foreign table") as refused:
        instance.collection_of(table="far", key="id", vector="v")
    assert "on the server that has its rows" in refused.value.next_step
    assert instance.collections() == []


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ("id int, part int, v vector(8), PRIMARY KEY (id, part)", r"its primary key is \(id, part\)"),
        ("id int, v vector(8)", "no unique index"),
        ("id int, part int, v vector(8), UNIQUE (part, id)", "no unique index"),
        ("id int, part int PRIMARY KEY, v vector(8)", r"its primary key is \(part\)"),
    ],
)
def test_a_column_that_identifies_no_row_is_refused_with_what_works(
    instance: Instance, owner: psycopg.Connection, columns: str, why: str
) -> None:
    owner.execute(f"CREATE TABLE things ({columns})")
    with pytest.raises(CollectionInvalid, match="does not identify a row") as refused:
        instance.collection_of(table="things", key="id", vector="v")
    assert re.search(why, refused.value.why)
    statement = refused.value.next_step.partition("add one:")[2].strip().rstrip(".").replace("…", "things")
    owner.execute(statement)
    assert instance.collection_of(table="things", key="row_id", vector="v").name == "things"


def test_a_key_of_several_columns_is_refused(instance: Instance) -> None:
    with pytest.raises(CollectionInvalid, match="not the name of one column") as refused:
        instance.collection_of(table="things", key=("a", "b"), vector="v")  # type: ignore[arg-type]
    assert "row_id" in refused.value.next_step


def test_a_column_that_no_index_can_hold_is_refused_unless_nothing_is_built(
    instance: Instance, owner: psycopg.Connection
) -> None:
    owner.execute("CREATE TABLE loose (id int PRIMARY KEY, v vector)")
    with pytest.raises(SpecIllegal, match="no fixed dimensions"):
        instance.collection_of(table="loose", key="id", vector="v")
    assert instance.collections() == []


def test_rows_that_a_role_may_not_see_are_in_no_answer_of_it(instance: Instance, owner: psycopg.Connection) -> None:
    owner.execute("CREATE TABLE shared (id int PRIMARY KEY, part int, body text, v vector(8))")
    fill(owner, "shared")
    owner.execute("ALTER TABLE shared ENABLE ROW LEVEL SECURITY")
    owner.execute("CREATE POLICY visible ON shared USING (part = 2)")
    laid = instance.collection_of(table="shared", key="id", text=["body"], vector="v", metadata=["part"])
    check(laid)
    owner.execute("DROP ROLE IF EXISTS rls_reader")
    owner.execute("CREATE ROLE rls_reader LOGIN")
    try:
        owner.execute("GRANT SELECT ON shared TO rls_reader")
        owner.execute("GRANT USAGE ON SCHEMA everindex_meta TO rls_reader")
        owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA everindex_meta TO rls_reader")
        conninfo = make_conninfo(instance.conninfo, user="rls_reader")
        with connect_instance(conninfo, settings=Settings()) as reader:
            seen = reader.collection("shared")
            own = nearest(lambda n: n % 4 == 2)
            assert [hit.key for hit in seen.search_vector(QUERY).hits] == own
            assert [hit.key for hit in seen.search_vector(QUERY, exact=True).hits] == own
            assert all(hit.part == 2 for hit in seen.search("tiger", mode="keyword", k=200).hits)
            assert seen.browse().total == ROWS // 4
            assert seen.get([5, 6]) == laid.get([6])
    finally:
        owner.execute("DROP OWNED BY rls_reader")
        owner.execute("DROP ROLE rls_reader")


# --- names -----------------------------------------------------------------------------------------------------------

LONG = "n" * 61
NAMES = [
    ("select", "order", "limit", "from", "group"),
    ("UPPER Case", "Key Column", "The Body", "The Vector", "Meta"),
    ('quo"te', "it's", "a;b", "v--", "m/*"),
    ("größe_表", "schlüssel", "текст", "矢量", "número"),
    (f"{LONG}ab", f"{LONG}kk", f"{LONG}bb", f"{LONG}vv", f"{LONG}mm"),
    ("ä" * 31, "é" * 31, "ü" * 31, "ö" * 31, "ß" * 31),
    ("{}", "{key}", "%(s)"[2:], "$1", "{0}"),
]


@pytest.mark.parametrize(
    "names", NAMES, ids=["reserved", "case", "quotes", "unicode", "63", "62 of two bytes", "braces"]
)
def test_every_name_that_postgresql_takes_is_a_name(
    instance: Instance, owner: psycopg.Connection, names: tuple[str, ...]
) -> None:
    table, key, body, vector, meta = names
    quoted = [sql.Identifier(name).as_string(None) for name in names]
    q_table, q_key, q_body, q_vector, q_meta = quoted
    owner.execute(
        f"CREATE TABLE {q_table} ({q_key} int PRIMARY KEY, {q_meta} int, {q_body} text, {q_vector} vector(8))"
    )
    fill(owner, quoted[0], ", ".join([quoted[1], quoted[4], quoted[2], quoted[3]]))
    laid = instance.collection_of(table=table, key=key, text=[body], vector=vector, metadata=[meta])
    assert [hit.key for hit in laid.search_vector(QUERY, exact=True).hits] == nearest()
    assert len(laid.search("tiger", mode="keyword", k=200).hits) == len(range(0, ROWS, 3))
    filtered = laid.search_vector(QUERY, filters={meta: {"$gte": 2}}).hits
    assert [hit.key for hit in filtered] == nearest(lambda n: n % 4 >= 2)
    assert laid.browse({meta: 1}, facets=(meta,)).total == ROWS // 4
    assert laid.similar(5, k=3).hits
    assert laid.verify(samples=3, max_seconds=3).proofs[0].holds
    laid.add_partial_index({meta: 3})
    assert laid.drop_partial_index({meta: 3})
    assert laid.upsert([{key: 1, body: "an elephant"}], vectors=QUERY[None, :], model="mine").stored.updated == 1
    assert laid.search("elephant", mode="keyword").hits[0].key == 1
    assert laid.delete(filters={meta: 1}) == ROWS // 4
    with instance.connection() as connection:
        (spec,) = declared_indexes(connection)
        assert len(spec.name.encode()) <= 57
        assert prove_index(connection, effective_spec(connection, spec))[0].holds
    instance.drop_collection(laid.name)


def test_names_with_a_percent_sign_are_refused_and_columns_beside_them_are_filtered(
    instance: Instance, owner: psycopg.Connection
) -> None:
    owner.execute('CREATE TABLE rates (id int PRIMARY KEY, "100 %" int, v vector(8))')
    with pytest.raises(CollectionInvalid, match="percent sign") as refused:
        instance.collection_of(table="rates", key="id", vector="v", metadata=["100 %"])
    assert refused.value.next_step
    laid = instance.collection_of(table="rates", key="id", vector="v")
    owner.execute("INSERT INTO rates VALUES (1, 50, %s::vector), (2, 60, %s::vector)", [str(VECTORS[0].tolist())] * 2)
    assert [hit.key for hit in laid.search_vector(QUERY, filters={"100 %": {"$gt": 55}}).hits] == [2]


def test_long_names_that_begin_alike_have_indexes_of_their_own(instance: Instance, owner: psycopg.Connection) -> None:
    for end in ("a", "b"):
        owner.execute(f"CREATE TABLE {LONG}{end} (id int PRIMARY KEY, part int, body text, v vector(8))")
        fill(owner, f"{LONG}{end}")
        laid = instance.collection_of(table=f"{LONG}{end}", key="id", text=["body"], vector="v", metadata=["part"])
        laid.add_partial_index({"part": 1})
        check(laid)
    with instance.connection() as connection:
        specs = declared_indexes(connection)
        assert len({spec.name for spec in specs}) == 4
        assert all(prove_index(connection, effective_spec(connection, spec))[0].holds for spec in specs)


def test_tables_of_one_name_in_two_schemas_are_two_collections(instance: Instance, owner: psycopg.Connection) -> None:
    for schema in ("one", "two"):
        owner.execute(f"CREATE SCHEMA {schema}")
        owner.execute(f"CREATE TABLE {schema}.docs (id int PRIMARY KEY, part int, body text, v vector(8))")
    owner.execute("CREATE TABLE docs (id int PRIMARY KEY)")  # what the search_path leads to
    fill(owner, "one.docs")
    for schema in ("one", "two"):
        instance.collection_of(
            table="docs", schema=schema, name=f"{schema} docs", key="id", text=["body"], vector="v", metadata=["part"]
        )
    check(instance.collection("one docs"))
    assert instance.collection("two docs").search_vector(QUERY).hits == []
    owner.execute("DROP INDEX one.docs_v_hnsw_idx")
    with instance.connection() as connection:
        states = {
            spec.schema: prove_index(connection, effective_spec(connection, spec))[0].holds
            for spec in declared_indexes(connection)
        }
    assert states == {"one": False, "two": True}
    instance.collection("one docs").deploy()
    assert instance.collection("one docs").verify(samples=3, max_seconds=3).holds


def test_every_refusal_has_three_lines(instance: Instance) -> None:
    with pytest.raises(EverindexError) as refused:
        instance.collection_of(table="nowhere", key="id", vector="v")
    assert refused.value.what
    assert refused.value.why
    assert refused.value.next_step
