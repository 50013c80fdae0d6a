"""What was tuned takes the place of what is declared, in this database, until it is taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from by_hand import rows, run
from everindex.errors import SpecIllegal
from everindex.index.catalog.effective_spec import delete_tuned, effective_spec, read_tuned, store, stored
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import same_distance, serving_spec
from everindex.index.catalog.tuned import Tuned, TunedPoint, candidates_for, ef_search_for
from everindex.index.deploy.drop import rollback
from everindex.index.deploy.executor import deploy
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import HEAL, MIGRATE_CHANGED
from everindex.pg import own_schema
from everindex.pg.connections import connect
from scene import SPEC

BIT = Tuned(
    opclass="bit_hamming_ops",
    m=16,
    ef_construction=64,
    recall_floor=0.9,
    points=(TunedPoint(k=10, ef_search=200, candidates=200), TunedPoint(k=100, ef_search=800, candidates=800)),
    declared_digest=SPEC.definition_digest,
)


def test_without_tuning_ef_search_is_twice_k_and_forty_at_least() -> None:
    assert [ef_search_for(k, None) for k in (1, 10, 20, 21, 100, 1000)] == [40, 40, 40, 42, 200, 1000]


def test_with_tuning_ef_search_follows_the_curve_between_its_points() -> None:
    assert [ef_search_for(k, BIT) for k in (1, 10, 55, 100, 110, 1000)] == [200, 200, 500, 800, 880, 1000]
    assert [candidates_for(k, "bit", BIT) for k in (1, 10, 55, 100, 1000)] == [200, 200, 500, 800, 1000]
    assert [candidates_for(k, "bit", None) for k in (1, 10, 100)] == [20, 200, 1000]
    assert candidates_for(10, "vector", None) == 10


@given(
    k=st.integers(1, 1000),
    points=st.lists(
        st.tuples(st.integers(1, 1000), st.integers(1, 1000)), min_size=1, max_size=4, unique_by=lambda p: p[0]
    ),
)
def test_ef_search_is_never_below_k_nor_beyond_what_pgvector_takes(k: int, points: list[tuple[int, int]]) -> None:
    tuned = replace(BIT, points=tuple(TunedPoint(k=at, ef_search=ef) for at, ef in sorted(points)))
    assert k <= ef_search_for(k, tuned) <= 1000


def test_a_declaration_with_an_impossible_ef_search_is_refused() -> None:
    for wrong in ({"ef_search": 0}, {"ef_search": 1001}, {"candidates": 9}, {"candidates": 1001}):
        with pytest.raises(SpecIllegal, match="cannot be declared"):
            replace(SPEC, **wrong)


def test_how_an_index_is_asked_is_no_part_of_its_definition() -> None:
    assert replace(SPEC, ef_search=77, candidates=99).definition_digest == SPEC.definition_digest


def test_without_our_schema_what_is_declared_holds(items: str) -> None:
    with connect(items) as connection:
        assert stored(connection, SPEC) is None
        assert effective_spec(connection, SPEC) == SPEC
        assert not delete_tuned(connection, SPEC)
        # The same inside of somebody's transaction, which goes on.
        with connection.transaction():
            assert effective_spec(connection, SPEC) == SPEC
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_what_was_tuned_is_declared_until_it_is_forgotten_or_the_declaration_changes(items: str) -> None:
    own_schema.ensure(items)
    with connect(items) as connection:
        store(connection, SPEC, BIT)
        store(connection, SPEC, BIT)  # once more changes nothing
        wanted = effective_spec(connection, SPEC)
        assert (wanted.opclass, wanted.ef_search, wanted.candidates) == ("bit_hamming_ops", 200, 200)
        other = replace(SPEC, m=24)
        assert effective_spec(connection, other) == other
        assert delete_tuned(connection, SPEC)
        assert effective_spec(connection, SPEC) == SPEC


def test_a_role_that_may_not_read_it_goes_by_the_declaration(items: str) -> None:
    own_schema.ensure(items)
    with connect(items) as connection:
        store(connection, SPEC, BIT)
        run(items, "DROP ROLE IF EXISTS reader_of_little", "CREATE ROLE reader_of_little")
        connection.execute("SET ROLE reader_of_little")
        assert effective_spec(connection, SPEC) == SPEC
        connection.execute("RESET ROLE")
    run(items, "DROP ROLE reader_of_little")


def test_searches_go_through_what_serves_while_the_tuned_generation_is_on_its_way(items: str) -> None:
    own_schema.ensure(items)
    deploy(items, SPEC)
    with connect(items) as connection:
        store(connection, SPEC, BIT)
        wanted = effective_spec(connection, SPEC)
        found = serving_spec(wanted, observe(connection, wanted))
        assert found is not None
        assert found[0] == replace(SPEC, recall_floor=wanted.recall_floor)
        assert read_tuned(connection, SPEC, found[1]) is None

        deploy(items, wanted, policy=MIGRATE_CHANGED)
        found = serving_spec(wanted, observe(connection, wanted))
        assert found is not None
        assert found[0] == wanted
        assert read_tuned(connection, SPEC, found[1]) == replace(BIT, tuned_at=stored(connection, SPEC).tuned_at)  # type: ignore[union-attr]
        assert make_plan(wanted, observe(connection, wanted), policy=HEAL).steps == ()


def test_a_rollback_takes_the_tuning_back_and_a_second_one_gives_it_again(items: str) -> None:
    own_schema.ensure(items)
    deploy(items, SPEC)
    with connect(items) as connection:
        store(connection, SPEC, BIT)
        wanted = effective_spec(connection, SPEC)
        deploy(items, wanted, policy=MIGRATE_CHANGED)
        rollback(items, wanted)
        assert effective_spec(connection, SPEC) == SPEC
        observed = observe(connection, SPEC)
        assert make_plan(SPEC, observed, policy=HEAL).steps == ()
        rollback(items, SPEC)
        assert effective_spec(connection, SPEC) == wanted
        assert make_plan(wanted, observe(connection, wanted), policy=HEAL).steps == ()
    assert rows(items, "SELECT count(*) FROM everindex_meta.tuned") == [(1,)]


@pytest.mark.parametrize(
    ("opclass", "expected"),
    [
        ("vector_cosine_ops", ("vector_cosine_ops", "halfvec_cosine_ops", "bit_hamming_ops")),
        ("bit_hamming_ops", ("vector_cosine_ops", "halfvec_cosine_ops", "bit_hamming_ops")),
        ("vector_l2_ops", ("vector_l2_ops", "halfvec_l2_ops")),
        ("halfvec_ip_ops", ("vector_ip_ops", "halfvec_ip_ops")),
        ("bit_jaccard_ops", ("bit_jaccard_ops",)),
    ],
)
def test_sign_bits_stand_for_the_angle_and_for_no_other_distance(opclass: str, expected: tuple[str, ...]) -> None:
    assert same_distance(replace(SPEC, opclass=opclass)) == expected
