"""Rule: few rows of a table with a vector column have changed since its last ANALYZE."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown

#: PostgreSQL's own autovacuum_analyze_scale_factor and autovacuum_analyze_threshold: beyond them it should have analyzed.
SHARE = 0.10
FEW_ROWS = 50


def check(examined: Examined) -> Iterator[RuleResult]:
    for table in examined.heaps:
        details = examined.table_details[table.oid]
        if table.estimated_rows is None or details.has_statistics is False:
            continue  # statistics-missing
        if table.estimated_rows and not details.was_counted:
            yield unknown(
                f"of table {table.quoted} nothing was counted since a crash, a reset or a copy", about=table.quoted
            )
            continue
        changed = details.modified_since_analyze
        share = changed / max(1, table.estimated_rows)
        told = f"{changed} rows of {table.quoted} changed since its last ANALYZE, of about {table.estimated_rows}"
        if changed <= FEW_ROWS or share <= SHARE:
            yield good(told, about=table.quoted)
        else:
            yield finding(told, about=table.quoted, fix=Fix(statements=(f"ANALYZE {table.quoted}",), is_safe=True))


RULE = Rule(
    slug="statistics-stale",
    severity="warning",
    title="the statistics of tables with vectors are fresh",
    reason="beyond 10 % autovacuum analyzes by itself (autovacuum_analyze_scale_factor): that it has not means that it is off, "
    "late or held up, and the planner's choice between index and whole table rests on old numbers.",
    check=check,
)
