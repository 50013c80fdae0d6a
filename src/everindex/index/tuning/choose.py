"""The choice among measured configurations: the cheapest that holds a recall floor. Pure.

The rule: among all indexes whose recall reaches the floor with confidence (the lower end of the 95 % interval does), choose
the smallest; sizes within SIZE_TIE of it count as equal. Among those, choose the fastest search; the serving index stays in
place unless another one is faster by more than WORTH_A_BUILD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from everindex.index.catalog.observed import Observed
from everindex.index.tuning.curve import Curve, Point, Shape
from everindex.index.tuning.survey import IsNeeded
from everindex.index.tuning.trial import expected_bytes

SIZE_TIE = 1.05
WORTH_A_BUILD = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A configuration, and the point of its curve that holds the floor at the least cost."""

    curve: Curve
    point: Point


def choose(curves: Sequence[Curve], *, floor: float) -> Choice | None:
    """The cheapest that holds `floor`; None if none does."""
    fit = [Choice(curve=curve, point=point) for curve in curves if (point := curve.at_floor(floor)) is not None]
    if not fit:
        return None
    smallest = min(choice.curve.size_bytes for choice in fit)
    small = [choice for choice in fit if choice.curve.size_bytes <= SIZE_TIE * smallest]
    fastest = min(small, key=lambda choice: choice.point.median_ms)
    serving = next((choice for choice in small if choice.curve.source == "serving"), None)
    if serving is None:
        return fastest
    # Searches on a sample are faster than on all rows, so a sample is only compared with a sample.
    twins = [choice for choice in small if choice.curve.shape == serving.curve.shape]
    own_ms = min(choice.point.median_ms for choice in twins)
    is_worth_it = fastest not in twins and fastest.point.median_ms < (1 - WORTH_A_BUILD) * own_ms
    return fastest if is_worth_it else serving


def only_cheaper(observed: Observed, *, rows: int, floor: float) -> IsNeeded:
    """A predicate for shapes that may still be chosen: every shape, until a smaller one is found to hold `floor`."""

    def is_needed(shape: Shape, curves: list[Curve]) -> bool:
        found = choose(curves, floor=floor)
        size = expected_bytes(shape, observed, rows=rows)
        return found is None or size <= SIZE_TIE * found.curve.size_bytes

    return is_needed


def nearest_miss(curves: Sequence[Curve]) -> Choice | None:
    """The point that came nearest to a floor that none reached: the one with the highest lower end."""
    points = [Choice(curve=curve, point=point) for curve in curves for point in curve.points]
    return max(points, key=lambda choice: choice.point.low, default=None)
