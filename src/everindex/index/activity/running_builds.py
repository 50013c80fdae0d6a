"""The builds of indexes that run now on this database's tables, whoever started them: progress, time left and what they wait for.

A phase that PostgreSQL does not count has no share; a time left is given only where one reading supports it, and is that of
the phase, not of the whole build. Reads only.
"""

from __future__ import annotations

from dataclasses import dataclass

from everindex.index.activity.blockers import blocker_of
from everindex.index.spec import NamedIndex
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: A share below this says too little about the rest: the first blocks are also the time to start the workers.
LEAST_SHARE = 0.02
#: The phase that takes nearly all the time of an HNSW build, and whose pace is steady while the graph fits into memory.
LOADING = "building index: loading tuples"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningBuild:
    """One build: CREATE INDEX or REINDEX."""

    pid: int
    schema: str
    table: str
    index: str | None
    """None before PostgreSQL has created it."""

    phase: str
    share_done: float | None
    """0 to 1, of the phase; None in a phase that does not count blocks."""

    running_seconds: float
    seconds_left: float | None
    """An estimate for the phase that loads rows; None where there is none yet."""

    application: str
    size_bytes: int | None
    """Of the index so far; 0 while its graph is in memory."""

    waits_for: tuple[str, ...] = ()
    """The sessions that it waits for, as sentences."""

    @property
    def percent(self) -> float | None:
        return None if self.share_done is None else 100 * self.share_done


def running_builds(connection: Connection, spec: NamedIndex | None = None) -> list[RunningBuild]:
    """The running builds on the table of `spec` and its partitions, or in the whole database; the longest first. Reads only.

    After SET ROLE, and without pg_read_all_stats, other roles' builds have no phase and are left out.
    """
    with translate_errors("reading the progress of builds"):
        rows = connection.execute(
            """
            SELECT p.pid, n.nspname, c.relname, i.relname, p.phase,
                   CASE WHEN p.blocks_total > 0 THEN p.blocks_done::float8 / p.blocks_total END,
                   coalesce(extract(epoch FROM clock_timestamp() - a.query_start), 0)::float8,
                   coalesce(a.application_name, ''), pg_catalog.pg_relation_size(i.oid), p.current_locker_pid
            FROM pg_catalog.pg_stat_progress_create_index p
            JOIN pg_catalog.pg_class c ON c.oid = p.relid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_catalog.pg_class i ON i.oid = p.index_relid
            LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = p.pid
            WHERE p.datname = current_database() AND p.phase IS NOT NULL
              AND (%(name)s::text IS NULL OR c.oid IN (
                   SELECT pg_catalog.to_regclass(%(name)s::text)::oid UNION ALL
                   SELECT t.relid::oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass(%(name)s::text)) t))
            ORDER BY 7 DESC, 1
            """,
            {"name": None if spec is None else quoted_name(connection, spec)},
        ).fetchall()
        return [
            RunningBuild(
                pid=row[0], schema=row[1], table=row[2], index=row[3], phase=row[4], share_done=row[5],
                running_seconds=row[6], seconds_left=_seconds_left(row[4], row[5], row[6]), application=row[7],
                size_bytes=row[8], waits_for=(blocker_of(connection, row[9]),) if row[9] else (),
            )
            for row in rows
        ]  # fmt: skip


def quoted_name(connection: Connection, spec: NamedIndex) -> str:
    """The table of `spec` as to_regclass reads it."""
    row = connection.execute(
        "SELECT pg_catalog.format('%%I.%%I', %s::text, %s::text)", (spec.schema, spec.table)
    ).fetchone()
    assert row is not None
    return str(row[0])


def _seconds_left(phase: str, share: float | None, running_seconds: float) -> float | None:
    if phase != LOADING or share is None or share < LEAST_SHARE:
        return None
    return running_seconds * (1 - share) / share
