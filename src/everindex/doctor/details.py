"""Storage options and statistics counters of vector tables and vector indexes, read from the catalog. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.pg.index_catalog import table_oid_of

#: `Examined.rows`: runs a reading statement within the time limit.
Read = Callable[[sql.Composed], list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDetails:
    """One table. The counters (pg_stat_get_*) start at the last reset of the statistics."""

    size_bytes: int
    """Size of the main part; long vectors are stored in the TOAST part."""

    toast_bytes: int
    options: dict[str, str]
    """Storage parameters; names of those of the TOAST part begin with `toast.`."""

    is_unlogged: bool
    live_rows: int
    dead_rows: int
    modified_since_analyze: int
    updates: int
    hot_updates: int
    inserts: int
    has_statistics: bool | None
    """Whether the planner has statistics of a column; None when this role may not see them."""

    @property
    def was_counted(self) -> bool:
        """False after a crash, a reset or a copy of the database, until something is written; until then, zero means nothing."""
        return bool(self.live_rows or self.dead_rows or self.modified_since_analyze or self.updates or self.inserts)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDetails:
    """One vector index. The counters start at the last reset of the statistics and cover this server only."""

    columns: frozenset[str]
    """Every column that the index depends on, including those in its expression and predicate."""

    element_type: str
    """vector, halfvec, bit or sparsevec: the type that the index holds, after a cast."""

    dimensions: int | None
    rows: int | None
    """Number of entries at the last VACUUM, ANALYZE or build; None when unknown."""

    scans: int
    blocks_read: int
    """Blocks of 8 kB that were not in shared_buffers."""

    blocks_found: int
    tail: str
    """The definition from `USING` on."""


def read_table_details(read: Read, oids: Sequence[int]) -> dict[int, TableDetails]:
    """Reads only; takes ACCESS SHARE on each table for its size."""
    if not oids:
        return {}
    return {
        row[0]: TableDetails(
            size_bytes=row[1] or 0,
            toast_bytes=row[2] or 0,
            options=_options(row[3]) | {f"toast.{name}": value for name, value in _options(row[4]).items()},
            is_unlogged=row[5],
            live_rows=row[6],
            dead_rows=row[7],
            modified_since_analyze=row[8],
            updates=row[9],
            hot_updates=row[10],
            has_statistics=row[11],
            inserts=row[12],
        )
        for row in read(
            sql.SQL(
                """
                SELECT c.oid, pg_catalog.pg_relation_size(c.oid), pg_catalog.pg_relation_size(t.oid), c.reloptions,
                       t.reloptions, c.relpersistence = 'u', pg_catalog.pg_stat_get_live_tuples(c.oid),
                       pg_catalog.pg_stat_get_dead_tuples(c.oid), pg_catalog.pg_stat_get_mod_since_analyze(c.oid),
                       pg_catalog.pg_stat_get_tuples_updated(c.oid), pg_catalog.pg_stat_get_tuples_hot_updated(c.oid),
                       CASE WHEN pg_catalog.has_table_privilege(c.oid, 'SELECT')
                                 AND NOT pg_catalog.row_security_active(c.oid)
                            THEN EXISTS (SELECT FROM pg_catalog.pg_stats s
                                         WHERE s.schemaname = n.nspname AND s.tablename = c.relname) END,
                       pg_catalog.pg_stat_get_tuples_inserted(c.oid)
                FROM pg_catalog.pg_class c
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
                WHERE c.oid = ANY({oids})
                """
            ).format(oids=sql.Literal(list(oids)))
        )
    }


def read_index_details(read: Read, oids: Sequence[int]) -> dict[int, IndexDetails]:
    """Reads only; takes ACCESS SHARE on catalogs."""
    if not oids:
        return {}
    return {
        row[0]: IndexDetails(
            columns=frozenset(row[1]),
            element_type=row[2],
            dimensions=row[3],
            rows=row[4],
            scans=row[5],
            blocks_read=row[6] - row[7],
            blocks_found=row[7],
            tail=row[8],
        )
        for row in read(
            # pg_get_indexdef begins with the names of the index and the table, quoted as by %I. Cutting the prefix off by its
            # length is safe for any name, including one that contains "USING".
            sql.SQL(
                """
                SELECT c.oid,
                       ARRAY(SELECT DISTINCT a.attname::text
                             FROM pg_catalog.pg_depend d
                             JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                             WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                               AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                               AND d.refobjid = tc.oid AND d.refobjsubid > 0),
                       t.typname, CASE WHEN ia.atttypmod > 0 THEN ia.atttypmod END,
                       CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END,
                       pg_catalog.pg_stat_get_numscans(c.oid), pg_catalog.pg_stat_get_blocks_fetched(c.oid),
                       pg_catalog.pg_stat_get_blocks_hit(c.oid),
                       substr(pg_catalog.pg_get_indexdef(c.oid), 1 + length(pg_catalog.format(
                           CASE c.relkind WHEN 'I' THEN 'CREATE INDEX %I ON ONLY %I.%I ' ELSE 'CREATE INDEX %I ON %I.%I ' END,
                           c.relname, n.nspname, tc.relname)))
                FROM pg_catalog.pg_class c
                JOIN pg_catalog.pg_class tc ON tc.oid = {table}
                JOIN pg_catalog.pg_namespace n ON n.oid = tc.relnamespace
                JOIN pg_catalog.pg_attribute ia ON ia.attrelid = c.oid AND ia.attnum = 1
                JOIN pg_catalog.pg_type t ON t.oid = ia.atttypid
                WHERE c.oid = ANY({oids})
                """
            ).format(oids=sql.Literal(list(oids)), table=sql.SQL(table_oid_of("c.oid")))
        )
    }


def _options(reloptions: Sequence[str] | None) -> dict[str, str]:
    return dict(option.partition("=")[::2] for option in reloptions or [])
