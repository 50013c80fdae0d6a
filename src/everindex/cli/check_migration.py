"""`everindex check-migration`: what a migration would do to vector indexes, before it runs; exit 0 or, for findings, 3."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everindex.cli.ci_items import CheckedItem, Problem
from everindex.cli.ci_report import OutputOption, chosen_format, print_report
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.statement_arguments import read_script
from everindex.cli.waiting import connect_patiently
from everindex.errors import UsageError
from everindex.migration_check.alembic_sql import is_revision, revision_texts
from everindex.migration_check.finding import RULES
from everindex.migration_check.known_schema import KnownSchema, schema_of_database
from everindex.migration_check.review import MigrationText, Review, review
from everindex.pg import address
from everindex.settings import read_settings
from everindex.units import count_text

_MARKS = {"error": "✗", "warning": "!", "note": "·"}


def check_migration(
    migration: Annotated[
        list[str],
        typer.Argument(metavar="FILE.sql|REVISION.py|-", help="Migrations in their order; - reads SQL from stdin."),
    ],
    earlier: Annotated[
        list[Path] | None,
        typer.Option(
            "--earlier", help="SQL of earlier migrations: read for what it creates, not reported. Can be repeated."
        ),
    ] = None,
    database: Annotated[
        bool, typer.Option("--database", help="Also read which indexes and how many rows the configured database has.")
    ] = False,
    alembic_ini: Annotated[
        Path | None, typer.Option("--alembic-ini", help="Of a REVISION.py (default: beside it or above).")
    ] = None,
    since: Annotated[
        str, typer.Option("--since", help="The Alembic revision from which earlier revisions are read.")
    ] = "base",
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="Do not report this rule; can be repeated.")
    ] = None,
    output: OutputOption = "text",
    as_json: JsonOption = False,
) -> None:
    chosen = chosen_format(output, as_json)
    unknown = sorted(set(allow or ()) - set(RULES))
    if unknown:
        raise UsageError(
            f"there is no rule {', '.join(unknown)}.",
            why=f"the rules: {', '.join(RULES)}.",
            next_step="correct the name given to --allow.",
        )
    texts = [
        MigrationText(source=str(path), text=read_script(str(path))[1], is_reported=False) for path in earlier or ()
    ]
    for argument in migration:
        texts += _texts(argument, alembic_ini, since)
    found = review(texts, _known(database), allowed=frozenset(allow or ()))
    match chosen:
        case "text":
            _print(found)
        case "json":
            print_json(found.as_dict())
        case _:
            print_report(chosen, "check-migration", _items(found))
    if not found.passes:
        raise typer.Exit(3)


def _texts(argument: str, ini: Path | None, since: str) -> list[MigrationText]:
    if argument != "-" and is_revision(Path(argument)):
        read_script(argument)  # a file that cannot be read is told as every other one
        return revision_texts(Path(argument), ini=ini, since=since)
    source, text = read_script(argument)
    return [MigrationText(source=source, text=text)]


def _known(database: bool) -> KnownSchema:
    if not database:
        return KnownSchema()
    settings = read_settings()
    with (
        address.server(settings) as conninfo,
        connect_patiently(conninfo, settings, None, application_name="everindex check-migration") as connection,
    ):
        return schema_of_database(connection)


def _print(found: Review) -> None:
    for finding in found.findings:
        where = finding.source if finding.line is None else f"{finding.source}:{finding.line}"
        say(f"{_MARKS[finding.level]} {where}: {finding.rule}: {finding.what}.")
        say(f"    sql:  {finding.statement}")
        say(f"    next: {finding.next_step}")
    counted = f"{count_text(found.statements, 'statement')} in {count_text(len(found.sources), 'migration')}"
    say(f"{counted}: {count_text(len(found.findings), 'finding')}")


def _items(found: Review) -> list[CheckedItem]:
    """Each migration without findings, and each statement with some."""
    items: list[CheckedItem] = []
    for source in found.sources:
        of_source = [finding for finding in found.findings if finding.source == source]
        if not of_source:
            items.append(CheckedItem(name=source, file=_file(source)))
        items += [
            CheckedItem(
                name=finding.statement,
                file=_file(source),
                line=finding.line,
                problems=(
                    Problem(
                        rule=finding.rule, level=finding.level, message=f"{finding.what}.", next_step=finding.next_step
                    ),
                ),
            )
            for finding in of_source
        ]
    return items


def _file(source: str) -> str | None:
    return None if source == "stdin" else source
