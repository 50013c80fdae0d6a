"""The cheapest configuration that holds a recall with confidence: the smallest index first, then the fastest search."""

from __future__ import annotations

from dataclasses import replace

from everindex.index.catalog.observed import Observed
from everindex.index.tuning.choose import choose, nearest_miss, only_cheaper
from everindex.index.tuning.curve import Curve, Point, Shape, Source

VECTOR = Shape(opclass="vector_cosine_ops", m=16, ef_construction=64)
HALF = Shape(opclass="halfvec_cosine_ops", m=16, ef_construction=64)
BIT = Shape(opclass="bit_hamming_ops", m=16, ef_construction=64)
WIDE = replace(VECTOR, m=32, ef_construction=128)


def curve(shape: Shape, *points: tuple[int, float, float], size: int = 0, source: Source = "sample") -> Curve:
    """`points`: (ef_search, lower end of the interval, median milliseconds)."""
    sizes = {"vector": 8192, "halfvec": 4096, "bit": 512}
    return Curve(
        shape=shape,
        source=source,
        index="i" if source == "serving" else None,
        rows=1000,
        size_bytes=size or sizes[shape.key_type] * 1000,
        build_seconds=None if source == "serving" else 1.0,
        points=tuple(
            Point(
                ef_search=ef_search,
                candidates=None,
                recall=min(1.0, low + 0.01),
                low=low,
                high=1.0,
                queries=100,
                median_ms=median,
                p95_ms=2 * median,
                is_planned=True,
            )
            for ef_search, low, median in points
        ),
    )


SERVING = curve(VECTOR, (40, 0.97, 1.0), (80, 0.99, 2.0), source="serving")


def test_the_smallest_index_is_chosen_however_much_slower_it_is() -> None:
    chosen = choose([SERVING, curve(HALF, (40, 0.99, 1.0)), curve(BIT, (400, 0.985, 9.0))], floor=0.98)
    assert chosen is not None
    assert (chosen.curve.shape, chosen.point.ef_search) == (BIT, 400)


def test_a_recall_that_only_may_hold_is_not_enough() -> None:
    may = curve(BIT, (400, 0.975, 9.0))  # measured as 0.985, and 0.975 with confidence
    chosen = choose([may, curve(HALF, (40, 0.98, 1.0))], floor=0.98)
    assert chosen is not None
    assert chosen.curve.shape == HALF


def test_of_one_curve_the_smallest_ef_search_that_holds_is_taken() -> None:
    chosen = choose([SERVING], floor=0.98)
    assert chosen is not None
    assert chosen.point.ef_search == 80


def test_where_none_holds_there_is_no_choice_and_the_nearest_miss_is_known() -> None:
    curves = [SERVING, curve(BIT, (100, 0.5, 1.0), (1000, 0.9, 9.0))]
    assert choose(curves, floor=0.995) is None
    miss = nearest_miss(curves)
    assert miss is not None
    assert (miss.curve, miss.point.ef_search) == (SERVING, 80)
    assert nearest_miss([]) is None


def test_what_serves_stays_unless_another_of_its_size_is_much_faster() -> None:
    little = curve(WIDE, (40, 0.99, 1.7), size=SERVING.size_bytes)
    much = curve(WIDE, (40, 0.99, 1.0), size=SERVING.size_bytes)
    assert choose([SERVING, little], floor=0.98).curve == SERVING  # type: ignore[union-attr]
    assert choose([SERVING, much], floor=0.98).curve == much  # type: ignore[union-attr]


def test_searches_of_a_sample_are_compared_with_searches_of_the_same_sample() -> None:
    twin = curve(VECTOR, (80, 0.99, 1.1), size=SERVING.size_bytes)  # the serving definition, on the sample
    other = curve(WIDE, (40, 0.99, 1.0), size=SERVING.size_bytes)
    assert choose([SERVING, twin, other], floor=0.98).curve == SERVING  # type: ignore[union-attr]


def test_larger_ones_are_not_tried_once_a_smaller_one_holds() -> None:
    observed = Observed(table_exists=True, column_type="vector", dimensions=1536, estimated_rows=1000)
    is_needed = only_cheaper(observed, rows=1000, floor=0.98)
    holds = curve(BIT, (400, 0.99, 9.0), size=501_000)
    assert is_needed(HALF, [SERVING])
    assert not is_needed(HALF, [SERVING, holds])
    assert is_needed(replace(BIT, ef_construction=128), [holds])  # of the same size: it may be faster
