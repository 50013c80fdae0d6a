"""The footprint formula: what the page layout says of one row, and a built index (every server: tests/servers)."""

from __future__ import annotations

import pytest

from by_hand import rows, run
from everindex.index.build.footprint import PAGE_BYTES, index_bytes, row_bytes, value_bytes


@pytest.mark.parametrize(
    ("key_type", "dimensions", "m", "expected"),
    [
        ("vector", 384, 16, 2048),
        ("vector", 1536, 16, 8192),
        ("vector", 2000, 16, 16384),
        ("halfvec", 1536, 16, 4096),
        ("halfvec", 4000, 16, 16384),
    ],
)
def test_a_row_takes_its_share_of_a_page_or_two_pages(key_type: str, dimensions: int, m: int, expected: int) -> None:
    assert row_bytes(key_type=key_type, dimensions=dimensions, m=m) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("key_type", "dimensions", "m"), [("vector", 896, 32), ("halfvec", 1944, 8)])
def test_a_row_of_a_higher_level_that_leaves_no_room_for_another_costs_more_than_half_a_page(
    key_type: str, dimensions: int, m: int
) -> None:
    size = row_bytes(key_type=key_type, dimensions=dimensions, m=m)
    # One row in m reaches the next level: it has a page for itself, and so may have the row before it.
    assert 4096 * (1 + 1 / m) < size < 4096 * (1 + 2 / m)


def test_an_empty_index_has_a_page_of_its_own_data_and_one_for_rows(empty: str) -> None:
    run(
        empty,
        "CREATE EXTENSION vector",
        "CREATE TABLE t (v vector(3))",
        "CREATE INDEX i ON t USING hnsw (v vector_l2_ops)",
    )
    assert rows(empty, "SELECT pg_relation_size('i')") == [(index_bytes(rows=0, dimensions=3, m=16),)]


@pytest.mark.parametrize(("dimensions", "m"), [(384, 16), (1000, 8), (1536, 16), (2000, 16)])
def test_a_built_index_takes_to_the_page_what_the_formula_says(empty: str, dimensions: int, m: int) -> None:
    run(
        empty,
        "CREATE EXTENSION vector",
        f"CREATE TABLE t (v vector({dimensions}))",
        f"INSERT INTO t SELECT array_agg(random())::vector FROM generate_series(1, 60) n, generate_series(1, {dimensions}) "
        "GROUP BY n",
        f"CREATE INDEX i ON t USING hnsw (v vector_l2_ops) WITH (m = {m}, ef_construction = {2 * m})",
    )
    assert rows(empty, "SELECT pg_relation_size('i')") == [(index_bytes(rows=60, dimensions=dimensions, m=m),)]


def test_more_rows_wider_values_and_more_neighbours_never_take_less() -> None:
    for key_type, dimensions, m in [("vector", 3, 2), ("vector", 700, 16), ("halfvec", 2000, 30), ("bit", 640, 8)]:
        shape = {"dimensions": dimensions, "m": m, "key_type": key_type}
        size = index_bytes(rows=5000, **shape)  # type: ignore[arg-type]
        for wider in ({"rows": 5001}, {"dimensions": dimensions + 1}, {"m": m + 1}):
            assert index_bytes(**({"rows": 5000} | shape | wider)) >= size  # type: ignore[arg-type]
        assert size % PAGE_BYTES == 0
        assert size >= 5000 * value_bytes(key_type, dimensions)
