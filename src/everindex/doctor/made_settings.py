"""Where is a setting made? For a role, for a database, in the server's files, or by this connection itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from everindex.doctor.examined import Examined

#: pg_settings.source of what holds for the whole server.
_OF_THE_SERVER = ("configuration file", "command line", "environment variable")


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeSetting:
    """One place that gives a setting its value, and what takes it back."""

    name: str
    value: str
    where: str
    """For people: `for role "web" in database "shop"`."""

    role: str | None = None
    """The one role that it holds for; None where it holds for all."""

    undo: tuple[str, ...] = ()
    undo_advice: str = ""


def stored_settings(examined: Examined) -> tuple[MadeSetting, ...]:
    """What ALTER ROLE … SET and ALTER DATABASE … SET keep for this database, whatever the names. Reads only."""
    found = examined.rows(
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
        database = None if is_every_database else examined.capabilities.database
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


def made_settings(examined: Examined, names: Iterable[str]) -> tuple[MadeSetting, ...]:
    """Every place that makes one of these settings for this database; defaults are not among them. Reads only.

    What the server's files say is seen only where neither this role nor the database overrides it.
    """
    wanted = tuple(names)
    made = [setting for setting in examined.stored_settings if setting.name.lower() in wanted]
    for name, value, source, file in examined.rows(
        "SELECT name, current_setting(name), source, sourcefile FROM pg_catalog.pg_settings WHERE name = ANY(%s) ORDER BY name",
        (list(wanted),),
    ):
        if source in _OF_THE_SERVER:
            made.append(_of_the_server(name, value, source, file))
        elif source == "client":
            made.append(
                MadeSetting(
                    name=name,
                    value=value,
                    where="by the options of this connection",
                    undo_advice="take it out of the connection string or of PGOPTIONS.",
                )
            )
    return tuple(made)


def reset_statement(name: str, *, role: str | None, database: str | None) -> str:
    """The statement that takes back what is kept for a role, for a database, or for both."""
    return sql.SQL("{} RESET {}").format(owner_of_setting(role, database), setting_name(name)).as_string(None)


def set_for_database(database: str, name: str, value: str) -> str:
    """`ALTER DATABASE … SET name = 'value'`; it holds for connections made from then on."""
    return (
        sql.SQL("ALTER DATABASE {} SET {} = {}")
        .format(sql.Identifier(database), setting_name(name), sql.Literal(value))
        .as_string(None)
    )


def set_for_server(name: str, value: str) -> tuple[str, str]:
    """ALTER SYSTEM and the reload that makes it hold, where the setting does not want a restart."""
    return (
        sql.SQL("ALTER SYSTEM SET {} = {}").format(setting_name(name), sql.Literal(value)).as_string(None),
        "SELECT pg_reload_conf()",
    )


def owner_of_setting(role: str | None, database: str | None) -> sql.Composed:
    if role is None and database is not None:
        return sql.SQL("ALTER DATABASE {}").format(sql.Identifier(database))
    whose = sql.SQL("ALTER ROLE ALL") if role is None else sql.SQL("ALTER ROLE {}").format(sql.Identifier(role))
    within = sql.SQL("") if database is None else sql.SQL(" IN DATABASE {}").format(sql.Identifier(database))
    return sql.Composed([whose, within])


def setting_name(name: str) -> sql.Composable:
    """The name as SET takes it: bare where it can be, each part quoted where not."""
    if re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", name):
        return sql.SQL(name)
    return sql.Identifier(*name.split("."))


def _where(role: str | None, database: str | None) -> str:
    whose = "for every role" if role is None else f'for role "{role}"'
    return whose if database is None else f'{whose} in database "{database}"'


def _of_the_server(name: str, value: str, source: str, file: str | None) -> MadeSetting:
    if (file or "").endswith("postgresql.auto.conf"):
        undo = sql.SQL("ALTER SYSTEM RESET {}").format(setting_name(name)).as_string(None)
        return MadeSetting(
            name=name, value=value, where="for the server (ALTER SYSTEM)", undo=(undo, "SELECT pg_reload_conf()")
        )
    where = file or ("postgresql.conf" if source == "configuration file" else f"the {source}")
    return MadeSetting(
        name=name,
        value=value,
        where=f"for the server ({where})",
        undo_advice=f"take it out of {where}, then  SELECT pg_reload_conf()  (or a restart, as the setting wants).",
    )
