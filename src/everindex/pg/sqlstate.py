"""The translation of psycopg's errors into everindex's own, by SQLSTATE; the only module that reads driver errors."""

from __future__ import annotations

import re
from types import TracebackType

import psycopg

from everindex.errors import (
    CredentialsRefused,
    DatabaseMissing,
    DiskSpaceShort,
    EverindexError,
    LockNotObtained,
    PermissionDenied,
    ReadOnlyServer,
    ServerHostUnknown,
    ServerUnreachable,
    SettingInvalid,
    StatementFailed,
    StatementTimedOut,
)

#: While a connection is opened, libpq does not expose the SQLSTATE, so only its text is available. An unknown text (from a
#: server with another language) counts as "not reachable yet": everindex waits and then shows it.
_REFUSED = (
    "password authentication failed",
    "no password supplied",
    "pg_hba.conf",
    "authentication failed",
    "is not permitted to log in",
    'role "',
    "ident authentication",
    "peer authentication",
)
_NO_HOST = ("could not translate host name", "failed to resolve host", "name or service not known")


def connect_error(exc: psycopg.Error, *, where: str) -> EverindexError:
    """The reason why no connection to `where` could be made; ServerUnreachable is the one that waiting may cure."""
    text = _first_line(exc)
    lower = text.lower()
    if any(mark in lower for mark in _NO_HOST):
        return ServerHostUnknown(
            f"the host name of {where} cannot be resolved.",
            why=text,
            next_step="correct the host in DATABASE_URL or DB_HOST; `getent hosts NAME` shows what this machine resolves.",
        )
    if "unsupported startup parameter" in lower:
        return SettingInvalid(
            f"the pooler of {where} rejects a parameter in the address.",
            why=text,
            next_step="remove that parameter from the address, and set it for the role instead:  ALTER ROLE … SET …; "
            "PgBouncer's ignore_startup_parameters would make it ignore the parameter.",
        )
    if "database" in lower and ("does not exist" in lower or "no such database" in lower):
        return DatabaseMissing(
            f"cannot use {where}: the server has no such database.",
            why=text,
            next_step="create it (`createdb NAME`), or correct DATABASE_URL or DB_NAME.",
        )
    if any(mark in lower for mark in _REFUSED):
        return CredentialsRefused(
            f"cannot log in to {where}.",
            why=text,
            next_step="check user and password in DATABASE_URL or in DB_USER and DB_PASSWORD (.env), then pg_hba.conf.",
        )
    return ServerUnreachable(
        f"cannot reach {where}.",
        why=text,
        next_step="start the server or correct its address; `--wait SECONDS` waits longer for one that is still starting.",
    )


def statement_error(exc: psycopg.Error, *, doing: str) -> EverindexError:
    """What went wrong while `doing` ("writing articles"), from the SQLSTATE of a failed statement."""
    state = exc.sqlstate or ""
    text = exc.diag.message_primary or _first_line(exc)
    detail = f"{text} (SQLSTATE {state})." if state else text
    match state:
        case "42501":
            return PermissionDenied(
                f"{doing} is not permitted for this role.",
                why=detail,
                next_step=_grant(text)
                or "grant the role that privilege, or connect with the role that owns the tables.",
            )
        case "3F000":  # "no schema has been selected to create in": none of the search_path may be used
            return PermissionDenied(
                f"{doing} found no schema that this role may use.",
                why=detail,
                next_step="GRANT USAGE, CREATE ON SCHEMA public TO the role, or set its search_path to a schema that it owns.",
            )
        case "25006":
            return ReadOnlyServer(
                f"{doing} is not possible on this server.",
                why=detail,
                next_step="connect to the primary: this one is a standby, or its transactions are read-only.",
            )
        case "57014":
            return StatementTimedOut(
                f"{doing} was cancelled.",
                why=detail,
                next_step="request less, or raise EVERINDEX_STATEMENT_TIMEOUT_MS.",
            )
        case "53100":
            return DiskSpaceShort(
                f"{doing} failed: the disk of the server is full.",
                why=detail,
                next_step="free some space there, then run the same command again: data stored before is kept.",
            )
        case "55P03" | "40P01":
            return LockNotObtained(
                f"{doing} could not continue.",
                why=detail,
                next_step="find the holder of the lock in pg_stat_activity and pg_locks, then run the same command again.",
            )
        case _ if isinstance(exc, psycopg.OperationalError) and (not state or state[:2] in ("08", "57")):
            return ServerUnreachable(
                f"the connection was lost while {doing}.",
                why=detail,
                next_step="check that the server runs, then run the same command again: it continues where it stopped.",
            )
        case _:
            return StatementFailed(
                f"{doing} failed.",
                why=detail,
                next_step="the server's log has the whole statement; nothing of the failed transaction was kept.",
            )


def _grant(text: str) -> str | None:
    """The GRANT for the privilege that a statement of ours lacked on a schema or a database; None for other errors."""
    found = re.match(r"permission denied for (schema|database) (.+)$", text)
    if found is None:
        return None
    kind, name = found.groups()
    privilege = "USAGE, CREATE" if kind == "schema" else "CREATE"
    quoted = '"' + name.replace('"', '""') + '"'
    return f"as the owner of the {kind} or a superuser:  GRANT {privilege} ON {kind.upper()} {quoted} TO the role that connects."


def sqlstate_of(exc: BaseException) -> str:
    """The SQLSTATE of a driver's error, or of the one that an error of ours was made from; empty for none."""
    source = exc if isinstance(exc, psycopg.Error) else exc.__cause__
    return (source.sqlstate or "") if isinstance(source, psycopg.Error) else ""


class translate_errors:  # noqa: N801 - a context manager in lower case, like contextlib.suppress
    """Translate a psycopg error raised inside the block into the EverindexError that explains it."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, psycopg.Error):
            raise statement_error(error, doing=self._doing) from error


def _first_line(exc: psycopg.Error) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    first = lines[0] if lines else type(exc).__name__
    return first if first.endswith((".", "?", "!")) else f"{first}."
