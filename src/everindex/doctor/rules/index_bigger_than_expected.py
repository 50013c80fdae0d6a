"""Rule: no HNSW index takes more than twice the disk of a fresh index over its rows (`index.build.footprint`)."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.index.build.footprint import index_bytes, row_bytes
from everindex.index.spec import DEFAULT_M
from everindex.units import MIB, count_text, size_text

TIMES = 2.0
#: Below this a few half-empty pages make any ratio.
BIG_BYTES = 4 * MIB


def check(examined: Examined) -> Iterator[RuleResult]:
    for index in examined.settled_indexes:
        details = examined.index_details[index.oid]
        if index.method != "hnsw" or index.is_partitioned or index.size_bytes < BIG_BYTES:
            continue
        m = index.option("m", DEFAULT_M)
        # Entries of a partial index are counted on their own; else the table's are fresher.
        rows = details.rows if index.predicate else index.estimated_rows
        if details.dimensions is None or rows is None or details.element_type == "sparsevec":
            # Of a sparsevec every value has its own width.
            yield unknown(
                f"index {index.quoted}: its rows are not known, ANALYZE {index.quoted_table}", about=index.quoted
            )
            continue
        expected = index_bytes(rows=rows, dimensions=details.dimensions, m=m, key_type=details.element_type)
        has = f"index {index.quoted} takes {size_text(index.size_bytes)} for about {count_text(rows, 'row')}"
        if index.size_bytes <= TIMES * expected:
            yield good(f"{has}, {size_text(expected)} were expected", about=index.quoted)
            continue
        per_row = row_bytes(dimensions=details.dimensions, m=m, key_type=details.element_type)
        yield finding(
            f"{has}, where {size_text(expected)} would do ({per_row:.0f} bytes a row): the rest is room of deleted rows",
            about=index.quoted,
            fix=Fix(
                statements=(f"REINDEX INDEX CONCURRENTLY {index.quoted}",),
                advice="online, with the disk for both meanwhile, and as long as a build. Deleted room is used again after "
                "VACUUM: rebuild when the searches are slower too.",
            ),
        )


RULE = Rule(
    slug="index-bigger-than-expected",
    severity="warning",
    title="no HNSW index takes more than twice the disk that its rows need",
    reason="an index does not shrink: after many deletions it holds empty pages that searches and the cache pay for. Rebuild "
    "when the size per row has doubled, as pg_index_watch does, and not by the calendar: five cycles of deleting 60 % and "
    "VACUUM left recall at 0.99 (measured).",
    check=check,
)
