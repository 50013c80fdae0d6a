"""The probes tell the truth, in time, whatever the database does."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psycopg
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.settings import Settings
from everindex.web import serving
from everindex.web.app import create_app
from everindex.web.reports.readiness import ReadyProbe


@contextmanager
def served(conninfo: str) -> Iterator[httpx2.Client]:
    """A client of a server of the database at `conninfo`."""
    with (
        connect_instance(conninfo, settings=Settings()) as instance,
        serving.serve_in_thread(instance) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def test_a_filled_database_at_head_is_ready(client: httpx2.Client) -> None:
    response = client.get("/readyz")

    assert response.status_code == 200
    body = response.json()
    assert body["ready"]
    assert not body["degraded"]
    assert body["revision"]["current"] == body["revision"]["head"] == "e0aa2eb4fa0a"
    assert body["index"] == {"state": "valid", "percent": None}


def test_without_an_index_the_process_is_ready_but_degraded(filled: str) -> None:
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute("DROP INDEX articles_embedding_hnsw_idx")
    with served(filled) as client:
        response = client.get("/readyz")
        assert response.status_code == 200
        assert response.json()["degraded"]
        assert response.json()["index"]["state"] == "missing"
        answer = client.get("/api/search?q=crash").json()
        assert answer["strategy"] == "exact"
        assert answer["notices"]
        assert "No vector index exists" in client.get("/index").text


def test_an_invalid_index_is_told(filled: str) -> None:
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'articles_embedding_hnsw_idx'::regclass"
        )
    with served(filled) as client:
        assert client.get("/readyz").json()["index"]["state"] == "invalid"
        assert "INVALID" in client.get("/index").text


def test_a_database_that_was_never_migrated_is_not_ready_and_every_page_says_what_to_do(empty: str) -> None:
    with served(empty) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert not response.json()["ready"]
        assert response.json()["database"] == "reachable"
        assert client.get("/livez").status_code == 200
        page = client.get("/", headers={"accept": "text/html"})
        assert page.status_code == 503
        assert "everindex migrate" in page.text
        index = client.get("/index", headers={"accept": "text/html"})
        assert index.status_code == 200
        assert "everindex migrate" in index.text


def test_an_empty_table_says_how_to_import(migrated: str) -> None:
    with served(migrated) as client:
        assert client.get("/readyz").status_code == 200
        assert "everindex import" in client.get("/").text
        assert "No results" in client.get("/?q=crash").text


def test_a_database_that_is_gone_is_told_at_once_and_the_process_lives(cluster: Any, filled: str) -> None:
    with served(filled) as client:
        assert client.get("/readyz").status_code == 200
        cluster.drop(filled)
        time.sleep(1.1)  # a look is kept for a second
        started = time.monotonic()
        response = client.get("/readyz")
        assert time.monotonic() - started < 2
        assert response.status_code == 503
        assert response.json()["database"] == "unreachable"
        assert client.get("/livez").status_code == 200
        assert client.get("/api/search?q=crash").status_code == 503


def test_a_database_that_hangs_is_told_within_two_seconds(
    web_instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never says a word
        app = create_app(web_instance)
        app.state.site.ready = ReadyProbe(f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=x")
        monkeypatch.setattr(serving, "create_app", lambda instance, **_: app)
        with serving.serve_in_thread(web_instance) as url, httpx2.Client(base_url=url, timeout=30) as client:
            for _ in range(2):
                started = time.monotonic()
                response = client.get("/readyz")
                assert time.monotonic() - started < 2
                assert response.status_code == 503
                assert "did not answer" in response.json()["reasons"][0]
            assert client.get("/livez").status_code == 200
            assert client.get("/api/search?q=crash").status_code == 200


def test_the_versions_are_told(client: httpx2.Client) -> None:
    versions = client.get("/-/versions").json()

    assert set(versions) == {"everindex", "python", "postgresql", "pgvector"}
    assert versions["postgresql"].startswith("18.")
    assert versions["pgvector"] == "0.8.6"
