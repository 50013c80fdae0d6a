"""The session settings of a build: memory and workers, from the footprint of its graph and the limits of the server."""

from __future__ import annotations

from dataclasses import dataclass

from everindex.index.build.footprint import graph_bytes
from everindex.pg.capabilities import Capabilities
from everindex.pg.connections import Connection
from everindex.units import MIB

#: Factor on top of the formula, for a table that grows while it is being indexed.
HEADROOM = 1.15
#: Memory that a build may use on a server that only has PostgreSQL's default settings.
CAP_UNCONFIGURED = 1024 * MIB
#: CVE-2026-3172: parallel HNSW builds of pgvector 0.6.0 to 0.8.1 may read other relations' memory; 0.8.2 has the fix.
UNSAFE_PARALLEL = ((0, 6, 0), (0, 8, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """Session settings of one build, with the estimate that they are based on."""

    maintenance_work_mem_bytes: int
    needed_bytes: int
    parallel_workers: int

    @property
    def fits(self) -> bool:
        """True when the whole graph is expected to fit into maintenance_work_mem."""
        return self.needed_bytes <= self.maintenance_work_mem_bytes

    def as_settings(self) -> dict[str, str]:
        return {
            "maintenance_work_mem": f"{self.maintenance_work_mem_bytes // 1024}kB",
            "max_parallel_maintenance_workers": str(self.parallel_workers),
            # With TOASTed vectors the heap is small, often below the 8 MB from which on PostgreSQL builds in parallel.
            "min_parallel_table_scan_size": "0",
            "client_min_messages": "notice",
        }


def choose_settings(
    *,
    rows: int,
    dimensions: int,
    m: int,
    key_type: str = "vector",
    current_bytes: int,
    cap_bytes: int,
    server_workers: int,
    parallel_is_safe: bool,
) -> BuildSettings:
    """The settings for this build; never less memory than the server's own setting, never more than the cap."""
    needed = int(graph_bytes(rows=rows, dimensions=dimensions, m=m, key_type=key_type) * HEADROOM) + 4 * MIB
    chosen = max(current_bytes, min(needed, cap_bytes))
    # pgvector needs 32 MB of maintenance_work_mem for each participant, including the leader.
    workers = min(server_workers, max(0, chosen // (32 * MIB) - 1)) if parallel_is_safe else 0
    return BuildSettings(maintenance_work_mem_bytes=chosen, needed_bytes=needed, parallel_workers=workers)


def settings_for(
    connection: Connection,
    found: Capabilities,
    *,
    table_rows: int,
    dimensions: int,
    m: int,
    key_type: str = "vector",
    memory_share: float = 0.5,
) -> BuildSettings:
    """Reads the server's own settings and chooses. Reads only."""
    row = connection.execute(
        """
        SELECT (SELECT setting::bigint * 1024 FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem'),
               (SELECT setting::bigint * 8192 FROM pg_catalog.pg_settings WHERE name = 'effective_cache_size'),
               (SELECT source <> 'default' FROM pg_catalog.pg_settings WHERE name = 'effective_cache_size'),
               current_setting('max_parallel_maintenance_workers')::int,
               current_setting('max_parallel_workers')::int
        """
    ).fetchone()
    assert row is not None
    current, cache, cache_is_configured, workers, parallel_limit = row
    # effective_cache_size is the operator's figure for this server's memory; one build may use a share of it.
    cap = int(cache * memory_share) if cache_is_configured else CAP_UNCONFIGURED
    version = found.extension_version or (0,)
    return choose_settings(
        rows=table_rows,
        dimensions=dimensions,
        m=m,
        key_type=key_type,
        current_bytes=current,
        cap_bytes=cap,
        server_workers=min(workers, parallel_limit),
        parallel_is_safe=not UNSAFE_PARALLEL[0] <= version < UNSAFE_PARALLEL[1],
    )
