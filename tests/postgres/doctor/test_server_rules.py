"""Rules about settings, memory, the planner and sessions: each finds the bad state on a real server, and is good after."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from by_hand import run
from everindex.index.spec import IndexSpec
from examining import answers, good_after_its_fix, is_good, make_items, the_finding

DECLARED = (IndexSpec(name="items_idx", table="items", column="embedding"),)


def make_wide(conninfo: str) -> None:
    make_items(conninfo, rows=150, dimensions=1536, options="m = 2, ef_construction = 4")


@pytest.fixture
def items(cluster: Any) -> Iterator[str]:
    """300 vectors with an HNSW index."""
    conninfo = cluster.database(cluster.template("doctor_items", make_items))
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture
def wide(cluster: Any) -> Iterator[str]:
    """150 vectors of 1536 dimensions with an HNSW index, in a table that says it has 20,000."""
    conninfo = cluster.database(cluster.template("doctor_wide", make_wide))
    run(conninfo, "UPDATE pg_class SET reltuples = 20000 WHERE relname = 'items'")
    yield conninfo
    cluster.drop(conninfo)


def name_of(conninfo: str) -> str:
    return str(conninfo_to_dict(conninfo)["dbname"])


def keep(conninfo: str, *settings: str) -> None:
    """Keeps settings for the database."""
    run(conninfo, *(f"ALTER DATABASE {name_of(conninfo)} SET {setting}" for setting in settings))


@contextmanager
def a_role(conninfo: str, name: str, *grants: str) -> Iterator[str]:
    """The connection string of a new role without privileges but those granted; dropped at the end."""
    run(conninfo, f"DROP ROLE IF EXISTS {name}", f"CREATE ROLE {name} LOGIN", *grants)
    try:
        yield make_conninfo(conninfo, user=name)
    finally:
        run(conninfo, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


# --- memory and parallel builds -------------------------------------------------------------------------------------


def test_a_graph_that_outgrows_maintenance_work_mem_is_found_with_the_memory_it_needs(wide: str) -> None:
    keep(wide, "maintenance_work_mem = '64MB'")
    finding = the_finding(wide, "maintenance-work-mem-small")
    assert "20000 rows" in finding.sentence
    assert finding.fix is not None
    # (4 × 1536 + 8 + 32 × 2 + 205) bytes a row and 15 % more, in MB.
    assert finding.fix.statements == ("SET maintenance_work_mem = '141MB'",)
    good_after_its_fix(wide, "maintenance-work-mem-small", finding)


def test_the_memory_of_a_declared_index_is_the_engines_business(wide: str) -> None:
    keep(wide, "maintenance_work_mem = '64MB'")
    assert answers(wide, "maintenance-work-mem-small", declared=DECLARED) == []


def test_a_table_that_was_never_analyzed_leaves_the_memory_unknown(wide: str) -> None:
    run(wide, "UPDATE pg_class SET reltuples = -1 WHERE relname = 'items'")
    assert [answer.status for answer in answers(wide, "maintenance-work-mem-small")] == ["unknown"]


def test_builds_and_autovacuum_workers_that_want_more_than_the_machine_has_are_found(items: str) -> None:
    keep(items, "maintenance_work_mem = '2GB'", "effective_cache_size = '4GB'")
    finding = the_finding(items, "maintenance-memory-multiplies")
    assert "2 GB and 3 autovacuum workers" in finding.sentence
    assert finding.fix is not None
    assert finding.fix.statements[0].startswith("ALTER SYSTEM SET autovacuum_work_mem = ")
    keep(items, "maintenance_work_mem = '64MB'")
    is_good(items, "maintenance-memory-multiplies")


def test_a_build_that_wants_more_than_dev_shm_has_is_found_and_one_process_is_the_fix(items: str) -> None:
    keep(items, "maintenance_work_mem = '2000GB'")
    finding = the_finding(items, "shared-memory-small")
    assert "2000 GB" in finding.sentence
    good_after_its_fix(items, "shared-memory-small", finding)


def test_the_dev_shm_of_a_server_elsewhere_is_unknown(items: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from everindex.doctor.rules import shared_memory_small

    monkeypatch.setattr(shared_memory_small, "shared_memory_bytes", lambda examined: None)
    (answer,) = answers(items, "shared-memory-small")
    assert answer.status == "unknown"
    assert "not on this machine" in answer.sentence


def test_builds_that_may_not_run_in_parallel_are_found(items: str) -> None:
    keep(items, "max_parallel_maintenance_workers = 0")
    finding = the_finding(items, "parallel-build-disabled")
    assert finding.fix is not None
    assert finding.fix.statements[0] == "ALTER SYSTEM SET max_parallel_maintenance_workers = '2'"
    is_good(items, "parallel-build-disabled", first=["SET max_parallel_maintenance_workers = 2"])


def test_a_table_whose_vectors_are_stored_apart_is_found_to_build_serially(wide: str) -> None:
    finding = the_finding(wide, "min-parallel-table-scan")
    assert "20000 rows" in finding.sentence
    good_after_its_fix(wide, "min-parallel-table-scan", finding)
    assert answers(wide, "min-parallel-table-scan", declared=DECLARED) == []
    run(wide, "ALTER TABLE items SET (parallel_workers = 2)")
    is_good(wide, "min-parallel-table-scan")


# --- the planner ----------------------------------------------------------------------------------------------------


def test_the_cost_of_a_spinning_disk_under_wide_vectors_is_found(wide: str) -> None:
    keep(wide, "random_page_cost = 4")
    finding = the_finding(wide, "random-page-cost-default")
    good_after_its_fix(wide, "random-page-cost-default", finding)


def test_the_cost_does_not_matter_for_vectors_that_are_stored_with_their_row(items: str) -> None:
    keep(items, "random_page_cost = 4")
    assert answers(items, "random-page-cost-default") == []


@pytest.mark.parametrize("method", ["enable_indexscan", "enable_seqscan", "enable_sort"])
def test_a_planner_method_that_is_off_for_the_database_is_found(items: str, method: str) -> None:
    keep(items, f"{method} = off")
    finding = the_finding(items, "planner-methods-off")
    assert finding.sentence.startswith(f'{method} is off for every role in database "{name_of(items)}"')
    good_after_its_fix(items, "planner-methods-off", finding)


def test_a_planner_method_that_is_off_for_another_role_is_found_with_its_name(items: str) -> None:
    with a_role(items, "Web 1".replace(" ", "_")):
        run(
            items,
            "ALTER ROLE Web_1 SET enable_indexscan = off",
            f"ALTER ROLE Web_1 IN DATABASE {name_of(items)} SET enable_sort = off",
        )
        found = [answer for answer in answers(items, "planner-methods-off") if answer.status == "finding"]
        assert [answer.fix.statements for answer in found if answer.fix] == [
            ('ALTER ROLE "web_1" RESET enable_indexscan',),
            (f'ALTER ROLE "web_1" IN DATABASE "{name_of(items)}" RESET enable_sort',),
        ]
        for answer in found:
            assert answer.fix is not None
            run(items, *answer.fix.statements)
        is_good(items, "planner-methods-off")


def test_a_planner_method_that_the_connection_itself_switches_off_is_found(items: str) -> None:
    own = make_conninfo(items, options="-c enable_indexscan=off")
    finding = the_finding(own, "planner-methods-off")
    assert "by the options of this connection" in finding.sentence
    is_good(items, "planner-methods-off")


def test_generic_plans_by_force_are_found(items: str) -> None:
    keep(items, "plan_cache_mode = force_generic_plan")
    good_after_its_fix(items, "plan-cache-forced-generic", the_finding(items, "plan-cache-forced-generic"))


# --- settings of pgvector -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "words"), [("10", "more than 10 rows"), ("800", "is slower"), ("5000", "1 to 1000")])
def test_an_ef_search_that_truncates_slows_or_is_refused_is_found(items: str, value: str, words: str) -> None:
    keep(items, f"hnsw.ef_search = {value}")  # on a session without the library, where it is a placeholder
    finding = the_finding(items, "ef-search-setting")
    assert words in finding.sentence
    good_after_its_fix(items, "ef-search-setting", finding)


def test_an_ef_search_in_between_is_the_operators_choice(items: str) -> None:
    keep(items, "hnsw.ef_search = 100")
    is_good(items, "ef-search-setting")


def test_searches_that_stop_early_are_noted_until_iterative_scans_are_on(items: str) -> None:
    finding = the_finding(items, "iterative-scan-off")
    assert "ef_search = 40" in finding.sentence
    good_after_its_fix(items, "iterative-scan-off", finding)


@pytest.mark.parametrize("name", ["hnsw.ef_serch", "hsnw.ef_search"])
def test_a_misspelled_setting_is_found_with_the_one_that_is_meant(items: str, name: str) -> None:
    keep(items, f"{name} = 100")
    finding = the_finding(items, "misspelled-hnsw-setting")
    assert "did you mean hnsw.ef_search?" in finding.sentence
    assert finding.fix is not None
    assert finding.fix.is_safe
    good_after_its_fix(items, "misspelled-hnsw-setting", finding)


def test_settings_of_others_with_a_dot_are_none_of_ours(items: str) -> None:
    keep(items, "myapp.tenant = 7", "hnsw.ef_search = 60")
    is_good(items, "misspelled-hnsw-setting")


# --- sessions and time limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lock_timeout", "statement_timeout", "transaction_timeout"])
def test_a_time_limit_that_would_cut_a_build_off_is_found(items: str, name: str) -> None:
    keep(items, f"{name} = '30s'")
    finding = the_finding(items, "timeouts-cut-builds")
    assert f"{name} is 30s" in finding.sentence
    assert finding.fix is not None
    assert finding.fix.statements == (f"SET {name} = 0",)
    run(items, f"ALTER DATABASE {name_of(items)} RESET {name}")
    is_good(items, "timeouts-cut-builds")


def test_a_time_limit_counts_for_the_owner_of_the_vectors_only(items: str) -> None:
    with a_role(items, "limited"):
        run(items, "ALTER ROLE limited SET statement_timeout = '30s'")
        is_good(items, "timeouts-cut-builds")
        run(items, "GRANT CREATE ON SCHEMA public TO limited", "ALTER TABLE items OWNER TO limited")
        assert 'for role "limited"' in the_finding(items, "timeouts-cut-builds").sentence


def test_a_session_that_holds_its_snapshot_is_found_by_pid_and_query(items: str) -> None:
    with psycopg.connect(items, application_name="nightly") as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM items")
        finding = the_finding(items, "old-snapshots", older_than_seconds=0)
        assert f"pid {holder.info.backend_pid} (nightly, role everindex)" in finding.sentence
        assert "SELECT count(*) FROM items" in finding.sentence
        is_good(items, "old-snapshots")  # younger than five minutes
        good_after_its_fix(items, "old-snapshots", finding, older_than_seconds=0)
        holder.close()


def test_sessions_that_a_role_may_not_see_are_unknown_and_not_good(items: str) -> None:
    with a_role(items, "blind") as blind, psycopg.connect(items) as holder:
        holder.execute("SELECT 1")
        assert [answer.status for answer in answers(blind, "old-snapshots")] == ["unknown"]
        note = the_finding(blind, "statistics-hidden")
        good_after_its_fix_of_superuser(items, blind, "statistics-hidden", note)
        is_good(blind, "old-snapshots")


def good_after_its_fix_of_superuser(admin: str, conninfo: str, slug: str, finding: Any) -> None:
    run(admin, *finding.fix.statements)
    is_good(conninfo, slug)


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_of_more_than_fifty_vector_indexes_is_found(items: str) -> None:
    is_good(items, "locks-per-table")
    run(items, "CREATE TABLE tenants (tenant int, embedding vector(3))")
    run(
        items,
        *(f"CREATE INDEX t{n} ON tenants USING hnsw (embedding vector_l2_ops) WHERE tenant = {n}" for n in range(51)),
    )
    finding = the_finding(items, "locks-per-table")
    assert 'table "public"."tenants" has 51 vector indexes' in finding.sentence
    assert re.search(r"room for \d{3,} locks", finding.sentence)
    run(items, "DROP INDEX t7")
    is_good(items, "locks-per-table")


def test_row_security_on_a_vector_table_is_found_until_scans_go_on(items: str) -> None:
    assert answers(items, "rls-post-filter") == []
    run(
        items,
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON items USING (id % 10 = 0)",
    )
    finding = the_finding(items, "rls-post-filter")
    assert "1 policy" in finding.sentence
    good_after_its_fix(items, "rls-post-filter", finding)


def test_operators_outside_of_the_search_path_are_found(empty: str) -> None:
    run(empty, 'CREATE SCHEMA "ext x"', 'CREATE EXTENSION vector SCHEMA "ext x"')
    finding = the_finding(empty, "extension-schema-not-in-search-path")
    assert "search_path" in finding.sentence
    good_after_its_fix(empty, "extension-schema-not-in-search-path", finding)
    run(empty, """SELECT '[1]'::vector <=> '[1]'""")


def test_a_schema_that_the_role_may_not_use_is_found_and_granted_by_the_fix(empty: str) -> None:
    run(empty, "CREATE SCHEMA extensions", "CREATE EXTENSION vector SCHEMA extensions")
    keep(empty, "search_path = public, extensions")
    with a_role(empty, "outsider") as outsider:
        finding = the_finding(outsider, "extension-schema-not-in-search-path")
        assert 'role "outsider" has no USAGE on schema "extensions"' in finding.sentence
        assert finding.fix is not None
        run(empty, *finding.fix.statements)
        is_good(outsider, "extension-schema-not-in-search-path")


# --- roles, statistics, replication ---------------------------------------------------------------------------------


def test_a_superuser_is_noted_and_another_role_is_good(items: str) -> None:
    assert 'role "everindex" is a superuser' in the_finding(items, "app-role-is-superuser").sentence
    with a_role(items, "plain") as plain:
        is_good(plain, "app-role-is-superuser")


def test_counters_that_were_reset_are_noted_for_a_week(items: str) -> None:
    is_good(items, "statistics-young")
    run(items, "SELECT pg_stat_reset()")
    assert "only 0 s old" in the_finding(items, "statistics-young").sentence
    with psycopg.connect(items) as connection:
        row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    is_good(items, "statistics-young", now=row[0] + timedelta(days=7, minutes=1))


def test_counting_that_is_off_for_the_database_is_found_as_autovacuum_off(items: str) -> None:
    keep(items, "track_counts = off")
    assert "track_counts is off" in the_finding(items, "autovacuum-off").sentence
    run(items, f"ALTER DATABASE {name_of(items)} RESET track_counts")
    is_good(items, "autovacuum-off")


def test_a_published_table_with_a_vector_index_is_noted(items: str) -> None:
    is_good(items, "logical-replication")
    run(items, "SET client_min_messages = error", "CREATE PUBLICATION shop FOR TABLE items")
    assert 'table "public"."items" is published by "shop"' in the_finding(items, "logical-replication").sentence
    run(items, "DROP PUBLICATION shop")
    is_good(items, "logical-replication")


def test_a_subscribed_table_with_a_vector_index_is_noted(items: str) -> None:
    run(
        items,
        "CREATE SUBSCRIPTION far CONNECTION 'host=127.0.0.1 port=1' PUBLICATION shop WITH (connect = false, slot_name = NONE)",
        # What REFRESH PUBLICATION writes once the publisher answers.
        "INSERT INTO pg_subscription_rel SELECT oid, 'items'::regclass, 'r', NULL FROM pg_subscription WHERE subname = 'far'",
    )
    try:
        assert 'subscribed to by "far"' in the_finding(items, "logical-replication").sentence
    finally:
        run(items, "DELETE FROM pg_subscription_rel", "DROP SUBSCRIPTION far")
    is_good(items, "logical-replication")
