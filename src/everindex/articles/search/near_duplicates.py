"""Which articles say what a nearer one has said already? Those closer to it than a threshold. Pure."""

from __future__ import annotations

import numpy as np

from everindex.articles.search.diversity import Vectors, unit
from everindex.errors import QueryInvalid

#: Cosine distance below which two articles are taken for one. In the sample 97 % of the pairs closer than this share at
#: least four fifths of their text, and half of those just beyond it (docs/measurements/answers.md). Models differ.
NEAR_DUPLICATE_DISTANCE = 0.05


def check_threshold(threshold: float) -> None:
    """Raises QueryInvalid for what is no cosine distance."""
    if not 0 < threshold <= 2:
        raise QueryInvalid(
            f"a near-duplicate cannot be told by a distance of {threshold}.",
            why="articles closer to each other than this count as one; cosine distances go from 0 to 2.",
            next_step=f"choose a number above 0 and up to 2; {NEAR_DUPLICATE_DISTANCE} is what is used without one.",
        )


def without_near_duplicates(vectors: Vectors, *, threshold: float, of: Vectors | None = None) -> list[int]:
    """The numbers of the candidates that are kept, in their order.

    Each of `vectors` ((n, dim), best first) is kept unless it is closer than `threshold` to one kept before it, or to `of`
    ((dim,): the article that they are compared with). A row of near-duplicates can drift: the third may be kept though it
    is close to the second, which was not.
    """
    directions = unit(vectors)
    kept: list[int] = []
    # Room for all of them at once: a growing array would be copied for each.
    against = np.empty((len(directions) + 1, directions.shape[-1]))
    count = 0
    if of is not None:
        against[0] = unit(of)[0]
        count = 1
    for number, direction in enumerate(directions):
        if count == 0 or 1 - float(np.max(against[:count] @ direction)) >= threshold:
            against[count] = direction
            count += 1
            kept.append(number)
    return kept
