"""EVERINDEX_BUILD: what a migration does about an index over rows, and that the keeper finishes what it leaves."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest

from everindex.alembic_kit.build_mode import build_now, build_seconds_expected, is_left_to_keeper
from everindex.articles.background.keeper import article_keeper, reason_to_wait
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.ingest import bulk_load as bulk
from everindex.index.catalog.observe import observe
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from everindex.index.reporter import Reporter
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.pg.connections import connect
from everindex.pg.locks import advisory_lock
from everindex.settings import current_settings, read_settings
from repository import REPOSITORY

Mode = Callable[..., None]


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> Mode:
    """Sets EVERINDEX_BUILD, and others, for the rest of the test."""

    def set_to(build: str, **others: str) -> None:
        monkeypatch.setenv("EVERINDEX_BUILD", build)
        for name, value in others.items():
            monkeypatch.setenv(name, value)
        current_settings.cache_clear()

    return set_to


@pytest.fixture
def without_index(filled: str) -> str:
    """1,500 articles, at the revision before the index."""
    runner.downgrade(filled, BEFORE_INDEX)
    return filled


def is_there(conninfo: str) -> bool | None:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('articles_embedding_hnsw_idx')"
        ).fetchone()
    return None if row is None else row[0]


def upgraded(conninfo: str) -> str:
    told: list[str] = []
    runner.upgrade(conninfo, wait_seconds=0, reporter=Reporter(say=told.append))
    assert runner.state(conninfo).is_head
    return "\n".join(told)


def test_wait_builds_within_the_migration(without_index: str, mode: Mode) -> None:
    mode("wait")
    upgraded(without_index)
    assert is_there(without_index)


def test_background_reaches_head_without_the_index_and_the_keeper_builds_it(without_index: str, mode: Mode) -> None:
    mode("background")
    told = upgraded(without_index)
    assert is_there(without_index) is None
    assert "left to the keeper (EVERINDEX_BUILD=background)" in told
    assert "every search is exact" in told
    round_ = article_keeper(without_index, read_settings()).once()
    assert [each.outcome for each in round_.indexes] == ["built"]
    assert is_there(without_index)
    assert "left to the keeper" not in upgraded(without_index)


def test_a_start_at_head_leaves_a_lost_index_to_the_keeper_too(filled: str, mode: Mode) -> None:
    drop(filled, EMBEDDING_INDEX)
    mode("background")
    assert "left to the keeper" in upgraded(filled)
    assert is_there(filled) is None


def test_auto_waits_for_a_build_of_seconds(without_index: str, mode: Mode) -> None:
    mode("auto")
    upgraded(without_index)
    assert is_there(without_index)


def test_auto_leaves_a_long_build_and_says_so(filled: str, mode: Mode) -> None:
    """A journal that has seen this shape built at a hundred rows a minute."""
    drop(filled, EMBEDDING_INDEX)
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute(
            "UPDATE everindex_meta.journal SET details = details || '{\"seconds\": 1500}' WHERE event = 'built'"
        )
    with connect(filled) as connection:
        assert build_seconds_expected(connection, EMBEDDING_INDEX) > 60
    mode("auto")
    assert "left to the keeper (EVERINDEX_BUILD=auto)" in upgraded(filled)
    assert is_there(filled) is None
    mode("auto", EVERINDEX_KEEP="off")  # nobody else would build it
    upgraded(filled)
    assert is_there(filled)


def test_a_table_that_was_never_analyzed_is_counted(filled: str) -> None:
    drop(filled, EMBEDDING_INDEX)
    with connect(filled) as connection:
        connection.execute("ANALYZE articles")
        of_counted_rows = build_seconds_expected(connection, EMBEDDING_INDEX)
        connection.execute("UPDATE pg_class SET reltuples = -1 WHERE relname = 'articles'")
        assert build_seconds_expected(connection, EMBEDDING_INDEX) == pytest.approx(of_counted_rows, rel=0.1)


def test_an_empty_table_is_indexed_at_once_in_every_mode(empty: str, mode: Mode) -> None:
    mode("background")
    upgraded(empty)
    assert is_there(empty)


def test_another_definition_is_left_only_to_a_keeper_that_replaces(filled: str, mode: Mode) -> None:
    wanted = replace(EMBEDDING_INDEX, m=8)
    told: list[str] = []
    mode("background")
    assert not is_left_to_keeper(filled, wanted, reporter=Reporter(say=told.append), replaces=True)
    mode("background", EVERINDEX_KEEP_DRIFT="replace")
    assert is_left_to_keeper(filled, wanted, reporter=Reporter(say=told.append), replaces=True)
    assert "searches continue as before" in told[-1]
    with connect(filled) as connection:
        assert not build_now(connection, wanted, observe(connection, wanted), replaces=True)


def test_an_index_that_is_there_is_nothing_to_leave(filled: str, mode: Mode) -> None:
    mode("background")
    assert not is_left_to_keeper(filled, EMBEDDING_INDEX, reporter=Reporter())


def test_the_keeper_of_the_articles_waits_before_the_head_and_beyond_it(without_index: str) -> None:
    keeper = article_keeper(without_index, read_settings())
    waits = keeper.once()
    assert waits.role == "waits"
    assert f"at revision {BEFORE_INDEX}" in str(waits.reason)
    assert is_there(without_index) is None
    with psycopg.connect(without_index, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    assert "everindex attach" in str(keeper.once().reason)
    with psycopg.connect(without_index, autocommit=True) as connection:
        connection.execute("DROP TABLE alembic_version")
    assert "not migrated yet" in str(keeper.once().reason)


def test_the_keeper_of_the_articles_waits_for_a_migration(filled: str) -> None:
    with advisory_lock(filled, "migrate", wait_seconds=0), connect(filled) as connection:
        assert "is being migrated by pid" in str(reason_to_wait(connection))
    with connect(filled) as connection:
        assert reason_to_wait(connection) is None


def test_the_keeper_waits_while_an_import_has_the_index_aside(migrated: str) -> None:
    keeper = article_keeper(migrated, read_settings())
    with bulk.without_index(migrated, vectors_coming=5000) as is_aside:
        assert is_aside
        waits = keeper.once()
        assert "with the index set aside" in str(waits.reason)
        assert is_there(migrated) is None
    assert is_there(migrated)
    assert keeper.once().role == "leads"


def test_a_keeper_and_a_migration_that_both_want_the_index_build_it_once(without_index: str) -> None:
    """The deploy of the keeper is stopped or waits: never two builds, and one valid index at the end."""
    keeper = article_keeper(without_index, read_settings())
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,), daemon=True)
    thread.start()
    try:
        upgraded(without_index)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert is_there(without_index)
    assert deploy(without_index, EMBEDDING_INDEX).outcome == "already-there"


def test_the_container_chooses_auto_unless_it_is_told_otherwise() -> None:
    entrypoint = REPOSITORY / "docker-entrypoint.sh"
    for given, expected in (({}, "auto"), ({"EVERINDEX_BUILD": "wait"}, "wait")):
        said = subprocess.run(
            ["sh", entrypoint, "sh", "-c", "echo $EVERINDEX_BUILD"],
            env={"PATH": os.environ["PATH"], "AUTO_MIGRATE": "0"} | given,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert said.stdout == f"{expected}\n"
