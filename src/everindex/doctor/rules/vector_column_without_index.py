"""Rule: every column with many vectors has a vector index."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.index.spec import MAX_DIMENSIONS
from everindex.units import count_text

#: From about 2,000 rows on the planner uses the index (measured, 384 and 1536 dimensions); at 10,000 rows a search that reads
#: the whole table is noticeably slow.
MANY_ROWS = 10_000


def check(examined: Examined) -> Iterator[RuleResult]:
    for table in examined.tables:
        too_wide = table.dimensions is not None and table.dimensions > MAX_DIMENSIONS.get(
            table.column_type, table.dimensions
        )
        if table.relkind == "p" or table.dimensions is None or too_wide:
            continue  # rules column-without-width and dimensions-beyond-limit cover these
        column = f"column {table.quoted_column} of {table.quoted}"
        details = examined.table_details[table.oid]
        rows = details.live_rows if table.estimated_rows is None else table.estimated_rows
        indexes = examined.indexes_on(table)
        if indexes:
            yield good(f"{column} has a vector index ({indexes[0].quoted})", about=table.quoted)
        elif table.estimated_rows is None and rows == 0 and details.size_bytes > 0:
            yield unknown(f"{column}: the number of rows is unknown; run ANALYZE {table.quoted}", about=table.quoted)
        elif rows < MANY_ROWS:
            yield good(f"{column} needs no index for about {count_text(rows, 'row')}", about=table.quoted)
        else:
            opclass = examined.of_pgvector(f"{table.column_type}_cosine_ops")
            yield finding(
                f"{column} has about {count_text(rows, 'row')} and no vector index: every search reads all of them",
                about=table.quoted,
                fix=Fix(
                    statements=(
                        f"CREATE INDEX CONCURRENTLY ON {table.quoted} USING hnsw ({table.quoted_column} {opclass})",
                    ),
                    advice="the statement is for cosine (<=>): use the opclass of the application's operator. An application "
                    "that always filters down to a few thousand rows is better off with an index on its filter.",
                ),
            )


RULE = Rule(
    slug="vector-column-without-index",
    severity="warning",
    title="every column with many vectors has a vector index",
    reason="without one every search computes the distance to every row; the planner prefers an index from about 2,000 rows on "
    "(measured).",
    check=check,
)
