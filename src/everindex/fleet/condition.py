"""The condition of a target before anything is done to it: one of a few clear states, and the real server behind its address.

Two addresses may lead to one server, so a server is known by the identifier that `initdb` gave it. Reads only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import psycopg

from everindex.errors import (
    CredentialsRefused,
    DatabaseMissing,
    EverindexError,
    ExtensionNotPermitted,
    ExtensionTooOld,
    ExtensionUnavailable,
    ServerUnreachable,
)
from everindex.fleet.targets import Target, search_path
from everindex.migrate.standing import Standing, read_standing
from everindex.pg.capabilities import Capabilities, look, require_pgvector, require_postgres, version_text
from everindex.pg.connections import Connection, connect
from everindex.pg.locks import holder_of
from everindex.pg.sqlstate import statement_error, translate_errors

Kind = Literal[
    "unusable", "unreachable", "refused", "database-missing", "server-too-old", "read-only", "extension-missing",
    "extension-forbidden", "extension-too-old", "schema-missing", "other-schema", "attached", "unknown-revision",
    "unreadable-revision", "not-migrated", "behind", "head", "application", "busy", "duplicate",
]  # fmt: skip

#: In these, nothing can be read of the target, or nothing of everindex is there to read.
CLOSED: frozenset[Kind] = frozenset(
    {"unusable", "unreachable", "refused", "database-missing", "server-too-old", "schema-missing", "duplicate"}
)
#: In these, moreover, nothing can be changed.
UNCHANGEABLE: frozenset[Kind] = CLOSED | {
    "read-only", "extension-missing", "extension-forbidden", "extension-too-old", "other-schema",
}  # fmt: skip
#: In these, moreover, everindex's migrations cannot be run.
UNMIGRATABLE: frozenset[Kind] = UNCHANGEABLE | {"unknown-revision", "unreadable-revision"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a target was found to be."""

    kind: Kind
    sentence: str
    next_step: str | None = None
    slug: str | None = None
    """Of the error that says so, if there is one."""

    conninfo: str = field(default="", repr=False)
    """The address whose sessions find the target's schema."""

    server: str | None = None
    """The identity of the real server; None if it could not be asked."""

    started: str | None = None
    """The moment of the server's start, which every role may read: targets that share it share the server."""

    database_oid: int | None = None
    schema: str | None = None
    is_standby: bool = False
    versions: str | None = None

    @property
    def identity(self) -> tuple[str, int, str | None] | None:
        """What makes it the same target as another, whatever their names and addresses."""
        return (
            None if self.server is None or self.database_oid is None else (self.server, self.database_oid, self.schema)
        )


def inspect(target: Target, *, wait_seconds: float, is_ours: bool) -> Condition:
    """Connects once and reads the condition; `is_ours` for the schema of articles, otherwise another application's tables.

    Raises nothing of the target's: every failure is a condition.
    """
    if target.problem is not None:
        return _failed("unusable", target.problem)
    try:
        with connect(target.conninfo, wait_seconds=wait_seconds, application_name="everindex fleet") as connection:
            found = look(connection)
            address = target.in_schema(found.extension_schema)
            if target.schema is not None:
                _use_schema(connection, target.schema, found.extension_schema)
            return _read(connection, target, found, address=address, is_ours=is_ours)
    except DatabaseMissing as exc:
        return _failed("database-missing", exc)
    except CredentialsRefused as exc:
        return _failed("refused", exc)
    except ServerUnreachable as exc:
        return _failed("unreachable", exc)
    except EverindexError as exc:
        return _failed("unusable", exc)


def _read(connection: Connection, target: Target, found: Capabilities, *, address: str, is_ours: bool) -> Condition:
    server, started = server_identity(connection)
    with translate_errors("inspecting a target"):
        row = connection.execute(
            "SELECT d.oid::bigint, current_schema(), current_setting('transaction_read_only') = 'on' "
            "FROM pg_catalog.pg_database d WHERE d.datname = current_database()"
        ).fetchone()
    assert row is not None
    kind, sentence, next_step, slug = _kind(connection, target, found, is_read_only=row[2], is_ours=is_ours)
    return Condition(
        kind=kind, sentence=sentence, next_step=next_step, slug=slug, conninfo=address, server=server, started=started,
        database_oid=row[0],
        schema=target.schema or row[1], is_standby=found.is_standby,
        versions=f"PostgreSQL {found.server_version}, pgvector {version_text(found.extension_version)}",
    )  # fmt: skip


def _kind(
    connection: Connection, target: Target, found: Capabilities, *, is_read_only: bool, is_ours: bool
) -> tuple[Kind, str, str | None, str | None]:
    try:
        require_postgres(found)
    except EverindexError as exc:
        return "server-too-old", exc.what, exc.next_step, exc.slug
    if target.schema is not None and not _has_schema(connection, target.schema):
        return (
            "schema-missing",
            f"schema {target.schema!r} does not exist in database {found.database}.",
            "create it and give it to the role, or correct the target's schema.",
            None,
        )
    if is_read_only:
        reason = "a standby" if found.is_standby else "read-only (default_transaction_read_only)"
        return (
            "read-only",
            f"the server is {reason}: it can be read and verified, not changed.",
            "name the primary.",
            None,
        )
    try:
        require_pgvector(found)
    except ExtensionUnavailable as exc:
        return "extension-missing", exc.what, exc.next_step, exc.slug
    except ExtensionNotPermitted as exc:
        return "extension-forbidden", exc.what, exc.next_step, exc.slug
    except ExtensionTooOld as exc:
        return "extension-too-old", exc.what, exc.next_step, exc.slug
    for lock in ("migrate", "build"):
        holder = holder_of(connection, lock)
        if holder is not None:
            return "busy", f"another process works on this database (lock {lock!r}): {holder}.", "wait for it.", None
    if not is_ours:
        return "application", f"an application's database, {version_of_extension(found)}.", None, None
    return _of_standing(connection, read_standing(connection), found)


def _of_standing(
    connection: Connection, standing: Standing, found: Capabilities
) -> tuple[Kind, str, str | None, str | None]:
    said, next_step = f"{standing.sentence}.", standing.next_step
    match standing.kind:
        case "attached" | "head" | "behind":
            return standing.kind, said, next_step, None
        case "unknown":
            return "unknown-revision", said, next_step, "revision-unknown"
        case "unreadable":
            return "unreadable-revision", said, next_step, "permission-denied"
        case "none":
            elsewhere = _articles_elsewhere(connection)
            if elsewhere is not None:
                return (
                    "other-schema",
                    f"the articles of database {found.database} are in schema {elsewhere!r}, which the search_path of this "
                    "role does not have.",
                    f"give the target  schema = {elsewhere} .",
                    None,
                )
            return (
                "not-migrated",
                f"database {found.database} has no revision, {version_of_extension(found)}.",
                next_step,
                None,
            )


def version_of_extension(found: Capabilities) -> str:
    """`with pgvector 0.8.6`, or that the role may create it."""
    if found.extension_version is None:
        return f"without pgvector, which this role may create ({version_text(found.available_version)})"
    return f"with pgvector {version_text(found.extension_version)}"


def server_identity(connection: Connection) -> tuple[str, str]:
    """The identity of the real server, and the moment of its start to the microsecond.

    The identity is the system identifier, which a server keeps behind every address and after restarts; where the role may not
    read it, the moment of the start.
    """
    with translate_errors("identifying the server"):
        row = connection.execute(
            "SELECT 'started-' || (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint"
        ).fetchone()
    assert row is not None
    started = str(row[0])
    try:
        row = connection.execute("SELECT system_identifier::text FROM pg_catalog.pg_control_system()").fetchone()
    except psycopg.Error as exc:
        if exc.sqlstate not in ("42501", "42883"):
            raise statement_error(exc, doing="identifying the server") from exc
        return started, started
    assert row is not None
    return str(row[0]), started


def _use_schema(connection: Connection, schema: str, extension_schema: str | None) -> None:
    path = search_path(schema, extension_schema)
    with translate_errors("selecting the schema of a target"):
        connection.execute("SELECT pg_catalog.set_config('search_path', %s, false)", (path,))


def _has_schema(connection: Connection, schema: str) -> bool:
    with translate_errors("looking for the schema of a target"):
        return connection.execute("SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,)).rowcount == 1


def _articles_elsewhere(connection: Connection) -> str | None:
    """A schema outside the search_path that has the articles of a migrated database; None if there is none."""
    with translate_errors("looking for the articles"):
        row = connection.execute(
            "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relname = 'articles' AND c.relkind IN ('r', 'p') AND to_regclass('articles') IS NULL "
            "AND current_schema() = 'public' "
            "AND EXISTS (SELECT FROM pg_catalog.pg_class v WHERE v.relnamespace = n.oid AND v.relname = 'alembic_version') "
            "ORDER BY 1 LIMIT 1"
        ).fetchone()
    return None if row is None else str(row[0])


def _failed(kind: Kind, exc: EverindexError) -> Condition:
    return Condition(kind=kind, sentence=f"{exc.what} {exc.why}", next_step=exc.next_step, slug=exc.slug)
