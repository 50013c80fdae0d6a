"""A partitioned table gets its index online: the parents alone, each partition concurrently, then attached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from pgvector import Vector
from psycopg import sql

import scene
from by_hand import rows, run
from everindex.errors import GenerationUnproven, IndexDefinitionDiffers, SpecIllegal
from everindex.index.catalog.index_parts import size_of
from everindex.index.catalog.observe import observe
from everindex.index.deploy.drop import drop, rollback
from everindex.index.deploy.executor import Deployed, deploy
from everindex.index.plan.ddl import create_statement
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import HEAL
from everindex.index.plan.steps import Build, CreateOnParent, DropIndex, Reindex
from everindex.index.recall.probe import probe_statement
from everindex.index.recall.shortfall import standing_shortfall
from everindex.index.recall.verify import prove_all, prove_index, prove_planner
from everindex.index.spec import IndexSpec
from everindex.pg.connections import connect
from everindex.pg.vector_type import register_all_types
from everindex.units import size_text
from scene import InBackground, builder_in_phase

SPEC = IndexSpec(name="parts_idx", table="parts", column="e", recall_floor=0.5)
OTHER_M = replace(SPEC, m=8)
VECTORS = (
    "SELECT n, (SELECT array_agg(sin(n * d * 0.37)::real) FROM generate_series(1, 8) d)::vector "
    "FROM generate_series({}) n"
)
RANGES = (
    "CREATE TABLE parts (id int, e vector(8)) PARTITION BY RANGE (id)",
    "CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (200)",
    "CREATE TABLE parts_empty PARTITION OF parts FOR VALUES FROM (200) TO (300)",
)


def fill_partitions(conninfo: str) -> None:
    run(conninfo, "CREATE EXTENSION vector", *RANGES, f"INSERT INTO parts {VECTORS.format('0, 199')}", "ANALYZE parts")


@pytest.fixture
def parts(cluster: Any) -> Iterator[str]:
    """`parts`: two partitions of 100 vectors of 8 dimensions and an empty one."""
    conninfo = cluster.database(cluster.template("parts", fill_partitions))
    yield conninfo
    cluster.drop(conninfo)


def heal(conninfo: str, spec: IndexSpec = SPEC) -> Deployed:
    return deploy(conninfo, spec, policy=HEAL)


def steps(conninfo: str, spec: IndexSpec = SPEC) -> tuple[Any, ...]:
    with connect(conninfo) as connection:
        return make_plan(spec, observe(connection, spec), policy=HEAL).steps


def attached(conninfo: str, name: str = SPEC.name, *, schema: str = "public") -> dict[str, bool]:
    """Table → is its index valid, for the parent's index and all that hang on it."""
    return dict(
        rows(
            conninfo,
            "SELECT t.relname, i.indisvalid FROM pg_partition_tree(%s::regclass) p "
            "JOIN pg_index i ON i.indexrelid = p.relid JOIN pg_class t ON t.oid = i.indrelid ORDER BY 1",
            sql.Identifier(schema, name).as_string(None),
        )
    )


def vector_indexes(conninfo: str) -> set[str]:
    return {
        name
        for (name,) in rows(
            conninfo,
            "SELECT c.relname FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE m.amname IN ('hnsw', 'ivfflat')",
        )
    }


def oids_of_leaves(conninfo: str, name: str = SPEC.name) -> set[int]:
    return {
        oid for (oid,) in rows(conninfo, "SELECT relid::oid FROM pg_partition_tree(%s::regclass) WHERE isleaf", name)
    }


ALL_VALID = {"parts": True, "parts_low": True, "parts_high": True, "parts_empty": True}


def searches_use_leaves(conninfo: str, *, leaves: int) -> bool:
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        plan = connection.execute("EXPLAIN SELECT id FROM parts ORDER BY e <=> '[1,2,3,4,5,6,7,8]' LIMIT 3").fetchall()
    return sum("Index Scan using" in line for (line,) in plan) == leaves


def test_full_and_empty_partitions_get_their_indexes_and_searches_use_them(parts: str) -> None:
    assert heal(parts).outcome == "built"
    assert attached(parts) == ALL_VALID
    assert steps(parts) == ()
    assert searches_use_leaves(parts, leaves=3)
    with connect(parts) as connection:
        assert [proof.holds for proof in prove_all(connection, SPEC)] == [True, True, True]
    assert deploy(parts, SPEC).outcome == "already-there"


def test_a_partitioned_table_without_partitions_has_its_index_at_once(parts: str) -> None:
    run(parts, "DROP TABLE parts_low, parts_high, parts_empty")
    heal(parts)
    assert attached(parts) == {"parts": True}
    assert steps(parts) == ()


def test_list_partitions_of_two_levels_with_a_default_are_built_from_the_deepest_up(parts: str) -> None:
    run(
        parts,
        "DROP TABLE parts",
        "CREATE TABLE parts (id int, region text, e vector(8)) PARTITION BY LIST (region)",
        "CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu') PARTITION BY RANGE (id)",
        "CREATE TABLE parts_eu_old PARTITION OF parts_eu FOR VALUES FROM (0) TO (50)",
        "CREATE TABLE parts_eu_new PARTITION OF parts_eu FOR VALUES FROM (50) TO (100)",
        "CREATE TABLE parts_none PARTITION OF parts FOR VALUES IN ('none') PARTITION BY RANGE (id)",
        "CREATE TABLE parts_rest PARTITION OF parts DEFAULT",
        f"INSERT INTO parts (id, e, region) SELECT n, e, CASE WHEN n < 100 THEN 'eu' ELSE 'us' END "
        f"FROM ({VECTORS.format('0, 149')}) AS made(n, e)",
    )
    heal(parts)
    tables = ("parts", "parts_eu", "parts_eu_old", "parts_eu_new", "parts_none", "parts_rest")
    assert attached(parts) == dict.fromkeys(tables, True)
    assert steps(parts) == ()
    assert searches_use_leaves(parts, leaves=3)
    heal(parts, OTHER_M)
    assert attached(parts) == dict.fromkeys(tables, True)
    rollback(parts, OTHER_M)
    assert attached(parts) == dict.fromkeys(tables, True)
    assert drop(parts, OTHER_M) is True
    assert vector_indexes(parts) == set()


def test_a_partitions_own_index_of_the_declared_definition_is_attached_and_not_built_again(parts: str) -> None:
    run(parts, "CREATE INDEX theirs ON parts_high USING hnsw (e vector_cosine_ops)")
    (theirs,) = rows(parts, "SELECT 'theirs'::regclass::oid")[0]
    heal(parts)
    assert attached(parts) == ALL_VALID
    assert theirs in oids_of_leaves(parts)
    assert len(vector_indexes(parts)) == 4


def test_a_partitions_own_index_of_another_definition_stays_and_the_declared_one_is_built_beside(parts: str) -> None:
    run(parts, "CREATE INDEX theirs ON parts_high USING hnsw (e vector_cosine_ops) WITH (m = 5)")
    heal(parts)
    assert attached(parts) == ALL_VALID
    assert "theirs" in vector_indexes(parts)
    assert len(vector_indexes(parts)) == 5


def test_a_partition_that_is_attached_later_without_an_index_is_given_one_and_the_others_stay(parts: str) -> None:
    heal(parts)
    before = oids_of_leaves(parts)
    # ATTACH builds the index itself, under ACCESS EXCLUSIVE; ON ONLY leaves the parent without the newcomer.
    run(
        parts,
        "DROP INDEX parts_idx",
        "CREATE TABLE parts_late (id int, e vector(8))",
        f"INSERT INTO parts_late {VECTORS.format('300, 349')}",
        "ALTER TABLE parts ATTACH PARTITION parts_late FOR VALUES FROM (300) TO (400)",
        "CREATE INDEX parts_idx ON ONLY parts USING hnsw (e vector_cosine_ops)",
    )
    assert attached(parts) == {"parts": False}
    heal(parts)
    assert attached(parts) == {**ALL_VALID, "parts_late": True}
    assert steps(parts) == ()
    assert before


def test_a_partition_made_after_the_index_needs_nothing(parts: str) -> None:
    heal(parts)
    run(parts, "CREATE TABLE parts_late PARTITION OF parts FOR VALUES FROM (300) TO (400)")
    assert steps(parts) == ()
    assert attached(parts) == {**ALL_VALID, "parts_late": True}


def test_what_an_interrupted_deploy_has_attached_is_not_built_again(parts: str) -> None:
    run(
        parts,
        "CREATE INDEX parts_idx ON ONLY parts USING hnsw (e vector_cosine_ops)",
        "CREATE INDEX half ON parts_low USING hnsw (e vector_cosine_ops)",
        "ALTER INDEX parts_idx ATTACH PARTITION half",
    )
    built = [step.spec.table for step in steps(parts) if isinstance(step, Build)]
    assert built == ["parts_empty", "parts_high"]
    heal(parts)
    assert attached(parts) == ALL_VALID


def test_an_unfinished_index_of_a_partition_is_dropped_and_built_again(parts: str) -> None:
    (name,) = (step.spec.name for step in steps(parts) if isinstance(step, Build) and step.spec.table == "parts_low")
    with scene.blocked_in(parts, scene.OLD_SNAPSHOT, table="parts_low"):
        statement = f"CREATE INDEX CONCURRENTLY {name} ON parts_low USING hnsw (e vector_cosine_ops)"
        build = InBackground(lambda: run(parts, statement))
        run(parts, f"SELECT pg_terminate_backend({builder_in_phase(parts, scene.OLD_SNAPSHOT)})")
        with pytest.raises(psycopg.OperationalError):
            build.finish()
    heal(parts)
    assert attached(parts) == ALL_VALID
    assert len(vector_indexes(parts)) == 4


def test_an_invalid_index_that_is_attached_is_rebuilt_in_its_place(parts: str) -> None:
    heal(parts)
    (child,) = rows(
        parts,
        "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indexrelid "
        "WHERE i.indrelid = 'parts_low'::regclass",
    )[0]
    run(
        parts,
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('{child}'::regclass, 'parts_idx'::regclass)",
    )
    assert Reindex(schema="public", name=child) in steps(parts)
    heal(parts)
    assert attached(parts) == ALL_VALID
    assert steps(parts) == ()


def test_the_rest_of_a_partitions_failed_reindex_is_dropped(parts: str) -> None:
    heal(parts)
    (child,) = rows(parts, "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'parts_low'::regclass")[0]
    with scene.blocked_in(parts, scene.OLD_SNAPSHOT, table="parts_low"):
        reindexing = InBackground(lambda: run(parts, f"REINDEX INDEX CONCURRENTLY {child}"))
        run(parts, f"SELECT pg_terminate_backend({builder_in_phase(parts, scene.OLD_SNAPSHOT)})")
        with pytest.raises(psycopg.OperationalError):
            reindexing.finish()
    assert f"{child}_ccnew" in vector_indexes(parts)
    heal(parts)
    assert vector_indexes(parts) == {"parts_idx", *(index for index in vector_indexes(parts) if "_cc" not in index)}
    assert attached(parts) == ALL_VALID
    assert not any(index.endswith("_ccnew") for index in vector_indexes(parts))


def test_drift_of_a_partitioned_index_is_a_generation_with_rollback(parts: str) -> None:
    heal(parts)
    before = oids_of_leaves(parts)
    with pytest.raises(IndexDefinitionDiffers):
        deploy(parts, OTHER_M)
    assert heal(parts, OTHER_M).outcome == "replaced"
    assert attached(parts) == ALL_VALID
    assert oids_of_leaves(parts).isdisjoint(before)
    assert attached(parts, "parts_idx__prev") == dict.fromkeys(ALL_VALID, False)  # out of the planner's sight
    assert steps(parts, OTHER_M) == ()
    assert searches_use_leaves(parts, leaves=3)
    rollback(parts, OTHER_M)
    assert oids_of_leaves(parts) == before
    assert attached(parts) == ALL_VALID
    assert drop(parts, SPEC) is True
    assert vector_indexes(parts) == set()


def test_an_index_is_rebuilt_on_evidence_again_and_again_and_each_rebuild_builds_every_part(parts: str) -> None:
    """A generation is renamed when it takes over, its parts are not: the names of the next one's are others."""
    heal(parts)
    evidence = replace(HEAL, rebuild_because="recall@10 was 0.61")
    seen = [oids_of_leaves(parts)]
    for _ in range(4):
        assert deploy(parts, SPEC, policy=evidence).outcome == "replaced"
        seen.append(oids_of_leaves(parts))
        assert attached(parts) == ALL_VALID
        assert oids_of_leaves(parts, f"{SPEC.name}__prev") == seen[-2]  # the one before is whole
        assert steps(parts) == ()
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert len(vector_indexes(parts)) == 6 + 2  # three parts and the whole (which the access method counts), twice
    rollback(parts, SPEC)
    assert oids_of_leaves(parts) == seen[-2]


def test_a_rebuild_on_evidence_that_was_killed_at_a_part_goes_on_with_that_part(parts: str) -> None:
    """The unfinished part bears a name that no part of another generation has, whichever those are by then."""
    heal(parts)
    evidence = replace(HEAL, rebuild_because="recall@10 was 0.61")
    deploy(parts, SPEC, policy=evidence)
    with connect(parts) as connection:
        plan = make_plan(SPEC, observe(connection, SPEC), policy=evidence)
        builds = [step for step in plan.steps if isinstance(step, Build) and step.spec.table == "parts_low"]
        assert len(builds) == 1
        connection.execute(create_statement(builds[0].spec, observe(connection, builds[0].spec)))
        run(parts, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{builds[0].name}'::regclass")
        again = make_plan(SPEC, observe(connection, SPEC), policy=evidence).steps
    names = [step.name for step in again if isinstance(step, (Build, DropIndex))]
    assert names.count(builds[0].name) == 2  # dropped, and built again
    run(parts, f"DROP INDEX {SPEC.name}__prev")
    assert deploy(parts, SPEC, policy=evidence).outcome == "replaced"
    assert attached(parts) == ALL_VALID
    assert len(vector_indexes(parts)) == 6 + 2


def test_a_half_made_successor_of_an_older_declaration_does_not_hinder_the_next(parts: str) -> None:
    heal(parts)
    run(parts, "CREATE INDEX parts_idx__next ON ONLY parts USING hnsw (e vector_l2_ops)")
    assert heal(parts, OTHER_M).outcome == "replaced"
    assert attached(parts) == ALL_VALID
    assert steps(parts, OTHER_M) == ()


def begin_and_leave(conninfo: str, spec: IndexSpec) -> str:
    """A deploy of `spec` that ended after it had built the index of one partition, and before it attached it; its name."""
    with connect(conninfo) as connection:
        observed = observe(connection, spec)
    planned = make_plan(spec, observed, policy=HEAL).steps
    parent = next(step for step in planned if isinstance(step, CreateOnParent))
    child = next(step for step in planned if isinstance(step, Build))
    run(conninfo, create_statement(parent.spec, observed, concurrently=False, on_only=True))
    run(conninfo, create_statement(child.spec, observed))
    return child.spec.name


def test_what_was_built_on_partitions_for_a_declaration_that_has_changed_since_is_dropped(parts: str) -> None:
    heal(parts)
    before = vector_indexes(parts)
    left = begin_and_leave(parts, OTHER_M)
    assert left in vector_indexes(parts)
    third = begin_and_leave(
        parts, replace(SPEC, name="another_idx", m=5)
    )  # of another declaration: none of our business
    assert heal(parts, replace(SPEC, m=7)).outcome == "replaced"
    assert left not in vector_indexes(parts)
    assert third in vector_indexes(parts)
    assert attached(parts) == ALL_VALID

    left = begin_and_leave(parts, replace(SPEC, m=9))
    heal(parts)  # back to the first declaration, whose indexes have been kept
    assert left not in vector_indexes(parts)
    assert before <= vector_indexes(parts)
    assert attached(parts) == ALL_VALID


def test_a_successor_that_was_refused_leaves_no_index_of_a_partition(parts: str) -> None:
    run(
        parts,
        f"INSERT INTO parts SELECT 100 + n % 100, e FROM ({VECTORS.format('200, 1500')}) AS made(n, e)",
        "ANALYZE parts",
    )
    heal(parts)
    before = vector_indexes(parts)
    with pytest.raises(GenerationUnproven, match="failed its acceptance test") as raised:
        heal(parts, replace(SPEC, m=2, ef_construction=4, recall_floor=1.0))
    assert "that of the serving one" in raised.value.why
    assert vector_indexes(parts) == before
    assert attached(parts) == ALL_VALID


def test_a_part_with_other_options_is_told_with_the_statements_that_give_it_the_declared_ones(parts: str) -> None:
    run(parts, "CREATE INDEX of_low ON parts_low USING hnsw (e vector_cosine_ops) WITH (m = 8)")
    heal(parts)
    part = rows(parts, "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = indexrelid "
                "WHERE indrelid = 'parts_low'::regclass AND c.relispartition")[0][0]  # fmt: skip
    run(parts, sql.SQL("ALTER INDEX {} SET (m = 8)").format(sql.Identifier(part)))
    with connect(parts) as connection:
        told, _ = prove_index(connection, SPEC)
        assert told.holds
        assert f"its part {part} on public.parts_low is not as declared: m is 8, declared 16" in told.sentence
    run(parts, *(statement for statement in str(told.next_step).split(" ;") if part in statement))
    with connect(parts) as connection:
        assert "its part" not in prove_index(connection, SPEC)[0].sentence


def test_a_successor_for_which_nothing_served_takes_over_on_all_partitions_with_a_finding(parts: str) -> None:
    run(parts, f"INSERT INTO parts SELECT 100 + n % 100, e FROM ({VECTORS.format('200, 1500')}) AS made(n, e)")
    heal(parts)
    first_dimension = replace(SPEC, expression="subvector(e, 1, 1)::vector(1)", recall_floor=1.0)
    done = heal(parts, first_dimension)
    assert any("nothing else serves the declared search" in warning for warning in done.warnings)
    assert attached(parts) == ALL_VALID
    with connect(parts) as connection:
        standing = standing_shortfall(connection, first_dimension, observe(connection, first_dimension))
    assert standing is not None
    assert standing.recall < 1
    assert steps(parts, first_dimension) == ()


def test_names_of_partitions_are_data(parts: str) -> None:
    schema = 'Other "schema" 100%'
    name, column = "é" * 31, "%s {x} ::"
    run(
        parts,
        sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)),
        sql.SQL("CREATE TABLE {} (id int, {} vector(3)) PARTITION BY LIST (id)").format(
            sql.Identifier(schema, name), sql.Identifier(column)
        ),
        *(
            sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES IN ({})").format(
                sql.Identifier(schema, partition), sql.Identifier(schema, name), sql.Literal(number)
            )
            for number, partition in enumerate(("n" * 63, "n" * 62 + '"', "apostrophe'; --", "100%"))
        ),
        sql.SQL("INSERT INTO {} VALUES (0, '[1,2,3]'), (2, '[3,2,1]'), (3, '[1,1,1]')").format(
            sql.Identifier(schema, name)
        ),
    )
    spec = IndexSpec(name="索引 %(x)s", table=name, column=column, schema=schema)
    heal(parts, spec)
    assert len(attached(parts, spec.name, schema=schema)) == 5
    assert all(attached(parts, spec.name, schema=schema).values())
    heal(parts, replace(spec, m=8))
    rollback(parts, replace(spec, m=8))
    assert steps(parts, spec) == ()
    assert drop(parts, spec) is True
    assert vector_indexes(parts) == set()


def test_halfvec_of_a_partitioned_table_is_built_on_each_partition(parts: str) -> None:
    heal(parts, replace(SPEC, opclass="halfvec_cosine_ops"))
    assert attached(parts) == ALL_VALID
    assert steps(parts, replace(SPEC, opclass="halfvec_cosine_ops")) == ()


def test_a_foreign_table_among_the_partitions_is_refused_before_anything_is_made(parts: str) -> None:
    run(
        parts,
        "CREATE FOREIGN DATA WRAPPER nothing",
        "CREATE SERVER far FOREIGN DATA WRAPPER nothing",
        "CREATE FOREIGN TABLE parts_far PARTITION OF parts FOR VALUES FROM (500) TO (600) SERVER far",
    )
    with pytest.raises(SpecIllegal, match="partitioned table parts") as raised:
        heal(parts)
    assert "parts_far is a foreign table" in raised.value.why
    assert vector_indexes(parts) == set()


def leaf_of(conninfo: str, table: str) -> str:
    return str(
        rows(conninfo, "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass", table)[0][0]
    )


def invalidate(conninfo: str, index: str) -> None:
    run(conninfo, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass")
    run(conninfo, "ALTER TABLE parts_low SET (fillfactor = 99)")  # plans are made anew, as after every DDL


def proofs_of(conninfo: str, spec: IndexSpec = SPEC) -> list[tuple[bool | None, str]]:
    with connect(conninfo) as connection:
        return [(proof.holds, proof.sentence) for proof in prove_all(connection, spec)]


def test_an_invalid_part_under_a_valid_whole_is_seen_and_rebuilt_in_its_place(parts: str) -> None:
    heal(parts)
    child = leaf_of(parts, "parts_low")
    invalidate(parts, child)
    assert attached(parts) == ALL_VALID | {"parts_low": False}
    index, planner, recall = proofs_of(parts)
    assert index == (
        False,
        f"index parts_idx is incomplete: its part {child} on public.parts_low is INVALID",
    )
    assert planner[0] is recall[0] is None
    assert Reindex(schema="public", name=child) in steps(parts)
    heal(parts)
    assert attached(parts) == ALL_VALID
    assert steps(parts) == ()
    assert [holds for holds, _ in proofs_of(parts)] == [True, True, True]


def test_an_invalid_part_two_levels_down_is_seen_and_rebuilt_whatever_its_m(parts: str) -> None:
    run(
        parts,
        "DROP TABLE parts",
        "CREATE TABLE parts (id int, e vector(8)) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_lowest PARTITION OF parts_low FOR VALUES FROM (0) TO (50)",
        "CREATE TABLE parts_lower PARTITION OF parts_low FOR VALUES FROM (50) TO (100)",
        "CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (200)",
        f"INSERT INTO parts {VECTORS.format('0, 199')}",
        "CREATE INDEX of_another_m ON parts_lower USING hnsw (e vector_cosine_ops) WITH (m = 5)",
        "CREATE INDEX parts_idx ON parts USING hnsw (e vector_cosine_ops)",
        "ANALYZE parts",
    )
    assert steps(parts) == ()
    run(
        parts,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid IN "
        "(SELECT relid FROM pg_partition_tree('parts_idx') WHERE level > 0)",
    )
    assert set(attached(parts).items()) >= {("parts", True), ("parts_low", False), ("parts_lower", False)}
    assert proofs_of(parts)[0][1].endswith("and 1 more are INVALID")
    heal(parts)
    assert set(attached(parts).values()) == {True}
    assert steps(parts) == ()


def test_the_size_of_a_partitioned_index_is_that_of_its_parts(parts: str) -> None:
    heal(parts)
    expected = rows(parts, "SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree('parts_idx')")[0][0]
    with connect(parts) as connection:
        observed = observe(connection, SPEC)
    found = next(index for index in observed.indexes if index.name == "parts_idx")
    assert size_of(observed, found) == expected > 0
    assert f", {size_text(expected)})" in proofs_of(parts)[0][1]


def test_a_partition_that_every_search_reads_in_full_fails_the_proof_and_a_small_one_does_not(parts: str) -> None:
    run(
        parts,
        f"INSERT INTO parts SELECT n % 100, e FROM ({VECTORS.format('1000, 6000')}) AS made(n, e)",
        "ANALYZE parts",
    )
    heal(parts)
    index, planner, _ = proofs_of(parts)
    assert (index[0], planner[0]) == (True, True)
    run(
        parts,
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER far",
        "CREATE FOREIGN TABLE parts_far PARTITION OF parts FOR VALUES FROM (500) TO (600) SERVER far",
    )
    assert steps(parts) == ()
    with connect(parts) as connection:
        observed = observe(connection, SPEC)
        register_all_types(connection)
        proof = prove_planner(
            connection,
            SPEC,
            observed,
            statement=probe_statement(SPEC, observed, k=3),
            parameters={"vector": Vector([1.0] * 8)},
            settings=(),
            rows=observed.estimated_rows,
        )
    assert proof.holds is False
    assert "every search reads partition parts_far in full" in proof.sentence
    assert "Foreign Scan on parts_far" in proof.sentence
