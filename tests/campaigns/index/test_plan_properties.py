"""Whatever state a database is in: a deploy reaches the declaration, and so does one that was left after any step."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from by_hand import run
from everindex.errors import SpecIllegal
from everindex.index.catalog.drift import is_as_declared
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import answers_declared, declared_index
from everindex.index.deploy import executor as apply
from everindex.index.deploy.deployment import Deployment
from everindex.index.deploy.drop import drop, rollback
from everindex.index.deploy.executor import deploy
from everindex.index.plan.invariants import broken_invariant
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import DEPLOY, HEAL, MIGRATE_CHANGED
from everindex.index.plan.steps import DropIndex, Prove, Swap
from everindex.index.reporter import Reporter
from everindex.index.spec import MAX_NAME_BYTES, IndexSpec
from everindex.pg.connections import connect, lift_time_limits

SPEC = IndexSpec(name="i", table="t", column="e")
HALFVEC = replace(SPEC, opclass="halfvec_cosine_ops")

#: What may stand on the table: each an index by its name, its definition and whether it is valid.
NAMES = ("i", "i__next", "i__prev", "i_ccnew", "i_ccold1", "by_hand", "by_hand_too")
DEFINITIONS = {
    "declared": "hnsw (e vector_cosine_ops)",
    "other m": "hnsw (e vector_cosine_ops) WITH (m = 4)",
    "other opclass": "hnsw (e vector_l2_ops)",
    "halfvec": "hnsw ((e::halfvec(8)) halfvec_cosine_ops)",
    "ivfflat": "ivfflat (e vector_cosine_ops) WITH (lists = 1)",
    "partial": "hnsw (e vector_cosine_ops) WHERE id > 5",
}
COMMENTS = (
    None,
    "somebody's words",
    'everindex: previous generation {"keep_until": "2001-01-01T00:00:00+00:00", "is_hidden": true}',
    'everindex: previous generation {"keep_until": "2999-01-01T00:00:00+00:00", "is_hidden": true}',
    'everindex: serving {"refused": ["000000000000"]}',
    "everindex: previous generation {broken",
)


@dataclass(frozen=True)
class Thing:
    """One index of a starting state."""

    name: str
    definition: str
    is_valid: bool
    comment: str | None


things = st.builds(
    Thing,
    name=st.sampled_from(NAMES),
    definition=st.sampled_from(("declared", "declared", "declared", *DEFINITIONS)),
    is_valid=st.sampled_from((True, True, False)),
    comment=st.sampled_from((None, None, *COMMENTS)),
)
states = st.lists(things, max_size=4, unique_by=lambda thing: thing.name)
specs = st.sampled_from((SPEC, SPEC, HALFVEC, replace(SPEC, predicate="id > 5"), replace(SPEC, m=4)))
FAST = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)
LONG = settings(FAST, max_examples=250)


@pytest.fixture(scope="module")
def table(cluster: Any) -> Iterator[str]:
    """`t`: 60 vectors of 8 dimensions; each example makes its own indexes on it."""
    conninfo = cluster.database()
    run(
        conninfo,
        "CREATE EXTENSION vector",
        "CREATE TABLE t (id int, e vector(8))",
        "INSERT INTO t SELECT n, (SELECT array_agg(sin(n * d * 0.37)::real) FROM generate_series(1, 8) d)::vector "
        "FROM generate_series(0, 59) n",
        "ANALYZE t",
    )
    yield conninfo
    cluster.drop(conninfo)


def bring_to(conninfo: str, state: list[Thing]) -> None:
    """Nothing but these indexes on the table."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for (name,) in connection.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 't'::regclass"
        ).fetchall():
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        for thing in state:
            connection.execute(f"CREATE INDEX {thing.name} ON t USING {DEFINITIONS[thing.definition]}")
            if thing.comment is not None:
                connection.execute(
                    sql.SQL("COMMENT ON INDEX {} IS {}").format(sql.Identifier(thing.name), sql.Literal(thing.comment))
                )
            if not thing.is_valid:
                connection.execute(
                    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", (thing.name,)
                )


def look(conninfo: str, spec: IndexSpec) -> Observed:
    with connect(conninfo) as connection:
        return observe(connection, spec)


def heal(conninfo: str, spec: IndexSpec) -> None:
    deploy(conninfo, spec, policy=DEPLOY)


def reaches(conninfo: str, spec: IndexSpec) -> bool:
    """The declared name is a valid index of the declaration, and there is nothing left to plan."""
    observed = look(conninfo, spec)
    found = declared_index(spec, observed)
    return (
        found is not None
        and found.is_valid
        and is_as_declared(spec, observed, found)
        and make_plan(spec, observed, policy=HEAL).steps == ()
    )


def strangers(observed: Observed, spec: IndexSpec) -> set[tuple[str, int]]:
    """Valid indexes under names that are nobody's but the user's, and of another definition than the declared one."""
    return {
        (index.name, index.oid)
        for index in observed.indexes
        if index.name.startswith("by_hand") and index.is_valid and not is_as_declared(spec, observed, index)
    }


def every_state_is_healed(conninfo: str, state: list[Thing], spec: IndexSpec) -> None:
    bring_to(conninfo, state)
    before = look(conninfo, spec)
    heal(conninfo, spec)
    assert reaches(conninfo, spec)
    assert strangers(before, spec) <= strangers(look(conninfo, spec), spec)
    assert deploy(conninfo, spec, policy=HEAL).outcome == "already-there"


def every_prefix_converges(conninfo: str, state: list[Thing], spec: IndexSpec) -> None:
    """Step by step, each looked at; the deploy is left after the n-th and another one begun, for every n."""
    for steps_done in itertools.count():
        bring_to(conninfo, state)
        if not do_steps(conninfo, spec, at_most=steps_done):
            return
        heal(conninfo, spec)
        assert reaches(conninfo, spec)


def do_steps(conninfo: str, spec: IndexSpec, *, at_most: int) -> bool:
    """Does that many steps of a deploy; False when there are not so many. Nothing that serves is dropped before it may."""
    deployment = Deployment(conninfo=conninfo, spec=spec, reporter=Reporter(), deadline=time.monotonic() + 60)
    with connect(conninfo) as connection:
        lift_time_limits(connection)
        swapped = False
        for _ in range(at_most):
            observed = observe(connection, spec)
            plan = make_plan(spec, observed, policy=HEAL, proven=frozenset(deployment.proven))
            if not plan.steps:
                return False
            assert (
                broken_invariant(plan.situation, plan.steps, policy=HEAL, proven=frozenset(deployment.proven)) is None
            )
            step = plan.steps[0]
            serving = declared_index(spec, observed)
            if isinstance(step, DropIndex):
                dropped = next(index for index in observed.indexes if index.name == step.name)
                assert not (dropped.is_valid and only_server(observed, dropped)), step
            if isinstance(step, Swap):
                successor = next(index for index in observed.indexes if index.name == step.successor)
                # Proven now or before; or as declared beside an index that answers other searches.
                assert (
                    successor.oid in deployment.proven
                    or step.successor.endswith("__prev")
                    or (serving is not None and not answers_declared(spec, observed, serving))
                )
                swapped = True
            apply.take_step(deployment, connection, step, observed)
            after = declared_index(spec, observe(connection, spec))
            if serving is not None and serving.is_valid:
                assert after is not None, step
                assert after.is_valid, step
                assert after.oid == serving.oid or swapped or isinstance(step, Prove)
    return True


def only_server(observed: Observed, dropped: ObservedIndex) -> bool:
    """Whether nothing valid would be left on the table."""
    return not any(index.is_valid and index.oid != dropped.oid for index in observed.indexes)


@given(state=states, spec=specs)
@FAST
def test_every_state_is_healed(table: str, state: list[Thing], spec: IndexSpec) -> None:
    every_state_is_healed(table, state, spec)


@given(state=states, spec=specs)
@settings(FAST, max_examples=5)
def test_a_deploy_that_was_left_after_any_step_is_finished_by_the_next(
    table: str, state: list[Thing], spec: IndexSpec
) -> None:
    every_prefix_converges(table, state, spec)


@pytest.mark.long
@given(state=states, spec=specs)
@LONG
def test_very_many_states_are_healed(table: str, state: list[Thing], spec: IndexSpec) -> None:
    every_state_is_healed(table, state, spec)


@pytest.mark.long
@given(state=states, spec=specs)
@settings(LONG, max_examples=100)
def test_in_very_many_states_a_deploy_that_was_left_is_finished(
    table: str, state: list[Thing], spec: IndexSpec
) -> None:
    every_prefix_converges(table, state, spec)


# --- names -----------------------------------------------------------------------------------------------------------

#: Pieces that have broken tools: quotes, placeholders, comments, other alphabets, and enough to fill 63 bytes.
PIECES = (
    "a",
    "A",
    " ",
    '"',
    "'",
    "%",
    "%s",
    "%(x)s",
    "{}",
    ":x",
    "\\",
    ";",
    "--",
    "$$",
    ".",
    "é",
    "索",
    "🐘",
    "x" * 40,
)
names = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)


def works_or_is_refused(conninfo: str, name: str, table: str, column: str, schema: str) -> None:
    try:
        spec = IndexSpec(name=name, table=table, column=column, schema=schema)
    except SpecIllegal:
        assert any(len(given.encode()) > MAX_NAME_BYTES for given in (name, table, column, schema))
        return
    if name == table or re.match("pg_", schema):
        return
    where = sql.Identifier(schema, table)
    run(
        conninfo,
        sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)),
        sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)),
        sql.SQL("CREATE TABLE {} (id int, {} vector(3))").format(where, sql.Identifier(column)),
        sql.SQL("INSERT INTO {} SELECT n, ARRAY[n, 1, 2 * n]::real[]::vector FROM generate_series(1, 20) n").format(
            where
        ),
    )
    try:
        assert deploy(conninfo, spec).outcome == "built"
        halfvec = replace(spec, opclass="halfvec_cosine_ops", recall_floor=0.1)
        assert deploy(conninfo, halfvec, policy=MIGRATE_CHANGED).outcome == "replaced"
        rollback(conninfo, halfvec)
        assert make_plan(spec, look(conninfo, spec), policy=HEAL).steps == ()
        found = declared_index(spec, look(conninfo, spec))
        assert found is not None
        assert (found.name, found.is_valid) == (name, True)
        assert drop(conninfo, spec) is True
        assert look(conninfo, spec).indexes == ()
    finally:
        run(conninfo, sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


@given(name=names, table=names, column=names.filter(lambda text: text != "id"), schema=names)
@settings(FAST, max_examples=8)
def test_any_name_works_exactly_or_is_refused(table_free: str, name: str, table: str, column: str, schema: str) -> None:
    works_or_is_refused(table_free, name, table, column, schema)


@pytest.mark.long
@given(name=names, table=names, column=names.filter(lambda text: text != "id"), schema=names)
@settings(LONG, max_examples=150)
def test_very_many_names_work_exactly_or_are_refused(
    table_free: str, name: str, table: str, column: str, schema: str
) -> None:
    works_or_is_refused(table_free, name, table, column, schema)


@pytest.fixture(scope="module")
def table_free(cluster: Any) -> Iterator[str]:
    """A database with the extension and nothing else."""
    conninfo = cluster.database()
    run(conninfo, "CREATE EXTENSION vector")
    yield conninfo
    cluster.drop(conninfo)
