"""The chart over time stays in its box, and says in words what it shows."""

from __future__ import annotations

import datetime as dt
import random

import pytest

from everindex.web.reports.time_chart import Sample, draw

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize("lowest", [None, 0.0])
def test_every_point_is_within_the_axes(lowest: float | None) -> None:
    chosen = random.Random(7)
    for _ in range(200):
        largest = 10.0 ** chosen.randint(-3, 12)
        samples = [
            Sample(at=START + dt.timedelta(seconds=at), value=chosen.choice((0.0, largest, chosen.uniform(0, largest))))
            for at in sorted(chosen.choices(range(10**7), k=chosen.randint(2, 20)))
        ]
        chart = draw([("size", samples)], name="x", text=lambda value: f"{value:.3g}", lowest=lowest)
        assert chart is not None
        for x, y, _ in chart.series[0].dots:
            assert chart.left <= x <= chart.right
            assert chart.top <= y <= chart.bottom
        assert all(chart.top <= tick.at <= chart.bottom for tick in chart.y_ticks)


def test_one_sample_is_no_chart_and_two_are_told_in_words() -> None:
    one = Sample(at=START, value=0.9, low=0.85, high=0.95)
    assert draw([("rows", [one])], name="x", text=str) is None
    two = [one, Sample(at=START + dt.timedelta(hours=3), value=1.0, low=0.96, high=1.0)]
    chart = draw([("rows", two)], name="x", text=lambda value: f"{value:.2f}", floor=0.95, lowest=None, highest=1.0)
    assert chart is not None
    assert chart.words == "rows: 0.90 on 2026-01-01 00:00, 1.00 on 2026-01-01 03:00 UTC, between 0.90 and 1.00."
    assert chart.floor_y is not None
    assert [tick.label for tick in chart.x_ticks] == ["00:00", "01:00", "02:00", "03:00"]
    assert len(chart.series[0].bars) == 2
