"""`everindex token`: lists the tokens of programs, creates one, revokes one."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

import typer

from everindex.access.scopes import ScopeName
from everindex.access.tokens import Token, create_token, list_tokens, revoke_token
from everindex.cli.output import JsonOption, print_json, say, tell
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.errors import UsageError
from everindex.pg import address
from everindex.settings import read_settings

DEFAULT_DAYS = 90.0


def token(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[list | create NAME | revoke NAME]",
            help="create: make a token and print it, once. revoke: servers refuse it within seconds. list: lists all.",
        ),
    ] = None,
    scope: Annotated[
        ScopeName, typer.Option("--scope", help="create: read, write (and read), or operate (and write and read).")
    ] = "read",
    days: Annotated[
        float, typer.Option("--days", help="create: days until it expires; 0 for a token that never does.", min=0)
    ] = DEFAULT_DAYS,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    verb, name = _verb_of(words or [])
    settings = read_settings()
    with (
        address.server(settings) as conninfo,
        connect_patiently(conninfo, settings, wait, application_name="everindex token") as connection,
    ):
        if verb == "create":
            secret, made = create_token(connection, name, scope=scope, days=days or None, conninfo=conninfo)
            _print_new(secret, made, as_json=as_json)
            return
        if verb == "revoke":
            revoke_token(connection, name, conninfo=conninfo)
        found = list_tokens(connection)
    if as_json:
        print_json({"tokens": [each.as_dict() for each in found]})
        return
    if not found:
        say("there are no tokens: make one with  everindex token create NAME --scope read")
    for each in found:
        say(_line_of(each))


def _print_new(secret: str, made: Token, *, as_json: bool) -> None:
    """The secret is all that goes to stdout, so that a script can store it."""
    if as_json:
        print_json({"token": secret} | made.as_dict())
        return
    say(secret)
    ends = "never expires" if made.expires_at is None else f"expires on {_day(made.expires_at)}"
    tell(
        f"{made.name}: scope {made.scope.text}, {ends}. It is not shown again. Programs send it as  "
        "Authorization: Bearer TOKEN . Now that there is a token, the web application asks everybody for one, or for a sign-in "
        "(EVERINDEX_ACCESS)."
    )


def _line_of(each: Token) -> str:
    ends = {
        "valid": "never expires" if each.expires_at is None else f"expires on {_day(each.expires_at)}",
        "expired": f"expired on {_day(each.expires_at)}",
        "revoked": f"revoked on {_day(each.revoked_at)}",
    }[each.state]
    used = "never used" if each.used_at is None else f"last used on {_day(each.used_at)}"
    return f"{each.name}: {each.scope.text}, {ends}, {used}"


def _day(moment: dt.datetime | None) -> str:
    return "" if moment is None else moment.astimezone(dt.UTC).strftime("%Y-%m-%d")


def _verb_of(words: list[str]) -> tuple[Literal["list", "create", "revoke"], str]:
    match words:
        case [] | ["list"]:
            return "list", ""
        case ["create" | "revoke" as verb, name]:
            return verb, name
        case _:
            raise UsageError(
                "the arguments of  everindex token  are not valid.",
                why="it takes  list ,  create NAME , or  revoke NAME.",
                next_step="run  everindex token create ci --scope read .",
            )
