"""Everything that reads or imports works behind PgBouncer in transaction mode, and leaves nothing in its sessions."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
from typer.testing import CliRunner

from by_hand import run
from everindex.articles import incidents
from everindex.articles.background.keeper import kept_in_background
from everindex.articles.connect import connect_instance
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.importers import read_source, sample_source
from everindex.articles.ingest import bulk_load as bulk
from everindex.articles.ingest import writer
from everindex.articles.instance import Instance
from everindex.articles.model import MODES, Article
from everindex.articles.search.vector import engine as engine_module
from everindex.cli.app import app
from everindex.errors import DirectAddressNeeded, SettingInvalid
from everindex.index.catalog.observe import in_search_path, observe
from everindex.index.catalog.roles import declared_index
from everindex.index.deploy import warm
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from everindex.migrate import runner
from everindex.pg import pooler, roundtrip
from everindex.pg.connections import connect, lift_time_limits
from everindex.pg.locks import LOCK_CLASS, advisory_lock, try_lock
from everindex.pg.pooler import Route
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from poolers import of_every_session
from standbys import until

TOUCHED = ("hnsw.ef_search", "hnsw.iterative_scan", "enable_seqscan", "statement_timeout", "plan_cache_mode")
Lead = Callable[[str], str]


def uris(answer: Any) -> list[str]:
    return [hit.uri for hit in answer.hits]


def ask(instance: Instance, vector: np.ndarray, number: int) -> Any:
    """One of five kinds of search, with another ef_search each time."""
    match number % 5:
        case 0:
            return instance.search_vector(vector, k=10, ef_search=10 + number * 7 % 900)
        case 1:
            return instance.search_vector(vector, k=10, exact=True)
        case 2:
            return instance.search_vector(vector, k=100)
        case 3:
            return instance.search_vector(vector, k=5, filters={"since": "2022"})
        case _:
            return instance.search_vector(vector, k=10, filters={"category": "no such category"})


def search_from_many_threads(direct: Instance, pooled: Instance, *, searches: int) -> None:
    vectors = [direct.embed_query(text) for text in ("memory leak in the parser", "elections", "a new phone", "rain")]
    expected = {number: uris(ask(direct, vectors[number % 4], number)) for number in range(60)}

    def search(number: int) -> None:
        answer = ask(pooled, vectors[number % 4], number % 60)
        assert uris(answer) == expected[number % 60]
        assert [hit.distance for hit in answer.hits] == sorted(hit.distance for hit in answer.hits)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(search, range(searches)))


@pytest.mark.parametrize("searches", [240, pytest.param(2000, marks=pytest.mark.long)])
def test_searches_of_many_threads_are_right_and_leave_no_setting(
    filled: str, in_transaction_mode: Lead, open_instance: Callable[..., Instance], searches: int
) -> None:
    address = in_transaction_mode(filled)
    search_from_many_threads(open_instance(filled), open_instance(address, EVERINDEX_POOL_SIZE=8), searches=searches)
    with psycopg.connect(filled) as fresh:
        fresh.execute("SELECT '[1]'::vector")
        defaults = {name: fresh.execute(f"SHOW {name}").fetchone()[0] for name in TOUCHED}
    left = of_every_session(address, TOUCHED)
    assert len(left) == 3
    assert list(left.values()) == [defaults] * 3
    with psycopg.connect(address, prepare_threshold=None) as connection:
        assert connection.execute("SELECT name FROM pg_prepared_statements").fetchall() == []


def test_articles_incidents_imports_and_pages_work(
    filled: str, in_transaction_mode: Lead, open_instance: Callable[..., Instance]
) -> None:
    direct, pooled = open_instance(filled), open_instance(in_transaction_mode(filled))
    first = direct.search("elections", k=3).hits[0].uri
    assert pooled.article(first) == direct.article(first)
    assert uris(pooled.similar(first)) == uris(direct.similar(first))

    report = pooled.upsert([Article(uri="u:1", title="A kite over the harbour", summary="It is blue.")])
    assert report.stored.inserted == 1
    assert pooled.search("a blue kite over the harbour").hits[0].uri == "u:1"
    again = pooled.upsert([Article(uri="u:1", title="A kite over the harbour", summary="It is red.")])
    assert again.stored.updated == 1
    rows = list(itertools.islice(read_source(str(sample_source())), 700))
    assert pooled.import_rows(iter(rows)).stored.unchanged == 700
    assert pooled.embedding_queue() == 0

    with pooled.connection() as connection:
        incidents.create_incident(connection, incident_name="smoke", topic="kitchen")
    with direct.connection() as connection:
        assert [one.incident_name for one in incidents.list_incidents(connection)] == ["smoke"]

    # The three proofs, in one transaction: they lift time limits, which must not stay in a session.
    assert pooled.verify(samples=3, max_seconds=2).holds
    assert {row["statement_timeout"] for row in of_every_session(pooled.conninfo, TOUCHED).values()} == {"0"}


def test_every_way_of_searching_gives_the_same_through_the_pooler(
    filled: str, in_transaction_mode: Lead, open_instance: Callable[..., Instance]
) -> None:
    direct, pooled = open_instance(filled), open_instance(in_transaction_mode(filled))
    for mode in MODES:
        for filters in ({}, {"since": "2015"}):
            expected = direct.search("memory leak -parser", mode=mode, filters=filters)
            found = pooled.search("memory leak -parser", mode=mode, filters=filters)
            assert uris(found) == uris(expected)
            assert [hit.snippet for hit in found.hits] == [hit.snippet for hit in expected.hits]
    many = ["rain", "memory leak", "elections"]
    assert list(map(uris, pooled.search_many(many))) == list(map(uris, direct.search_many(many)))


NEAREST = (
    "SELECT uri FROM articles ORDER BY embedding <=> (SELECT embedding FROM articles ORDER BY uri LIMIT 1) LIMIT 10"
)


@pytest.mark.parametrize(
    ("command", "ends"),
    [
        (["status"], {0}),
        (["verify", "--samples", "3", "--max-seconds", "2"], {0}),
        (["plan"], {0}),
        (["check", NEAREST], {0}),
        (["warm"], {0}),
        (["doctor"], {0, 3}),  # one of its findings is the pooler
    ],
)
def test_commands_that_change_nothing_work(
    filled: str, in_transaction_mode: Lead, command: list[str], ends: set[int]
) -> None:
    address = in_transaction_mode(filled)
    done = CliRunner().invoke(app, command, env={"DATABASE_URL": address, "EVERINDEX_WAIT": "0"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    assert done.exit_code in ends, done.output
    left = of_every_session(address, TOUCHED)
    assert {row["statement_timeout"] for row in left.values()} == {"0"}
    assert {row["enable_seqscan"] for row in left.values()} == {"on"}


def test_commands_that_change_something_take_the_direct_address(filled: str, in_transaction_mode: Lead) -> None:
    pooled = {"DATABASE_URL": in_transaction_mode(filled), "EVERINDEX_WAIT": "0"}
    for command in (["deploy"], ["measure"], ["migrate"], ["keep", "--once"]):
        refused = CliRunner().invoke(app, command, env=pooled)
        assert isinstance(refused.exception, DirectAddressNeeded), (command, refused.output)
    done = CliRunner().invoke(app, ["deploy"], env=pooled | {"DATABASE_URL_DIRECT": filled})
    assert (done.exit_code, done.exception) == (0, None), done.output


def test_the_keeper_beside_the_pages_keeps_through_the_direct_address_or_says_that_it_cannot(
    filled: str, in_transaction_mode: Lead, caplog: pytest.LogCaptureFixture
) -> None:
    address = in_transaction_mode(filled)
    with caplog.at_level("INFO", logger="everindex"):
        with_direct = Settings(DATABASE_URL=address, DATABASE_URL_DIRECT=filled)
        with connect_instance(settings=with_direct) as instance, kept_in_background(instance, with_direct):
            until(lambda: "keeper leads" in caplog.text)
        alone = Settings(DATABASE_URL=address)
        with connect_instance(settings=alone) as instance, kept_in_background(instance, alone):
            until(lambda: "direct-address-needed" in caplog.text)
            assert len(instance.search("elections").hits) == 10


def test_warming_by_searches_leaves_no_time_limit_in_any_session(filled: str, in_transaction_mode: Lead) -> None:
    run(filled, "DROP SCHEMA everindex_meta CASCADE")  # without it pg_prewarm is not created
    address = in_transaction_mode(filled)
    with connect(address) as connection:
        spec = in_search_path(connection, EMBEDDING_INDEX)
    warmed = warm.warm(address, spec, max_seconds=5)
    assert warmed.method == "searches"
    assert warmed.searches > 0
    assert {row["statement_timeout"] for row in of_every_session(address, TOUCHED).values()} == {"0"}


def test_every_page_is_answered(filled: str, in_transaction_mode: Lead, open_instance: Callable[..., Instance]) -> None:
    with (
        serve_in_thread(open_instance(in_transaction_mode(filled))) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        for path in ("/", "/?q=elections", "/index", "/api/index", "/api/search?q=rain", "/incidents"):
            assert client.get(path).status_code == 200, path
        ready = client.get("/readyz").json()
    assert (ready["ready"], ready["degraded"]) == (True, False)


def test_the_time_limit_of_the_pool_holds_and_stays_with_its_transaction(
    migrated: str, in_transaction_mode: Lead, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(in_transaction_mode(migrated), EVERINDEX_STATEMENT_TIMEOUT_MS=150)
    with pytest.raises(psycopg.errors.QueryCanceled), instance.connection() as connection:
        connection.execute("SELECT pg_sleep(30)")
    with pytest.raises(psycopg.errors.QueryCanceled):
        instance.reading.ask(lambda connection: roundtrip.run(connection, (), "SELECT pg_sleep(30)", []))
    with pytest.raises(psycopg.errors.QueryCanceled):
        instance.reading.read(lambda connection: connection.execute("SELECT pg_sleep(30)"))
    assert {row["statement_timeout"] for row in of_every_session(instance.conninfo, TOUCHED).values()} == {"0"}


def test_what_needs_a_session_is_refused_before_anything_is_done(filled: str, in_transaction_mode: Lead) -> None:
    address = in_transaction_mode(filled)
    with psycopg.connect(filled) as direct:
        spec = in_search_path(direct, EMBEDDING_INDEX)

    def fails(work: Callable[[], object]) -> None:
        with pytest.raises(DirectAddressNeeded) as told:
            work()
        assert "DATABASE_URL_DIRECT" in str(told.value)
        assert len(str(told.value).splitlines()) == 3

    fails(lambda: deploy(address, spec))
    fails(lambda: drop(address, spec))
    fails(lambda: runner.upgrade(address, wait_seconds=0))
    fails(lambda: advisory_lock(address, "build", wait_seconds=0).__enter__())
    with connect(address) as connection:
        fails(lambda: try_lock(connection, "keeper"))
        fails(lambda: lift_time_limits(connection))
    with psycopg.connect(filled) as direct:
        held = direct.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s", (LOCK_CLASS,)
        )
        assert held.fetchone() == (0,)
        assert declared_index(spec, observe(direct, spec)) is not None
    settings = of_every_session(address, TOUCHED)
    assert {row["statement_timeout"] for row in settings.values()} == {"0"}


def test_a_large_first_load_keeps_the_index_in_place_where_it_cannot_be_set_aside(
    migrated: str, in_transaction_mode: Lead, open_instance: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (writer, bulk):
        monkeypatch.setattr(module, "LARGE_LOAD_ROWS", 100)
    pooled = open_instance(in_transaction_mode(migrated))
    rows = list(itertools.islice(read_source(str(sample_source())), 100))
    assert pooled.import_rows(iter(rows)).stored.inserted == 100
    with pooled.connection() as connection:
        spec = in_search_path(connection, EMBEDDING_INDEX)
        index = declared_index(spec, observe(connection, spec))
    assert index is not None
    assert index.is_valid


def test_the_pooler_is_found_out_under_traffic_too(migrated: str, in_transaction_mode: Lead) -> None:
    """Other clients take sessions between the questions: no two questions need meet the same one."""
    address = in_transaction_mode(migrated)
    done = threading.Event()

    def traffic() -> None:
        with psycopg.connect(address, autocommit=True, prepare_threshold=None) as connection:
            while not done.is_set():
                connection.execute("SELECT 1")

    threads = [threading.Thread(target=traffic) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            with connect(address) as connection:
                assert not pooler.keeps_session(connection)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_pooler_that_was_not_noticed_is_noticed_by_its_errors(migrated: str, in_transaction_mode: Lead) -> None:
    """Some poolers pass the true process number on, until they change the session."""
    address = in_transaction_mode(migrated)
    with connect(address) as first, connect(address) as second:
        for connection in (first, second):
            pooler.remember(connection, Route(is_pooled=False, server_pid=connection.info.backend_pid))
        for round_ in range(6):
            with ExitStack() as stack:
                # Of the pooler's three sessions, transactions of others keep none, one or two: the rest is for us.
                for _ in range(round_ % 3):
                    stack.enter_context(psycopg.connect(address)).execute("SELECT 1", prepare=False)
                for connection in (first, second):
                    for text in ("SELECT 'a', $1::int", "SELECT 'b', $1::int"):
                        rows = roundtrip.run(connection, (("work_mem", "7MB"),), text, [str(round_)])
                        assert rows == [(text[8], round_)]
        assert pooler.route_of(first).is_pooled
        assert pooler.route_of(second).is_pooled


def test_a_parameter_that_the_pooler_refuses_is_told(migrated: str, in_transaction_mode: Lead) -> None:
    with pytest.raises(SettingInvalid, match="ALTER ROLE"):
        connect(psycopg.conninfo.make_conninfo(in_transaction_mode(migrated), options="-c work_mem=5MB"))


def test_an_index_that_was_dropped_is_told_by_the_first_answer(
    filled: str, in_transaction_mode: Lead, open_instance: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SERVING_SECONDS", 3600.0)
    instance = open_instance(in_transaction_mode(filled))
    for _ in range(4):
        assert instance.search("memory leak", mode="semantic").strategy == "index"
    with connect(filled) as direct:
        direct.execute("DROP INDEX articles_embedding_hnsw_idx")
    answer = instance.search("memory leak", mode="semantic")
    assert (answer.strategy, len(answer.hits)) == ("exact", 10)
    assert "no valid vector index is available" in answer.notices[0]
