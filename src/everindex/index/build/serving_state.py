"""The state of a declared index for searches: valid, being built, invalid or missing.

A build that does not affect the serving index is not a state of it: an index that serves is `valid` while its successor is
built.
"""

from __future__ import annotations

from typing import Literal

from everindex.index.catalog.observed import Observed
from everindex.index.catalog.roles import declared_index, serving_spec
from everindex.index.plan.partitions import broken_parts
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection

IndexState = Literal["valid", "building", "invalid", "missing"]
WORST_FIRST: tuple[IndexState, ...] = ("missing", "invalid", "building", "valid")


def index_state(connection: Connection, spec: IndexSpec, observed: Observed) -> tuple[IndexState, float | None]:
    """The state of the index for searches, and the percentage of a running build."""
    serving = serving_spec(spec, observed)
    if serving is not None:
        return ("valid" if not broken_parts(observed, serving[1]) else "invalid"), None
    found = declared_index(spec, observed)
    row = connection.execute(
        """
        SELECT CASE WHEN p.blocks_total > 0 THEN round(100.0 * p.blocks_done / p.blocks_total, 1) END::float8
        FROM pg_catalog.pg_stat_progress_create_index p
        WHERE p.relid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s::text, %s::text))
        """,
        (spec.schema, spec.table),
    ).fetchone()
    if row is not None or (found is not None and found.builder_pid is not None):
        return "building", row[0] if row else None
    return ("missing", None) if found is None or found.method != "hnsw" else ("invalid", None)
