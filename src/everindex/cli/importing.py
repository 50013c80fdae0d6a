"""`everindex import`: articles from files of JSONL, CSV, RSS, Atom, JSON Feed, Parquet or Arrow, or from standard input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Annotated, Any

import typer

from everindex.articles.collections.collection import Collection
from everindex.articles.importers import Format, read_source
from everindex.articles.importers.objects import read_objects
from everindex.articles.ingest.import_rows import ImportReport
from everindex.articles.ingest.passage_report import PassageReport
from everindex.articles.ingest.sync import MOST_REMOVED
from everindex.articles.instance import Instance
from everindex.articles.model import Article, RowProblem
from everindex.cli.collection_option import CollectionOption
from everindex.cli.output import JsonOption, print_json, reporter, row_progress, say, tell
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import UsageError
from everindex.units import count_text

#: The number of problems printed; the rest are only counted.
SHOWN_PROBLEMS = 20


def import_articles(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Files (.jsonl, .csv, .rss, .atom, .xml, .json, .parquet, .arrow, also .gz), or - for stdin."
        ),
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
    collection: CollectionOption = None,
    sync_source: Annotated[
        str | None,
        typer.Option(
            "--sync-source",
            metavar="NAME",
            help="The sources have all articles of news_source NAME: remove those that are no longer there.",
        ),
    ] = None,
    most_removed: Annotated[
        float,
        typer.Option("--most-removed", help="Share of its articles that --sync-source removes at most.", min=0, max=1),
    ] = MOST_REMOVED,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="With --sync-source: store nothing, remove nothing, show what would be removed."
        ),
    ] = False,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    started = time.monotonic()
    reports: dict[str, ImportReport] = {}
    _check_options(collection, sync_source, dry_run=dry_run)
    with open_instance(wait) as instance:
        if collection is not None:
            _import_objects(instance.collection(collection), sources, as_json=as_json)
            return
        if sync_source is not None:
            reads = [
                read_source(
                    source, format=format_name, encoding=encoding, base=base, news_source=sync_source, category=category,
                    topic=topic,
                )
                for source in sources
            ]  # fmt: skip
            _sync(instance, reads, sync_source, most_removed, dry_run=dry_run, as_json=as_json)
            return
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
            # Printed at once: a later source may be unreadable, and what has been stored must be reported.
            _print(source, reports[source], to=tell if as_json else say)
    tell(f"in {time.monotonic() - started:.1f} s")
    if as_json:
        print_json({source: _as_dict(report) for source, report in reports.items()})
    if any(report.problem_count for report in reports.values()):
        raise typer.Exit(1)


def _check_options(collection: str | None, sync_source: str | None, *, dry_run: bool) -> None:
    if dry_run and sync_source is None:
        raise UsageError(
            "--dry-run  works only with  --sync-source.",
            why="an import changes nothing but the rows that it brings.",
            next_step="add  --sync-source NAME , or leave  --dry-run  out.",
        )
    if collection is not None and sync_source is not None:
        raise UsageError(
            "--sync-source  works only for articles.",
            why="the rows of a collection have no news_source.",
            next_step="import without it, and remove rows with  everindex delete --collection.",
        )


def _import_objects(collection: Collection, sources: list[str], *, as_json: bool) -> None:
    """JSONL into a collection."""
    reports: dict[str, ImportReport] = {}
    for source in sources:
        with reporter() as reporting, row_progress(source) as advance:
            reports[source] = collection.import_objects(
                read_objects(source), source=source, on_rows=advance, reporter=reporting
            )
        _print(source, reports[source], to=tell if as_json else say)
    if as_json:
        print_json({source: _as_dict(report) for source, report in reports.items()})
    if any(report.problem_count for report in reports.values()):
        raise typer.Exit(1)


def _sync(
    instance: Instance,
    reads: list[Iterator[Article | RowProblem]],
    name: str,
    most_removed: float,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """All that a source has, from however many files, and what it no longer has."""
    with reporter() as reporting, row_progress(name) as advance:
        report, synced = instance.sync(
            chain.from_iterable(reads), source=name, most_removed=most_removed, dry_run=dry_run, on_rows=advance,
            reporter=reporting,
        )  # fmt: skip
    if as_json:
        print_json({"import": _as_dict(report), "sync": synced.as_dict()})
        return
    if not dry_run:
        _print(name, report, to=say)
    say(
        f"{name}: {count_text(synced.removed, 'article')} {'would be removed' if dry_run else 'removed'} of "
        f"{synced.stored}"
    )
    for uri in synced.uris:
        tell(f"  {uri}")
    if synced.removed > len(synced.uris):
        tell(f"  … and {synced.removed - len(synced.uris)} more")


def _print(source: str, report: ImportReport, *, to: Callable[[str], None]) -> None:
    stored = report.stored
    to(f"{source}: {stored.inserted} new, {stored.updated} changed, {stored.unchanged} unchanged")
    if report.without_vector:
        next_step = report.next_step or "run  everindex embed"
        to(f"  {report.without_vector} stored without a vector ({report.failure_reason}): {next_step}")
    print_passages(report.passages, to=to)
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


def print_passages(done: PassageReport, *, to: Callable[[str], None]) -> None:
    """What was done with whole texts; nothing where there was nothing to do."""
    if done.texts or done.embedded:
        to(
            f"  {count_text(done.texts, 'whole text')} cut into {count_text(done.passages, 'passage')}, "
            f"{done.embedded} new or changed"
        )
    if done.removed:
        to(f"  {count_text(done.removed, 'passage')} of older texts removed")
    if done.without_vector:
        to(
            f"  {count_text(done.without_vector, 'passage')} without a vector ({done.failure_reason}): run  everindex embed"
        )
    elif done.failure_reason is not None:
        to(f"  {done.failure_reason}: {done.next_step or 'run  everindex embed'}")


def passages_dict(done: PassageReport) -> dict[str, Any]:
    """The same as JSON, as member `passages`; without it where there was nothing to do."""
    return {} if done.is_empty else {"passages": done.as_dict()}


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
    } | passages_dict(report.passages)


def _problem_dict(problem: RowProblem) -> dict[str, Any]:
    return {"line": problem.line, "uri": problem.uri, "reason": problem.reason}
