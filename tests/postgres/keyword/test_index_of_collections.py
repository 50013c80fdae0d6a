"""The index of the words of any table: made, replaced and healed as that of the articles, whatever its names are."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from by_hand import rows, run
from everindex.articles.search.keyword.document import find_config
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.articles.search.keyword.index.observed import observe
from everindex.articles.search.keyword.index.script import script
from everindex.articles.shape.spec import CollectionSpec
from everindex.errors import CollectionInvalid

NOTES = CollectionSpec(name="notes", schema='Team "A"', table="Notes 100", key="no", text=('the "body"',))
TABLE = '"Team ""A"""."Notes 100"'
LETTERS = CollectionSpec(name="letters", table="letters", key="id", text=("subject", "greeting", "body"))


@pytest.fixture
def tables(empty: str) -> str:
    run(
        empty,
        'CREATE SCHEMA "Team ""A"""',
        f'CREATE TABLE {TABLE} (no int PRIMARY KEY, "the ""body""" varchar, embedding real[])',
        f"INSERT INTO {TABLE} SELECT n, 'walnut ' || n FROM generate_series(1, 500) n",
        "CREATE TABLE letters (id int PRIMARY KEY, subject text, greeting text, body text)",
        "INSERT INTO letters VALUES (1, 'walnut', 'dear', 'tiger')",
    )
    return empty


def index(conninfo: str, table: str) -> list[tuple[Any, ...]]:
    return rows(
        conninfo,
        "SELECT c.relname, i.indisvalid, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = %s::regclass AND NOT i.indisprimary ORDER BY 1",
        table,
    )


@pytest.mark.parametrize(("collection", "table"), [(NOTES, TABLE), (LETTERS, "letters")], ids=["notes", "letters"])
def test_it_is_built_healed_and_replaced_under_the_name_that_the_collection_derives(
    tables: str, collection: CollectionSpec, table: str
) -> None:
    assert ensure_words(tables, collection, text_search="english").outcome == "built"
    name = collection.words_index_name
    assert [(found, valid) for found, valid, _ in index(tables, table)] == [(name, True)]
    assert ensure_words(tables, collection, text_search="english").outcome == "already-there"
    run(
        tables,
        f"UPDATE pg_index SET indisvalid = false FROM pg_class c WHERE c.oid = indexrelid AND relname = '{name}'",
    )
    assert ensure_words(tables, collection, text_search="english").outcome == "replaced"
    done = ensure_words(tables, collection, text_search="german")
    assert done.outcome == "replaced"
    [(found, is_valid, definition)] = index(tables, table)
    assert (found, is_valid, "'german'::regconfig" in definition) == (name, True, True)


def test_two_collections_do_not_touch_each_others(tables: str) -> None:
    ensure_words(tables, NOTES, text_search="english")
    before = index(tables, TABLE)
    ensure_words(tables, LETTERS, text_search="german")
    assert index(tables, TABLE) == before
    assert len(index(tables, "letters")) == 1


def test_an_index_over_other_columns_is_not_taken_for_it(tables: str) -> None:
    name = LETTERS.words_index_name
    run(
        tables, f"CREATE INDEX {name} ON letters USING gin (setweight(to_tsvector('english'::regconfig, subject), 'A'))"
    )
    before = index(tables, "letters")
    done = ensure_words(tables, LETTERS, text_search="english")
    assert (done.outcome, index(tables, "letters")) == ("left", before)
    assert name in str(done.reason)


def test_the_script_makes_what_the_next_look_takes_for_its_own(tables: str) -> None:
    with psycopg.connect(tables, autocommit=True) as connection:
        find_config(connection, "english")
        for statement in script("english", NOTES):
            connection.execute(statement)
        found = observe(connection, NOTES)
    assert found is not None
    assert found.serving is not None
    assert ensure_words(tables, NOTES, text_search="english").outcome == "already-there"


def test_a_collection_without_texts_has_no_such_index(tables: str) -> None:
    with pytest.raises(CollectionInvalid, match="text column"):
        ensure_words(tables, CollectionSpec(name="bare", table="letters", key="id"), text_search="english")
