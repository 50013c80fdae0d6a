"""The footprint formula against real indexes, on every server: types × widths × m, to the page where levels change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest

from by_hand import rows, run
from everindex.index.build.footprint import PAGE_BYTES, index_bytes
from every_server import KINDS, Kind, server

#: Three servers of their own: the long ring.
pytestmark = pytest.mark.long

ROWS = 240
#: An index on a key of each type and width, of one array and one text of digits a row.
KEYS = {
    "vector": "((a[1:{0}])::vector({0})) vector_l2_ops",
    "halfvec": "((a[1:{0}])::halfvec({0})) halfvec_l2_ops",
    "bit": "((left(b, {0}))::bit({0})) bit_hamming_ops",
    "sparsevec": "((a[1:{0}])::vector({0})::sparsevec({0})) sparsevec_l2_ops",
}
#: Whatever levels the rows have, a page takes the same number of them.
SAME_ON_EACH_PAGE = (
    ("vector", 384, 16), ("vector", 600, 8), ("vector", 1000, 16), ("vector", 1200, 32), ("vector", 1536, 8),
    ("vector", 1536, 32), ("vector", 1980, 16), ("vector", 2000, 8), ("vector", 2000, 32), ("halfvec", 1000, 16),
    ("halfvec", 1536, 16), ("halfvec", 3000, 8), ("halfvec", 1944, 16), ("halfvec", 4000, 16), ("bit", 16_000, 16),
    ("bit", 40_000, 16), ("sparsevec", 480, 16), ("sparsevec", 800, 8),
)  # fmt: skip
#: Here the levels decide, which are random.
BY_LEVELS = (
    ("vector", 4, 2), ("vector", 4, 16), ("vector", 64, 5), ("vector", 64, 16), ("vector", 256, 32), ("vector", 896, 32),
    ("halfvec", 64, 8), ("halfvec", 64, 32), ("bit", 64, 4), ("bit", 1536, 16), ("bit", 8000, 16),
    ("sparsevec", 100, 16),
)  # fmt: skip


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"pg{kind.postgres}-pgvector{kind.pgvector}")
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def conninfo(kind: Kind) -> Iterator[str]:
    random = np.random.default_rng(7)
    with server(kind.binaries()) as admin:
        run(admin, "CREATE EXTENSION vector", "CREATE TABLE t (a real[], b text)")
        with psycopg.connect(admin) as connection, connection.cursor().copy("COPY t FROM STDIN") as copy:
            for _ in range(ROWS):
                copy.write_row((random.random(4000).tolist(), "".join(map(str, random.integers(0, 2, 40_000)))))
        yield admin


def built_bytes(conninfo: str, kind: Kind, key_type: str, width: int, m: int) -> int:
    if kind.pgvector == "0.6.2" and key_type != "vector":
        pytest.skip("pgvector 0.6 has vector alone")
    key = KEYS[key_type].format(width)
    run(
        conninfo,
        "DROP INDEX IF EXISTS i",
        f"CREATE INDEX i ON t USING hnsw ({key}) WITH (m = {m}, ef_construction = {max(4, 2 * m)})",
    )
    return int(rows(conninfo, "SELECT pg_relation_size('i')")[0][0])


@pytest.mark.parametrize(("key_type", "width", "m"), SAME_ON_EACH_PAGE)
def test_an_index_takes_to_the_page_what_the_layout_says(
    conninfo: str, kind: Kind, key_type: str, width: int, m: int
) -> None:
    built = built_bytes(conninfo, kind, key_type, width, m)
    assert built == index_bytes(rows=ROWS, dimensions=width, m=m, key_type=key_type)


@pytest.mark.parametrize(("key_type", "width", "m"), BY_LEVELS)
def test_an_index_takes_what_is_expected_of_the_levels_of_its_rows(
    conninfo: str, kind: Kind, key_type: str, width: int, m: int
) -> None:
    built = built_bytes(conninfo, kind, key_type, width, m)
    expected = index_bytes(rows=ROWS, dimensions=width, m=m, key_type=key_type)
    assert built == pytest.approx(expected, rel=0.05, abs=PAGE_BYTES)
