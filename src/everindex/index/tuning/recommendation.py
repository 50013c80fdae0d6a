"""The recommendation of tuning: the chosen configuration, with size and latency before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from everindex.index.build.rate import Rate, measured_rate
from everindex.index.build.vector_index import count_rows
from everindex.index.catalog.observe import observe
from everindex.index.plan.preconditions import check_column
from everindex.index.spec import IndexSpec
from everindex.index.tuning.choose import Choice, choose, nearest_miss, only_cheaper
from everindex.index.tuning.curve import Curve, Point, Shape
from everindex.index.tuning.survey import Say, survey
from everindex.index.tuning.survey_result import Budget, Survey
from everindex.index.tuning.trial import estimate_for, expected_bytes
from everindex.pg.connections import connect
from everindex.units import count_text, size_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one configuration on all rows."""

    shape: Shape
    point: Point | None
    """Its settings, recall and latency; None if that was not measured."""

    measured_over_rows: int
    index_bytes: int
    """Size on disk, and in memory when it is warm."""

    build_memory_bytes: int
    build_seconds: float
    build_seconds_from: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "opclass": self.shape.opclass,
            "m": self.shape.m,
            "ef_construction": self.shape.ef_construction,
            "point": None if self.point is None else self.point.as_dict(),
            "measured_over_rows": self.measured_over_rows,
            "index_bytes": self.index_bytes,
            "build_memory_bytes": self.build_memory_bytes,
            "build_seconds": round(self.build_seconds, 1),
            "build_seconds_from": self.build_seconds_from,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The recommendation for one declared index."""

    survey: Survey
    floor: float
    choice: Choice | None
    """None if no configuration reaches the floor with confidence."""

    before: Cost | None
    """The cost of the serving index; None if none serves."""

    after: Cost | None
    rejected: tuple[str, ...]
    """The configurations that were not chosen, with their results, one sentence each."""

    @property
    def is_whole(self) -> bool:
        """True when the choice was measured on all rows, and not on a sample."""
        return self.choice is not None and self.choice.curve.rows >= self.survey.rows

    @property
    def changes_index(self) -> bool:
        """True when another index must be built; False when only ef_search changes, or nothing."""
        return self.after is not None and (self.before is None or self.before.shape != self.after.shape)

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.survey.as_dict(),
            "floor": self.floor,
            "holds": self.choice is not None,
            "measured_over_all_rows": self.is_whole,
            "builds": self.changes_index,
            "before": None if self.before is None else self.before.as_dict(),
            "after": None if self.after is None else self.after.as_dict(),
            "rejected": list(self.rejected),
        }


def advise(conninfo: str, spec: IndexSpec, *, floor: float, budget: Budget, say: Say = lambda text: None) -> Advice:
    """Measures as `survey` does, the smallest configurations first and none larger than needed, and chooses.

    Reads only, except for temporary tables. Raises what `survey` raises.
    """
    with connect(conninfo, application_name="everindex tune") as connection:
        observed = observe(connection, spec)
        check_column(spec, observed)
        rows = count_rows(connection, spec)
    found = survey(
        conninfo,
        spec,
        budget=budget,
        say=say,
        is_needed=only_cheaper(observed, rows=rows, floor=floor),
    )
    choice = choose(found.curves, floor=floor)
    serving = found.serving
    return Advice(
        survey=found,
        floor=floor,
        choice=choice,
        before=None if serving is None else _cost(conninfo, found, serving, serving.at(found.chosen_ef_search)),
        after=None if choice is None else _cost(conninfo, found, choice.curve, choice.point),
        rejected=_rejected(found, choice, floor),
    )


def _cost(conninfo: str, found: Survey, curve: Curve, point: Point | None) -> Cost:
    spec = curve.shape.applied_to(found.spec)
    with connect(conninfo, application_name="everindex tune") as connection:
        rate = measured_rate(connection, spec, found.observed) if curve.build_seconds is None else None
        estimate = estimate_for(
            connection, spec, found.observed, rows=found.rows, rate=rate if isinstance(rate, Rate) else None
        )
    is_there = curve.index is not None
    return Cost(
        shape=curve.shape,
        point=point,
        measured_over_rows=curve.rows,
        index_bytes=curve.size_bytes if is_there else expected_bytes(curve.shape, found.observed, rows=found.rows),
        build_memory_bytes=estimate.memory_needed_bytes,
        build_seconds=estimate.seconds if curve.build_seconds is None else curve.build_seconds,
        build_seconds_from=estimate.seconds_from
        if curve.build_seconds is None
        else f"a build on a sample of {count_text(curve.rows, 'row')}",
    )


def _rejected(found: Survey, choice: Choice | None, floor: float) -> tuple[str, ...]:
    """Why the others were not chosen: they do not hold the floor, or are larger or slower."""
    reasons = []
    for curve in found.curves:
        if choice is not None and curve.shape == choice.curve.shape:
            continue
        held = curve.at_floor(floor)
        size = f"{size_text(curve.size_bytes)}"
        if held is not None:
            reasons.append(
                f"{curve.words}: holds the floor at ef_search {held.ef_search} in {held.median_ms:.1f} ms, with {size}"
            )
        elif (best := nearest_miss([curve])) is not None:
            reasons.append(
                f"{curve.words}: recall {best.point.recall:.3f} at best, {best.point.low:.3f} with confidence, at "
                f"ef_search {best.point.ef_search}, with {size}"
            )
    return tuple(reasons)
