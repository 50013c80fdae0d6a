"""Makes the index what it was declared to be: observe, plan, do the first step, observe again, until nothing is left.

The only code that changes an index. A failed statement is never repeated: after a failure the catalog is read anew, what
the failure left behind is removed, and a new plan is made (an exit status proves nothing: CREATE INDEX CONCURRENTLY
leaves an INVALID index behind, over which IF NOT EXISTS would succeed).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, assert_never

import psycopg

from everindex.errors import BuildFailed, DeployStopped, EverindexError, LockNotObtained
from everindex.index.adopted import policy_here
from everindex.index.beside import indexes_beside
from everindex.index.build.build import build, run_watched
from everindex.index.build.operation import POLL_SECONDS, Work, run_briefly, set_session, stopped, wait_for_table
from everindex.index.catalog.generations import has_generation_name, words_of_others
from everindex.index.catalog.observe import Observed, ObservedIndex, observe
from everindex.index.deploy.acceptance import prove
from everindex.index.deploy.cancellation import ended_by
from everindex.index.deploy.swap import drop_generation, out_of_date, rename, roll_back, swap
from everindex.index.journal import DROPPING, record
from everindex.index.plan.ddl import attach_statement, create_statement, reindex_statement
from everindex.index.plan.planner import Plan, make_plan
from everindex.index.plan.policy import MIGRATE, DeployPolicy
from everindex.index.plan.steps import (
    Attach,
    Build,
    CreateOnParent,
    DropIndex,
    Prove,
    Reindex,
    Rename,
    Step,
    Swap,
    WaitForBuild,
)
from everindex.index.reporter import Reporter
from everindex.index.set_aside import restore_words, settle
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import look, require_pgvector
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.locks import advisory_lock
from everindex.pg.sqlstate import statement_error

log = logging.getLogger(__name__)

#: More rounds than any chain of states needs, beside one for each step of the first plan; ends a fight with somebody who
#: keeps undoing the work.
MORE_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """How the declared index came to be there."""

    outcome: Literal["already-there", "built", "rebuilt", "replaced", "mended"]
    """mended: nothing was built, but something renamed, attached or dropped."""

    build_seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """What was left as it is, and why."""

    did: tuple[str, ...] = ()
    """The steps that were done, in sentences."""


def deploy(
    conninfo: str,
    spec: IndexSpec,
    *,
    reporter: Reporter | None = None,
    wait_seconds: float = 3600.0,
    policy: DeployPolicy = MIGRATE,
    expected_digest: str | None = None,
    stop: threading.Event | None = None,
) -> Deployed:
    """Brings the declared index to its declaration, online; returns when it is there, valid and as declared.

    One builder a database (advisory lock `build` on a connection of its own); others are waited for, up to
    `wait_seconds`. Readers and writers go on: SHARE UPDATE EXCLUSIVE, and for swaps of partitioned tables and on empty
    tables a stronger lock for moments. `policy` says what it may do beside building, the default as little as possible; on
    an attached database it spares what others made. With `expected_digest`
    (of a plan) nothing is done to a catalog that has changed since. Setting `stop` ends it within seconds: the running
    statement is cancelled, and what a build has left is removed.

    Raises ExtensionUnavailable/NotPermitted/TooOld, IndexDefinitionDiffers, NotMigrated, ColumnMismatch, SpecIllegal,
    BuildFailed, DiskSpaceShort, GenerationUnproven, PlanOutOfDate, PermissionDenied, LockNotObtained (another builder
    for longer than `wait_seconds`, or given up by the build's policy), DeployStopped.
    """
    work = Work(
        conninfo=conninfo,
        spec=spec,
        reporter=reporter or Reporter(),
        deadline=time.monotonic() + wait_seconds,
        rebuild_because=policy.rebuild_because,
        stop=stop,
    )

    def planned(connection: Connection) -> tuple[Plan, Observed]:
        observed = observe(connection, spec)
        here = replace(policy_here(connection, policy), rebuild_because=work.rebuild_because)
        plan = make_plan(spec, observed, policy=here, now=datetime.now(UTC), proven=frozenset(work.proven))
        return plan, observed

    with (
        _stoppable(work),
        connect(conninfo, application_name="everindex build") as connection,
        ended_by(stop, connection),
    ):
        require_pgvector(look(connection))
        # A lock_timeout, for one, also counts the waits for old snapshots and leaves an INVALID index behind.
        lift_time_limits(connection)
        connection.add_notice_handler(lambda diagnostic: _on_notice(work, diagnostic))
        plan, observed = planned(connection)
        _refuse_other_digest(plan, expected_digest)
        if not plan.steps:
            return _finished(work, connection, plan, observed)
        with _build_lock(work):
            plan, observed = planned(connection)
            _refuse_other_digest(plan, expected_digest)
            rounds = len(plan.steps) + MORE_ROUNDS
            for _ in range(rounds):
                if not plan.steps:
                    return _finished(work, connection, plan, observed)
                if work.is_stopped:
                    raise stopped(spec)
                step = plan.steps[0]
                _wait_for_others(work, connection, step)
                _take(work, connection, step, observed)
                if not isinstance(step, (WaitForBuild, Prove)):
                    work.did.append(step.sentence)
                plan, observed = planned(connection)
            if not plan.steps:
                return _finished(work, connection, plan, observed)
    raise BuildFailed(
        f"index {spec.qualified_name} did not reach its declared state in {rounds} rounds.",
        why="something else keeps changing it: another tool or a script that drops or rebuilds the same index.",
        next_step="find it in pg_stat_activity, end it, then run the same command again.",
    )


def drop(
    conninfo: str,
    spec: IndexSpec,
    *,
    reporter: Reporter | None = None,
    wait_seconds: float = 3600.0,
    comes_back: bool = False,
) -> bool:
    """Drops the declared index and its generations online (SHARE UPDATE EXCLUSIVE); False when there was none.

    With `comes_back` a note that it is set aside for a load stays; else it is meant to be gone, and so is the note.
    """
    if not comes_back:
        with connect(conninfo, application_name="everindex drop") as connection:
            settle(connection, spec)
    return _drop_those(
        conninfo,
        spec,
        lambda index: index.name == spec.name or has_generation_name(index.name, spec.name),
        reporter=reporter,
        wait_seconds=wait_seconds,
    )


def drop_previous(
    conninfo: str, spec: IndexSpec, *, reporter: Reporter | None = None, wait_seconds: float = 3600.0
) -> bool:
    """Drops the previous generation, which was kept for a rollback; False when there was none."""
    return _drop_those(
        conninfo,
        spec,
        lambda index: has_generation_name(index.name, spec.name) and index.name.endswith("__prev"),
        reporter=reporter,
        wait_seconds=wait_seconds,
    )


def rollback(conninfo: str, spec: IndexSpec, *, reporter: Reporter | None = None, wait_seconds: float = 60.0) -> str:
    """Lets the previous generation serve again and keeps the present one in its place; its definition.

    Two names change in one short transaction; nothing is built, and a running build is not waited for. Raises
    NothingToRollBack, LockNotObtained, PermissionDenied.
    """
    work = Work(conninfo=conninfo, spec=spec, reporter=reporter or Reporter(), deadline=time.monotonic() + wait_seconds)
    with _stoppable(work), connect(conninfo, application_name="everindex rollback") as connection:
        lift_time_limits(connection)
        return roll_back(work, connection)


def acknowledge(conninfo: str, spec: IndexSpec, *, reporter: Reporter) -> None:
    """Lets PostgreSQL say its "already exists, skipping" for an index that is there, valid and as declared.

    Only after `deploy` returned "already-there": IF NOT EXISTS looks at the name alone.
    """
    with connect(conninfo, application_name="everindex build") as connection:
        connection.add_notice_handler(lambda diagnostic: reporter.notice(_notice_text(diagnostic)))
        # Shorter than deadlock_timeout: another build must never find itself waiting for this courtesy.
        set_session(connection, {"lock_timeout": "500ms", "client_min_messages": "notice"})
        observed = observe(connection, spec)
        if observed.is_partitioned:
            return
        try:
            connection.execute(create_statement(spec, observed, if_not_exists=True))
        except (psycopg.errors.LockNotAvailable, psycopg.errors.InsufficientPrivilege) as exc:
            why = "its table is locked" if exc.sqlstate == "55P03" else "and owned by another role"
            reporter.say(f"index {spec.qualified_name} is there and valid ({why})")


@contextmanager
def _stoppable(work: Work) -> Iterator[None]:
    """Inside the block, what fails because the work was stopped leaves as DeployStopped, and a driver's error as ours."""
    try:
        yield
    except DeployStopped:
        raise
    except (EverindexError, psycopg.Error) as exc:
        if work.is_stopped:
            raise stopped(work.spec) from exc
        if isinstance(exc, psycopg.Error):
            raise statement_error(exc, doing=f"working on index {work.spec.qualified_name}") from exc
        raise


@contextmanager
def _build_lock(work: Work) -> Iterator[None]:
    with advisory_lock(
        work.conninfo,
        "build",
        wait_seconds=max(0.0, work.deadline - time.monotonic()),
        stop=work.stop,
        on_wait=lambda holder: work.reporter.say(f"waiting for another build: {holder}"),
    ):
        yield


def _refuse_other_digest(plan: Plan, expected: str | None) -> None:
    if expected is not None and plan.digest != expected:
        raise out_of_date(plan.spec)


def _finished(work: Work, connection: Connection, plan: Plan, observed: Observed) -> Deployed:
    found = plan.situation.current
    if found is not None and found.is_valid:
        settle(connection, work.spec, found)
        if found.comment is None and work.did and not work.has_swapped:
            words = work.words.get(work.spec.name)
            restore_words(connection, work.spec, words=words, looks_back=work.build_seconds is not None)
    for beside in indexes_beside(work.spec, observed):
        work.warn(f"{beside.sentence}; {beside.advice}")
    outcome: Literal["already-there", "built", "rebuilt", "replaced", "mended"] = "already-there"
    if work.has_swapped:
        outcome = "replaced"
    elif work.build_seconds is not None:
        outcome = "rebuilt" if work.has_rebuilt else "built"
    elif work.did:
        outcome = "mended"
    return Deployed(
        outcome=outcome,
        build_seconds=work.build_seconds or 0.0,
        warnings=tuple(work.warnings),
        remarks=plan.remarks,
        did=tuple(work.did),
    )


def _wait_for_others(work: Work, connection: Connection, step: Step) -> None:
    """Before a statement that would wait for a builder's lock, with a snapshot in hand."""
    match step:
        case Build() | CreateOnParent():
            wait_for_table(work, connection, step.spec.schema, step.spec.table)
        case DropIndex() | Reindex():
            table = _table_of(connection, step.schema, step.name)
            if table is not None:
                wait_for_table(work, connection, *table)
        case WaitForBuild() | Rename() | Attach() | Prove() | Swap():
            pass
        case _:
            assert_never(step)


def _take(work: Work, connection: Connection, step: Step, observed: Observed) -> None:
    match step:
        case WaitForBuild():
            _wait_for_build(work, connection, step)
        case DropIndex():
            _drop(work, connection, step, observed)
        case Rename():
            rename(work, connection, step, observed)
        case Build():
            build(work, connection, step, observed)
            if step.spec.name in work.words:  # of a partition's index, too
                restore_words(connection, step.spec, words=work.words[step.spec.name], looks_back=False)
        case CreateOnParent():
            statement = create_statement(step.spec, observed, concurrently=False, on_only=True)
            run_briefly(work, connection, f"creating index {step.spec.qualified_name}", statement)
        case Attach():
            run_briefly(work, connection, f"attaching index {step.child}", attach_statement(step))
        case Reindex():
            work.reporter.say(f"{step.sentence}")
            set_session(connection, {"lock_timeout": "0"})
            run_watched(work, connection, f"rebuilding index {step.name}", reindex_statement(step))
        case Prove():
            prove(work, connection, step, observed)
        case Swap():
            swap(work, connection, step, observed)
        case _:
            assert_never(step)


def _drop(work: Work, connection: Connection, step: DropIndex, observed: Observed) -> None:
    if step.why == "invalid":
        work.has_rebuilt = True
        work.reporter.say(f"index {step.schema}.{step.name} is INVALID (left by an interrupted build): rebuilding it")
    else:
        work.reporter.say(step.sentence)
    everywhere = [*observed.indexes, *(index for part in observed.partitions for index in part.indexes)]
    comment = next((index.comment for index in everywhere if index.name == step.name), None)
    words = words_of_others(comment)
    if words is not None:
        # Before it is gone: whoever dies in between leaves it to the next one.
        work.words[step.name] = words
        record(connection, work.spec, DROPPING, name=step.name, comment=words)
    drop_generation(work, connection, step.schema, step.name, is_partitioned=step.is_partitioned)
    record(connection, work.spec, "dropped", name=step.name, why=step.why, definition=step.definition, comment=words)


def _wait_for_build(work: Work, connection: Connection, step: WaitForBuild) -> None:
    work.reporter.say(f"index {step.schema}.{step.name} is being built by pid {step.pid}: waiting for it")
    while not work.is_out_of_time:
        observed = observe(connection, work.spec)
        found = [
            index
            for indexes in (observed.indexes, *(part.indexes for part in observed.partitions))
            for index in indexes
            if index.name == step.name and index.builder_pid is not None
        ]
        if not found:
            return
        time.sleep(POLL_SECONDS)
    raise LockNotObtained(
        f"index {step.schema}.{step.name} is still being built by pid {step.pid}.",
        why="it did not end in the time that this process may wait.",
        next_step="wait for it, then run the same command again; nothing was changed by this one.",
    )


def _drop_those(
    conninfo: str,
    spec: IndexSpec,
    are_meant: Callable[[ObservedIndex], bool],
    *,
    reporter: Reporter | None,
    wait_seconds: float,
) -> bool:
    work = Work(conninfo=conninfo, spec=spec, reporter=reporter or Reporter(), deadline=time.monotonic() + wait_seconds)
    with (
        _stoppable(work),
        connect(conninfo, application_name="everindex drop") as connection,
        _build_lock(work),
    ):
        lift_time_limits(connection)
        found = [index for index in observe(connection, spec).indexes if are_meant(index)]
        if not found:
            work.reporter.say(f"index {spec.qualified_name} was not there")
        for index in found:
            wait_for_table(work, connection, spec.schema, spec.table)
            drop_generation(work, connection, spec.schema, index.name, is_partitioned=index.is_partitioned)
            record(
                connection,
                spec,
                "dropped",
                name=index.name,
                why="asked for",
                definition=index.definition,
                comment=words_of_others(index.comment),
            )
            work.reporter.say(f"dropped index {spec.schema}.{index.name}")
        return bool(found)


def _table_of(connection: Connection, schema: str, name: str) -> tuple[str, str] | None:
    row = connection.execute(
        """
        SELECT tn.nspname, t.relname FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
        JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
        WHERE n.nspname = %s AND c.relname = %s
        """,
        (schema, name),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def _on_notice(work: Work, diagnostic: psycopg.errors.Diagnostic) -> None:
    text = diagnostic.message_primary or ""
    if "no longer fits into maintenance_work_mem" in text:
        work.warn(f"{text}: the rest of the build is several times slower; {diagnostic.message_hint or ''}")
    work.reporter.notice(_notice_text(diagnostic))


def _notice_text(diagnostic: psycopg.errors.Diagnostic) -> str:
    return f"{diagnostic.severity or 'NOTICE'}: {diagnostic.message_primary or ''}"
