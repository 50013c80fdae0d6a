"""Rule: a manual build on a table with out-of-line vectors would run in parallel.

Tables of declared indexes are left out: everindex sets min_parallel_table_scan_size for its own builds.
"""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.units import size_text

#: Below this many rows a build takes seconds.
FEW_ROWS = 10_000


def check(examined: Examined) -> Iterator[RuleResult]:
    declared = {(spec.schema, spec.table) for spec in examined.declared}
    tables = {
        table.oid: table
        for table in examined.tables
        # For declared indexes everindex sets min_parallel_table_scan_size itself.
        if table.relkind in "rm"
        and (table.estimated_rows or 0) >= FEW_ROWS
        and (table.schema, table.name) not in declared
    }
    if not tables or int(examined.number_of("max_parallel_maintenance_workers")) == 0:
        return
    limit = examined.bytes_of("min_parallel_table_scan_size")
    for oid, heap, chosen in examined.rows(
        """
        SELECT c.oid, pg_catalog.pg_relation_size(c.oid),
               EXISTS (SELECT FROM unnest(c.reloptions) AS o WHERE o LIKE 'parallel\\_workers=%%')
        FROM pg_catalog.pg_class c WHERE c.oid = ANY(%s) ORDER BY c.oid
        """,
        (list(tables),),
    ):
        table = tables[oid]
        if heap >= limit or chosen:
            yield good(f"an index on {table.quoted} would be built in parallel", about=table.quoted)
            continue
        yield finding(
            f"an index on {table.quoted} would be built by one process: the table has {table.estimated_rows} rows, but its main "
            f"part takes only {size_text(heap)}, less than min_parallel_table_scan_size ({size_text(limit)}), because vectors "
            "are stored out of line",
            about=table.quoted,
            fix=Fix(
                statements=("SET min_parallel_table_scan_size = 0",),
                advice="in the session that builds manually; everindex sets it for its own builds.",
            ),
        )


RULE = Rule(
    slug="min-parallel-table-scan",
    severity="notice",
    title="manual builds run in parallel, too",
    reason="values of about 2 kB and more are stored out of line (TOAST), and PostgreSQL decides by the size of the main part "
    "(PostgreSQL documentation, min_parallel_table_scan_size; measured: 23.5 s serially, 16.8 s in parallel).",
    check=check,
)
