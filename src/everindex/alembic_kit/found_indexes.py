"""Existing indexes of a table, read on the connection that autogenerate uses, and their equivalent declarations.

Reads only.
"""

from __future__ import annotations

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
from everindex.pg.index_catalog import CatalogIndex, catalog_indexes, indexes_query
from everindex.pg.reindex_leftovers import reindex_leftover


def found_indexes(connection: Connection, schema: str, table: str) -> tuple[CatalogIndex, ...]:
    """Every index of the table, with any method, since one with another method may have the name of a declared index."""
    rows: Any = connection.execute(text(_OF_TABLE), {"schema": schema, "table": table})
    return catalog_indexes(rows)


_OF_TABLE: LiteralString = indexes_query(
    "t.relname = :table AND t.relnamespace = (SELECT s.oid FROM pg_catalog.pg_namespace s WHERE s.nspname = :schema)",
    "is_in_progress",
)


def is_left_over(name: str) -> bool:
    """True for a generation of a declared index, and for a leftover of an interrupted REINDEX CONCURRENTLY."""
    return name.endswith(GENERATION_SUFFIXES) or reindex_leftover(name) is not None


def is_expressible(index: CatalogIndex) -> bool:
    """True for an HNSW index with a type that a declaration can have."""
    return index.method == "hnsw" and index.opclass in OPCLASSES


def as_spec(index: CatalogIndex) -> IndexSpec | None:
    """The declaration that would create this index; None if no declaration can."""
    if not is_expressible(index):
        return None
    column, expression, width = index.column, index.expression, None
    if expression is not None and (derived := derived_column(expression)) is not None:
        column, width = derived
        expression = None
    try:
        return IndexSpec(
            name=index.name,
            table=index.table,
            column=column,
            schema=index.schema,
            opclass=index.opclass,
            m=index.option("m", DEFAULT_M),
            ef_construction=index.option("ef_construction", DEFAULT_EF_CONSTRUCTION),
            expression=expression,
            predicate=index.predicate,
            dimensions=width,
        )
    except SpecIllegal:
        return None
