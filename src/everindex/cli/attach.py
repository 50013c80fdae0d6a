"""`everindex attach` and `detach`: managing the indexes of a database with its own migrations, and removing everindex again."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from everindex.articles.declared import DECLARED_INDEXES
from everindex.articles.partial_indexes import read_partial_indexes
from everindex.articles.search.keyword.document import INDEX_NAME
from everindex.cli.output import JsonOption, is_terminal, print_json, reporter, say, tell
from everindex.cli.proofs import print_proofs
from everindex.cli.waiting import LongWaitOption, connect_patiently, seconds_to_wait
from everindex.errors import UsageError
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.recall.proof import Verification
from everindex.index.recall.verify import prove_index
from everindex.migrate import runner
from everindex.migrate.attach import nothing_to_attach
from everindex.migrate.detach import Detachment, plan_detach
from everindex.migrate.detach import detach as detach_database
from everindex.migrate.standing import prove_revision
from everindex.pg import address
from everindex.pg.connections import connect
from everindex.settings import read_settings


def attach(wait: LongWaitOption = None, as_json: JsonOption = False) -> None:
    settings = read_settings()
    if settings.uses_embedded_server:
        raise nothing_to_attach("no server is configured, and the embedded server has its own database")
    wait_seconds = seconds_to_wait(settings, wait, deploys=True)
    with address.server(settings) as conninfo:
        connect_patiently(conninfo, settings, wait, deploys=True).close()
        with reporter() as reporting:
            runner.attach(conninfo, wait_seconds=wait_seconds, reporter=reporting)
        with connect(conninfo, application_name="everindex attach") as connection:
            proofs = [prove_revision(connection)]
            proofs += [prove_index(connection, effective_spec(connection, spec))[0] for spec in DECLARED_INDEXES]
    result = Verification(proofs=tuple(proofs))
    if as_json:
        print_json({"attached": True} | result.as_dict())
    else:
        print_proofs(result, to=say)
    if not result.holds:
        raise typer.Exit(3)


def detach(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and exit.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking for confirmation.")] = False,
    wait: LongWaitOption = None,
    as_json: JsonOption = False,
) -> None:
    settings = read_settings()
    with address.server(settings) as conninfo:
        with connect_patiently(
            conninfo, settings, wait, deploys=True, application_name="everindex detach"
        ) as connection:
            also = (INDEX_NAME, *(each.name for each in read_partial_indexes(connection)))
            plan = plan_detach(connection, DECLARED_INDEXES, also=also)
        _show(plan, as_json=as_json and dry_run)
        if dry_run or plan.is_empty:
            if as_json and not dry_run:
                print_json({"done": []} | plan.as_dict())
            return
        _require_consent(yes)
        with reporter() as reporting:
            done = detach_database(conninfo, DECLARED_INDEXES, also=also, reporter=reporting)
    if as_json:
        print_json({"done": list(done.sentences)} | done.as_dict())
    else:
        say("detached: what is left in this database is the application's own")


def _show(plan: Detachment, *, as_json: bool) -> None:
    if as_json:
        print_json(plan.as_dict())
        return
    if plan.is_empty:
        tell("everindex has nothing in this database")
    for sentence in plan.sentences:
        tell(f"to do: {sentence}")
    for sentence in plan.stays:
        tell(f"stays: {sentence}")
    for sentence in plan.warnings:
        tell(f"warning: {sentence}")


def _require_consent(yes: bool) -> None:
    if yes:
        return
    if sys.stdin.isatty() and is_terminal():
        typer.confirm("Remove this?", abort=True, err=True)
        return
    raise UsageError(
        "nothing was removed: detach asks for confirmation, which needs a terminal.",
        why="standard input is not a terminal.",
        next_step="review the list above, then run it again with --yes.",
    )
