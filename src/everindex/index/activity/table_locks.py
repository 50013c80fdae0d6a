"""Sessions whose table lock conflicts with an online build: other builds, drops, a manual VACUUM. Reads only."""

from __future__ import annotations

from everindex.pg.connections import HIDDEN_QUERY, Connection
from everindex.pg.sqlstate import translate_errors


def conflicting_session(connection: Connection, schema: str, table: str) -> str | None:
    """The session whose lock on the table conflicts with an online build, as `pid 4121 (psql: VACUUM articles)`; or None.

    Autovacuum does not count: PostgreSQL cancels it for a waiting session. It is recognised by having no user, which every
    role may see. Reads only.
    """
    with translate_errors("reading the locks"):
        row = connection.execute(
            """
            SELECT a.pid, a.application_name, left(regexp_replace(nullif(a.query, %s), '\\s+', ' ', 'g'), 60)
            FROM pg_catalog.pg_locks l
            JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
            JOIN pg_catalog.pg_class c ON c.oid = l.relation
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE l.locktype = 'relation' AND l.granted AND n.nspname = %s AND c.relname = %s
              AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
              AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                             'AccessExclusiveLock')
              AND l.pid <> pg_catalog.pg_backend_pid() AND a.usesysid IS NOT NULL AND a.leader_pid IS NULL
            ORDER BY a.backend_start LIMIT 1
            """,
            (HIDDEN_QUERY, schema, table),
        ).fetchone()
    if row is None:
        return None
    activity = ": ".join(part for part in (row[1], row[2]) if part)
    return f"pid {row[0]} ({activity})" if activity else f"pid {row[0]}"
