"""The proofs: recall against brute force outside PostgreSQL, and a planner that must really take the index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgvector.psycopg import register_vector
from psycopg import sql

import scene
from by_hand import rows, run
from everindex.articles.verification import verify
from everindex.index.catalog.observe import observe
from everindex.index.deploy.executor import deploy
from everindex.index.recall.explain import FORCED, Settings
from everindex.index.recall.measurement import IndexUnused, Recall, measure_recall, wilson
from everindex.index.recall.proof import Proof
from everindex.index.recall.verify import prove_planner, prove_recall
from everindex.pg.connections import connect
from scene import SPEC

SEED = "everindex"
NAMES = frozenset({SPEC.name})


def search(k: int) -> sql.Composed:
    return sql.SQL(
        "SELECT id, embedding <=> %(vector)b AS distance FROM items WHERE embedding IS NOT NULL "
        "ORDER BY embedding <=> %(vector)b LIMIT {}"
    ).format(sql.Literal(k))


def beam(ef_search: int) -> Settings:
    return (("hnsw.ef_search", str(ef_search)),)


def measure(conninfo: str, *, ef_search: int, samples: int = 40, k: int = 10) -> Recall:
    with connect(conninfo) as connection:
        register_vector(connection)
        measured = measure_recall(
            connection,
            SPEC,
            observe(connection, SPEC),
            statement=search(k + 1),
            settings=(*beam(ef_search), *FORCED),
            names=NAMES,
            k=k,
            samples=samples,
            seed=SEED,
        )
    assert isinstance(measured, Recall)
    return measured


def brute_force(conninfo: str, vectors: np.ndarray, *, ef_search: int, samples: int, k: int = 10) -> float:
    """recall@k by numpy in float64, over the same sampled rows, by identity of the rows."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    hits = 0
    with psycopg.connect(conninfo) as connection:
        register_vector(connection)
        sampled = connection.execute(
            "SELECT id FROM items t ORDER BY md5(t.tableoid::text || t.ctid::text || %s) LIMIT %s", (SEED, samples)
        ).fetchall()
        for name, value in (*beam(ef_search), *FORCED):
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))
        for (number,) in sampled:
            order = np.argsort(1 - unit @ unit[number], kind="stable")
            truth = {int(other) for other in order[: k + 1]} - {number}
            answer = connection.execute(search(k + 1), {"vector": vectors[number]}).fetchall()
            hits += len(truth & {row[0] for row in answer})
    return hits / (samples * k)


@pytest.fixture(scope="module")
def indexed(cluster: Any) -> Any:
    conninfo = cluster.database(cluster.template("items_many", lambda made: scene.fill_items(made, count=3000)))
    deploy(conninfo, SPEC)
    yield conninfo
    cluster.drop(conninfo)


@pytest.mark.parametrize("ef_search", [10, 40, 200])
def test_measured_recall_agrees_with_brute_force_outside_postgresql(indexed: str, ef_search: int) -> None:
    vectors = scene.clusters_of_vectors(3000, scene.DIMENSIONS)
    measured = measure(indexed, ef_search=ef_search)
    expected = brute_force(indexed, vectors, ef_search=ef_search, samples=40)
    assert measured.recall == pytest.approx(expected, abs=0.02)
    assert measured.low <= measured.recall <= measured.high
    assert measured.queries == 40


def test_a_beam_of_one_is_reported_as_below_the_floor(indexed: str) -> None:
    with connect(indexed) as connection:
        register_vector(connection)
        proof = prove_recall(
            connection,
            SPEC,
            observe(connection, SPEC),
            statement=search(11),
            settings=beam(1),
            floor=0.95,
            samples=20,
        )
    assert proof.holds is False
    assert proof.recall is not None
    assert proof.recall.recall < 0.5
    assert "floor 0.95" in proof.sentence
    assert "ef_search" in (proof.next_step or "")


def test_the_time_limit_ends_a_measurement_but_not_before_five_queries(indexed: str) -> None:
    with connect(indexed) as connection:
        register_vector(connection)
        measured = measure_recall(
            connection,
            SPEC,
            observe(connection, SPEC),
            statement=search(11),
            settings=(*beam(40), *FORCED),
            names=NAMES,
            max_seconds=0,
        )
    assert isinstance(measured, Recall)
    assert measured.queries == 5


def test_a_table_of_one_vector_has_no_recall_and_that_is_no_failure(items: str) -> None:
    run(items, "DELETE FROM items WHERE id > 0")
    deploy(items, SPEC)
    with connect(items) as connection:
        register_vector(connection)
        proof = prove_recall(connection, SPEC, observe(connection, SPEC), statement=search(11), settings=(), floor=0.95)
    assert proof.holds is True
    assert "not measured" in proof.sentence


def test_recall_is_not_claimed_when_the_planner_would_not_take_the_index(indexed: str) -> None:
    with connect(indexed) as connection:
        register_vector(connection)
        statement = sql.SQL("SELECT id, 1 - (embedding <=> %(vector)b) FROM items ORDER BY 2 DESC LIMIT 11")
        observed = observe(connection, SPEC)
        measured = measure_recall(connection, SPEC, observed, statement=statement, settings=FORCED, names=NAMES)
        proof = prove_recall(connection, SPEC, observed, statement=statement, settings=(), floor=0.1)
    assert isinstance(measured, IndexUnused)
    assert proof.holds is False
    assert "was not measured" in proof.sentence
    assert "Seq Scan on items" in proof.sentence


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_wilsons_interval_holds_the_share_and_stays_between_0_and_1(one: int, other: int) -> None:
    found, wanted = min(one, other), max(one, other)
    low, high = wilson(found, wanted)
    assert 0 <= low <= high <= 1
    if wanted:
        assert low <= found / wanted + 1e-12
        assert found / wanted <= high + 1e-12
        assert high - low <= 2 / math.sqrt(wanted) + 1e-9
    else:
        assert (low, high) == (0.0, 1.0)


def planner_proof(conninfo: str) -> Proof:
    with connect(conninfo) as connection:
        register_vector(connection)
        count, vector = connection.execute("SELECT count(*), min(embedding::text)::vector FROM items").fetchone() or (
            0,
            None,
        )
        return prove_planner(
            connection,
            SPEC,
            observe(connection, SPEC),
            statement=search(10),
            parameters={"vector": vector},
            settings=(),
            rows=count,
        )


def test_on_a_tiny_table_the_planner_is_right_and_the_index_is_proven_usable(items: str) -> None:
    run(items, "DELETE FROM items WHERE id >= 100", "VACUUM ANALYZE items")
    deploy(items, SPEC)
    proof = planner_proof(items)
    assert proof.holds is True
    assert "rightly reads all of 100 rows (Seq Scan on items)" in proof.sentence
    assert "Index Scan using items_embedding_idx" in proof.sentence


def test_on_a_medium_table_the_planner_uses_the_index(indexed: str) -> None:
    proof = planner_proof(indexed)
    assert proof.holds is True
    assert proof.sentence == "the planner uses it for the application's search: Index Scan using items_embedding_idx"


@pytest.mark.parametrize("size", [100, 3000])
def test_index_scans_that_are_switched_off_for_the_database_fail_the_proof_whatever_the_size(
    many_items: str, size: int
) -> None:
    run(many_items, f"DELETE FROM items WHERE id >= {size}", "VACUUM ANALYZE items")
    deploy(many_items, SPEC)
    name = rows(many_items, "SELECT current_database()")[0][0]
    run(many_items, sql.SQL("ALTER DATABASE {} SET enable_indexscan = off").format(sql.Identifier(name)))
    proof = planner_proof(many_items)
    assert proof.holds is False
    assert "enable_indexscan is off (set by: database)" in proof.sentence
    assert "RESET enable_indexscan" in (proof.next_step or "")


def test_verify_of_a_database_with_index_scans_off_fails_on_the_planner_and_still_measures_the_index(
    filled: str,
) -> None:
    name = rows(filled, "SELECT current_database()")[0][0]
    run(filled, sql.SQL("ALTER DATABASE {} SET enable_indexscan = off").format(sql.Identifier(name)))
    found = verify(filled, floor=0.9, samples=10)
    assert not found.holds
    assert [proof.holds for proof in found.proofs] == [True, True, False, True]
    assert "enable_indexscan is off" in found.proofs[2].sentence


def test_an_index_whose_options_lie_is_found_out_by_its_recall(filled: str) -> None:
    # ALTER INDEX SET changes what the catalog says and not the graph: only measuring shows it.
    run(
        filled,
        "DROP INDEX articles_embedding_hnsw_idx",
        "CREATE INDEX articles_embedding_hnsw_idx ON articles USING hnsw (embedding vector_cosine_ops) "
        "WITH (m = 2, ef_construction = 4)",
        "ALTER INDEX articles_embedding_hnsw_idx SET (m = 16, ef_construction = 64)",
    )
    found = verify(filled, floor=1.0, samples=30)
    assert [proof.holds for proof in found.proofs] == [True, True, True, False]
    assert found.proofs[3].recall is not None
    assert found.proofs[3].recall.recall < 1.0
