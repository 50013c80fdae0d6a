"""Which articles tell the most together, when the nearest all say the same? Maximal marginal relevance. Pure.

Taken one by one: each time the article for which (1 − diversity) × likeness to the query − diversity × likeness to the most
alike of those already taken is largest. The first is always the nearest.

Source: Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries",
SIGIR 1998. Their λ is 1 − diversity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from everindex.errors import QueryInvalid

Vectors = npt.NDArray[np.floating[Any]]


def check_diversity(diversity: float) -> None:
    """Raises QueryInvalid for what is not within 0 and 1."""
    if not 0 <= diversity <= 1:
        raise QueryInvalid(
            f"diversity = {diversity} cannot be used.",
            why="it weighs how unlike each other the articles are: 0 is by distance alone, 1 by unlikeness alone.",
            next_step="choose a number from 0 to 1; 0.3 is a good start.",
        )


def most_diverse(likeness: Vectors, vectors: Vectors, *, k: int, diversity: float) -> list[int]:
    """The numbers of k candidates in the order in which they are taken; all of them where there are fewer.

    `likeness`: (n,), to the query, 1 at most, largest first; `vectors`: (n, dim), of any length; one of zeros is like no
    other. Of candidates equally good the earlier is taken: the same input has one answer. Time grows with k × n × dim.
    """
    directions = unit(vectors)
    relevance = np.asarray(likeness, dtype=np.float64)
    nearest_taken = np.full(len(directions), -np.inf)
    is_free = np.ones(len(directions), dtype=bool)
    taken: list[int] = []
    while len(taken) < min(k, len(directions)):
        # Nothing is taken yet: nothing to be unlike, and the nearest is first whatever the weights are.
        worth = (1 - diversity) * relevance - diversity * nearest_taken if taken else relevance
        chosen = int(np.argmax(np.where(is_free, worth, -np.inf)))
        taken.append(chosen)
        is_free[chosen] = False
        np.maximum(nearest_taken, directions @ directions[chosen], out=nearest_taken)
    return taken


def unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The vectors, (n, dim), brought to length 1 (but zeros); in float64, so that equal ones have a product of 1 within 1e-15."""
    wide = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    directions: npt.NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)
    return directions
