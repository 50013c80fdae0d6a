"""The observation behind the metrics: one at a time, bounded, and never shown where it may not be true any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from everindex.metrics.database_families import database_families
from everindex.metrics.exposition import Families, as_text
from everindex.metrics.refresh import Latest, LatestObservation
from scrapes import value

NAME = "articles_embedding_hnsw_idx"


@contextmanager
def observing(conninfo: str, *, seconds: float = 0.1) -> Iterator[LatestObservation]:
    """An observation that reads everything every `seconds`."""
    observation = LatestObservation(conninfo, recall_floor=0.95, seconds=(seconds, seconds, seconds))
    try:
        yield observation
    finally:
        observation.close()


def text_of(latest: Latest) -> str:
    return as_text(Families(lambda: database_families(latest))).decode()


def until(observation: LatestObservation, condition: Callable[[str], bool]) -> str:
    """The first exposition for which the condition holds."""
    ends = time.monotonic() + 30
    while True:
        text = text_of(observation.latest())
        if condition(text):
            return text
        assert time.monotonic() < ends, text
        time.sleep(0.02)


def test_what_changes_in_the_catalog_is_shown_and_nothing_else(filled: str) -> None:
    with observing(filled) as observation, psycopg.connect(filled, autocommit=True) as connection:
        text = until(observation, lambda text: value(text, "everindex_index_valid", index=NAME) == 1)
        assert value(text, "everindex_keeper_leader") == 0
        assert value(text, "everindex_build_running") is None
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", (NAME,))
        text = until(observation, lambda text: value(text, "everindex_index_valid", index=NAME) == 0)
        assert value(text, "everindex_index_state", index=NAME, state="invalid") == 1
        connection.execute(f"DROP INDEX {NAME}")
        connection.execute("UPDATE articles SET embedding = NULL WHERE uri IN (SELECT uri FROM articles LIMIT 3)")
        observation.renew()
        text = until(observation, lambda text: value(text, "everindex_index_state", index=NAME, state="missing") == 1)
        assert value(text, "everindex_index_size_bytes", index=NAME) == 0
        until(observation, lambda text: value(text, "everindex_embedding_backlog", collection="articles") == 3)
        until(observation, lambda text: (value(text, "everindex_doctor_findings", severity="critical") or 0) >= 1)


def test_a_build_that_waits_for_another_session_is_shown_with_it(filled: str) -> None:
    with observing(filled) as observation, psycopg.connect(filled) as writer:
        writer.execute("UPDATE articles SET topic = topic WHERE uri = (SELECT min(uri) FROM articles)")

        def build() -> None:
            with psycopg.connect(filled, autocommit=True) as connection:
                connection.execute("CREATE INDEX CONCURRENTLY other ON articles USING hnsw (embedding vector_l2_ops)")

        thread = threading.Thread(target=build)
        thread.start()
        text = until(observation, lambda text: value(text, "everindex_build_waiting", table="articles") == 1)
        assert value(text, "everindex_build_running", table="articles") == 1
        assert (value(text, "everindex_build_seconds", table="articles") or 0) >= 0
        writer.rollback()
        thread.join(60)
        until(observation, lambda text: value(text, "everindex_build_running") is None)


def test_many_scrapes_are_one_session_and_wait_for_no_statement_even_while_a_table_is_locked(filled: str) -> None:
    with observing(filled) as observation, psycopg.connect(filled) as locker:
        until(observation, lambda text: value(text, "everindex_rows", collection="articles") is not None)
        locker.execute("LOCK TABLE articles IN ACCESS EXCLUSIVE MODE")  # counting its rows waits from here on
        observation.renew()

        def scrape(_: int) -> tuple[float, int]:
            started = time.monotonic()
            text_of(observation.latest())
            seconds = time.monotonic() - started
            with psycopg.connect(filled) as other:
                row = other.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'everindex metrics' "
                    "AND datname = current_database()"
                ).fetchone()
            assert row is not None
            return seconds, row[0]

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(scrape, range(64)))
        assert max(sessions for _, sessions in found) <= 1
        assert sorted(seconds for seconds, _ in found)[len(found) // 2] < 0.1


def test_a_state_that_cannot_be_read_any_more_is_not_shown(filled: str) -> None:
    with observing(filled) as observation, psycopg.connect(filled) as locker:
        until(observation, lambda text: value(text, "everindex_index_valid", index=NAME) == 1)
        locker.execute("LOCK TABLE pg_index IN ACCESS EXCLUSIVE MODE")  # not even the catalog can be read
        text = until(observation, lambda text: value(text, "everindex_database_up") == 0)
        assert "everindex_index_valid{" not in text
        assert (value(text, "everindex_observation_age_seconds", part="state") or 0) > 0
        locker.rollback()
        until(observation, lambda text: value(text, "everindex_index_valid", index=NAME) == 1)


def test_an_unreachable_server_is_a_sample_and_not_an_error() -> None:
    with observing("host=127.0.0.1 port=1 dbname=none user=none") as observation:
        text = text_of(observation.latest())
        assert value(text, "everindex_database_up") == 0
        assert value(text, "everindex_observation_success", part="state") == 0
        assert "everindex_index_state" not in text
        assert "everindex_info" not in text


@pytest.mark.parametrize("database", ["empty", "migrated"])
def test_a_database_without_articles_is_observed(request: pytest.FixtureRequest, database: str) -> None:
    with observing(request.getfixturevalue(database)) as observation:
        text = until(observation, lambda text: value(text, "everindex_doctor_unknown") is not None)
        assert value(text, "everindex_database_up") == 1
        assert value(text, "everindex_indexes_not_shown") == 0
