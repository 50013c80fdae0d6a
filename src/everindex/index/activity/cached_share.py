"""How much of an index is in PostgreSQL's shared buffers, where pg_buffercache can be read.

pg_buffercache looks at every buffer once and takes no lock that a search waits for (PostgreSQL documentation, pg_buffercache); it
is given SECONDS, and what is not known has a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from everindex.pg.connections import Connection

MILLISECONDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedShare:
    """The bytes of an index in shared buffers."""

    cached_bytes: int | None
    """None where it is not known."""

    index_bytes: int
    buffers_bytes: int
    why_unknown: str | None = None


def read_cached_share(connection: Connection, oids: Sequence[int], *, index_bytes: int) -> CachedShare:
    """Of the indexes with these oids together. Reads only. Raises nothing but what a lost connection raises."""
    row = connection.execute(
        """
        SELECT current_setting('block_size')::int8, s.setting::int8, n.nspname,
               EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'pg_buffercache')
        FROM pg_catalog.pg_settings s
        LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_buffercache'
        LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
        WHERE s.name = 'shared_buffers'
        """
    ).fetchone()
    assert row is not None  # every server has shared_buffers
    block, buffers, schema, is_available = row

    def unknown(why: str) -> CachedShare:
        return CachedShare(cached_bytes=None, index_bytes=index_bytes, buffers_bytes=block * buffers, why_unknown=why)

    if schema is None:
        if not is_available:
            return unknown("the server's installation has no pg_buffercache (one of PostgreSQL's contrib modules)")
        return unknown("the extension pg_buffercache is not created:  CREATE EXTENSION pg_buffercache")
    try:
        with connection.transaction():
            connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, true)", (str(MILLISECONDS),))
            counted = connection.execute(
                sql.SQL(
                    "SELECT count(*) FROM {} b WHERE b.reldatabase = (SELECT oid FROM pg_catalog.pg_database "
                    "WHERE datname = current_database()) AND b.relfilenode IN "
                    "(SELECT pg_catalog.pg_relation_filenode(o) FROM unnest(%s::oid[]) o)"
                ).format(sql.Identifier(schema, "pg_buffercache")),
                (list(oids),),
            ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return unknown("this role may not read pg_buffercache:  GRANT pg_monitor")
    except psycopg.errors.QueryCanceled:
        return unknown(f"reading all buffers takes longer than {MILLISECONDS} ms")
    assert counted is not None  # a count
    return CachedShare(cached_bytes=counted[0] * block, index_bytes=index_bytes, buffers_bytes=block * buffers)
