"""Interrupted builds: no row is changed, the report of what is left is true, and the next upgrade finishes the index."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

import scene
import warm
from by_hand import rows, run
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.errors import BuildFailed, EverindexError
from everindex.index.build import online
from everindex.index.build.operation import Operation
from everindex.index.deploy.executor import deploy
from everindex.migrate import runner
from everindex.pg.embedded import running as embedded
from places import open_place
from scene import Heard, InBackground, blocked_in, builder_in_phase, state

INDEX = "articles_embedding_hnsw_idx"
PROGRAM = "from everindex.cli.run import main; main()"
CHECKSUM = "SELECT count(*), md5(string_agg(a::text, '' ORDER BY uri)) FROM articles a"


def articles(conninfo: str) -> list[tuple[object, ...]]:
    return rows(conninfo, CHECKSUM)


def upgrade_ends_well(conninfo: str) -> str:
    heard = Heard()
    runner.upgrade(conninfo, reporter=heard.reporter)
    assert state(conninfo, "articles") == [(INDEX, True)]
    assert runner.state(conninfo).is_head
    return heard.text


def claims(text: str, conninfo: str) -> str:
    """Holds what was told about the remains against the catalog; which of the claims it was."""
    found = state(conninfo, "articles")
    if "unfinished index was removed" in text or "Nothing was left behind" in text:
        assert found == []
        return "removed"
    assert "may be left" in text, text
    assert found in ([], [(INDEX, False)])
    return "may be left"


@contextmanager
def migrate_process(conninfo: str) -> Iterator[warm.Process]:
    """`everindex migrate` in a process of its own."""
    environment = os.environ | {"DATABASE_URL": conninfo, "EVERINDEX_DIMENSIONS": str(scene.DIMENSIONS)}
    process = warm.Process(["-c", PROGRAM, "migrate"], env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("phase", [scene.OLD_SNAPSHOT, scene.WRITERS])
@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_builder_that_an_administrator_ends_leaves_what_it_says(
    before_index: str, how: str, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "CLEAN_UP_LOCK_TIMEOUT", "300ms")
    before = articles(before_index)
    with blocked_in(before_index, phase, table="articles"):
        build = InBackground(lambda: deploy(before_index, EMBEDDING_INDEX))
        run(before_index, f"SELECT {how}({builder_in_phase(before_index, phase)})")
        with pytest.raises(BuildFailed) as raised:
            build.finish()
        # A writer's lock on the table stands in the way of dropping it: then it is left and said.
        expected = "removed" if phase == scene.OLD_SNAPSHOT else "may be left"
        assert claims(raised.value.next_step, before_index) == expected
    assert len(str(raised.value).split("\n")) == 3
    assert ("was cancelled" in raised.value.next_step) == (how == "pg_cancel_backend")
    assert articles(before_index) == before
    upgrade_ends_well(before_index)
    assert articles(before_index) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_told_to_stop_removes_its_unfinished_index_first(
    before_index: str, number: signal.Signals
) -> None:
    before = articles(before_index)
    with blocked_in(before_index, scene.OLD_SNAPSHOT), migrate_process(before_index) as process:
        builder_in_phase(before_index, scene.OLD_SNAPSHOT)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "was interrupted. The unfinished index was removed." in told
        assert "Traceback" not in told
        assert claims(told, before_index) == "removed"
    assert articles(before_index) == before
    upgrade_ends_well(before_index)


def test_an_interrupt_does_not_wait_for_a_transaction_that_holds_up_the_clean_up(before_index: str) -> None:
    with blocked_in(before_index, scene.WRITERS, table="articles"), migrate_process(before_index) as process:
        builder_in_phase(before_index, scene.WRITERS)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
        assert process.returncode == 130
        assert claims(told, before_index) == "may be left"
        assert state(before_index, "articles") == [(INDEX, False)]
    assert "INVALID" in upgrade_ends_well(before_index)


def test_a_killed_command_leaves_a_build_that_the_next_one_waits_for(before_index: str) -> None:
    before = articles(before_index)
    heard = Heard()
    with blocked_in(before_index, scene.OLD_SNAPSHOT), migrate_process(before_index) as process:
        pid = builder_in_phase(before_index, scene.OLD_SNAPSHOT)
        process.kill()
        process.communicate(timeout=10)
        following = InBackground(lambda: runner.upgrade(before_index, reporter=heard.reporter))
        scene.wait_until(lambda: f"being built by pid {pid}" in heard.text)
    following.finish()
    assert state(before_index, "articles") == [(INDEX, True)]
    assert runner.state(before_index).is_head
    assert articles(before_index) == before


def test_a_killed_command_whose_build_dies_too_leaves_an_invalid_index_that_the_next_one_rebuilds(
    before_index: str,
) -> None:
    with blocked_in(before_index, scene.OLD_SNAPSHOT), migrate_process(before_index) as process:
        pid = builder_in_phase(before_index, scene.OLD_SNAPSHOT)
        process.kill()
        process.communicate(timeout=10)
        run(before_index, f"SELECT pg_terminate_backend({pid})")
        scene.wait_until(lambda: not rows(before_index, "SELECT FROM pg_stat_activity WHERE pid = %s", pid))
        assert state(before_index, "articles") == [(INDEX, False)]
    assert "INVALID" in upgrade_ends_well(before_index)


def test_our_interrupt_never_drops_the_index_that_somebody_else_is_building(before_index: str) -> None:
    with blocked_in(before_index, scene.OLD_SNAPSHOT):
        foreign = InBackground(
            lambda: run(
                before_index,
                f"CREATE INDEX CONCURRENTLY {INDEX} ON articles USING hnsw (embedding vector_cosine_ops) "
                "WITH (m = 16, ef_construction = 64)",
            )
        )
        pid = builder_in_phase(before_index, scene.OLD_SNAPSHOT)
        unfinished = Operation(conninfo=before_index, spec=EMBEDDING_INDEX, reporter=Heard().reporter)
        assert f"being built by pid {pid} and was left alone" in online.clean_up(unfinished, EMBEDDING_INDEX, pid + 1)
    foreign.finish()
    assert state(before_index, "articles") == [(INDEX, True)]


def test_a_server_that_stops_at_once_keeps_the_rows_and_the_next_upgrade_builds_the_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVERINDEX_DIMENSIONS", str(scene.DIMENSIONS))
    with open_place() as place:
        with embedded.running(place / "server") as conninfo:  # fsync is on
            scene.fill_before_index(conninfo)
            before = articles(conninfo)
            heard = Heard()
            with psycopg.connect(conninfo) as blocker:
                blocker.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                blocker.execute("SELECT count(*) FROM pg_class")
                build = InBackground(lambda: runner.upgrade(conninfo, reporter=heard.reporter))
                builder_in_phase(conninfo, scene.OLD_SNAPSHOT)
                data = rows(conninfo, "SHOW data_directory")[0][0]
                with open(f"{data}/postmaster.pid", encoding="utf-8") as file:
                    postmaster = int(file.readline())
                os.kill(postmaster, signal.SIGQUIT)  # PostgreSQL's immediate shutdown
                with pytest.raises(EverindexError) as raised:
                    build.finish(60)
                blocker.close()
            told = str(raised.value)
            assert "may be left; the next deploy removes it" in told
            assert len(told.split("\n")) == 3
        with embedded.running(place / "server") as conninfo:
            assert articles(conninfo) == before
            assert state(conninfo, "articles") in ([], [(INDEX, False)])
            upgrade_ends_well(conninfo)
            assert articles(conninfo) == before
