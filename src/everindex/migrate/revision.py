"""The current revision of a database, read without loading Alembic, cheaply enough for a probe every few seconds."""

from __future__ import annotations

from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


def current_revisions(connection: Connection) -> list[str]:
    """The content of the database's alembic_version; empty if there is none, or it may not be read. Reads only."""
    with translate_errors("reading the revision"):
        row = connection.execute(
            "SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('alembic_version'), 'SELECT'), false)"
        ).fetchone()
        if row is None or not row[0]:
            return []
        return sorted(r[0] for r in connection.execute("SELECT version_num FROM alembic_version").fetchall())


def grant_to_read(connection: Connection) -> str | None:
    """The GRANT that lets this role read alembic_version; None if it may already, or there is no such table. Reads only."""
    with translate_errors("reading the privileges on alembic_version"):
        row = connection.execute(
            """
            SELECT pg_catalog.format('GRANT SELECT ON %I.%I TO %I', n.nspname, c.relname, current_user)
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.oid = pg_catalog.to_regclass('alembic_version')
              AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
            """
        ).fetchone()
    return None if row is None else str(row[0])
