"""`everindex embed`: vectors for the articles that have none of the current model."""

from __future__ import annotations

from typing import Annotated

import typer

from everindex.cli.output import JsonOption, print_json, reporter, row_progress, say
from everindex.cli.waiting import WaitOption, open_instance


def embed(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the articles that are waiting.")] = False,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    with open_instance(wait) as instance:
        waiting = instance.embedding_queue()
        model = instance.embedder.model
        if dry_run:
            if as_json:
                print_json({"waiting": waiting, "model": model})
            else:
                say(f"{waiting} articles wait for a vector of {model}")
            return
        with (
            reporter() as reporting,
            row_progress("embedding", total=waiting) as advance,
        ):
            report = instance.embed_missing(on_rows=advance, reporter=reporting)
    done, left = report.stored.updated, report.without_vector
    if as_json:
        print_json({"embedded": done, "without_vector": left, "failure_reason": report.failure_reason, "model": model})
    else:
        say(f"{done} articles embedded with {model}, {left} still without a vector")
        if left:
            say(f"  first reason: {report.failure_reason}")
    if left:
        raise typer.Exit(1)
