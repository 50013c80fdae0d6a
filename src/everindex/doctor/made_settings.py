"""The places that set a value for a setting: a role, a database, the server's files, or this connection itself. Reads only."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.stored_settings import MadeSetting, setting_name

#: Values of pg_settings.source for settings of the whole server.
_OF_THE_SERVER = ("configuration file", "command line", "environment variable")


def made_settings(examined: Examined, names: Iterable[str]) -> tuple[MadeSetting, ...]:
    """Every place that sets one of these settings for this database; defaults are not included. Reads only.

    A value from the server's files is visible only when neither this role nor the database overrides it.
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
                    undo_advice="remove it from the connection string or from PGOPTIONS.",
                )
            )
    return tuple(made)


def set_for_database(database: str, name: str, value: str) -> str:
    """`ALTER DATABASE … SET name = 'value'`, which applies to new connections."""
    return (
        sql.SQL("ALTER DATABASE {} SET {} = {}")
        .format(sql.Identifier(database), setting_name(name), sql.Literal(value))
        .as_string(None)
    )


def set_for_server(name: str, value: str) -> tuple[str, str]:
    """ALTER SYSTEM and the reload that applies it, for settings that need no restart."""
    return (
        sql.SQL("ALTER SYSTEM SET {} = {}").format(setting_name(name), sql.Literal(value)).as_string(None),
        "SELECT pg_reload_conf()",
    )


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
        undo_advice=f"remove it from {where}, then  SELECT pg_reload_conf()  (or restart, if the setting requires it).",
    )
