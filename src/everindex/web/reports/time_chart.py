"""The layout of a chart over time: one or more series of values upwards, in a box of fixed size. Pure."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from everindex.web.reports.chart_axes import Tick

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 74, 20, 14, 40
ROW_HEIGHT = 20
#: Positions of times on the horizontal axis.
TIMES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value at a time; `low` and `high` are the ends of its interval, where it has one."""

    at: dt.datetime
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One drawn series."""

    number: int
    name: str
    path: str
    """For the `points` of a polyline."""

    dots: tuple[tuple[float, float, str], ...]
    """x, y and its text for tooltips."""

    bars: tuple[tuple[float, float, float], ...]
    """x and both ends of the interval."""

    legend_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeChart:
    """A chart over time."""

    name: str
    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    floor_y: float | None
    words: str
    """The chart in sentences, for readers who cannot see it."""


def draw(
    named: Sequence[tuple[str, Sequence[Sample]]],
    *,
    name: str,
    text: Callable[[float], str],
    floor: float | None = None,
    lowest: float | None = 0.0,
    highest: float | None = None,
) -> TimeChart | None:
    """The chart of these series; None where none has two samples. `text` writes a value; `lowest` and `highest` are the ends of
    the vertical axis, where None they follow the values."""
    drawn = [(title, list(samples)) for title, samples in named if len(samples) > 1]
    if not drawn:
        return None
    everything = [sample for _, samples in drawn for sample in samples]
    first, last = min(sample.at for sample in everything), max(sample.at for sample in everything)
    values = [value for sample in everything for value in (sample.low, sample.value, sample.high) if value is not None]
    bottom = min([*values, *([] if floor is None else [floor])]) if lowest is None else lowest
    top = max(values) if highest is None else highest
    if top <= bottom:
        top = bottom + (abs(bottom) * 0.1 or 1.0)
    seconds = max((last - first).total_seconds(), 1.0)

    def x(at: dt.datetime) -> float:
        return round(LEFT + (at - first).total_seconds() / seconds * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    form = "%H:%M" if seconds < 2 * 86400 else "%Y-%m-%d"
    return TimeChart(
        name=name, width=WIDTH, height=HEIGHT + ROW_HEIGHT * len(drawn), left=LEFT, right=WIDTH - RIGHT, top=TOP,
        bottom=HEIGHT - BOTTOM,
        series=tuple(
            Series(
                number=number, name=title,
                path=" ".join(f"{x(sample.at)},{y(sample.value)}" for sample in samples),
                dots=tuple(
                    (x(sample.at), y(sample.value), f"{title}, {sample.at:%Y-%m-%d %H:%M} UTC: {text(sample.value)}")
                    for sample in samples
                ),
                bars=tuple(
                    (x(sample.at), y(sample.low), y(sample.high))
                    for sample in samples if sample.low is not None and sample.high is not None
                ),
                legend_y=HEIGHT + ROW_HEIGHT * (number - 0.5),
            )
            for number, (title, samples) in enumerate(drawn, start=1)
        ),
        x_ticks=tuple(
            Tick(at=x(at), label=at.strftime(form))
            for at in (first + (last - first) * (step / (TIMES - 1)) for step in range(TIMES))
        ),
        y_ticks=tuple(Tick(at=y(value), label=text(value)) for value in _steps(bottom, top)),
        floor_y=None if floor is None or not bottom <= floor <= top else y(floor),
        words=" ".join(
            f"{title}: {text(samples[0].value)} on {samples[0].at:%Y-%m-%d %H:%M}, {text(samples[-1].value)} on "
            f"{samples[-1].at:%Y-%m-%d %H:%M} UTC, between {text(min(sample.value for sample in samples))} and "
            f"{text(max(sample.value for sample in samples))}."
            for title, samples in drawn
        ),
    )  # fmt: skip


def _steps(bottom: float, top: float) -> list[float]:
    """Four to eight round values between both ends."""
    rough = (top - bottom) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(bottom / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(top / step + 1e-9) + 1)]
