"""Attachment to a database that another application migrates: its preconditions and its record.

Nothing that belongs to the application is changed: everindex owns the schema `everindex_meta` and the indexes that it builds.
If it is killed at any point, a second run finishes the work.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from everindex.errors import DatabaseAttached, NotMigrated, PermissionDenied, ReadOnlyServer, UsageError
from everindex.index.catalog.adopted import record_found
from everindex.index.catalog.observe import in_search_path, observe
from everindex.index.plan.ddl import create_text
from everindex.index.spec import IndexSpec
from everindex.migrate.application_chain import is_everindex_alone
from everindex.pg import own_schema
from everindex.pg.attachment import read_attachment, write_attachment
from everindex.pg.capabilities import look, require_pgvector
from everindex.pg.connections import Connection, connect
from everindex.settings import current_settings

log = logging.getLogger(__name__)


def nothing_to_attach(why: str) -> UsageError:
    """The error for a database that is everindex's own, on any server."""
    return UsageError(
        f"nothing was attached: {why}.",
        why="attach is for the database of another application; everindex's own is migrated, and `detach` would remove its "
        "indexes.",
        next_step="set DATABASE_URL to that application's database, then run  everindex attach  again.",
    )


def require_of_an_application(connection: Connection) -> None:
    """Raises UsageError if everindex's own migrations created everything in the database, unless it is already attached. Reads
    only."""
    attachment = read_attachment(connection)
    if (attachment is None or not attachment.is_recorded) and is_everindex_alone(connection):
        raise nothing_to_attach(
            "everindex's own migrations created this database, and it contains nothing of another application"
        )


def require_attachable(connection: Connection, declared: Sequence[IndexSpec]) -> None:
    """Raises NotMigrated if a declared table or its column is missing, since only the application may create it; and
    ExtensionUnavailable/NotPermitted/TooOld. Reads only."""
    found = look(connection)
    require_pgvector(found)
    for declaration in declared:
        spec = in_search_path(connection, declaration)
        observed = observe(connection, spec)
        if not observed.table_exists:
            raise NotMigrated(
                f"there is no table {spec.table} in the search_path of this role.",
                why="everindex attaches to an existing table; it does not create tables in another application's database.",
                next_step="let the application's own migrations create it, or correct the database and the search_path "
                "(everindex migrate  creates its own tables, in an empty database).",
            )
        if spec.column is not None and observed.column_type is None:
            width = current_settings().dimensions
            raise NotMigrated(
                f"table {spec.schema}.{spec.table} has no column {spec.column}.",
                why="everindex searches the vectors in it, but does not add columns to another application's table.",
                next_step=f"add it in a revision of the application, or manually:  ALTER TABLE {spec.schema}.{spec.table} "
                f"ADD COLUMN {spec.column} vector({width}) ; then run  everindex attach  again.",
            )


def record_attachment(conninfo: str, declared: Sequence[IndexSpec]) -> bool:
    """Records in everindex_meta that the database is attached, and which indexes existed before; once, in one transaction.

    False if it could not be recorded, but EVERINDEX_ATTACHED is set. Raises PermissionDenied or ReadOnlyServer if that is not
    set either.
    """
    try:
        own_schema.ensure(conninfo)
        with connect(conninfo, application_name="everindex attach") as connection, connection.transaction():
            attachment = read_attachment(connection)
            if attachment is not None and attachment.is_recorded and not attachment.is_being_detached:
                return True
            if attachment is None or not attachment.is_recorded:
                record_found(connection, [in_search_path(connection, spec) for spec in declared])
            write_attachment(connection, "attached")
    except (PermissionDenied, ReadOnlyServer) as exc:
        if current_settings().attached:
            log.warning(
                "attached only by EVERINDEX_ATTACHED, nothing is recorded in everindex_meta: %s",
                exc.why,
                extra={"event": "attachment-not-recorded"},
            )
            return False
        raise type(exc)(
            "the attachment of this database cannot be recorded.",
            why=exc.why,
            next_step="set EVERINDEX_ATTACHED=true for every process of everindex, which needs no record; or let the owner of "
            "the database create the schema:  CREATE SCHEMA everindex_meta AUTHORIZATION <role> ; and run this again.",
        ) from exc
    log.info(
        "this database is attached: its alembic_version is neither read nor written from now on",
        extra={"event": "database-attached"},
    )
    return True


def told_as_left(spec: IndexSpec, exc: PermissionDenied | ReadOnlyServer) -> str:
    """What works on a database where this role may not build the declared index, and who can build it."""
    return (
        f"index {spec.qualified_name} is not built: {exc.why} Searches, pages, verify and doctor work, but read every row; "
        f"let the owner of table {spec.table} run  {create_text(spec)}"
    )


def no_chain_here(doing: str) -> DatabaseAttached:
    """The error for a command of the migrations on an attached database."""
    return DatabaseAttached(
        f"{doing} is not possible: this database is attached.",
        why="its application has its own migrations, and everindex neither reads nor writes alembic_version there.",
        next_step="run the application's own migrations for its schema;  everindex attach  takes care of the indexes, and "
        "everindex detach  ends the attachment.",
    )
