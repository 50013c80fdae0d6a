"""Tables with a vector column and their vector indexes, as the doctor's rules see them: data, read by `Examined`."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorTable:
    """A table with a column of a pgvector type, or a partition of one."""

    oid: int
    schema: str
    name: str
    column: str
    column_type: str
    """vector, halfvec, bit or sparsevec."""

    dimensions: int | None
    relkind: str
    """r, p (partitioned) or m (materialized view)."""

    is_partition: bool
    estimated_rows: int | None
    """None where the table was never analyzed."""

    @property
    def quoted(self) -> str:
        return sql.Identifier(self.schema, self.name).as_string(None)

    @property
    def quoted_column(self) -> str:
        return sql.Identifier(self.column).as_string(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndex:
    """An hnsw or ivfflat index."""

    oid: int
    schema: str
    name: str
    table_oid: int
    table_schema: str
    table: str
    method: str
    opclass: str
    column: str | None
    """None for an expression."""

    definition: str
    options: dict[str, str]
    is_valid: bool
    is_ready: bool
    is_partitioned: bool
    is_being_built: bool
    size_bytes: int
    comment: str | None
    estimated_rows: int | None

    @property
    def quoted(self) -> str:
        return sql.Identifier(self.schema, self.name).as_string(None)

    @property
    def quoted_table(self) -> str:
        return sql.Identifier(self.table_schema, self.table).as_string(None)
