"""GET /metrics: what Prometheus reads of a process and its database, without a query of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2
import pytest

from clusters import Cluster
from everindex.articles.connect import connect_instance
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from scrapes import samples, value
from templates import FILLED_ROWS

NAME = "articles_embedding_hnsw_idx"


@pytest.fixture(scope="module")
def client(cluster: Cluster, with_articles: str) -> Iterator[httpx2.Client]:
    """A client of a server of its own: its observation ends with these tests."""
    with (
        connect_instance(cluster.database(with_articles), settings=Settings()) as instance,
        serve_in_thread(instance) as url,
        httpx2.Client(base_url=url, timeout=30) as opened,
    ):
        yield opened


def scraped(client: httpx2.Client, name: str, **labels: str) -> str:
    """A scrape that has that sample; the observation may still be running."""
    ends = time.monotonic() + 30
    while True:
        text = client.get("/metrics").text
        if value(text, name, **labels) is not None or time.monotonic() > ends:
            return text
        time.sleep(0.05)


def test_a_scrape_tells_the_index_its_rows_the_searches_and_the_process(client: httpx2.Client) -> None:
    client.get("/api/search", params={"q": "memory leak"})
    client.get("/api/search", params={"q": "memory leak", "mode": "keyword"})
    assert client.get("/api/search", params={"q": "x", "k": "0"}).status_code == 422
    assert client.get("/nothing/here").status_code == 404
    text = scraped(client, "everindex_doctor_unknown")

    assert client.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert value(text, "everindex_database_up") == 1
    assert value(text, "everindex_index_state", index=NAME, state="valid") == 1
    assert value(text, "everindex_index_state", index=NAME, state="missing") == 0
    assert value(text, "everindex_index_valid", index=NAME) == 1
    assert (value(text, "everindex_index_size_bytes", index=NAME) or 0) > 1_000_000
    assert (value(text, "everindex_index_scans_total", index=NAME) or 0) >= 0
    assert value(text, "everindex_rows", collection="articles") == FILLED_ROWS
    assert value(text, "everindex_embedding_backlog", collection="articles") == 0
    assert (value(text, "everindex_doctor_findings", severity="critical")) == 0
    assert (value(text, "everindex_search_seconds_count", mode="hybrid", strategy="index") or 0) >= 1
    assert (value(text, "everindex_search_seconds_count", mode="keyword", strategy="keyword") or 0) >= 1
    assert (value(text, "everindex_http_requests_total", route="/api/search", status="200") or 0) >= 2
    assert (value(text, "everindex_http_requests_total", route="unmatched", status="404") or 0) >= 1
    assert value(text, "everindex_pool_connections_max", pool="primary") == 6
    assert (value(text, "process_resident_memory_bytes") or 0) > 0
    assert 0 <= (value(text, "everindex_observation_age_seconds", part="state") or 0) < 60


def test_addresses_that_somebody_tries_add_no_series(client: httpx2.Client) -> None:
    client.get("/articles/once")
    client.get("/nothing/once")
    before = len(samples(client.get("/metrics").text))
    for number in range(50):
        client.get(f"/nothing/{number}")
        client.get(f"/articles/{number}")
        client.request("BREW", f"/{number}")
    assert len(samples(client.get("/metrics").text)) <= before + 2  # BREW is a method and a status more
