"""Rule: every table with a vector column has planner statistics."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import count_text


def check(examined: Examined) -> Iterator[RuleResult]:
    for table in examined.heaps:
        details = examined.table_details[table.oid]
        if details.size_bytes == 0:
            yield good(f"table {table.quoted} is empty", about=table.quoted)
        elif table.estimated_rows is None or details.has_statistics is False:
            yield finding(
                f"table {table.quoted} was never analyzed: the planner guesses the number and contents of its rows",
                about=table.quoted,
                fix=Fix(statements=(f"ANALYZE {table.quoted}",), is_safe=True),
            )
        elif details.has_statistics is None:
            yield unknown(f"table {table.quoted}: this role may not see its statistics", about=table.quoted)
        else:
            yield good(
                f"table {table.quoted} has statistics for about {count_text(table.estimated_rows, 'row')}",
                about=table.quoted,
            )


RULE = Rule(
    slug="statistics-missing",
    severity="warning",
    title="every table with vectors was analyzed",
    reason="without row counts the planner reads the whole table instead of the index; run ANALYZE after a bulk load "
    "(PostgreSQL documentation, Populating a Database; reltuples is -1 until then).",
    check=check,
)
