"""Search by keyword against counting in Python; whatever is asked, and whatever the articles hold."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from animals import CATEGORIES, WORDS, animals, has_phrase, rank_of_word, words_in
from everindex.articles.instance import Instance
from everindex.articles.model import Answer, Article, Filters
from everindex.articles.search.keyword.document import INDEX_NAME, SUMMARY_CHARACTERS
from everindex.articles.search.keyword.ranking import find
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.errors import QueryInvalid, SettingInvalid

ARTICLES = animals()
OF_URI = {article.uri: article for article in ARTICLES}
ONE_WORD = st.sampled_from(WORDS)
#: What a syntax may stumble over.
PIECES = [*'ab ""--\'|&!()<>:*\\%$.,', " or ", " -", "%(text)s", "\0", "\ud800", "\U0001f600", "ß", "日"]
GARBAGE = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)

several = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def uris(answer: Answer) -> list[str]:
    return [hit.uri for hit in answer.hits]


def found(instance: Instance, text: str, **options: object) -> Answer:
    return instance.search(text, mode="keyword", **options)  # type: ignore[arg-type]


def having(*words: str) -> set[str]:
    return {article.uri for article in ARTICLES if set(words) <= set(words_in(article))}


# --- golden answers ------------------------------------------------------------------------------------------------


@several
@given(word=ONE_WORD, k=st.integers(1, 400), category=st.sampled_from((None, *CATEGORIES)))
def test_one_word_finds_the_articles_that_have_it_in_the_order_of_their_ranks(
    words: Instance, word: str, k: int, category: str | None
) -> None:
    passing = [one for one in ARTICLES if word in words_in(one) and category in (None, one.category)]
    count = {"having": len(passing), "rows": max(words.words.known().estimated_rows, len(passing))}
    rank_of = {one.uri: round(rank_of_word(one, word, **count), 9) for one in passing}
    expected = sorted(passing, key=lambda one: (-rank_of[one.uri], one.uri))[:k]
    answer = found(words, word, k=k, filters=Filters(category=category))
    assert np.allclose([hit.score for hit in answer.hits], [rank_of[one.uri] for one in expected], atol=1e-8)
    assert uris(answer) == [one.uri for one in expected]
    assert [hit.keyword_rank for hit in answer.hits] == list(range(1, len(expected) + 1))
    assert (answer.mode, answer.strategy, answer.notices) == ("keyword", "keyword", [])


@several
@given(one=ONE_WORD, other=ONE_WORD, third=ONE_WORD)
def test_and_or_minus_and_phrases_are_understood(words: Instance, one: str, other: str, third: str) -> None:
    everything = {article.uri for article in ARTICLES}
    for text, expected in {
        f"{one} {other}": having(one, other),
        f"{one} or {other}": having(one) | having(other),
        f"{one} -{other}": having(one) - having(other),
        f"{one} {other} -{third}": having(one, other) - having(third),
        f'"{one} {other}"': {article.uri for article in ARTICLES if has_phrase(article, (one, other))},
        f'{third} -"{one} {other}"': having(third) - {a.uri for a in ARTICLES if has_phrase(a, (one, other))},
        f"{one}.{other}": {article.uri for article in ARTICLES if has_phrase(article, (one, other))},
        f"-{one}": everything - having(one),
    }.items():
        answer = found(words, text, k=1000)
        assert set(uris(answer)) == expected, text
        assert [hit.score for hit in answer.hits] == sorted((hit.score or 0 for hit in answer.hits), reverse=True)


def test_stems_and_case_are_of_the_language(words: Instance) -> None:
    assert uris(found(words, "TIGERS", k=1000)) == uris(found(words, "tiger", k=1000))


def test_dates_and_categories_filter_as_they_do_a_search_by_meaning(words: Instance) -> None:
    answer = found(words, "tiger", k=1000, filters={"since": "2015", "until": "2019-06", "category": "one"})
    expected = {
        article.uri for article in ARTICLES
        if "tiger" in words_in(article) and article.category == "one"
        and article.publication_date is not None and "2015" <= article.publication_date <= "2019-06-31"
    }  # fmt: skip
    assert set(uris(answer)) == expected
    assert expected
    with pytest.raises(QueryInvalid):
        found(words, "tiger", filters={"since": "soon"})


def test_the_same_statement_stays_right_however_often_it_was_prepared(words: Instance) -> None:
    expected = {word: uris(found(words, word, k=7)) for word in WORDS}
    for _ in range(8):  # PostgreSQL may turn to a generic plan at the sixth time
        for word in WORDS:
            assert uris(found(words, word, k=7)) == expected[word]
    assert [OF_URI[uri] for uri in expected["tiger"]]


def test_of_too_many_matches_some_are_ranked_and_the_answer_says_so(words: Instance) -> None:
    known = words.words.known()
    with words.connection() as connection:
        page = Page(request=SearchRequest(text="tiger"), k=10)
        some = find(connection, known, page, most_ranked=5)
        few = find(connection, known, page, most_ranked=len(having("tiger")))
    assert [("more than 5 articles" in notice) for notice in some.notices] == [True]
    assert len(some.hits) == 6
    assert few.notices == []


# --- what is asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["the", "of the and", '"to be or not to be"', "?!", "...", "\U0001f600", "-the", "-"])
def test_a_query_without_a_word_to_look_for_says_so(words: Instance, text: str) -> None:
    answer = found(words, text)
    assert answer.hits == []
    assert "no word of the query" in answer.notices[0]
    assert "'english'" in answer.notices[0]


@several
@given(text=GARBAGE)
def test_no_text_is_a_syntax_error(words: Instance, text: str) -> None:
    if text.replace("\0", " ").strip():
        for mode in ("keyword", "hybrid"):
            with suppress(QueryInvalid if mode == "hybrid" else ()):  # where there is neither a meaning nor a word
                assert len(words.search(text, mode=mode, k=3).hits) <= 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["tiger \0 zebra", "tiger zebra \ud800", "tiger zebra \U0001f600", "tiger zebra " + "the " * 29]
)
def test_what_is_no_word_does_not_get_in_the_way(words: Instance, text: str) -> None:
    assert set(uris(found(words, text, k=1000))) == having("tiger", "zebra")


@pytest.mark.parametrize(
    "text",
    [
        "x" * 9999,
        "- " * 4000,
        '"' * 9000,
        "-tiger " * 1400,
        "tiger or " * 1100,
        '"tiger zebra" ' * 700,
        "(" * 9999,
        "a-" * 4999,
    ],
)
def test_a_very_long_query_is_answered(words: Instance, text: str) -> None:
    answer = found(words, text, k=1)
    assert answer.elapsed_ms < 5000
    assert "only the first 64 words" in "".join(answer.notices) or text.startswith(("x", "- ", '"""', "((("))


def test_too_long_and_empty_queries_and_impossible_numbers_are_refused(words: Instance) -> None:
    for text in ("", " \0 ", "x" * 10_001):
        with pytest.raises(QueryInvalid):
            found(words, text)
    for k in (0, 1001):
        with pytest.raises(QueryInvalid):
            found(words, "tiger", k=k)
    with pytest.raises(QueryInvalid, match="'both'"):
        words.search("tiger", mode="both")  # type: ignore[arg-type]


# --- what the articles hold ----------------------------------------------------------------------------------------


def test_half_of_a_joined_name_finds_it(fresh: Instance) -> None:
    fresh.upsert([
        Article(uri="u1", title="A deadlock in asyncio.Queue", summary="see docs/library or mail dev@example.org"),
        Article(uri="u2", title="The queue of asyncio.Lock", summary="read and write"),
    ])  # fmt: skip
    assert sorted(uris(found(fresh, "queue"))) == ["u1", "u2"]
    assert uris(found(fresh, "asyncio.Queue")) == ["u1"]
    assert uris(found(fresh, "asyncio -asyncio.Queue")) == ["u2"]
    assert (
        uris(found(fresh, "library"))
        == uris(found(fresh, "example"))
        == uris(found(fresh, "dev@example.org"))
        == ["u1"]
    )
    assert uris(found(fresh, "asyncio.Event")) == []


def test_what_looks_like_a_tag_is_text_and_hides_none(fresh: Instance) -> None:
    fresh.upsert([
        Article(uri="u1", title="How <script> blocks: walnut", summary="a <b>falcon</b> and <style> before meadow"),
        Article(uri="u2", title="list<integer> and dict", summary="if a<b then lemon>c"),
    ])  # fmt: skip
    assert uris(found(fresh, "walnut meadow falcon script")) == ["u1"]
    assert uris(found(fresh, "<script>")) == ["u1"]
    assert uris(found(fresh, "list<integer>")) == uris(found(fresh, "integer lemon")) == ["u2"]


def test_articles_of_any_length_are_stored_and_found_by_their_beginning(fresh: Instance) -> None:
    beyond = "walnut " + "filler " * (SUMMARY_CHARACTERS // 7) + " rocket"
    # Each letter a word of its own, three and four bytes long, joined so that parts and whole are words.
    dense = " ".join(f"{chr(0x4E00 + n % 20000)}-{chr(0x20000 + n % 40000)}" for n in range(100_000))
    fresh.upsert([
        Article(uri="long", title="falcon " * 20_000, summary=beyond),
        Article(uri="dense", title=dense, summary="meadow " + dense),
        Article(uri="one-word", title="x" * 300_000, summary="y" * 300_000 + " lemon"),
    ])  # fmt: skip
    assert uris(found(fresh, "falcon walnut")) == ["long"]
    assert uris(found(fresh, "rocket")) == []
    assert uris(found(fresh, "meadow")) == ["dense"]
    assert uris(found(fresh, "falcon or meadow or lemon", k=5)) == ["long", "dense"]


def test_articles_without_text_hold_up_nothing(fresh: Instance) -> None:
    fresh.upsert([Article(uri="none"), Article(uri="title", title="tiger"), Article(uri="summary", summary="tiger")])
    answer = found(fresh, "tiger")
    assert uris(answer) == ["title", "summary"]
    assert [(hit.title_snippet, hit.snippet) for hit in answer.hits] == [
        ("<mark>tiger</mark>", None),
        (None, "<mark>tiger</mark>"),
    ]


# --- the language --------------------------------------------------------------------------------------------------


def test_the_language_is_a_setting(fresh: Instance, open_instance: Callable[..., Instance]) -> None:
    fresh.upsert([Article(uri="u", title="Viele Häuser", summary="der die das")])
    german = open_instance(fresh.conninfo, EVERINDEX_TEXT_SEARCH="german")
    simple = open_instance(fresh.conninfo, EVERINDEX_TEXT_SEARCH="pg_catalog.simple")
    assert uris(found(german, "haus")) == ["u"]
    assert uris(found(german, "der")) == []
    assert "'german'" in found(german, "der").notices[0]
    assert uris(found(simple, "haus")) == []
    assert uris(found(simple, "DER")) == ["u"]


def test_a_configuration_of_ones_own_may_lie_in_any_schema(
    fresh: Instance, open_instance: Callable[..., Instance]
) -> None:
    with fresh.connection() as connection:
        connection.execute('CREATE SCHEMA "My Words"')
        connection.execute('CREATE TEXT SEARCH CONFIGURATION "My Words".plain (COPY = pg_catalog.simple)')
    fresh.upsert([Article(uri="u", title="the tigers")])
    own = open_instance(fresh.conninfo, EVERINDEX_TEXT_SEARCH="My Words.plain")
    assert uris(found(own, "the")) == ["u"]
    assert uris(found(own, "tiger")) == []
    with pytest.raises(SettingInvalid):  # only with its schema: it is not in the search_path
        found(open_instance(fresh.conninfo, EVERINDEX_TEXT_SEARCH="plain"), "the")


@pytest.mark.parametrize("name", ["klingon", "english; DROP TABLE articles", "public.english", "'", "."])
def test_a_language_that_the_server_lacks_is_an_error_that_names_those_it_has(
    words: Instance, open_instance: Callable[..., Instance], name: str
) -> None:
    instance = open_instance(words.conninfo, EVERINDEX_TEXT_SEARCH=name)
    for mode in ("keyword", "hybrid"):
        with pytest.raises(SettingInvalid, match="EVERINDEX_TEXT_SEARCH") as raised:
            instance.search("tiger", mode=mode)  # type: ignore[arg-type]
        assert "english" in raised.value.why
    assert instance.search("tiger", mode="semantic").hits


# --- the plan ------------------------------------------------------------------------------------------------------


def test_the_planner_uses_the_index_with_and_without_filters(read_only_instance: Instance) -> None:
    known = read_only_instance.words.known()
    assert known.is_indexed
    for text in ("memory leak", "crash", "fix or add or remove", "memory -leak"):
        for filters in (Filters(), Filters(category="Library", since="2016")):
            page = Page(request=SearchRequest(text=text, filters=filters), k=10)
            assert f"Bitmap Index Scan using {INDEX_NAME}" in read_only_instance.words.plan(page)


def test_a_missing_index_changes_no_answer_and_is_told(filled: str, open_instance: Callable[..., Instance]) -> None:
    instance = open_instance(filled)
    expected = found(instance, "memory leak")
    with instance.connection() as connection:
        connection.execute(f"DROP INDEX {INDEX_NAME}")
    instance.invalidate()
    answer = found(instance, "memory leak")
    assert (uris(answer), [hit.score for hit in answer.hits]) == (uris(expected), [hit.score for hit in expected.hits])
    assert ["no index is available" in notice for notice in answer.notices] == [True]
    assert expected.notices == []
    assert ["no index is available" in notice for notice in instance.search("memory leak").notices] == [True]
