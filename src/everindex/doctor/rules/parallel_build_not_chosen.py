"""Would CREATE INDEX build serially, because the vectors lie in TOAST and the table itself looks small?"""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.figures import size_text
from everindex.doctor.rule import Answer, Fix, Rule, finding, good


def ask(examined: Examined) -> Iterator[Answer]:
    workers, smallest = examined.row(
        """
        SELECT current_setting('max_parallel_maintenance_workers')::int,
               pg_catalog.pg_size_bytes(current_setting('min_parallel_table_scan_size'))
        """
    )
    for table in examined.heaps:
        details = examined.table_details[table.oid]
        # Below the limit in all there is nothing to gain either.
        if details.size_bytes + details.toast_bytes < smallest:
            continue
        told = (
            f"table {table.quoted} has {size_text(details.size_bytes)}, and {size_text(details.toast_bytes)} in TOAST"
        )
        if details.size_bytes >= smallest or workers == 0 or details.options.get("parallel_workers", "0") != "0":
            yield good(f"{told}: nothing in it keeps a build from being parallel", about=table.quoted)
        else:
            yield finding(
                f"{told}: below min_parallel_table_scan_size ({size_text(smallest)}) CREATE INDEX builds with one process",
                about=table.quoted,
                fix=Fix(
                    advice="in the session that builds: SET min_parallel_table_scan_size = 0 (everindex does so). The table's "
                    "parallel_workers would do too, but also makes the planner read the whole table in parallel.",
                ),
            )


RULE = Rule(
    slug="parallel-build-not-chosen",
    severity="notice",
    title="a plain CREATE INDEX would build in parallel",
    reason="vectors beyond about 2 kB lie in TOAST, which PostgreSQL does not count when it chooses workers: 20,000 rows of "
    "1,536 dimensions have a table of 1.5 MB and were built in 23.5 s instead of 16.8 s (measured).",
    ask=ask,
)
