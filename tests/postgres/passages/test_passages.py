"""What stands only in the body of an article is found, as the article with its best passage, and follows every change."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from everindex.articles.background.keeper import article_keeper
from everindex.articles.connect import connect_instance
from everindex.articles.declared import PASSAGES
from everindex.articles.instance import Instance
from everindex.articles.model import Article, Filters
from everindex.settings import Settings
from templates import migrate
from whole_texts import ITEMS, digests, items, of_article, whole_text

MODES = ("hybrid", "semantic", "keyword")


@pytest.fixture(scope="module")
def read_only(cluster: Any) -> Iterator[Instance]:
    """Twenty articles with whole texts, and five without; nobody writes to it."""
    conninfo = cluster.database(cluster.template("at_head", migrate))
    with connect_instance(conninfo, settings=Settings()) as instance:
        without = [Article(uri=f"short/{n}", title=f"Short {n}", summary=items(900)[850 + n]) for n in range(5)]
        instance.upsert([*digests(20), *without])
        yield instance
    cluster.drop(conninfo)


@pytest.fixture
def written(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    """Four articles with whole texts, to be changed."""
    instance = open_instance(migrated)
    instance.upsert(digests(4))
    return instance


def rows(instance: Instance, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        found = connection.execute(statement, values)
        return found.fetchall() if found.description else []


def passages_of(instance: Instance, uri: str) -> dict[str, tuple[Any, ...]]:
    """Words of a passage → place, and when its vector was made."""
    return {
        text: others
        for text, *others in rows(
            instance,
            "SELECT p.text, p.number, p.starts_at, p.ends_at, r.embedded_at FROM everindex_meta.article_passage p "
            "JOIN everindex_meta.collection_record r ON r.collection = %s AND r.key = p.id::text WHERE p.uri = %s",
            PASSAGES.name,
            uri,
        )
    }


@pytest.mark.parametrize("mode", MODES)
def test_what_stands_only_in_the_body_is_found_with_the_passage_and_where_it_stands(
    read_only: Instance, mode: Any
) -> None:
    for number in (0, 7, 19):
        for item in (of_article(number)[2], of_article(number)[-1]):
            hits = read_only.search(item[:300], mode=mode).hits
            assert hits[0].uri == f"digest/{number}"
            passage = hits[0].passage
            assert passage is not None
            assert passage.text == whole_text(number)[passage.start : passage.end]
            assert item[:40] in passage.text or passage.text[:40] in item
            assert 1 <= passage.number <= passage.count
            assert (passage.snippet is None) == (mode == "semantic")
            assert mode == "semantic" or "<mark>" in (passage.snippet or "")


@pytest.mark.parametrize("mode", MODES)
def test_one_article_never_fills_the_page(migrated: str, open_instance: Callable[..., Instance], mode: Any) -> None:
    instance = open_instance(migrated)
    about = [f"The zebra in enclosure {number} eats hay in the morning and sleeps at noon." for number in range(400)]
    long = Article(uri="long", title="Zebras", summary="A long report.", raw_text=" ".join(about))
    others = [
        Article(
            uri=f"other/{n}", title=f"Report {n}", summary="A report.", raw_text=f"The zebra number {n} eats straw."
        )
        for n in range(11)
    ]
    instance.upsert([long, *others])
    hits = instance.search("zebra eats", mode=mode, k=10).hits
    assert len({hit.uri for hit in hits}) == len(hits) == 10
    assert sum(hit.passage is not None for hit in hits) >= 9


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("filters", [Filters(category="odd"), {"category": {"$in": ["odd", "none"]}}])
def test_filters_hold_for_the_article(read_only: Instance, mode: Any, filters: Any) -> None:
    item = of_article(6)[3]
    hits = read_only.search(item, mode=mode, filters=filters).hits
    assert {hit.category for hit in hits} <= {"odd"}
    assert mode == "keyword" or len(hits) == 10
    odd = read_only.search(of_article(7)[3], mode=mode, filters=filters).hits
    assert odd[0].uri == "digest/7"
    assert odd[0].passage is not None


@pytest.mark.parametrize("mode", MODES)
def test_pages_repeat_no_article_and_leave_none_out(read_only: Instance, mode: Any) -> None:
    seen: list[str] = []
    after = None
    while True:
        answer = read_only.search("fix a crash in the", mode=mode, k=7, after=after)
        seen += [hit.uri for hit in answer.hits]
        after = answer.next_cursor
        if after is None:
            break
    assert len(seen) == len(set(seen))
    assert mode == "keyword" or len(seen) == 25


def test_a_minimum_similarity_holds_for_the_better_of_summary_and_passage(read_only: Instance) -> None:
    item = of_article(3)[5]
    found = read_only.search(item, mode="semantic", min_similarity=0.5).hits
    assert found[0].uri == "digest/3"
    assert all(hit.similarity is not None and hit.similarity >= 0.5 for hit in found)


def test_a_word_that_is_left_out_leaves_out_the_article_that_has_it_in_the_passage(
    migrated: str, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(migrated)
    instance.upsert(
        [
            Article(uri="a", title="One", summary="First.", raw_text="A walrus rests on the ice beside a penguin."),
            Article(uri="b", title="Two", summary="Second.", raw_text="A walrus rests on the ice beside a seal."),
        ]
    )
    assert {hit.uri for hit in instance.search("walrus ice").hits} == {"a", "b"}
    assert {hit.uri for hit in instance.search("walrus ice -penguin").hits} == {"b"}


def test_searches_by_a_vector_and_of_similar_articles_compare_passages_too(read_only: Instance) -> None:
    item = of_article(5)[1]
    by_text = read_only.search(item, mode="semantic").hits
    by_vector = read_only.search_vector(read_only.embed_query(item)).hits
    assert by_vector == by_text
    assert by_vector[0].uri == "digest/5"
    similar = read_only.similar("digest/5", k=8, without_near_duplicates=False).hits
    assert "digest/5" not in {hit.uri for hit in similar}
    assert len({hit.uri for hit in similar}) == 8


def test_a_search_by_a_vector_of_another_model_than_the_passages_compares_articles_alone_and_says_so(
    written: Instance,
) -> None:
    vector = written.embed_query(of_article(1)[2])
    rows(written, "UPDATE everindex_meta.article_cut SET model = 'another' RETURNING 1")
    written.invalidate()
    answer = written.search_vector(vector)
    assert all(hit.passage is None for hit in answer.hits)
    assert any("whole texts were not compared" in notice for notice in answer.notices)


def test_articles_without_a_body_make_no_table_and_no_record(
    migrated: str, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(migrated)
    instance.upsert([Article(uri="a", title="A title", summary="A summary")])
    report = instance.embed_missing()
    assert report.passages.is_empty
    assert instance.collections() == []
    assert rows(instance, "SELECT to_regclass('everindex_meta.article_passage')") == [(None,)]


def test_a_body_that_the_summary_repeats_is_not_cut(migrated: str, open_instance: Callable[..., Instance]) -> None:
    instance = open_instance(migrated)
    instance.upsert(
        [Article(uri="a", title="A title", summary="All that there is to say.", raw_text="All that there is")]
    )
    assert rows(instance, "SELECT uri, passages FROM everindex_meta.article_cut") == [("a", 0)]
    assert rows(instance, "SELECT to_regclass('everindex_meta.article_passage')") == [(None,)]
    assert instance.passages.due(instance.embedder) == []


def test_a_changed_body_embeds_only_the_passages_that_changed(written: Instance) -> None:
    before = passages_of(written, "digest/1")
    changed = whole_text(1).replace(
        of_article(1)[10], "A completely new sentence about the migration of birds in autumn."
    )
    report = written.upsert([replace(digests(2)[1], raw_text=changed)])
    after = passages_of(written, "digest/1")
    kept = set(before) & set(after)
    assert report.passages.texts == 1
    assert report.passages.embedded == len(after) - len(kept) <= 4
    assert report.passages.removed == len(before) - len(kept)
    assert all(before[text][-1] == after[text][-1] for text in kept)  # the vector is the one that was made then
    assert all(changed[start:end] == text for text, (_, start, end, _) in after.items())
    assert sorted(number for number, *_ in after.values()) == list(range(1, len(after) + 1))
    assert written.search("migration of birds in autumn").hits[0].uri == "digest/1"


def test_an_unchanged_body_is_not_cut_again(written: Instance) -> None:
    before = passages_of(written, "digest/1")
    report = written.upsert(digests(4))
    assert report.passages.is_empty
    assert passages_of(written, "digest/1") == before


@pytest.mark.parametrize("mode", MODES)
def test_a_passage_of_a_text_that_another_program_has_changed_is_not_shown(written: Instance, mode: Any) -> None:
    item = of_article(2)[4]
    assert written.search(item, mode=mode).hits[0].uri == "digest/2"
    rows(written, "UPDATE raw_articles SET raw_markdown = 'Nothing but owls.' WHERE uri = 'digest/2' RETURNING 1")
    assert [hit for hit in written.search(item, mode=mode).hits if hit.passage and hit.uri == "digest/2"] == []
    assert written.passages.due(written.embedder) == ["digest/2"]
    report = written.embed_missing()
    assert report.passages.texts == 1
    assert report.passages.removed > 3
    found = written.search("owls", mode=mode).hits[0]
    assert found.uri == "digest/2"
    assert found.passage is not None
    assert found.passage.text == "Nothing but owls."


def test_a_deleted_article_takes_its_passages_with_it(written: Instance) -> None:
    assert written.delete(["digest/0", "digest/3"]) == 2
    for table in ("article_passage", "article_cut"):
        assert rows(written, f"SELECT DISTINCT uri FROM everindex_meta.{table} ORDER BY 1") == [
            ("digest/1",),
            ("digest/2",),
        ]
    left = rows(written, "SELECT count(*) FROM everindex_meta.article_passage")
    assert rows(written, "SELECT count(*) FROM everindex_meta.collection_record") == left


def test_passages_of_articles_that_others_deleted_are_counted_and_removed(written: Instance) -> None:
    item = of_article(2)[4]
    rows(written, "DELETE FROM articles WHERE uri = 'digest/2' RETURNING 1")
    assert "digest/2" not in {hit.uri for mode in MODES for hit in written.search(item, mode=mode).hits}  # type: ignore[arg-type]
    counts = written.passages.counts()
    assert counts is not None
    assert (counts.texts, counts.cut, counts.orphans, counts.due) == (3, 4, 1, 0)
    assert written.embed_missing().passages.removed > 0
    assert rows(written, "SELECT count(*) FROM everindex_meta.article_passage WHERE uri = 'digest/2'") == [(0,)]
    assert written.passages.counts() != counts


def test_bodies_stored_before_are_cut_by_embed(migrated: str, open_instance: Callable[..., Instance]) -> None:
    off = open_instance(migrated, EVERINDEX_PASSAGES="off")
    off.upsert(digests(4))
    assert off.embed_missing().passages.is_empty
    assert off.collections() == []
    on = open_instance(migrated)
    assert len(on.passages.due(on.embedder)) == 4
    report = on.embed_missing()
    assert report.passages.texts == 4
    assert report.passages.embedded == report.passages.passages
    assert on.search(of_article(3)[ITEMS - 1]).hits[0].uri == "digest/3"
    # Another process that was open meanwhile finds them, too.
    off.invalidate()
    assert off.search(of_article(3)[ITEMS - 1]).hits[0].uri == "digest/3"


def test_another_length_cuts_anew(written: Instance, open_instance: Callable[..., Instance]) -> None:
    shorter = open_instance(written.conninfo, EVERINDEX_PASSAGE_TOKENS=32)
    before = len(passages_of(written, "digest/1"))
    assert len(shorter.passages.due(shorter.embedder)) == 4
    shorter.embed_missing()
    assert len(passages_of(written, "digest/1")) > 2 * before
    cut = shorter.passages.of("digest/1")
    assert cut is not None
    assert (cut.passage_tokens, cut.characters) == (32, len(whole_text(1)))
    assert cut.tokens == len(shorter.embedder.token_spans(whole_text(1)))  # type: ignore[attr-defined]


def test_passages_of_another_model_are_searched_by_words_alone_and_the_answer_says_so(written: Instance) -> None:
    rows(written, "UPDATE everindex_meta.article_cut SET model = 'another' WHERE uri = 'digest/1' RETURNING 1")
    written.invalidate()
    answer = written.search(of_article(2)[4])
    assert answer.hits[0].uri == "digest/2"
    assert any("whole texts were searched by words alone" in notice for notice in answer.notices)
    written.embed_missing()
    assert not written.search(of_article(2)[4]).notices


def test_a_role_that_may_not_read_the_passages_is_told_that_texts_were_not_searched(
    written: Instance, open_instance: Callable[..., Instance]
) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    rows(written, f"CREATE ROLE {role} LOGIN PASSWORD 'reader'")
    try:
        rows(written, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        rows(written, f"GRANT USAGE ON SCHEMA everindex_meta TO {role}")
        rows(written, f"GRANT SELECT ON ALL TABLES IN SCHEMA everindex_meta TO {role}")
        rows(written, f"REVOKE SELECT ON everindex_meta.article_passage FROM {role}")
        reader = open_instance(make_conninfo(written.conninfo, user=role, password="reader"))
        answer = reader.search(of_article(2)[4])
        assert any("whole texts were not searched" in notice for notice in answer.notices)
        assert all(hit.passage is None for hit in answer.hits)
        rows(written, f"GRANT SELECT ON everindex_meta.article_passage TO {role}")
        reader.invalidate()
        answer = reader.search(of_article(2)[4])
        assert answer.hits[0].passage is not None
        assert not answer.notices
    finally:
        rows(written, f"DROP OWNED BY {role}")
        rows(written, f"DROP ROLE {role}")


def test_the_passages_are_a_collection_with_a_valid_proven_index(written: Instance) -> None:
    assert [spec.name for spec in written.collections()] == [PASSAGES.name]
    passages = written.collection(PASSAGES.name)
    assert passages.verify().holds
    indexes = rows(
        written,
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = 'everindex_meta.article_passage'::regclass ORDER BY 1",
    )
    assert indexes == [
        ("article_passage_embedding_hnsw_idx", True),
        ("article_passage_pkey", True),
        ("article_passage_uri_idx", True),
        ("article_passage_words_idx", True),
    ]


def test_the_keeper_restores_the_indexes_of_the_passages(written: Instance) -> None:
    rows(written, "DROP INDEX everindex_meta.article_passage_embedding_hnsw_idx")
    rows(written, "DROP INDEX everindex_meta.article_passage_words_idx")
    keeper = article_keeper(written.direct_conninfo, written.settings)
    keeper.once()
    assert rows(
        written,
        "SELECT count(*) FROM pg_index WHERE indrelid = 'everindex_meta.article_passage'::regclass AND indisvalid",
    ) == [(4,)]
    assert written.search(of_article(2)[4]).hits[0].uri == "digest/2"


def test_an_article_that_has_expired_is_not_found_by_its_passages(written: Instance) -> None:
    item = of_article(2)[4]
    written.set_expiry(["digest/2"], expires_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    for mode in MODES:
        assert "digest/2" not in {hit.uri for hit in written.search(item, mode=mode).hits}  # type: ignore[arg-type]
        odd = written.search(of_article(3)[4], mode=mode, filters={"category": "odd"}).hits  # type: ignore[arg-type]
        assert odd[0].uri == "digest/3"


def test_facets_count_the_articles_whose_passages_have_the_words(read_only: Instance) -> None:
    answer = read_only.search("asyncio", mode="keyword", k=100, facets=("category",))
    assert answer.facets is not None
    assert answer.facets.counted == len(answer.hits) > 1
    counted = {each.value: each.rows for each in answer.facets.values["category"]}
    assert counted == Counter(hit.category for hit in answer.hits if hit.category)


def test_a_re_ranker_and_variety_work_on_articles_with_passages(read_only: Instance) -> None:
    varied = read_only.search("a crash of the interpreter", k=5, diversity=0.5)
    assert len({hit.uri for hit in varied.hits}) == 5
    assert any(hit.passage is not None for hit in varied.hits)
