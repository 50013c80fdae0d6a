"""Rule: few rows of a table with a vector column have changed since its last ANALYZE."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown

#: PostgreSQL's own autovacuum_analyze_scale_factor and autovacuum_analyze_threshold, beyond which it should have analyzed.
SHARE = 0.10
FEW_ROWS = 50


def check(examined: Examined) -> Iterator[RuleResult]:
    for table in examined.heaps:
        details = examined.table_details[table.oid]
        if table.estimated_rows is None or details.has_statistics is False:
            continue  # rule statistics-missing
        if table.estimated_rows and not details.was_counted:
            yield unknown(f"table {table.quoted} has no counts since a crash, a reset or a copy", about=table.quoted)
            continue
        changed = details.modified_since_analyze
        share = changed / max(1, table.estimated_rows)
        sentence = f"{changed} of about {table.estimated_rows} rows of {table.quoted} changed since its last ANALYZE"
        if changed <= FEW_ROWS or share <= SHARE:
            yield good(sentence, about=table.quoted)
        else:
            yield finding(sentence, about=table.quoted, fix=Fix(statements=(f"ANALYZE {table.quoted}",), is_safe=True))


RULE = Rule(
    slug="statistics-stale",
    severity="warning",
    title="the statistics of tables with vectors are fresh",
    reason="beyond 10 % autovacuum analyzes by itself (autovacuum_analyze_scale_factor): if it has not, it is off, late or held "
    "up, and the planner chooses between index and table on the basis of old numbers.",
    check=check,
)
