"""A declaration that no server could build is refused before any server is asked, with the limit and where it comes from."""

from __future__ import annotations

from typing import Any

import pytest

from everindex.errors import SpecIllegal
from everindex.index.spec import OPCLASSES, IndexSpec, check_dimensions

GOOD: dict[str, Any] = {"name": "i", "table": "t", "column": "c"}

ILLEGAL: list[tuple[dict[str, Any], str, str]] = [
    ({"name": ""}, "0 bytes", "63"),
    ({"name": "n" * 64}, "64 bytes", "NAMEDATALEN"),
    ({"name": "é" * 32}, "64 bytes", "NAMEDATALEN"),
    ({"table": ""}, "the table name", "63"),
    ({"table": "t" * 64}, "the table name", "NAMEDATALEN"),
    ({"column": "c\0"}, "the column name", "NUL"),
    ({"schema": ""}, "the schema name", "63"),
    ({"opclass": "vector_hamming_ops"}, "vector_hamming_ops", "no HNSW operator class"),
    ({"opclass": ""}, "opclass ''", "no HNSW operator class"),
    ({"m": 1}, "m = 1", "hnsw.h"),
    ({"m": 101, "ef_construction": 400}, "m = 101", "2 to 100"),
    ({"m": 0}, "m = 0", "hnsw.h"),
    ({"m": -5}, "m = -5", "hnsw.h"),
    ({"m": 2, "ef_construction": 3}, "ef_construction = 3", "4 to 1000"),
    ({"ef_construction": 1001}, "ef_construction = 1001", "4 to 1000"),
    ({"m": 16, "ef_construction": 31}, "ef_construction = 31 with m = 16", "at least 2 × m"),
    ({"m": 100}, "ef_construction = 64 with m = 100", "at least 2 × m"),
    ({"recall_floor": 0.0}, "recall_floor = 0.0", "above 0 and at most 1"),
    ({"recall_floor": 1.01}, "recall_floor = 1.01", "above 0 and at most 1"),
    ({"recall_floor": float("nan")}, "recall_floor = nan", "above 0 and at most 1"),
]


@pytest.mark.parametrize(("changed", "what", "limit"), ILLEGAL, ids=[repr(case[0]) for case in ILLEGAL])
def test_an_illegal_declaration_is_refused_in_three_lines_with_its_limit(
    changed: dict[str, Any], what: str, limit: str
) -> None:
    with pytest.raises(SpecIllegal) as raised:
        IndexSpec(**(GOOD | changed))
    assert what in raised.value.what
    assert limit in raised.value.why
    told = str(raised.value).split("\n")
    assert len(told) == 3
    assert told[0].startswith("spec-illegal: ")
    assert raised.value.exit_status == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"m": 2, "ef_construction": 4},
        {"m": 100, "ef_construction": 200},
        {"ef_construction": 1000},
        {"name": "n" * 63},
        {"name": "é" * 31 + "n"},
        {"recall_floor": 1.0},
        *({"opclass": opclass} for opclass in OPCLASSES),
    ],
)
def test_the_limits_themselves_are_legal(changed: dict[str, Any]) -> None:
    IndexSpec(**(GOOD | changed))


@pytest.mark.parametrize(
    ("dimensions", "what"), [(None, "no fixed dimensions"), (2001, "2001 dimensions"), (16000, "16000")]
)
def test_a_column_that_no_hnsw_index_holds_is_refused_in_three_lines(dimensions: int | None, what: str) -> None:
    with pytest.raises(SpecIllegal, match=what) as raised:
        check_dimensions(IndexSpec(**GOOD), dimensions)
    assert "pgvector" in raised.value.why
    assert len(str(raised.value).split("\n")) == 3


@pytest.mark.parametrize("dimensions", [1, 1536, 2000])
def test_a_column_up_to_2000_dimensions_is_taken(dimensions: int) -> None:
    check_dimensions(IndexSpec(**GOOD), dimensions)
