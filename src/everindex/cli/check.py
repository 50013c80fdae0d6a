"""`everindex check`: whether an application's statements use the vector index. Exit 0 when all do, 3 when one does not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from everindex.cli.ci_items import CheckedItem, Problem
from everindex.cli.ci_report import OutputOption, chosen_format, print_report
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.statement_arguments import Place, places_of, read_text
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.errors import EverindexError, StatementNotCheckable, UsageError
from everindex.index.recall.explain import SMALL_TABLE_ROWS
from everindex.pg import address
from everindex.settings import read_settings
from everindex.statement_check.check import StatementCheck, check_statement
from everindex.statement_check.text import Statement
from everindex.units import count_text

_NAMED = re.compile(r"([A-Za-z_]\w*|\d+)=(.*)", re.DOTALL)


def check(
    statement: Annotated[
        list[str], typer.Argument(metavar="STATEMENT|FILE.sql|-", help="SQL text, files of statements, or - for stdin.")
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", help="NAME=VALUE, or VALUE in the order of the placeholders; @FILE reads it from a file."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting that the application sets in its session.")
    ] = None,
    role: Annotated[
        str | None, typer.Option("--role", help="Check as this role, with its settings and row-level security.")
    ] = None,
    index: Annotated[str | None, typer.Option("--index", help="Require that this index is used.")] = None,
    small_table: Annotated[
        int,
        typer.Option(
            "--small-table",
            help="In smaller tables a scan is acceptable; only whether the index could be used is checked.",
            min=0,
        ),
    ] = SMALL_TABLE_ROWS,
    wait: WaitOption = None,
    output: OutputOption = "text",
    as_json: JsonOption = False,
) -> None:
    chosen = chosen_format(output, as_json)
    places = [place for argument in statement for place in places_of(argument)]
    named, in_order = _parameters(param or [])
    _refuse_unknown(named, in_order, places)
    session = dict(_pair(text, option="--set") for text in setting or [])
    settings = read_settings()
    results: list[tuple[Place, StatementCheck | StatementNotCheckable]] = []
    with (
        address.server(settings) as conninfo,
        connect_patiently(conninfo, settings, wait, application_name="everindex check") as connection,
    ):
        for place in places:
            try:
                result: StatementCheck | StatementNotCheckable = check_statement(
                    connection,
                    place.statement,
                    _values_for(place.statement, named, in_order),
                    settings=session,
                    role=role,
                    index=index,
                    small_table_rows=small_table,
                )
            except StatementNotCheckable as exc:
                result = exc  # the others are checked all the same
            results.append((place, result))
    match chosen:
        case "text":
            for place, result in results:
                _print(place, result)
        case "json":
            print_json(_document(results))
        case _:
            print_report(chosen, "check", [_item(place, result) for place, result in results])
    if any(isinstance(result, EverindexError) for _, result in results):
        raise typer.Exit(2)
    if not all(isinstance(result, StatementCheck) and result.uses_index for _, result in results):
        raise typer.Exit(3)


def _parameters(texts: list[str]) -> tuple[dict[str, str], list[str]]:
    named: dict[str, str] = {}
    in_order: list[str] = []
    for text in texts:
        match = _NAMED.fullmatch(text)
        value = match.group(2) if match else text
        if value.startswith("@"):
            value = read_text(value[1:], holds="the value: of a vector, [0.1, 0.2, …]").strip()
        if match:
            named[match.group(1)] = value
        else:
            in_order.append(value)
    return named, in_order


def _refuse_unknown(named: dict[str, str], in_order: Sequence[str], places: list[Place]) -> None:
    known = {name for place in places for name in _known(place.statement)}
    unknown = sorted(set(named) - known)
    if unknown:
        raise UsageError(
            f"no statement has a parameter {', '.join(unknown)}.",
            why=f"its parameters: {', '.join(sorted(known)) or 'none'}.",
            next_step="correct the name; placeholders without a name are numbered 1, 2, 3 in their order.",
        )
    if named and in_order:
        raise UsageError(
            "--param was given both with and without names.",
            why="the placeholder of a value without a name would depend on the others.",
            next_step="name all of them; placeholders without a name are numbered 1, 2, 3 in their order.",
        )
    if in_order and len(places) > 1:
        raise UsageError(
            f"--param without a name was given for {count_text(len(places), 'statement')}.",
            why="the placeholders have a different order in each.",
            next_step="use named placeholders (:k, %(k)s) in the statements and pass --param k=10.",
        )


def _values_for(statement: Statement, named: dict[str, str], in_order: Sequence[str]) -> dict[str, str] | Sequence[str]:
    return in_order or {name: value for name, value in named.items() if name in _known(statement)}


def _known(statement: Statement) -> set[str]:
    """The parameters of a statement, and the named ones of the SETs before it."""
    named = {name for made in statement.session for name in made.parameters if not name.isdigit()}
    return {*statement.parameters, *named}


def _pair(text: str, *, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(
            f"{option} {text} has no value.",
            why=f"{option} takes NAME=VALUE.",
            next_step=f"write it as {option} hnsw.ef_search=100.",
        )
    return name.strip(), value.strip()


def _document(results: list[tuple[Place, StatementCheck | StatementNotCheckable]]) -> dict[str, Any]:
    return {
        "uses_index": all(isinstance(result, StatementCheck) and result.uses_index for _, result in results),
        "statements": [
            {"file": place.file}
            | (
                result.as_dict()
                if isinstance(result, StatementCheck)
                else {
                    "name": place.statement.name,
                    "line": place.statement.line,
                    "statement": place.statement.text,
                    "uses_index": False,
                    "error": result.as_dict(),
                }
            )
            for place, result in results
        ],
    }


def _item(place: Place, result: StatementCheck | StatementNotCheckable) -> CheckedItem:
    if isinstance(result, StatementNotCheckable):
        problems = [
            Problem(rule=result.slug, level="error", message=f"{result.what} {result.why}", next_step=result.next_step)
        ]
    else:
        problems = [
            Problem(
                rule=reason.slug, level="error", message=f"{result.sentence}: {reason.why}", next_step=reason.remedy
            )
            for reason in result.reasons
        ]
        if not result.uses_index and not problems:
            problems = [Problem(rule="no-vector-index", level="error", message=result.sentence)]
        problems += [
            Problem(rule=each.slug, level="note", message=each.why, next_step=each.remedy) for each in result.warnings
        ]
    is_file = place.file not in (None, "stdin")
    return CheckedItem(
        name=place.words, file=place.file if is_file else None, line=place.statement.line if is_file else None,
        problems=tuple(problems),
    )  # fmt: skip


def _print(place: Place, result: StatementCheck | StatementNotCheckable) -> None:
    if isinstance(result, StatementNotCheckable):
        say(f"✗ {place.words}: {result.slug}: {result.what}")
        say(f"    why:  {result.why}")
        say(f"    next: {result.next_step}")
        return
    say(f"{'✓' if result.uses_index else '✗'} {place.words}: {result.sentence}")
    for reason in result.reasons:
        say(f"    why:  {reason.why}")
        say(f"    next: {reason.remedy}")
    for warning in result.warnings:
        say(f"    warning: {warning.why}")
        say(f"    next: {warning.remedy}")
