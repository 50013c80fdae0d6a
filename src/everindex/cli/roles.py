"""`everindex roles`: prints the statements that make the database roles of least privilege, or runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everindex.access.role_application import apply_roles
from everindex.access.role_observation import observe_for_roles
from everindex.access.roles import DEFAULT_PREFIX, Observed, RoleNames, role_statements, script
from everindex.cli.output import JsonOption, print_json, say, tell
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.errors import UsageError
from everindex.pg import address
from everindex.settings import read_settings


def roles(
    prints: Annotated[bool, typer.Option("--print", help="Print the statements as a script for psql.")] = False,
    applies: Annotated[bool, typer.Option("--apply", help="Run them, in one transaction; takes a superuser.")] = False,
    prefix: Annotated[str, typer.Option("--prefix", help="How the names of the roles begin.")] = DEFAULT_PREFIX,
    passwords: Annotated[
        Path | None,
        typer.Option(
            "--passwords",
            help="--apply: a directory for the passwords, a file for each role; a missing one is made. Without it the roles get "
            "no password.",
        ),
    ] = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    if prints == applies or (passwords is not None and not applies):
        raise UsageError(
            "it is not clear what to do with the roles.",
            why="the command takes --print or --apply, and --passwords only with --apply.",
            next_step="run  everindex roles --print  to read the statements first.",
        )
    names, settings = RoleNames(prefix=prefix), read_settings()
    with (
        address.server(settings) as conninfo,
        connect_patiently(conninfo, settings, wait, application_name="everindex roles") as connection,
    ):
        if prints:
            observed = observe_for_roles(connection)
            groups = role_statements(observed, names)
        else:
            observed, groups = apply_roles(connection, names, passwords=passwords)
    if as_json:
        shown = [[group.about, [each.as_string(None) for each in group.statements]] for group in groups]
        print_json({"roles": list(names.every), "applied": applies, "statements": dict(shown)})  # type: ignore[arg-type]
    elif prints:
        say(script(groups, observed, names).rstrip("\n"))
    else:
        say(f"made {', '.join(names.every)} in database {observed.database}")
        where = "no role has a password yet" if passwords is None else f"the passwords are in {passwords}"
        say(f"{where}; the web application connects as {names.app}, migrate, deploy and keep as {names.migrator}")
    for line in _notes(observed):
        tell(line)


def _notes(observed: Observed) -> list[str]:
    """What the statements leave to an administrator."""
    return [
        f"note: role {owner} owns tables that everindex indexes, and is a superuser; nobody is made a member of it, so the "
        "migrator cannot build their indexes. Give the tables another owner."
        for owner in observed.other_owners
        if owner in observed.superusers
    ]
