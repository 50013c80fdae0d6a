"""Rule: no table has so many vector indexes that locking them all exhausts the lock table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.index_catalog import CatalogIndex

#: 200 partial indexes: 206 locks for a statement, planning 4.8 ms for 1.0 (measured).
MANY_INDEXES = 50


def check(examined: Examined) -> Iterator[RuleResult]:
    by_table: dict[str, list[CatalogIndex]] = defaultdict(list)
    for index in examined.indexes:
        by_table[index.quoted_table].append(index)
    if not by_table:
        return
    ceiling = int(
        examined.number_of("max_locks_per_transaction")
        * (examined.number_of("max_connections") + examined.number_of("max_prepared_transactions"))
    )
    for table, indexes in by_table.items():
        told = f"table {table} has {len(indexes)} vector {'index' if len(indexes) == 1 else 'indexes'}"
        if len(indexes) <= MANY_INDEXES:
            yield good(told, about=table)
            continue
        yield finding(
            f"{told}: every statement locks them all, and the server has room for {ceiling} locks "
            f"({max(1, ceiling // len(indexes))} such statements at once)",
            about=table,
            fix=Fix(
                advice="keep partial indexes for the largest tenants only, or partition the table; until then raise "
                "max_locks_per_transaction (wants a restart)."
            ),
        )


RULE = Rule(
    slug="locks-per-table",
    severity="warning",
    title="no table has more than 50 vector indexes",
    reason="every statement locks every index of its tables when it is planned; at about 2,100 tenants × 3 indexes even DELETE "
    "failed with `out of shared memory` (hindsight#3485; PostgreSQL documentation, max_locks_per_transaction).",
    check=check,
)
