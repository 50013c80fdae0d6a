"""Makes the index what it was declared to be: observe, plan, do the first step, observe again, until nothing is left.

The only code that changes an index. A failed statement is never repeated: after a failure the catalog is read anew, what
the failure left behind is removed, and a new plan is made (an exit status proves nothing: CREATE INDEX CONCURRENTLY
leaves an INVALID index behind, over which IF NOT EXISTS would succeed).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, assert_never

import psycopg
from psycopg import sql

from everindex.errors import BuildFailed, EverindexError, LockNotObtained, PermissionDenied
from everindex.index.busy import at_work_on
from everindex.index.catalog import observe
from everindex.index.drift import declared_index, duplicates
from everindex.index.memory import settings_for
from everindex.index.plan import Build, DropInvalid, Step, WaitForBuild, make_plan
from everindex.index.progress import Progress, watched
from everindex.index.spec import IndexSpec
from everindex.index.statements import create_statement, drop_statement
from everindex.pg.capabilities import look, require_pgvector
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.locks import advisory_lock
from everindex.pg.sqlstate import statement_error, told_as_ours

log = logging.getLogger(__name__)

#: More rounds than any chain of states needs; ends a fight with somebody who keeps undoing the work.
MAX_ROUNDS = 8
#: PostgreSQL: "could not resize shared memory segment": /dev/shm is smaller than a parallel build asks for.
NO_SHARED_MEMORY = "53100"
#: PostgreSQL: "relation already exists": somebody made it between our look and our statement.
ALREADY_EXISTS = "42P07"
CANCELLED = "57014"
POLL_SECONDS = 0.3
#: A session that was ended gives its locks back a moment after its client has learned of it.
LAST_LOCKS_SECONDS = 5.0
#: Cleaning up is done in passing: what a long transaction holds up is left to the next deploy.
CLEAN_UP_LOCK_TIMEOUT = "3s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """How the declared index came to be there."""

    outcome: Literal["already-there", "built", "rebuilt"]
    build_seconds: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Where a deploy tells what it does: sentences, PostgreSQL's own notices, and progress."""

    say: Callable[[str], None] = log.info
    notice: Callable[[str], None] = log.info
    progress: Callable[[Progress], None] | None = None


@dataclass(slots=True, kw_only=True)
class _Run:
    conninfo: str
    spec: IndexSpec
    reporter: Reporter
    serial: bool = False
    rebuilt: bool = False
    built_seconds: float | None = None
    warnings: list[str] = field(default_factory=list)


def deploy(
    conninfo: str, spec: IndexSpec, *, reporter: Reporter | None = None, wait_seconds: float = 3600.0
) -> Deployed:
    """Brings the index to its declaration, online; returns when it is there and valid.

    Locks: SHARE UPDATE EXCLUSIVE on the table while building or dropping, so readers and writers go on; one builder in a
    database by advisory lock. Raises IndexDefinitionDiffers, NotMigrated, ColumnMismatch, SpecIllegal, BuildFailed,
    PermissionDenied, LockNotObtained (another builder for longer than `wait_seconds`).
    """
    run = _Run(conninfo=conninfo, spec=spec, reporter=reporter or Reporter())
    with connect(conninfo, application_name="everindex build") as connection:
        require_pgvector(look(connection))
        # A lock_timeout, for one, also counts the waits for old snapshots and leaves an INVALID index behind.
        lift_time_limits(connection)
        connection.add_notice_handler(lambda diagnostic: _on_notice(run, diagnostic))
        if not make_plan(spec, observe(connection, spec)):
            return _finished(run, connection)
        with advisory_lock(
            conninfo,
            "build",
            wait_seconds=wait_seconds,
            on_wait=lambda holder: run.reporter.say(f"waiting for another build: {holder}"),
        ):
            deadline = time.monotonic() + wait_seconds
            for _ in range(MAX_ROUNDS):
                steps = make_plan(spec, observe(connection, spec))
                if not steps:
                    return _finished(run, connection)
                _wait_for_table(run, connection, steps[0], deadline)
                _take(run, connection, steps[0], deadline)
    raise BuildFailed(
        f"index {spec.qualified_name} did not reach its declared state in {MAX_ROUNDS} rounds.",
        why="something else keeps changing it: another tool or a script that drops or rebuilds the same index.",
        next_step="find it in pg_stat_activity, end it, then run the same command again.",
    )


def drop(conninfo: str, spec: IndexSpec, *, reporter: Reporter | None = None, wait_seconds: float = 3600.0) -> bool:
    """Drops the declared index online (DROP INDEX CONCURRENTLY, SHARE UPDATE EXCLUSIVE); False when there was none."""
    run = _Run(conninfo=conninfo, spec=spec, reporter=reporter or Reporter())
    tell = run.reporter
    with (
        connect(conninfo, application_name="everindex drop") as connection,
        advisory_lock(
            conninfo,
            "build",
            wait_seconds=wait_seconds,
            on_wait=lambda holder: tell.say(f"waiting for a build: {holder}"),
        ),
    ):
        lift_time_limits(connection)
        if declared_index(spec, observe(connection, spec)) is None:
            tell.say(f"index {spec.qualified_name} was not there")
            return False
        _wait_for_table(run, connection, None, time.monotonic() + wait_seconds)
        _drop(run, connection)
        tell.say(f"dropped index {spec.qualified_name}")
        return True


def acknowledge(conninfo: str, spec: IndexSpec, *, reporter: Reporter) -> None:
    """Lets PostgreSQL say its "already exists, skipping" for an index that is there, valid and as declared.

    Only after `deploy` returned "already-there": IF NOT EXISTS looks at the name alone.
    """
    with connect(conninfo, application_name="everindex build") as connection:
        connection.add_notice_handler(lambda diagnostic: reporter.notice(_notice_text(diagnostic)))
        # Shorter than deadlock_timeout: another build must never find itself waiting for this courtesy.
        _set_session(connection, {"lock_timeout": "500ms", "client_min_messages": "notice"})
        schema = look(connection).extension_schema
        try:
            connection.execute(create_statement(spec, extension_schema=schema, if_not_exists=True))
        except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as exc:
            why = "its table is locked" if exc.sqlstate == "55P03" else "and owned by another role"
            reporter.say(f"index {spec.qualified_name} is there and valid ({why})")


def _finished(run: _Run, connection: Connection) -> Deployed:
    for other in duplicates(run.spec, observe(connection, run.spec)):
        run.warnings.append(
            f"index {other.name} has the same definition under another name: writers pay for both, "
            f"drop it with  DROP INDEX CONCURRENTLY {other.name}"
        )
    if run.built_seconds is None:
        outcome: Literal["already-there", "built", "rebuilt"] = "already-there"
    else:
        outcome = "rebuilt" if run.rebuilt else "built"
    return Deployed(outcome=outcome, build_seconds=run.built_seconds or 0.0, warnings=tuple(run.warnings))


def _take(run: _Run, connection: Connection, step: Step, deadline: float) -> None:
    match step:
        case WaitForBuild(pid=pid):
            _wait_for_build(run, connection, pid, deadline)
        case DropInvalid(name=name):
            run.rebuilt = True
            run.reporter.say(f"index {run.spec.schema}.{name} is INVALID (left by an interrupted build): rebuilding it")
            _drop(run, connection)
        case Build():
            _build(run, connection, step)
        case _:
            assert_never(step)


def _wait_for_build(run: _Run, connection: Connection, pid: int, deadline: float) -> None:
    run.reporter.say(f"index {run.spec.qualified_name} is being built by pid {pid}: waiting for it")
    while time.monotonic() < deadline:
        found = declared_index(run.spec, observe(connection, run.spec))
        if found is None or found.is_valid or found.builder_pid is None:
            return
        time.sleep(POLL_SECONDS)
    raise LockNotObtained(
        f"index {run.spec.qualified_name} is still being built by pid {pid}.",
        why="it did not end in the time that this process may wait.",
        next_step="wait for it, then run the same command again; nothing was changed by this one.",
    )


def _wait_for_table(run: _Run, connection: Connection, step: Step | None, deadline: float) -> None:
    """Until nobody else builds, drops or vacuums on the table, asked again and again.

    Waiting inside CREATE INDEX would hold a snapshot, and the other build waits for every older snapshot: PostgreSQL
    then ends one of the two as a deadlock, and not always ours.
    """
    if isinstance(step, WaitForBuild):
        return
    told: str | None = None
    while (worker := at_work_on(connection, run.spec)) is not None:
        if worker != told:
            run.reporter.say(f"waiting for other work on table {run.spec.schema}.{run.spec.table}: {worker}")
            told = worker
        if time.monotonic() >= deadline:
            raise LockNotObtained(
                f"table {run.spec.schema}.{run.spec.table} is in use by another builder or maintenance command.",
                why=f"{worker} did not end in the time that this process may wait.",
                next_step="wait for it or end it, then run the same command again; nothing was changed by this one.",
            )
        time.sleep(POLL_SECONDS)


def _drop(run: _Run, connection: Connection, *, lock_timeout: str = "0") -> None:
    """Drops the index of the declared name; waits for whoever has a lock on its table, and reports whom."""
    with (
        told_as_ours(f"dropping index {run.spec.qualified_name}"),
        watched(run.conninfo, pid=connection.info.backend_pid, rows_total=0, on_progress=run.reporter.progress),
    ):
        _set_session(connection, {"lock_timeout": lock_timeout})
        connection.execute(drop_statement(run.spec))


def _build(run: _Run, connection: Connection, step: Build) -> None:
    capabilities = look(connection)
    rows = _count_rows(connection, run.spec)
    settings = settings_for(connection, capabilities, table_rows=rows, dimensions=step.dimensions, m=run.spec.m)
    wanted = settings.as_settings()
    if run.serial:
        wanted["max_parallel_maintenance_workers"] = "0"
    if not settings.fits:
        run.warnings.append(
            f"the graph of {rows} rows needs about {settings.needed_bytes >> 20} MB and gets "
            f"{settings.maintenance_work_mem_bytes >> 20} MB: the build slows down once that is full; "
            "raise effective_cache_size to what the machine has, or maintenance_work_mem"
        )
    _set_session(connection, wanted)
    run.reporter.say(
        f"building index {run.spec.qualified_name} over {rows} rows, online, with "
        f"{settings.maintenance_work_mem_bytes >> 20} MB and {wanted['max_parallel_maintenance_workers']} workers"
    )
    started = time.monotonic()
    pid = connection.info.backend_pid
    try:
        with watched(run.conninfo, pid=pid, rows_total=rows, on_progress=run.reporter.progress):
            connection.execute(create_statement(run.spec, extension_schema=capabilities.extension_schema))
    except BaseException as exc:
        _after_failure(run, exc, pid)
        return
    run.built_seconds = time.monotonic() - started
    run.reporter.say(f"built index {run.spec.qualified_name} in {run.built_seconds:.1f} s")
    with told_as_ours("analyzing the table"):
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(run.spec.schema, run.spec.table)))


def _after_failure(run: _Run, exc: BaseException, pid: int) -> None:
    """Removes what the failed build of backend `pid` left; returns when a new plan may help, else raises."""
    if isinstance(exc, psycopg.Error) and exc.sqlstate == ALREADY_EXISTS:
        run.reporter.say(f"index {run.spec.qualified_name} was made by somebody else meanwhile")
        return
    left = _clean_up(run, pid)
    if not isinstance(exc, psycopg.Error):
        run.reporter.say(f"the build of {run.spec.qualified_name} was interrupted. {left}")
        raise exc
    if exc.sqlstate == NO_SHARED_MEMORY and "shared memory" in str(exc) and not run.serial:
        run.serial = True
        run.warnings.append(
            "shared memory (/dev/shm) is too small for a parallel build, so it was built by one process; "
            "give the container shm_size of at least maintenance_work_mem + 64 MB"
        )
        run.reporter.say(f"{run.warnings[-1]}")
        return
    what = f"could not build index {run.spec.qualified_name}."
    cause = statement_error(exc, doing=f"building index {run.spec.qualified_name}")
    if isinstance(cause, PermissionDenied):
        raise PermissionDenied(
            what, why=cause.why, next_step=f"{left} Then: connect as the role that owns table {run.spec.table}."
        ) from exc
    if exc.sqlstate == CANCELLED:
        next_step = f"{left} Then: run the same command again; somebody cancelled it (pg_cancel_backend)."
    else:
        next_step = f"{left} Then: {cause.next_step}"
    raise BuildFailed(what, why=cause.why, next_step=next_step) from exc


def _clean_up(run: _Run, pid: int) -> str:
    """Drops the INVALID index that backend `pid` left and says what became of it; never one that somebody else builds."""
    try:
        with connect(run.conninfo, application_name="everindex clean-up", wait_seconds=5) as connection:
            lift_time_limits(connection)
            deadline = time.monotonic() + LAST_LOCKS_SECONDS
            found = declared_index(run.spec, observe(connection, run.spec))
            while found is not None and found.builder_pid == pid and time.monotonic() < deadline:
                time.sleep(0.1)
                found = declared_index(run.spec, observe(connection, run.spec))
            if found is None:
                return "Nothing was left behind."
            if found.is_valid:
                return "The index is there and valid."
            if found.builder_pid is not None and found.builder_pid != pid:
                return f"The index is being built by pid {found.builder_pid}, and was left alone."
            if at_work_on(connection, run.spec) is None:
                _drop(run, connection, lock_timeout=CLEAN_UP_LOCK_TIMEOUT)
                return "The unfinished index was removed."
    except (psycopg.Error, EverindexError, KeyboardInterrupt) as exc:
        log.debug("clean-up failed: %s", type(exc).__name__)
    return f"An unfinished, INVALID index {run.spec.qualified_name} may be left; the next deploy removes it."


def _count_rows(connection: Connection, spec: IndexSpec) -> int:
    """Rows with a vector. One pass over the heap; vectors are TOASTed and not read."""
    with told_as_ours("counting rows"):
        row = connection.execute(
            sql.SQL("SELECT count({column}) FROM {table}").format(
                column=sql.Identifier(spec.column), table=sql.Identifier(spec.schema, spec.table)
            )
        ).fetchone()
    assert row is not None
    return int(row[0])


def _set_session(connection: Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def _on_notice(run: _Run, diagnostic: psycopg.errors.Diagnostic) -> None:
    text = diagnostic.message_primary or ""
    if "no longer fits into maintenance_work_mem" in text:
        run.warnings.append(f"{text}: the rest of the build is several times slower; {diagnostic.message_hint or ''}")
    run.reporter.notice(_notice_text(diagnostic))


def _notice_text(diagnostic: psycopg.errors.Diagnostic) -> str:
    return f"{diagnostic.severity or 'NOTICE'}: {diagnostic.message_primary or ''}"
