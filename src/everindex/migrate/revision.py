"""At which revision is a database? Read without Alembic: a probe asks every few seconds."""

from __future__ import annotations

from everindex.pg.connections import Connection


def current_revisions(connection: Connection) -> list[str]:
    """What the database's alembic_version says; empty where there is none, or it may not be read. Reads only."""
    row = connection.execute(
        "SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('alembic_version'), 'SELECT'), false)"
    ).fetchone()
    if row is None or not row[0]:
        return []
    return sorted(r[0] for r in connection.execute("SELECT version_num FROM alembic_version").fetchall())
