"""`everindex user`: lists the people who sign in on the pages, creates one, sets a password, removes one.

A password is asked for on the terminal, or read from the first line of stdin; it is never an argument, which other users of
the machine could read.
"""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Literal

import typer

from everindex.access.scopes import ScopeName
from everindex.access.users import MAX_PASSWORD_CHARS, create_user, list_users, remove_user, set_password
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.errors import UsageError
from everindex.pg import address
from everindex.settings import read_settings


def user(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[list | create NAME | password NAME | remove NAME]",
            help="create: asks for a password, or reads it from stdin. password: sets another one and ends all sessions. "
            "remove: removes the account and ends all its sessions. list: lists all.",
        ),
    ] = None,
    scope: Annotated[
        ScopeName, typer.Option("--scope", help="create: read, write (and read), or operate (and write and read).")
    ] = "read",
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    verb, name = _verb_of(words or [])
    settings = read_settings()
    password = _read_password() if verb in ("create", "password") else ""
    with (
        address.server(settings) as conninfo,
        connect_patiently(conninfo, settings, wait, application_name="everindex user") as connection,
    ):
        match verb:
            case "create":
                create_user(connection, name, password=password, scope=scope, conninfo=conninfo)
            case "password":
                set_password(connection, name, password=password, conninfo=conninfo)
            case "remove":
                remove_user(connection, name, conninfo=conninfo)
        found = list_users(connection)
    if as_json:
        print_json({"users": [each.as_dict() for each in found]})
        return
    if not found:
        say("there are no users: make one with  everindex user create NAME --scope write")
    for each in found:
        sessions = "1 session" if each.sessions == 1 else f"{each.sessions} sessions"
        say(f"{each.name}: {each.scope.text}, password of {each.password_set_at:%Y-%m-%d}, {sessions}")


def _read_password() -> str:
    """Raises UsageError."""
    if not sys.stdin.isatty():
        return sys.stdin.readline(MAX_PASSWORD_CHARS + 2).rstrip("\r\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("the same again: ") != password:
        raise UsageError(
            "the two passwords differ.", why="one of them has a typing error.", next_step="run the command again."
        )
    return password


def _verb_of(words: list[str]) -> tuple[Literal["list", "create", "password", "remove"], str]:
    match words:
        case [] | ["list"]:
            return "list", ""
        case ["create" | "password" | "remove" as verb, name]:
            return verb, name
        case _:
            raise UsageError(
                "the arguments of  everindex user  are not valid.",
                why="it takes  list ,  create NAME ,  password NAME , or  remove NAME.",
                next_step="run  everindex user create anna --scope write .",
            )
