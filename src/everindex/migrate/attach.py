"""Attachment to a database that another application migrates: its preconditions and its record.

Nothing of the application's is changed: everindex owns the schema `everindex_meta` and the indexes that it builds. Killed
anywhere, a second run finishes.
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
    """For a database that is everindex's own, on whichever server it lies."""
    return UsageError(
        f"nothing was attached: {why}.",
        why="attach is for the database of another application; ours is migrated, and `detach` would remove its indexes.",
        next_step="set DATABASE_URL to that application's database, then run  everindex attach  again.",
    )


def require_of_an_application(connection: Connection) -> None:
    """Raises UsageError where everindex's own migrations made all that is there, unless it is attached already. Reads only."""
    attachment = read_attachment(connection)
    if (attachment is None or not attachment.is_recorded) and is_everindex_alone(connection):
        raise nothing_to_attach(
            "everindex's own migrations made this database, and nothing of another application is in it"
        )


def require_attachable(connection: Connection, declared: Sequence[IndexSpec]) -> None:
    """Raises NotMigrated where a declared table or its column is missing: making it is the application's own business; and
    ExtensionUnavailable/NotPermitted/TooOld. Reads only."""
    found = look(connection)
    require_pgvector(found)
    for declaration in declared:
        spec = in_search_path(connection, declaration)
        observed = observe(connection, spec)
        if not observed.table_exists:
            raise NotMigrated(
                f"there is no table {spec.table} where the search_path of this role leads.",
                why="everindex attaches to a table that is there; it makes none on somebody else's database.",
                next_step="let the application's own migrations make it, or correct the database and the search_path "
                "(everindex migrate  makes tables of its own, in a database that is empty).",
            )
        if spec.column is not None and observed.column_type is None:
            width = current_settings().dimensions
            raise NotMigrated(
                f"table {spec.schema}.{spec.table} has no column {spec.column}.",
                why="everindex searches the vectors in it, and adds no column to a table of others.",
                next_step=f"add it in a revision of the application, or by hand:  ALTER TABLE {spec.schema}.{spec.table} "
                f"ADD COLUMN {spec.column} vector({width}) ; then run  everindex attach  again.",
            )


def record_attachment(conninfo: str, declared: Sequence[IndexSpec]) -> bool:
    """Records in everindex_meta that the database is attached, and which indexes were there before; once, in one transaction.

    False where it could not be recorded and EVERINDEX_ATTACHED says it instead. Raises PermissionDenied or ReadOnlyServer
    where nothing does.
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
            log.warning("attached by EVERINDEX_ATTACHED alone, nothing is recorded in everindex_meta: %s", exc.why)
            return False
        raise type(exc)(
            "that this database is attached cannot be recorded.",
            why=exc.why,
            next_step="set EVERINDEX_ATTACHED=true for every process of everindex, which needs no record; or let its owner "
            "make the schema:  CREATE SCHEMA everindex_meta AUTHORIZATION <role> ; and run this again.",
        ) from exc
    log.info("this database is attached: its alembic_version is neither read nor written from now on")
    return True


def told_as_left(spec: IndexSpec, exc: PermissionDenied | ReadOnlyServer) -> str:
    """What works on a database where the declared index may not be built by this role, and who can build it."""
    return (
        f"index {spec.qualified_name} is not built: {exc.why} Searches, pages, verify and doctor work, and read every row; "
        f"let the owner of table {spec.table} run  {create_text(spec)}"
    )


def no_chain_here(doing: str) -> DatabaseAttached:
    """For a command of the migrations on a database that is attached."""
    return DatabaseAttached(
        f"{doing} is not possible: this database is attached.",
        why="its application has its own migrations, and everindex neither reads nor writes alembic_version there.",
        next_step="run the application's own migrations for its schema;  everindex attach  looks after the indexes, and "
        "everindex detach  ends this.",
    )
