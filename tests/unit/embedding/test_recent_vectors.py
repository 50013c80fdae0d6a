"""The pages of one search are measured from one vector, also where the model gives another each time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from everindex.articles.embedding.provider import EmbeddingBatch
from everindex.articles.embedding.recent import RecentVectors
from everindex.errors import EmbeddingFailed


class Drifting:
    """An embedder whose vectors differ a little from call to call, as those of hosted models do."""

    dimensions = 4

    def __init__(self, *, model: str = "drifting", is_remote: bool = True) -> None:
        self.model = model
        self.is_remote = is_remote
        self.calls = 0

    def embed(self, texts: Sequence[str]) -> EmbeddingBatch:
        self.calls += 1
        vectors = np.ones((len(texts), 4), dtype=np.float32)
        vectors[:, 0] += np.float32(self.calls / 1000)
        failures = {0: "refused"} if texts == ["bad"] else {}
        return EmbeddingBatch.checked(vectors, width=4, failures=failures)


def test_a_text_asked_again_has_the_same_vector_and_costs_no_call() -> None:
    recent, embedder = RecentVectors(), Drifting()
    first = recent.vector(embedder, "leak")
    assert np.array_equal(recent.vector(embedder, "leak"), first)
    assert embedder.calls == 1
    assert not np.array_equal(recent.vector(Drifting(model="other"), "leak"), recent.vector(embedder, "crash"))


def test_only_the_last_texts_are_kept_and_one_that_is_used_stays() -> None:
    recent, embedder = RecentVectors(kept=2), Drifting()
    kept = recent.vector(embedder, "a")
    recent.vector(embedder, "b")
    recent.vector(embedder, "a")
    recent.vector(embedder, "c")
    assert recent.known(embedder, "b") is None
    assert recent.known(embedder, "a") is kept


def test_a_kept_vector_cannot_be_changed_by_who_got_it() -> None:
    vector = RecentVectors().vector(Drifting(), "leak")
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 0


def test_a_failure_is_not_kept() -> None:
    recent, embedder = RecentVectors(), Drifting()
    for _ in range(2):
        with pytest.raises(EmbeddingFailed):
            recent.vector(embedder, "bad")
    assert embedder.calls == 2


def test_a_model_of_this_process_is_asked_each_time() -> None:
    recent, embedder = RecentVectors(), Drifting(is_remote=False)
    recent.vector(embedder, "leak")
    recent.vector(embedder, "leak")
    assert embedder.calls == 2
