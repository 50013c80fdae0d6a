"""`everindex warm`: brings the index into memory before the first search needs it."""

from __future__ import annotations

from typing import Annotated

import typer

from everindex.cli.collection_option import OneCollectionOption
from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes
from everindex.cli.output import JsonOption, print_json, say, tell
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.index.deploy import warm as warming
from everindex.index.spec import IndexSpec
from everindex.pg import address
from everindex.settings import read_settings


def warm(
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: OneCollectionOption = None,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Seconds after which to stop.", min=0.1)] = 60.0,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    settings = read_settings()
    with address.server(settings) as conninfo:
        with connect_patiently(conninfo, settings, wait, application_name="everindex warm") as connection:
            specs = declared_indexes(connection, declared, index, collection)
        done = [warming.warm(conninfo, spec, max_seconds=max_seconds) for spec in specs]
    if as_json:
        print_json({"indexes": [each.as_dict() for each in done]})
    else:
        for each in done:
            say(each.sentence)
    if any(each.method == "nothing" for each in done):
        raise typer.Exit(3)


def warm_after(conninfo: str, spec: IndexSpec, *, max_seconds: float) -> None:
    """Warms the index after a build or swap at the end of another command; reports it, and never fails."""
    if max_seconds > 0:
        tell(warming.warm(conninfo, spec, max_seconds=max_seconds).sentence)
