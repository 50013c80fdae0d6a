"""Which vector indexes does a table have already? Read on the connection that autogenerate compares with. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


def is_left_over(name: str) -> bool:
    """True for a generation beside a declared index, and for what an interrupted REINDEX CONCURRENTLY leaves."""
    return name.endswith(GENERATION_SUFFIXES) or reindex_leftover(name) is not None


def found_indexes(connection: Connection, schema: str, table: str) -> tuple[FoundIndex, ...]:
    """Every index of the table, of whatever method: one of another may have a declared index's name."""
    rows: Any = connection.execute(
        text(
            """
            SELECT c.relname, am.amname, opc.opcname, a.attname, pg_catalog.pg_get_expr(i.indexprs, i.indrelid),
                   pg_catalog.pg_get_expr(i.indpred, i.indrelid), c.reloptions, i.indisvalid,
                   EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = c.oid),
                   EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid),
                   pg_catalog.pg_get_indexdef(c.oid), pg_catalog.obj_description(c.oid, 'pg_class')
            FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
            JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
            JOIN pg_catalog.pg_am am ON am.oid = c.relam
            JOIN pg_catalog.pg_opclass opc ON opc.oid = i.indclass[0]
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE n.nspname = :schema AND t.relname = :table
            ORDER BY c.relname
            """
        ),
        {"schema": schema, "table": table},
    )
    return tuple(
        FoundIndex(
            name=row[0],
            schema=schema,
            table=table,
            method=row[1],
            opclass=row[2],
            column=row[3],
            expression=row[4],
            predicate=row[5],
            m=_option(row[6], "m", DEFAULT_M),
            ef_construction=_option(row[6], "ef_construction", DEFAULT_EF_CONSTRUCTION),
            is_valid=row[7],
            is_being_built=row[8],
            is_attached=row[9],
            definition=row[10],
            comment=row[11],
        )
        for row in rows
    )


def _option(reloptions: list[str] | None, name: str, default: int) -> int:
    for option in reloptions or []:
        key, _, value = option.partition("=")
        if key == name and value.isdigit():
            return int(value)
    return default
