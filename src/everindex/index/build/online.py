"""The online build and drop of one index of any kind: the only code that runs CREATE and DROP INDEX CONCURRENTLY.

Readers and writers continue. The statement is watched (its progress, and the transactions it waits for) and ends when its
policy says so or the operation is stopped. However it ends, an INVALID index that it leaves is dropped over another
connection, or named if that is not possible. A killed process or server leaves an INVALID index or none, which the next
operation finds in the catalog. A failed statement is never repeated here: the caller observes and plans again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import psycopg
from psycopg import sql

from everindex.errors import BuildFailed, EverindexError, LockNotObtained, PermissionDenied
from everindex.index.activity.progress import Watch
from everindex.index.activity.table_locks import conflicting_session
from everindex.index.build.operation import SHORT_LOCK_TIMEOUT, Operation, set_session, stopped
from everindex.index.build.preflight import warnings_before
from everindex.index.build.shared_memory import SharedMemory, see_shared_memory
from everindex.index.build.watchdog import PolicyWatchdog
from everindex.index.plan.ddl import drop_statement
from everindex.index.privileges import what_would_permit_a_build
from everindex.index.spec import OnlineIndex
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.index_catalog import find_index
from everindex.pg.pooler import route_of
from everindex.pg.sqlstate import statement_error

log = logging.getLogger(__name__)

#: PostgreSQL, dsm_impl.c: "could not resize shared memory segment" (posix, mmap) or "could not get" one (sysv). Either no
#: space is left there (53100, 53200), or a kernel limit is smaller than a parallel build needs (XX000).
NO_SHARED_MEMORY = ("53100", "53200", "XX000")
#: PostgreSQL: "relation already exists": another session created it between our observation and our statement.
ALREADY_EXISTS = "42P07"
CANCELLED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
#: A terminated session releases its locks a moment after its client is notified.
LAST_LOCKS_SECONDS = 5.0
#: A clean-up does not wait long: if a long transaction holds it up, it is left to the next operation.
CLEAN_UP_LOCK_TIMEOUT = "3s"


def create_online(
    operation: Operation,
    connection: Connection,
    index: OnlineIndex,
    statement: sql.Composed,
    *,
    announcement: str,
    rows_total: int = 0,
    settings: Mapping[str, str] | None = None,
) -> float | None:
    """Runs a CREATE INDEX CONCURRENTLY of `index` with session settings. Takes SHARE UPDATE EXCLUSIVE on the table.

    Returns the seconds that it took. Returns None when this call did not create the index and observing again may help:
    another session has created it meanwhile, or shared memory was too small for a parallel build (the operation is serial
    from then on). `announcement` is reported at the start; `rows_total` is for the progress. Raises BuildFailed,
    PermissionDenied, LockNotObtained (given up by policy) or DeployStopped; nothing is left behind, or the error says what.
    """
    for warning in warnings_before(connection, index):
        operation.reporter.say(warning)
    set_session(connection, settings or {})
    operation.reporter.say(announcement)
    started = time.monotonic()
    pid = route_of(connection).server_pid
    watch = Watch(
        operation.conninfo,
        connection,
        rows_total=rows_total,
        on_progress=operation.reporter.progress,
        watchdog=PolicyWatchdog(index.build, spec=index),
    )
    try:
        with watch:
            connection.execute(statement, binary=True)
    except BaseException as exc:
        _after_failure(operation, index, exc, pid, gave_up=watch.gave_up)
        return None
    seconds = time.monotonic() - started
    operation.build_seconds = (operation.build_seconds or 0.0) + seconds
    # The build has its own policy; steps after it, such as the swap, may wait for others as long as those before it.
    operation.deadline += seconds
    return seconds


def create_at_once(operation: Operation, connection: Connection, index: OnlineIndex, statement: sql.Composed) -> bool:
    """Runs the plain CREATE INDEX on a table that is still empty; False when it is not, or is in use.

    Takes SHARE on the table for a moment. Raises BuildFailed or PermissionDenied, with nothing left behind.
    """
    table = sql.Identifier(index.schema, index.table)
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
            connection.execute(statement)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return False
    except psycopg.Error as exc:
        if exc.sqlstate == ALREADY_EXISTS:
            return True
        _raise_failed(operation, index, exc, "Nothing was left behind.")
    operation.build_seconds = (operation.build_seconds or 0.0) + time.monotonic() - started
    operation.reporter.say(f"built index {index.qualified_name} without waiting: its table is empty")
    return True


def drop_online(
    operation: Operation, connection: Connection, schema: str, name: str, *, lock_timeout: str = "0"
) -> None:
    """DROP INDEX CONCURRENTLY; waits for every session with a lock on the table and reports it. A missing index is no error."""
    set_session(connection, {"lock_timeout": lock_timeout})
    run_watched(operation, connection, f"dropping index {schema}.{name}", drop_statement(schema, name, if_exists=True))


def run_watched(operation: Operation, connection: Connection, doing: str, statement: sql.Composed) -> None:
    """Runs a statement that waits for other transactions; they are reported, and the build's policy limits the wait."""
    spec = operation.spec
    watch = Watch(
        operation.conninfo,
        connection,
        rows_total=0,
        on_progress=operation.reporter.progress,
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
            next_step="wait for that to end or end it, then run the same command again: it continues from the current state.",
        ) from exc


def clean_up(operation: Operation, index: OnlineIndex, pid: int) -> str:
    """Drops the INVALID index that backend `pid` left and returns the outcome as a sentence. An index that another session is
    building is left alone."""
    try:
        with connect(operation.conninfo, application_name="everindex clean-up", wait_seconds=5) as connection:
            lift_time_limits(connection)
            deadline = time.monotonic() + LAST_LOCKS_SECONDS
            found = find_index(connection, index.schema, index.name, "builder_pid")
            while found is not None and found.builder_pid == pid and time.monotonic() < deadline:
                time.sleep(0.1)
                found = find_index(connection, index.schema, index.name, "builder_pid")
            if found is None:
                return "Nothing was left behind."
            if found.is_valid:
                return "The index exists and is valid."
            if found.builder_pid is not None and found.builder_pid != pid:
                return f"The index is being built by pid {found.builder_pid} and was left alone."
            if conflicting_session(connection, index.schema, index.table) is None:
                drop_online(operation, connection, index.schema, index.name, lock_timeout=CLEAN_UP_LOCK_TIMEOUT)
                return "The unfinished index was removed."
    except (psycopg.Error, EverindexError, KeyboardInterrupt) as exc:
        log.debug("clean-up failed: %s", type(exc).__name__, extra={"event": "clean-up-failed"})
    return f"An unfinished, INVALID index {index.qualified_name} may be left; the next deploy removes it."


def turn_serial(operation: Operation, shared: SharedMemory) -> None:
    """Makes the operation build without parallel workers from here on, and adds a warning."""
    operation.is_serial = True
    operation.warn(shared.shortage())


def _after_failure(
    operation: Operation, index: OnlineIndex, exc: BaseException, pid: int, *, gave_up: str | None
) -> None:
    """Removes what the failed build of backend `pid` left; returns if planning again may help, otherwise raises."""
    if isinstance(exc, psycopg.Error) and exc.sqlstate == ALREADY_EXISTS:
        operation.reporter.say(f"index {index.qualified_name} was created by another session meanwhile")
        return
    left = clean_up(operation, index, pid)
    if not isinstance(exc, psycopg.Error):
        operation.reporter.say(f"the build of {index.qualified_name} was interrupted. {left}")
        raise exc
    if operation.is_stopped:
        raise stopped(index, left) from exc
    if gave_up is not None or exc.sqlstate == LOCK_NOT_AVAILABLE:
        why = gave_up or exc.diag.message_primary or "it waited longer for another transaction than its lock_timeout"
        raise LockNotObtained(
            f"the build of index {index.qualified_name} was given up.",
            why=f"{why}.",
            next_step=f"{left} Wait for that to end or end it, then run the same command again; "
            "the build's policy says how long it may wait.",
        ) from exc
    if exc.sqlstate in NO_SHARED_MEMORY and "shared memory segment" in str(exc) and not operation.is_serial:
        with connect(operation.conninfo, application_name="everindex clean-up") as connection:
            turn_serial(operation, see_shared_memory(connection, pid=None))
        operation.reporter.say(operation.warnings[-1])
        return
    _raise_failed(operation, index, exc, left)


def _raise_failed(operation: Operation, index: OnlineIndex, exc: psycopg.Error, left: str) -> None:
    what = f"could not build index {index.qualified_name}."
    cause = statement_error(exc, doing=f"building index {index.qualified_name}")
    if isinstance(cause, PermissionDenied):
        with connect(operation.conninfo, application_name="everindex clean-up") as connection:
            remedy = what_would_permit_a_build(connection, index) or cause.next_step
        raise PermissionDenied(what, why=cause.why, next_step=f"{left} Then: {remedy}") from exc
    if exc.sqlstate == CANCELLED:
        next_step = f"{left} Then: run the same command again; the statement was cancelled (pg_cancel_backend)."
    else:
        next_step = f"{left} Then: {cause.next_step}"
    raise BuildFailed(what, why=cause.why, next_step=next_step) from exc
