"""The implementations of the vector index operations, and their registration with Alembic.

Online they call the index engine, which uses separate connections (for the transactions see alembic_kit/transaction.py);
offline they write SQL that psql runs unchanged (alembic_kit/script.py). Running an operation again changes nothing. A rollback
of the revision does not undo an online statement.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from alembic.operations import Operations
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from everindex.alembic_kit import errors, script
from everindex.alembic_kit.build_mode import is_left_to_keeper
from everindex.alembic_kit.engine_address import address_of
from everindex.alembic_kit.error_advice import advise_for_alembic
from everindex.alembic_kit.operations import AlterVectorIndexOp, CreateVectorIndexOp, DropVectorIndexOp, VectorIndexOp
from everindex.alembic_kit.report import reporter_for
from everindex.alembic_kit.schema_translation import translated
from everindex.alembic_kit.transaction import place_of_work, run_as_it_is
from everindex.errors import BuildFailed, IndexDefinitionDiffers
from everindex.index.catalog.effective_spec import as_tuned
from everindex.index.catalog.observed import Observed
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import acknowledge, deploy
from everindex.index.plan.ddl import create_statement, quoted
from everindex.index.plan.policy import MIGRATE, MIGRATE_CHANGED
from everindex.index.plan.preconditions import check_column
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import parse_version
from everindex.pg.connections import connect


def _create(operations: Operations, operation: CreateVectorIndexOp) -> None:
    context = operations.migration_context
    if context.as_sql:
        write = script.alter_script if operation.replaces else script.create_script
        _write(operations, write(operation.spec, schema=translated(operation.schema, context)))
    else:
        with advise_for_alembic(context):
            _bring_to(operations, operation, replaces=operation.replaces)


def _alter(operations: Operations, operation: AlterVectorIndexOp) -> None:
    context = operations.migration_context
    if context.as_sql:
        _write(operations, script.alter_script(operation.spec, schema=translated(operation.schema, context)))
    else:
        with advise_for_alembic(context):
            _bring_to(operations, operation, replaces=True)


def _drop(operations: Operations, operation: DropVectorIndexOp) -> None:
    context = operations.migration_context
    if context.as_sql:
        _write(operations, script.drop_script(operation.spec, schema=translated(operation.schema, context)))
        return
    with advise_for_alembic(context):
        _drop_online(operations, operation)


def _drop_online(operations: Operations, operation: DropVectorIndexOp) -> None:
    context = operations.migration_context
    spec = operation.resolved(context)
    conninfo = address_of(context)
    with place_of_work(operations, spec, conninfo, drops=True) as place, reporter_for(context.opts) as reporter:
        if place == "own connections":
            drop(conninfo, spec, reporter=reporter)
        else:
            index = quoted(spec.name, schema=spec.schema)
            run_as_it_is(operations.get_bind(), f"DROP INDEX IF EXISTS {index}")
            reporter.say(f"dropped index {spec.qualified_name} in the transaction of the migration")


def _bring_to(operations: Operations, operation: VectorIndexOp, *, replaces: bool) -> None:
    context = operations.migration_context
    spec = operation.resolved(context)
    conninfo = address_of(context)
    with place_of_work(operations, spec, conninfo) as place, reporter_for(context.opts) as reporter:
        if place == "own connections":
            stop = context.opts.get("everindex_stop")
            _deploy(conninfo, spec, replaces=replaces, reporter=reporter, stop=stop)
        else:
            _make_here(operations.get_bind(), spec, replaces=replaces)
            reporter.say(
                f"built index {spec.qualified_name} in the transaction of the migration, since no other session uses its table"
            )


def _deploy(
    conninfo: str, spec: IndexSpec, *, replaces: bool, reporter: Reporter, stop: threading.Event | None
) -> None:
    if not replaces:
        # A revision that is run again after tuning must recognise or build the tuned index as the declared one.
        with connect(conninfo, application_name="everindex migrate") as connection:
            spec = as_tuned(connection, spec)
    if is_left_to_keeper(conninfo, spec, reporter=reporter, replaces=replaces):
        return
    deployed = deploy(conninfo, spec, reporter=reporter, policy=MIGRATE_CHANGED if replaces else MIGRATE, stop=stop)
    if deployed.outcome == "already-there":
        acknowledge(conninfo, spec, reporter=reporter)
    for warning in deployed.warnings:
        reporter.say(f"warning: {warning}")


def _make_here(bind: Connection, spec: IndexSpec, *, replaces: bool) -> None:
    """CREATE INDEX inside the open transaction, on a table without rows or one that no other session sees: SHARE lock."""
    index = quoted(spec.name, schema=spec.schema)
    observed = _observed_here(bind, spec)
    check_column(spec, observed)
    if replaces:
        run_as_it_is(bind, f"DROP INDEX IF EXISTS {index}")
    else:
        known = replace(spec, dimensions=observed.dimensions if observed.column_type != spec.key_type else None)
        try:
            run_as_it_is(bind, script.guard(known, schema=spec.schema))
        except DBAPIError as exc:
            told = str(exc.orig).splitlines()[0]
            if "index-definition-differs" not in told and "INVALID" not in told:
                raise
            raise IndexDefinitionDiffers(
                f"index {spec.qualified_name} exists, but not as declared.",
                why=f"PostgreSQL: {told}",
                next_step="use op.alter_vector_index to replace it, or give the declared index another name; "
                "nothing was changed.",
            ) from None
    statement = create_statement(spec, observed, concurrently=False, if_not_exists=True)
    try:
        run_as_it_is(bind, statement.as_string(None))
    except DBAPIError as exc:
        raise BuildFailed(
            f"could not build index {spec.qualified_name}.",
            why=f"PostgreSQL: {str(exc.orig).splitlines()[0]}.",
            next_step="correct the revision, then run the same command again; its transaction is rolled back.",
        ) from exc


def _observed_here(bind: Connection, spec: IndexSpec) -> Observed:
    """Type and dimensions of the column as the open transaction sees them; enough to write CREATE INDEX."""
    literal = script.literal
    row: Any = run_as_it_is(
        bind,
        "SELECT t.typname, nullif(a.atttypmod, -1), "  # noqa: S608 literals by psycopg
        "(SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'vector'), (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'vector') "
        "FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid "
        f"WHERE a.attrelid = to_regclass({literal(quoted(spec.table, schema=spec.schema))}) "
        f"AND a.attname = {literal(spec.column or '')} AND NOT a.attisdropped",
    ).one_or_none()
    kind, width, extension, version = row or (None, None, None, None)
    return Observed(
        table_exists=True,
        column_type=kind,
        dimensions=width,
        extension_schema=extension,
        extension_version=parse_version(version),
    )


def _write(operations: Operations, statements: list[str]) -> None:
    """Adds statements to the script unchanged: `execute` would take `:word` in a name for a parameter, and double each %."""
    context = operations.migration_context
    with context.autocommit_block():
        for statement in statements:
            context.impl.static_output(f"{statement};")


_OPERATIONS: tuple[tuple[str, type[VectorIndexOp], Callable[..., None]], ...] = (
    ("create_vector_index", CreateVectorIndexOp, _create),
    ("alter_vector_index", AlterVectorIndexOp, _alter),
    ("drop_vector_index", DropVectorIndexOp, _drop),
)


def register() -> None:
    """Adds the operations to Alembic's `op`, and their errors to its command; calling it again changes nothing."""
    errors.install()
    for name, operation, implementation in _OPERATIONS:
        if not hasattr(Operations, name):
            Operations.register_operation(name)(operation)
            Operations.implementation_for(operation)(implementation)
