"""A build lives among writers, readers, long transactions and other builders: it names whom it waits for, and harms nobody."""

from __future__ import annotations

import threading
import time

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector

import scene
from by_hand import rows, run
from everindex.alembic_kit.report import describe_progress
from everindex.errors import LockNotObtained
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from scene import SPEC, Heard, InBackground, blocked_in, builder_in_phase, state

DECLARED = [("items_embedding_idx", True)]
BY_HAND = "CREATE INDEX CONCURRENTLY items_embedding_idx ON items USING hnsw (embedding vector_cosine_ops)"
#: A plain CREATE INDEX stops writers for the whole build; online, only the moments of its catalog changes.
LONGEST_WRITE_SECONDS = 1.5


@pytest.mark.parametrize("phase", [scene.OLD_SNAPSHOT, scene.WRITERS])
def test_a_build_that_waits_for_a_long_transaction_names_its_pid(items: str, phase: str) -> None:
    heard = Heard()
    with blocked_in(items, phase) as blocker:
        build = InBackground(lambda: deploy(items, SPEC, reporter=heard.reporter))
        named = scene.wait_until(lambda: [p for p in heard.progress if blocker in p.waits_for])
        assert named[0].phase == phase
        assert f"waits for pid {blocker}" in describe_progress(named[0])
    build.finish()
    assert state(items) == DECLARED


def test_a_drop_that_waits_for_a_transaction_names_its_pid(items: str) -> None:
    deploy(items, SPEC)
    heard = Heard()
    with blocked_in(items, scene.WRITERS) as blocker:
        dropping = InBackground(lambda: drop(items, SPEC, reporter=heard.reporter))
        scene.wait_until(lambda: [p for p in heard.progress if blocker in p.waits_for])
    assert dropping.finish() is True
    assert state(items) == []


def test_writers_and_readers_go_on_while_it_builds_and_while_it_waits(empty: str) -> None:
    vectors = scene.fill_items(empty, count=4000, dimensions=256)
    stop = threading.Event()
    slowest: dict[str, float] = {}
    counts: dict[str, int] = {}

    def work(name: str, statement: str) -> None:
        random = np.random.default_rng(1)
        with psycopg.connect(empty, autocommit=True) as connection:
            register_vector(connection)
            number = 10_000
            while not stop.is_set():
                started = time.perf_counter()
                near = vectors[number % len(vectors)] + 0.05 * random.normal(size=256)
                connection.execute(statement, {"id": number, "vector": near.astype(np.float32)})
                slowest[name] = max(slowest.get(name, 0.0), time.perf_counter() - started)
                counts[name] = counts.get(name, 0) + 1
                number += 1
                time.sleep(0.005)

    workers = [
        InBackground(lambda: work("write", "INSERT INTO items (id, embedding) VALUES (%(id)s, %(vector)s)")),
        InBackground(lambda: work("read", "SELECT id FROM items ORDER BY embedding <=> %(vector)s LIMIT 10")),
    ]
    try:
        with blocked_in(empty, scene.OLD_SNAPSHOT):
            build = InBackground(lambda: deploy(empty, SPEC))
            builder_in_phase(empty, scene.OLD_SNAPSHOT)
            while_building = dict(counts)
            scene.wait_until(lambda: all(counts[name] > while_building.get(name, 0) + 5 for name in ("write", "read")))
        build.finish()
    finally:
        stop.set()
        for worker in workers:
            worker.finish()
    assert while_building["write"] > 0
    assert slowest["write"] < LONGEST_WRITE_SECONDS, slowest
    assert slowest["read"] < LONGEST_WRITE_SECONDS, slowest
    # Rows that were written meanwhile are in the index.
    total = rows(empty, "SELECT count(*) FROM items")[0][0]
    assert total == 4000 + counts["write"]
    with psycopg.connect(empty) as connection:
        register_vector(connection)
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        connection.execute("SET LOCAL hnsw.ef_search = 1000")
        written = connection.execute(
            "SELECT id, embedding FROM items WHERE id >= 10000 ORDER BY id LIMIT 20"
        ).fetchall()
        nearest = "SELECT id FROM items ORDER BY embedding <=> %s LIMIT 1"
        found = sum(connection.execute(nearest, (vector,)).fetchone() == (number,) for number, vector in written)
        # An approximate index: nearly every one of them, where none would be found if they were missing.
        assert found >= 0.8 * len(written)


def test_eight_deploys_at_once_build_one_index_and_all_succeed(items: str) -> None:
    deploys = [InBackground(lambda: deploy(items, SPEC)) for _ in range(8)]
    outcomes = sorted(each.finish(60).outcome for each in deploys)
    assert outcomes == ["already-there"] * 7 + ["built"]
    assert state(items) == DECLARED


def test_a_build_by_hand_of_the_same_index_at_the_same_time_ends_with_one_valid_index_and_no_error(items: str) -> None:
    for _ in range(4):
        hand_error: list[str] = []

        def by_hand(errors: list[str] = hand_error) -> None:
            try:
                run(items, BY_HAND)
            except psycopg.errors.DuplicateTable as exc:  # ours was first: PostgreSQL tells the one by hand
                errors.append(str(exc))

        hand = InBackground(by_hand)
        ours = InBackground(lambda: deploy(items, SPEC))
        outcome = ours.finish().outcome
        hand.finish()
        assert state(items) == DECLARED
        assert (outcome == "already-there") == (hand_error == [])
        drop(items, SPEC)


def test_another_build_on_the_table_is_waited_for_outside_a_statement_so_that_it_does_not_die_of_a_deadlock(
    items: str,
) -> None:
    heard = Heard()
    with blocked_in(items, scene.WRITERS):
        foreign = InBackground(lambda: run(items, "CREATE INDEX CONCURRENTLY by_hand ON items (n)"))
        pid = builder_in_phase(items, scene.WRITERS)
        ours = InBackground(lambda: deploy(items, SPEC, reporter=heard.reporter))
        scene.wait_until(lambda: heard.lines)
        assert f"waiting for other work on table public.items: pid {pid}" in heard.lines[0]
        held = rows(
            items,
            "SELECT backend_xmin FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle' "
            "AND starts_with(application_name, 'everindex')",
        )
        assert held
        assert all(xmin is None for (xmin,) in held)
    foreign.finish()
    assert ours.finish().outcome == "built"
    assert rows(items, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_hand'::regclass") == [(True,)]
    assert state(items) == DECLARED


def test_other_work_that_outlasts_the_wait_is_named_and_nothing_is_changed(items: str) -> None:
    with blocked_in(items, scene.WRITERS):
        foreign = InBackground(lambda: run(items, "CREATE INDEX CONCURRENTLY by_hand ON items (n)"))
        pid = builder_in_phase(items, scene.WRITERS)
        with pytest.raises(LockNotObtained) as raised:
            deploy(items, SPEC, wait_seconds=0.4)
        assert f"pid {pid}" in raised.value.why
        assert "CREATE INDEX CONCURRENTLY by_hand" in raised.value.why
        assert len(str(raised.value).split("\n")) == 3
    foreign.finish()
    assert state(items) == []


def test_a_table_that_somebody_has_locked_does_not_make_later_readers_queue_behind_us(items: str) -> None:
    heard = Heard()
    with psycopg.connect(items) as locker:
        locker.execute("LOCK TABLE items IN SHARE MODE")
        ours = InBackground(lambda: deploy(items, SPEC, reporter=heard.reporter))
        scene.wait_until(lambda: heard.lines)
        assert f"pid {locker.info.backend_pid}" in heard.text
        assert rows(items, "SELECT count(*) FROM items") == [(300,)]
        locker.rollback()
    assert ours.finish().outcome == "built"


def test_an_open_transaction_of_ours_never_holds_up_the_build_while_a_lock_is_awaited(items: str) -> None:
    # The session that keeps the advisory lock is idle, without a snapshot, for as long as the build takes.
    with blocked_in(items, scene.OLD_SNAPSHOT):
        build = InBackground(lambda: deploy(items, SPEC))
        builder_in_phase(items, scene.OLD_SNAPSHOT)
        keeping = rows(
            items,
            "SELECT state, backend_xmin FROM pg_stat_activity WHERE application_name = 'everindex lock build' "
            "AND datname = current_database()",
        )
        assert keeping == [("idle", None)]
    build.finish()


def test_a_limit_on_idle_sessions_does_not_take_the_lock_or_the_migration_away(before_index: str) -> None:
    from psycopg import sql

    from everindex.migrate import runner

    name = rows(before_index, "SELECT current_database()")[0][0]
    run(before_index, sql.SQL("ALTER DATABASE {} SET idle_session_timeout = '200ms'").format(sql.Identifier(name)))
    with blocked_in(before_index, scene.OLD_SNAPSHOT):
        upgrade = InBackground(lambda: runner.upgrade(before_index))
        builder_in_phase(before_index, scene.OLD_SNAPSHOT)
        time.sleep(0.6)  # longer than the limit, on purpose: nothing can be polled for that does not happen
        locks = rows(before_index, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = "
                     "(SELECT oid FROM pg_database WHERE datname = current_database())")  # fmt: skip
        assert locks == [(2,)]
    upgrade.finish()
    assert runner.state(before_index).is_head
