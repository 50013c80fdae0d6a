"""Proofs belong to a state of the catalog: when that changes they are void at once, on the page, in the API and the probe."""

from __future__ import annotations

import time

import httpx2
import psycopg

from everindex.articles.connect import connect_instance
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread

INDEX = "articles_embedding_hnsw_idx"
HTML = {"accept": "text/html"}
GOOD = "The index exists, is used and is accurate"


def until_proven(client: httpx2.Client) -> str:
    deadline = time.monotonic() + 60
    while "Verify again" not in (page := client.get("/index", headers=HTML).text):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return page


def test_nothing_on_the_page_is_older_than_the_catalog_that_it_was_read_with(filled: str) -> None:
    with (
        psycopg.connect(filled, autocommit=True) as sql,
        connect_instance(filled, settings=Settings()) as instance,
        serve_in_thread(instance) as url,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        page = until_proven(client)
        assert GOOD in page
        assert page.count('<li class="proof good">') == 4
        assert page.count("Passed ") == 4
        assert "s ago. The catalog has not changed since." in page
        assert client.get("/readyz").json()["index"]["state"] == "valid"

        sql.execute(f"DROP INDEX {INDEX}")
        page = client.get("/index", headers=HTML).text
        assert GOOD not in page
        assert '<li class="proof good">' not in page
        assert "No vector index exists" in page
        assert page.count("Failed ") <= 1  # what could not be examined has no age, and what does not hold is not proven
        assert page.count("Passed ") <= 1
        assert client.get("/readyz").json()["index"]["state"] == "missing"
        assert "is valid and as declared" not in client.get("/index/proofs").text
        page = until_proven(client)
        assert "The index needs attention" in page

        sql.execute(f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops) WITH (m = 24)")
        told = client.get("/api/index").json()
        assert told["uses"][0]["drift"] == ["m is 24, declared 16"]
        assert told["verification"]["proofs"] == []
        assert "does not exist" not in client.get("/index", headers=HTML).text
        page = until_proven(client)
        assert "m is 24, declared 16" in page
        assert "as declared (hnsw" not in page

        sql.execute(f"DROP INDEX {INDEX}")
        sql.execute(f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops) WITH (m = 16)")
        assert GOOD in until_proven(client)
        for change in (
            f"REINDEX INDEX {INDEX}",
            f"ALTER INDEX {INDEX} RENAME TO another",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'another'::regclass",
            "UPDATE alembic_version SET version_num = 'b6a5ff4214f5'",
        ):
            before = client.get("/api/index").json()
            sql.execute(change)
            after = client.get("/api/index").json()
            assert after["catalog"] != before["catalog"], change
            assert after["verification"]["proofs"] == [], change
            until_proven(client)
            assert client.get("/api/index").json()["verification"]["age_seconds"] < 60
