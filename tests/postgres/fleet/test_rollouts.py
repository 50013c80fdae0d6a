"""Rollouts over real databases: poisoned targets, resume, gates, schemas, tenants of a column, interruptions."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from clusters import Cluster
from everindex.articles.collections.registry import declared_indexes
from everindex.articles.connect import connect_instance
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.importers import read_source, sample_source
from everindex.fleet.condition import inspect
from everindex.fleet.results import FleetReport, TargetResult, Verb
from everindex.fleet.rollout import Pace, run
from everindex.fleet.rollout_state import RolloutState
from everindex.fleet.targets import Target, read_targets
from everindex.fleet.work import Orders
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.deploy.executor import deploy
from everindex.index.plan.policy import DEPLOY
from everindex.index.spec import IndexSpec
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.pg.connections import Connection
from everindex.pg.locks import advisory_lock
from everindex.settings import Settings

ROWS = 60
PACE = Pace(canaries=1, wave_size=10, budget=9, workers=3, per_server=3, wait_seconds=0)


class Quiet:
    """Watches nothing; a test hooks into `ended`."""

    def __init__(self, on_end: Callable[[TargetResult], None] = lambda result: None) -> None:
        self.begun_names: list[str] = []
        self._on_end = on_end

    def inspected(self, targets: int, servers: int) -> None:
        pass

    def begun(self, name: str) -> None:
        self.begun_names.append(name)

    def ended(self, result: TargetResult) -> None:
        self._on_end(result)

    def tick(self) -> None:
        pass


def declared_here(connection: Connection) -> list[IndexSpec]:
    return [effective_spec(connection, spec) for spec in declared_indexes(connection)]


def roll(
    verb: Verb,
    targets: Sequence[Target],
    *,
    state: Path | None = None,
    pace: Pace = PACE,
    orders: dict[str, object] | None = None,
    observer: Quiet | None = None,
    stop: threading.Event | None = None,
) -> FleetReport:
    given = Orders(verb=verb, declared=declared_here, samples=10, lock_wait_seconds=1.0)
    with RolloutState(state, verb=verb) as kept:
        return run(
            targets, replace(given, **(orders or {})), pace=pace, state=kept, observer=observer or Quiet(),
            stop=stop or threading.Event(),
        )  # fmt: skip


def outcomes(report: FleetReport) -> dict[str, str]:
    return {result.name: result.outcome for result in report.results}


def execute(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def index_names(conninfo: str) -> set[str]:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_am a ON a.oid = c.relam "
            "WHERE amname = 'hnsw' AND indisvalid"
        ).fetchall()
    return {str(row[0]) for row in rows}


@pytest.fixture(scope="module")
def before_index(cluster: Cluster) -> str:
    """The template of databases with ROWS articles and no vector index."""

    def fill(conninfo: str) -> None:
        runner.upgrade(conninfo, BEFORE_INDEX, wait_seconds=0)
        with connect_instance(conninfo, settings=Settings()) as instance:
            instance.import_rows(itertools.islice(read_source(str(sample_source())), ROWS))

    return cluster.template("fleet_before_index", fill)


@pytest.fixture
def tenants(cluster: Cluster, before_index: str) -> Iterator[list[Target]]:
    """Four targets, each a database of its own before the revision of the index."""
    made = [Target(name=f"tenant{number}", conninfo=cluster.database(before_index)) for number in range(4)]
    yield made
    for target in made:
        cluster.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                sql.Identifier(str(conninfo_to_dict(target.conninfo)["dbname"]))
            )
        )


def test_every_good_target_is_done_around_those_that_cannot_be(
    cluster: Cluster, tenants: list[Target], tmp_path: Path
) -> None:
    good, poisoned = tenants[:3], tenants[3]
    execute(poisoned.conninfo, "ALTER TABLE articles ALTER COLUMN embedding TYPE vector USING embedding::vector")
    (unusable,) = read_targets("name,url\nunusable,postgresql://u:pa/ss@h/x\n", where="t.csv")
    targets = [
        *good, poisoned, unusable, replace(good[1], name="twice"),
        Target(name="missing", conninfo=cluster.conninfo("no_such_database")),
        Target(name="silent", conninfo="postgresql://u@127.0.0.1:1/x"),
    ]  # fmt: skip
    state = tmp_path / "state"
    migrated = roll("migrate", targets, state=state)
    kinds = {result.name: result.kind for result in migrated.results}
    assert {name: kinds[name] for name in ("unusable", "twice", "missing", "silent")} == {
        "unusable": "unusable", "twice": "duplicate", "missing": "database-missing", "silent": "unreachable",
    }  # fmt: skip
    expected = {f"tenant{n}": "done" for n in range(3)} | {
        "tenant3": "failed", "unusable": "failed", "twice": "skipped", "missing": "failed", "silent": "failed",
    }  # fmt: skip
    assert outcomes(migrated) == expected
    assert migrated.exit_status == 1
    assert all(index_names(target.conninfo) == {EMBEDDING_INDEX.name} for target in good)

    execute(good[2].conninfo, f"DROP INDEX {EMBEDDING_INDEX.name}")
    again = roll("migrate", targets, state=state)
    assert outcomes(again) == expected | {"tenant0": "unchanged", "tenant1": "unchanged"}
    assert again.results[0].sentence == "done before, and the catalog is the same."
    assert index_names(good[2].conninfo) == {EMBEDDING_INDEX.name}

    execute(
        poisoned.conninfo, "ALTER TABLE articles ALTER COLUMN embedding TYPE vector(1536) USING embedding::vector(1536)"
    )
    assert outcomes(roll("migrate", tenants, state=state))["tenant3"] == "done"
    deployed = roll("deploy", tenants)
    assert set(outcomes(deployed).values()) == {"unchanged"}
    assert deployed.exit_status == 0
    assert all(result.recall is not None and result.recall > 0.9 for result in deployed.results)
    assert roll("verify", tenants).exit_status == 0
    assert roll("status", tenants).exit_status == 0
    assert roll("plan", tenants).exit_status == 0


def test_a_canary_that_fails_stops_everything_and_the_rest_is_listed(tenants: list[Target]) -> None:
    execute(tenants[2].conninfo, "DROP TABLE articles CASCADE")
    marked = [replace(target, is_canary=target is tenants[2]) for target in tenants]
    report = roll("deploy", marked, orders={"verifies": False})
    assert outcomes(report) == {
        "tenant0": "not-begun", "tenant1": "not-begun", "tenant2": "failed", "tenant3": "not-begun",
    }  # fmt: skip
    assert report.exit_status == 1
    assert "'tenant2'" in str(report.closed)
    assert index_names(tenants[0].conninfo) == set()


def test_a_failed_check_is_a_finding_and_leaves_everything_as_it_is(tenants: list[Target]) -> None:
    report = roll("verify", tenants[:1])
    assert outcomes(report) == {"tenant0": "finding"}
    assert report.exit_status == 3
    assert index_names(tenants[0].conninfo) == set()


def test_a_stop_lists_what_was_not_begun_and_the_next_run_continues(tenants: list[Target], tmp_path: Path) -> None:
    stop = threading.Event()
    report = roll("migrate", tenants, state=tmp_path / "s", observer=Quiet(lambda result: stop.set()), stop=stop)
    assert outcomes(report) == {
        "tenant0": "done",
        "tenant1": "not-begun",
        "tenant2": "not-begun",
        "tenant3": "not-begun",
    }
    assert report.exit_status == 130
    assert outcomes(roll("migrate", tenants, state=tmp_path / "s")) == {
        "tenant0": "unchanged", "tenant1": "done", "tenant2": "done", "tenant3": "done",
    }  # fmt: skip


def test_a_database_that_is_dropped_in_the_middle_fails_alone(cluster: Cluster, tenants: list[Target]) -> None:
    def drop(result: TargetResult) -> None:
        if result.name == "tenant0":
            name = str(conninfo_to_dict(tenants[2].conninfo)["dbname"])
            cluster.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    report = roll("heal", tenants, observer=Quiet(drop), orders={"verifies": False})
    assert outcomes(report) == {"tenant0": "done", "tenant1": "done", "tenant2": "failed", "tenant3": "done"}
    assert report.results[2].slug == "database-missing"


def test_what_another_process_works_on_is_busy_and_the_others_are_done(tenants: list[Target]) -> None:
    with advisory_lock(tenants[1].conninfo, "build", wait_seconds=0):
        report = roll("deploy", tenants, orders={"verifies": False})
    assert outcomes(report) == {"tenant0": "done", "tenant1": "failed", "tenant2": "done", "tenant3": "done"}
    assert (report.results[1].kind, report.results[1].slug) == ("busy", "lock-not-obtained")


def test_schemas_of_one_database_are_targets_of_their_own(cluster: Cluster, empty: str) -> None:
    execute(empty, "CREATE EXTENSION vector", "CREATE SCHEMA one", 'CREATE SCHEMA "t wo"')
    targets = [Target(name=name, conninfo=empty, schema=name) for name in ("one", "t wo", "three")]
    report = roll("migrate", targets)
    assert outcomes(report) == {"one": "done", "t wo": "done", "three": "failed"}
    assert report.results[2].kind == "schema-missing"
    assert outcomes(roll("deploy", targets[:2])) == {"one": "unchanged", "t wo": "unchanged"}
    assert {result.kind for result in roll("status", targets[:2]).results} == {"head"}
    assert inspect(Target(name="x", conninfo=empty), wait_seconds=0, is_ours=True).kind == "other-schema"


def test_tenants_of_a_column_that_earn_an_index_get_one(filled: str) -> None:
    targets = [Target(name="shared", conninfo=filled, tenant_column="category")]
    orders: dict[str, object] = {"tenant_rows": 50, "tenant_indexes": 2, "verifies": False}
    planned = roll("plan", targets, orders=orders)
    assert planned.exit_status == 3
    assert len(planned.results[0].did) == 2
    done = roll("deploy", targets, orders=orders)
    assert outcomes(done) == {"shared": "done"}
    assert len(index_names(filled)) == 3
    assert outcomes(roll("deploy", targets, orders=orders)) == {"shared": "unchanged"}
    wrong = roll("deploy", [replace(targets[0], tenant_column="no_such")], orders=orders)
    assert outcomes(wrong) == {"shared": "failed"}


def test_a_rollback_that_was_interrupted_is_not_done_twice(filled: str, tmp_path: Path) -> None:
    deploy(filled, replace(EMBEDDING_INDEX, m=8), policy=DEPLOY)
    target, state = Target(name="one", conninfo=filled), tmp_path / "state"

    def definition() -> str:
        with psycopg.connect(filled) as connection:
            row = connection.execute("SELECT pg_get_indexdef(%s::regclass)", (EMBEDDING_INDEX.name,)).fetchone()
        return str(row and row[0])

    assert "m='8'" in definition()
    report = roll("rollback", [target], state=state)
    assert outcomes(report) == {"one": "done"}, report.results[0].sentence
    assert "m='8'" not in definition()
    # As if the process had died after the swap and before its record.
    lines = state.read_text().splitlines(keepends=True)
    state.write_text("".join(line for line in lines if '"end"' not in line and '"finished"' not in line))
    again = roll("rollback", [target], state=state)
    assert again.results[0].sentence == f"{EMBEDDING_INDEX.name} was rolled back before this command was continued."
    assert "m='8'" not in definition()


@pytest.mark.parametrize(
    ("statements", "kind"),
    [
        ([], "head"),
        (["UPDATE alembic_version SET version_num = 'abc'"], "unknown-revision"),
        (["UPDATE alembic_version SET version_num = 'b6a5ff4214f5'"], "behind"),
        (
            ["CREATE SCHEMA IF NOT EXISTS everindex_meta", "COMMENT ON SCHEMA everindex_meta IS 'everindex: attached'"],
            "attached",
        ),
        (["ALTER DATABASE {} SET default_transaction_read_only = on"], "read-only"),
    ],
)
def test_each_condition_is_told(migrated: str, statements: list[str], kind: str) -> None:
    name = str(conninfo_to_dict(migrated)["dbname"])
    execute(migrated, *(statement.format(name) for statement in statements))
    found = inspect(Target(name="x", conninfo=migrated), wait_seconds=0, is_ours=True)
    assert found.kind == kind
    assert found.sentence.endswith(".")


def test_a_role_without_rights_is_told_from_the_server_it_shares(cluster: Cluster, empty: str) -> None:
    name = str(conninfo_to_dict(empty)["dbname"])
    execute(empty, f"CREATE ROLE {name}_app LOGIN", "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    try:
        of_app = Target(name="app", conninfo=make_conninfo(empty, user=f"{name}_app"))
        found = inspect(of_app, wait_seconds=0, is_ours=True)
        assert found.kind == "extension-forbidden"
        assert found.server is not None
        assert found.server.startswith("started-")
        both = roll(
            "status", [of_app, Target(name="elsewhere", conninfo=make_conninfo(of_app.conninfo, dbname="postgres"))]
        )
        assert both.servers == 1
        owner = inspect(Target(name="owner", conninfo=empty), wait_seconds=0, is_ours=True)
        assert (owner.kind, "which this role may create" in owner.sentence) == ("not-migrated", True)
    finally:
        execute(empty, f"DROP ROLE {name}_app")
