"""Where a command writes: its result to stdout (tables or one JSON document), everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

# Rich takes longer to load than most commands to answer: only who draws on a terminal pays for it.
if TYPE_CHECKING:
    from rich.console import Console

    from everindex.index.reporter import Reporter

#: Every command takes it; the text of the option is the same everywhere.
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def is_terminal() -> bool:
    """True when stderr is a terminal: a person reads along."""
    return sys.stderr.isatty()


@cache
def terminal() -> Console:
    """stderr for lines and bars that must not overwrite each other."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def reporter() -> AbstractContextManager[Reporter]:
    """How a deploy tells what it does: lines and a bar on a terminal, else log records."""
    from everindex.alembic_kit.report import log_reporter, terminal_reporter

    return terminal_reporter(terminal()) if is_terminal() else log_reporter()


#: Control characters of both sets: a title must not steer the terminal that shows it. Line ends and tabs stay.
_HARMLESS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
#: JSON escapes the first set by itself.
_HARMLESS_IN_JSON = {code: f"\\u{code:04x}" for code in range(127, 160)}


def say(text: str) -> None:
    """A line of the result."""
    _write(sys.stdout, harmless(text))


def tell(text: str) -> None:
    """A line about what is going on; above a progress bar where there is one."""
    if is_terminal():
        terminal().print(harmless(text), markup=False)
    else:
        _write(sys.stderr, harmless(text))


def print_json(document: Any) -> None:
    """The result as JSON, indented on a terminal."""
    # An encoding that lacks a character would have it written as Python escapes it, which is not JSON.
    is_utf8 = getattr(sys.stdout, "encoding", "utf-8").lower().replace("-", "") == "utf8"
    text = json.dumps(document, ensure_ascii=not is_utf8, indent=2 if sys.stdout.isatty() else None, default=str)
    _write(sys.stdout, text.translate(_HARMLESS_IN_JSON))


def harmless(text: str) -> str:
    """The text with its control characters written out."""
    return text.translate(_HARMLESS)


def _write(stream: TextIO, text: str) -> None:
    """A line to a stream. When its reader has gone (`everindex import … | head`) the command goes on in silence: it ends
    with the status of what it did."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def row_progress(description: str, total: int | None = None) -> Iterator[Any]:
    """A bar of rows on stderr where that is a terminal; yields a function that takes the rows of each batch."""
    if not is_terminal():
        yield lambda rows: None
        return
    with _bar() as bars:
        task = bars.add_task(description, total=total, rate="")

        def advance(rows: int) -> None:
            speed = bars.tasks[0].finished_speed or bars.tasks[0].speed
            bars.update(task, advance=rows, rate=f"{speed:.0f} rows/s" if speed else "")

        yield advance


@contextmanager
def query_progress(description: str) -> Iterator[Any]:
    """A bar of queries on stderr where that is a terminal; yields a function that takes how many are done, of how many."""
    if not is_terminal():
        yield lambda done, of: None
        return
    with _bar() as bars:
        task = bars.add_task(description, total=None, rate="")
        yield lambda done, of: bars.update(task, completed=done, total=of)


def _bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=terminal(),
        transient=True,
    )
