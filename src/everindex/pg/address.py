"""Where is the PostgreSQL server? Reads it from the settings as a libpq connection string, and names it without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from everindex.errors import SettingInvalid
from everindex.pg import embedded
from everindex.settings import Settings

#: `postgresql+psycopg2://` and its kin are SQLAlchemy's; libpq wants the bare scheme.
_DRIVER_SUFFIX = re.compile(r"^(postgres(?:ql)?)\+[a-z0-9_]+://", re.IGNORECASE)


def configured_conninfo(settings: Settings) -> str:
    """The connection string of the named server. Raises SettingInvalid when `DATABASE_URL` is none."""
    if settings.database_url is None:
        password = settings.db_password.get_secret_value() if settings.db_password else None
        return make_conninfo(
            "",
            host=settings.db_host,
            port=settings.db_port,
            dbname=settings.db_name,
            user=settings.db_user,
            password=password,
        )
    url = without_driver(settings.database_url.get_secret_value())
    try:
        conninfo_to_dict(url)
    except ProgrammingError:
        raise SettingInvalid(
            "DATABASE_URL is not a PostgreSQL address.",
            why="libpq cannot read it (its text is not shown here, since it may hold a password).",
            next_step="write it as postgresql://user:password@host:5432/database, with %-escapes for special characters.",
        ) from None
    return url


def without_driver(url: str) -> str:
    """An address as libpq reads it, of one that names SQLAlchemy's driver; every other is left alone."""
    return _DRIVER_SUFFIX.sub(r"\1://", url.strip())


def describe(conninfo: str) -> str:
    """The server as `database at host:port as user`: for messages and logs, without any secret."""
    parts = conninfo_to_dict(conninfo)
    where = str(parts.get("host") or parts.get("hostaddr") or "the local socket")
    if not where.startswith("/") and parts.get("port"):
        where = f"{where}:{parts['port']}"
    who = f" as {parts['user']}" if parts.get("user") else ""
    return f"database {parts.get('dbname') or parts.get('user') or 'of the default name'} at {where}{who}"


@contextmanager
def server(settings: Settings) -> Iterator[str]:
    """The connection string of the server to use; starts the embedded one for the time of the block when none is named."""
    if settings.uses_embedded_server:
        with embedded.running(settings.home) as conninfo:
            yield conninfo
    else:
        yield configured_conninfo(settings)
