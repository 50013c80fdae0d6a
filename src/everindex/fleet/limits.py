"""The limits of a server that a fleet comes near to: its lock table, its memory for caching, its connections."""

from __future__ import annotations

from dataclasses import dataclass

from everindex.doctor.rules.locks_per_table import MANY_INDEXES
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.units import size_text

#: The most connections that one target takes at a time: the migration, its lock, the build, its lock, its progress, one to spare.
CONNECTIONS_OF_A_TARGET = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The limits of one server."""

    locks: int
    """Of the shared lock table: max_locks_per_transaction × (max_connections + max_prepared_transactions)."""

    max_connections: int
    free_connections: int
    """Those that a role without privileges may still open now."""

    cache_bytes: int
    """effective_cache_size: what the planner takes the memory for caching to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the targets of one server ask of it."""

    targets: int
    at_once: int
    vector_indexes: int
    """Of the table that has most of them, once the plan is done."""

    index_bytes: int
    """Of all vector indexes of these targets, once the plan is done."""


def read_room(connection: Connection) -> Room:
    """Reads only."""
    with translate_errors("reading the limits of the server"):
        row = connection.execute(
            """
            SELECT current_setting('max_locks_per_transaction')::int
                     * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int),
                   current_setting('max_connections')::int,
                   current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                     - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')::int,
                   (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'effective_cache_size')
                     * current_setting('block_size')::bigint
            """
        ).fetchone()
    assert row is not None
    return Room(locks=row[0], max_connections=row[1], free_connections=row[2], cache_bytes=row[3])


def remarks_of(room: Room, demand: Demand, *, server: str) -> tuple[str, ...]:
    """The limits that the demand reaches, as sentences; none if there is room."""
    said = []
    locks = demand.vector_indexes + 2  # the table and its primary key
    at_once = room.locks // locks
    if demand.vector_indexes > MANY_INDEXES or at_once < room.max_connections // 4:
        said.append(
            f"server {server}: a table would have {demand.vector_indexes} vector indexes, and every statement on it locks all of "
            f"them: the lock table of {room.locks} holds {at_once} such statements at once. Declare fewer "
            "(--tenant-rows, --max-tenant-indexes), or raise max_locks_per_transaction (requires a restart)."
        )
    if demand.index_bytes > room.cache_bytes:
        said.append(
            f"server {server}: the vector indexes of its {demand.targets} targets take {size_text(demand.index_bytes)}, and the "
            f"memory for caching is {size_text(room.cache_bytes)} (effective_cache_size): searches of tenants that are seldom "
            "used read from disk."
        )
    needed = demand.at_once * CONNECTIONS_OF_A_TARGET
    if room.free_connections < needed:
        said.append(
            f"server {server}: {max(room.free_connections, 0)} connections are free, and the work takes up to {needed}. Lower "
            "--per-server, or raise max_connections (requires a restart)."
        )
    return tuple(said)
