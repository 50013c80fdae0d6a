"""`everindex import`: articles from files of JSONL, CSV, RSS, Atom or JSON Feed, or from standard input."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from everindex.articles.importers import Format, read_source
from everindex.articles.ingest.import_rows import ImportReport
from everindex.articles.model import RowProblem
from everindex.cli.output import JsonOption, print_json, reporter, row_progress, say, tell
from everindex.cli.waiting import WaitOption, open_instance
from everindex.units import count_text

#: Problems printed; the rest is counted.
SHOWN_PROBLEMS = 20


def import_articles(
    sources: Annotated[
        list[str], typer.Argument(help="Files (.jsonl, .csv, .rss, .atom, .xml, .json, also .gz), or - for stdin.")
    ],
    format_name: Annotated[
        Format | None, typer.Option("--format", help="Format, if the file name does not show it.")
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding, if it is not UTF-8 and the source does not declare it (windows-1252 …)."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="URL that the feed was fetched from, to resolve relative links.")
    ] = None,
    news_source: Annotated[
        str | None, typer.Option("--source", help="Default news_source for rows without one.")
    ] = None,
    category: Annotated[str | None, typer.Option("--category", help="Default category for rows without one.")] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="Default topic for rows without one.")] = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    started = time.monotonic()
    reports: dict[str, ImportReport] = {}
    with open_instance(wait) as instance:
        for source in sources:
            rows = read_source(
                source,
                format=format_name,
                encoding=encoding,
                base=base,
                news_source=news_source,
                category=category,
                topic=topic,
            )
            with (
                reporter() as reporting,
                row_progress(source) as advance,
            ):
                reports[source] = instance.import_rows(rows, on_rows=advance, reporter=reporting)
            # At once: a later source may be unreadable, and what is stored by then must have been reported.
            _print(source, reports[source], to=tell if as_json else say)
    tell(f"in {time.monotonic() - started:.1f} s")
    if as_json:
        print_json({source: _as_dict(report) for source, report in reports.items()})
    if any(report.problem_count for report in reports.values()):
        raise typer.Exit(1)


def _print(source: str, report: ImportReport, *, to: Callable[[str], None]) -> None:
    stored = report.stored
    to(f"{source}: {stored.inserted} new, {stored.updated} changed, {stored.unchanged} unchanged")
    if report.without_vector:
        next_step = report.next_step or "run  everindex embed"
        to(f"  {report.without_vector} stored without a vector ({report.failure_reason}): {next_step}")
    if report.kept_vectors:
        to(
            f"  {count_text(report.kept_vectors, 'text')} changed but kept old vectors of an unrecorded model: "
            "run  everindex model"
        )
    for note in report.notes[:SHOWN_PROBLEMS]:
        tell(f"  note: {_where(note)}: {note.reason}")
    if report.note_count > SHOWN_PROBLEMS:
        tell(f"  … and {report.note_count - SHOWN_PROBLEMS} more")
    for problem in report.problems[:SHOWN_PROBLEMS]:
        tell(f"  skipped: {_where(problem)}: {problem.reason}")
    if report.problem_count > SHOWN_PROBLEMS:
        tell(f"  … and {report.problem_count - SHOWN_PROBLEMS} more")
    if report.problem_count:
        to(
            f"  {count_text(report.problem_count, 'row')} skipped; correct them and import again: the stored rows "
            "stay as they are"
        )


def _where(problem: RowProblem) -> str:
    return f"line {problem.line}{f' ({problem.uri})' if problem.uri else ''}"


def _as_dict(report: ImportReport) -> dict[str, Any]:
    return {
        "inserted": report.stored.inserted,
        "updated": report.stored.updated,
        "unchanged": report.stored.unchanged,
        "without_vector": report.without_vector,
        "failure_reason": report.failure_reason,
        "kept_vectors": report.kept_vectors,
        "left_out": report.problem_count,
        "problems": [_problem_dict(problem) for problem in report.problems],
        "noted": report.note_count,
        "notes": [_problem_dict(note) for note in report.notes],
    }


def _problem_dict(problem: RowProblem) -> dict[str, Any]:
    return {"line": problem.line, "uri": problem.uri, "reason": problem.reason}
