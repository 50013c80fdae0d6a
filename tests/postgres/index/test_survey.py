"""Recall against latency: of every generation that is there, and of other configurations on a sample, online."""

from __future__ import annotations

import itertools
from dataclasses import replace

import psycopg
import pytest

from by_hand import rows, run
from everindex.index.catalog.observe import observe
from everindex.index.deploy.executor import deploy
from everindex.index.plan.policy import MIGRATE_CHANGED
from everindex.index.recall.measurement import find_truth, interval, sample_queries, wilson
from everindex.index.recall.query_sample import keep_queries, kept_queries
from everindex.index.tuning import curve_history
from everindex.index.tuning.curve import Curve, Point, Shape, curve_from, steps
from everindex.index.tuning.quantization import bounded, find_bound
from everindex.index.tuning.survey import survey
from everindex.index.tuning.survey_result import Budget, Survey
from everindex.pg import own_schema
from everindex.pg.connections import connect
from everindex.pg.vector_type import register_all_types
from everindex.web.reports.curve_chart import draw
from scene import SPEC, InBackground, fill_items

CODES = replace(SPEC, opclass="bit_hamming_ops", recall_floor=0.1)
QUICK = Budget(queries=20, sample_rows=0, max_seconds=60)


@pytest.fixture
def indexed(items: str) -> str:
    deploy(items, SPEC)
    return items


def shapes(found: Survey) -> list[tuple[str, str]]:
    return [(curve.shape.key_type, curve.source) for curve in found.curves]


def test_the_curve_of_what_serves_rises_with_ef_search(indexed: str) -> None:
    found = survey(indexed, SPEC, budget=QUICK)
    assert shapes(found) == [("vector", "serving")]
    points = found.curves[0].points
    assert [point.ef_search for point in points] == list(steps(k=10)[: len(points)])
    assert points[-1].recall >= points[0].recall
    assert points[-1].recall > 0.95
    for point in points:
        assert 0 <= point.low <= point.recall <= point.high <= 1
        assert 0 < point.median_ms <= point.p95_ms
        assert point.queries == 20
    assert found.queries == "20 stored rows, each excluded from its own result"
    assert found.rows == 300


def test_every_generation_is_measured_alone_the_hidden_one_too(indexed: str) -> None:
    deploy(
        indexed, replace(SPEC, m=8, ef_construction=32), policy=MIGRATE_CHANGED
    )  # hides the one before: the same key
    found = survey(indexed, replace(SPEC, m=8, ef_construction=32), budget=QUICK)
    assert [(curve.shape.m, curve.source, curve.index) for curve in found.curves] == [
        (8, "serving", "items_embedding_idx"),
        (16, "generation", "items_embedding_idx__prev"),
    ]
    assert rows(
        indexed, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'items_embedding_idx__prev'::regclass"
    ) == [(False,)]


def test_codes_are_measured_with_as_many_candidates_as_the_beam_holds(items: str) -> None:
    deploy(items, CODES)
    found = survey(items, CODES, budget=QUICK)
    points = found.curves[0].points
    assert [point.candidates for point in points] == [point.ef_search for point in points]
    assert points[-1].recall > points[0].recall


def test_other_configurations_are_tried_on_a_sample_and_leave_nothing(indexed: str) -> None:
    before = rows(indexed, "SELECT relname FROM pg_class WHERE relkind IN ('r', 'i') ORDER BY 1")
    found = survey(indexed, SPEC, budget=replace(QUICK, queries=5, sample_rows=150))
    tried = {(curve.shape.key_type, curve.shape.m) for curve in found.curves if curve.source == "sample"}
    assert tried == {(kind, m) for kind in ("vector", "halfvec", "bit") for m in (16, 32)}
    for curve in found.curves[1:]:
        assert 100 <= curve.rows <= 200
        assert curve.build_seconds is not None
    sizes = [curve.size_bytes for curve in found.curves[1:]]
    assert sizes == sorted(sizes)  # smallest first
    assert found.left_out == ()
    assert rows(indexed, "SELECT relname FROM pg_class WHERE relkind IN ('r', 'i') ORDER BY 1") == before
    assert rows(indexed, "SELECT count(*) FROM pg_class WHERE relpersistence = 't'") == [(0,)]


def test_a_sample_of_all_rows_does_not_repeat_what_is_there(indexed: str) -> None:
    found = survey(
        indexed, SPEC, budget=replace(QUICK, sample_rows=500), is_needed=lambda shape, _: shape.key_type == "vector"
    )
    assert [(curve.shape.m, curve.source, curve.rows) for curve in found.curves] == [
        (16, "serving", 300),
        (32, "sample", 300),
    ]


def test_writers_go_on_while_it_is_measured(indexed: str) -> None:
    run(indexed, "CREATE TABLE written (n int)")
    measuring = InBackground(lambda: survey(indexed, SPEC, budget=replace(QUICK, sample_rows=200)))
    writes = 0
    with psycopg.connect(indexed, autocommit=True, options="-c lock_timeout=500ms") as connection:
        while measuring.is_alive():
            connection.execute("UPDATE items SET n = n + 1 WHERE id = 1")
            writes += 1
    assert measuring.finish().curves
    assert writes > 10


def test_a_role_that_may_only_read_measures_what_the_planner_takes(indexed: str) -> None:
    run(
        indexed,
        "DROP ROLE IF EXISTS survey_reader",
        "CREATE ROLE survey_reader LOGIN",
        "GRANT SELECT ON items TO survey_reader",
        "REVOKE TEMPORARY ON DATABASE " + psycopg.conninfo.conninfo_to_dict(indexed)["dbname"] + " FROM PUBLIC",
    )
    found = survey(f"{indexed} user=survey_reader", SPEC, budget=replace(QUICK, sample_rows=500))
    assert shapes(found) == [("vector", "serving")]
    assert [each.what for each in found.left_out] == ["other configurations"]
    assert "temporary" in found.left_out[0].why
    run(indexed, "DROP OWNED BY survey_reader", "DROP ROLE survey_reader")


def test_without_an_index_only_the_sample_is_measured_and_without_rows_nothing(items: str) -> None:
    found = survey(items, SPEC, budget=replace(QUICK, sample_rows=500), is_needed=lambda shape, curves: not curves)
    assert shapes(found) == [("bit", "sample")]
    run(items, "TRUNCATE items")
    found = survey(items, SPEC, budget=QUICK)
    assert (found.curves, found.left_out[0].sentence) == (
        (),
        "recall was not measured: fewer than two rows have a vector",
    )


def test_the_time_is_kept_and_what_was_left_out_is_said(indexed: str) -> None:
    found = survey(indexed, SPEC, budget=replace(QUICK, sample_rows=300, max_seconds=0.1))
    assert any("the time limit was reached" in each.why or "could not be built" in each.why for each in found.left_out)


def test_sampled_searches_are_taken_where_there_are_enough(indexed: str) -> None:
    own_schema.ensure(indexed)
    with connect(indexed) as connection:
        register_all_types(connection)
        vectors = [
            vector.to_list() for vector in sample_queries(connection, SPEC, observe(connection, SPEC), samples=40)
        ]
        keep_queries(connection, SPEC, vectors[:10], model="m", budget=100)
        assert survey(indexed, SPEC, budget=QUICK).queries.startswith("20 stored rows")
        keep_queries(connection, SPEC, vectors, model="m", budget=100)
    found = survey(indexed, SPEC, budget=QUICK)
    assert found.queries == "20 sampled searches"
    # A stored row that is searched for is its own nearest neighbour, and counts.
    assert found.curves[0].points[-1].recall > 0.95


def test_no_more_query_vectors_are_kept_than_the_budget_and_none_of_another_model(indexed: str) -> None:
    own_schema.ensure(indexed)
    with connect(indexed) as connection:
        keep_queries(connection, SPEC, [[float(n)] * 64 for n in range(30)], model="old", budget=20)
        assert len(kept_queries(connection, SPEC, dimensions=64, limit=100)) == 20
        keep_queries(connection, SPEC, [[float(n)] * 64 for n in range(5)], model="new", budget=20)
        assert len(kept_queries(connection, SPEC, dimensions=64, limit=100)) == 5
        assert kept_queries(connection, SPEC, dimensions=32, limit=100) == []
    columns = rows(
        indexed,
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'query_sample' ORDER BY 1",
    )
    assert columns == [("id",), ("index_name",), ("index_schema",), ("model",), ("vector",)]


def test_curves_are_kept_and_read_back(indexed: str) -> None:
    found = survey(indexed, SPEC, budget=QUICK)
    with connect(indexed) as connection:
        assert not curve_history.keep(connection, found)  # without our schema
        assert curve_history.latest(connection, SPEC) is None
        own_schema.ensure(indexed)
        for _ in range(curve_history.KEPT_SURVEYS + 2):
            assert curve_history.keep(connection, found)
        kept = curve_history.latest(connection, SPEC)
        assert kept is not None
        assert kept.curves == found.curves
    assert rows(indexed, "SELECT count(*) FROM everindex_meta.curve") == [(curve_history.KEPT_SURVEYS,)]
    assert all(curve_from(curve.as_dict()) == curve for curve in found.curves)


def test_what_codes_keep_among_all_rows_bounds_what_a_sample_promises(many_items: str) -> None:
    with connect(many_items) as connection:
        register_all_types(connection)
        observed = observe(connection, CODES)
        vectors = sample_queries(connection, CODES, observed, samples=15)
        truth = find_truth(connection, CODES, observed, vectors, k=10, max_seconds=10)
        bound = find_bound(connection, CODES, observed, truth, max_seconds=10)
    assert bound is not None
    recalls = [bound.at(candidates)[0] for candidates in (10, 50, 200, 1000, 3000)]
    assert recalls == sorted(recalls)
    assert recalls[0] < 1
    assert recalls[-1] == 1
    # 64 signs of clustered vectors: an index of codes that was searched exactly would find just that.
    found = survey(
        many_items, CODES, budget=replace(QUICK, sample_rows=300), is_needed=lambda s, c: s.key_type == "bit"
    )
    full = {p.candidates: bound.at(p.candidates or 0)[0] for p in found.curves[0].points}
    for point in found.curves[0].points:
        assert point.recall <= full[point.candidates] + 0.25


def test_a_bounded_curve_promises_no_more_than_its_bound() -> None:
    from everindex.index.tuning.quantization import QuantizationBound

    bound = QuantizationBound(own_rows=1, queries=(((100, 10),) * 10,) * 20)  # a hundred rows have a nearer code
    curve = bounded(_curve(0.99), bound)
    assert [point.recall for point in curve.points] == [0.0, 0.99]


def _curve(recall: float) -> Curve:
    point = Point(
        ef_search=50,
        candidates=50,
        recall=recall,
        low=recall,
        high=recall,
        queries=20,
        median_ms=1.0,
        p95_ms=2.0,
        is_planned=True,
    )
    return Curve(
        shape=Shape(opclass="bit_hamming_ops", m=16, ef_construction=64),
        source="sample",
        index=None,
        rows=100,
        size_bytes=1,
        build_seconds=1.0,
        points=(point, replace(point, ef_search=400, candidates=400)),
    )


def test_neighbours_that_are_missed_together_widen_the_interval() -> None:
    together = [(10, 10)] * 18 + [(0, 10)] * 2
    apart = [(9, 10)] * 20
    assert interval(apart) == wilson(180, 200)
    assert interval(together)[0] < wilson(180, 200)[0]
    assert interval([(10, 10)] * 20) == wilson(200, 200)
    assert interval([]) == (0.0, 1.0)


def test_a_drawing_says_in_words_what_it_shows() -> None:
    chart = draw([_curve(0.9)], k=10, floor=0.95, chosen=400)
    assert chart is not None
    assert "from recall 0.900" in chart.words
    assert chart.chosen is None  # nothing serves
    assert chart.top <= min(mark.y for line in chart.lines for mark in line.marks)
    assert max(mark.y for line in chart.lines for mark in line.marks) <= chart.bottom
    assert draw([], k=10) is None


def test_the_numbers_of_curves_that_end_at_the_same_point_stay_legible() -> None:
    curve = _curve(1.0)
    point = curve.points[0]
    steps_of = tuple(replace(point, recall=1 - 0.1 / ms**3, median_ms=ms) for ms in (1.0, 2.0, 4.0, 5.0))
    chart = draw([replace(curve, points=steps_of)] * 6, k=10)
    assert chart is not None
    labels = [line.label for line in chart.lines]
    for (x, y), (a, b) in itertools.combinations(labels, 2):
        assert abs(x - a) >= 8 or abs(y - b) >= 8, labels
    assert all(0 < x < chart.width - 10 and 10 < y < chart.height for x, y in labels)


def test_a_partial_index_is_measured_on_its_rows(items: str) -> None:
    run(items, "UPDATE items SET n = id % 2")
    partial = replace(SPEC, predicate="n = 1")
    deploy(items, partial)
    found = survey(
        items, partial, budget=replace(QUICK, sample_rows=500), is_needed=lambda s, c: s.key_type == "halfvec"
    )
    assert found.rows == 150
    assert [(c.shape.key_type, c.source, c.rows) for c in found.curves][:2] == [
        ("vector", "serving", 150),
        ("halfvec", "sample", 150),
    ]


def test_the_columns_of_a_sample_are_those_that_are_there(empty: str) -> None:
    fill_items(empty, count=300)
    expression = replace(SPEC, expression="subvector(embedding, 1, 32)::vector(32)", recall_floor=0.1)
    deploy(empty, expression)
    found = survey(empty, expression, budget=replace(QUICK, sample_rows=1000))
    assert found.left_out == ()
    assert {curve.shape.opclass for curve in found.curves} == {"vector_cosine_ops"}
    assert {curve.shape.m for curve in found.curves} == {16, 32}
