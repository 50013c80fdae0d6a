"""The drawing of measured curves as an SVG file; `reports/curve_chart.py` computes the layout."""

from __future__ import annotations

from everindex.index.tuning.curve import Curve
from everindex.web.pages.render import environment
from everindex.web.reports.curve_chart import draw


def svg_of(curves: tuple[Curve, ...], *, name: str, k: int, floor: float | None, chosen: int | None) -> str | None:
    """The drawing as the text of an SVG file; None where there are no points."""
    chart = draw(curves, k=k, floor=floor, chosen=chosen)
    if chart is None:
        return None
    return environment().get_template("curve.svg").render(chart=chart, name=name)
