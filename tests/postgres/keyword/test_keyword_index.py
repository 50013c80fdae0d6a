"""The index of keyword search: there after every migration, healed, of the language that is set, and in nobody's way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from by_hand import rows, run
from everindex.articles import after_migration as at_head
from everindex.articles.background.keeper import article_keeper
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.search.keyword.document import INDEX_NAME, NEXT_NAME, PREVIOUS_NAME
from everindex.articles.search.keyword.index import ensure as keyword_index
from everindex.articles.search.keyword.index import observed
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.errors import LockNotObtained, SettingInvalid
from everindex.index.reporter import Reporter
from everindex.index.spec import BuildPolicy
from everindex.migrate import runner
from everindex.pg.locks import advisory_lock
from everindex.settings import Settings, current_settings, read_settings

#: An index of keyword search in another language.
GERMAN = (
    f"CREATE INDEX {INDEX_NAME} ON articles USING gin ((setweight(to_tsvector('german'::regconfig, title::text), 'A') "
    f"|| "
    "setweight(to_tsvector('german'::regconfig, summary::text), 'B')))"
)
INVALIDATE = f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX_NAME}'::regclass"


def index(conninfo: str) -> tuple[Any, ...] | None:
    """(oid, is valid, definition) of what has the name."""
    found = rows(
        conninfo,
        "SELECT c.oid, i.indisvalid, pg_get_indexdef(c.oid) FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = "
        "c.oid "
        "WHERE c.oid = to_regclass(%s)",
        INDEX_NAME,
    )
    return found[0] if found else None


def is_for(conninfo: str, language: str) -> bool:
    found = index(conninfo)
    return found is not None and found[1] and f"'{language}'::regconfig" in found[2]


def upgraded(conninfo: str) -> list[str]:
    said: list[str] = []
    runner.upgrade(conninfo, wait_seconds=0, reporter=Reporter(say=said.append, notice=said.append))
    return [line for line in said if INDEX_NAME in line]


def until(question: Callable[[], Any], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def ensured(conninfo: str, **options: Any) -> keyword_index.Done:
    return ensure_words(conninfo, **({"text_search": "english"} | options))


@pytest.fixture
def set_to(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    def set_to(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        current_settings.cache_clear()

    yield set_to
    current_settings.cache_clear()


# --- migrations ----------------------------------------------------------------------------------------------------


def test_a_migration_builds_it_and_the_next_finds_nothing_to_do(empty: str) -> None:
    assert len(upgraded(empty)) == 1
    first = index(empty)
    assert is_for(empty, "english")
    assert upgraded(empty) == []
    assert index(empty) == first


@pytest.mark.parametrize("broken", [INVALIDATE, f"DROP INDEX {INDEX_NAME}"], ids=["invalid", "absent"])
def test_the_next_migration_brings_it_back_online(filled: str, broken: str) -> None:
    run(filled, broken)
    said = upgraded(filled)
    assert is_for(filled, "english")
    assert "online" in " ".join(said)
    # No statistics of it: ANALYZE would parse thousands of articles for nothing.
    assert rows(filled, f"SELECT attstattarget FROM pg_attribute WHERE attrelid = '{INDEX_NAME}'::regclass") == [(0,)]


def test_another_language_makes_it_anew(filled: str, set_to: Callable[..., None]) -> None:
    set_to(EVERINDEX_TEXT_SEARCH="german")
    assert any("is for another language" in line for line in upgraded(filled))
    assert is_for(filled, "german")
    assert upgraded(filled) == []


def test_a_language_that_the_server_lacks_stops_the_migration_at_its_end(
    filled: str, set_to: Callable[..., None]
) -> None:
    before = index(filled)
    set_to(EVERINDEX_TEXT_SEARCH="klingon")
    with pytest.raises(SettingInvalid, match="klingon"):
        runner.upgrade(filled, wait_seconds=0)
    assert index(filled) == before
    assert runner.state(filled).is_head


@pytest.mark.parametrize(
    "other", ["ON articles (title)", "ON incident_status (topic)", "ON articles USING gin (tags_of(tags))"]
)
def test_what_others_made_under_its_name_is_left_and_told(
    filled: str, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(
        filled,
        "CREATE FUNCTION tags_of(text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT string_to_array($1, ',') $$",
        f"DROP INDEX {INDEX_NAME}",
        f"CREATE INDEX {INDEX_NAME} {other}",
    )
    before = index(filled)
    with caplog.at_level(logging.WARNING, "everindex"):
        assert upgraded(filled) == []
    assert index(filled) == before
    assert "another relation has the name" in caplog.text


def test_an_index_made_by_hand_with_the_same_expression_is_kept(filled: str) -> None:
    definition = str((index(filled) or ())[2])
    run(filled, f"DROP INDEX {INDEX_NAME}", definition)
    by_hand = index(filled)
    assert upgraded(filled) == []
    assert index(filled) == by_hand


def test_a_downgrade_takes_it_along_with_its_table(migrated: str) -> None:
    runner.downgrade(migrated, "-1")
    assert is_for(migrated, "english")
    runner.downgrade(migrated, "base")
    assert index(migrated) is None


def test_columns_of_any_text_type_are_searched(empty: str) -> None:
    run(
        empty,
        "CREATE TABLE articles (uri varchar(300) PRIMARY KEY, title varchar(50), summary char(40))",
        "INSERT INTO articles (uri, title, summary) SELECT 'u' || n, 'walnut ' || n, CASE n WHEN 7 THEN 'tiger' END "
        "FROM generate_series(1, 2000) n",
    )
    runner.upgrade(empty, wait_seconds=0)
    assert is_for(empty, "english")
    with connect_instance(empty, settings=Settings()) as instance:
        assert [hit.uri for hit in instance.search("tigers walnut", mode="keyword").hits] == ["u7"]
        assert INDEX_NAME in instance.words.plan(Page(request=SearchRequest(text="tigers walnut"), k=10))


def generations(conninfo: str) -> list[str]:
    """The names of the index and of what is left beside it."""
    return [
        name
        for (name,) in rows(conninfo, "SELECT relname FROM pg_class WHERE relname LIKE %s ORDER BY 1", f"{INDEX_NAME}%")
    ]


def test_one_for_another_language_serves_until_its_successor_takes_its_name(filled: str) -> None:
    before = index(filled)
    assert before is not None
    with psycopg.connect(filled) as other, connect_instance(filled, settings=Settings()) as english:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT count(*) FROM pg_class")
        done: list[keyword_index.Done] = []
        thread = threading.Thread(target=lambda: done.append(ensured(filled, text_search="german")))
        thread.start()
        until(lambda: rows(filled, "SELECT FROM pg_stat_progress_create_index WHERE phase LIKE '%%old snapshots'"))
        # While the new one is built, the old one is there, and searches in its language go through it.
        assert index(filled) == before
        assert f"using {INDEX_NAME}" in english.words.plan(Page(request=SearchRequest(text="memory leak"), k=10))
        other.rollback()
        thread.join(60)
    assert [each.outcome for each in done] == ["replaced"]
    assert is_for(filled, "german")
    assert generations(filled) == [INDEX_NAME]


def test_the_name_belongs_to_a_valid_index_at_every_moment_of_a_replacement(filled: str) -> None:
    """Looked at from another session as fast as it goes, while one language follows the other."""
    seen: set[object] = set()
    stop = threading.Event()

    def look() -> None:
        with psycopg.connect(filled, autocommit=True) as connection:
            while not stop.is_set():
                row = connection.execute(
                    "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (INDEX_NAME,)
                ).fetchone()
                seen.add(row)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for language in ("german", "simple", "english"):
            assert ensured(filled, text_search=language).outcome == "replaced"
    finally:
        stop.set()
        thread.join(20)
    assert seen == {(True,)}


def test_searches_know_of_an_index_under_the_name_of_a_generation(instance: Instance) -> None:
    run(instance.conninfo, f"ALTER INDEX {INDEX_NAME} RENAME TO {NEXT_NAME}")
    instance.invalidate()
    assert instance.words.known().is_indexed
    assert NEXT_NAME in instance.words.plan(Page(request=SearchRequest(text="memory leak"), k=10))


@pytest.mark.parametrize(
    ("left_by_a_kill", "outcome"),
    [
        ([f"ALTER INDEX {INDEX_NAME} RENAME TO {NEXT_NAME}"], "built"),
        ([f"ALTER INDEX {INDEX_NAME} RENAME TO {NEXT_NAME}", GERMAN], "replaced"),
        ([GERMAN.replace(INDEX_NAME, NEXT_NAME)], "already-there"),
        ([GERMAN.replace(INDEX_NAME, PREVIOUS_NAME)], "already-there"),
        ([INVALIDATE, GERMAN.replace(INDEX_NAME, NEXT_NAME)], "replaced"),
        ([f"ALTER INDEX {INDEX_NAME} ALTER COLUMN 1 SET STATISTICS -1"], "already-there"),
    ],
    ids=["named-next", "before-the-swap", "next-of-another", "after-the-swap", "invalid-and-next", "unfinished"],
)
def test_whatever_a_killed_replacement_left_the_next_call_goes_on_from_it(
    filled: str, left_by_a_kill: list[str], outcome: str
) -> None:
    run(filled, *left_by_a_kill)
    assert ensured(filled).outcome == outcome
    assert is_for(filled, "english")
    assert generations(filled) == [INDEX_NAME]
    assert rows(filled, f"SELECT attstattarget FROM pg_attribute WHERE attrelid = '{INDEX_NAME}'::regclass") == [(0,)]
    assert ensured(filled) == keyword_index.Done(outcome="already-there")


def test_a_replaced_index_that_somebody_holds_is_dropped_another_time(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observed, "POLICY", BuildPolicy(wait_for_transactions_seconds=0.3))
    run(filled, GERMAN.replace(INDEX_NAME, PREVIOUS_NAME))
    with psycopg.connect(filled) as reader:
        reader.execute("LOCK TABLE articles IN ROW EXCLUSIVE MODE")
        pid = reader.info.backend_pid
        done = ensured(filled)
    assert done.outcome == "already-there"
    assert done.reason is not None
    assert f"pid {pid} " in done.reason
    assert is_for(filled, "english")
    assert ensured(filled).did == (f"drop index {PREVIOUS_NAME}, which is left over from a replacement",)


def test_something_else_under_the_name_of_a_generation_is_left_and_told(filled: str) -> None:
    run(filled, f"CREATE TABLE {NEXT_NAME} ()")
    assert ensured(filled) == keyword_index.Done(outcome="already-there")
    done = ensured(filled, text_search="german")
    assert (done.outcome, done.did) == ("left", ())
    assert NEXT_NAME in str(done.reason)
    assert is_for(filled, "english")


# --- not in the way ------------------------------------------------------------------------------------------------


def test_a_role_that_may_not_build_it_is_not_told_so(filled: str, caplog: pytest.LogCaptureFixture) -> None:
    run(
        filled,
        f"DROP INDEX {INDEX_NAME}",
        "CREATE ROLE reader_of_words LOGIN",
        "GRANT SELECT ON articles TO reader_of_words",
    )
    try:
        reader = make_conninfo(filled, user="reader_of_words")
        with caplog.at_level(logging.INFO, "everindex"):
            done = ensured(reader)
        assert (done.outcome, done.reason, done.did) == ("left", None, ())
        assert caplog.text == ""
        assert index(filled) is None
    finally:
        run(filled, "DROP OWNED BY reader_of_words", "DROP ROLE reader_of_words")


def test_a_database_that_takes_no_writes_is_left(filled: str) -> None:
    run(filled, f"DROP INDEX {INDEX_NAME}")
    read_only = make_conninfo(filled, options="-c default_transaction_read_only=on")
    assert ensured(read_only).outcome == "left"


def test_a_partitioned_table_is_left_and_told(empty: str) -> None:
    run(
        empty,
        "CREATE TABLE articles (uri text, title text, summary text, part int) PARTITION BY LIST (part)",
        "CREATE TABLE articles_1 PARTITION OF articles FOR VALUES IN (1)",
    )
    done = ensured(empty)
    assert done.outcome == "left"
    assert "partitioned" in str(done.reason)


def test_an_empty_database_is_left(empty: str) -> None:
    assert ensured(empty) == keyword_index.Done(outcome="left")


def test_a_transaction_in_the_way_is_waited_for_and_then_left_with_nothing_behind(
    filled: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(observed, "POLICY", BuildPolicy(wait_for_transactions_seconds=0.3))
    run(filled, f"DROP INDEX {INDEX_NAME}")
    with psycopg.connect(filled) as writer:
        writer.execute("UPDATE articles SET sentiment = 'x' WHERE uri = (SELECT min(uri) FROM articles)")
        with pytest.raises(LockNotObtained, match=f"pid {writer.info.backend_pid} "):
            ensured(filled)
        # No migration fails for its sake.
        with caplog.at_level(logging.WARNING, "everindex"):
            runner.upgrade(filled, wait_seconds=0)
        assert "keyword search reads every row; the next start tries again" in caplog.text
    assert index(filled) is None or not index(filled)[1]  # type: ignore[index]
    assert ensured(filled).did
    assert is_for(filled, "english")


def test_another_builder_is_waited_for_and_then_let_be(filled: str, caplog: pytest.LogCaptureFixture) -> None:
    run(filled, f"DROP INDEX {INDEX_NAME}")
    with advisory_lock(filled, "build", wait_seconds=0):
        with pytest.raises(LockNotObtained, match="build"):
            ensured(filled, wait_seconds=0.3)
        assert index(filled) is None


def test_it_ends_when_it_is_told_to(filled: str) -> None:
    run(filled, f"DROP INDEX {INDEX_NAME}")
    stop = threading.Event()
    done: list[keyword_index.Done] = []
    with psycopg.connect(filled) as writer:
        writer.execute("UPDATE articles SET sentiment = 'x' WHERE uri = (SELECT min(uri) FROM articles)")
        thread = threading.Thread(target=lambda: done.append(ensured(filled, stop=stop)))
        thread.start()
        waits = "SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%%' AND wait_event_type = 'Lock'"
        until(lambda: rows(filled, waits))
        stop.set()
        thread.join(20)
    assert done == [keyword_index.Done(outcome="left")]
    assert ensured(filled).did


def test_writers_and_readers_go_on_while_it_is_built(filled: str) -> None:
    run(filled, f"DROP INDEX {INDEX_NAME}")
    waited: list[float] = []
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(filled, autocommit=True) as connection:
            while not stop.is_set():
                started = time.monotonic()
                connection.execute("UPDATE articles SET sentiment = 'x' WHERE uri = (SELECT min(uri) FROM articles)")
                waited.append(time.monotonic() - started)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert ensured(filled).outcome == "built"
    finally:
        stop.set()
        thread.join(20)
    assert len(waited) > 3
    assert max(waited) < 5


# --- left to the keeper --------------------------------------------------------------------------------------------


def test_in_the_background_it_is_left_to_the_keeper(filled: str, set_to: Callable[..., None]) -> None:
    run(filled, f"DROP INDEX {INDEX_NAME}")
    set_to(EVERINDEX_BUILD="background")
    assert ["left to the keeper" in line for line in upgraded(filled)] == [True]
    assert index(filled) is None
    round_ = article_keeper(filled, read_settings()).once()
    assert [(each.index, each.outcome) for each in round_.indexes][-1] == (INDEX_NAME, "built")
    assert round_.has_changed
    assert is_for(filled, "english")


def test_auto_leaves_only_large_tables_to_the_keeper(
    filled: str, set_to: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to(EVERINDEX_BUILD="auto")
    run(filled, f"DROP INDEX {INDEX_NAME}")
    monkeypatch.setattr(at_head, "ROWS_TO_WAIT_FOR", 1000)
    assert ["left to the keeper" in line for line in upgraded(filled)] == [True]
    monkeypatch.setattr(at_head, "ROWS_TO_WAIT_FOR", 10_000)
    upgraded(filled)
    assert is_for(filled, "english")


def test_the_keeper_heals_it_and_tells_what_it_did(filled: str) -> None:
    keeper = article_keeper(filled, Settings())
    assert [each.index for each in keeper.once().indexes] == ["articles_embedding_hnsw_idx"]
    run(filled, INVALIDATE)
    done = keeper.once().indexes[-1]
    assert (done.index, done.outcome, done.finding) == (INDEX_NAME, "replaced", None)
    assert "INVALID" in done.did[0]
    events = rows(
        filled, "SELECT event FROM everindex_meta.journal WHERE index_name = %s ORDER BY id DESC LIMIT 2", INDEX_NAME
    )
    assert events == [("built",), ("dropped",)]


def test_a_keeper_sets_the_language_at_its_start_and_then_leaves_another_one_alone(filled: str) -> None:
    keeper = article_keeper(filled, Settings(EVERINDEX_TEXT_SEARCH="german"))
    assert keeper.once().indexes[-1].outcome == "replaced"
    assert is_for(filled, "german")
    ensured(filled)  # a migration of the next release, which speaks English again
    left = keeper.once().indexes[-1]
    assert left.outcome == "left"
    assert left.finding is not None
    assert "is not for 'german'" in left.finding.text
    assert not left.finding.is_failure
    assert is_for(filled, "english")


def test_an_instance_notices_that_the_index_has_come(instance: Instance) -> None:
    run(instance.conninfo, f"DROP INDEX {INDEX_NAME}")
    instance.invalidate()
    assert not instance.words.known().is_indexed
    ensured(instance.conninfo)
    instance.invalidate()
    assert instance.words.known().is_indexed
    assert instance.search("memory leak", mode="keyword").notices == []
