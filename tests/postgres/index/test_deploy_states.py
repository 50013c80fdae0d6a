"""From every state that a database can be in, a deploy reaches the declaration, and says what it found."""

from __future__ import annotations

import psycopg
import pytest

import scene
from by_hand import rows, run
from everindex.errors import LockNotObtained
from everindex.index.catalog.observe import observe
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import acknowledge, deploy
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import HEAL
from everindex.pg.connections import connect
from scene import SPEC, Heard, InBackground, blocked_in, builder_in_phase, state

DECLARED = [("items_embedding_idx", True)]
BY_HAND = "CREATE INDEX items_embedding_idx ON items USING hnsw (embedding vector_cosine_ops)"


def nothing_left_to_do(conninfo: str) -> bool:
    with connect(conninfo) as connection:
        return make_plan(SPEC, observe(connection, SPEC), policy=HEAL).steps == ()


def leave_invalid(conninfo: str, phase: str) -> None:
    """A build that dies in a phase leaves what such a death leaves."""
    with blocked_in(conninfo, phase):
        build = InBackground(lambda: run(conninfo, BY_HAND.replace("INDEX", "INDEX CONCURRENTLY", 1)))
        run(conninfo, f"SELECT pg_terminate_backend({builder_in_phase(conninfo, phase)})")
        with pytest.raises(psycopg.OperationalError):
            build.finish()
    scene.wait_until(lambda: not rows(conninfo, "SELECT FROM pg_stat_progress_create_index"))


def test_an_absent_index_is_built_and_planning_again_is_empty(items: str) -> None:
    heard = Heard()
    deployed = deploy(items, SPEC, reporter=heard.reporter)
    assert deployed.outcome == "built"
    assert state(items) == DECLARED
    assert nothing_left_to_do(items)
    assert "building index public.items_embedding_idx on 300 rows, online" in heard.text
    assert deploy(items, SPEC).outcome == "already-there"


@pytest.mark.parametrize(("phase", "is_ready"), [(scene.OLD_SNAPSHOT, True), (scene.WRITERS, False)])
def test_an_invalid_index_is_dropped_and_rebuilt_whether_writers_pay_for_it_or_not(
    items: str, phase: str, is_ready: bool
) -> None:
    leave_invalid(items, phase)
    assert rows(
        items, "SELECT indisvalid, indisready FROM pg_index WHERE indexrelid = 'items_embedding_idx'::regclass"
    ) == [(False, is_ready)]
    heard = Heard()
    assert deploy(items, SPEC, reporter=heard.reporter).outcome == "rebuilt"
    assert "items_embedding_idx is INVALID" in heard.text
    assert state(items) == DECLARED
    assert nothing_left_to_do(items)


def test_an_index_that_somebody_else_builds_is_waited_for_and_the_builder_is_named(items: str) -> None:
    heard = Heard()
    with blocked_in(items, scene.OLD_SNAPSHOT):
        foreign = InBackground(lambda: run(items, BY_HAND.replace("INDEX", "INDEX CONCURRENTLY", 1)))
        pid = builder_in_phase(items, scene.OLD_SNAPSHOT)
        ours = InBackground(lambda: deploy(items, SPEC, reporter=heard.reporter))
        scene.wait_until(lambda: heard.lines)
    foreign.finish()
    assert ours.finish().outcome == "already-there"
    assert any(f"pid {pid}" in line for line in heard.lines)
    assert state(items) == DECLARED


def test_a_foreign_build_that_fails_meanwhile_is_cleaned_up_and_done_again(items: str) -> None:
    heard = Heard()
    with blocked_in(items, scene.OLD_SNAPSHOT):
        foreign = InBackground(lambda: run(items, BY_HAND.replace("INDEX", "INDEX CONCURRENTLY", 1)))
        pid = builder_in_phase(items, scene.OLD_SNAPSHOT)
        ours = InBackground(lambda: deploy(items, SPEC, reporter=heard.reporter))
        scene.wait_until(lambda: heard.lines)
        run(items, f"SELECT pg_cancel_backend({pid})")
        with pytest.raises(psycopg.errors.QueryCanceled):
            foreign.finish()
    assert ours.finish().outcome == "rebuilt"
    assert state(items) == DECLARED


def test_a_foreign_build_that_outlasts_the_wait_is_told_and_left_alone(items: str) -> None:
    with blocked_in(items, scene.OLD_SNAPSHOT):
        foreign = InBackground(lambda: run(items, BY_HAND.replace("INDEX", "INDEX CONCURRENTLY", 1)))
        pid = builder_in_phase(items, scene.OLD_SNAPSHOT)
        with pytest.raises(LockNotObtained, match=f"pid {pid}") as raised:
            deploy(items, SPEC, wait_seconds=0.5)
        assert "nothing was changed" in raised.value.next_step
    foreign.finish()
    assert state(items) == DECLARED


def test_a_duplicate_under_another_name_stays_and_is_warned_of_with_the_statement_that_drops_it(items: str) -> None:
    run(items, BY_HAND.replace("items_embedding_idx", "by_hand"))
    deployed = deploy(items, SPEC)
    assert deployed.outcome == "built"
    assert state(items) == [("by_hand", True), ("items_embedding_idx", True)]
    (warning,) = deployed.warnings
    assert 'DROP INDEX CONCURRENTLY "public"."by_hand";' in warning


def test_an_ivfflat_index_beside_is_left_alone(items: str) -> None:
    run(items, "CREATE INDEX old ON items USING ivfflat (embedding vector_cosine_ops) WITH (lists = 5)")
    (warning,) = deploy(items, SPEC).warnings
    assert "the planner chooses the cheaper one" in warning
    assert state(items) == [("items_embedding_idx", True), ("old", True)]


def test_what_a_reindex_left_over_is_not_taken_for_the_declared_index(items: str) -> None:
    run(
        items,
        BY_HAND,
        BY_HAND.replace("items_embedding_idx", "items_embedding_idx_ccnew"),
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_embedding_idx_ccnew'::regclass",
    )
    assert deploy(items, SPEC).outcome == "already-there"


def test_an_empty_table_gets_its_index(items: str) -> None:
    run(items, "TRUNCATE items")
    assert deploy(items, SPEC).outcome == "built"


def test_rows_without_a_vector_do_not_count_and_do_not_hinder(items: str) -> None:
    run(items, "UPDATE items SET embedding = NULL WHERE id < 100")
    heard = Heard()
    deploy(items, SPEC, reporter=heard.reporter)
    assert "on 200 rows" in heard.text


def test_dropping_is_online_and_dropping_again_says_that_there_was_none(items: str) -> None:
    deploy(items, SPEC)
    heard = Heard()
    assert drop(items, SPEC, reporter=heard.reporter) is True
    assert drop(items, SPEC, reporter=heard.reporter) is False
    assert heard.lines == [
        "dropped index public.items_embedding_idx",
        "index public.items_embedding_idx does not exist",
    ]
    assert state(items) == []


@pytest.mark.parametrize(
    "limit", ["statement_timeout = '50ms'", "lock_timeout = '1ms'", "transaction_timeout = '50ms'"]
)
def test_a_time_limit_of_the_database_does_not_cut_a_build_off(many_items: str, limit: str) -> None:
    run(
        many_items,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET "
        + limit.replace("'", "''")
        + "', current_database()); END $$",
    )
    deployed = deploy(many_items, SPEC)
    assert deployed.build_seconds > 0.05
    assert state(many_items) == DECLARED


def test_an_already_exists_is_postgresqls_own_words_wherever_the_extension_lies(items: str) -> None:
    deploy(items, SPEC)
    run(items, "CREATE SCHEMA extensions", "ALTER EXTENSION vector SET SCHEMA extensions")
    heard = Heard()
    acknowledge(items, SPEC, reporter=heard.reporter)
    assert heard.notices == ['NOTICE: relation "items_embedding_idx" already exists, skipping']
