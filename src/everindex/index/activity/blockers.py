"""The blockers of an online build: the sessions with old snapshots, the writers on the table and the prepared transactions.

CREATE INDEX CONCURRENTLY waits for every transaction that may still write to its table without knowing the index, and
finally for every snapshot in the database that is older than the index. A session that is idle in a READ COMMITTED
transaction and has not used the table does not block it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everindex.index.spec import NamedIndex
from everindex.pg.connections import HIDDEN_QUERY, Connection
from everindex.pg.sqlstate import translate_errors
from everindex.units import duration_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A session, or a prepared transaction, that a build would wait for."""

    kind: Literal["snapshot", "writer", "prepared"]
    pid: int | None
    """None for a prepared transaction, which has no session."""

    seconds: float | None
    """How long its transaction has been open; None when this role may not see it."""

    application: str
    query: str
    """The beginning of its last statement; empty when this role may not see it."""

    @property
    def sentence(self) -> str:
        """Such as `pid 4121 has held a snapshot for 12 min: VACUUM articles (application "nightly")`."""
        what = {
            "snapshot": "has held a snapshot",
            "writer": "has had an open transaction that writes to the table",
            "prepared": "is a prepared transaction that was never finished",
        }[self.kind]
        who = f"pid {self.pid}" if self.pid is not None else self.application
        text = f"{who} {what}" + ("" if self.seconds is None else f" for {duration_text(self.seconds)}")
        if self.query:
            text += f": {self.query}"
        return text + (f' (application "{self.application}")' if self.application and self.pid is not None else "")


def find_blockers(connection: Connection, spec: NamedIndex) -> tuple[Blocker, ...]:
    """The blockers of a build on `spec`'s table if it began now, the longest first. Reads only."""
    with translate_errors("reading the activity of other sessions"):
        rows = connection.execute(
            """
            SELECT CASE WHEN w.pid IS NOT NULL THEN 'writer' ELSE 'snapshot' END, a.pid,
                   extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start))::float8,
                   coalesce(a.application_name, ''),
                   coalesce(left(regexp_replace(nullif(a.query, %(hidden)s), '\\s+', ' ', 'g'), 60), '')
            FROM pg_catalog.pg_stat_activity a
            LEFT JOIN (SELECT DISTINCT l.pid FROM pg_catalog.pg_locks l
                       JOIN pg_catalog.pg_class c ON c.oid = l.relation
                       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                       WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'RowExclusiveLock'
                         AND n.nspname = %(schema)s AND c.relname = %(table)s
                         AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                      ) w USING (pid)
            WHERE a.datname = current_database() AND a.pid <> pg_catalog.pg_backend_pid() AND a.usesysid IS NOT NULL
              AND a.application_name NOT LIKE 'everindex progress%%' AND a.leader_pid IS NULL
              AND (w.pid IS NOT NULL OR a.backend_xmin IS NOT NULL)
              -- A build does not wait for VACUUM's snapshot (PostgreSQL, WaitForOlderSnapshots, PROC_IN_VACUUM).
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid)
            UNION ALL
            SELECT 'prepared', NULL, extract(epoch FROM clock_timestamp() - p.prepared)::float8, 'transaction ' || p.gid, ''
            FROM pg_catalog.pg_prepared_xacts p WHERE p.database = current_database() AND p.gid = ANY(%(prepared)s)
            ORDER BY 3 DESC NULLS LAST
            """,
            {
                "schema": spec.schema,
                "table": spec.table,
                "prepared": _prepared_gids(connection, spec),
                "hidden": HIDDEN_QUERY,
            },
        ).fetchall()
    return tuple(Blocker(kind=row[0], pid=row[1], seconds=row[2], application=row[3], query=row[4]) for row in rows)


def prepared_on(connection: Connection, spec: NamedIndex) -> tuple[str, ...]:
    """The prepared transactions that have a lock on the table, as sentences that do not change over time. Reads only."""
    return tuple(
        f"transaction {gid} is a prepared transaction that was never finished: COMMIT PREPARED or ROLLBACK PREPARED ends it"
        for gid in _prepared_gids(connection, spec)
    )


def _prepared_gids(connection: Connection, spec: NamedIndex) -> list[str]:
    """The prepared transactions that a build waits for: those with a lock on the table, since they have no snapshot."""
    # The locks of a prepared transaction have no pid; they are identified by the virtual id of the lock on its transaction id.
    rows = connection.execute(
        """
        SELECT DISTINCT p.gid FROM pg_catalog.pg_prepared_xacts p
        JOIN pg_catalog.pg_locks t ON t.locktype = 'transactionid' AND t.transactionid = p.transaction AND t.granted
        JOIN pg_catalog.pg_locks l ON l.pid IS NULL AND l.virtualtransaction = t.virtualtransaction
        JOIN pg_catalog.pg_class c ON c.oid = l.relation
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE p.database = current_database() AND l.locktype = 'relation' AND n.nspname = %s AND c.relname = %s
          AND l.mode <> 'AccessShareLock' ORDER BY 1
        """,
        (spec.schema, spec.table),
    ).fetchall()
    return [row[0] for row in rows]


def vacuums_on(connection: Connection, spec: NamedIndex) -> tuple[str, ...]:
    """The VACUUMs of the table, as sentences: a build waits for each, except autovacuum, which is cancelled for it (unless it
    prevents a wraparound). Reads only."""
    rows = connection.execute(
        """
        SELECT v.pid, v.phase, a.query LIKE '%%to prevent wraparound%%', a.usesysid IS NULL
        FROM pg_catalog.pg_stat_progress_vacuum v
        JOIN pg_catalog.pg_class c ON c.oid = v.relid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
        WHERE v.datname = current_database() AND n.nspname = %s AND c.relname = %s
        """,
        (spec.schema, spec.table),
    ).fetchall()
    return tuple(
        f"pid {pid} vacuums the table ({phase}"
        + (
            ", to prevent a wraparound"
            if to_prevent
            else ", autovacuum: it is cancelled for the build"
            if is_auto
            else ""
        )
        + ")"
        for pid, phase, to_prevent, is_auto in rows
    )


def blocker_of(connection: Connection, pid: int) -> str:
    """Describes `pid`, in the same form, while a build waits for it. Reads only."""
    row = connection.execute(
        """
        SELECT extract(epoch FROM clock_timestamp() - coalesce(xact_start, query_start))::float8,
               coalesce(application_name, ''), coalesce(left(regexp_replace(nullif(query, %s), '\\s+', ' ', 'g'), 60), '')
        FROM pg_catalog.pg_stat_activity WHERE pid = %s
        """,
        (HIDDEN_QUERY, pid),
    ).fetchone()
    if row is None:
        return f"pid {pid}"
    blocker = Blocker(kind="snapshot", pid=pid, seconds=row[0], application=row[1], query=row[2])
    return blocker.sentence.replace("has held a snapshot", "has had a transaction open")
