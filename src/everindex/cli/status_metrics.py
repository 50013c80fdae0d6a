"""`everindex status --prometheus`: the metrics of a database as text, or in a file that a textfile collector reads.

A file is replaced in one step, also where the server cannot be reached: then it says so, and no old state is left in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from everindex.cli.output import say
from everindex.cli.waiting import connect_patiently
from everindex.errors import EverindexError
from everindex.index.spec import IndexSpec
from everindex.metrics.database_families import database_families
from everindex.metrics.exposition import Families, as_text, write_textfile
from everindex.metrics.refresh import Latest, observe_once
from everindex.pg import address
from everindex.pg.connections import Connection
from everindex.settings import Settings


def print_metrics(
    settings: Settings,
    declared: Callable[[Connection], tuple[IndexSpec, ...] | None],
    *,
    wait: float | None,
    to: Path | None,
) -> None:
    """Prints the metrics, or writes them to the file `to`. Raises what connecting raises, after that file is written."""
    try:
        with (
            address.server(settings) as conninfo,
            connect_patiently(conninfo, settings, wait, application_name="everindex status") as connection,
        ):
            latest = observe_once(connection, recall_floor=settings.recall_floor, declared=declared(connection))
    except EverindexError as exc:
        if to is not None:
            _give(observe_once(None, recall_floor=settings.recall_floor, problem=exc.slug), to)
        raise
    _give(latest, to)


def _give(latest: Latest, to: Path | None) -> None:
    text = as_text(Families(lambda: database_families(latest)))
    if to is None:
        say(text.decode().rstrip("\n"))
    else:
        write_textfile(to, text)
