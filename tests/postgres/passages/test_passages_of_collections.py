"""Long texts of collections are cut into passages, which are found as their rows, whatever key, metric and owner a table has."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from everindex.articles.collections.collection import Collection
from everindex.articles.collections.description import described, rows_of
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.errors import CollectionInvalid
from everindex.settings import Settings
from templates import migrate
from whole_texts import of_article, whole_text

MODES = ("hybrid", "semantic", "keyword")
ROWS = 12


def digest_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"nr": number, "title": "Weekly digest", "body": whole_text(number), "parity": number % 2}
        for number in range(first, first + count)
    ]


def run(instance: Instance, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        found = connection.execute(statement, values)
        return found.fetchall() if found.description else []


@pytest.fixture(scope="module")
def instance(cluster: Any) -> Iterator[Instance]:
    conninfo = cluster.database(cluster.template("at_head", migrate))
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield opened
    cluster.drop(conninfo)


@pytest.fixture(scope="module")
def docs(instance: Instance) -> Collection:
    """Twelve rows with long texts and integer keys, and one with a short text; nobody writes to it."""
    docs = instance.collection(
        "docs", dim=1536, key="nr", key_type="integer", text=("title", "body"), metadata={"parity": "integer"},
        passages="body",
    )  # fmt: skip
    report = docs.upsert([*digest_rows(ROWS), {"nr": 99, "title": "Short", "body": "An owl sleeps.", "parity": 1}])
    assert report.passages.texts == ROWS
    assert report.passages.embedded == report.passages.passages > ROWS
    return docs


@pytest.fixture
def written(migrated: str, open_instance: Callable[..., Instance]) -> Collection:
    """Three rows with long texts in a table of somebody else, whose vectors everindex made."""
    instance = open_instance(migrated)
    run(instance, "CREATE TABLE notes (nr bigint PRIMARY KEY, title text, body text, embedding vector(1536))")
    notes = instance.collection_of(
        table="notes", key="nr", text=["title"], metadata=["body"], vector="embedding", passages="body"
    )
    notes.upsert([{key: row[key] for key in ("nr", "title", "body")} for row in digest_rows(3)])
    return notes


@pytest.mark.parametrize("mode", MODES)
def test_what_stands_only_in_a_long_text_is_found_with_the_passage_and_where_it_stands(
    docs: Collection, mode: Any
) -> None:
    for number in (0, 7, 11):
        item = of_article(number)[-1]
        hits = docs.search(item[:300], mode=mode).hits
        assert hits[0].key == number
        passage = hits[0].passage
        assert passage is not None
        assert passage.text == whole_text(number)[passage.start : passage.end]
        assert (passage.snippet is None) == (mode == "semantic")
        assert len({hit.key for hit in hits}) == len(hits)


@pytest.mark.parametrize("mode", MODES)
def test_filters_hold_for_the_row(docs: Collection, mode: Any) -> None:
    hits = docs.search(of_article(7)[3], mode=mode, filters={"parity": 1}).hits
    assert hits[0].key == 7
    assert hits[0].passage is not None
    assert {hit.parity for hit in docs.search(of_article(6)[3], mode=mode, filters={"parity": 1}).hits} <= {1}


def test_a_text_that_one_vector_covers_is_not_cut(docs: Collection, instance: Instance) -> None:
    assert docs.passages is not None
    assert run(instance, "SELECT passages FROM everindex_meta.collection_docs_cut WHERE row_key = '99'") == [(0,)]
    assert docs.passages.due(docs.embedder) == []
    cut = docs.passages.of("7")
    assert cut is not None
    assert cut.characters == len(whole_text(7))
    counts = docs.passages.counts()
    assert counts is not None
    assert (counts.texts, counts.cut, counts.due, counts.orphans) == (ROWS + 1, ROWS + 1, 0, 0)


def test_searches_by_a_vector_and_many_at_once_compare_passages_too(docs: Collection) -> None:
    items = [of_article(number)[5] for number in (2, 3, 9)]
    one_by_one = [docs.search(item, mode="semantic", k=4) for item in items]
    vectors = [docs.embed_query(item) for item in items]
    by_vector = [docs.search_vector(vector, k=4) for vector in vectors]
    at_once = docs.search_many([*vectors, *items], k=4)
    assert [answer.hits for answer in by_vector] == [answer.hits for answer in one_by_one]
    assert [answer.hits for answer in at_once[:3]] == [answer.hits for answer in one_by_one]
    shown = [[(hit.key, hit.passage and hit.passage.number) for hit in answer.hits] for answer in at_once]
    assert shown[3:] == shown[:3]  # texts embedded together differ in the last digits of their vectors
    assert [answer.hits[0].key for answer in by_vector] == [2, 3, 9]
    assert all(answer.hits[0].passage is not None for answer in at_once)


def test_pages_of_a_search_by_a_vector_repeat_no_row_and_leave_none_out(docs: Collection) -> None:
    vector = docs.embed_query("fix a crash in the interpreter")
    seen: list[int] = []
    after = None
    while True:
        answer = docs.search_vector(vector, k=5, after=after)
        seen += [hit.key for hit in answer.hits]
        after = answer.next_cursor
        if after is None:
            break
    assert sorted(seen) == [*range(ROWS), 99]


@pytest.mark.parametrize("options", [{}, {"without_near_duplicates": True}, {"diversity": 0.3}])
def test_rows_similar_to_one_are_found_by_their_passages_and_never_the_row_itself(
    docs: Collection, options: dict[str, Any]
) -> None:
    answer = docs.similar(3, k=6, **options)
    keys = [hit.key for hit in answer.hits]
    assert 3 not in keys
    assert len(keys) == len(set(keys))
    assert len(keys) == 6 or "without_near_duplicates" in options
    assert any(hit.passage is not None for hit in answer.hits)


def test_an_explanation_has_the_search_of_the_passages(docs: Collection) -> None:
    explained = docs.explain(docs.embed_query("owls"), k=3)
    assert explained.passages is not None
    assert "collection_docs_passage" in explained.passages.statement
    assert "passages" in explained.as_dict()
    assert docs.explain(docs.embed_query("owls"), k=3, filters={"parity": 1}).passages is not None


def test_the_passages_are_a_collection_with_a_valid_proven_index(docs: Collection, instance: Instance) -> None:
    passages = instance.collection("docs.passages")
    assert passages.verify().holds
    assert passages.search(of_article(4)[2]).hits[0].row_key == "4"


def test_facets_and_words_left_out_know_the_passages(docs: Collection) -> None:
    answer = docs.search("asyncio", mode="keyword", k=100, facets=("parity",))
    assert answer.facets is not None
    assert answer.facets.counted == len(answer.hits)
    word = next(word for word in of_article(5)[0].split() if word.isalpha() and len(word) > 5)
    assert 5 in {hit.key for hit in docs.search(of_article(5)[0], mode="hybrid").hits}
    assert 5 not in {hit.key for hit in docs.search(f"crash -{word}", mode="hybrid", k=13).hits}


def test_changes_and_deletions_of_rows_take_their_passages_along(written: Collection) -> None:
    def counted(table: str) -> int:
        with psycopg.connect(written.conninfo) as connection:
            statement = sql.SQL("SELECT count(DISTINCT row_key) FROM everindex_meta.{}").format(sql.Identifier(table))
            (row,) = connection.execute(statement).fetchall()
            return int(row[0])

    assert counted("collection_notes_passage") == counted("collection_notes_cut") == 3
    changed = whole_text(1).replace(of_article(1)[10], "A completely new sentence about the migration of birds.")
    report = written.upsert([{"nr": 1, "body": changed}])
    assert report.passages.texts == 1
    assert report.passages.embedded <= 4
    assert written.search("migration of birds").hits[0].key == 1
    assert written.delete([1]) == 1
    assert counted("collection_notes_passage") == counted("collection_notes_cut") == 2
    with psycopg.connect(written.conninfo, autocommit=True) as connection:
        connection.execute("UPDATE notes SET body = 'Nothing but owls.' WHERE nr = 2")
        connection.execute("DELETE FROM notes WHERE nr = 0")
    assert all(hit.passage is None for hit in written.search(of_article(2)[4]).hits)
    written.embed_missing()
    assert counted("collection_notes_passage") == 1
    found = written.search("owls").hits[0]
    assert found.passage is not None
    assert found.passage.text == "Nothing but owls."


def test_passages_are_turned_on_for_an_existing_collection_and_dropped_with_it(
    migrated: str, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(migrated)
    plain = instance.collection("docs", dim=1536, key="nr", key_type="text", text=("title", "body"))
    plain.upsert([{"nr": str(row["nr"]), "title": row["title"], "body": row["body"]} for row in digest_rows(2)])
    assert plain.passages is None
    docs = instance.collection("docs", dim=1536, key="nr", key_type="text", text=("title", "body"), passages="body")
    assert docs.passages is not None
    assert len(docs.passages.due(docs.embedder)) == 2
    assert docs.embed_missing().passages.texts == 2
    assert docs.search(of_article(1)[7]).hits[0].passage is not None
    with pytest.raises(CollectionInvalid):
        instance.collection("docs", dim=1536, key="nr", key_type="text", text=("title", "body"), passages="title")
    instance.drop_collection("docs")
    assert instance.collections() == []
    assert run(instance, "SELECT relname FROM pg_class WHERE starts_with(relname, 'collection_docs_')") == []


@pytest.mark.parametrize("metric", ["l2", "inner_product"])
def test_the_distances_of_passages_are_those_of_the_collection(
    migrated: str, open_instance: Callable[..., Instance], metric: Any
) -> None:
    docs = open_instance(migrated).collection(
        "docs", dim=1536, metric=metric, vector_type="halfvec", text=("body",), passages="body"
    )
    docs.upsert([{"id": str(row["nr"]), "body": row["body"]} for row in digest_rows(3)])
    hits = docs.search(of_article(2)[4], mode="semantic").hits
    assert hits[0].key == "2"
    assert hits[0].passage is not None
    assert hits[0].passage.distance == hits[0].distance


def test_an_export_has_the_passage_of_each_row(docs: Collection) -> None:
    to = io.BytesIO()
    docs.export(to, text=of_article(4)[2], format="jsonl", limit=3)
    first = json.loads(to.getvalue().splitlines()[0])
    assert first["nr"] == 4
    assert first["passage"] == whole_text(4)[first["passage_start"] : first["passage_end"]]


def test_what_is_told_of_collections_counts_few_rows_and_says_when_nothing_was_estimated(instance: Instance) -> None:
    run(instance, "CREATE TABLE many (nr bigint PRIMARY KEY, embedding vector(3)) WITH (autovacuum_enabled = off)")
    instance.collection_of(table="many", key="nr", vector="embedding")
    with instance.connection() as connection:
        assert prove_recall_of(instance, "many") == (True, False)
        (told,) = [each for each in described(connection) if each["name"] == "many"]
        assert (told["rows"], told["rows_are"], rows_of(told)) == (0, "counted", "0 rows")
        run(instance, "INSERT INTO many SELECT n FROM generate_series(1, 10002) AS n")
        (told,) = [each for each in described(connection) if each["name"] == "many"]
        assert rows_of(told) == "more than 10,000 rows (not analysed yet)"
        run(instance, "ANALYZE many")
        (told,) = [each for each in described(connection) if each["name"] == "many"]
        assert rows_of(told) == "about 10,002 rows"


def prove_recall_of(instance: Instance, name: str) -> tuple[bool | None, bool]:
    """Whether the recall of a collection holds, and whether that was checked."""
    proof = instance.collection(name).verify().proofs[-1]
    assert proof.name == "recall"
    return proof.holds, proof.is_checked
