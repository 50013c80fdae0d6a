"""The index of the words, brought to its declaration step by step.

It is not a vector index and not part of the migrations: keyword search is correct without it, only slow. So it never
stops a migration, a role without the privilege to build it gets no warning, and waiting for others is limited.
Building, dropping, watching and cleaning up are the same for all indexes (`index/build/online.py`). An index for
another language, or of an earlier release, serves until its successor is built beside it and takes its name in one
short transaction; if interrupted at any point, the next call continues from what it finds. Not guaranteed: an index on
a partitioned table, of which keyword search reads every row.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.search.keyword.document import TextConfig, document, find_config
from everindex.articles.search.keyword.index.observed import Observed, TextIndex, observe
from everindex.articles.search.keyword.index.plan import (
    Build,
    Drop,
    Finish,
    Left,
    Rename,
    Step,
    Swap,
    is_leftover,
    next_step,
)
from everindex.articles.shape.spec import CollectionSpec
from everindex.errors import EverindexError, LockNotObtained, PlanOutOfDate
from everindex.index.build.online import create_at_once, create_online, drop_online
from everindex.index.build.operation import Operation, stopped, wait_for_table
from everindex.index.deploy.comments import restore_words
from everindex.index.deploy.session import build_lock, operation_session
from everindex.index.deploy.swap import rename_together
from everindex.index.journal import DROPPING, dropped_comment, record
from everindex.index.plan.ddl import comment_statement, rename_statement, swap_statements
from everindex.index.reporter import Reporter
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.sqlstate import translate_errors

#: The limit of POLICY enforced by the server, for when the watchdog gets no connection.
LOCK_TIMEOUT = "65s"
#: More rounds than any sequence of states needs; ends a conflict with another session that keeps undoing the work.
MOST_ROUNDS = 12

Outcome = Literal["already-there", "built", "replaced", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The outcome of one call."""

    outcome: Outcome
    reason: str | None = None
    """Why the index, or a leftover beside it, was left as it is; None where that needs no report."""

    did: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class TextOperation(Operation):
    """One call, and what it has done so far."""

    spec: TextIndex
    config: TextConfig
    words: str | None = None
    """The comment that somebody else wrote on the dropped index."""

    outcome: Outcome = "already-there"
    did: list[str] = field(default_factory=list)

    def done(self, reason: str | None = None) -> Done:
        return Done(outcome=self.outcome, reason=reason, did=tuple(self.did))


def ensure_words(
    conninfo: str,
    collection: CollectionSpec = ARTICLES,
    *,
    text_search: str,
    reporter: Reporter | None = None,
    wait_seconds: float = 20.0,
    replaces: bool = True,
    stop: threading.Event | None = None,
) -> Done:
    """Brings the index of the collection's words to the configuration `text_search`.

    A missing or INVALID index is built, under SHARE UPDATE EXCLUSIVE on the table; one for another language is replaced
    if `replaces`. Waits `wait_seconds` for other builders. Raises SettingInvalid, CollectionInvalid (it has no text),
    LockNotObtained, BuildFailed and its subclasses; leaves behind nothing, or an INVALID index that the next call removes.
    """
    with (
        connect(conninfo, application_name="everindex build") as connection,
        translate_errors(f"reading index {collection.words_index_name}"),
    ):
        lift_time_limits(connection)
        config = find_config(connection, text_search)
        found = observe(connection, collection)
        step = next_step(connection, config, found, replaces=replaces)
    if found is None or isinstance(step, Left):
        return _as_done(step)
    operation = TextOperation(
        conninfo=conninfo,
        spec=found.index,
        config=config,
        reporter=reporter or Reporter(),
        deadline=time.monotonic() + wait_seconds,
        stop=stop,
    )
    try:
        with operation_session(operation, application_name="everindex build") as connection, build_lock(operation):
            return _bring(operation, connection, replaces=replaces)
    except EverindexError as exc:
        if operation.is_stopped:
            return Done(outcome="left")
        if isinstance(exc, LockNotObtained) and is_leftover(step):
            return operation.done()  # the index exists; leftovers are removed another time
        raise


def _as_done(step: Step | Left) -> Done:
    if isinstance(step, Left) and step.is_as_declared:
        return Done(outcome="already-there")
    return Done(outcome="left", reason=step.reason if isinstance(step, Left) else None)


def _bring(operation: TextOperation, connection: Connection, *, replaces: bool) -> Done:
    """Observes, takes one step and observes again until nothing is left to do, under the build lock."""
    index = operation.spec
    for _ in range(MOST_ROUNDS):
        found = observe(connection, index.collection)
        step = next_step(connection, operation.config, found, replaces=replaces)
        if found is None or isinstance(step, Left):
            return operation.done(step.reason if isinstance(step, Left) else None) if operation.did else _as_done(step)
        if operation.is_stopped:
            raise stopped(index)
        try:
            if isinstance(step, (Drop, Build)):
                wait_for_table(operation, connection, index.schema, index.table)
                found = observe(connection, index.collection)
                if found is None or next_step(connection, operation.config, found, replaces=replaces) != step:
                    continue  # a session that was waited for has changed it
            take_step(operation, connection, step, found)
        except PlanOutOfDate:
            continue
        except LockNotObtained as exc:
            if isinstance(step, Drop) and is_leftover(step):
                return operation.done(f"index {step.index.name} {step.why} and will be dropped later: {exc.why}")
            raise
    raise LockNotObtained(
        f"index {index.qualified_name} did not reach its declared state in {MOST_ROUNDS} rounds.",
        why="something else keeps changing it: another tool or a script that drops or rebuilds the same index.",
        next_step="find it in pg_stat_activity, end it, then run the same command again.",
    )


def take_step(operation: TextOperation, connection: Connection, step: Step, found: Observed) -> None:
    index, say = operation.spec, operation.reporter.say
    name, successor, previous = index.names
    match step:
        case Drop():
            _drop(operation, connection, step)
        case Build():
            _build(operation, connection, step, found)
        case Swap():
            rename_together(
                operation,
                connection,
                expected={name: step.successor.oid, previous: step.serving.oid},
                schema=index.schema,
                statements=[
                    *swap_statements(index.schema, name, successor=successor, previous=previous),
                    comment_statement(index.schema, name, step.successor.comment or step.serving.comment),
                ],
            )
            record(connection, index, "swapped", text_search=operation.config.name)
            say(f"index {index.qualified_name} is now for {operation.config.name}")
            operation.did.append(f"replace index {name} with {successor}")
            operation.outcome = "replaced"
        case Rename():
            rename_together(
                operation,
                connection,
                expected={name: step.successor.oid},
                schema=index.schema,
                statements=[rename_statement(index.schema, successor, name)],
            )
            record(connection, index, "renamed", old=successor)
            say(f"index {successor} is as declared and is now named {name}")
            operation.did.append(f"rename index {successor} to {name}")
            operation.outcome = "built"
        case Finish():
            _finish(operation, connection, index)
        case _:
            assert_never(step)


def _drop(operation: TextOperation, connection: Connection, step: Drop) -> None:
    index, name = operation.spec, step.index.name
    what_next = "rebuilding it" if step.comes_back else "dropping it"
    operation.reporter.say(f"index {index.schema}.{name} {step.why}: {what_next}")
    words = step.index.comment if step.comes_back else None
    if words is not None:
        # Recorded before the drop, so that the next call can restore it if this one is killed in between.
        operation.words = words
        record(connection, index, DROPPING, name=name, comment=words)
    drop_online(operation, connection, index.schema, name, lock_timeout=LOCK_TIMEOUT)
    record(connection, index, "dropped", name=name, why=step.why, comment=words)
    operation.did.append(f"drop index {name}, which {step.why}")
    if step.comes_back:
        operation.outcome = "replaced"


def _build(operation: TextOperation, connection: Connection, step: Build, found: Observed) -> None:
    index = replace(operation.spec, name=step.name)
    if found.serving is not None:
        operation.reporter.say(
            f"index {operation.spec.qualified_name} is for another language or of an earlier release: it serves until its "
            "successor is built"
        )
    started = time.monotonic()
    at_once = _create(operation.config, index, concurrently=False)
    if not (found.is_empty and create_at_once(operation, connection, index, at_once)):
        seconds = create_online(
            operation,
            connection,
            index,
            _create(operation.config, index, concurrently=True),
            announcement=f"building index {index.qualified_name} for keyword search ({operation.config.name}), online",
            rows_total=found.estimated_rows,
            settings={"lock_timeout": LOCK_TIMEOUT}
            | ({"max_parallel_maintenance_workers": "0"} if operation.is_serial else {}),
        )
        if seconds is None:
            return
        operation.reporter.say(f"built index {index.qualified_name} in {seconds:.1f} s")
    _finish(operation, connection, index)
    record(
        connection,
        index,
        "built",
        seconds=round(time.monotonic() - started, 3),
        text_search=operation.config.name,
    )
    operation.did.append(f"build index {index.name} for keyword search ({operation.config.name})")
    if operation.outcome == "already-there":
        operation.outcome = "built"


def _finish(operation: TextOperation, connection: Connection, index: TextIndex) -> None:
    """Gives a new index the comment of its predecessor, then turns its statistics off, which tells the next call that
    this is done."""
    if index.name == operation.spec.name:
        restore_words(connection, index, operation.words or dropped_comment(connection, index))
    # ANALYZE would parse thousands of articles, and no plan of keyword search depends on the result.
    connection.execute(
        sql.SQL("ALTER INDEX {} ALTER COLUMN 1 SET STATISTICS 0").format(sql.Identifier(index.schema, index.name))
    )


def _create(config: TextConfig, index: TextIndex, *, concurrently: bool) -> sql.Composed:
    return sql.SQL("CREATE INDEX {}{} ON {} USING gin ({})").format(
        sql.SQL("CONCURRENTLY " if concurrently else ""),
        sql.Identifier(index.name),
        sql.Identifier(index.schema, index.table),
        document(config, index.collection),
    )
