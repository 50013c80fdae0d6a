"""Ranking from the words of rows in memory: the order of BM25, whatever is written meanwhile, and by whomever."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from animals import CATEGORIES, animals, rank_of_word, words_in
from by_hand import run
from everindex.articles.background.warming import warmed_in_background
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Answer, Article
from everindex.articles.search.keyword.ranking import find
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.settings import Settings
from templates import migrate
from words_in_memory import remembered

ARTICLES = animals(2500)


def uris(answer: Answer) -> list[str]:
    return [hit.uri for hit in answer.hits]


def found(instance: Instance, text: str, **options: Any) -> Answer:
    return instance.search(text, mode="keyword", **options)


def fill(conninfo: str) -> None:
    """The articles without vectors, in an order of their own."""
    values = json.dumps(
        [{"uri": one.uri, "title": one.title, "summary": one.summary, "category": one.category} for one in ARTICLES]
    )
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO articles (uri, title, summary, category) SELECT uri, title, summary, category "
            "FROM jsonb_to_recordset(%s::jsonb) AS a (uri text, title text, summary text, category text) ORDER BY md5(uri)",
            (values,),
        )
        connection.execute("VACUUM ANALYZE articles")


@pytest.fixture(scope="module")
def filled_with_animals(cluster: Any) -> Iterator[str]:
    conninfo = cluster.database(cluster.template("at_head", migrate))
    fill(conninfo)
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture(scope="module")
def read_only(filled_with_animals: str) -> Iterator[Instance]:
    with connect_instance(filled_with_animals, settings=Settings()) as instance:
        yield remembered(instance)


@pytest.fixture
def written_to(fresh: Instance) -> Instance:
    """An instance with these articles and their words in memory, which the test changes."""
    fill(fresh.conninfo)
    fresh.invalidate()
    return remembered(fresh)


def best(words: list[str], articles: list[Article], *, category: str | None = None) -> list[str]:
    """The articles with all the words, by BM25 and then by uri."""
    having = {word: sum(word in words_in(one) for one in articles) for word in words}
    score = {
        one.uri: round(sum(rank_of_word(one, word, having=having[word], rows=len(articles)) for word in words), 9)
        for one in articles
        if set(words) <= set(words_in(one)) and category in (None, one.category)
    }
    return sorted(score, key=lambda uri: (-score[uri], uri))


# --- the order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["tiger"], ["zebra", "lemon"], ["piano", "rocket", "violin"]], ids=" ".join)
@pytest.mark.parametrize("k", [1, 10, 300, 1000])
@pytest.mark.parametrize("category", [None, *CATEGORIES])
def test_the_order_is_that_of_bm25_counted_in_python(
    read_only: Instance, words: list[str], k: int, category: str | None
) -> None:
    options = {} if category is None else {"filters": {"category": category}}
    assert uris(found(read_only, " ".join(words), k=k, **options)) == best(words, ARTICLES, category=category)[:k]


@pytest.mark.parametrize("text", ['"tiger zebra"', "tiger -zebra", "tiger or zebra", "-tiger", "lemon.piano", "tigers"])
def test_the_same_rows_are_found_as_by_reading_every_match(
    read_only: Instance, filled_with_animals: str, text: str
) -> None:
    with connect_instance(filled_with_animals, settings=Settings()) as first:
        expected = found(first, text, k=1000)
        assert first.words.rows.postings is None  # a process that searches once reads no more than it needs
    answer = found(read_only, text, k=1000)
    if len(expected.hits) < 1000:
        assert set(uris(answer)) == set(uris(expected))
    assert answer.hits


def test_of_thousands_of_equal_rows_the_smallest_keys_come_first(written_to: Instance) -> None:
    run(
        written_to.conninfo,
        "INSERT INTO articles (uri, title) SELECT 'same' || to_char(n, 'FM0000'), 'a grapefruit' "
        "FROM generate_series(2000, 1, -1) n",
        "ANALYZE articles",
    )
    written_to.invalidate()
    found(written_to, "grapefruit")
    remembered(written_to)
    assert uris(found(written_to, "grapefruit", k=12)) == [f"same{n:04}" for n in range(1, 13)]


def test_pages_follow_each_other_without_gap_and_without_repetition(read_only: Instance) -> None:
    expected = best(["tiger"], ARTICLES)[:100]
    seen: list[str] = []
    answer = found(read_only, "tiger", k=20)
    while len(seen) < 100:
        seen += uris(answer)
        answer = found(read_only, "tiger", k=20, after=answer.next_cursor)
    assert seen == expected


# --- what is written -------------------------------------------------------------------------------------------------


def test_what_others_wrote_a_moment_ago_is_found_and_what_they_removed_is_not(written_to: Instance) -> None:
    conninfo = written_to.conninfo
    run(conninfo, "INSERT INTO articles (uri, title) VALUES ('new', 'xylophone tiger')")
    assert uris(found(written_to, "xylophone")) == ["new"]
    run(conninfo, "UPDATE articles SET title = 'saxophone' WHERE uri = 'new'")
    assert (uris(found(written_to, "xylophone")), uris(found(written_to, "saxophone"))) == ([], ["new"])
    run(conninfo, "UPDATE articles SET sentiment = 'x'")  # every row is another, with the same words
    assert uris(found(written_to, "tiger", k=30)) == best(["tiger"], ARTICLES)[:30]
    run(conninfo, "DELETE FROM articles WHERE uri = 'new'")
    assert uris(found(written_to, "saxophone")) == []


def test_a_place_that_another_row_took_is_not_taken_for_the_former(written_to: Instance) -> None:
    conninfo = written_to.conninfo
    found(written_to, "tiger")
    run(conninfo, "DELETE FROM articles WHERE uri < 'a1000'", "VACUUM articles")
    run(
        conninfo,
        "INSERT INTO articles (uri, title) SELECT 'b' || n, 'walnut walnut tiger' FROM generate_series(1, 300) n",
    )
    others = [Article(uri=f"b{n}", title="walnut walnut tiger") for n in range(1, 301)]
    left = [one for one in ARTICLES if one.uri >= "a1000"] + others
    assert set(uris(found(written_to, "walnut tiger", k=1000))) == {
        one.uri for one in left if {"walnut", "tiger"} <= set(words_in(one))
    }


@pytest.mark.parametrize(
    "rewrite", ["VACUUM FULL articles", "CLUSTER articles USING articles_pkey", "TRUNCATE articles CASCADE"]
)
def test_a_rewritten_table_is_read_again(written_to: Instance, rewrite: str) -> None:
    run(written_to.conninfo, rewrite)
    expected = [] if rewrite.startswith("TRUNCATE") else best(["tiger"], ARTICLES)
    assert set(uris(found(written_to, "tiger", k=1000))) == set(expected[:1000])
    if expected:
        remembered(written_to)
        assert uris(found(written_to, "tiger", k=50)) == expected[:50]


def test_searches_among_writers_never_show_a_row_without_the_word_nor_miss_one_that_keeps_it(
    written_to: Instance,
) -> None:
    """Writers move the word from one half of the rows to the other and back; a third part keeps it all the time."""
    conninfo = written_to.conninfo
    run(
        conninfo,
        "INSERT INTO articles (uri, title) SELECT 'keeps' || n, 'ukulele ukulele' FROM generate_series(1, 40) n",
        "INSERT INTO articles (uri, title) SELECT 'turns' || n, 'banjo' FROM generate_series(1, 40) n",
    )
    stop = threading.Event()

    def write() -> None:
        word = "ukulele"
        while not stop.is_set():
            run(conninfo, f"UPDATE articles SET title = '{word}' WHERE uri LIKE 'turns%'",
                "UPDATE articles SET sentiment = coalesce(sentiment, '') || 'x' WHERE uri LIKE 'keeps%'")  # fmt: skip
            word = "banjo" if word == "ukulele" else "ukulele"

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(60):
            answer = found(written_to, "ukulele", k=100)
            assert all("ukulele" in (hit.title or "") for hit in answer.hits)
            assert sum(hit.uri.startswith("keeps") for hit in answer.hits) == 40
            assert len(answer.hits) in (40, 80)
    finally:
        stop.set()
        thread.join(30)


# --- rows with some of the words -------------------------------------------------------------------------------------


@pytest.fixture(params=["from memory", "by reading"])
def either(request: pytest.FixtureRequest, read_only: Instance, filled_with_animals: str) -> Iterator[Instance]:
    if request.param == "from memory":
        yield read_only
        return
    with connect_instance(filled_with_animals, settings=Settings()) as instance:
        yield instance


def test_where_no_row_has_all_words_those_with_some_answer_and_the_answer_says_so(either: Instance) -> None:
    answer = found(either, "tiger dulcimer", k=10)
    assert [notice for notice in answer.notices if "no article has all words" in notice]
    assert len(answer.hits) == 10
    assert all("tiger" in words_in_hit(hit) for hit in answer.hits)


@pytest.mark.parametrize(
    "text", ["tiger -tiger", '"dulcimer tiger"', "tiger -canyon -zebra dulcimer", "dulcimer", '"tiger" dulcimer']
)
def test_a_query_that_says_exactly_what_it_wants_is_not_widened(either: Instance, text: str) -> None:
    answer = found(either, text)
    assert (answer.hits, answer.notices) == ([], [])


def words_in_hit(hit: Any) -> list[str]:
    return f"{hit.title or ''} {hit.summary or ''}".split()


def test_the_rarer_word_weighs_more(written_to: Instance) -> None:
    run(
        written_to.conninfo,
        "INSERT INTO articles (uri, title) VALUES ('rare', 'marimba'), ('often', 'tiger tiger tiger tiger')",
    )
    assert uris(found(written_to, "tiger marimba kazoo", k=1)) == ["rare"]
    first = found(written_to, "tiger zebra marimba kazoo", k=3)
    assert uris(first)[0] == "rare"
    with_both = [hit for hit in first.hits[1:] if {"tiger", "zebra"} <= set(words_in_hit(hit))]
    assert len(with_both) == 2


@pytest.mark.parametrize(
    "call", [lambda one: one.close(), lambda one: one.words.rows.invalidate()], ids=["close", "invalidate"]
)
def test_reading_in_the_background_ends_when_it_is_not_wanted(
    filled_with_animals: str, call: Callable[[Instance], None]
) -> None:
    with connect_instance(filled_with_animals, settings=Settings()) as instance:
        instance.words.rows.read_in_background(instance.words.known())
        call(instance)
        if not instance.words.rows.memory_bytes:
            assert instance.words.rows.postings is None
    assert not [thread for thread in threading.enumerate() if thread.name == "everindex-words" and thread.is_alive()]


def test_a_serving_process_reads_the_words_before_the_first_search(filled_with_animals: str) -> None:
    settings = Settings(EVERINDEX_WARM_SECONDS=5)
    with connect_instance(filled_with_animals, settings=settings) as instance:
        with warmed_in_background(instance, settings):
            deadline = time.monotonic() + 60
            while instance.words.rows.postings is None:
                assert time.monotonic() < deadline, "the words were not read in time"
                time.sleep(0.02)
        assert instance.words.rows.memory_bytes > 0


def test_a_serving_process_that_is_not_to_warm_reads_no_words(filled_with_animals: str) -> None:
    settings = Settings(EVERINDEX_WARM_SECONDS=0)
    with connect_instance(filled_with_animals, settings=settings) as instance:
        before = set(threading.enumerate())
        with warmed_in_background(instance, settings):
            assert "everindex-words" not in {thread.name for thread in set(threading.enumerate()) - before}


@pytest.mark.parametrize("is_remembered", [True, False])
def test_where_few_rows_have_all_words_those_with_some_follow_them_if_wanted(
    read_only: Instance, is_remembered: bool
) -> None:
    known = read_only.words.known()
    text = "tiger zebra lemon piano rocket violin"
    request = SearchRequest(text=text, mode="keyword")

    def asked(completes: bool) -> Any:
        return read_only.reading.ask(
            lambda connection: find(
                connection, known, Page(request=request, k=40),
                rows=read_only.words.rows if is_remembered else None, completes=completes,
            )
        )  # fmt: skip

    strict, completed = asked(False), asked(True)
    assert 0 < len(strict.hits) < 40 == len(completed.hits)
    assert [hit.uri for hit in completed.hits[: len(strict.hits)]] == [hit.uri for hit in strict.hits]
    rest = [hit.score for hit in completed.hits[len(strict.hits) :]]
    assert rest == sorted(rest, reverse=True)
    assert len({hit.uri for hit in completed.hits}) == 40
    assert completed.full_score > 0


@pytest.mark.parametrize("is_remembered", [True, False])
@pytest.mark.parametrize(
    ("text", "follows"),
    [('"tiger zebra" dulcimer', True), ("dulcimer kazoo or tiger marimba", True), ("tiger dulcimer -zebra", False)],
)
def test_rows_with_some_follow_those_that_a_query_with_quotes_or_an_alternative_asks_for_if_wanted(
    read_only: Instance, text: str, follows: bool, is_remembered: bool
) -> None:
    known = read_only.words.known()
    request = SearchRequest(text=text, mode="keyword")

    def asked(completes: bool) -> Any:
        return read_only.reading.ask(
            lambda connection: find(
                connection, known, Page(request=request, k=5),
                rows=read_only.words.rows if is_remembered else None, completes=completes,
            )
        )  # fmt: skip

    assert asked(False).hits == []
    completed = asked(True)
    assert bool(completed.hits) is completed.is_widened is follows
    assert all("tiger" in words_in_hit(hit) for hit in completed.hits)
