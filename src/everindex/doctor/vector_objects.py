"""Tables with a vector column, as the doctor's rules use them: plain data, read by `Examined`."""

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
    """None when the table was never analyzed."""

    @property
    def quoted(self) -> str:
        return sql.Identifier(self.schema, self.name).as_string(None)

    @property
    def quoted_column(self) -> str:
        return sql.Identifier(self.column).as_string(None)
