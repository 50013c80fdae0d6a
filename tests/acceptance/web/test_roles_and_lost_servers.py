"""What the API says when the database refuses, only reads, or is gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.errors import ServerUnreachable
from everindex.pg import roundtrip
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from places import open_place
from stopped_servers import frozen, stop
from templates import migrate

ROLE = "may_only_select"


@contextmanager
def served(conninfo: str) -> Iterator[tuple[Instance, httpx2.Client]]:
    with (
        connect_instance(conninfo, settings=Settings()) as instance,
        serve_in_thread(instance) as url,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        yield instance, client


@pytest.fixture
def reader(filled: str) -> Iterator[tuple[str, psycopg.Connection]]:
    """The address of a role that may read `articles` and nothing else, and a connection of its owner."""
    with psycopg.connect(filled, autocommit=True) as sql:
        sql.execute(f"DROP ROLE IF EXISTS {ROLE}")
        sql.execute(f"CREATE ROLE {ROLE} LOGIN")
        sql.execute(f"GRANT SELECT ON articles TO {ROLE}")
        yield make_conninfo(filled, user=ROLE), sql
        sql.execute(f"DROP OWNED BY {ROLE}")
        sql.execute(f"DROP ROLE {ROLE}")


def test_a_role_that_may_only_read_articles_searches_and_sees_every_page(
    reader: tuple[str, psycopg.Connection],
) -> None:
    address, sql = reader
    with served(address) as (instance, client):
        for mode in ("semantic", "keyword", "hybrid"):
            assert len(client.get("/api/search", params={"q": "memory leak", "mode": mode}).json()["hits"]) == 10
        assert client.get("/readyz").json()["ready"]
        for page in ("/", "/?q=crash", "/index", "/index/report", "/api/index", "/api/categories"):
            assert client.get(page).status_code in (200, 404), page
        assert instance.verify(samples=2, max_seconds=1).proofs[1].holds
        refused = client.post("/api/incidents", json={"incident_name": "x", "topic": "y", "status": "active"})
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/permission-denied")
        assert "incident_status" in refused.json()["detail"]

        sql.execute(f"REVOKE SELECT ON articles FROM {ROLE}")
        instance.invalidate()
        answer = client.get("/api/search?q=crash&mode=semantic")
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/permission-denied")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "permission denied for table articles" in ready.json()["reasons"][0]

        sql.execute(f"GRANT SELECT (uri, title, summary) ON articles TO {ROLE}")
        assert client.get("/readyz").status_code == 503, "columns that a search needs are missing"
        sql.execute(f"GRANT SELECT ON articles TO {ROLE}")
        assert client.get("/readyz").status_code == 200


def test_a_stopped_server_is_unreachable_within_seconds_and_not_busy() -> None:
    with (
        open_place() as place,
        embedded.running(place / "server") as admin,
        connect_instance(admin, settings=Settings()) as instance,
    ):
        with instance.connection() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        stop(admin)
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(ServerUnreachable, match="cannot reach"):
                instance.reading.read(lambda connection: connection.execute("SELECT 1").fetchone())
            assert time.monotonic() - started < 5


def test_what_a_server_that_only_reads_cannot_store_is_503_and_the_rest_is_answered(filled: str) -> None:
    with served(make_conninfo(filled, options="-c default_transaction_read_only=on")) as (_, client):
        refused = client.post("/api/incidents", json={"incident_name": "x", "topic": "y", "status": "active"})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/server-read-only")
        assert "read-only transaction" in refused.json()["detail"]
        assert client.get("/api/search?q=crash").status_code == 200
        assert client.get("/readyz").status_code == 200


def test_a_frozen_server_is_unreachable_within_seconds_and_nobody_is_called_busy() -> None:
    with open_place() as place, embedded.running(place / "server") as admin:
        migrate(admin)
        with served(admin) as (instance, client):
            assert client.get("/api/search?q=crash&mode=keyword").status_code == 200
            assert client.get("/readyz").status_code == 200
            with frozen(admin):
                started = time.monotonic()
                with ThreadPoolExecutor(40) as many:
                    answers = list(many.map(lambda n: client.get(f"/api/search?q=crash{n}&mode=keyword"), range(40)))
                assert {answer.status_code for answer in answers} == {503}
                assert {answer.json()["type"] for answer in answers} == {"/problems/server-unreachable"}
                assert "does not answer" in answers[0].json()["detail"]
                with pytest.raises(ServerUnreachable, match="cannot reach"):
                    instance.search("crash", mode="keyword")
                assert client.get("/readyz").status_code == 503
                assert client.get("/livez").status_code == 200
                assert time.monotonic() - started < 25  # each within seconds, all one after the other on a busy machine
            deadline = time.monotonic() + 30
            while client.get("/api/search?q=crash&mode=keyword").status_code != 200 and time.monotonic() < deadline:
                pass
            assert client.get("/api/search?q=crash&mode=keyword").status_code == 200


def test_a_long_statement_of_a_server_that_answers_is_waited_for(filled: str) -> None:
    with connect_instance(filled, settings=Settings()) as instance:
        rows = instance.reading.ask(
            lambda connection: roundtrip.run(connection, (), "SELECT pg_sleep(2.5) IS NULL", ())
        )
        assert rows == [(False,)]
        assert instance.reading.read(lambda connection: connection.execute("SELECT pg_sleep(2.5)").rowcount) == 1
