"""Vector index operations as Alembic knows them: objects that are compared, reversed and rendered, and then run.

`op.create_vector_index`, `op.alter_vector_index` and `op.drop_vector_index` make them. What they do is in
alembic_kit/implementations.py, which also registers them; here nothing is read or changed, but for the schema of a table
(`resolved`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import ExecuteSQLOp, ModifyTableOps
from alembic.runtime.migration import MigrationContext

from everindex.alembic_kit.schema_translation import translated
from everindex.alembic_kit.transaction import schema_in_search_path
from everindex.index.spec import DEFAULT_EF_CONSTRUCTION, DEFAULT_M, BuildPolicy, IndexSpec
from everindex.index.spec_json import policy, refuse_generation_name

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


def _policy(name: str, build: Mapping[str, float | None] | None) -> BuildPolicy:
    return BuildPolicy() if build is None else policy(f"index {name!r}", build)
