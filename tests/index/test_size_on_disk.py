"""What the page layout promises is what a built index takes."""

from __future__ import annotations

import pytest
from scene import rows, run

from everindex.index.size import index_bytes

#: Minutes in all: the long ring.
pytestmark = pytest.mark.long


@pytest.mark.parametrize(("dimensions", "m"), [(2000, 16), (1536, 64), (1000, 16), (256, 16), (64, 16)])
def test_an_index_takes_what_the_formula_says(empty: str, dimensions: int, m: int) -> None:
    run(
        empty,
        "CREATE EXTENSION vector",
        f"CREATE TABLE t (v vector({dimensions}))",
        f"INSERT INTO t SELECT array_agg(random())::vector FROM generate_series(1, 300) n, generate_series(1, {dimensions}) "
        "GROUP BY n",
        f"CREATE INDEX t_v ON t USING hnsw (v vector_l2_ops) WITH (m = {m}, ef_construction = {2 * m})",
    )
    size = rows(empty, "SELECT pg_relation_size('t_v')")[0][0]
    assert index_bytes(rows=300, dimensions=dimensions, m=m) == pytest.approx(size, rel=0.1)
