"""Tuning recommends, deploys and keeps what it chose; nothing undoes it, and one command goes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from by_hand import rows, run
from everindex.errors import GenerationUnproven
from everindex.index.catalog.effective_spec import effective_spec, stored
from everindex.index.catalog.generations import words_of_others
from everindex.index.catalog.observe import observe
from everindex.index.deploy.drop import rollback
from everindex.index.deploy.executor import deploy
from everindex.index.journal import entries
from everindex.index.keeper.loop import Keeper
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import HEAL, KEEP, DeployPolicy
from everindex.index.tuning import apply as tune
from everindex.index.tuning.apply import apply_advice, reset
from everindex.index.tuning.curve_history import latest
from everindex.index.tuning.recommendation import Advice, advise
from everindex.index.tuning.survey_result import Budget
from everindex.pg import own_schema
from everindex.pg.connections import connect
from scene import SPEC, fill_items

QUICK = Budget(queries=15, sample_rows=1000, max_seconds=60)
FLOOR = 0.6


def fill(conninfo: str) -> None:
    fill_items(conninfo, count=300)
    own_schema.ensure(conninfo)
    deploy(conninfo, SPEC)


@pytest.fixture
def indexed(cluster: Any) -> Iterator[str]:
    """300 vectors with their index, and our schema."""
    conninfo = cluster.database(cluster.template("items_indexed", fill))
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture(scope="module")
def advice(cluster: Any) -> Iterator[Advice]:
    """64 signs tell little of a vector: with a low floor codes do, and are by far the smallest. The same for every clone."""
    conninfo = cluster.database(cluster.template("items_indexed", fill))
    yield advise(conninfo, SPEC, floor=FLOOR, budget=QUICK)
    cluster.drop(conninfo)


def serving(conninfo: str) -> str:
    return str(rows(conninfo, "SELECT pg_get_indexdef('items_embedding_idx'::regclass)")[0][0])


def test_the_recommendation_states_before_and_after_and_changes_nothing(indexed: str, advice: Advice) -> None:
    assert advice.choice is not None
    assert advice.choice.curve.shape.key_type == "bit"
    assert advice.is_whole
    assert advice.changes_index
    assert advice.before is not None
    assert advice.after is not None
    assert advice.after.index_bytes < advice.before.index_bytes
    assert advice.after.build_memory_bytes < advice.before.build_memory_bytes
    assert advice.after.point is not None
    assert advice.after.point.low >= FLOOR
    document = advice.as_dict()
    assert document["holds"] is True
    assert document["before"]["opclass"] == "vector_cosine_ops"
    assert "vector_cosine_ops" in serving(indexed)
    with connect(indexed) as connection:
        assert stored(connection, SPEC) is None


def test_an_applied_recommendation_serves_and_is_kept(indexed: str, advice: Advice) -> None:
    applied = apply_advice(indexed, SPEC, advice, budget=QUICK)
    assert applied.deployed.outcome == "replaced"
    assert "bit_hamming_ops" in serving(indexed)
    assert applied.point.low >= FLOOR
    with connect(indexed) as connection:
        wanted = effective_spec(connection, SPEC)
        assert wanted.opclass == "bit_hamming_ops"
        assert wanted.candidates == applied.tuned.points[0].candidates
        assert [point.k for point in applied.tuned.points] == [10, 100]
        assert make_plan(wanted, observe(connection, wanted), policy=HEAL).steps == ()
        kept = latest(connection, SPEC)
        assert kept is not None
        assert [curve.source for curve in kept.curves][:2] == ["serving", "generation"]
        assert entries(connection, SPEC, limit=1)[0].event == "tuned"


@pytest.mark.parametrize("policy", [KEEP, HEAL])
def test_no_keeper_and_no_deploy_undoes_it(indexed: str, advice: Advice, policy: DeployPolicy) -> None:
    apply_advice(indexed, SPEC, advice, budget=QUICK)
    before = serving(indexed)
    keeper = Keeper(indexed, lambda connection: [effective_spec(connection, SPEC)], policy=policy, recall_seconds=0)
    for _ in range(2):
        round_ = keeper.once(threading.Event())
        assert (round_.has_changed, round_.findings) == (False, ())
    with connect(indexed) as connection:
        wanted = effective_spec(connection, SPEC)
    assert deploy(indexed, wanted, policy=HEAL).outcome == "already-there"
    assert serving(indexed) == before


def test_a_tuned_index_that_is_dropped_comes_back_as_it_was_tuned(indexed: str, advice: Advice) -> None:
    apply_advice(indexed, SPEC, advice, budget=QUICK)
    run(indexed, "DROP INDEX items_embedding_idx", "DROP INDEX items_embedding_idx__prev")
    keeper = Keeper(indexed, lambda connection: [effective_spec(connection, SPEC)], recall_seconds=0, warm_seconds=5)
    assert keeper.once(threading.Event()).has_changed
    assert "bit_hamming_ops" in serving(indexed)


def test_a_comment_of_others_outlives_tuning_and_each_way_back(indexed: str, advice: Advice) -> None:
    def words() -> str | None:
        return words_of_others(
            rows(indexed, "SELECT obj_description('items_embedding_idx'::regclass, 'pg_class')")[0][0]
        )

    theirs = "it's Ada's\n-- ask her"
    run(indexed, "COMMENT ON INDEX items_embedding_idx IS 'it''s Ada''s\n-- ask her'")
    apply_advice(indexed, SPEC, advice, budget=QUICK)
    assert ("bit_hamming_ops" in serving(indexed), words()) == (True, theirs)
    with connect(indexed) as connection:
        tuned = effective_spec(connection, SPEC)
    rollback(indexed, tuned)
    assert ("vector_cosine_ops" in serving(indexed), words()) == (True, theirs)
    reset(indexed, SPEC)
    assert ("vector_cosine_ops" in serving(indexed), words()) == (True, theirs)


def test_reset_goes_back_to_the_declaration_at_once(indexed: str, advice: Advice) -> None:
    apply_advice(indexed, SPEC, advice, budget=QUICK)
    was_tuned, done = reset(indexed, SPEC)
    assert was_tuned
    assert (done.outcome, done.build_seconds) == ("replaced", 0.0)  # the previous generation takes over
    assert "vector_cosine_ops" in serving(indexed)
    was_tuned, done = reset(indexed, SPEC)
    assert (was_tuned, done.outcome) == (False, "already-there")


def test_a_deploy_that_fails_leaves_what_was_tuned_before(indexed: str, advice: Advice) -> None:
    """Here the new generation does not prove itself."""
    with pytest.raises(GenerationUnproven, match="failed its acceptance test"):
        apply_advice(indexed, SPEC, replace(advice, floor=0.99), budget=QUICK)
    with connect(indexed) as connection:
        assert stored(connection, SPEC) is None
        assert effective_spec(connection, SPEC) == SPEC
        assert make_plan(SPEC, observe(connection, SPEC), policy=HEAL).steps == ()
    assert "vector_cosine_ops" in serving(indexed)


def test_what_does_not_hold_over_all_rows_is_taken_back(indexed: str, advice: Advice) -> None:
    """A sample may promise more than all rows keep: here the floor rises between the two."""
    lenient, too_high = replace(SPEC, recall_floor=0.1), replace(advice, floor=1.0)
    with pytest.raises(GenerationUnproven, match="does not hold recall 1 on all 300 rows"):
        apply_advice(indexed, lenient, too_high, budget=QUICK)
    assert "vector_cosine_ops" in serving(indexed)
    with connect(indexed) as connection:
        assert effective_spec(connection, SPEC) == SPEC


def test_what_serves_may_be_the_cheapest_and_only_ef_search_is_tuned(indexed: str) -> None:
    only_there = replace(QUICK, sample_rows=0)
    found = advise(indexed, SPEC, floor=FLOOR, budget=only_there)
    assert found.choice is not None
    assert not found.changes_index
    applied = apply_advice(indexed, SPEC, found, budget=only_there)
    assert applied.deployed.outcome == "already-there"
    with connect(indexed) as connection:
        wanted = effective_spec(connection, SPEC)
        assert (wanted.opclass, wanted.candidates) == (SPEC.opclass, None)
        assert wanted.ef_search == applied.point.ef_search


def test_where_nothing_holds_the_floor_the_numbers_say_why(indexed: str) -> None:
    found = advise(indexed, SPEC, floor=1.0, budget=QUICK)  # no interval reaches 1
    assert (found.choice, found.after) == (None, None)
    assert found.as_dict()["holds"] is False
    assert any("with confidence, at ef_search" in sentence for sentence in found.rejected)
    assert len(found.rejected) == len(found.survey.curves) >= 6


def test_only_so_many_neighbours_are_measured_further_as_there_are(indexed: str, advice: Advice) -> None:
    run(indexed, "DELETE FROM items WHERE id > 100", "ANALYZE items")
    assert tune.further_point(indexed, SPEC, QUICK, FLOOR, lambda text: None) is None
