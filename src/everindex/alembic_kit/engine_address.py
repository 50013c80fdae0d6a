"""The libpq address of an SQLAlchemy connection's server, whatever driver the application uses.

The index engine uses separate connections (psycopg). If the application's driver is based on libpq (psycopg, psycopg2), it
takes the parameters of that driver's connection, since a password may have come from a hook, a service file or the
environment; otherwise (asyncpg, pg8000) it takes the URL of the engine. No message here contains an address or a password.
"""

from __future__ import annotations

import re
from typing import Any

from alembic.runtime.migration import MigrationContext
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from sqlalchemy import URL, Connection, text

from everindex.errors import SettingInvalid
from everindex.pg.address_text import why_unusable

#: Query options of asyncpg, pg8000 or SQLAlchemy that have another name in libpq, or none.
_RENAMED = {"ssl": "sslmode", "timeout": "connect_timeout", "database": "dbname", "username": "user"}
_NOT_OF_LIBPQ = {
    "async_fallback",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "statement_cache_size",
    "max_cached_statement_lifetime",
    "max_cacheable_statement_size",
    "command_timeout",
    "direct_tls",
    "plugin",
    "tcp_keepalive",
}
#: Values of asyncpg and pg8000 for sslmode, in addition to libpq's own.
_SSL_WORDS = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable", "off": "disable"}


def address_of(context: MigrationContext) -> str:
    """The address for the engine's own connections: the one that env.py passed, otherwise that of Alembic's connection."""
    given = context.opts.get("everindex_conninfo")
    assert context.bind is not None
    return str(given) if given is not None else _as_role_of(context.bind, conninfo_of(context.bind))


def conninfo_of(connection: Connection) -> str:
    """The libpq connection string of this connection's server. Raises SettingInvalid."""
    asked = _of_driver(connection)
    return make_conninfo("", **asked) if asked else conninfo_of_url(connection.engine.url)


def _as_role_of(connection: Connection, conninfo: str) -> str:
    """The address, with the role that the connection has assumed (SET ROLE) if that is not the login role."""
    row = connection.execute(text("SELECT current_user::text, session_user::text")).one()
    if row[0] == row[1]:
        return conninfo
    known = conninfo_to_dict(conninfo).get("options")
    # In options a backslash escapes spaces and itself (PostgreSQL, pg_split_opts).
    role = re.sub(r"([\\\s])", r"\\\1", row[0])
    return make_conninfo(conninfo, options=f"{known} -c role={role}" if known else f"-c role={role}")


def conninfo_of_url(url: URL) -> str:
    """A SQLAlchemy URL as a libpq connection string: without the driver, with the same hosts, options and password.

    Raises SettingInvalid for a URL of another database, or one that libpq cannot read; never shows the URL.
    """
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise SettingInvalid(
            f"the engine's address is for {url.get_backend_name()}, not for PostgreSQL.",
            why="these vector indexes need pgvector.",
            next_step="run these revisions on PostgreSQL only.",
        )
    hosts, ports = _hosts(url)
    given: dict[str, Any] = {
        "host": ",".join(hosts) or None,
        "port": ",".join(ports) or None,
        "dbname": url.database,
        "user": url.username,
        "password": url.password,
    }
    for key, value in url.query.items():
        if key in ("host", "port") or key in _NOT_OF_LIBPQ:
            continue
        last = value if isinstance(value, str) else value[-1]
        name = _RENAMED.get(key, key)
        given[name] = _SSL_WORDS.get(last.lower(), last) if name == "sslmode" else last
    if "@" in f"{url.host}{url.database}":  # with several @, SQLAlchemy took the first for the one before the host
        raise _not_usable()
    try:
        conninfo = make_conninfo("", **{name: value for name, value in given.items() if value not in (None, "")})
    except ProgrammingError:
        known = {option.keyword.decode() for option in Conninfo.get_defaults()}
        # Only names that look like options: text after an unescaped ? may be part of a password.
        unknown = [name for name in sorted(set(given) - known) if re.fullmatch(r"[a-z_]{3,}", name)]
        raise SettingInvalid(
            "the engine's address cannot be used for an index build.",
            why="it is not shown here, since it may hold a password: libpq "
            + (f"does not know its options {', '.join(unknown)}." if unknown else "rejects the values of its options."),
            next_step="pass the address in env.py:  context.configure(…, everindex_conninfo='postgresql://…').",
        ) from None
    if why_unusable(conninfo) is not None:
        raise _not_usable()
    return conninfo


def _not_usable() -> SettingInvalid:
    return SettingInvalid(
        "the engine's address does not name a server.",
        why="SQLAlchemy parsed it in an unintended way (it is not shown here, since it may hold a password): an @, : or / in "
        "the password is not escaped.",
        next_step="create it with  sqlalchemy.URL.create(…) , which escapes automatically, or write %40, %3A and %2F.",
    )


def _hosts(url: URL) -> tuple[list[str], list[str]]:
    """Hosts and ports, from the URL itself, `?host=a:1&host=b:2`, `?host=a,b&port=1,2`, or a socket directory."""
    asked = url.query.get("host", ())
    hosts = [part for value in ((asked,) if isinstance(asked, str) else asked) for part in value.split(",")]
    asked = url.query.get("port", ())
    ports = [part for value in ((asked,) if isinstance(asked, str) else asked) for part in value.split(",")]
    if not hosts:
        return ([url.host] if url.host else []), ([str(url.port)] if url.port else ports)
    if not ports:
        pairs = [_split(host) for host in hosts]
        if any(port for _, port in pairs):
            return [host for host, _ in pairs], [port or "5432" for _, port in pairs]
        ports = [str(url.port)] if url.port else []
    return hosts, ports


def _split(host: str) -> tuple[str, str]:
    """(host, port) of `host:port`; an IPv6 address in brackets keeps its colons, a socket's directory has no port."""
    if host.startswith("/"):
        return host, ""
    if host.startswith("["):
        address, _, rest = host[1:].partition("]")
        return address, rest.removeprefix(":")
    if host.count(":") == 1:
        name, _, port = host.partition(":")
        return name, port
    return host, ""


def _of_driver(connection: Connection) -> dict[str, Any]:
    """The connection parameters of psycopg or psycopg2, including the password; empty for other drivers."""
    driver: Any = connection.connection.driver_connection
    info: Any = getattr(driver, "info", None)
    if connection.dialect.driver in ("psycopg", "psycopg_async") and hasattr(info, "get_parameters"):
        asked = dict(info.get_parameters())
    elif connection.dialect.driver == "psycopg2" and hasattr(info, "dsn_parameters"):
        asked = {name: value for name, value in info.dsn_parameters.items() if value not in (None, "")}
    else:
        return {}
    for ours in ("application_name", "fallback_application_name", "client_encoding", "replication"):
        asked.pop(ours, None)  # our connections set these themselves
    if info.password:
        asked["password"] = info.password
    return asked
