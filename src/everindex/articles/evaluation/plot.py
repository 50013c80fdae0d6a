"""The drawing of an evaluation as an SVG file: for each measure a panel, for each system its mean and interval."""

from __future__ import annotations

from xml.sax.saxutils import escape

from everindex.articles.evaluation.report import Evaluation

LABELS = 300
PANEL = 240
GAP = 28
ROW = 26
TOP = 64


def svg_of(evaluation: Evaluation) -> str:
    """Measures from 0 to 1; the baseline is drawn hollow, and a line leads down from its mean."""
    measures = list(evaluation.measured[0].estimates)
    width = LABELS + len(measures) * (PANEL + GAP)
    height = TOP + ROW * len(evaluation.measured) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>{escape(_title(evaluation))}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="22" font-weight="600">{escape(_title(evaluation))}</text>',
    ]
    bottom = TOP + ROW * len(evaluation.measured)
    for row, one in enumerate(evaluation.measured):
        y = TOP + ROW * row + ROW / 2
        parts.append(
            f'<text x="{LABELS - 12}" y="{y + 4:g}" text-anchor="end">{escape(_short(one.system.name))}</text>'
        )
    for column, name in enumerate(measures):
        left = LABELS + column * (PANEL + GAP)
        parts.append(f'<text x="{left}" y="{TOP - 14}" font-weight="600">{escape(name)}</text>')
        for tick in (0, 0.25, 0.5, 0.75, 1):
            x = left + tick * PANEL
            parts.append(f'<line x1="{x:g}" y1="{TOP}" x2="{x:g}" y2="{bottom}" stroke="#ddd"/>')
            parts.append(f'<text x="{x:g}" y="{bottom + 18}" text-anchor="middle" fill="#555">{tick:g}</text>')
        for row, one in enumerate(evaluation.measured):
            found = one.estimates[name]
            y = TOP + ROW * row + ROW / 2
            low, high, mean = (left + value * PANEL for value in (found.low, found.high, found.mean))
            is_base = one.system.name == evaluation.baseline
            if is_base:
                parts.append(
                    f'<line x1="{mean:.1f}" y1="{TOP}" x2="{mean:.1f}" y2="{bottom}" stroke="#2a5db0" stroke-dasharray="3 3"/>'
                )
            parts.append(
                f'<line x1="{low:.1f}" y1="{y:g}" x2="{high:.1f}" y2="{y:g}" stroke="#2a5db0" stroke-width="2"/>'
            )
            parts.append(
                f'<circle cx="{mean:.1f}" cy="{y:g}" r="5" stroke="#2a5db0" fill="{"#fff" if is_base else "#2a5db0"}">'
                f"<title>{escape(one.system.name)}: {found.mean:.3f} ({found.low:.3f} to {found.high:.3f})</title></circle>"
            )
    return "\n".join([*parts, "</svg>", ""])


def _title(evaluation: Evaluation) -> str:
    return f"{len(evaluation.judgements.queries)} queries: mean and 95 % interval"


def _short(name: str) -> str:
    return name if len(name) <= 44 else f"{name[:43]}…"
