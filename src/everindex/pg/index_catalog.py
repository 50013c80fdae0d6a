"""The indexes of a database as the catalog has them: the one query of pg_index, with a condition, and its row type.

It decides nothing: which of several signs of a running build counts, and what an index means, is the reader's. Reads only;
takes no lock on the indexes, so one that is dropped meanwhile makes PostgreSQL raise XX000 ("cache lookup failed").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql

from everindex.pg.connections import Connection

#: Of a lock `l` of pg_locks: a session at work on the whole of a table of this database has it. CREATE INDEX CONCURRENTLY,
#: REINDEX, DROP INDEX CONCURRENTLY and VACUUM take SHARE UPDATE EXCLUSIVE, which every role may see. Autovacuum takes it too,
#: gives way to whoever waits, and is known by having no user: its backend_type is hidden from most roles.
IS_MAINTENANCE: LiteralString = """l.locktype = 'relation' AND l.granted AND l.mode = 'ShareUpdateExclusiveLock'
           AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity v WHERE v.pid = l.pid AND v.usesysid IS NULL)"""
#: The oids of all tables that somebody is at work on.
TABLES_AT_WORK: LiteralString = f"SELECT l.relation FROM pg_catalog.pg_locks l WHERE {IS_MAINTENANCE}"  # noqa: S608

#: An INVALID index is built by who reports progress on it; a role that may not see that still sees who is at work on the
#: table, since CREATE INDEX CONCURRENTLY keeps its lock for all of its phases. A partitioned index is never built itself, and
#: stays INVALID until the last partition is attached.
BUILDER_PID: LiteralString = f"""
    CASE WHEN NOT i.indisvalid AND c.relkind = 'i' THEN coalesce(
        (SELECT p.pid FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = c.oid LIMIT 1),
        (SELECT l.pid FROM pg_catalog.pg_locks l WHERE l.relation = i.indrelid AND {IS_MAINTENANCE} LIMIT 1)) END"""  # noqa: S608

#: What costs a subquery or a function each, beside the columns that every reader has: NULL unless it is requested.
Extra = Literal[
    "operator", "key", "dimensions", "root", "size_bytes", "builder_pid", "is_in_progress", "is_first_build_in_progress"
]
_EXTRAS: dict[Extra, LiteralString] = {
    "operator": """(SELECT o.oprname::text FROM pg_catalog.pg_amop ao JOIN pg_catalog.pg_operator o ON o.oid = ao.amopopr
        WHERE ao.amopfamily = opc.opcfamily AND ao.amoppurpose = 'o' LIMIT 1)""",
    "key": "pg_catalog.pg_get_indexdef(c.oid, 1, false)",
    "dimensions": """(SELECT nullif(ka.atttypmod, -1) FROM pg_catalog.pg_attribute ka
        WHERE ka.attrelid = c.oid AND ka.attnum = 1)""",
    "root": "(SELECT r.relname::text FROM pg_catalog.pg_class r WHERE r.oid = pg_catalog.pg_partition_root(c.oid))",
    "size_bytes": "pg_catalog.pg_relation_size(c.oid)",
    "builder_pid": BUILDER_PID,
    "is_in_progress": """EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = c.oid)""",
    "is_first_build_in_progress": """EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p
               WHERE p.relid = t.oid AND p.datname = current_database() AND p.index_relid = 0)""",
}
#: The fields of CatalogIndex that every reader has. Names as text: a driver may know no type "name".
_COLUMNS: dict[str, LiteralString] = {
    "oid": "c.oid",
    "schema": "(SELECT n.nspname::text FROM pg_catalog.pg_namespace n WHERE n.oid = c.relnamespace)",
    "name": "c.relname::text",
    "table_oid": "t.oid",
    "table_schema": "(SELECT n.nspname::text FROM pg_catalog.pg_namespace n WHERE n.oid = t.relnamespace)",
    "table": "t.relname::text",
    "method": "am.amname::text",
    "opclass": "opc.opcname::text",
    "column": "a.attname::text",
    "expression": "pg_catalog.pg_get_expr(i.indexprs, i.indrelid)",
    "predicate": "pg_catalog.pg_get_expr(i.indpred, i.indrelid)",
    "options": "c.reloptions",
    "is_valid": "i.indisvalid",
    "is_ready": "i.indisready",
    "is_unique": "i.indisunique",
    "is_primary": "i.indisprimary",
    "is_partitioned": "c.relkind = 'I'",
    "parent_oid": "(SELECT h.inhparent FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid)",
    "definition": "pg_catalog.pg_get_indexdef(c.oid)",
    "comment": "pg_catalog.obj_description(c.oid, 'pg_class')",
    "filenode": "c.relfilenode::bigint",
    "estimated_rows": "CASE WHEN t.reltuples >= 0 THEN t.reltuples::bigint END",
}
_FROM: LiteralString = """
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
JOIN pg_catalog.pg_am am ON am.oid = c.relam
JOIN pg_catalog.pg_opclass opc ON opc.oid = i.indclass[0]
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
"""

#: A condition, with psycopg's placeholders: the index is on table %(schema)s.%(table)s or on a partition of it, at any depth.
OF_TABLE_AND_PARTITIONS: LiteralString = """i.indrelid IN (
    SELECT of_tree.relid FROM pg_catalog.pg_class declared
    JOIN pg_catalog.pg_namespace d ON d.oid = declared.relnamespace
    CROSS JOIN LATERAL (SELECT declared.oid AS relid UNION
                        SELECT p.relid FROM pg_catalog.pg_partition_tree(declared.oid) p) AS of_tree
    WHERE d.nspname = %(schema)s AND declared.relname = %(table)s)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogIndex:
    """One index of any method: what is said of its key is said of the first one."""

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

    expression: str | None
    """As pg_get_expr prints it; None for an index of plain columns."""

    predicate: str | None
    options: tuple[str, ...]
    """`reloptions`, such as `m=16`."""

    is_valid: bool
    is_ready: bool
    is_unique: bool
    is_primary: bool
    """Of a primary key."""

    is_partitioned: bool
    parent_oid: int | None
    """The index of the partitioned table above it, which it is attached to."""

    definition: str
    comment: str | None
    filenode: int
    estimated_rows: int | None
    """Of its table; None where that was never analyzed."""

    operator: str | None
    """One that the index orders by; None for a method that does not order, such as btree."""

    key: str | None
    """The column or expression as pg_get_indexdef prints it, the latter in parentheses."""

    dimensions: int | None
    """The width of what is indexed; None for a type without one."""

    root: str | None
    """The name of the topmost index that it is a part of; None where it neither is partitioned nor a part."""

    size_bytes: int
    """0 unless requested. To read it waits for whoever holds ACCESS EXCLUSIVE on the index; the rest waits for nobody."""

    builder_pid: int | None
    """The backend that builds it, told by its progress, else by its lock; None for a valid one (`BUILDER_PID`)."""

    is_in_progress: bool
    """A build or rebuild of it reports progress, as far as this role may see."""

    is_first_build_in_progress: bool
    """A CREATE INDEX on its table that is not concurrent reports progress, which does not say of which index."""

    @property
    def quoted(self) -> str:
        """Its name with its schema, as SQL reads it."""
        return sql.Identifier(self.schema, self.name).as_string(None)

    @property
    def quoted_table(self) -> str:
        return sql.Identifier(self.table_schema, self.table).as_string(None)

    @property
    def is_attached(self) -> bool:
        """A part of the index of a partitioned table: it comes and goes with that."""
        return self.parent_oid is not None

    @property
    def is_being_built(self) -> bool:
        """Progress is reported, as far as this role may see and the reader has requested it."""
        return self.is_in_progress or self.is_first_build_in_progress

    def option(self, name: str, default: int) -> int:
        """A whole number among the options."""
        for option in self.options:
            key, _, value = option.partition("=")
            if key == name and value.isdigit():
                return int(value)
        return default


def indexes_query(where: LiteralString, *extras: Extra) -> LiteralString:
    """The query; its columns are the fields of CatalogIndex, its rows come by the names of table and index.

    `where` is a condition on pg_index `i`, on pg_class of the index (`c`) and of its table (`t`), and on pg_am `am`, with
    whatever placeholders the caller's driver has.
    """
    chosen = _COLUMNS | {name: _EXTRAS[name] if name in extras else "NULL" for name in _EXTRAS}
    columns = ",\n       ".join(f'{expression} AS "{name}"' for name, expression in chosen.items())
    return f"SELECT {columns}{_FROM}WHERE {where}\nORDER BY t.relname, c.relname"


def catalog_indexes(rows: Iterable[Sequence[Any]]) -> tuple[CatalogIndex, ...]:
    """The rows of that query."""
    return tuple(_catalog_index(dict(zip(_FIELDS, row, strict=True))) for row in rows)


_FIELDS = (*_COLUMNS, *_EXTRAS)


def _catalog_index(values: dict[str, Any]) -> CatalogIndex:
    values["options"] = tuple(values["options"] or ())
    values["size_bytes"] = values["size_bytes"] or 0
    for name in ("is_in_progress", "is_first_build_in_progress"):
        values[name] = bool(values[name])
    return CatalogIndex(**values)


def find_index(connection: Connection, schema: str, name: str, *extras: Extra) -> CatalogIndex | None:
    """The index of that name, of whatever method; None where none has it. Reads only; outside of a transaction.

    Raises psycopg.Error.
    """
    query, parameters = indexes_query(_OF_NAME, *extras), (name, schema)
    try:
        rows = connection.execute(query, parameters).fetchall()
    except psycopg.errors.InternalError_:
        rows = connection.execute(query, parameters).fetchall()  # it was dropped while it was looked at
    return next(iter(catalog_indexes(rows)), None)


_OF_NAME: LiteralString = """c.relname = %s AND c.relnamespace = (
    SELECT s.oid FROM pg_catalog.pg_namespace s WHERE s.nspname = %s)"""


def table_oid_of(index_oid: LiteralString) -> LiteralString:
    """The oid of the table of an index, as a subquery; NULL where `index_oid`, an SQL expression, is of no index."""
    return f"(SELECT one.indrelid FROM pg_catalog.pg_index one WHERE one.indexrelid = {index_oid})"  # noqa: S608
