"""Adopted indexes: an application's own, which existed before everindex was attached; they are used, never renamed or dropped.

They are recorded in everindex_meta.found_index, so that detaching can tell them from ours. An adopted index that is as
declared stands for the declared index, under its own name. On a database that is not attached this module has no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import duplicates
from everindex.index.journal import BUILT_HERE, JOURNAL
from everindex.index.spec import IndexSpec
from everindex.pg.attachment import read_attachment
from everindex.pg.connections import Connection
from everindex.pg.index_catalog import OF_TABLE_AND_PARTITIONS, indexes_query
from everindex.pg.sqlstate import translate_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedIndex:
    """An index of the application, as it was when everindex was attached."""

    schema: str
    name: str
    table: str
    definition: str
    stands_for: str | None
    """The declared name that it is used instead of."""


def adopted_here(connection: Connection, spec: IndexSpec) -> IndexSpec:
    """`spec` under the name that its index has in this database: on an attached database an adopted index that is as declared
    stands for the declared one, as long as no index has the declared name. Reads only."""
    if read_attachment(connection) is None:
        return spec
    recorded = [
        found.name
        for found in adopted_indexes(connection)
        if (found.schema, found.table, found.stands_for) == (spec.schema, spec.table, spec.name)
    ]
    with translate_errors("reading which index stands for the declared one"):
        rows = connection.execute(
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = ANY(%s) AND c.relkind IN ('i', 'I')",
            (spec.schema, [spec.name, *recorded]),
        ).fetchall()
    there = {row[0] for row in rows}
    if spec.name in there:
        return spec
    if there:
        return replace(spec, name=min(there))
    others = duplicates(spec, observe(connection, spec))
    return replace(spec, name=others[0].name) if others else spec


def adopted_indexes(connection: Connection) -> tuple[AdoptedIndex, ...]:
    """The indexes that existed when everindex was attached; empty when that is not recorded or may not be read. Reads only."""
    with translate_errors("reading everindex_meta.found_index"):
        readable = connection.execute(
            "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') "
            "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'everindex_meta' AND c.relname = 'found_index'"
        ).fetchone()
        if readable is None or not readable[0]:
            return ()
        rows = connection.execute(
            "SELECT index_schema, index_name, index_table, definition, stands_for FROM everindex_meta.found_index "
            "ORDER BY index_schema, index_name"
        ).fetchall()
    return tuple(
        AdoptedIndex(schema=row[0], name=row[1], table=row[2], definition=row[3], stands_for=row[4]) for row in rows
    )


def record_found(connection: Connection, declared: Sequence[IndexSpec]) -> None:
    """Records every index of the declared tables and their partitions, except those that everindex built (by the journal).

    Must be called once, before anything is built. Raises PermissionDenied.
    """
    with translate_errors("recording the indexes of others"):
        for spec in declared:
            others = duplicates(spec, observe(connection, spec))
            connection.execute(
                sql.SQL(
                    """
                    INSERT INTO everindex_meta.found_index (index_schema, index_name, index_table, definition, stands_for)
                    SELECT i.schema, i.name, i.table, i.definition,
                           CASE WHEN (i.name, i.table_schema, i.table) = (%(other)s, %(schema)s, %(table)s) THEN %(name)s END
                    FROM ({indexes}) AS i
                    WHERE NOT ({built_here})
                    ON CONFLICT (index_schema, index_name) DO NOTHING
                    """
                ).format(
                    indexes=sql.SQL(indexes_query(OF_TABLE_AND_PARTITIONS)),
                    built_here=BUILT_HERE.format(journal=JOURNAL),
                ),
                {
                    "schema": spec.schema,
                    "table": spec.table,
                    "name": spec.name,
                    "other": others[0].name if others else None,
                },
            )
