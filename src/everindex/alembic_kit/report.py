"""Reporters of a running migration: a progress bar on a terminal, lines in a log, notices as they arrive."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from everindex.index.activity.progress import Progress as BuildProgress
from everindex.index.reporter import Reporter

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("everindex.build")

#: Seconds between two lines of progress in a log.
LOG_EVERY_SECONDS = 5.0


def describe_progress(progress: BuildProgress) -> str:
    """One line: phase, blocks, rows per second, time left."""
    parts = [progress.phase]
    if progress.blocks_total:
        parts.append(f"block {progress.blocks_done}/{progress.blocks_total}")
    if progress.rows_per_second:
        parts.append(f"{progress.rows_per_second:.0f} rows/s")
    if progress.seconds_left is not None:
        parts.append(f"{progress.seconds_left:.0f} s left")
    if progress.waits_for:
        parts.append(f"waits for pid {', '.join(map(str, progress.waits_for))}")
    return ", ".join(parts)


@contextmanager
def terminal_reporter(console: Console | None = None) -> Iterator[Reporter]:
    """A reporter for a terminal: sentences and notices on stderr, and a progress bar while an index is built."""
    from rich.console import Console  # takes 40 ms, needed only on a terminal
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = console or Console(stderr=True, highlight=False)
    with Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bars:
        task = bars.add_task("building", total=None, visible=False, figures="")

        def show(progress: BuildProgress) -> None:
            phase, *figures = describe_progress(progress).split(", ")
            bars.update(
                task,
                description=phase.removeprefix("building index: "),
                completed=progress.blocks_done,
                total=progress.blocks_total or None,
                figures=", ".join(figures),
                visible=True,
            )

        def say(text: str) -> None:
            console.print(text, markup=False)

        yield Reporter(say=say, notice=say, progress=show)


@contextmanager
def log_reporter() -> Iterator[Reporter]:
    """A reporter for a log: the same sentences as INFO records, and progress every few seconds."""
    last = time.monotonic()

    def show(progress: BuildProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= LOG_EVERY_SECONDS:
            last = time.monotonic()
            log.info("%s", describe_progress(progress), extra={"event": "build-progress"})

    yield Reporter(
        say=lambda text: log.info("%s", text, extra={"event": "deploy-progress"}),
        notice=lambda text: log.info("%s", text, extra={"event": "deploy-progress"}),
        progress=show,
    )


@contextmanager
def reporter_for(opts: Mapping[str, Any]) -> Iterator[Reporter]:
    """The reporter that the caller passed (`everindex_reporter`), otherwise one that suits stderr."""
    given = opts.get("everindex_reporter")
    if given is not None:
        yield given
    else:
        with terminal_reporter() if sys.stderr.isatty() else log_reporter() as reporter:
            yield reporter
