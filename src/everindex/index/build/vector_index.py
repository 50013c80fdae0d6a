"""The Build step of a deploy: one vector index, with the memory, workers and disk that its footprint requires, then ANALYZE.

How a build waits, is watched, ends and cleans up after itself is the same for every index; see `online`.
"""

from __future__ import annotations

from psycopg import sql

from everindex.index.build.footprint import index_bytes
from everindex.index.build.memory import settings_for
from everindex.index.build.online import create_at_once, create_online, turn_serial
from everindex.index.build.operation import Operation
from everindex.index.build.preflight import SHARED_MEMORY_HEADROOM, require_disk, see_machine
from everindex.index.catalog.observed import Observed
from everindex.index.journal import record
from everindex.index.plan.ddl import create_statement
from everindex.index.plan.steps import Build
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import look
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.units import count_text, size_text


def build(operation: Operation, connection: Connection, step: Build, observed: Observed) -> None:
    """Runs the step; returns when the index exists, or when planning again may help. SHARE UPDATE EXCLUSIVE on the table.

    Raises BuildFailed, PermissionDenied, DiskSpaceShort or LockNotObtained (given up by policy); nothing is left behind, or
    the error says what.
    """
    if not step.is_online:
        statement = create_statement(step.spec, observed, concurrently=False)
        if create_at_once(operation, connection, step.spec, statement):
            return
    _build_online(operation, connection, step, observed)


def _build_online(operation: Operation, connection: Connection, step: Build, observed: Observed) -> None:
    spec = step.spec
    rows = count_rows(connection, spec)
    wanted = _settings(operation, connection, step, rows)
    record(connection, spec, "build started", rows=rows, settings=wanted)
    seconds = create_online(
        operation,
        connection,
        spec,
        create_statement(spec, observed),
        announcement=f"building index {spec.qualified_name} on {count_text(rows, 'row')}, online, with "
        f"{size_text(1024 * int(wanted['maintenance_work_mem'].removesuffix('kB')))} and "
        f"{count_text(int(wanted['max_parallel_maintenance_workers']), 'worker')}",
        rows_total=rows,
        settings=wanted,
    )
    if seconds is None:
        return
    operation.reporter.say(f"built index {spec.qualified_name} in {seconds:.1f} s")
    record(
        connection,
        spec,
        "built",
        rows=rows,
        seconds=round(seconds, 3),
        dimensions=step.dimensions,
        m=spec.m,
        ef_construction=spec.ef_construction,
        key_type=spec.key_type,
    )
    with translate_errors("analyzing the table"):
        if not _has_fresh_statistics(connection, spec, rows=rows, rows_before=step.estimated_rows):
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(spec.schema, spec.table)))


def _has_fresh_statistics(connection: Connection, spec: IndexSpec, *, rows: int, rows_before: int) -> bool:
    """True when the table was analyzed and the planner's row count before the build was within a tenth of `rows`.

    ANALYZE reads tens of thousands of vectors and, for a derived key, computes each of them: that wastes seconds if the
    planner knows the table already. Other kinds of stale statistics are left to the doctor.
    """
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_stats WHERE schemaname = %s AND tablename = %s)",
        (spec.schema, spec.table),
    ).fetchone()
    return row is not None and bool(row[0]) and 0.9 * rows <= rows_before <= 1.1 * rows


def _settings(operation: Operation, connection: Connection, step: Build, rows: int) -> dict[str, str]:
    """The session settings of the build, from the formula, the policy and what is known about the machine."""
    spec = step.spec
    machine = see_machine(connection)
    size = index_bytes(rows=rows, dimensions=step.dimensions, m=spec.m, key_type=spec.key_type)
    require_disk(spec, machine, needed_bytes=size)
    settings = settings_for(
        connection,
        look(connection),
        table_rows=rows,
        dimensions=step.dimensions,
        m=spec.m,
        key_type=spec.key_type,
        memory_share=spec.build.memory_share,
    )
    wanted = settings.as_settings()
    shared_needed = settings.maintenance_work_mem_bytes + SHARED_MEMORY_HEADROOM
    if settings.parallel_workers > 0 and not machine.shared_memory.holds(shared_needed, beside_bytes=size):
        turn_serial(operation, machine.shared_memory)
    if operation.is_serial:
        wanted["max_parallel_maintenance_workers"] = "0"
    if not settings.fits:
        operation.warn(
            f"the graph of {count_text(rows, 'row')} needs about {settings.needed_bytes >> 20} MB and gets "
            f"{settings.maintenance_work_mem_bytes >> 20} MB: the build slows down once that is full; "
            "raise effective_cache_size to what the machine has, or maintenance_work_mem"
        )
    return wanted


def count_rows(connection: Connection, spec: IndexSpec) -> int:
    """The number of rows that the index will hold. One pass over the heap; TOASTed vectors are not read."""
    counted = sql.SQL("*") if spec.column is None else sql.Identifier(spec.column)
    where = sql.SQL("") if spec.predicate is None else sql.SQL(" WHERE {}").format(sql.SQL(spec.predicate_text or ""))
    with translate_errors("counting rows"):
        row = connection.execute(
            sql.SQL("SELECT count({}) FROM {}").format(counted, sql.Identifier(spec.schema, spec.table)) + where,
            binary=True,  # allows a single statement only, whatever the predicate contains
        ).fetchone()
    assert row is not None
    return int(row[0])
