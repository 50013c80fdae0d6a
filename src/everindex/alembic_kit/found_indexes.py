"""Existing vector indexes of a table, read on the connection that autogenerate compares with. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

from sqlalchemy import Connection, text

from everindex.alembic_kit.metadata import derived_column
from everindex.errors import SpecIllegal
from everindex.index.spec import (
    DEFAULT_EF_CONSTRUCTION,
    DEFAULT_M,
    GENERATION_SUFFIXES,
    OPCLASSES,
    IndexSpec,
)
from everindex.pg.index_catalog import catalog_indexes, indexes_query
from everindex.pg.reindex_leftovers import reindex_leftover


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundIndex:
    """One index of the catalog, in words from which a revision can make it again."""

    name: str
    schema: str
    table: str
    method: str
    opclass: str
    column: str | None
    expression: str | None
    predicate: str | None
    m: int
    ef_construction: int
    is_valid: bool
    is_being_built: bool
    is_attached: bool
    """Part of the index of a partitioned table: it comes and goes with that."""

    definition: str
    comment: str | None = None

    @property
    def is_expressible(self) -> bool:
        """True for an HNSW index of the types that a declaration can have."""
        return self.method == "hnsw" and self.opclass in OPCLASSES

    def as_spec(self) -> IndexSpec | None:
        """The declaration that would make this index; None where no declaration can."""
        if not self.is_expressible:
            return None
        column, expression, width = self.column, self.expression, None
        if expression is not None and (derived := derived_column(expression)) is not None:
            column, width = derived
            expression = None
        try:
            return IndexSpec(
                name=self.name,
                table=self.table,
                column=column,
                schema=self.schema,
                opclass=self.opclass,
                m=self.m,
                ef_construction=self.ef_construction,
                expression=expression,
                predicate=self.predicate,
                dimensions=width,
            )
        except SpecIllegal:
            return None


_OF_TABLE: LiteralString = """t.relname = :table AND t.relnamespace = (
    SELECT s.oid FROM pg_catalog.pg_namespace s WHERE s.nspname = :schema)"""


def is_left_over(name: str) -> bool:
    """True for a generation beside a declared index, and for what an interrupted REINDEX CONCURRENTLY leaves."""
    return name.endswith(GENERATION_SUFFIXES) or reindex_leftover(name) is not None


def found_indexes(connection: Connection, schema: str, table: str) -> tuple[FoundIndex, ...]:
    """Every index of the table, of whatever method: one of another may have a declared index's name."""
    rows: Any = connection.execute(text(indexes_query(_OF_TABLE, "is_in_progress")), {"schema": schema, "table": table})
    return tuple(
        FoundIndex(
            name=index.name,
            schema=schema,
            table=table,
            method=index.method,
            opclass=index.opclass,
            column=index.column,
            expression=index.expression,
            predicate=index.predicate,
            m=index.option("m", DEFAULT_M),
            ef_construction=index.option("ef_construction", DEFAULT_EF_CONSTRUCTION),
            is_valid=index.is_valid,
            is_being_built=index.is_in_progress,
            is_attached=index.parent_oid is not None,
            definition=index.definition,
            comment=index.comment,
        )
        for index in catalog_indexes(rows)
    )
