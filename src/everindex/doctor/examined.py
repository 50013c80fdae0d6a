"""What does a rule look at? One database: its server, its vector indexes and their tables, each read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import psycopg
from psycopg import sql

from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import Capabilities
from everindex.pg.connections import Connection


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


@dataclass(kw_only=True)
class Examined:
    """A database under examination. Every property is read at its first use and kept; all of them only read."""

    connection: Connection
    capabilities: Capabilities
    declared: tuple[IndexSpec, ...] = ()
    """The indexes that the application declares; empty where none are known."""

    max_seconds: float = 2.0
    """Time limit of one statement: a rule that reads rows samples them, and says so."""

    _settings: dict[str, str] = field(default_factory=dict)

    def setting(self, name: str) -> str | None:
        """A server setting as SHOW prints it; None where this server has no setting of that name."""
        if name not in self._settings:
            row = self.connection.execute("SELECT current_setting(%s, true)", (name,)).fetchone()
            self._settings[name] = "" if row is None or row[0] is None else str(row[0])
        return self._settings[name] or None

    def rows(self, statement: str | sql.Composed, parameters: Any = None) -> list[tuple[Any, ...]]:
        """The rows of a reading statement within the time limit. Raises psycopg.Error; the caller of the rule makes
        `unknown` of it."""
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(
                "SELECT set_config('statement_timeout', %s, true)", (str(int(self.max_seconds * 1000)),)
            )
            self.connection.execute("SET TRANSACTION READ ONLY")
            return self.connection.execute(statement, parameters).fetchall()

    def row(self, statement: str | sql.Composed, parameters: Any = None) -> tuple[Any, ...]:
        """The first row. Raises psycopg.Error as `rows`, and psycopg.DataError where there is none."""
        found = self.rows(statement, parameters)
        if not found:
            raise psycopg.DataError("no row")
        return found[0]

    @cached_property
    def tables(self) -> tuple[VectorTable, ...]:
        """Every table with a vector column outside of the system's schemas, by name."""
        return tuple(
            VectorTable(
                oid=row[0],
                schema=row[1],
                name=row[2],
                column=row[3],
                column_type=row[4],
                dimensions=row[5],
                relkind=row[6],
                is_partition=row[7],
                estimated_rows=row[8],
            )
            for row in self.rows(
                """
                SELECT c.oid, n.nspname, c.relname, a.attname, t.typname, nullif(a.atttypmod, -1), c.relkind::text,
                       c.relispartition, CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END
                FROM pg_catalog.pg_attribute a
                JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid
                     AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
                JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'vector'
                WHERE c.relkind IN ('r', 'p', 'm') AND NOT a.attisdropped AND a.attnum > 0
                  AND c.relpersistence <> 't'
                ORDER BY n.nspname, c.relname, a.attnum
                """
            )
        )

    @cached_property
    def indexes(self) -> tuple[VectorIndex, ...]:
        """Every hnsw and ivfflat index of the database, by table and name."""
        return tuple(
            VectorIndex(
                oid=row[0],
                schema=row[1],
                name=row[2],
                table_oid=row[3],
                table_schema=row[4],
                table=row[5],
                method=row[6],
                opclass=row[7],
                column=row[8],
                definition=row[9],
                options=dict(option.partition("=")[::2] for option in row[10] or []),
                is_valid=row[11],
                is_ready=row[12],
                is_partitioned=row[13],
                is_being_built=row[14],
                size_bytes=row[15] or 0,
                comment=row[16],
                estimated_rows=row[17],
            )
            for row in self.rows(
                """
                SELECT c.oid, n.nspname, c.relname, tc.oid, tn.nspname, tc.relname, am.amname, opc.opcname, a.attname,
                       pg_catalog.pg_get_indexdef(c.oid), c.reloptions, i.indisvalid, i.indisready, c.relkind = 'I',
                       EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p
                               WHERE p.index_relid = c.oid
                                  OR (p.relid = tc.oid AND p.datname = current_database() AND p.index_relid = 0)),
                       pg_catalog.pg_relation_size(c.oid), pg_catalog.obj_description(c.oid, 'pg_class'),
                       CASE WHEN tc.reltuples >= 0 THEN tc.reltuples::bigint END
                FROM pg_catalog.pg_index i
                JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid
                JOIN pg_catalog.pg_namespace tn ON tn.oid = tc.relnamespace
                JOIN pg_catalog.pg_am am ON am.oid = c.relam
                JOIN pg_catalog.pg_opclass opc ON opc.oid = i.indclass[0]
                LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE am.amname IN ('hnsw', 'ivfflat') AND c.relpersistence <> 't'
                ORDER BY tn.nspname, tc.relname, c.relname
                """
            )
        )

    def table_of(self, index: VectorIndex) -> VectorTable | None:
        """The table of an index, where its column is of a vector type."""
        found = [table for table in self.tables if table.oid == index.table_oid]
        return next((table for table in found if table.column == index.column), found[0] if found else None)
