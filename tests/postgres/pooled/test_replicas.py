"""Reads go to a real standby, and none fails when it cancels them, stops, falls behind or is none at all."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest
from psycopg.conninfo import make_conninfo

from everindex.articles.connect import connect_instance
from everindex.articles.connections import reading as reading_module
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.articles.search.vector import engine as engine_module
from everindex.articles.search.vector import strategy
from everindex.cli.status import status
from everindex.errors import ServerUnreachable
from everindex.pg import pooler
from everindex.pg import replica as replica_module
from everindex.pg.address import describe
from everindex.pg.connections import Connection
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from poolers import pgbouncer, through
from standbys import Pair, until

Open = Callable[..., Instance]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "RETRY_SECONDS", 0.2)


def is_standby(connection: Connection) -> bool:
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    assert row is not None
    return bool(row[0])


def reads_standby(instance: Instance) -> bool:
    return instance.reading.read(is_standby)


def article(number: int) -> Article:
    return Article(uri=f"own:{number}", title=f"A lighthouse of number {number}", summary="It blinks.")


def test_searches_and_articles_are_read_from_the_standby_and_writes_go_to_the_primary(
    replicated: Pair, open_replicated: Open
) -> None:
    instance = open_replicated()
    assert reads_standby(instance)
    with instance.connection() as connection:
        assert not is_standby(connection)
    answer = instance.search("elections", k=5)
    assert len(answer.hits) == 5
    assert instance.article(answer.hits[0].uri).uri == answer.hits[0].uri
    assert len(instance.similar(answer.hits[0].uri, k=3).hits) == 3
    last = "SELECT string_agg(query, ' ') FROM pg_stat_activity WHERE application_name = 'everindex web'"
    assert "articles" in str(replicated.standby.value(last))
    assert "articles" not in str(replicated.primary.value(last))
    assert instance.verify(samples=2, max_seconds=1).proofs[1].name == "index"


class CancelledRead:
    """A read that lasts until the standby cancels it, so many times."""

    def __init__(self, replicated: Pair, *, times: int) -> None:
        self.replicated = replicated
        self.times = times
        self.asked: list[bool] = []

    def __call__(self, connection: Connection) -> bool:
        from_standby = is_standby(connection)
        self.asked.append(from_standby)
        if len(self.asked) <= self.times:
            assert from_standby
            with self._versions_taken_away():
                connection.execute("SELECT pg_sleep(60) FROM articles LIMIT 1")
        return from_standby

    @contextmanager
    def _versions_taken_away(self) -> Iterator[None]:
        """The primary removes row versions that a snapshot from before could still see, again and again."""
        done = threading.Event()

        def vacuum() -> None:
            while not done.wait(0.05):
                self.replicated.primary.run(
                    "UPDATE articles SET news_source = news_source WHERE uri IN (SELECT uri FROM articles LIMIT 20)",
                    "VACUUM articles",
                )

        thread = threading.Thread(target=vacuum)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(("times", "asked"), [(1, [True, True]), (2, [True, True, False])])
def test_a_read_that_the_standby_cancels_is_asked_once_more_and_then_of_the_primary(
    replicated: Pair, open_replicated: Open, times: int, asked: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    instance = open_replicated()
    read = CancelledRead(replicated, times=times)
    with caplog.at_level(logging.INFO):
        assert instance.reading.ask(read) is asked[-1]
    assert read.asked == asked
    assert "conflict with recovery" in caplog.text
    assert reads_standby(instance)  # a conflict is no reason to leave it


def test_searches_go_on_while_the_standby_stops_and_starts(
    replicated: Pair, open_replicated: Open, caplog: pytest.LogCaptureFixture
) -> None:
    instance = open_replicated()
    vector = instance.embed_query("elections")
    expected = [hit.uri for hit in instance.search_vector(vector, k=10, exact=True).hits]
    done = threading.Event()
    failures: list[BaseException] = []

    def search() -> None:
        while not done.is_set():
            try:
                answer = instance.search_vector(vector, k=10, exact=True)
                assert [hit.uri for hit in answer.hits] == expected
            except BaseException as exc:
                failures.append(exc)
                return

    threads = [threading.Thread(target=search) for _ in range(4)]
    with caplog.at_level(logging.INFO):
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                replicated.standby.stop()
                until(lambda: not instance.reading.source().is_replica)
                assert not reads_standby(instance)
                replicated.standby.start()
                until(lambda: instance.reading.source().is_replica)
                assert reads_standby(instance)
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert failures == []
    told = [record.message for record in caplog.records if record.name.endswith("replica")]
    assert sum("replica-away" in line for line in told) >= 2
    assert sum("replica-there" in line for line in told) >= 2


def test_what_a_process_writes_it_reads_at_once_and_from_the_standby_when_that_has_it(
    replicated: Pair, open_replicated: Open
) -> None:
    instance = open_replicated()
    replicated.standby.run("SELECT pg_wal_replay_pause()")
    instance.upsert([article(1)])
    assert instance.article("own:1").title == article(1).title
    assert instance.search("lighthouse of number 1").hits[0].uri == "own:1"
    assert not reads_standby(instance)
    replicated.standby.run("SELECT pg_wal_replay_resume()")
    until(lambda: reads_standby(instance))
    assert instance.article("own:1").title == article(1).title


def test_a_standby_that_stays_behind_is_read_again_after_a_while(
    replicated: Pair, open_replicated: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading_module, "OWN_WRITES_SECONDS", 0.5)
    instance = open_replicated()
    replicated.standby.run("SELECT pg_wal_replay_pause()")
    instance.upsert([article(2)])
    assert not reads_standby(instance)
    until(lambda: reads_standby(instance))
    assert "replica-behind" in caplog.text


def test_a_write_whose_end_nobody_saw_is_looked_for_on_the_primary(
    replicated: Pair, open_replicated: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "OWN_WRITES_SECONDS", 0.5)
    instance = open_replicated()

    def end_it(_: int) -> None:
        replicated.primary.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'everindex import'"
        )

    instance.import_rows(iter([article(3)]), on_rows=end_it)
    assert not reads_standby(instance)
    until(lambda: reads_standby(instance))


def test_reads_go_on_without_the_primary(replicated: Pair, open_replicated: Open) -> None:
    instance = open_replicated()
    expected = [hit.uri for hit in instance.search("elections").hits]
    replicated.primary.stop()
    instance.invalidate()
    assert [hit.uri for hit in instance.search("elections").hits] == expected
    assert reads_standby(instance)


def test_a_replica_that_is_not_there_is_told_without_its_password_and_found_later(
    replicated: Pair, open_replicated: Open, caplog: pytest.LogCaptureFixture
) -> None:
    replicated.standby.stop()
    secret = make_conninfo(replicated.standby.conninfo, password="s3cret-Pa55word")
    started = time.monotonic()
    instance = open_replicated(DATABASE_URL_READ=secret)
    assert time.monotonic() - started < 5
    assert len(instance.search("elections").hits) == 10
    source = instance.reading.source()
    assert not source.is_replica
    assert "cannot reach" in str(source.reason)
    assert "replica-away" in caplog.text
    assert "s3cret" not in caplog.text + str(source)
    replicated.standby.start()
    until(lambda: reads_standby(instance))


def test_readiness_says_who_answers_reads_and_holds_without_the_primary(
    replicated: Pair, open_replicated: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = open_replicated()
    with serve_in_thread(instance) as url, httpx2.Client(base_url=url, timeout=30) as client:
        ready = client.get("/readyz").json()
        assert (ready["ready"], ready["degraded"]) == (True, False)
        assert ready["reads"] == {"from": "replica", "reason": None}

        replicated.standby.stop()
        assert len(client.get("/api/search?q=elections").json()["hits"]) == 10
        until(lambda: not instance.reading.source().is_replica)
        ready = client.get("/readyz").json()
        assert (ready["ready"], ready["degraded"], ready["reads"]["from"]) == (True, True, "primary")
        assert "reads go to the primary" in ready["reasons"][-1]

        replicated.standby.start()
        until(lambda: instance.reading.source().is_replica)
        replicated.primary.stop()
        response = client.get("/readyz")
        assert response.status_code == 200
        ready = response.json()
        assert (ready["ready"], ready["degraded"], ready["reads"]["from"]) == (True, True, "replica")
        assert "read-only, served by the replica" in ready["reasons"][0]
        assert len(client.get("/api/search?q=rain").json()["hits"]) == 10

        replicated.standby.stop()
        assert client.get("/readyz").status_code == 503


def test_status_says_who_answers_reads_and_how_far_it_is(
    replicated: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", replicated.primary.conninfo)
    monkeypatch.setenv("DATABASE_URL_READ", replicated.standby.conninfo)
    monkeypatch.setenv("EVERINDEX_WAIT", "0")
    status()
    assert f"reads: from {describe(replicated.standby.conninfo)}, up to date" in capsys.readouterr().out

    replicated.standby.run("SELECT pg_wal_replay_pause()")
    replicated.primary.run(
        "UPDATE articles SET news_source = news_source WHERE uri IN (SELECT uri FROM articles LIMIT 5)"
    )
    status(as_json=True)
    reads = json.loads(capsys.readouterr().out)["reads"]
    assert (reads["from"], reads["reason"]) == ("replica", None)
    assert reads["behind_bytes"] > 0

    replicated.standby.stop()
    status()
    assert "reads: from the primary: cannot reach" in capsys.readouterr().out


def test_another_database_is_no_replica(replicated: Pair, open_replicated: Open) -> None:
    replicated.primary.run("DROP DATABASE IF EXISTS other", "CREATE DATABASE other")
    other = make_conninfo(replicated.primary.conninfo, dbname="other")
    instance = open_replicated(DATABASE_URL_READ=other)
    assert "another database" in str(instance.reading.source().reason)
    assert len(instance.search("elections").hits) == 10


def test_several_hosts_are_one_address(replicated: Pair, open_replicated: Open) -> None:
    hosts = f"{replicated.primary.socket_dir},{replicated.standby.socket_dir}"
    several = make_conninfo(
        replicated.primary.conninfo, host=hosts, port="5432,5432", target_session_attrs="prefer-standby"
    )
    instance = open_replicated(DATABASE_URL_READ=several)
    assert reads_standby(instance)
    replicated.standby.stop()
    assert len(instance.search("elections").hits) == 10
    until(lambda: instance.reading.source().is_replica)  # the next of the hosts
    assert not reads_standby(instance)


def test_another_database_than_the_configured_one_has_none_of_its_replicas(replicated: Pair, empty: str) -> None:
    settings = Settings(DATABASE_URL=replicated.primary.conninfo, DATABASE_URL_READ=replicated.standby.conninfo)
    with connect_instance(empty, settings=settings) as instance:
        assert instance.reading.source().as_dict() == {"from": "primary", "reason": None}
        assert not reads_standby(instance)
    with connect_instance(replicated.primary.conninfo, settings=settings) as instance:
        assert reads_standby(instance)


def test_searches_outlive_a_restart_of_the_server_behind_the_pooler(
    replicated: Pair, open_instance: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooler, "LOOK_SECONDS", 0.5)  # how long PgBouncer's silence is taken for a slow server
    with pgbouncer(replicated.primary.conninfo, mode="transaction", default_pool_size=2) as address:
        instance = open_instance(through(address, replicated.primary.conninfo))
        expected = [hit.uri for hit in instance.search("elections").hits]
        replicated.primary.stop()
        with pytest.raises(ServerUnreachable):
            open_instance(through(address, replicated.primary.conninfo), EVERINDEX_WAIT=0)
        replicated.primary.start()
        until(lambda: answers(instance))
        assert [hit.uri for hit in instance.search("elections").hits] == expected


def answers(instance: Instance) -> bool:
    try:
        return bool(instance.search("elections").hits)
    except ServerUnreachable:  # PgBouncer waits a second before it tries a server again
        return False


def test_an_index_that_was_dropped_on_the_primary_is_told_by_the_first_answer_of_the_standby(
    replicated: Pair, open_replicated: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SERVING_SECONDS", 3600.0)
    monkeypatch.setattr(strategy, "PUSHED_FROM_ROWS", 100)  # these few rows are to be searched as many are
    monkeypatch.setattr(engine_module, "PUSHED_FROM_ROWS", 100)
    strategy.choose.cache_clear()
    instance = open_replicated()
    assert instance.search("elections", mode="semantic").strategy == "index"
    definition = replicated.primary.value("SELECT pg_get_indexdef('articles_embedding_hnsw_idx'::regclass)")
    replicated.primary.run("DROP INDEX articles_embedding_hnsw_idx")
    try:
        replicated.wait_until_replayed()
        answer = instance.search("elections", mode="semantic")
        assert reads_standby(instance)
        assert (answer.strategy, len(answer.notices)) == ("exact", 1)
        assert "no valid vector index is available" in answer.notices[0]
    finally:
        replicated.primary.run(str(definition))
        replicated.wait_until_replayed()
        strategy.choose.cache_clear()
