"""Rule: the graph of an HNSW index fits into the memory that a rebuild would have (`index.build.footprint`)."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.index.build.footprint import graph_bytes
from everindex.index.build.memory import HEADROOM
from everindex.index.spec import DEFAULT_M
from everindex.pg.index_catalog import CatalogIndex
from everindex.units import size_setting, size_text


def check(examined: Examined) -> Iterator[RuleResult]:
    declared = {(spec.schema, spec.name) for spec in examined.declared}
    # For declared indexes everindex sets the memory of each build itself.
    indexes = [
        index for index in examined.indexes if index.method == "hnsw" and (index.schema, index.name) not in declared
    ]
    if not indexes:
        return
    memory = examined.bytes_of("maintenance_work_mem")
    for index in indexes:
        needed = needed_bytes(examined, index)
        if needed is None:
            yield unknown(
                f"index {index.quoted}: the memory of a build is unknown; run ANALYZE {index.quoted_table} to count its rows",
                about=index.quoted,
            )
        elif needed <= memory:
            yield good(
                f"index {index.quoted} can be rebuilt in {size_text(memory)} of maintenance_work_mem",
                about=index.quoted,
            )
        else:
            yield finding(
                f"index {index.quoted} needs {size_text(needed)} to be rebuilt in memory ({index.estimated_rows} rows), "
                f"maintenance_work_mem is {size_text(memory)}",
                about=index.quoted,
                fix=Fix(
                    statements=(f"SET maintenance_work_mem = '{size_setting(needed)}'",),
                    advice="in the session that rebuilds it, if that is at most half of the machine's free memory.",
                ),
            )


def needed_bytes(examined: Examined, index: CatalogIndex) -> int | None:
    """Memory of a build of this index, with room to grow; None when rows or dimensions are unknown."""
    table = examined.table_of(index)
    if table is None or table.dimensions is None or index.estimated_rows is None:
        return None
    kind = index.opclass.partition("_")[0]
    if kind not in ("vector", "halfvec", "bit"):
        return None  # the values of a sparsevec column differ in size
    m = index.option("m", DEFAULT_M)
    graph = graph_bytes(rows=index.estimated_rows, dimensions=table.dimensions, m=m, key_type=kind)
    return int(graph * HEADROOM)


RULE = Rule(
    slug="maintenance-work-mem-small",
    severity="warning",
    title="HNSW graphs fit into maintenance_work_mem",
    reason="a graph that no longer fits is built on disk, two to five times slower: each row takes the bytes of its vector + 32 "
    "× m + 205 (measured within 1 %; pgvector README, Indexing Progress and `hnsw graph no longer fits`).",
    check=check,
)
