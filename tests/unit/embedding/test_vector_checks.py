"""Which vectors may go to the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from everindex.articles.embedding import check_vectors
from everindex.articles.embedding.provider import EmbeddingBatch


def test_good_vectors_have_no_reason() -> None:
    assert check_vectors(np.eye(4, dtype=np.float32), 4) == {}
    assert check_vectors(np.eye(4, dtype=np.int64), 4) == {}
    assert check_vectors(np.empty((0, 4), dtype=np.float32), 4) == {}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([0, 0], "zero"),
        ([float("nan"), 1], "finite"),
        ([float("-inf"), 1], "finite"),
        ([1e300, 1], "finite"),
        ([1e-5, 0], "too short"),
        ([-70000, 1], "65504"),
    ],
)
def test_a_bad_vector_has_its_reason_and_the_others_none(row: list[float], reason: str) -> None:
    found = check_vectors(np.array([[1, 2], row, [3, 4]], dtype=np.float64), 2)
    assert list(found) == [1]
    assert reason in found[1]


def test_another_width_refuses_every_row() -> None:
    found = check_vectors(np.ones((2, 3)), 4)
    assert found == dict.fromkeys((0, 1), "the vector has 3 dimensions, the column has 4")


@pytest.mark.parametrize("array", [np.ones(3), np.ones((3, 2, 2)), np.array([["a", "b"]] * 3), np.ones((3, 2), bool)])
def test_what_is_not_rows_of_numbers_is_refused(array: Any) -> None:
    assert sorted(check_vectors(array, 2)) == [0, 1, 2]


@given(
    arrays.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int32]),
        st.tuples(st.integers(0, 6), st.just(3)),
    )
)
def test_exactly_the_rows_without_a_reason_can_be_compared(array: Any) -> None:
    found = check_vectors(array, 3)
    for number, row in enumerate(array):
        with np.errstate(over="ignore"):
            single = row.astype(np.float32).astype(np.float64)
        usable = bool(np.isfinite(single).all() and np.abs(single).max() <= 65504 and np.linalg.norm(single) >= 1e-3)
        assert (number not in found) == usable


def test_a_checked_batch_leaves_the_caller_s_array_alone() -> None:
    mine = np.zeros((2, 2), dtype=np.float32)
    mine[0] = 1
    batch = EmbeddingBatch.checked(mine, width=2, failures={1: "known before"})
    assert batch.failures == {1: "known before"}
    assert np.isnan(batch.vectors[1]).all()
    assert not np.isnan(mine).any()
