"""What is there? The declared table, its column and every vector index on it, as the catalog knows them. Reads only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from everindex.index.spec import DEFAULT_EF_CONSTRUCTION, DEFAULT_M, IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedIndex:
    """One index as pg_index and pg_class have it."""

    oid: int
    name: str
    method: str
    opclass: str
    column: str | None
    """None for an expression index."""

    predicate: str | None
    m: int
    ef_construction: int
    is_valid: bool
    is_ready: bool
    size_bytes: int
    definition: str
    builder_pid: int | None
    """The backend that is building it now, where one is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The declared table with all that concerns a vector index on it, in one look."""

    table_exists: bool
    is_partitioned: bool = False
    column_type: str | None = None
    dimensions: int | None = None
    estimated_rows: int = 0
    indexes: tuple[ObservedIndex, ...] = ()
    """Every hnsw and ivfflat index of the table, and the one of the declared name whatever it is."""

    name_taken_by: str | None = None
    """What bears the declared name without being an index of this table ("table public.x")."""


def observe(connection: Connection, spec: IndexSpec) -> Observed:
    """Looks at `spec`'s table in the current database. Reads only; takes ACCESS SHARE."""
    with told_as_ours("reading the catalog"):
        table = connection.execute(
            """
            SELECT c.oid, c.relkind, t.typname, nullif(a.atttypmod, -1),
                   CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint ELSE 0 END
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = %s AND NOT a.attisdropped
            LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
            WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'm')
            """,
            (spec.column, spec.schema, spec.table),
        ).fetchone()
        if table is None:
            return Observed(table_exists=False, name_taken_by=_name_taken_by(connection, spec, table_oid=0))
        return Observed(
            table_exists=True,
            is_partitioned=table[1] == "p",
            column_type=table[2],
            dimensions=table[3],
            estimated_rows=table[4],
            indexes=_indexes(connection, spec, table_oid=table[0]),
            name_taken_by=_name_taken_by(connection, spec, table_oid=table[0]),
        )


def in_search_path(connection: Connection, spec: IndexSpec) -> IndexSpec:
    """`spec` in the schema where its bare table name leads on this connection; unchanged where it leads nowhere.

    Reads only.
    """
    row = connection.execute(
        """
        SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = pg_catalog.to_regclass(pg_catalog.quote_ident(%s))
        """,
        (spec.table,),
    ).fetchone()
    return spec if row is None else replace(spec, schema=row[0])


def _indexes(connection: Connection, spec: IndexSpec, *, table_oid: int) -> tuple[ObservedIndex, ...]:
    # A builder is who reports progress on the index; a role that may not see that still sees who holds the table's
    # SHARE UPDATE EXCLUSIVE lock, which CREATE INDEX CONCURRENTLY keeps for all of its phases. Autovacuum has that lock
    # too, and is known by having no user: its backend_type is hidden from such a role.
    rows = connection.execute(
        """
        SELECT c.oid, c.relname, am.amname, opc.opcname, a.attname,
               pg_catalog.pg_get_expr(i.indpred, i.indrelid), c.reloptions, i.indisvalid, i.indisready,
               pg_catalog.pg_relation_size(c.oid), pg_catalog.pg_get_indexdef(c.oid),
               CASE WHEN NOT i.indisvalid THEN coalesce(
                   (SELECT p.pid FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = c.oid LIMIT 1),
                   (SELECT l.pid FROM pg_catalog.pg_locks l
                    WHERE l.locktype = 'relation' AND l.relation = i.indrelid AND l.granted
                      AND l.mode = 'ShareUpdateExclusiveLock'
                      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                      AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity v
                                      WHERE v.pid = l.pid AND v.usesysid IS NULL)
                    LIMIT 1)) END
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_am am ON am.oid = c.relam
        JOIN pg_catalog.pg_opclass opc ON opc.oid = i.indclass[0]
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = %s AND (am.amname IN ('hnsw', 'ivfflat') OR c.relname = %s)
        ORDER BY c.relname
        """,
        (table_oid, spec.name),
    ).fetchall()
    return tuple(
        ObservedIndex(
            oid=row[0],
            name=row[1],
            method=row[2],
            opclass=row[3],
            column=row[4],
            predicate=row[5],
            m=_option(row[6], "m", DEFAULT_M),
            ef_construction=_option(row[6], "ef_construction", DEFAULT_EF_CONSTRUCTION),
            is_valid=row[7],
            is_ready=row[8],
            size_bytes=row[9] or 0,
            definition=row[10],
            builder_pid=row[11],
        )
        for row in rows
    )


def _name_taken_by(connection: Connection, spec: IndexSpec, *, table_oid: int) -> str | None:
    row = connection.execute(
        """
        SELECT CASE c.relkind WHEN 'i' THEN 'an index on ' || i.indrelid::regclass::text WHEN 'r' THEN 'a table'
                              WHEN 'v' THEN 'a view' WHEN 'S' THEN 'a sequence' ELSE 'another relation' END
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
        WHERE n.nspname = %s AND c.relname = %s AND (i.indrelid IS NULL OR i.indrelid <> %s)
        """,
        (spec.schema, spec.name, table_oid),
    ).fetchone()
    return None if row is None else str(row[0])


def _option(reloptions: list[str] | None, name: str, default: int) -> int:
    for option in reloptions or []:
        key, _, value = option.partition("=")
        if key == name:
            return int(value)
    return default
