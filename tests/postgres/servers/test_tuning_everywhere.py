"""Measuring, tuning and warming on every server: with the types that its pgvector has, through the index, and back again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from by_hand import rows, run
from everindex.index.deploy.executor import deploy
from everindex.index.deploy.warm import warm
from everindex.index.spec import IndexSpec
from everindex.index.tuning.apply import apply_advice, reset
from everindex.index.tuning.recommendation import advise
from everindex.index.tuning.survey import survey
from everindex.index.tuning.survey_result import Budget
from everindex.pg import own_schema
from every_server import KINDS, Kind, server

#: Three servers of their own: the long ring.
pytestmark = pytest.mark.long

SPEC = IndexSpec(name="items_idx", table="items", column="embedding", recall_floor=0.5)
QUICK = Budget(queries=10, sample_rows=1000, max_seconds=60)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"pg{kind.postgres}-pgvector{kind.pgvector}")
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def conninfo(kind: Kind) -> Iterator[str]:
    """A server of this kind with 300 clustered vectors of 32 dimensions and a cosine index."""
    with server(kind.binaries()) as admin:
        run(
            admin,
            "CREATE EXTENSION vector",
            "CREATE TABLE items (id int PRIMARY KEY, embedding vector(32))",
            "SELECT setseed(0.5)",
            "INSERT INTO items SELECT g, ARRAY(SELECT random() - 0.5 + 0 * g FROM generate_series(1, 32))::vector "
            "FROM generate_series(1, 300) g",
            "VACUUM ANALYZE items",
        )
        deploy(admin, SPEC)
        own_schema.ensure(admin)
        yield admin


def test_every_type_of_this_pgvector_is_measured_through_its_index(kind: Kind, conninfo: str) -> None:
    found = survey(conninfo, SPEC, budget=QUICK)
    types = {curve.shape.key_type for curve in found.curves}
    assert types == ({"vector"} if kind.pgvector == "0.6.2" else {"vector", "halfvec", "bit"})
    assert found.left_out == ()
    for curve in found.curves:
        assert curve.points[-1].recall > 0.9
        assert all(point.is_planned for point in curve.points)


def test_a_tuned_configuration_is_applied_and_taken_back(conninfo: str) -> None:
    advice = advise(conninfo, SPEC, floor=0.5, budget=QUICK)
    assert advice.choice is not None
    applied = apply_advice(conninfo, SPEC, advice, budget=QUICK)
    assert applied.point.low >= 0.5
    assert reset(conninfo, SPEC)[0]
    definition = rows(conninfo, "SELECT pg_get_indexdef('items_idx'::regclass)")[0][0]
    assert "vector_cosine_ops" in definition


def test_the_index_is_warmed(conninfo: str) -> None:
    assert warm(conninfo, SPEC, max_seconds=10).method in ("pg_prewarm", "searches")
