"""Settings stored by ALTER ROLE … SET and ALTER DATABASE … SET, and the statements that reset them. Reads only."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

#: `Examined.rows`: runs a reading statement within the time limit.
Read = Callable[[str], list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeSetting:
    """One place that sets a value for a setting, and how to undo it."""

    name: str
    value: str
    where: str
    """For people: `for role "web" in database "shop"`."""

    role: str | None = None
    """The role that it applies to; None when it applies to all roles."""

    undo: tuple[str, ...] = ()
    undo_advice: str = ""


def read_stored_settings(read: Read, database_name: str) -> tuple[MadeSetting, ...]:
    """The settings that ALTER ROLE … SET and ALTER DATABASE … SET store for this database, whatever their names. Reads only."""
    found = read(
        """
        SELECT s.setrole = 0, r.rolname, s.setdatabase = 0, entry
        FROM pg_catalog.pg_db_role_setting s
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
        CROSS JOIN LATERAL unnest(s.setconfig) AS entry
        WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
        ORDER BY r.rolname NULLS FIRST, s.setdatabase, entry
        """
    )
    made = []
    for is_every_role, role, is_every_database, entry in found:
        name, _, value = entry.partition("=")
        database = None if is_every_database else database_name
        made.append(
            MadeSetting(
                name=name,
                value=value,
                where=_where(None if is_every_role else role, database),
                role=None if is_every_role else role,
                undo=(reset_statement(name, role=None if is_every_role else role, database=database),),
            )
        )
    return tuple(made)


def reset_statement(name: str, *, role: str | None, database: str | None) -> str:
    """The statement that resets a setting stored for a role, for a database, or for both."""
    return sql.SQL("{} RESET {}").format(owner_of_setting(role, database), setting_name(name)).as_string(None)


def owner_of_setting(role: str | None, database: str | None) -> sql.Composed:
    if role is None and database is not None:
        return sql.SQL("ALTER DATABASE {}").format(sql.Identifier(database))
    whose = sql.SQL("ALTER ROLE ALL") if role is None else sql.SQL("ALTER ROLE {}").format(sql.Identifier(role))
    within = sql.SQL("") if database is None else sql.SQL(" IN DATABASE {}").format(sql.Identifier(database))
    return sql.Composed([whose, within])


def setting_name(name: str) -> sql.Composable:
    """The name in the form that SET takes: unquoted if possible, otherwise with each part quoted."""
    if re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", name):
        return sql.SQL(name)
    return sql.Identifier(*name.split("."))


def _where(role: str | None, database: str | None) -> str:
    whose = "for every role" if role is None else f'for role "{role}"'
    return whose if database is None else f'{whose} in database "{database}"'
