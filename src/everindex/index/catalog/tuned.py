"""The result of tuning one declared index: a definition, an ef_search, and the settings of a search for k neighbours. Pure.

Where it is stored, and when it replaces what the code declares, is in `effective_spec.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from everindex.index.catalog.observed import ObservedIndex
from everindex.index.spec import (
    CANDIDATES_PER_NEIGHBOUR,
    DEFAULT_EF_SEARCH,
    DEFAULT_K,
    MAX_EF_SEARCH,
    OPCLASSES,
    IndexSpec,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedPoint:
    """What a search for k neighbours must set to hold the requested recall."""

    k: int
    ef_search: int
    candidates: int | None = None
    """How many candidates are re-ranked, if the index holds codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """One applied tuning of one declared index."""

    opclass: str
    m: int
    ef_construction: int
    recall_floor: float
    points: tuple[TunedPoint, ...]
    """At least one point; sorted by k, smallest first."""

    declared_digest: str
    """`definition_digest` of the declaration that it replaces; it does not apply to any other declaration."""

    tuned_at: datetime | None = None

    @property
    def key_type(self) -> str:
        """vector, halfvec or bit."""
        return OPCLASSES[self.opclass][0]

    def is_of(self, index: ObservedIndex) -> bool:
        """True when `index` has the tuned definition."""
        return (index.opclass, index.m, index.ef_construction) == (self.opclass, self.m, self.ef_construction)

    def as_declared(self, spec: IndexSpec) -> IndexSpec:
        """`spec` with the tuned values instead of the declared ones.

        If it was tuned for less than the declared recall, proofs and the keeper require no more than that.
        """
        return replace(
            spec,
            opclass=self.opclass,
            m=self.m,
            ef_construction=self.ef_construction,
            ef_search=ef_search_for(DEFAULT_K, self),
            candidates=candidates_for(DEFAULT_K, self.key_type, self) if self.key_type != "vector" else None,
            recall_floor=min(spec.recall_floor, self.recall_floor),
        )


def ef_search_for(k: int, tuned: Tuned | None) -> int:
    """hnsw.ef_search of a search for k neighbours: from the tuned curve, otherwise twice k and at least pgvector's default.

    Between two tuned k it is interpolated, beyond the last it grows proportionally; 1 to 1000. Pure.
    """
    if tuned is None:
        return min(max(DEFAULT_EF_SEARCH, 2 * k), MAX_EF_SEARCH)
    chosen = _at(k, [(point.k, point.ef_search) for point in tuned.points])
    return min(max(k, chosen), MAX_EF_SEARCH)


def candidates_for(k: int, key_type: str, tuned: Tuned | None) -> int:
    """How many candidates an index of that type returns for re-ranking k neighbours: k for vector. Pure."""
    known = [] if tuned is None else [(p.k, p.candidates) for p in tuned.points if p.candidates is not None]
    chosen = _at(k, known) if known else k * CANDIDATES_PER_NEIGHBOUR[key_type]
    return max(k, min(chosen, MAX_EF_SEARCH))


def _at(k: int, points: list[tuple[int, int]]) -> int:
    """The value at k of a line through the points: constant before the first, through the origin after the last."""
    before = [point for point in points if point[0] <= k]
    after = [point for point in points if point[0] > k]
    if not before:
        return points[0][1]
    (low_k, low) = before[-1]
    if not after:
        return -(-low * k // low_k)
    (high_k, high) = after[0]
    return low + -(-(high - low) * (k - low_k) // (high_k - low_k))
