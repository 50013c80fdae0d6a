"""Restoration of an index that a revision dropped online before it failed.

DROP INDEX CONCURRENTLY does not run in a transaction, so a rollback does not undo it: if a revision drops an index, alters its
column and fails, neither would be left. Therefore the dropped index is remembered until the revision is stamped and committed
(outside `run_migrations`: until the next commit), and rebuilt online if the transaction is rolled back before that. This is not
guaranteed if the process is killed in between: the same revision, run again, continues without the index.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from alembic.runtime.migration import MigrationContext
from psycopg import sql
from sqlalchemy import Connection, event

from everindex.alembic_kit.found_indexes import as_spec, found_indexes
from everindex.alembic_kit.report import reporter_for
from everindex.errors import EverindexError
from everindex.index.build.online import create_online
from everindex.index.build.operation import Operation
from everindex.index.catalog.generations import words_of_others
from everindex.index.deploy.executor import deploy
from everindex.index.deploy.session import build_lock, operation_session
from everindex.index.plan.ddl import comment_statement
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.pg.connections import connect
from everindex.pg.index_catalog import CatalogIndex
from everindex.pg.sqlstate import translate_errors


@dataclass(slots=True, kw_only=True)
class _Remembered:
    """The indexes of one migration context that were dropped and whose revision is not stamped yet."""

    indexes: dict[tuple[str, str], tuple[CatalogIndex, IndexSpec, str]]
    """By schema and name: the index, the operation's declaration, and the address of the engine."""

    is_stamped: bool = False
    is_our_commit: bool = False


_remembered: WeakKeyDictionary[MigrationContext, _Remembered] = WeakKeyDictionary()


def remember(context: MigrationContext, bind: Connection, spec: IndexSpec, conninfo: str) -> None:
    """Remembers the valid index of that name in its current state, to restore it if the revision fails. Reads only."""
    found = next((index for index in found_indexes(bind, spec.schema, spec.table) if index.name == spec.name), None)
    if found is None or not found.is_valid:
        return
    remembered = _remembered.get(context)
    if remembered is None:
        remembered = _remembered[context] = _Remembered(indexes={})
        _watch(context, bind, remembered)
    remembered.is_stamped = False
    remembered.indexes[spec.schema, spec.name] = (found, spec, conninfo)


@contextmanager
def commits_are_ours(context: MigrationContext) -> Iterator[None]:
    """Inside the block a commit belongs to an online statement, and does not mean the end of the revision."""
    remembered = _remembered.get(context)
    if remembered is None:
        yield
        return
    before, remembered.is_our_commit = remembered.is_our_commit, True
    try:
        yield
    finally:
        remembered.is_our_commit = before


def _watch(context: MigrationContext, bind: Connection, remembered: _Remembered) -> None:
    is_in_a_run = context.opts.get("fn") is not None

    def on_version_apply(**_: Any) -> None:
        remembered.is_stamped = True

    def on_commit(_: Connection) -> None:
        if not remembered.is_our_commit and (remembered.is_stamped or not is_in_a_run):
            remembered.indexes.clear()

    def on_rollback(connection: Connection) -> None:
        # If each statement commits itself, the stamp is already final.
        if remembered.indexes and not (remembered.is_stamped and connection.get_isolation_level() == "AUTOCOMMIT"):
            _give_locks_back(connection)
            for found, spec, conninfo in remembered.indexes.values():
                with reporter_for(context.opts) as reporter:
                    _bring_back(conninfo, found, spec, reporter)
        remembered.indexes.clear()

    context.on_version_apply_callbacks = (*context.on_version_apply_callbacks, on_version_apply)
    event.listen(bind, "commit", on_commit)
    event.listen(bind, "rollback", on_rollback)


def _give_locks_back(connection: Connection) -> None:
    """Releases the locks of a failed transaction, since the event comes before the rollback."""
    try:
        connection.dialect.do_rollback(connection.connection)
    except Exception:
        return


def _bring_back(conninfo: str, found: CatalogIndex, spec: IndexSpec, reporter: Reporter) -> None:
    """Rebuilds the index. An error must not hide that of the revision: it is logged with the statement to run."""
    name = f"{found.schema}.{found.name}"
    reporter.say(f"the revision failed after it had dropped index {name}: rebuilding the index")
    try:
        declared = as_spec(found)
        if declared is None:
            _build_as_it_was(conninfo, found, spec, reporter)
        else:
            deploy(conninfo, replace(declared, build=spec.build), reporter=reporter)
        _comment(conninfo, found)
    except (EverindexError, psycopg.Error, KeyboardInterrupt) as exc:
        why = exc.why if isinstance(exc, EverindexError) else type(exc).__name__
        reporter.say(f"warning: index {name} could not be restored ({why}) Run:  {found.definition}")


def _build_as_it_was(conninfo: str, found: CatalogIndex, spec: IndexSpec, reporter: Reporter) -> None:
    """Builds an index that no declaration can describe, such as an ivfflat one, from its own definition."""
    operation = Operation(conninfo=conninfo, spec=spec, reporter=reporter)
    statement = sql.SQL(found.definition.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1))
    with operation_session(operation, application_name="everindex migrate") as connection, build_lock(operation):
        create_online(
            operation,
            connection,
            spec,
            sql.Composed([statement]),
            announcement=f"building index {spec.qualified_name} as it was, online",
        )


def _comment(conninfo: str, found: CatalogIndex) -> None:
    if (comment := words_of_others(found.comment)) is not None:
        with connect(conninfo, application_name="everindex migrate") as connection, translate_errors("commenting"):
            connection.execute(comment_statement(found.schema, found.name, comment))
