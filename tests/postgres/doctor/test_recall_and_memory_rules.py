"""The doctor's rules about recall below its floor and indexes larger than memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from psycopg.conninfo import conninfo_to_dict

from by_hand import run
from everindex.index.catalog.effective_spec import store
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import declared_index
from everindex.index.catalog.tuned import Tuned, TunedPoint
from everindex.index.deploy.executor import deploy
from everindex.index.recall.history import RecallSample, graph_of, remember
from everindex.index.spec import IndexSpec
from everindex.pg import own_schema
from everindex.pg.connections import connect
from patient import ask, is_good, make_items, the_finding

DECLARED = IndexSpec(name="items_idx", table="items", column="embedding")


@pytest.fixture
def measured(empty: str) -> str:
    """A table that is worth measuring, with its index and our schema."""
    make_items(empty, count=2100, dimensions=4)
    own_schema.ensure(empty)
    deploy(empty, DECLARED)
    return empty


def sampled(conninfo: str, *, found: int, times: int = 5) -> None:
    """So many of 100 neighbours were found by each of the latest samples of 10 queries."""
    with connect(conninfo) as connection:
        index = declared_index(DECLARED, observe(connection, DECLARED))
        assert index is not None
        sample = RecallSample(k=10, queries=10, found=found, wanted=100, exact_ms=1.0, approximate_ms=0.5)
        for _ in range(times):
            remember(connection, DECLARED, graph_of(connection, index), sample)


def test_recall_below_its_floor_is_found_and_above_it_is_good(measured: str) -> None:
    sampled(measured, found=99)
    assert is_good(measured, "recall-below-floor", declared=(DECLARED,))
    sampled(measured, found=80)
    finding = the_finding(measured, "recall-below-floor", declared=(DECLARED,))
    assert "recall@10 of the index that serves is 0.800" in finding.sentence
    assert "below the floor of 0.95" in finding.sentence
    assert finding.fix is not None
    assert "everindex tune" in finding.fix.advice


def test_a_few_samples_say_nothing_and_so_does_another_graph(measured: str) -> None:
    (answer,) = ask(measured, "recall-below-floor", declared=(DECLARED,))
    assert (answer.status, "too few queries have been measured" in answer.sentence) == ("unknown", True)
    sampled(measured, found=50, times=1)
    assert [answer.status for answer in ask(measured, "recall-below-floor", declared=(DECLARED,))] == ["unknown"]
    sampled(measured, found=50)
    run(measured, "REINDEX INDEX items_idx")  # what was measured before was of the old graph
    assert [answer.status for answer in ask(measured, "recall-below-floor", declared=(DECLARED,))] == ["unknown"]


def test_the_floor_that_was_tuned_for_counts(measured: str) -> None:
    sampled(measured, found=96)
    assert is_good(measured, "recall-below-floor", declared=(DECLARED,))
    tuned = Tuned(
        opclass=DECLARED.opclass,
        m=DECLARED.m,
        ef_construction=DECLARED.ef_construction,
        recall_floor=0.99,
        points=(TunedPoint(k=10, ef_search=100),),
        declared_digest=DECLARED.definition_digest,
    )
    with connect(measured) as connection:
        store(connection, DECLARED, tuned)
    assert "below the floor of 0.99" in the_finding(measured, "recall-below-floor", declared=(DECLARED,)).sentence


def test_recall_of_a_small_table_or_without_an_index_is_nobodys_matter(empty: str) -> None:
    make_items(empty, count=50)
    assert ask(empty, "recall-below-floor", declared=(DECLARED,)) == []
    deploy(empty, DECLARED)
    assert ask(empty, "recall-below-floor", declared=(DECLARED,)) == []
    missing = replace(DECLARED, table="nowhere")
    assert [answer.status for answer in ask(empty, "recall-below-floor", declared=(missing,))] in ([], ["unknown"])


def test_indexes_that_are_larger_than_the_servers_cache_are_found(measured: str) -> None:
    database = conninfo_to_dict(measured)["dbname"]
    assert is_good(measured, "index-larger-than-memory")
    run(measured, f"ALTER DATABASE {database} SET effective_cache_size = '64kB'")
    finding = the_finding(measured, "index-larger-than-memory")
    assert '"public"."items_idx"' in finding.sentence
    assert finding.fix is not None
    assert "everindex tune" in finding.fix.advice


def test_without_a_vector_index_there_is_none_to_fit(empty: str) -> None:
    make_items(empty, count=10)
    assert ask(empty, "index-larger-than-memory") == []
