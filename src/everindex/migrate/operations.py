"""Alembic operations for vector indexes: `op.create_vector_index` and `op.drop_vector_index`, online and offline.

`register()` adds them to Alembic; env.py calls it. Online they leave the revision's transaction (`autocommit_block`) and
hand over to the index engine, which works on connections of its own; offline they write SQL that psql runs unchanged.
"""

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation, Operations
from psycopg import sql

from everindex.index.apply import acknowledge, deploy, drop
from everindex.index.catalog import in_search_path
from everindex.index.spec import DEFAULT_EF_CONSTRUCTION, DEFAULT_M, IndexSpec
from everindex.index.statements import quoted, script_create_text
from everindex.migrate.report import reporter_for


class VectorIndexOp(MigrateOperation):
    """What both operations hold: the declaration of one HNSW index."""

    def __init__(
        self, name: str, table: str, column: str, *, schema: str | None, opclass: str, m: int, ef_construction: int
    ) -> None:
        self.schema = schema
        self.spec = IndexSpec(
            name=name,
            table=table,
            column=column,
            schema=schema or "public",
            opclass=opclass,
            m=m,
            ef_construction=ef_construction,
        )

    def resolved(self, operations: Operations) -> IndexSpec:
        """The declaration in the schema where the unqualified table name leads."""
        if self.schema is not None:
            return self.spec
        driver: Any = operations.get_bind().connection.driver_connection
        return in_search_path(driver, self.spec)


class CreateVectorIndexOp(VectorIndexOp):
    @classmethod
    def create_vector_index(
        cls,
        operations: Operations,
        name: str,
        table: str,
        column: str,
        *,
        schema: str | None = None,
        opclass: str = "vector_cosine_ops",
        m: int = DEFAULT_M,
        ef_construction: int = DEFAULT_EF_CONSTRUCTION,
    ) -> Any:
        """Brings the HNSW index to its declaration online; an index that is there and as declared is left alone."""
        return operations.invoke(
            cls(name, table, column, schema=schema, opclass=opclass, m=m, ef_construction=ef_construction)
        )

    def reverse(self) -> DropVectorIndexOp:
        return DropVectorIndexOp(
            self.spec.name,
            self.spec.table,
            self.spec.column,
            schema=self.schema,
            opclass=self.spec.opclass,
            m=self.spec.m,
            ef_construction=self.spec.ef_construction,
        )


class DropVectorIndexOp(VectorIndexOp):
    @classmethod
    def drop_vector_index(
        cls,
        operations: Operations,
        name: str,
        table: str,
        column: str,
        *,
        schema: str | None = None,
        opclass: str = "vector_cosine_ops",
        m: int = DEFAULT_M,
        ef_construction: int = DEFAULT_EF_CONSTRUCTION,
    ) -> Any:
        """Drops the HNSW index online (DROP INDEX CONCURRENTLY); one that is not there is no error."""
        return operations.invoke(
            cls(name, table, column, schema=schema, opclass=opclass, m=m, ef_construction=ef_construction)
        )

    def reverse(self) -> CreateVectorIndexOp:
        return CreateVectorIndexOp(
            self.spec.name,
            self.spec.table,
            self.spec.column,
            schema=self.schema,
            opclass=self.spec.opclass,
            m=self.spec.m,
            ef_construction=self.spec.ef_construction,
        )


def _create(operations: Operations, operation: CreateVectorIndexOp) -> None:
    context = operations.migration_context
    if context.as_sql:
        with context.autocommit_block():
            _write(context, _offline_guard(operation))
            _write(context, script_create_text(operation.spec, schema=operation.schema))
        return
    spec = operation.resolved(operations)
    with context.autocommit_block(), reporter_for(context.opts) as reporter:
        conninfo = _conninfo(operations)
        deployed = deploy(conninfo, spec, reporter=reporter)
        if deployed.outcome == "already-there":
            acknowledge(conninfo, spec, reporter=reporter)
        for warning in deployed.warnings:
            reporter.say(f"warning: {warning}")


def _drop(operations: Operations, operation: DropVectorIndexOp) -> None:
    context = operations.migration_context
    if context.as_sql:
        name = quoted(operation.spec.name, schema=operation.schema)
        with context.autocommit_block():
            _write(context, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        return
    spec = operation.resolved(operations)
    with context.autocommit_block(), reporter_for(context.opts) as reporter:
        drop(_conninfo(operations), spec, reporter=reporter)


def _conninfo(operations: Operations) -> str:
    """The address for the engine's own connections: what env.py passed, else that of Alembic's engine."""
    given = operations.migration_context.opts.get("everindex_conninfo")
    if given is not None:
        return str(given)
    url = operations.get_bind().engine.url
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _write(context: Any, statement: str) -> None:
    """Adds a statement to the script as it is: `execute` would take `:word` in a name for a parameter and double each %."""
    context.impl.static_output(f"{statement};")


def _offline_guard(operation: VectorIndexOp) -> str:
    """A DO block that stops a script where IF NOT EXISTS would step over an INVALID or a different index."""
    spec = operation.spec
    wanted = {
        "column": spec.column,
        "opclass": spec.opclass,
        "m": str(spec.m),
        "ef_construction": str(spec.ef_construction),
    }
    tag = "everindex"
    while f"${tag}$" in spec.name + spec.table + spec.column + spec.schema:
        tag += "_"
    return _GUARD.format(
        tag=tag,
        relation=_literal(quoted(spec.name, schema=operation.schema)),
        table=_literal(quoted(spec.table, schema=operation.schema)),
        differs=_literal(f"index-definition-differs: {spec.name} exists with another definition"),
        invalid=_literal(f"index {spec.name} is INVALID, left by an interrupted build"),
        default_m=_literal(str(DEFAULT_M)),
        default_ef_construction=_literal(str(DEFAULT_EF_CONSTRUCTION)),
        **{name: _literal(value) for name, value in wanted.items()},
    )


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)


_GUARD = """
DO ${tag}$
DECLARE
    existing record;
BEGIN
    SELECT i.indisvalid, pg_get_indexdef(c.oid) AS definition,
           i.indrelid = to_regclass({table}) AND a.attname = {column} AND i.indpred IS NULL
           AND am.amname = 'hnsw' AND opc.opcname = {opclass}
           AND coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'm'),
                        {default_m}) = {m}
           AND coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'ef_construction'),
                        {default_ef_construction}) = {ef_construction} AS is_as_declared
    INTO existing
    FROM pg_class c
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    LEFT JOIN pg_opclass opc ON opc.oid = i.indclass[0]
    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    LEFT JOIN pg_am am ON am.oid = c.relam
    WHERE c.oid = to_regclass({relation});
    IF FOUND AND NOT coalesce(existing.is_as_declared, false) THEN
        RAISE EXCEPTION USING MESSAGE = {differs}, DETAIL = existing.definition,
            HINT = 'ALTER INDEX ... RENAME TO another name, then run this script again.';
    ELSIF FOUND AND NOT existing.indisvalid THEN
        RAISE EXCEPTION USING MESSAGE = {invalid}, HINT = 'DROP INDEX CONCURRENTLY it, then run this script again.';
    END IF;
END ${tag}$"""


def register() -> None:
    """Adds the operations to Alembic's `op`; calling it again changes nothing."""
    for name, operation, implementation in (
        ("create_vector_index", CreateVectorIndexOp, _create),
        ("drop_vector_index", DropVectorIndexOp, _drop),
    ):
        if not hasattr(Operations, name):
            Operations.register_operation(name)(operation)
            Operations.implementation_for(operation)(implementation)
