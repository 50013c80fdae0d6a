"""The output of a command: its result goes to stdout (tables or one JSON document), everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

# Rich takes longer to load than most commands run, so it is loaded only to draw on a terminal.
if TYPE_CHECKING:
    from rich.console import Console

    from everindex.index.reporter import Reporter

#: The option of every command, with the same help text.
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def is_terminal() -> bool:
    """True when stderr is a terminal, so that a person reads it."""
    return sys.stderr.isatty()


@cache
def terminal() -> Console:
    """The console on stderr, on which lines and bars do not overwrite each other."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def reporter() -> AbstractContextManager[Reporter]:
    """The reporter of a deploy: lines and a progress bar on a terminal, otherwise log records."""
    from everindex.alembic_kit.report import log_reporter, terminal_reporter

    return terminal_reporter(terminal()) if is_terminal() else log_reporter()


#: Control characters (C0 and C1): a title must not control the terminal that shows it. Line ends and tabs stay.
_HARMLESS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
#: JSON escapes C0 by itself.
_HARMLESS_IN_JSON = {code: f"\\u{code:04x}" for code in range(127, 160)}


def say(text: str) -> None:
    """Writes a line of the result."""
    _write(sys.stdout, harmless(text))


def tell(text: str) -> None:
    """Writes a line about progress, above a progress bar if there is one."""
    if is_terminal():
        terminal().print(harmless(text), markup=False)
    else:
        _write(sys.stderr, harmless(text))


def print_json(document: Any) -> None:
    """Writes the result as JSON, indented on a terminal."""
    # For a character missing in the output encoding Python would write its own escape, which is not JSON.
    is_utf8 = getattr(sys.stdout, "encoding", "utf-8").lower().replace("-", "") == "utf8"
    text = json.dumps(document, ensure_ascii=not is_utf8, indent=2 if sys.stdout.isatty() else None, default=str)
    _write(sys.stdout, text.translate(_HARMLESS_IN_JSON))


def harmless(text: str) -> str:
    """The text with its control characters escaped."""
    return text.translate(_HARMLESS)


def _write(stream: TextIO, text: str) -> None:
    """Writes a line to a stream. If its reader is gone (`everindex import … | head`) the command continues silently and
    exits with the status of its work."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def row_progress(description: str, total: int | None = None) -> Iterator[Any]:
    """A progress bar in rows on stderr if it is a terminal; yields a function that takes the number of rows of each batch."""
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
    """A progress bar in queries on stderr if it is a terminal; yields a function that takes (done, total)."""
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
