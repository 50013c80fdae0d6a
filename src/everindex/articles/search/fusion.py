"""Which articles are best, when several searches have each their own order? Reciprocal rank fusion. Pure.

Distances and ts_rank_cd cannot be added up: they have different scales, and neither says how good it is. Places can. An
article scores the sum of 1 / (60 + place) over the searches that found it.

Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
SIGIR 2009, which found 60 and that it hardly matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: How much less a first place is worth than all of it: with 60, a first and a tenth place differ by 15 %.
RANK_CONSTANT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """One article of the fused order."""

    uri: str
    score: float
    ranks: tuple[int | None, ...]
    """Its place in each of the searches, from 1; None where that one did not find it."""


def fuse(*orders: Sequence[str]) -> list[Fused]:
    """The union of `orders` (each best first, no uri twice), best first.

    At equal scores the better single place comes first, then the smaller uri: the same input has one answer, in whichever
    order the searches are given.
    """
    ranks = [{uri: rank for rank, uri in enumerate(order, start=1)} for order in orders]
    found = [
        Fused(uri=uri, score=score(places), ranks=places)
        for uri in {uri for order in orders for uri in order}
        for places in [tuple(each.get(uri) for each in ranks)]
    ]
    return sorted(found, key=lambda one: (-one.score, min(rank for rank in one.ranks if rank is not None), one.uri))


def score(ranks: Sequence[int | None]) -> float:
    """The sum of reciprocal ranks, rounded once, so that the order of the searches cannot change it."""
    return math.fsum(1 / (RANK_CONSTANT + rank) for rank in ranks if rank is not None)
