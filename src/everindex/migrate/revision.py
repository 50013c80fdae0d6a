"""At which revision is a database? Read without Alembic: a probe asks every few seconds."""

from __future__ import annotations

from everindex.pg.connections import Connection


def current_revisions(connection: Connection) -> list[str]:
    """What the database's alembic_version says; empty where there is none. Reads only."""
    row = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return []
    return sorted(r[0] for r in connection.execute("SELECT version_num FROM alembic_version").fetchall())
