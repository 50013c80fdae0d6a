"""What the doctor says about the rows themselves, of which it reads a bounded sample; and names and roles of every kind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

import patient
import scene
from by_hand import rows, run
from everindex.doctor.examine import all_rules
from everindex.doctor.examined import Examined
from everindex.index.spec import IndexSpec
from everindex.pg import own_schema
from everindex.pg.capabilities import look
from everindex.pg.connections import connect
from patient import apply_fix, ask, findings, is_good, make_items, random_vector, the_finding

HNSW = "CREATE INDEX items_idx ON items USING hnsw (embedding vector_cosine_ops)"
ZERO = sql.SQL("array_fill(0, array[64])::vector")
UNIT = "UPDATE items SET embedding = l2_normalize(embedding)"

#: Every rule of this file's kind: they read rows.
SAMPLING = ("zero-vectors", "null-vectors", "vectors-not-normalised", "duplicated-vectors")


@pytest.fixture
def indexed(empty: str) -> str:
    """300 vectors of 64 dimensions in `items` under an hnsw index for cosine."""
    make_items(empty)
    run(empty, HNSW)
    return empty


def test_zero_vectors_under_a_cosine_index_are_told_and_emptied(indexed: str) -> None:
    assert is_good(indexed, "zero-vectors")
    run(indexed, sql.SQL("UPDATE items SET embedding = {} WHERE id < 7").format(ZERO))
    found = the_finding(indexed, "zero-vectors")
    assert "7 of 300 sampled vectors" in found.sentence
    apply_fix(indexed, found)
    assert is_good(indexed, "zero-vectors")


def test_zero_vectors_are_no_matter_for_other_distances(empty: str) -> None:
    make_items(empty)
    run(
        empty,
        "CREATE INDEX ON items USING hnsw (embedding vector_l2_ops)",
        sql.SQL("UPDATE items SET embedding = {} WHERE id < 7").format(ZERO),
    )
    assert not ask(empty, "zero-vectors")


def test_rows_without_a_vector_are_told_from_one_in_a_hundred_on(indexed: str) -> None:
    run(indexed, "UPDATE items SET embedding = NULL WHERE id < 3")
    assert is_good(indexed, "null-vectors")
    run(indexed, "UPDATE items SET embedding = NULL WHERE id < 30")
    assert "30 of 300 sampled rows have no vector" in the_finding(indexed, "null-vectors").sentence
    run(
        indexed,
        sql.SQL(
            "UPDATE items AS g SET embedding = {} FROM items AS i WHERE i.id = g.id AND i.embedding IS NULL"
        ).format(sql.SQL("ARRAY(SELECT random() - 0.5 + 0 * g.id FROM generate_series(1, 64))")),
    )
    assert is_good(indexed, "null-vectors")


def test_an_inner_product_index_over_vectors_of_all_lengths_is_told(empty: str) -> None:
    make_items(empty)
    run(empty, "CREATE INDEX ON items USING hnsw (embedding vector_ip_ops)")
    found = the_finding(empty, "vectors-not-normalised")
    assert "300 of 300 sampled vectors" in found.sentence
    run(empty, UNIT)
    assert is_good(empty, "vectors-not-normalised")


def test_unit_vectors_under_a_cosine_index_could_use_inner_product(indexed: str) -> None:
    (answer,) = ask(indexed, "vectors-not-normalised")
    assert "inner product index would" not in answer.sentence
    run(indexed, UNIT)
    (answer,) = ask(indexed, "vectors-not-normalised")
    assert answer.status == "good"
    assert "an inner product index would give the same order" in answer.sentence


def test_one_vector_in_many_rows_is_told(indexed: str) -> None:
    same = "UPDATE items SET embedding = (SELECT embedding FROM items WHERE id = 0) WHERE id < {}"
    run(indexed, same.format(9))
    assert is_good(indexed, "duplicated-vectors")
    run(indexed, same.format(40))
    assert "is in 40 of 300 sampled rows" in the_finding(indexed, "duplicated-vectors").sentence
    run(indexed, "DELETE FROM items WHERE id BETWEEN 1 AND 39")
    assert is_good(indexed, "duplicated-vectors")


def test_vectors_of_two_models_are_told(empty: str) -> None:
    assert not ask(empty, "model-mixture")
    own_schema.ensure(empty)
    assert not ask(empty, "model-mixture")
    run(
        empty,
        "INSERT INTO everindex_meta.embedding_record (uri, model) SELECT 'u' || g, 'old' FROM generate_series(1, 1200) g",
    )
    assert is_good(empty, "model-mixture")
    run(empty, "INSERT INTO everindex_meta.embedding_record (uri, model) VALUES ('a', 'new'), ('b', 'another')")
    found = the_finding(empty, "model-mixture")
    assert "3 models are recorded: another (1 row), new (1 row), old (1000 or more rows)" in found.sentence
    run(empty, "UPDATE everindex_meta.embedding_record SET model = 'new'")
    assert is_good(empty, "model-mixture")


def test_vectors_of_two_models_in_one_collection_are_told(empty: str) -> None:
    own_schema.ensure(empty)
    run(
        empty,
        "CREATE TABLE docs (id integer PRIMARY KEY)",
        "INSERT INTO docs VALUES (1), (2)",
        "INSERT INTO everindex_meta.collection (name, table_schema, table_name, declaration) "
        """VALUES ('notes', 'public', 'docs', '{"key": "id"}')""",
        "INSERT INTO everindex_meta.collection_record (collection, key, model) "
        "VALUES ('notes', '1', 'new'), ('notes', '2', 'new'), ('notes', '3', 'old')",
    )
    assert is_good(empty, "model-mixture")
    run(empty, "UPDATE everindex_meta.collection_record SET model = 'other' WHERE key = '1'")
    assert "2 models are recorded for collection notes: new, other" in the_finding(empty, "model-mixture").sentence


def test_the_record_of_a_row_that_is_gone_is_no_mixture(empty: str) -> None:
    own_schema.ensure(empty)
    run(
        empty,
        "CREATE TABLE items (uri text PRIMARY KEY)",
        "INSERT INTO items VALUES ('a'), ('b')",
        "INSERT INTO everindex_meta.embedding_record (uri, model) VALUES ('a', 'new'), ('b', 'new'), ('gone', 'old')",
    )
    assert is_good(empty, "model-mixture", declared=(patient.SPEC,))
    run(empty, "INSERT INTO items VALUES ('gone')")
    assert "2 models" in the_finding(empty, "model-mixture", declared=(patient.SPEC,)).sentence


def test_vectors_of_which_nothing_says_the_model_are_told_and_are_no_single_model(empty: str) -> None:
    articles = IndexSpec(table="articles", column="embedding", name="articles_embedding_idx")
    run(
        empty,
        "CREATE EXTENSION vector",
        "CREATE TABLE articles (uri text PRIMARY KEY, title text, summary text, embedding vector(3))",
        "INSERT INTO articles SELECT 'u' || g, 't', 's', '[1,2,3]' FROM generate_series(1, 5) g",
        "INSERT INTO articles VALUES ('zero', 't', 's', '[0,0,0]'), ('none', 't', 's', NULL)",
    )
    slug = "vectors-of-unrecorded-model"
    assert "made 5 vectors" in the_finding(empty, slug, declared=(articles,)).sentence
    own_schema.ensure(empty)
    run(empty, "INSERT INTO everindex_meta.embedding_record (uri, model) VALUES ('u1', 'new')")
    assert "made 4 vectors" in the_finding(empty, slug, declared=(articles,)).sentence
    found = the_finding(empty, "model-mixture", declared=(articles,))
    assert "mixes recorded vectors of new (1 row) with 4 vectors" in found.sentence
    declare = "INSERT INTO everindex_meta.declared_model VALUES (current_schema, 'articles', '{}', '', 4, 4, 1, 1)"
    run(empty, declare.format("old"))
    assert is_good(empty, slug, declared=(articles,))
    assert "declared as of old" in the_finding(empty, "model-mixture", declared=(articles,)).sentence
    run(empty, "UPDATE everindex_meta.declared_model SET model = 'new'")
    assert is_good(empty, "model-mixture", declared=(articles,))


@pytest.mark.parametrize(
    ("column_type", "opclass"), [("halfvec", "halfvec_cosine_ops"), ("sparsevec", "sparsevec_cosine_ops")]
)
def test_other_types_are_sampled_too(empty: str, column_type: str, opclass: str) -> None:
    run(
        empty,
        "CREATE EXTENSION vector",
        f"CREATE TABLE items (id int, embedding {column_type}(3))",
        f"INSERT INTO items SELECT g, array[g, 1, 2]::vector(3)::{column_type} FROM generate_series(1, 40) AS g",
        f"INSERT INTO items SELECT g, array[0, 0, 0]::vector(3)::{column_type} FROM generate_series(1, 2) AS g",
        f"CREATE INDEX ON items USING hnsw (embedding {opclass})",
    )
    found = the_finding(empty, "zero-vectors")
    assert "2 of 42 sampled vectors" in found.sentence
    apply_fix(empty, found)
    assert is_good(empty, "zero-vectors")
    assert is_good(empty, "duplicated-vectors")


def test_of_a_big_table_only_a_sample_is_read(empty: str) -> None:
    make_items(empty, count=20_000, dimensions=3)
    run(empty, f"{HNSW} WITH (m = 2, ef_construction = 4)")
    run(empty, "SELECT pg_stat_reset_single_table_counters('items'::regclass)")
    (answer,) = ask(empty, "null-vectors")
    sampled = re.match(r"0 of (\d+) sampled rows", answer.sentence)
    assert sampled is not None
    assert 0 < int(sampled[1]) <= 1000  # some eight pages, drawn by chance
    statement = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'items'"
    scene.wait_until(lambda: rows(empty, statement)[0][0] > 0)  # the doctor's session reports what it read as it ends
    assert rows(empty, statement)[0][0] < 3000


def test_of_many_tables_the_biggest_are_read_and_the_others_told_in_one(
    indexed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("second", "third"):
        make_items(indexed, name=name, count=20)
        run(indexed, f"CREATE INDEX ON {name} USING hnsw (embedding vector_cosine_ops)")
    monkeypatch.setattr("everindex.doctor.examined.SAMPLED_COLUMNS", 1)
    first, others = ask(indexed, "null-vectors")
    assert (first.about, first.status) == ('"public"."items"', "good")
    assert others.status == "unknown"
    assert others.sentence.startswith('not sampled: 2 columns, the largest in "public"."second"')


def test_a_table_in_use_by_an_alter_is_unknown_and_takes_no_other_with_it(indexed: str) -> None:
    make_items(indexed, name="other")
    run(indexed, "CREATE INDEX ON other USING hnsw (embedding vector_cosine_ops)")
    rule = next(rule for rule in all_rules() if rule.slug == "null-vectors")
    with connect(indexed) as connection, psycopg.connect(indexed) as altering:
        examined = Examined(connection=connection, capabilities=look(connection), max_seconds=0.3)
        assert examined.indexes
        assert examined.index_details
        altering.execute("LOCK TABLE other IN ACCESS EXCLUSIVE MODE")
        answers = {answer.about: answer for answer in rule.check(examined)}
        altering.rollback()
    assert answers['"public"."other"'].status == "unknown"
    assert "statement timeout" in answers['"public"."other"'].sentence
    assert answers['"public"."items"'].status == "good"


# --- whoever asks, whatever the names ---------------------------------------------------------------------------------


@pytest.fixture
def stranger(cluster: Any, indexed: str) -> Iterator[str]:
    """A role that may read table `open` and not `items`."""
    role = f"stranger_{os.getpid()}"
    make_items(indexed, name="open")
    run(
        indexed,
        "CREATE INDEX ON open USING hnsw (embedding vector_cosine_ops)",
        f"CREATE ROLE {role}",
        f"GRANT SELECT ON open TO {role}",
    )
    yield role
    run(indexed, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize("slug", SAMPLING)
def test_a_forbidden_table_is_unknown_and_hides_no_other(indexed: str, stranger: str, slug: str) -> None:
    answers = {answer.about: answer for answer in ask(indexed, slug, role=stranger)}
    assert answers['"public"."items"'].status == "unknown"
    assert "permission denied for table items" in answers['"public"."items"'].sentence
    assert answers['"public"."open"'].status == "good"


def test_statistics_that_a_role_may_not_see_are_unknown(indexed: str, stranger: str) -> None:
    answers = {answer.about: answer.status for answer in ask(indexed, "statistics-missing", role=stranger)}
    assert answers == {'"public"."items"': "unknown", '"public"."open"': "good"}


HOSTILE = [
    ('quote"quote', "100%", "sp ace"),
    ("%s %(x)s %%", "apostrophe'; DROP TABLE items; --", "{brace}"),
    pytest.param("ünïcode 索引", "back\\slash", "select", marks=pytest.mark.long),
    pytest.param("dot.dot", " USING hnsw (x)", "n" * 63, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("schema", "name", "column"), HOSTILE)
def test_names_of_every_kind_are_told_and_mended(empty: str, schema: str, name: str, column: str) -> None:
    """A table with many sicknesses at once, in a database where pgvector lies in a schema of its own."""
    run(empty, "CREATE SCHEMA ext", "CREATE EXTENSION vector SCHEMA ext", "SET search_path = ext")
    table, quoted_column = sql.Identifier(schema, name), sql.Identifier(column)
    statement = {
        "table": table,
        "column": quoted_column,
        "index": sql.Identifier(name[:40] + "_i"),
        "second": sql.Identifier(name[:40] + "_j"),
        "parent": sql.Identifier(schema, name[:40] + "_p"),
        "part": sql.Identifier(schema, name[:40] + "_q"),
        "whole": sql.Identifier(name[:40] + "_w"),
    }
    run(
        empty,
        *(
            sql.SQL(text).format(**statement, schema=sql.Identifier(schema), vector=random_vector(8))
            for text in (
                "CREATE SCHEMA {schema}",
                "CREATE UNLOGGED TABLE {table} (id int, n int DEFAULT 0, {column} ext.vector(8)) "
                "WITH (autovacuum_enabled = off)",
                "ALTER TABLE {table} ALTER {column} SET STORAGE EXTENDED",
                "INSERT INTO {table} SELECT g, 0, {vector}::ext.vector FROM generate_series(1, 400) AS g",
                "INSERT INTO {table} SELECT g, 0, array_fill(0, array[8])::ext.vector FROM generate_series(1, 9) AS g",
                "INSERT INTO {table} SELECT g, 0, NULL FROM generate_series(1, 9) AS g",
                "CREATE INDEX {index} ON {table} USING hnsw ({column} ext.vector_cosine_ops) WITH (m = 4)",
                "CREATE INDEX {second} ON {table} USING hnsw ({column} ext.vector_cosine_ops)",
                "CREATE INDEX ON {table} USING ivfflat ({column} ext.vector_cosine_ops) WITH (lists = 1)",
                "CREATE TABLE {parent} (id int, {column} ext.vector(8)) PARTITION BY RANGE (id)",
                "CREATE TABLE {part} PARTITION OF {parent} FOR VALUES FROM (0) TO (9)",
                "CREATE INDEX {whole} ON ONLY {parent} USING hnsw ({column} ext.vector_cosine_ops)",
                "DELETE FROM {table} WHERE id > 300",
                "UPDATE {table} SET n = 1",
                "UPDATE {table} SET n = 2",
                "UPDATE {table} SET n = 3",
                "UPDATE {table} SET n = 4",
            )
        ),
    )
    spec = IndexSpec(name="declared_idx", schema=schema, table=name, column=column)
    told = {slug for slug in MINE if findings(empty, slug, declared=(spec,))}
    # Twice: SET LOGGED rewrites the table, which forgets how many rows it has.
    for slug in MINE * 2:
        for answer in findings(empty, slug, declared=(spec,)):
            if answer.fix is not None:
                run(empty, *answer.fix.statements)
    assert told == {
        "dead-tuples", "declared-index-missing", "duplicate-index", "hot-updates-lost", "null-vectors",
        "option-below-default", "partitioned-index-incomplete", "second-method-on-column", "statistics-missing",
        "table-is-unlogged", "vacuum-off-for-table", "vectors-compressed", "zero-vectors",
    }  # fmt: skip
    left = {slug for slug in MINE if findings(empty, slug, declared=(spec,))}
    # The first needs a build, the second new updates, the third an embedding.
    assert left <= {"declared-index-missing", "hot-updates-lost", "null-vectors", "statistics-stale", "dead-tuples"}
    assert "zero-vectors" not in left


#: The rules about indexes, tables and their rows.
MINE = (
    "column-without-width", "dead-tuples", "declared-index-drifted", "declared-index-for-other-distance",
    "declared-index-missing", "dimensions-beyond-limit", "duplicate-index", "duplicated-vectors", "hot-updates-lost",
    "index-bigger-than-expected", "index-cold", "index-is-invalid", "index-unused", "leftover-of-reindex",
    "model-mixture", "null-vectors", "option-below-default", "partitioned-index-incomplete", "second-method-on-column",
    "statistics-missing", "statistics-stale", "table-is-unlogged", "two-distances-on-column", "vacuum-begins-late",
    "vacuum-off-for-table", "vacuum-running-long", "vector-column-without-index", "vectors-compressed",
    "vectors-not-normalised", "zero-vectors",
)  # fmt: skip


def test_a_database_without_pgvector_has_no_finding_of_these(empty: str) -> None:
    for slug in MINE:
        assert not findings(empty, slug)


def test_no_rule_of_these_writes(indexed: str) -> None:
    """Asked over a connection that may not write, all of them answer."""
    with connect(indexed) as connection:
        connection.execute("SET default_transaction_read_only = on")
        examined = Examined(connection=connection, capabilities=look(connection), declared=(patient.SPEC,))
        answers = [answer for rule in all_rules() if rule.slug in MINE for answer in rule.check(examined)]
    assert len(answers) > 15


DATES = {
    "2024-02-06": "2024-02-06",
    "2024-02-06T10:00:00+01:00": "2024-02-06T10:00:00+01:00",
    "Tue, 06 Feb 2024 10:00:00 GMT": "2024-02-06T10:00:00Z",
    "Tue, 06 Feb 2024 23:30:00 -0500": "2024-02-07T04:30:00Z",
    "06 Feb 24 10:00 EST": "2024-02-06T15:00:00Z",
    "Tue, 6 Feb 2024 10:00:00 GMT+2": "2024-02-06T08:00:00Z",
    "6 February 2024": "2024-02-06",
    "February 6, 2024": "2024-02-06",
    "February 6, 2024 3:05 PM": "2024-02-06T15:05:00",
    "2024/02/06": "2024-02-06",
    "2024/2/6 7:05": "2024-02-06T07:05:00",
    "2024-2-6": "2024-02-06",
    " 2024-02-06 ": "2024-02-06",
    "25/12/2023": "2023-12-25",
    "12/25/2023 08:00": "2023-12-25T08:00:00",
    "3/4/2024": "3/4/2024",
    "06.02.2024": "2024-02-06",
    "20240206": "2024-02-06",
    "1707213600": "2024-02-06T10:00:00Z",
    "1707213600.5": "2024-02-06T10:00:00Z",
    "1707213600000": "2024-02-06T10:00:00Z",
    "2024": "2024-01-01",
    "2024-02": "2024-02-01",
    "": None,
    "  ": None,
    "30 Feb 2024": "30 Feb 2024",
    "31/02/2024": "31/02/2024",
    "99999999999999999999": "99999999999999999999",
    "today": "today",
    "soon, in May": "soon, in May",
    "2024-13-45": "2024-13-45",
}


#: The table whose dates are looked at.
DATED = (IndexSpec(schema="public", table="items", column="embedding", name="items_idx"),)


@pytest.mark.parametrize("kind", ["text", "varchar(60)"])
def test_dates_that_are_no_iso_dates_are_told_and_the_statement_normalises_them(indexed: str, kind: str) -> None:
    assert not ask(indexed, "date-not-iso", declared=DATED)
    run(
        indexed,
        f"ALTER TABLE items ADD COLUMN publication_date {kind}",
        "UPDATE items SET publication_date = '2024-02-06'",
    )
    assert is_good(indexed, "date-not-iso", declared=DATED)
    with psycopg.connect(indexed, autocommit=True) as connection:
        for number, text in enumerate(DATES):
            connection.execute("UPDATE items SET publication_date = %s WHERE id = %s", (text, number + 1))
        # Neither of these may decide what is written.
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET timezone = 'Asia/Tokyo'")
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET datestyle = 'German, DMY'")
    (found,) = ask(indexed, "date-not-iso", declared=DATED)
    apply_fix(indexed, found)
    stored = dict(rows(indexed, "SELECT id, publication_date FROM items"))
    assert {text: stored[number + 1] for number, text in enumerate(DATES)} == DATES
    left = [text for text, date in DATES.items() if text == date and not text.startswith("2024-02")]
    (found,) = ask(indexed, "date-not-iso", declared=DATED)
    assert found.sentence.startswith(f"{len(left)} of ")


def test_a_column_of_dates_is_not_asked_about(indexed: str) -> None:
    run(indexed, "ALTER TABLE items ADD COLUMN publication_date timestamptz DEFAULT now()")
    assert not ask(indexed, "date-not-iso", declared=DATED)
