"""`everindex check`: do the statements of an application use the vector index? Exit 0 when all do, 3 when one does not."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.errors import EverindexError, SourceUnreadable, StatementNotCheckable, UsageError
from everindex.index.statement.check import SMALL_TABLE_ROWS, StatementCheck, check_statement
from everindex.index.statement.text import Statement, statements
from everindex.pg import address
from everindex.settings import read_settings

_NAMED = re.compile(r"([A-Za-z_]\w*|\d+)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A statement and the file that it stands in; None for the command line."""

    file: str | None
    statement: Statement

    @property
    def words(self) -> str:
        where = f"{self.file}:{self.statement.line}" if self.file else ""
        if self.statement.name:
            return f"{self.statement.name} ({where})" if where else self.statement.name
        return where or _first_words(self.statement.text)


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
        list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting that the application's session makes.")
    ] = None,
    index: Annotated[str | None, typer.Option("--index", help="Demand that this index is used.")] = None,
    small_table: Annotated[
        int,
        typer.Option(
            "--small-table", help="Below so many rows a scan is right, and usability is proven instead.", min=0
        ),
    ] = SMALL_TABLE_ROWS,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    places = [place for argument in statement for place in _statements_of(argument)]
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
                    index=index,
                    small_table_rows=small_table,
                )
            except StatementNotCheckable as exc:
                result = exc  # the others are checked all the same
            results.append((place, result))
    if as_json:
        print_json(_document(results))
    else:
        for place, result in results:
            _print(place, result)
    if any(isinstance(result, EverindexError) for _, result in results):
        raise typer.Exit(2)
    if not all(isinstance(result, StatementCheck) and result.uses_index for _, result in results):
        raise typer.Exit(3)


def _statements_of(argument: str) -> list[Place]:
    """The statements of an argument. Raises SourceUnreadable for a file that cannot be read or holds none."""
    if argument == "-":
        file, text = "stdin", sys.stdin.read()
    elif argument.lower().endswith(".sql") or Path(argument).is_file():
        file = argument
        try:
            text = Path(argument).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as exc:
            raise SourceUnreadable(
                f"cannot read {argument}.",
                why=f"{getattr(exc, 'strerror', None) or exc}.",
                next_step="name a file of SQL statements in UTF-8, or give the statement itself in quotes.",
            ) from exc
    else:
        file, text = None, argument
    found = [Place(file=file, statement=statement) for statement in statements(text)]
    if not found:
        raise StatementNotCheckable(
            f"there is nothing to check in {file or 'the text'}.",
            why="it holds no statement.",
            next_step="give at least one SELECT.",
        )
    return found


def _parameters(texts: list[str]) -> tuple[dict[str, str], list[str]]:
    named: dict[str, str] = {}
    in_order: list[str] = []
    for text in texts:
        match = _NAMED.fullmatch(text)
        value = match.group(2) if match else text
        if value.startswith("@"):
            try:
                value = Path(value[1:]).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                raise SourceUnreadable(
                    f"cannot read {value[1:]}.",
                    why=f"{getattr(exc, 'strerror', None) or exc}.",
                    next_step="name a file with the value: of a vector, [0.1, 0.2, …].",
                ) from exc
        if match:
            named[match.group(1)] = value
        else:
            in_order.append(value)
    return named, in_order


def _refuse_unknown(named: dict[str, str], in_order: Sequence[str], places: list[Place]) -> None:
    known = {name for place in places for name in place.statement.parameters}
    unknown = sorted(set(named) - known)
    if unknown:
        raise UsageError(
            f"no statement has a parameter {', '.join(unknown)}.",
            why=f"there are: {', '.join(sorted(known)) or 'none'}.",
            next_step="correct the name; placeholders without a name are called 1, 2, 3 in their order.",
        )
    if named and in_order:
        raise UsageError(
            "--param was given with names and without.",
            why="which placeholder a value without a name belongs to would depend on the others.",
            next_step="name all of them; placeholders without a name are called 1, 2, 3 in their order.",
        )
    if in_order and len(places) > 1:
        raise UsageError(
            f"--param without a name was given for {len(places)} statements.",
            why="the order of the placeholders is another one in each.",
            next_step="write the statements with names (:k, %(k)s) and give --param k=10.",
        )


def _values_for(statement: Statement, named: dict[str, str], in_order: Sequence[str]) -> dict[str, str] | Sequence[str]:
    return in_order or {name: value for name, value in named.items() if name in statement.parameters}


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


def _first_words(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"
