"""The layout of a chart of curves: recall upwards, latency to the right, in a box of fixed size. Pure.

Both axes are logarithmic, that of recall in 1 − recall: 0.98 and 0.99 are as far apart as 0.8 and 0.9.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from everindex.index.tuning.curve import Curve, Point
from everindex.units import count_text, size_text
from everindex.web.reports.chart_axes import Tick

WIDTH, PLOT_HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 28, 14, 46
RECALL_TICKS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
LEAST_MISSED = 0.0005
#: The height of a legend line.
ROW_HEIGHT = 20
#: Possible positions of a number beside a point, its size, and its distance from lines and other numbers.
LABEL_OFFSETS = ((7, 4), (-3, 18), (-3, -8), (7, 16), (-15, 16), (-15, -6))
LABEL_SIZE = 12
LABEL_ROOM = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One measured point."""

    x: float
    y: float
    words: str
    """Its text for tooltips and screen readers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve."""

    number: int
    """Shown at `label` and in the legend, since many readers cannot distinguish the colours."""

    kind: str
    """vector, halfvec or bit; determines the colour."""

    is_sample: bool
    words: str
    path: str
    """For the `points` of a polyline."""

    marks: tuple[Mark, ...]
    label: tuple[float, float]
    """The position of its number, at its last point where the numbers of other lines stay legible."""

    legend_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of curves."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    floor_y: float | None
    chosen: Mark | None
    """The point of the ef_search that searches use now."""

    k: int
    words: str
    """The whole chart in sentences, for readers who cannot see it."""


def draw(curves: Sequence[Curve], *, k: int, floor: float | None = None, chosen: int | None = None) -> Chart | None:
    """The chart of all curves; None where there are no points. `chosen` is the ef_search of searches on the serving index."""
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        return None
    scale = _Scale([point for curve in drawn for point in curve.points], floor)
    marks = [tuple(_mark(point, scale) for point in curve.points) for curve in drawn]
    taken = [place for of_one in marks for place in _along(of_one)]
    lines: list[Line] = []
    for number, curve in enumerate(drawn, start=1):
        lines.append(_line(curve, number, marks[number - 1], taken))
        x, y = lines[-1].label
        taken.append((x + LABEL_SIZE / 3, y - LABEL_SIZE / 3))
    serving = next((curve for curve in drawn if curve.source == "serving"), None)
    point = None if serving is None or chosen is None else serving.at(chosen)
    return Chart(
        width=WIDTH,
        height=PLOT_HEIGHT + ROW_HEIGHT * len(lines) + 8,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=PLOT_HEIGHT - BOTTOM,
        lines=tuple(lines),
        x_ticks=scale.x_ticks,
        y_ticks=scale.y_ticks,
        floor_y=None if floor is None else scale.y(floor),
        chosen=None if point is None else _mark(point, scale),
        k=k,
        words=" ".join(_described(line, curve) for line, curve in zip(lines, drawn, strict=True)),
    )


def _missed(recall: float) -> float:
    """−log10 of the missed share; LEAST_MISSED counts as none missed."""
    return -math.log10(max(1 - recall, LEAST_MISSED))


class _Scale:
    """The mapping from milliseconds and recall to positions in the box."""

    def __init__(self, points: list[Point], floor: float | None) -> None:
        times = [max(point.median_ms, 0.01) for point in points]
        low, high = math.log10(min(times)), math.log10(max(times))
        spread = max(high - low, 0.3)
        self._x_low, self._x_high = low - 0.05 * spread, low + 1.05 * spread
        least = min([point.recall for point in points] + ([] if floor is None else [floor]))
        lowest = max((value for value in RECALL_TICKS if value <= least), default=0.0)
        self._y_low = _missed(min(lowest, RECALL_TICKS[-3]))
        self.x_ticks = tuple(
            Tick(at=self.x(value), label=f"{value:g}")
            for power in range(-2, 6)
            for value in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
            if self._x_low <= math.log10(value) <= self._x_high
        )
        self.y_ticks = tuple(
            Tick(at=self.y(value), label=f"{value:g}") for value in RECALL_TICKS if _missed(value) >= self._y_low
        )

    def x(self, milliseconds: float) -> float:
        share = (math.log10(max(milliseconds, 0.01)) - self._x_low) / (self._x_high - self._x_low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, recall: float) -> float:
        share = (_missed(recall) - self._y_low) / (_missed(1.0) - self._y_low)
        return round(PLOT_HEIGHT - BOTTOM - share * (PLOT_HEIGHT - TOP - BOTTOM), 1)


def _line(curve: Curve, number: int, marks: tuple[Mark, ...], taken: Sequence[tuple[float, float]]) -> Line:
    return Line(
        number=number,
        kind=curve.shape.key_type,
        is_sample=curve.source == "sample",
        words=f"{curve.words}, {size_text(curve.size_bytes)}",
        path=" ".join(f"{mark.x},{mark.y}" for mark in marks),
        marks=marks,
        label=_label(marks, taken),
        legend_y=PLOT_HEIGHT + ROW_HEIGHT * (number - 0.5),
    )


def _label(marks: Sequence[Mark], taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """A free position beside a point, trying the last point first, since curves that reach recall 1 end close together."""
    places = [(round(mark.x + dx, 1), round(mark.y + dy, 1)) for mark in reversed(marks) for dx, dy in LABEL_OFFSETS]
    for x, y in places:
        middle_x, middle_y = x + LABEL_SIZE / 3, y - LABEL_SIZE / 3
        is_inside = x <= WIDTH - LABEL_SIZE and y >= LABEL_SIZE
        if is_inside and all(abs(middle_x - a) >= LABEL_ROOM or abs(middle_y - b) >= LABEL_ROOM for a, b in taken):
            return x, y
    return places[0]


def _along(marks: Sequence[Mark]) -> list[tuple[float, float]]:
    """Positions along a curve, close enough that no number fits between two of them."""
    found = [(marks[0].x, marks[0].y)]
    for before, after in itertools.pairwise(marks):
        parts = 1 + int(math.dist((before.x, before.y), (after.x, after.y)) / LABEL_ROOM)
        found += [
            (before.x + (after.x - before.x) * part / parts, before.y + (after.y - before.y) * part / parts)
            for part in range(1, parts + 1)
        ]
    return found


def _mark(point: Point, scale: _Scale) -> Mark:
    again = "" if point.candidates is None else f", {count_text(point.candidates, 'candidate')} re-ranked"
    return Mark(
        x=scale.x(point.median_ms),
        y=scale.y(point.recall),
        words=f"ef_search {point.ef_search}{again}: recall {point.recall:.3f} ({point.low:.3f} to {point.high:.3f}), "
        f"median {point.median_ms:.1f} ms, p95 {point.p95_ms:.1f} ms",
    )


def _described(line: Line, curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    return (
        f"{line.number}: {line.words}: from recall {first.recall:.3f} in {first.median_ms:.1f} ms at ef_search "
        f"{first.ef_search} to {last.recall:.3f} in {last.median_ms:.1f} ms at {last.ef_search}."
    )
