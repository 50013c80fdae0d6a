"""Where does a command write? Results to stdout (tables or one JSON document), everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

#: Every command takes it; the text of the option is the same everywhere.
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line of the result."""
    out.print(text, markup=False)


def tell(text: str) -> None:
    """A line about what is going on."""
    err.print(text, markup=False)


def print_json(document: Any) -> None:
    """The result as JSON, indented on a terminal."""
    print(json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None, default=str))


@contextmanager
def row_progress(description: str, total: int | None = None) -> Iterator[Any]:
    """A bar of rows on stderr where that is a terminal; yields a function that takes the rows of each batch."""
    if not err.is_terminal:
        yield lambda rows: None
        return
    with Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    ) as bars:
        task = bars.add_task(description, total=total, rate="")

        def advance(rows: int) -> None:
            speed = bars.tasks[0].finished_speed or bars.tasks[0].speed
            bars.update(task, advance=rows, rate=f"{speed:.0f} rows/s" if speed else "")

        yield advance
