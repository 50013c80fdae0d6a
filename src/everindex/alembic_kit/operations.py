"""Alembic operations for vector indexes: `op.create_vector_index`, `op.alter_vector_index` and `op.drop_vector_index`.

`register()` adds them to Alembic; env.py calls it. Online they hand over to the index engine, which works on connections
of its own (where, in which transaction: migrate/transaction.py); offline they write SQL that psql runs unchanged
(migrate/script.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import ExecuteSQLOp, ModifyTableOps
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from everindex.alembic_kit import errors, script
from everindex.alembic_kit.build_mode import is_left_to_keeper
from everindex.alembic_kit.engine_address import address_of
from everindex.alembic_kit.error_advice import told_to_alembic
from everindex.alembic_kit.report import reporter_for
from everindex.alembic_kit.schema_translation import translated
from everindex.alembic_kit.transaction import place_of_work, run_as_it_is, schema_in_search_path
from everindex.errors import BuildFailed, IndexDefinitionDiffers
from everindex.index.catalog.observe import Observed
from everindex.index.catalog.tuned import as_tuned
from everindex.index.declaration import policy, refuse_generation_name
from everindex.index.deploy.deploy import acknowledge, deploy, drop
from everindex.index.plan.ddl import create_statement, quoted
from everindex.index.plan.planner import check_column
from everindex.index.plan.policy import MIGRATE, MIGRATE_CHANGED
from everindex.index.reporter import Reporter
from everindex.index.spec import DEFAULT_EF_CONSTRUCTION, DEFAULT_M, BuildPolicy, IndexSpec
from everindex.pg.capabilities import parse_version
from everindex.pg.connections import connect

DEFAULT_OPCLASS = "vector_cosine_ops"
DEFAULT_RECALL_FLOOR = 0.95


class VectorIndexOp(MigrateOperation):
    """What all operations hold: the declaration of one HNSW index, and its schema where the revision names one."""

    def __init__(self, spec: IndexSpec, *, schema: str | None) -> None:
        refuse_generation_name(spec.name)
        self.schema = schema
        self.spec = spec

    @property
    def named(self) -> tuple[str, str]:
        """Index and table, for a line of `alembic check`."""
        schema = "" if self.schema is None else f"{self.schema}."
        return (f"{schema}{self.spec.name}", f"{schema}{self.spec.table}")

    def resolved(self, context: MigrationContext) -> IndexSpec:
        """The declaration in the schema where the table is: translated by the connection, or found by its search_path."""
        schema = translated(self.schema, context)
        if schema is None:
            assert context.bind is not None
            schema = schema_in_search_path(context.bind, self.spec.table)
        return self.spec if schema is None else replace(self.spec, schema=schema)


class CreateVectorIndexOp(VectorIndexOp):
    """Brings an index to its declaration."""

    def __init__(
        self, spec: IndexSpec, *, schema: str | None, replaces: bool = False, repairs: str | None = None
    ) -> None:
        super().__init__(spec, schema=schema)
        self.replaces = replaces
        #: Why an index that is declared already is made again; its reverse makes sure of it, and does not drop it.
        self.repairs = repairs

    @classmethod
    def create_vector_index(
        cls,
        operations: Operations,
        name: str,
        table: str,
        column: str | None = None,
        *,
        schema: str | None = None,
        opclass: str = DEFAULT_OPCLASS,
        m: int = DEFAULT_M,
        ef_construction: int = DEFAULT_EF_CONSTRUCTION,
        expression: str | None = None,
        predicate: str | None = None,
        dimensions: int | None = None,
        recall_floor: float = DEFAULT_RECALL_FLOOR,
        build: Mapping[str, float | None] | None = None,
        replace: bool = False,
    ) -> Any:
        """Brings the HNSW index to its declaration online; an index that is there and as declared is left alone.

        One of another definition is an error, or with `replace=True` goes on serving until its successor is proven.
        `dimensions` are needed only offline, where an opclass of halfvec or bit casts the column.
        """
        spec = IndexSpec(
            name=name,
            table=table,
            column=column,
            schema=schema or "public",
            opclass=opclass,
            m=m,
            ef_construction=ef_construction,
            expression=expression,
            predicate=predicate,
            dimensions=dimensions,
            recall_floor=recall_floor,
            build=_policy(name, build),
        )
        return operations.invoke(cls(spec, schema=schema, replaces=replace))

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("repair_vector_index" if self.repairs else "add_vector_index", *self.named)

    def reverse(self) -> MigrateOperation:
        if self.repairs is not None:
            return CreateVectorIndexOp(self.spec, schema=self.schema)
        return DropVectorIndexOp(self.spec, schema=self.schema)


class AlterVectorIndexOp(VectorIndexOp):
    """Gives an index another definition: the new one is built and proven beside the old one, which serves until then."""

    def __init__(
        self,
        spec: IndexSpec,
        *,
        schema: str | None,
        existing: IndexSpec | None,
        existing_definition: str | None = None,
        because: tuple[str, ...] = (),
    ) -> None:
        super().__init__(spec, schema=schema)
        self.existing = existing
        #: The CREATE INDEX of the catalog, for an index that no IndexSpec describes.
        self.existing_definition = existing_definition
        self.because = because

    @classmethod
    def alter_vector_index(
        cls,
        operations: Operations,
        name: str,
        table: str,
        column: str | None = None,
        *,
        schema: str | None = None,
        opclass: str = DEFAULT_OPCLASS,
        m: int = DEFAULT_M,
        ef_construction: int = DEFAULT_EF_CONSTRUCTION,
        expression: str | None = None,
        predicate: str | None = None,
        dimensions: int | None = None,
        recall_floor: float = DEFAULT_RECALL_FLOOR,
        build: Mapping[str, float | None] | None = None,
        existing_column: str | Literal[False] | None = False,
        existing_opclass: str | None = None,
        existing_m: int | None = None,
        existing_ef_construction: int | None = None,
        existing_expression: str | Literal[False] | None = False,
        existing_predicate: str | Literal[False] | None = False,
        existing_dimensions: int | Literal[False] | None = False,
    ) -> Any:
        """Replaces the HNSW index by one of this definition, online; the old one serves until the new one is proven.

        What is not given has its default, as in `create_vector_index`. `existing_…` say what was there, where that
        differs, as in `alter_column`: they serve to reverse the operation and change nothing.
        """
        spec = IndexSpec(
            name=name,
            table=table,
            column=column,
            schema=schema or "public",
            opclass=opclass,
            m=m,
            ef_construction=ef_construction,
            expression=expression,
            predicate=predicate,
            dimensions=dimensions,
            recall_floor=recall_floor,
            build=_policy(name, build),
        )
        existing = replace(
            spec,
            column=column if existing_column is False else existing_column,
            opclass=existing_opclass or opclass,
            m=existing_m or m,
            ef_construction=existing_ef_construction or ef_construction,
            expression=expression if existing_expression is False else existing_expression,
            predicate=predicate if existing_predicate is False else existing_predicate,
            dimensions=dimensions if existing_dimensions is False else existing_dimensions,
        )
        return operations.invoke(cls(spec, schema=schema, existing=existing))

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("modify_vector_index", *self.named, "; ".join(self.because))

    def reverse(self) -> MigrateOperation:
        if self.existing is not None:
            return AlterVectorIndexOp(self.existing, schema=self.schema, existing=self.spec)
        assert self.existing_definition is not None
        return ModifyTableOps(
            self.spec.table,
            [
                DropVectorIndexOp(self.spec, schema=self.schema),
                ExecuteSQLOp(self.existing_definition),
            ],
            schema=self.schema,
        )


class DropVectorIndexOp(VectorIndexOp):
    """Drops an index; holds its definition for the way back."""

    def __init__(self, spec: IndexSpec, *, schema: str | None, because: tuple[str, ...] = ()) -> None:
        super().__init__(spec, schema=schema)
        self.because = because

    @classmethod
    def drop_vector_index(
        cls,
        operations: Operations,
        name: str,
        table: str,
        column: str | None = None,
        *,
        schema: str | None = None,
        opclass: str = DEFAULT_OPCLASS,
        m: int = DEFAULT_M,
        ef_construction: int = DEFAULT_EF_CONSTRUCTION,
        expression: str | None = None,
        predicate: str | None = None,
        dimensions: int | None = None,
    ) -> Any:
        """Drops the HNSW index online (DROP INDEX CONCURRENTLY); one that is not there is no error.

        Its definition is for the way back; name and table are what is dropped.
        """
        spec = IndexSpec(
            name=name,
            table=table,
            # Only name and table tell what is dropped, and a spec has a key.
            column=name if column is None and expression is None else column,
            schema=schema or "public",
            opclass=opclass,
            m=m,
            ef_construction=ef_construction,
            expression=expression,
            predicate=predicate,
            dimensions=dimensions,
        )
        return operations.invoke(cls(spec, schema=schema))

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return ("remove_vector_index", *self.named)

    def reverse(self) -> CreateVectorIndexOp:
        return CreateVectorIndexOp(self.spec, schema=self.schema)


# --- what they do ----------------------------------------------------------------------------------------------------


def _create(operations: Operations, operation: CreateVectorIndexOp) -> None:
    context = operations.migration_context
    if context.as_sql:
        write = script.alter_script if operation.replaces else script.create_script
        _write(operations, write(operation.spec, schema=translated(operation.schema, context)))
    else:
        with told_to_alembic(context):
            _bring_to(operations, operation, replaces=operation.replaces)


def _alter(operations: Operations, operation: AlterVectorIndexOp) -> None:
    context = operations.migration_context
    if context.as_sql:
        _write(operations, script.alter_script(operation.spec, schema=translated(operation.schema, context)))
    else:
        with told_to_alembic(context):
            _bring_to(operations, operation, replaces=True)


def _drop(operations: Operations, operation: DropVectorIndexOp) -> None:
    context = operations.migration_context
    if context.as_sql:
        _write(operations, script.drop_script(operation.spec, schema=translated(operation.schema, context)))
        return
    with told_to_alembic(context):
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
            _deploy(conninfo, spec, replaces=replaces, reporter=reporter)
        else:
            _make_here(operations.get_bind(), spec, replaces=replaces)
            reporter.say(
                f"built index {spec.qualified_name} in the transaction of the migration: nobody else works on its table"
            )


def _deploy(conninfo: str, spec: IndexSpec, *, replaces: bool, reporter: Reporter) -> None:
    if not replaces:
        # A revision that is run again finds what was tuned since, or makes it, and does not take it for somebody else's.
        with connect(conninfo, application_name="everindex migrate") as connection:
            spec = as_tuned(connection, spec)
    if is_left_to_keeper(conninfo, spec, reporter=reporter, replaces=replaces):
        return
    deployed = deploy(conninfo, spec, reporter=reporter, policy=MIGRATE_CHANGED if replaces else MIGRATE)
    if deployed.outcome == "already-there":
        acknowledge(conninfo, spec, reporter=reporter)
    for warning in deployed.warnings:
        reporter.say(f"warning: {warning}")


def _make_here(bind: Connection, spec: IndexSpec, *, replaces: bool) -> None:
    """CREATE INDEX inside the open transaction, on a table without rows or one that nobody else sees: SHARE lock."""
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
                f"index {spec.qualified_name} is there and not as declared.",
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
    """Type and width of the column as the open transaction sees them; enough to write CREATE INDEX."""
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


def _policy(name: str, build: Mapping[str, float | None] | None) -> BuildPolicy:
    return BuildPolicy() if build is None else policy(f"index {name!r}", build)


def _write(operations: Operations, statements: list[str]) -> None:
    """Adds statements to the script as they are: `execute` would take `:word` in a name for a parameter, and double each %."""
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
