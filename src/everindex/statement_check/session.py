"""The session that a statement is checked in: its role, its settings, and the SETs before the statement in a file.

All of them are applied inside the transaction that is rolled back. A role is assumed with the settings from ALTER ROLE, as if
it had logged in itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from everindex.errors import StatementNotCheckable
from everindex.statement_check.connection import CallerConnection, Refused
from everindex.statement_check.text import Statement, tokens
from everindex.statement_check.values import Given, as_literal, inlined

SET = sql.SQL("SELECT pg_catalog.set_config({}, {}, true)")
SETTING = sql.SQL("SELECT pg_catalog.current_setting({}, true)")
_OURS = ("hnsw", "ivfflat")
_OF_ROLE = sql.SQL(
    "SELECT unnest(s.setconfig)::text FROM pg_catalog.pg_db_role_setting s "
    "JOIN pg_catalog.pg_roles r ON r.oid = s.setrole "
    "WHERE r.rolname = {} AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())) "
    "ORDER BY s.setdatabase"
)


def assume_role(caller: CallerConnection, role: str) -> None:
    """Assumes the role for the rest of the transaction, with its settings. Raises StatementNotCheckable."""
    made = [str(row[0]).partition("=") for row in caller.rows(_OF_ROLE.format(sql.Literal(role)))]
    try:
        caller.rows(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
    except Refused as exc:
        raise StatementNotCheckable(
            f"role {role} cannot be assumed.",
            why=f"{exc.text} (SQLSTATE {exc.state}).",
            next_step="name an existing role that this one is a member of, or connect as the role of the application.",
        ) from exc.error
    for name, _, value in made:
        if name != "role":
            try:
                with caller.kept():
                    caller.rows(SET.format(sql.Literal(name), sql.Literal(value)))
            except Refused:
                continue  # a setting that only a superuser may change, or that takes effect only at login


def make_settings(caller: CallerConnection, settings: Mapping[str, Any]) -> None:
    """Applies the settings of the application's session. Raises StatementNotCheckable for one that PostgreSQL rejects."""
    for name, value in settings.items():
        _refuse_unknown(caller, name)
        text = {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
        try:
            caller.rows(SET.format(sql.Literal(name), sql.Literal(text)))
        except Refused as exc:
            raise StatementNotCheckable(
                f"{name} cannot be set to {text}.",
                why=f"{exc.text} (SQLSTATE {exc.state}).",
                next_step="use a value that the application's session could set.",
            ) from exc.error


def replay(caller: CallerConnection, statement: Statement, parameters: Given) -> None:
    """Applies the SETs before the statement in the text. They contain only constants, so nothing else is executed."""
    named = parameters if isinstance(parameters, Mapping) else {}
    for made in statement.session:
        missing = [name for name in made.parameters if name not in named or name.isdigit()]
        if missing:
            raise StatementNotCheckable(
                f"{_short(made)} has a parameter without a value: {', '.join(missing)}.",
                why="the plan of the statements after it depends on what it sets.",
                next_step="write the value into the text, or a name (:value) and give --param value=….",
            )
        for name in _names(made):
            _refuse_unknown(caller, name)
        literals = {
            n: as_literal(named[name], type_name="", what=name) for n, name in enumerate(made.parameters, start=1)
        }
        try:
            caller.rows(inlined(made, literals))
        except Refused as exc:
            raise StatementNotCheckable(
                f"PostgreSQL rejects {_short(made)}.",
                why=f"{exc.text} (SQLSTATE {exc.state}).",
                next_step="correct it, or connect as a role that may set it.",
            ) from exc.error


def _refuse_unknown(caller: CallerConnection, name: str) -> None:
    is_known = caller.rows(SETTING.format(sql.Literal(name)))[0][0] is not None
    # PostgreSQL accepts any name with a dot: a misspelled one would be set without any effect.
    if not is_known and (name.partition(".")[0] in _OURS or "." not in name):
        raise StatementNotCheckable(
            f"there is no setting {name} on this server.",
            why="it is misspelled, or newer than this PostgreSQL or this pgvector.",
            next_step="correct the name; SELECT name FROM pg_settings lists the existing ones.",
        )


def _names(made: Statement) -> list[str]:
    """The settings that it sets by name; none for SET ROLE, SET TIME ZONE and similar."""
    words = [token for token in tokens(made.numbered) if token.is_significant]
    plain = [word.text.lower() for word in words]
    if plain[0] == "select":
        named = [words[at + 2] for at, word in enumerate(plain) if word == "set_config"]
        return [word.text[1:-1] for word in named if word.kind == "quoted"]
    at = 2 if plain[1:2] in (["local"], ["session"]) else 1
    end = at + 1
    while plain[end : end + 1] == ["."]:
        end += 2
    if plain[end : end + 1] not in (["="], ["to"]):
        return []
    return ["".join(plain[at:end]).replace('"', "")]


def _short(made: Statement) -> str:
    text = " ".join(made.text.split())
    return text if len(text) <= 60 else text[:59] + "…"
