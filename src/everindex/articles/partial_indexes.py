"""The partial vector indexes that a database declares, each for one filter of the articles or of a collection.

A declaration is a row of `everindex_meta.partial_index`: the filter as it was given, and the predicate that it stands for. The
index itself is built (`partial_deploy`), proven and kept like every other; a search under exactly that filter goes through it.

Every command reads the declarations, so nothing of searches is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from psycopg.types.json import Json

from everindex.index.spec import IndexSpec
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialIndex:
    """One declaration."""

    schema: str
    table: str
    name: str
    filters: Mapping[str, Any]
    predicate: str

    def as_declared(self, whole: IndexSpec) -> IndexSpec:
        """The index, beside the one of all rows."""
        return replace(
            whole, name=self.name, schema=self.schema, table=self.table, predicate=self.predicate, is_located=True
        )

    @property
    def words(self) -> str:
        """The filter as it is given to a command."""
        return json.dumps(self.filters, ensure_ascii=False)


def read_partial_indexes(connection: Connection, table: tuple[str, str] | None = None) -> list[PartialIndex]:
    """The declarations of this database, or of one table (schema, name), by name; none without the schema, or the right to read
    it. Reads only."""
    with translate_errors("reading the partial indexes"):
        if not own_schema.is_readable(connection, "partial_index"):
            return []
        rows = connection.execute(
            "SELECT table_schema, table_name, index_name, filters, predicate FROM everindex_meta.partial_index "
            "WHERE %(schema)s::text IS NULL OR (table_schema, table_name) = (%(schema)s::text, %(table)s::text) "
            "ORDER BY table_schema, index_name",
            {"schema": table and table[0], "table": table and table[1]},
        ).fetchall()
    return [PartialIndex(schema=row[0], table=row[1], name=row[2], filters=row[3], predicate=row[4]) for row in rows]


def record_partial_index(connection: Connection, declared: PartialIndex) -> None:
    """Records it; one that is recorded stays as it is. Raises PermissionDenied."""
    with translate_errors("recording a partial index"):
        connection.execute(
            "INSERT INTO everindex_meta.partial_index (table_schema, table_name, index_name, filters, predicate) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (table_schema, index_name) DO NOTHING",
            (
                declared.schema, declared.table, declared.name,
                Json(declared.filters, dumps=lambda filters: json.dumps(filters, default=str)), declared.predicate,
            ),
        )  # fmt: skip


def forget_partial_index(connection: Connection, declared: PartialIndex) -> bool:
    """Deletes the record; False where there was none."""
    with translate_errors("forgetting a partial index"):
        return (
            connection.execute(
                "DELETE FROM everindex_meta.partial_index WHERE (table_schema, index_name) = (%s, %s)",
                (declared.schema, declared.name),
            ).rowcount
            > 0
        )


def forget_partial_indexes(connection: Connection, table: tuple[str, str]) -> None:
    """Deletes all records of a table (schema, name), in the caller's transaction."""
    with translate_errors("forgetting partial indexes"):
        if own_schema.is_readable(connection, "partial_index"):
            connection.execute(
                "DELETE FROM everindex_meta.partial_index WHERE (table_schema, table_name) = (%s, %s)", table
            )
