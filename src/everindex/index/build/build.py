"""Builds one index, and removes what a failed build left. The only code that runs CREATE INDEX."""

from __future__ import annotations

import logging
import time

import psycopg
from psycopg import sql

from everindex.errors import BuildFailed, EverindexError, LockNotObtained, PermissionDenied
from everindex.index.build.footprint import index_bytes
from everindex.index.build.memory import settings_for
from everindex.index.build.operation import SHORT_LOCK_TIMEOUT, Work, set_session, stopped
from everindex.index.build.preflight import SHARED_MEMORY_HEADROOM, require_disk, see_machine, warnings_before
from everindex.index.build.shared_memory import SharedMemory, see_shared_memory
from everindex.index.build.watchdog import PolicyWatchdog
from everindex.index.busy import at_work_on
from everindex.index.catalog.drift import declared_index
from everindex.index.catalog.observe import Observed, observe
from everindex.index.journal import record
from everindex.index.plan.ddl import create_statement, drop_statement
from everindex.index.plan.steps import Build
from everindex.index.privileges import what_would_permit_a_build
from everindex.index.progress import Watch
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import look
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.pooler import route_of
from everindex.pg.sqlstate import statement_error, told_as_ours
from everindex.units import size_text

log = logging.getLogger(__name__)

#: PostgreSQL, dsm_impl.c: "could not resize shared memory segment" (posix, mmap) or "could not get" one (sysv). Nothing is
#: free there (53100, 53200), or a limit of the kernel is smaller than a parallel build asks for (XX000).
NO_SHARED_MEMORY = ("53100", "53200", "XX000")
#: PostgreSQL: "relation already exists": somebody made it between our look and our statement.
ALREADY_EXISTS = "42P07"
CANCELLED = "57014"
#: A session that was ended gives its locks back a moment after its client has learned of it.
LAST_LOCKS_SECONDS = 5.0
#: Cleaning up is done in passing: what a long transaction holds up is left to the next deploy.
CLEAN_UP_LOCK_TIMEOUT = "3s"


def build(work: Work, connection: Connection, step: Build, observed: Observed) -> None:
    """Runs the step; returns when the index is there, or when a new plan may help. SHARE UPDATE EXCLUSIVE on the table.

    Raises BuildFailed, PermissionDenied, DiskSpaceShort, LockNotObtained (given up by policy), with nothing left behind
    or the sentence that something is.
    """
    if not step.is_online and _build_at_once(work, connection, step, observed):
        return
    _build_online(work, connection, step, observed)


def _build_at_once(work: Work, connection: Connection, step: Build, observed: Observed) -> bool:
    """The plain CREATE INDEX on a table that is still empty; False when it is not, or is in use."""
    table = sql.Identifier(step.spec.schema, step.spec.table)
    started = time.monotonic()
    try:
        with connection.transaction():
            connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (SHORT_LOCK_TIMEOUT,))
            connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table))
            row = connection.execute(
                "SELECT pg_catalog.pg_relation_size(pg_catalog.to_regclass(%s))", (table.as_string(None),)
            ).fetchone()
            if row is None or row[0]:
                return False
            connection.execute(create_statement(step.spec, observed, concurrently=False))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return False
    except psycopg.Error as exc:
        if exc.sqlstate == ALREADY_EXISTS:
            return True
        _raise_failed(work, step.spec, exc, "Nothing was left behind.")
    work.build_seconds = (work.build_seconds or 0.0) + time.monotonic() - started
    work.reporter.say(f"built index {step.spec.qualified_name} at once: its table is empty")
    return True


def _build_online(work: Work, connection: Connection, step: Build, observed: Observed) -> None:
    spec = step.spec
    rows = count_rows(connection, spec)
    wanted = _settings(work, connection, step, rows)
    for warning in warnings_before(connection, spec):
        work.reporter.say(warning)
    set_session(connection, wanted)
    work.reporter.say(
        f"building index {spec.qualified_name} over {rows} rows, online, with "
        f"{size_text(1024 * int(wanted['maintenance_work_mem'].removesuffix('kB')))} and "
        f"{wanted['max_parallel_maintenance_workers']} workers"
    )
    record(connection, spec, "build started", rows=rows, settings=wanted)
    started = time.monotonic()
    pid = route_of(connection).server_pid
    watch = Watch(
        work.conninfo,
        connection,
        rows_total=rows,
        on_progress=work.reporter.progress,
        watchdog=PolicyWatchdog(spec.build, spec=spec),
    )
    try:
        with watch:
            connection.execute(create_statement(spec, observed), binary=True)
    except BaseException as exc:
        _after_failure(work, spec, exc, pid, gave_up=watch.gave_up)
        return
    seconds = time.monotonic() - started
    work.build_seconds = (work.build_seconds or 0.0) + seconds
    # A build has its policy; what comes after it, such as the swap, may wait for others as long as what came before.
    work.deadline += seconds
    work.reporter.say(f"built index {spec.qualified_name} in {seconds:.1f} s")
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
    with told_as_ours("analyzing the table"):
        if not _has_fresh_statistics(connection, spec, rows=rows, rows_before=step.estimated_rows):
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(spec.schema, spec.table)))


def _has_fresh_statistics(connection: Connection, spec: IndexSpec, *, rows: int, rows_before: int) -> bool:
    """True when the table was analyzed and the planner knew its `rows` before the build (which counts them), within a tenth.

    ANALYZE reads tens of thousands of vectors and, for a derived key, computes each anew: seconds that nobody wins where
    the planner knows the table already. Whether statistics went stale otherwise is the doctor's question.
    """
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_stats WHERE schemaname = %s AND tablename = %s)",
        (spec.schema, spec.table),
    ).fetchone()
    return row is not None and bool(row[0]) and 0.9 * rows <= rows_before <= 1.1 * rows


def _settings(work: Work, connection: Connection, step: Build, rows: int) -> dict[str, str]:
    """The session settings of the build, from the formula, the policy and what can be seen of the machine."""
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
        _turn_serial(work, machine.shared_memory)
    if work.is_serial:
        wanted["max_parallel_maintenance_workers"] = "0"
    if not settings.fits:
        work.warn(
            f"the graph of {rows} rows needs about {size_text(settings.needed_bytes)} and gets "
            f"{size_text(settings.maintenance_work_mem_bytes)}: the build slows down once that is full; "
            "raise effective_cache_size to what the machine has, or maintenance_work_mem"
        )
    return wanted


def _turn_serial(work: Work, shared: SharedMemory) -> None:
    work.is_serial = True
    work.warn(shared.shortage())


def _after_failure(work: Work, spec: IndexSpec, exc: BaseException, pid: int, *, gave_up: str | None) -> None:
    """Removes what the failed build of backend `pid` left; returns when a new plan may help, else raises."""
    if isinstance(exc, psycopg.Error) and exc.sqlstate == ALREADY_EXISTS:
        work.reporter.say(f"index {spec.qualified_name} was made by somebody else meanwhile")
        return
    left = clean_up(work, spec, pid)
    if not isinstance(exc, psycopg.Error):
        work.reporter.say(f"the build of {spec.qualified_name} was interrupted. {left}")
        raise exc
    if work.is_stopped:
        raise stopped(spec, left) from exc
    if gave_up is not None:
        raise LockNotObtained(
            f"the build of index {spec.qualified_name} was given up.",
            why=f"{gave_up}.",
            next_step=f"{left} Wait for that to end or end it, then run the same command again; "
            "the build's policy says how long it may wait.",
        ) from exc
    if exc.sqlstate in NO_SHARED_MEMORY and "shared memory segment" in str(exc) and not work.is_serial:
        with connect(work.conninfo, application_name="everindex clean-up") as connection:
            _turn_serial(work, see_shared_memory(connection, pid=None))
        work.reporter.say(work.warnings[-1])
        return
    _raise_failed(work, spec, exc, left)


def _raise_failed(work: Work, spec: IndexSpec, exc: psycopg.Error, left: str) -> None:
    what = f"could not build index {spec.qualified_name}."
    cause = statement_error(exc, doing=f"building index {spec.qualified_name}")
    if isinstance(cause, PermissionDenied):
        with connect(work.conninfo, application_name="everindex clean-up") as connection:
            remedy = what_would_permit_a_build(connection, spec) or cause.next_step
        raise PermissionDenied(what, why=cause.why, next_step=f"{left} Then: {remedy}") from exc
    if exc.sqlstate == CANCELLED:
        next_step = f"{left} Then: run the same command again; somebody cancelled it (pg_cancel_backend)."
    else:
        next_step = f"{left} Then: {cause.next_step}"
    raise BuildFailed(what, why=cause.why, next_step=next_step) from exc


def clean_up(work: Work, spec: IndexSpec, pid: int) -> str:
    """Drops the INVALID index that backend `pid` left and says what became of it; never one that somebody else builds."""
    try:
        with connect(work.conninfo, application_name="everindex clean-up", wait_seconds=5) as connection:
            lift_time_limits(connection)
            deadline = time.monotonic() + LAST_LOCKS_SECONDS
            found = declared_index(spec, observe(connection, spec))
            while found is not None and found.builder_pid == pid and time.monotonic() < deadline:
                time.sleep(0.1)
                found = declared_index(spec, observe(connection, spec))
            if found is None:
                return "Nothing was left behind."
            if found.is_valid:
                return "The index is there and valid."
            if found.builder_pid is not None and found.builder_pid != pid:
                return f"The index is being built by pid {found.builder_pid}, and was left alone."
            if at_work_on(connection, spec.schema, spec.table) is None:
                drop_online(work, connection, spec.schema, spec.name, lock_timeout=CLEAN_UP_LOCK_TIMEOUT)
                return "The unfinished index was removed."
    except (psycopg.Error, EverindexError, KeyboardInterrupt) as exc:
        log.debug("clean-up failed: %s", type(exc).__name__)
    return f"An unfinished, INVALID index {spec.qualified_name} may be left; the next deploy removes it."


def drop_online(work: Work, connection: Connection, schema: str, name: str, *, lock_timeout: str = "0") -> None:
    """DROP INDEX CONCURRENTLY; waits for whoever has a lock on the table, and reports whom. One that is gone is fine."""
    set_session(connection, {"lock_timeout": lock_timeout})
    run_watched(work, connection, f"dropping index {schema}.{name}", drop_statement(schema, name, if_exists=True))


def run_watched(work: Work, connection: Connection, doing: str, statement: sql.Composed) -> None:
    """A statement that waits for other transactions: whom is reported, and the build's policy says for how long."""
    spec = work.spec
    watch = Watch(
        work.conninfo,
        connection,
        rows_total=0,
        on_progress=work.reporter.progress,
        watchdog=PolicyWatchdog(spec.build, spec=spec) if spec.build.has_limits else None,
    )
    try:
        with watch:
            connection.execute(statement)
    except psycopg.Error as exc:
        if watch.gave_up is None:
            raise statement_error(exc, doing=doing) from exc
        raise LockNotObtained(
            f"{doing} was given up.",
            why=f"{watch.gave_up}.",
            next_step="wait for that to end or end it, then run the same command again: it goes on from what is there.",
        ) from exc


def count_rows(connection: Connection, spec: IndexSpec) -> int:
    """Rows that the index will hold. One pass over the heap; vectors are TOASTed and not read."""
    counted = sql.SQL("*") if spec.column is None else sql.Identifier(spec.column)
    where = sql.SQL("") if spec.predicate is None else sql.SQL(" WHERE {}").format(sql.SQL(spec.predicate_text or ""))
    with told_as_ours("counting rows"):
        row = connection.execute(
            sql.SQL("SELECT count({}) FROM {}").format(counted, sql.Identifier(spec.schema, spec.table)) + where,
            binary=True,  # one statement and no more, whatever the predicate says
        ).fetchone()
    assert row is not None
    return int(row[0])
