"""The keeper inside `serve`: an index that is lost comes back while the pages answer exactly, and a stop is clean."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psycopg
import pytest

import warm
from by_hand import run
from everindex.articles.background.keeper import kept_in_background
from everindex.articles.connect import connect_instance
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread

INDEX = "articles_embedding_hnsw_idx"


def ask(conninfo: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def until(question: Any, *, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return answer


def is_valid(conninfo: str) -> bool:
    return ask(conninfo, f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{INDEX}')") == [(True,)]


@contextmanager
def old_snapshot(conninfo: str) -> Iterator[None]:
    """While it lasts, an online build waits for it at its end."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM pg_class")
        yield


def test_a_dropped_index_comes_back_while_the_pages_answer_exactly_and_say_so(filled: str) -> None:
    settings = Settings(EVERINDEX_KEEP_SECONDS=1)
    with (
        connect_instance(filled, settings=settings) as instance,
        kept_in_background(instance, settings),
        serve_in_thread(instance) as url,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        assert client.get("/api/search?q=crash").json()["strategy"] == "index"
        with old_snapshot(filled):
            run(filled, f"DROP INDEX {INDEX}")
            until(lambda: ask(filled, "SELECT 1 FROM pg_stat_progress_create_index"))
            instance.invalidate()
            answer = client.get("/api/search?q=crash").json()
            assert answer["strategy"] == "exact"
            assert "exact search" in answer["notices"][0]
            assert client.get("/?q=crash").status_code == 200
            ready = until(lambda: (r := client.get("/readyz")).json()["index"]["state"] == "building" and r)
            assert ready.status_code == 200
            assert (ready.json()["ready"], ready.json()["degraded"]) == (True, True)
            assert ready.json()["reasons"][0].startswith("serving exact search, ")
        until(lambda: is_valid(filled))
        until(lambda: client.get("/api/search?q=crash").json()["strategy"] == "index", seconds=20)
        assert client.get("/readyz").json()["reasons"] == []


@pytest.mark.long
def test_progress_is_told_in_percent(filled: str) -> None:
    """A build that is held up in its first phase has counted no block; at work it counts them."""
    run(filled, f"DROP INDEX {INDEX}")
    seen: list[str] = []
    with (
        connect_instance(filled, settings=Settings()) as instance,
        serve_in_thread(instance) as url,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        building = threading.Thread(
            target=run,
            args=(
                filled,
                f"CREATE INDEX CONCURRENTLY {INDEX} ON articles USING hnsw (embedding vector_cosine_ops) "
                "WITH (m = 60, ef_construction = 1000)",
            ),
            daemon=True,
        )
        building.start()
        while building.is_alive():
            seen += client.get("/readyz").json()["reasons"]
            time.sleep(0.3)
    assert any(reason.startswith("serving exact search, index ") and reason.endswith(" %") for reason in seen), seen


def test_with_keep_off_nobody_heals(filled: str) -> None:
    settings = Settings(EVERINDEX_KEEP="off", EVERINDEX_KEEP_SECONDS=1)
    with connect_instance(filled, settings=settings) as instance, kept_in_background(instance, settings):
        run(filled, f"DROP INDEX {INDEX}")
        assert "everindex-keeper" not in [thread.name for thread in threading.enumerate()]


PROGRAM = "from everindex.cli.run import main; main()"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_build_ends_serve_within_seconds_and_leaves_nothing(
    filled: str, number: signal.Signals
) -> None:
    run(filled, f"DROP INDEX {INDEX}")
    environment = os.environ | {"DATABASE_URL": filled, "PORT": "0"}
    with psycopg.connect(filled) as writing:
        # A writer with an open transaction holds the build up in its first phase; the clean-up gives up in time.
        writing.execute("LOCK TABLE articles IN ROW EXCLUSIVE MODE")
        with warm.Process(["-c", PROGRAM, "serve"], env=environment) as process:
            assert process.stdout is not None
            assert "serves at" in process.stdout.readline()
            until(
                lambda: ask(
                    filled, "SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for writers%'"
                )
            )
            writing.rollback()
            started = time.monotonic()
            process.send_signal(number)
            _, log = process.communicate(timeout=60)
            assert time.monotonic() - started < 20
    assert process.returncode == 0, log
    assert "Traceback" not in log
    left = ask(filled, f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{INDEX}')")
    assert left in ([], [(True,)]), log  # cancelled and removed, or done a moment before the signal
    assert not ask(
        filled,
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'everindex build'",
    )
