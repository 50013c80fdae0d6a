"""The index engine on every server there is: states, generations and partitions come out the same, or are refused clearly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from by_hand import rows, run
from everindex.errors import ExtensionTooOld
from everindex.index.catalog.observe import observe
from everindex.index.deploy.drop import drop, rollback
from everindex.index.deploy.executor import Deployed, deploy
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import HEAL, MIGRATE_CHANGED
from everindex.index.recall.verify import prove_all
from everindex.index.spec import IndexSpec
from everindex.pg.connections import connect
from every_server import KINDS, Kind, server

SPEC = IndexSpec(name="t_idx", table="t", column="e", recall_floor=0.5)
OTHER_M = replace(SPEC, m=8)
VECTORS = (
    "SELECT n, (SELECT array_agg(sin(n * d * 0.37)::real) FROM generate_series(1, 16) d)::vector "
    "FROM generate_series(0, 199) n"
)
DECLARED = "CREATE INDEX t_idx ON t USING hnsw (e vector_cosine_ops)"


@pytest.fixture(scope="module", params=[pytest.param(kind, id=f"{kind.postgres}-{kind.pgvector}") for kind in KINDS])
def kind_and_server(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, str]]:
    kind: Kind = request.param
    with server(kind.binaries()) as admin:
        yield kind, admin


@pytest.fixture
def kind(kind_and_server: tuple[Kind, str]) -> Kind:
    return kind_and_server[0]


@pytest.fixture
def table(kind_and_server: tuple[Kind, str], request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with `t`: 200 vectors of 16 dimensions, no index."""
    admin = kind_and_server[1]
    name = sql.Identifier("engine")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        conninfo = make_conninfo(admin, dbname="engine")
        run(conninfo, "CREATE EXTENSION vector", "CREATE TABLE t (id int, e vector(16))", f"INSERT INTO t {VECTORS}")
        run(conninfo, "ANALYZE t")
        yield conninfo
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def heal(conninfo: str, spec: IndexSpec) -> Deployed:
    return deploy(conninfo, spec, policy=HEAL)


def is_reached(conninfo: str, spec: IndexSpec) -> bool:
    with connect(conninfo) as connection:
        found = make_plan(spec, observe(connection, spec), policy=HEAL).steps == ()
        return found and all(proof.holds for proof in prove_all(connection, spec, samples=10))


def oid(conninfo: str, name: str) -> int | None:
    found: int | None = rows(conninfo, "SELECT to_regclass(%s)::oid", name)[0][0]
    return found


def test_it_builds_proves_and_drops(table: str) -> None:
    assert heal(table, SPEC).outcome == "built"
    assert is_reached(table, SPEC)
    assert heal(table, SPEC).outcome == "already-there"
    assert drop(table, SPEC) is True
    assert oid(table, "t_idx") is None


def test_it_builds_at_once_on_an_empty_table(table: str) -> None:
    run(table, "TRUNCATE t")
    assert heal(table, SPEC).outcome == "built"
    assert is_reached(table, SPEC)


def test_it_heals_an_index_that_is_invalid(table: str) -> None:
    run(table, DECLARED, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_idx'::regclass")
    broken = oid(table, "t_idx")
    assert heal(table, SPEC).outcome == "rebuilt"
    assert oid(table, "t_idx") != broken
    assert is_reached(table, SPEC)


def test_it_swaps_a_generation_and_takes_it_back_without_a_build(table: str) -> None:
    heal(table, SPEC)
    old = oid(table, "t_idx")
    assert heal(table, OTHER_M).outcome == "replaced"
    new = oid(table, "t_idx")
    assert oid(table, "t_idx__prev") == old
    assert is_reached(table, OTHER_M)
    rollback(table, OTHER_M)
    assert (oid(table, "t_idx"), oid(table, "t_idx__prev")) == (old, new)
    assert is_reached(table, SPEC)
    assert heal(table, OTHER_M).remarks != ()
    assert deploy(table, OTHER_M, policy=MIGRATE_CHANGED).build_seconds == 0
    assert oid(table, "t_idx") == new


def test_its_owner_does_the_same_without_being_a_superuser(table: str) -> None:
    run(
        table,
        "DROP ROLE IF EXISTS engine_owner",
        "CREATE ROLE engine_owner LOGIN",
        "ALTER TABLE t OWNER TO engine_owner",
    )
    run(table, "GRANT CREATE ON SCHEMA public TO engine_owner")
    owner = make_conninfo(table, user="engine_owner")
    heal(owner, replace(SPEC, m=32))
    assert heal(owner, replace(SPEC, m=4)).outcome == "replaced"
    assert is_reached(owner, replace(SPEC, m=4))


@pytest.mark.parametrize("opclass", ["halfvec_cosine_ops", "bit_hamming_ops", "vector_l1_ops"])
def test_it_indexes_what_is_derived_of_a_column_or_says_which_pgvector_it_takes(
    table: str, kind: Kind, opclass: str
) -> None:
    spec = replace(SPEC, opclass=opclass)
    heal(table, SPEC)
    if tuple(map(int, kind.pgvector.split("."))) >= (0, 7, 0):
        assert heal(table, spec).outcome == "replaced"
        assert is_reached(table, spec)
        return
    with pytest.raises(ExtensionTooOld, match=f"pgvector {kind.pgvector} has no opclass {opclass}") as raised:
        heal(table, spec)
    assert "ALTER EXTENSION vector UPDATE" in raised.value.next_step
    assert is_reached(table, SPEC)


def test_it_indexes_some_rows_only(table: str) -> None:
    spec = replace(SPEC, predicate="ID>=50")
    assert heal(table, spec).outcome == "built"
    assert is_reached(table, spec)


def test_it_indexes_each_partition_and_attaches_it(table: str) -> None:
    run(
        table,
        "ALTER TABLE t RENAME TO source",
        "CREATE TABLE t (id int, e vector(16)) PARTITION BY RANGE (id)",
        "CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE t_rest PARTITION OF t DEFAULT PARTITION BY LIST (id)",
        "CREATE TABLE t_rest_all PARTITION OF t_rest DEFAULT",
        "INSERT INTO t SELECT * FROM source",
        "ANALYZE t",
    )
    for spec in (SPEC, OTHER_M):
        heal(table, spec)
        assert is_reached(table, spec)
        valid = rows(
            table,
            "SELECT bool_and(i.indisvalid), count(*) FROM pg_partition_tree('t_idx') p "
            "JOIN pg_index i ON i.indexrelid = p.relid",
        )
        assert valid == [(True, 4)]
    rollback(table, OTHER_M)
    assert is_reached(table, SPEC)
