"""The fixed map from 256 dimensions to the column's width."""

from __future__ import annotations

import numpy as np
import pytest

from everindex.articles.embedding import orthonormal_map
from everindex.errors import EmbeddingModelUnusable


@pytest.mark.parametrize("width", [256, 257, 384, 768, 1024, 1536, 3072])
def test_the_columns_are_orthonormal(width: int) -> None:
    columns = orthonormal_map(width).astype(np.float64)
    assert columns.shape == (width, 256)
    np.testing.assert_allclose(columns.T @ columns, np.eye(256), atol=1e-6)


def test_the_map_is_the_same_for_ever() -> None:
    # Never correct these numbers: vectors in people's tables were made with them. Another map is another model.
    expected = [[0.02551552, 0.02568218, -0.02683715], [0.02551552, -0.02534994, -0.02549907]]
    np.testing.assert_allclose(orthonormal_map(1536)[:2, :3], expected, atol=1e-7)
    np.testing.assert_allclose(orthonormal_map(1536)[-1, -3:], [-0.02339014, 0.01130112, 0.01551819], atol=1e-7)


def test_the_map_does_not_depend_on_the_random_state() -> None:
    first = orthonormal_map(300).copy()
    np.random.seed(1)
    orthonormal_map.cache_clear()
    np.testing.assert_array_equal(orthonormal_map(300), first)


def test_distances_stay_as_they_are() -> None:
    vectors = np.random.default_rng(7).normal(size=(200, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mapped = vectors @ orthonormal_map(1536).T
    np.testing.assert_allclose(mapped @ mapped.T, vectors @ vectors.T, atol=2e-6)


def test_the_signs_of_a_mapped_vector_are_balanced_as_a_bit_code_needs() -> None:
    vectors = np.random.default_rng(7).normal(size=(500, 256)).astype(np.float32)
    share = (vectors @ orthonormal_map(1536).T > 0).mean(axis=0)
    assert 0.35 < share.min() <= share.max() < 0.65


def test_the_cached_map_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        orthonormal_map(1536)[0, 0] = 1.0


def test_a_width_below_the_model_s_has_no_isometric_map() -> None:
    with pytest.raises(EmbeddingModelUnusable, match="255"):
        orthonormal_map(255)
