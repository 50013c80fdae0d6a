"""The address of the PostgreSQL server, read from the settings as a libpq connection string.

`describe` names a server without any secret. If the settings name no server, `servers` starts the embedded one.
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

#: `postgresql+psycopg2://` and similar schemes are SQLAlchemy's; libpq needs the plain scheme.
_DRIVER_SUFFIX = re.compile(r"^(postgres(?:ql)?)\+[a-z0-9_]+://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Addresses:
    """The connection strings of one database; never shown, since they hold passwords."""

    main: str
    direct: str
    """The address without a pooler; the same as `main` unless it is set."""

    read: str | None
    """Its read replicas."""


def configured(settings: Settings) -> Addresses:
    """The addresses of the configured server. Raises SettingInvalid, without the address, for one that libpq cannot read."""
    main = configured_conninfo(settings)
    direct, read = settings.database_url_direct, settings.database_url_read
    return Addresses(
        main=main,
        direct=main if direct is None else _readable("DATABASE_URL_DIRECT", direct),
        read=None if read is None else _readable("DATABASE_URL_READ", read),
    )


def configured_conninfo(settings: Settings) -> str:
    """The connection string of the configured server. Raises SettingInvalid when `DATABASE_URL` is not one."""
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
        return checked(conninfo, name="the combination of DB_HOST, DB_PORT, DB_NAME and DB_USER")
    instead = (
        "remove DATABASE_URL: DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD then name the server; or else "
        if settings.db_host is not None
        else ""
    )
    return _readable("DATABASE_URL", settings.database_url, instead=instead)


def _readable(name: str, secret: SecretStr, *, instead: str = "") -> str:
    return checked(without_driver(secret.get_secret_value()), name=name, instead=instead)


def without_driver(url: str) -> str:
    """The address without SQLAlchemy's driver name, as libpq needs it; any other address is returned unchanged."""
    return _DRIVER_SUFFIX.sub(r"\1://", url.strip())


def describe(conninfo: str) -> str:
    """The server as `database at host:port as user`: for messages and logs, without any secret.

    An address that could be misinterpreted is not described: part of a password could appear as the host.
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
    """The addresses of the database at `conninfo`: those of the settings if it is the configured one, otherwise only that one.

    A program may open a database other than the configured one, whose replicas have other articles.
    """
    conninfo = checked(without_driver(conninfo), name="the given address")
    if not settings.uses_embedded_server:
        found = configured(settings)
        if conninfo in (found.main, found.direct):
            return found
    return Addresses(main=conninfo, direct=conninfo, read=None)


@contextmanager
def servers(settings: Settings) -> Iterator[Addresses]:
    """The addresses to use; starts the embedded server for the duration of the block when none is configured."""
    if not settings.uses_embedded_server:
        yield configured(settings)
        return
    for name, value in (
        ("DATABASE_URL_DIRECT", settings.database_url_direct),
        ("DATABASE_URL_READ", settings.database_url_read),
    ):
        if value is not None:
            raise SettingInvalid(
                f"{name} is set, but neither DATABASE_URL nor DB_HOST is.",
                why="it is a second address of a configured server; without one everindex would run its own server and ignore "
                "it.",
                next_step=f"set DATABASE_URL to the server, or unset {name}.",
            )
    from everindex.pg.embedded import running as embedded

    with embedded.running(settings.home) as conninfo:
        yield Addresses(main=conninfo, direct=conninfo, read=None)


@contextmanager
def server(settings: Settings) -> Iterator[str]:
    """The connection string for commands: DATABASE_URL_DIRECT if it is set, which bypasses a pooler.

    Starts the embedded server for the duration of the block when none is configured.
    """
    with servers(settings) as found:
        yield found.direct
