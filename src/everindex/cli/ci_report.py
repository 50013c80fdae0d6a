"""The option `--output` of commands that check, and the results of a check printed for the systems that run it.

`text` and `json` are each command's own; the formats of others (`ci_formats.py`) are made of items (`ci_items.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from everindex.cli.ci_items import CheckedItem, Problem
from everindex.cli.output import print_json, say
from everindex.errors import EverindexError, UsageError

OutputFormat = Literal["text", "json", "github", "sarif", "junit"]
OutputOption = Annotated[
    OutputFormat,
    typer.Option(
        "--output",
        help="text, json, or a format for CI: github (workflow commands), sarif (2.1.0), junit (XML).",
    ),
]
#: The commands with `--output`. That of `search` and `export` names a file.
COMMANDS_WITH_OUTPUT = ("check", "check-migration", "verify", "plan")


def chosen_format(output: OutputFormat, as_json: bool) -> OutputFormat:
    """The format; `--json` is the short form of `--output json`. Raises UsageError for both at once."""
    if as_json and output not in ("text", "json"):
        raise UsageError(
            f"--json and --output {output} were both given.",
            why="a command prints its result in one format.",
            next_step="leave one of them out.",
        )
    return "json" if as_json else output


def print_report(output: OutputFormat, command: str, items: Sequence[CheckedItem]) -> None:
    """Prints the items in one of the formats of others to stdout."""
    from everindex.cli.ci_formats import github_lines, junit_document, sarif_document

    match output:
        case "github":
            for line in github_lines(command, items):
                say(line)
        case "sarif":
            print_json(sarif_document(items))
        case "junit":
            say(junit_document(command, items))
        case _:
            raise AssertionError(f"{output} is printed by the command itself")


def print_failure(arguments: Sequence[str], error: EverindexError) -> None:
    """Prints an error in the format that the command line asks for, so that CI shows it where it shows findings."""
    command = next((word for word in arguments[:1] if word in COMMANDS_WITH_OUTPUT), None)
    wanted = [
        word.partition("=")[2] if word.startswith("--output=") else after
        for word, after in zip(arguments, [*arguments[1:], ""], strict=True)
        if word == "--output" or word.startswith("--output=")
    ]
    for output in ("github", "sarif", "junit"):
        if command is not None and wanted[-1:] == [output]:
            problem = Problem(
                rule=error.slug, level="error", message=f"{error.what}\n{error.why}", next_step=error.next_step
            )
            print_report(output, command, [CheckedItem(name=f"everindex {command}", problems=(problem,))])
