"""The curve of one index: recall and latency, one point per ef_search. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from everindex.index.spec import OPCLASSES, IndexSpec
from everindex.units import count_text

Source = Literal["serving", "generation", "sample", "former"]
"""former: it served when it was measured; now another index serves, or none."""

#: The values of ef_search that are tried, closer together where recall still rises.
EF_STEPS = (10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Recall and latency of searches at one ef_search."""

    ef_search: int
    candidates: int | None
    """How many of the index's candidates are re-ranked by their true distance; None if the index has the true distances."""

    recall: float
    low: float
    high: float
    """The 95 % interval of `recall`."""

    queries: int
    median_ms: float
    p95_ms: float
    is_planned: bool
    """False if PostgreSQL uses the index only when sorting is switched off in addition to sequential scans."""

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The parts of an index's definition that tuning may choose."""

    opclass: str
    m: int
    ef_construction: int

    @property
    def key_type(self) -> str:
        return OPCLASSES[self.opclass][0]

    @property
    def words(self) -> str:
        kind = "bit codes" if self.key_type == "bit" else self.key_type
        return f"{kind}, m = {self.m}, ef_construction = {self.ef_construction}"

    def applied_to(self, spec: IndexSpec) -> IndexSpec:
        """`spec` with this shape, and without the ef_search of another one."""
        return replace(
            spec,
            opclass=self.opclass,
            m=self.m,
            ef_construction=self.ef_construction,
            ef_search=None,
            candidates=None,
        )


def shape_of(spec: IndexSpec) -> Shape:
    return Shape(opclass=spec.opclass, m=spec.m, ef_construction=spec.ef_construction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The points of one index, by ef_search."""

    shape: Shape
    source: Source
    index: str | None
    """The name of the measured index; None for one that was built on a sample and dropped."""

    rows: int
    """The number of rows on which it was measured."""

    size_bytes: int
    """Size of the index on all rows: actual, or computed from pgvector's page layout."""

    build_seconds: float | None
    """Expected time to build it on all rows; None for an existing index."""

    points: tuple[Point, ...]

    @property
    def words(self) -> str:
        """Describes which index this is."""
        where = {
            "serving": "serves",
            "generation": "another generation",
            "sample": f"a sample of {count_text(self.rows, 'row')}",
            "former": "served when it was measured",
        }
        return f"{self.shape.words} ({where[self.source]})"

    def at_floor(self, floor: float) -> Point | None:
        """The point with the smallest ef_search whose recall reaches `floor` with confidence: the lower end of its interval does.

        A point at which PostgreSQL would not use the index for searches does not count.
        """
        return next((point for point in self.points if point.low >= floor and point.is_planned), None)

    def at(self, ef_search: int) -> Point | None:
        """The point at that ef_search, or at the next smaller one."""
        return next((point for point in reversed(self.points) if point.ef_search <= ef_search), None)

    @property
    def best(self) -> Point | None:
        """The point with the highest recall."""
        return max(self.points, key=lambda point: point.recall, default=None)

    def as_dict(self) -> dict[str, Any]:
        return {
            "opclass": self.shape.opclass,
            "m": self.shape.m,
            "ef_construction": self.shape.ef_construction,
            "place": self.source,
            "index": self.index,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "build_seconds": self.build_seconds,
            "points": [point.as_dict() for point in self.points],
        }


def curve_from(document: dict[str, Any]) -> Curve:
    """The curve from such a dictionary. Raises KeyError or TypeError for any other."""
    return Curve(
        shape=Shape(opclass=document["opclass"], m=document["m"], ef_construction=document["ef_construction"]),
        source=document["place"],
        index=document["index"],
        rows=document["rows"],
        size_bytes=document["size_bytes"],
        build_seconds=document["build_seconds"],
        points=tuple(Point(**point) for point in document["points"]),
    )


def steps(*, k: int, also: int | None = None) -> tuple[int, ...]:
    """The values of ef_search for searches for k: none below k, with which no search could find k."""
    return tuple(sorted({step for step in (*EF_STEPS, k, also or k) if step >= k}))
