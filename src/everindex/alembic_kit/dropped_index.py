"""Restoration of an index that a revision dropped online before it failed.

DROP INDEX CONCURRENTLY runs in no transaction, so a rollback does not undo it: a revision that drops an index, alters its
column and fails would leave neither. What was dropped is therefore remembered until the revision is stamped and committed
(outside of `run_migrations`: until the next commit), and built again, online, when its transaction is rolled back first.
Not guaranteed where the process is killed in between: the same revision, run again, goes on without the index.
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
    """What of one migration context has been dropped and is not stamped yet."""

    indexes: dict[tuple[str, str], tuple[CatalogIndex, IndexSpec, str]]
    """By schema and name: the index, the operation's declaration, and the address of the engine."""

    is_stamped: bool = False
    is_our_commit: bool = False


_remembered: WeakKeyDictionary[MigrationContext, _Remembered] = WeakKeyDictionary()


def remember(context: MigrationContext, bind: Connection, spec: IndexSpec, conninfo: str) -> None:
    """Remembers the valid index of that name as it is now, to bring it back if the revision fails. Reads only."""
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
    """Inside the block a commit is the one that an online statement needs, and not the end of the revision."""
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
        # Where each statement commits itself, what is stamped is stamped.
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
    """The event comes before the rollback, and a failed transaction keeps its locks until then."""
    try:
        connection.dialect.do_rollback(connection.connection)
    except Exception:
        return


def _bring_back(conninfo: str, found: CatalogIndex, spec: IndexSpec, reporter: Reporter) -> None:
    """Builds the index again. An error must not hide that of the revision: it is logged with the statement to run."""
    name = f"{found.schema}.{found.name}"
    reporter.say(f"the revision failed after it had dropped index {name}: it is built again")
    try:
        declared = as_spec(found)
        if declared is None:
            _build_as_it_was(conninfo, found, spec, reporter)
        else:
            deploy(conninfo, replace(declared, build=spec.build), reporter=reporter)
        _comment(conninfo, found)
    except (EverindexError, psycopg.Error, KeyboardInterrupt) as exc:
        why = exc.why if isinstance(exc, EverindexError) else type(exc).__name__
        reporter.say(f"warning: index {name} could not be brought back ({why}) Run:  {found.definition}")


def _build_as_it_was(conninfo: str, found: CatalogIndex, spec: IndexSpec, reporter: Reporter) -> None:
    """An index that no declaration can describe, such as an ivfflat one, by its own definition."""
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
