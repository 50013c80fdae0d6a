"""The deploy of a declared vector index: observe, plan, take the first step, and observe again, until no step is left.

This is the only code that changes a vector index; its online statements run in `index/build/online.py`, as for every index. A
failed statement is never repeated: after a failure the catalog is read again, leftovers of the failure are removed, and a new
plan is made (an exit status proves nothing: CREATE INDEX CONCURRENTLY leaves an INVALID index behind, for which IF NOT
EXISTS would report success).
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, assert_never

import psycopg
from psycopg import sql

from everindex.errors import BuildFailed, LockNotObtained
from everindex.index.build.online import run_watched
from everindex.index.build.operation import POLL_SECONDS, run_briefly, set_session, stopped, wait_for_table
from everindex.index.build.vector_index import build
from everindex.index.catalog.generations import words_of_others
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed
from everindex.index.deploy.acceptance import prove
from everindex.index.deploy.comments import restore_words, settle
from everindex.index.deploy.deployment import Deployment
from everindex.index.deploy.local_policy import policy_here
from everindex.index.deploy.session import build_lock, notice_text, operation_session
from everindex.index.deploy.swap import drop_generation, out_of_date, rename, swap
from everindex.index.journal import DROPPING, dropped_comment, record
from everindex.index.plan.ddl import attach_statement, create_statement, reindex_statement
from everindex.index.plan.other_indexes import indexes_beside
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
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import look, require_pgvector
from everindex.pg.connections import Connection, connect
from everindex.pg.index_catalog import find_index
from everindex.tracing import note, span

log = logging.getLogger(__name__)

#: More rounds than any sequence of states needs, in addition to one for each step of the first plan; ends the loop if another
#: tool keeps undoing the work.
MORE_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The result of a deploy."""

    outcome: Literal["already-there", "built", "rebuilt", "replaced", "repaired"]
    """repaired: nothing was built, but something was renamed, attached or dropped."""

    build_seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """What was left unchanged, and why."""

    did: tuple[str, ...] = ()
    """The completed steps, as sentences."""


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
    """Brings the declared index to its declared state, online; returns when it exists, is valid and as declared.

    There is one builder per database (advisory lock `build` on a separate connection); it waits for others up to
    `wait_seconds`. Readers and writers continue: it takes SHARE UPDATE EXCLUSIVE, and a stronger lock for moments to swap
    indexes of partitioned tables and on empty tables. `policy` says what it may do besides building, by default as little as
    possible; on an attached database it never touches objects of others. With `expected_digest` (from a plan) it does nothing
    if the catalog has changed since. Setting `stop` ends it within seconds: the running statement is cancelled, and the
    leftovers of a build are removed.

    Raises ExtensionUnavailable/NotPermitted/TooOld, IndexDefinitionDiffers, NotMigrated, ColumnMismatch, SpecIllegal,
    BuildFailed, DiskSpaceShort, GenerationUnproven, PlanOutOfDate, PermissionDenied, LockNotObtained (another builder took took
    longer than `wait_seconds`, or the build was given up by its policy), DeployStopped.
    """
    deployment = Deployment(
        conninfo=conninfo,
        spec=spec,
        reporter=reporter or Reporter(),
        deadline=time.monotonic() + wait_seconds,
        rebuild_because=policy.rebuild_because,
        stop=stop,
    )
    with span("deploy index", {"everindex.index": spec.qualified_name}) as current:
        done = _deploy(deployment, policy, expected_digest)
        note(current, everindex__outcome=done.outcome)
    return done


def _deploy(deployment: Deployment, policy: DeployPolicy, expected_digest: str | None) -> Deployed:
    spec = deployment.spec

    def planned(connection: Connection) -> tuple[Plan, Observed]:
        observed = observe(connection, spec)
        here = replace(policy_here(connection, policy), rebuild_because=deployment.rebuild_because)
        plan = make_plan(spec, observed, policy=here, now=datetime.now(UTC), proven=frozenset(deployment.proven))
        return plan, observed

    with operation_session(deployment, application_name="everindex build") as connection:
        require_pgvector(look(connection))
        plan, observed = planned(connection)
        _refuse_other_digest(plan, expected_digest)
        if not plan.steps:
            return _finished(deployment, connection, plan, observed)
        with build_lock(deployment):
            plan, observed = planned(connection)
            _refuse_other_digest(plan, expected_digest)
            rounds = len(plan.steps) + MORE_ROUNDS
            for _ in range(rounds):
                if not plan.steps:
                    return _finished(deployment, connection, plan, observed)
                if deployment.is_stopped:
                    raise stopped(spec)
                step = plan.steps[0]
                _wait_for_others(deployment, connection, step)
                if isinstance(step, DropIndex):
                    # What was INVALID when it was looked at may have been somebody's build that has ended since.
                    plan, observed = planned(connection)
                    if plan.steps[:1] != (step,):
                        continue
                with span(f"step {type(step).__name__}", {"everindex.step": step.sentence}):
                    take_step(deployment, connection, step, observed)
                if not isinstance(step, (WaitForBuild, Prove)):
                    deployment.did.append(step.sentence)
                plan, observed = planned(connection)
            if not plan.steps:
                return _finished(deployment, connection, plan, observed)
    raise BuildFailed(
        f"index {spec.qualified_name} did not reach its declared state in {rounds} rounds.",
        why="something else keeps changing it: another tool or a script that drops or rebuilds the same index.",
        next_step="find it in pg_stat_activity and end it, then run the same command again.",
    )


#: The empty table that is used instead of the declared one; never committed.
_ACKNOWLEDGED = "everindex_acknowledged"


def acknowledge(conninfo: str, spec: IndexSpec, *, reporter: Reporter) -> None:
    """Makes PostgreSQL print its "already exists, skipping" for an index that exists, is valid and as declared.

    Call it only after `deploy` returned "already-there": IF NOT EXISTS checks only the name. The statement is for an empty table
    in the schema of the declared one, in a transaction that is rolled back: no lock is taken on the declared table, and nothing
    is built if the index is gone by now.
    """
    copy = sql.Identifier(spec.schema, _ACKNOWLEDGED)
    with connect(conninfo, application_name="everindex build") as connection:
        connection.add_notice_handler(lambda diagnostic: reporter.notice(notice_text(diagnostic)))
        set_session(connection, {"lock_timeout": "500ms", "client_min_messages": "notice"})
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(sql.SQL("CREATE TABLE {} (id int)").format(copy))
                connection.execute(
                    sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} (id)").format(sql.Identifier(spec.name), copy)
                )
        except (
            psycopg.errors.DuplicateTable,
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.LockNotAvailable,
            psycopg.errors.ReadOnlySqlTransaction,
        ):
            reporter.say(f"index {spec.qualified_name} exists and is valid")


def _refuse_other_digest(plan: Plan, expected: str | None) -> None:
    if expected is not None and plan.digest != expected:
        raise out_of_date(plan.spec)


def _finished(deployment: Deployment, connection: Connection, plan: Plan, observed: Observed) -> Deployed:
    found = plan.situation.current
    if found is not None and found.is_valid:
        settle(connection, deployment.spec, found)
        if found.comment is None and not deployment.has_swapped:
            restore_words(connection, deployment.spec, _words_before(deployment, connection))
    for beside in indexes_beside(deployment.spec, observed):
        deployment.warn(f"{beside.sentence}; {beside.advice}")
    outcome: Literal["already-there", "built", "rebuilt", "replaced", "repaired"] = "already-there"
    if deployment.has_swapped:
        outcome = "replaced"
    elif deployment.build_seconds is not None:
        outcome = "rebuilt" if deployment.has_rebuilt else "built"
    elif deployment.did:
        outcome = "repaired"
    return Deployed(
        outcome=outcome,
        build_seconds=deployment.build_seconds or 0.0,
        warnings=tuple(deployment.warnings),
        remarks=plan.remarks,
        did=tuple(deployment.did),
    )


def _words_before(deployment: Deployment, connection: Connection) -> str | None:
    """The text of others on the previous index of that name, which was dropped by this deploy, or by one that died after its
    build."""
    words = deployment.words.get(deployment.spec.name)
    if words is None and (deployment.build_seconds is not None or not deployment.did):
        words = dropped_comment(connection, deployment.spec, was_built_here=not deployment.did)
    return words


def _wait_for_others(deployment: Deployment, connection: Connection, step: Step) -> None:
    """Waits before a statement that would otherwise wait for a builder's lock while holding a snapshot."""
    match step:
        case Build() | CreateOnParent():
            wait_for_table(deployment, connection, step.spec.schema, step.spec.table)
        case DropIndex() | Reindex():
            index = find_index(connection, step.schema, step.name)
            if index is not None:
                wait_for_table(deployment, connection, index.table_schema, index.table)
        case WaitForBuild() | Rename() | Attach() | Prove() | Swap():
            pass
        case _:
            assert_never(step)


def take_step(deployment: Deployment, connection: Connection, step: Step, observed: Observed) -> None:
    match step:
        case WaitForBuild():
            _wait_for_build(deployment, connection, step)
        case DropIndex():
            _drop(deployment, connection, step, observed)
        case Rename():
            rename(deployment, connection, step, observed)
        case Build():
            build(deployment, connection, step, observed)
            if step.spec.name in deployment.words:  # for a partition's index, too
                restore_words(connection, step.spec, deployment.words[step.spec.name])
        case CreateOnParent():
            statement = create_statement(step.spec, observed, concurrently=False, on_only=True)
            run_briefly(deployment, connection, f"creating index {step.spec.qualified_name}", statement)
        case Attach():
            run_briefly(deployment, connection, f"attaching index {step.child}", attach_statement(step))
        case Reindex():
            deployment.reporter.say(f"{step.sentence}")
            set_session(connection, {"lock_timeout": "0"})
            run_watched(deployment, connection, f"rebuilding index {step.name}", reindex_statement(step))
        case Prove():
            prove(deployment, connection, step, observed)
        case Swap():
            swap(deployment, connection, step, observed)
        case _:
            assert_never(step)


def _drop(deployment: Deployment, connection: Connection, step: DropIndex, observed: Observed) -> None:
    if step.why == "invalid":
        deployment.has_rebuilt = True
        deployment.reporter.say(
            f"index {step.schema}.{step.name} is INVALID (left by an interrupted build); rebuilding it"
        )
    else:
        deployment.reporter.say(step.sentence)
    everywhere = [*observed.indexes, *(index for part in observed.partitions for index in part.indexes)]
    comment = next((index.comment for index in everywhere if index.name == step.name), None)
    words = words_of_others(comment)
    if words is not None:
        # Before the drop, so that the next deploy finds it if this process dies in between.
        deployment.words[step.name] = words
        record(connection, deployment.spec, DROPPING, name=step.name, comment=words)
    drop_generation(deployment, connection, step.schema, step.name, is_partitioned=step.is_partitioned)
    record(
        connection, deployment.spec, "dropped", name=step.name, why=step.why, definition=step.definition, comment=words
    )


def _wait_for_build(deployment: Deployment, connection: Connection, step: WaitForBuild) -> None:
    deployment.reporter.say(f"index {step.schema}.{step.name} is being built by pid {step.pid}; waiting for it")
    while not deployment.is_out_of_time:
        observed = observe(connection, deployment.spec)
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
        why="it did not finish within the time that this process may wait.",
        next_step="wait for it, then run the same command again; nothing was changed by this one.",
    )
