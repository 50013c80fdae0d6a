"""What the API says when the database refuses, only reads, or is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from everindex.articles.instance import Instance, connect_instance
from everindex.errors import ServerUnreachable
from everindex.pg import embedded
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from places import open_place

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
        refused = client.post("/api/incidents", json={"name": "x", "topic": "y"})
        assert refused.status_code in (403, 422)

        sql.execute(f"REVOKE SELECT ON articles FROM {ROLE}")
        instance.forget()
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


def stop(admin: str) -> None:
    with psycopg.connect(admin, autocommit=True) as connection:
        row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    assert row is not None
    postmaster = int(str(row[0]).split()[0])
    os.kill(postmaster, signal.SIGINT)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            psycopg.connect(admin).close()
        except psycopg.OperationalError as exc:
            if "shutting down" not in str(exc):
                return
        time.sleep(0.05)
    raise AssertionError("the server did not stop")
