"""The result of a survey, and its budget. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from everindex.index.catalog.observed import Observed
from everindex.index.spec import IndexSpec
from everindex.index.tuning.curve import Curve
from everindex.index.tuning.measure import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a survey of one index may spend."""

    k: int = 10
    queries: int = 100
    sample_rows: int = 10_000
    """0: only existing indexes are measured."""

    other_generations: bool = True
    """Whether generations other than the serving one are measured, too."""

    max_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The measurements of one declared index."""

    spec: IndexSpec
    k: int
    rows: int
    queries: str
    """Number and source of the queries, in words."""

    exact_ms: float
    chosen_ef_search: int
    """The ef_search that a search for k sets now."""

    curves: tuple[Curve, ...]
    left_out: tuple[LeftOut, ...]
    observed: Observed = field(repr=False)

    @property
    def serving(self) -> Curve | None:
        return next((curve for curve in self.curves if curve.source == "serving"), None)

    def as_dict(self) -> dict[str, Any]:
        return {
            "index": self.spec.name,
            "schema": self.spec.schema,
            "table": self.spec.table,
            "k": self.k,
            "rows": self.rows,
            "queries": self.queries,
            "exact_ms": self.exact_ms,
            "chosen_ef_search": self.chosen_ef_search,
            "curves": [curve.as_dict() for curve in self.curves],
            "left_out": [each.sentence for each in self.left_out],
        }
