"""Vector index operations as Alembic's operation objects, which are compared, reversed and rendered, and then run.

`op.create_vector_index`, `op.alter_vector_index` and `op.drop_vector_index` create them. They are implemented and registered in
alembic_kit/implementations.py; this module reads nothing but the schema of a table (`resolved`), and changes nothing.
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
    """Base of all operations: the declaration of one HNSW index, and its schema if the revision names one."""

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
        """The declaration in the schema of its table: translated by the connection, or found by its search_path."""
        schema = translated(self.schema, context)
        if schema is None:
            assert context.bind is not None
            schema = schema_in_search_path(context.bind, self.spec.table)
        return self.spec if schema is None else replace(self.spec, schema=schema)


class CreateVectorIndexOp(VectorIndexOp):
    """Brings an index to its declared state."""

    def __init__(
        self, spec: IndexSpec, *, schema: str | None, replaces: bool = False, repairs: str | None = None
    ) -> None:
        super().__init__(spec, schema=schema)
        self.replaces = replaces
        #: Why an existing declared index is built again; the reverse operation does the same, and does not drop it.
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
        """Brings the HNSW index to its declared state online; an index that exists and is as declared is left alone.

        An index with another definition is an error, or with `replace=True` serves until its successor is proven.
        `dimensions` are needed only offline, when an opclass of halfvec or bit casts the column.
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
    """Changes the definition of an index: the new index is built and proven next to the old one, which serves until then."""

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
        #: The CREATE INDEX of the catalog, for an index that no IndexSpec can describe.
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
        """Replaces the HNSW index with one that has this definition, online; the old one serves until the new one is proven.

        Omitted arguments have their defaults, as in `create_vector_index`. As in `alter_column`, `existing_…` describe the
        previous definition where it differs: they are used to reverse the operation and have no other effect.
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
    """Drops an index; holds its definition so that the operation can be reversed."""

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
        """Drops the HNSW index online (DROP INDEX CONCURRENTLY); a missing index is no error.

        Only name and table determine what is dropped; the definition is for reversing the operation.
        """
        spec = IndexSpec(
            name=name,
            table=table,
            # Only name and table determine what is dropped, but a spec needs a key.
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
