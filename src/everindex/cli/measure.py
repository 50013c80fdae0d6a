"""`everindex measure`: recall against latency by ef_search, for every generation and for other configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everindex.cli.collection_option import OneCollectionOption
from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes
from everindex.cli.output import JsonOption, print_json, say, tell
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.errors import UsageError
from everindex.index.tuning import curve_history
from everindex.index.tuning.curve import Curve
from everindex.index.tuning.survey import survey
from everindex.index.tuning.survey_result import Budget, Survey
from everindex.pg import address
from everindex.pg.connections import connect
from everindex.settings import read_settings
from everindex.units import count_text, size_text

KOption = Annotated[int, typer.Option("-k", "--k", help="Neighbours per search.", min=1, max=1000)]
QueriesOption = Annotated[
    int, typer.Option("--queries", help="Number of queries; each costs one exact scan.", min=2, max=10_000)
]
MaxSecondsOption = Annotated[float, typer.Option("--max-seconds", help="Seconds after which to stop measuring.", min=1)]


def measure(
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: OneCollectionOption = None,
    k: KOption = 10,
    queries: QueriesOption = 100,
    sample: Annotated[
        int,
        typer.Option(
            "--sample", help="Rows of the sample for other configurations; 0 measures only the existing index.", min=0
        ),
    ] = 10_000,
    max_seconds: MaxSecondsOption = 300.0,
    svg: Annotated[Path | None, typer.Option("--svg", help="Write the curves to this SVG file.")] = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    settings = read_settings()
    with address.server(settings) as conninfo:
        with connect_patiently(conninfo, settings, wait, application_name="everindex measure") as connection:
            specs = declared_indexes(connection, declared, index, collection)
        if svg is not None and len(specs) > 1:
            raise UsageError(
                "--svg works for a single index.",
                why=f"the declared indexes are {', '.join(spec.name for spec in specs)}.",
                next_step="name the index with --index.",
            )
        budget = Budget(k=k, queries=queries, sample_rows=sample, max_seconds=max_seconds)
        found = [survey(conninfo, spec, budget=budget, say=tell) for spec in specs]
        with connect(conninfo, application_name="everindex measure") as connection:
            recorded = [curve_history.keep(connection, each) for each in found if each.curves]
    for each in found:
        if svg is not None:
            _draw(each, svg, floor=settings.recall_floor)
    if as_json:
        print_json({"measured": [each.as_dict() for each in found], "is_kept": bool(recorded) and all(recorded)})
        return
    for each in found:
        print_survey(each)


def print_survey(found: Survey) -> None:
    """Prints the curves of one index as tables."""
    say(
        f"index {found.spec.qualified_name}: {count_text(found.rows, 'row')}, {found.queries}, an exact search "
        f"{found.exact_ms:.1f} ms"
    )
    for curve in found.curves:
        say("")
        say(f"{curve.words}, {size_text(curve.size_bytes)}{_build(curve)}")
        print_points(curve, k=found.k, chosen=found.chosen_ef_search if curve.source == "serving" else None)
    for left in found.left_out:
        say(f"  note: {left.sentence}")


def print_points(curve: Curve, *, k: int, chosen: int | None) -> None:
    """Prints the points of one curve, and marks the one that searches use."""
    again = any(point.candidates is not None for point in curve.points)
    say(f"  ef_search {'candidates ' if again else ''}{f'recall@{k}':>10}  95 % interval      median       p95")
    for point in curve.points:
        candidates = f"{point.candidates or '':>10} " if again else ""
        mark = "  ← searches" if point.ef_search == chosen else ""
        mark += "" if point.is_planned else "  (PostgreSQL uses the index only with enable_sort = off)"
        say(
            f"  {point.ef_search:>9} {candidates}{point.recall:>10.3f}  {point.low:.3f} to {point.high:.3f}"
            f"  {point.median_ms:>7.1f} ms {point.p95_ms:>6.1f} ms{mark}"
        )


def _build(curve: Curve) -> str:
    return "" if curve.build_seconds is None else f", built in about {curve.build_seconds:.0f} s"


def _draw(found: Survey, path: Path, *, floor: float) -> None:
    from everindex.web.pages.curve_svg import svg_of  # the web framework takes a while to load

    text = svg_of(found.curves, name=found.spec.qualified_name, k=found.k, floor=floor, chosen=found.chosen_ef_search)
    if text is None:
        tell(f"nothing was measured, so {path} was not written")
        return
    write_text(path, text)
    tell(f"drew {path}")


def write_text(path: Path, text: str) -> None:
    """Writes a file. Raises UsageError where that is not possible."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise UsageError(
            f"{path} cannot be written.",
            why=f"{exc.strerror or exc}.",
            next_step="name a file in an existing, writable directory.",
        ) from exc
