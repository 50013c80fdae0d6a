"""Waiting for the server: by default for commands that deploy, on request (`--wait`) for every other command.

A waiting command says so on stderr within a second, with the remaining time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from everindex.cli.output import tell
from everindex.pg.address import describe
from everindex.pg.connections import Connection, WaitReport, connect
from everindex.settings import DEPLOYMENT_WAIT_SECONDS, Settings, read_settings

if TYPE_CHECKING:
    from everindex.articles.instance import Instance

WaitOption = Annotated[
    float | None,
    typer.Option("--wait", help="Seconds to wait for a server that is still starting (EVERINDEX_WAIT, 0).", min=0),
]
#: The option of the commands that deploy.
LongWaitOption = Annotated[
    float | None,
    typer.Option(
        "--wait",
        help=f"Seconds to wait for a server that is still starting (EVERINDEX_WAIT, {DEPLOYMENT_WAIT_SECONDS:.0f}).",
        min=0,
    ),
]


def seconds_to_wait(settings: Settings, wait: float | None, *, deploys: bool = False) -> float:
    """The value of `--wait`, otherwise EVERINDEX_WAIT, otherwise a minute for commands that deploy."""
    if wait is not None:
        return wait
    return settings.deployment_wait_seconds if deploys else settings.wait_seconds or 0.0


def connect_patiently(
    conninfo: str, settings: Settings, wait: float | None, *, deploys: bool = False, application_name: str = "everindex"
) -> Connection:
    """The first connection of a command. Raises what `connect` raises."""
    return connect(
        conninfo,
        wait_seconds=seconds_to_wait(settings, wait, deploys=deploys),
        application_name=application_name,
        on_wait=WaitReport(tell, where=describe(conninfo)),
    )


@contextmanager
def open_instance(
    wait: float | None, *, deploys: bool = False, conninfo: str | None = None, settings: Settings | None = None
) -> Iterator[Instance]:
    """The instance of a command: at `conninfo`, otherwise at the address in the settings."""
    from everindex.articles.connect import connect_instance

    settings = settings or read_settings()
    seconds = seconds_to_wait(settings, wait, deploys=deploys)
    with connect_instance(conninfo, settings=settings, wait_seconds=seconds, tell_wait=tell) as instance:
        yield instance
