"""The address of the PostgreSQL server, read from the settings as a libpq connection string.

`describe` names a server without any secret. Where the settings name no server, `servers` starts the embedded one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from everindex.errors import SettingInvalid
from everindex.pg.address_text import checked, why_unusable
from everindex.settings import Settings

#: `postgresql+psycopg2://` and the like are SQLAlchemy's; libpq wants the bare scheme.
_DRIVER_SUFFIX = re.compile(r"^(postgres(?:ql)?)\+[a-z0-9_]+://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Addresses:
    """The connection strings of one database; never shown, since they hold passwords."""

    main: str
    direct: str
    """Without a pooler; the same as `main` unless it is named."""

    read: str | None
    """Its read replicas."""


def configured(settings: Settings) -> Addresses:
    """The addresses of the named server. Raises SettingInvalid, without the address, for one that libpq cannot read."""
    main = configured_conninfo(settings)
    direct, read = settings.database_url_direct, settings.database_url_read
    return Addresses(
        main=main,
        direct=main if direct is None else _readable("DATABASE_URL_DIRECT", direct),
        read=None if read is None else _readable("DATABASE_URL_READ", read),
    )


def configured_conninfo(settings: Settings) -> str:
    """The connection string of the named server. Raises SettingInvalid when `DATABASE_URL` is none."""
    if settings.database_url is None:
        password = settings.db_password.get_secret_value() if settings.db_password else None
        conninfo = make_conninfo(
            "",
            host=settings.db_host,
            port=settings.db_port,
            dbname=settings.db_name,
            user=settings.db_user,
            password=password,
        )
        return checked(conninfo, name="what DB_HOST, DB_PORT, DB_NAME and DB_USER say")
    instead = (
        "remove DATABASE_URL: DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD then name the server; or else "
        if settings.db_host is not None
        else ""
    )
    return _readable("DATABASE_URL", settings.database_url, instead=instead)


def _readable(name: str, secret: SecretStr, *, instead: str = "") -> str:
    return checked(without_driver(secret.get_secret_value()), name=name, instead=instead)


def without_driver(url: str) -> str:
    """An address as libpq reads it, of one that names SQLAlchemy's driver; every other is left alone."""
    return _DRIVER_SUFFIX.sub(r"\1://", url.strip())


def describe(conninfo: str) -> str:
    """The server as `database at host:port as user`: for messages and logs, without any secret.

    Nothing is said of an address that may not mean what its text says: a part of a password could stand for the host.
    """
    if why_unusable(conninfo) is not None:
        return "the server of an unusable address"
    parts = conninfo_to_dict(conninfo)
    hosts = str(parts.get("host") or parts.get("hostaddr") or "the local socket").split(",")
    ports = str(parts.get("port") or "").split(",")
    where = ", ".join(
        host if host.startswith("/") or not port else f"{host}:{port}"
        for host, port in zip(hosts, ports if len(ports) == len(hosts) else ports[:1] * len(hosts), strict=True)
    )
    who = f" as {parts['user']}" if parts.get("user") else ""
    return f"database {parts.get('dbname') or parts.get('user') or 'of the default name'} at {where}{who}"


def belonging_to(conninfo: str, settings: Settings) -> Addresses:
    """The addresses of the database at `conninfo`: those of the settings where it is theirs, else that one alone.

    A program may open another database than the configured one, whose replicas have other articles.
    """
    conninfo = checked(without_driver(conninfo), name="the given address")
    if not settings.uses_embedded_server:
        found = configured(settings)
        if conninfo in (found.main, found.direct):
            return found
    return Addresses(main=conninfo, direct=conninfo, read=None)


@contextmanager
def servers(settings: Settings) -> Iterator[Addresses]:
    """The addresses to use; starts the embedded server for the time of the block when none is named."""
    if not settings.uses_embedded_server:
        yield configured(settings)
        return
    for name, value in (
        ("DATABASE_URL_DIRECT", settings.database_url_direct),
        ("DATABASE_URL_READ", settings.database_url_read),
    ):
        if value is not None:
            raise SettingInvalid(
                f"{name} is set, and neither DATABASE_URL nor DB_HOST is.",
                why="it is another way to a named server; without one everindex would run a server of its own and pass it over.",
                next_step=f"set DATABASE_URL to the server, or unset {name}.",
            )
    from everindex.pg.embedded import running as embedded

    with embedded.running(settings.home) as conninfo:
        yield Addresses(main=conninfo, direct=conninfo, read=None)


@contextmanager
def server(settings: Settings) -> Iterator[str]:
    """The connection string for commands: the server itself where a pooler lies before it and DATABASE_URL_DIRECT says so.

    Starts the embedded server for the time of the block when none is named.
    """
    with servers(settings) as found:
        yield found.direct
