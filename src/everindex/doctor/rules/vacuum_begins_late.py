"""Rule: autovacuum starts on a large table with an HNSW index before dead rows shorten its searches."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import count_text

#: Share of dead rows from which searches are noticeably affected (see dead-tuples).
LATE_SHARE = 0.10
RECOMMENDED_SHARE = 0.05
BIG_ROWS = 100_000


def check(examined: Examined) -> Iterator[RuleResult]:
    indexed = {index.table_oid for index in examined.indexes if index.method == "hnsw"}
    for table in (table for table in examined.heaps if table.oid in indexed):
        if table.estimated_rows is None:
            yield unknown(f"table {table.quoted} was never analyzed: its size is unknown", about=table.quoted)
            continue
        if table.estimated_rows < BIG_ROWS:
            yield good(
                f"table {table.quoted} is small: about {count_text(table.estimated_rows, 'row')}", about=table.quoted
            )
            continue
        own = examined.table_details[table.oid].options.get("autovacuum_vacuum_scale_factor")
        share = float(own or examined.setting("autovacuum_vacuum_scale_factor") or 0.2)
        begins = share * table.estimated_rows
        # PostgreSQL 18: no table waits for more dead rows than this.
        limit = float(examined.setting("autovacuum_vacuum_max_threshold") or -1)
        if limit >= 0:
            begins = min(begins, limit)
        sentence = f"autovacuum starts on {table.quoted} at about {begins:.0f} dead rows of {table.estimated_rows}"
        if begins <= LATE_SHARE * table.estimated_rows:
            yield good(sentence, about=table.quoted)
        else:
            yield finding(
                f"{sentence}: that is {begins / table.estimated_rows:.0%}",
                about=table.quoted,
                fix=Fix(
                    statements=(
                        f"ALTER TABLE {table.quoted} SET (autovacuum_vacuum_scale_factor = {RECOMMENDED_SHARE})",
                    ),
                    advice="each VACUUM processes the whole graph: on a table that changes constantly, add "
                    "autovacuum_vacuum_cost_delay = 0 so that VACUUM can finish.",
                ),
            )


RULE = Rule(
    slug="vacuum-begins-late",
    severity="notice",
    title="autovacuum starts before dead rows affect searches",
    reason="by default it starts at 20 % dead rows (autovacuum_vacuum_scale_factor), and searches through an HNSW index return "
    "fewer rows from about 10 % on (see dead-tuples).",
    check=check,
)
