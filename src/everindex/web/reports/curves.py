"""The last measured curves with the chosen ef_search, and recall since then, for the page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from everindex.index.catalog.effective_spec import read_tuned
from everindex.index.catalog.observed import Observed
from everindex.index.catalog.roles import serving_spec
from everindex.index.catalog.tuned import Tuned, ef_search_for
from everindex.index.spec import IndexSpec
from everindex.index.tuning import curve_history
from everindex.index.tuning.curve import shape_of
from everindex.index.tuning.curve_history import KeptCurves
from everindex.pg.connections import Connection
from everindex.web.reports.curve_chart import Chart, draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """The last measurement of the serving index."""

    kept: KeptCurves
    tuned: Tuned | None
    chosen: int
    """The ef_search that a search for `kept.k` uses now."""

    chart: Chart | None
    is_index_there: bool
    """Whether an index is serving now."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "at": self.kept.at,
            "k": self.kept.k,
            "rows": self.kept.rows,
            "queries": self.kept.queries,
            "exact_ms": self.kept.exact_ms,
            "chosen_ef_search": self.chosen,
            "tuned_for": None if self.tuned is None else self.tuned.recall_floor,
            "curves": [curve.as_dict() for curve in self.kept.curves],
        }


def read_curves(connection: Connection, spec: IndexSpec, observed: Observed) -> Curves | None:
    """The last measured curves; None where none are stored. Reads only."""
    kept = curve_history.latest(connection, spec)
    if kept is None:
        return None
    serving = serving_spec(spec, observed)
    shape = None if serving is None else shape_of(serving[0])
    curves = tuple(
        replace(curve, source="former") if curve.source == "serving" and curve.shape != shape else curve
        for curve in kept.curves
    )
    kept = replace(kept, curves=curves)
    tuned = None if serving is None else read_tuned(connection, spec, serving[1])
    chosen = ef_search_for(kept.k, tuned)
    floor = spec.recall_floor if tuned is None else tuned.recall_floor
    return Curves(
        kept=kept,
        tuned=tuned,
        chosen=chosen,
        chart=draw(kept.curves, k=kept.k, floor=floor, chosen=chosen),
        is_index_there=serving is not None,
    )
