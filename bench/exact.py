"""The exact result of a search: cosine neighbours by numpy, and the share of them that a search has found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
#: Rows at once: their similarities to 1,000 queries are 80 MB.
CHUNK = 20_000
#: Two rows whose similarities differ by less are equally right: float32 sums of 1,536 products differ by as much.
SAME = 1e-5


class Exact:
    """The similarities of the k nearest rows of each query, over rows that are added part by part."""

    def __init__(self, queries: Vectors, *, k: int) -> None:
        self._queries = unit(queries)
        self._k = k
        self._best = np.full((len(queries), k), -np.inf, dtype=np.float32)

    def add(self, vectors: Vectors) -> None:
        """(n, dim) further rows. A row of zeros has no direction and is nobody's neighbour."""
        for start in range(0, len(vectors), CHUNK):
            part = vectors[start : start + CHUNK]
            likeness = self._queries @ unit(part).T
            likeness[:, ~part.any(axis=1)] = -np.inf
            both = np.concatenate([self._best, likeness], axis=1)
            self._best = -np.partition(-both, self._k - 1, axis=1)[:, : self._k]

    def recall(self, query: int, found: npt.NDArray[np.float32]) -> float:
        """0 to 1: how many of the right neighbours of a query are among `found`, given by similarity. 1 where none exist.

        A row counts as right when it is as near as the last of the right ones: equal rows can stand for each other.
        """
        best = self._best[query]
        there = int(np.isfinite(best).sum())
        if there == 0:
            return 1.0
        worst = float(best[np.isfinite(best)].min())
        return min(int((found >= worst - SAME).sum()), there) / there

    def there(self, query: int) -> int:
        """How many of k exist."""
        return int(np.isfinite(self._best[query]).sum())


def exact(vectors: Vectors, queries: Vectors, *, k: int) -> Exact:
    """The exact answers of all queries over all rows."""
    found = Exact(queries, k=k)
    found.add(vectors)
    return found


def unit(vectors: Vectors) -> Vectors:
    """The same directions at length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)
