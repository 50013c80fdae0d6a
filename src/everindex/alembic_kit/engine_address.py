"""The libpq address of an SQLAlchemy connection's server, whatever driver the application uses.

The index engine works on connections of its own (psycopg). It takes what the application's driver connected with where
that driver is libpq's (psycopg, psycopg2: a password may have come from a hook, a service file or the environment), and
the URL of the engine where it is not (asyncpg, pg8000). No message here has an address or a password in it.
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

#: Query options that are of asyncpg, pg8000 or SQLAlchemy and that libpq calls otherwise, or has no use for.
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
#: What asyncpg and pg8000 say for sslmode beside libpq's own words.
_SSL_WORDS = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable", "off": "disable"}


def address_of(context: MigrationContext) -> str:
    """The address for the engine's own connections: what env.py passed, else that of Alembic's connection."""
    given = context.opts.get("everindex_conninfo")
    assert context.bind is not None
    return str(given) if given is not None else _as_role_of(context.bind, conninfo_of(context.bind))


def conninfo_of(connection: Connection) -> str:
    """The libpq connection string of the server that this connection is to. Raises SettingInvalid."""
    asked = _of_driver(connection)
    return make_conninfo("", **asked) if asked else conninfo_of_url(connection.engine.url)


def _as_role_of(connection: Connection, conninfo: str) -> str:
    """The address, with the role that the connection has taken (SET ROLE) where that is not the one that logged in."""
    row = connection.execute(text("SELECT current_user::text, session_user::text")).one()
    if row[0] == row[1]:
        return conninfo
    known = conninfo_to_dict(conninfo).get("options")
    # In options a backslash escapes spaces and itself (PostgreSQL, pg_split_opts).
    role = re.sub(r"([\\\s])", r"\\\1", row[0])
    return make_conninfo(conninfo, options=f"{known} -c role={role}" if known else f"-c role={role}")


def conninfo_of_url(url: URL) -> str:
    """A SQLAlchemy URL as libpq reads it: without the driver, with hosts, options and password as they were meant.

    Raises SettingInvalid for a URL of another database, or one that libpq cannot read; never shows it.
    """
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise SettingInvalid(
            f"the engine's address is one of {url.get_backend_name()}, not of PostgreSQL.",
            why="vector indexes of this kind are pgvector's.",
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
    if "@" in f"{url.host}{url.database}":  # SQLAlchemy took the first of several @ for the one before the host
        raise _not_usable()
    try:
        conninfo = make_conninfo("", **{name: value for name, value in given.items() if value not in (None, "")})
    except ProgrammingError:
        known = {option.keyword.decode() for option in Conninfo.get_defaults()}
        # Only what looks like an option: behind an unescaped ? it may be a part of a password.
        unknown = [name for name in sorted(set(given) - known) if re.fullmatch(r"[a-z_]{3,}", name)]
        raise SettingInvalid(
            "the engine's address cannot be used for an index build.",
            why="libpq cannot read it (it is not shown here, since it may hold a password): "
            f"of its options libpq does not know {', '.join(unknown) or 'the values'}.",
            next_step="pass the address in env.py:  context.configure(…, everindex_conninfo='postgresql://…').",
        ) from None
    if why_unusable(conninfo) is not None:
        raise _not_usable()
    return conninfo


def _not_usable() -> SettingInvalid:
    return SettingInvalid(
        "the engine's address does not name a server.",
        why="SQLAlchemy took it apart in another way than it was meant (its text is not shown here, since it may hold a "
        "password): an @, : or / in the password is not escaped.",
        next_step="make it with  sqlalchemy.URL.create(…) , which escapes by itself, or write %40, %3A and %2F.",
    )


def _hosts(url: URL) -> tuple[list[str], list[str]]:
    """Hosts and ports: of the URL itself, of `?host=a:1&host=b:2`, of `?host=a,b&port=1,2`, or a socket's directory."""
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
    """What psycopg or psycopg2 connected with, password included; empty for other drivers."""
    driver: Any = connection.connection.driver_connection
    info: Any = getattr(driver, "info", None)
    if connection.dialect.driver in ("psycopg", "psycopg_async") and hasattr(info, "get_parameters"):
        asked = dict(info.get_parameters())
    elif connection.dialect.driver == "psycopg2" and hasattr(info, "dsn_parameters"):
        asked = {name: value for name, value in info.dsn_parameters.items() if value not in (None, "")}
    else:
        return {}
    for ours in ("application_name", "fallback_application_name", "client_encoding", "replication"):
        asked.pop(ours, None)  # those of our connections are everindex's own
    if info.password:
        asked["password"] = info.password
    return asked
