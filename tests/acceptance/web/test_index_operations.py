"""The page /index for operators: what happened, what runs, what it costs, and actions that run only what was confirmed."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import psycopg
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.index.activity.size_history import note_size
from everindex.index.catalog.observe import observe
from everindex.index.recall.history import RecallSample, graph_of, remember
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread

NAME = "articles_embedding_hnsw_idx"
PASSWORD = "not-for-eyes"


@pytest.fixture
def served(filled: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    """A client of a server whose index has a past."""
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    with psycopg.connect(filled, autocommit=True) as connection:
        graph = graph_of(connection, observe(connection, EMBEDDING_INDEX).indexes[0])
        for found in (390, 396, 399):
            measured = RecallSample(k=10, queries=40, found=found, wanted=400, exact_ms=9.0, approximate_ms=1.0)
            remember(connection, EMBEDDING_INDEX, graph, measured)
            note_size(
                connection, EMBEDDING_INDEX, estimated_rows=found, index_bytes=found * 8192, table_bytes=9_000_000
            )
            connection.execute("UPDATE everindex_meta.index_size SET at = at - interval '2 hours'")
            connection.execute("UPDATE everindex_meta.recall_history SET at = at - interval '2 hours'")
    with (
        connect_instance(filled, settings=Settings(EVERINDEX_SLOW_QUERY_MS=0)) as instance,
        serve_in_thread(instance) as url,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        client.get("/api/search", params={"q": "a zebra matter", "mode": "semantic", "news_source": "x"})
        client.get("/api/search", params={"q": "a zebra matter", "mode": "semantic"})
        yield client


def until(read: Callable[[], str], wanted: str) -> str:
    ends = time.monotonic() + 60
    while True:
        text = read()
        if wanted in text:
            return text
        assert time.monotonic() < ends, text[-3000:]
        time.sleep(0.05)


def plain(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_page_tells_history_memory_slow_searches_findings_and_settings(served: httpx2.Client) -> None:
    page = until(lambda: served.get("/index/operations").text, "/doctor/")
    text = plain(page)
    assert "0.975" in text
    assert "0.998" in text
    assert 'aria-labelledby="recall-over-time-title recall-over-time-words"' in page
    assert 'aria-labelledby="size-over-time-title size-over-time-words"' in page
    assert page.count("<table") == 4, "a table for each pair of drawings, the slow searches and the settings"
    assert re.search(r"of the index are in shared_buffers|is not known: ", text)
    assert "semantic, vector index, 10 of 10" in text
    assert NAME in text, "the plan in words"
    assert "zebra" not in page
    assert re.search(r"EVERINDEX_SLOW_QUERY_MS 0 default", text)
    assert "DB_PASSWORD set, not shown environment" in text
    assert PASSWORD not in page
    told = served.get("/index", headers={"accept": "application/json"}).json()
    assert told == {
        **served.get("/api/index").json(),
        "age_seconds": told["age_seconds"],
        "verification": told["verification"],
    }
    assert [span["recall"] for span in told["recall_over_time"]] == [0.975, 0.99, 0.9975]
    assert told["slow_searches"][0]["strategy"] == "index"
    assert told["memory"]["index_bytes"] > 0
    assert PASSWORD not in str(told)


def test_a_deploy_runs_the_plan_that_was_confirmed_and_no_other(served: httpx2.Client, filled: str) -> None:
    assert "Nothing to do" in plain(served.get("/index/actions/deploy").text)
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute(f"DROP INDEX {NAME}")
    confirmation = served.get("/index/actions/heal").text
    (digest,) = re.findall(r'name="digest" value="([\w-]+)"', confirmation)
    assert "CREATE INDEX CONCURRENTLY" in confirmation
    assert "SHARE UPDATE EXCLUSIVE" in confirmation

    refused = served.post("/index/actions/heal", data={"digest": ""}, follow_redirects=False)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/bad-input")
    started = served.post("/index/actions/heal", data={"digest": "0123456789ab"}, follow_redirects=False)
    assert (started.status_code, started.headers["location"]) == (303, "/index#running")
    assert "plan-out-of-date" in until(lambda: served.get("/index/running").text, "Heal failed")

    served.post("/index/actions/heal", data={"digest": digest})
    assert "built" in plain(until(lambda: served.get("/index/running").text, "Heal is done"))
    until(lambda: served.get("/index/report").text, '<dd class="good">valid</dd>')
    assert served.get("/api/index").json()["action"]["outcome"] == "built"
    assert served.get("/index/actions/other").status_code == 404


def test_a_build_is_shown_with_what_it_waits_for_and_can_be_cancelled(served: httpx2.Client, filled: str) -> None:
    ended: list[Any] = []

    def build() -> None:
        with psycopg.connect(filled, autocommit=True, application_name="nightly build") as connection:
            try:
                connection.execute("CREATE INDEX CONCURRENTLY other ON articles USING hnsw (embedding vector_l2_ops)")
            except psycopg.errors.QueryCanceled as exc:
                ended.append(exc)

    with psycopg.connect(filled, application_name="a long report") as writer:
        writer.execute("UPDATE articles SET topic = topic WHERE uri = (SELECT min(uri) FROM articles)")
        thread = threading.Thread(target=build)
        thread.start()
        shown = plain(until(lambda: served.get("/index/running").text, "a long report"))
        assert "A build is running" in shown
        assert "nightly build" in shown
        assert f"pid {writer.info.backend_pid}" in shown
        (build_now,) = served.get("/api/index").json()["builds"]
        assert build_now["waits_for"]
        assert served.post("/index/cancel", data={"pid": str(writer.info.backend_pid)}).status_code == 303
        assert thread.is_alive(), "a backend that builds nothing here is left alone"
        served.post("/index/cancel", data={"pid": str(build_now["pid"])})
        thread.join(30)
        writer.rollback()
    assert len(ended) == 1
    assert "A build is running" not in served.get("/index/running").text


def test_without_a_previous_generation_a_rollback_is_not_offered(served: httpx2.Client) -> None:
    page = served.get("/index/actions/rollback").text
    assert "There is no previous generation" in page
    assert "Roll back now" not in page
    assert "Tune now" in served.get("/index/actions/tune").text
